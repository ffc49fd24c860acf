"""Waiting for what another process does."""

import time
from collections.abc import Callable

__all__ = ["WAIT_S", "NotInTimeError", "wait_until"]

WAIT_S = 10.0
STEP_S = 0.01


class NotInTimeError(AssertionError):
    """What was waited for has not happened."""


def wait_until(
    condition: Callable[[], object], what: str, *, within: float = WAIT_S
) -> None:
    """Wait until something is true.

    Args:
        condition: Called again and again.
        what: What it means, for the error.
        within: Seconds.

    Raises:
        NotInTimeError: It has not become true in that time.
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise NotInTimeError(f"not within {within:g} s: {what}")
        time.sleep(STEP_S)
