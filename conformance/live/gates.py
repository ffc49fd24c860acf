"""What applications wait for in the server's process, by the key of a request.

A gate is opened from outside through the probe, which answers when no thread is free.
"""

import threading
from collections import defaultdict

__all__ = ["HOLD_S", "open_gate", "wait_at_gate"]

# The client has given up long before that.
HOLD_S = 60.0

_lock = threading.Lock()
_gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)


def _find(key: str) -> threading.Event:
    with _lock:
        return _gates[key]


def wait_at_gate(key: str) -> None:
    """Block the calling thread until the gate is open."""
    _find(key).wait(HOLD_S)


def open_gate(key: str) -> None:
    """Let all go on that wait, and will wait."""
    _find(key).set()
