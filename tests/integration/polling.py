import time
from collections.abc import Callable

WAIT_S = 10.0
STEP_S = 0.01


def wait_until(
    condition: Callable[[], object], what: str, *, within: float = WAIT_S
) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(STEP_S)
