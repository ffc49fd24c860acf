"""What happened in the server's process, by the key that a request brought.

It is read from outside through the probe, which answers when no thread is free.
"""

import threading
from collections import Counter, defaultdict

__all__ = ["note", "noted"]

_lock = threading.Lock()
_events: defaultdict[str, Counter[str]] = defaultdict(Counter)


def note(key: str, event: str, count: int = 1) -> None:
    """Note that something has happened; any thread."""
    with _lock:
        _events[key][event] += count


def noted(key: str) -> dict[str, int]:
    """Give all that has happened, with how often."""
    with _lock:
        return dict(_events[key])
