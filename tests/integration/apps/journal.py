"""What happened in the server's process, by the key that a request brought.

It is read through the probe, which is ASGI only: it answers when no thread is free.
"""

import threading
from collections import defaultdict

_lock = threading.Lock()
_events: defaultdict[str, list[str]] = defaultdict(list)


def note(key: str, event: str) -> None:
    with _lock:
        _events[key].append(event)


def read(key: str) -> list[str]:
    with _lock:
        return list(_events[key])
