"""One promise on one server, at its own risk.

It runs in a thread of its own, so that it can be given up. Its server is killed then,
which ends all its waiting for the server, too.
"""

import os
import threading
import time

from conformance.checking import Failed
from conformance.live.clients import CutError
from conformance.live.polling import NotInTimeError
from conformance.live.promising import NotPossible, Promise
from conformance.live.results import LiveOutcome
from conformance.live.site import TIMEOUT_S, Site

__all__ = ["Attempt"]


class Attempt:
    """A promise that is being tried; it starts at once.

    Args:
        promise: Which.
        site: The server that it is tried on.

    Attributes:
        promise: Which.
        seconds: How long it took, in the end.
    """

    def __init__(self, promise: Promise, site: Site) -> None:
        self.promise = promise
        self.seconds = 0.0
        self._site = site
        self._ended = threading.Event()
        self._verdict = (LiveOutcome.PASSED, "")
        self._begun = time.monotonic()
        threading.Thread(target=self._run, name=promise.name, daemon=True).start()

    def wait(self) -> tuple[LiveOutcome, str]:
        """Wait for its end, and say how it ended and why."""
        deadline = self._begun + self.promise.limit
        if self._ended.wait(max(0.0, deadline - time.monotonic())):
            return self._verdict
        self.seconds = self.promise.limit
        self._site.server.kill()
        doing = self._site.doing
        reason = f"no end of it within {self.promise.limit:g} s"
        return LiveOutcome.HUNG, f"{reason}, after {doing}" if doing else reason

    def _run(self) -> None:
        try:
            self.promise.run(self._site)
        except NotPossible as reason:
            self._verdict = LiveOutcome.NOT_POSSIBLE, str(reason)
        except BaseException as error:
            self._verdict = LiveOutcome.FAILED, self._explain(error)
        self.seconds = time.monotonic() - self._begun
        self._ended.set()

    def _explain(self, error: BaseException) -> str:
        reason = _describe(error)
        if not isinstance(error, Failed) and self._site.doing:
            reason = f"{self._site.doing}: {reason}"
        status = self._site.server.process.poll()
        if status is not None and not self.promise.own_server:
            reason = f"{reason} (the server's process has ended, with status {status})"
        return reason


def _describe(error: BaseException) -> str:
    """Say in words what a promise met."""
    if isinstance(error, Failed | NotInTimeError):
        return str(error)
    if isinstance(error, CutError):
        return f"the answer was cut: {error}"
    if isinstance(error, TimeoutError):
        return f"nothing came from the server for {TIMEOUT_S:g} s"
    if isinstance(error, OSError):
        return f"the connection broke: {error}"
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    place = ""
    if traceback:
        code = traceback.tb_frame.f_code
        place = f" in {os.path.basename(code.co_filename)}, line {traceback.tb_lineno}"
    return f"the promise met {error!r}{place}"
