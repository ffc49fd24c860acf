"""What checks, applications and the fake server wait for."""

import threading
import time
from collections.abc import Callable

from conformance.timing import HAPPENS_S, REST_S

__all__ = ["Gate", "Hold", "come_to_rest"]


class Gate:
    """Opens once. Threads and coroutines may open it and wait for it."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []

    @property
    def is_open(self) -> bool:
        """Whether it has opened."""
        return self._event.is_set()

    def open(self) -> None:
        """Open it; any thread, any number of times."""
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def wait(self, within: float = HAPPENS_S) -> bool:
        """Block the calling thread until it is open; False if that takes too long."""
        return self._event.wait(within)

    def on_open(self, callback: Callable[[], object]) -> None:
        """Call something when it opens, or at once if it is open."""
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()


class Hold:
    """A gate that a script waits for, but not for ever.

    An adapter that cannot do what would open the gate is then told apart from one
    that can, and still gets the rest of its request.

    Args:
        gate: What is waited for.
        within: Seconds.

    Attributes:
        missed: The gate had not opened in time.
    """

    def __init__(self, gate: Gate, within: float = HAPPENS_S) -> None:
        self.gate = gate
        self.within = within
        self.missed = False


def come_to_rest(count: Callable[[], int], within: float = HAPPENS_S) -> int:
    """Wait in a thread until a count has not changed for a while, and return it."""
    deadline = time.monotonic() + within
    seen, since = count(), time.monotonic()
    while time.monotonic() < min(deadline, since + REST_S):
        time.sleep(REST_S / 20)
        if count() != seen:
            seen, since = count(), time.monotonic()
    return seen
