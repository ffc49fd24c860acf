"""Whether the client has left: ``environ["wsgi_asgi.client_disconnected"]``."""

import threading
import time

from wsgi_asgi._bridge import LIVENESS_S, Crossing

__all__ = ["Departure"]

# How long the first question waits for an answer. Nobody may have listened so far, and
# the task does so within far less.
FIRST_LOOK_S = 0.01


class _Alarm:
    """A wake-up for any number of threads, and for ever."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.wait = self._event.wait
        self.ring = self._event.set


class Departure:
    """Tells an application whether its client has left.

    Call it to ask, or wait for it. It is for work that takes long without sending
    anything: an application that reads the body or sends a response is told anyhow,
    by an exception or by being closed.

    A client has left when it closes the connection, or its stream of it, before the
    response is complete. A server that gives the request up, as at a shutdown, counts
    as well. The server can tell only once it has handed over the request's body: while
    more than `Limits.buffer` bytes of that wait to be read, the answer stays False.

    Runs on:
        Any thread, also of the application's own.

    Args:
        crossing: The application's thread.
    """

    __slots__ = ("_alarm", "_crossing")

    def __init__(self, crossing: Crossing) -> None:
        self._crossing = crossing
        self._alarm: _Alarm | None = None

    def __call__(self) -> bool:
        """Say whether the client has left.

        The first call may take some milliseconds, since it is what makes the adapter
        listen for that. All others are quick.
        """
        return self.wait(0 if self._alarm else FIRST_LOOK_S)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the client leaves, or the response is complete.

        Args:
            timeout: Seconds to wait; None for any time.

        Returns:
            Whether the client has left.
        """
        crossing = self._crossing
        alarm = self._alarm or self._listen()
        deadline = None if timeout is None else time.monotonic() + timeout
        while not crossing.over:
            crossing.check_alive()
            left = LIVENESS_S if deadline is None else deadline - time.monotonic()
            if crossing.abandoned or left <= 0:
                break
            alarm.wait(min(left, LIVENESS_S))
        return crossing.abandoned

    def _listen(self) -> _Alarm:
        alarm = self._alarm = _Alarm()
        self._crossing.add_bell(alarm)
        self._crossing.port.post(self._crossing.nudge)
        return alarm
