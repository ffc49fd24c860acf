"""From one task to the thread of its crossing: a `Mailbox`.

    task, on the loop                        thread
    ─────────────────                        ──────
    deliver(item) ────────────── bell ───────▶ fetch() returns
    room() returns ◀────────── wake-up ──────  fetch()

As in `_bridge`, no lock guards the flags on which the two sides meet.
"""

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from wsgi_asgi._bridge import MAX_ITEMS, WINDOW_BYTES, Crossing, Rings
from wsgi_asgi._pool import Bell
from wsgi_asgi._port import Waiter, settle

__all__ = ["Inlet", "Mailbox"]

T = TypeVar("T")

# To where the limit grows. Servers hold about as much again of what comes in, so it is
# half of what may go out.
LIMIT_BYTES = WINDOW_BYTES // 2

# How long a thread without a place waits before it asks for it again.
UNPLACED_S = 0.05


class Mailbox(Generic[T]):
    """Items from one task to the thread of its crossing, and those it has started.

    Args:
        crossing: Which.
        limit: Bytes that may wait to be fetched; more where the thread is faster,
            see `Crossing.widen`.

    Attributes:
        complete: `end` was called.
        listener: Rung with each item and at the end.
    """

    complete = False
    listener: Rings | None = None
    _fed = 0  # bytes, counted by the task alone
    _pulled = 0  # bytes, counted by the thread alone
    _error: BaseException | None = None
    _bell: Bell | None = None
    _resume: Waiter | None = None
    _has_stalled = False  # the task had to wait for room, and the thread not yet for it

    def __init__(self, crossing: Crossing, limit: int) -> None:
        self._crossing = crossing
        self._limit = limit
        self._items: deque[tuple[T, int]] = deque()

    # The task's side.

    def deliver(self, item: T, size: int) -> None:
        """Give an item to the thread.

        Args:
            item: What `fetch` will give.
            size: The bytes that it holds.
        """
        self._items.append((item, size))
        self._fed += size
        self._ring()

    def interject(self, item: T) -> None:
        """Give an item to the thread, by any other one; it does not count as bytes.

        The loop has no part in it, and so need not be free.
        """
        self._items.append((item, 0))
        self._ring()

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more items will come, and why, if that is an error."""
        if not self.complete:
            self._error = error
            self.complete = True  # last, since `fetch` reads it first
            self._ring()
            if self._resume:
                settle(self._resume)  # none of what comes has to wait for room

    def _ring(self) -> None:
        if self._bell:
            self._bell.ring()
        if self.listener:
            self.listener.ring()

    def drop(self, error: BaseException) -> None:
        """End with an error, and forget the items that wait to be fetched."""
        self._items.clear()
        self.end(error)

    async def room(self, patience: float | None = None) -> bool:
        """Wait until the thread has fetched enough to be fed again.

        Args:
            patience: Seconds to wait; None for any time.

        Returns:
            False if it has not.
        """
        if self._has_room(self._limit, MAX_ITEMS):
            return True
        port = self._crossing.port
        resume = self._resume = port.new_waiter()
        self._has_stalled = True
        # Looked at after this is up, so that either we or the thread find out.
        if not self._has_ample_room():
            if patience is None:
                await resume
            else:
                await port.wait_for(resume, patience)
        self._resume = None
        return self._has_room(self._limit, MAX_ITEMS)

    def _has_room(self, size: int, items: int) -> bool:
        return self._fed - self._pulled < size and len(self._items) < items

    def _has_ample_room(self) -> bool:
        # Not one byte, else each would be a hand-over.
        return self._has_room(self._limit // 2 + 1, MAX_ITEMS // 2)

    # The thread's side.

    @property
    def is_empty(self) -> bool:
        """Whether no item is there, which says nothing of what will come."""
        return not self._items

    def fetch(self, patience: float | None = None) -> T | None:
        """Wait for an item; one thread at a time.

        Args:
            patience: Seconds to wait; None for any time.

        Returns:
            An item, or None if no more will come.

        Raises:
            BaseException: That which `end` was told.
            ClientDisconnected: The crossing was abandoned before the end.
            TimeoutError: None has come in that time.
        """
        crossing = self._crossing
        deadline = None if patience is None else time.monotonic() + patience
        while True:
            complete = self.complete
            if self._items:
                return self._next_item()
            if complete:
                if self._error is not None:
                    raise self._error
                return None
            crossing.check()
            if self._has_stalled:
                # Each has waited for the other: the limit is what holds them up.
                self._has_stalled = False
                self._limit = crossing.widen(self._limit, LIMIT_BYTES)
            if self._bell is None:
                self._bell = crossing.new_bell()  # and look again: the task sees it now
            elif deadline is None:
                self._wait(self._bell)
            elif (left := deadline - time.monotonic()) > 0:
                crossing.wait_bell(self._bell, left)
            else:
                raise TimeoutError(f"nothing has come within {patience:g} seconds")

    def _wait(self, bell: Bell) -> None:
        self._crossing.wait_bell(bell)

    def _next_item(self) -> T:
        item, size = self._items.popleft()
        self._pulled += size
        resume = self._resume
        if resume and self._has_ample_room():
            self._crossing.port.post(partial(settle, resume))
        return item


class Inlet(Mailbox[bytes]):
    """Bytes from one task to the thread of its crossing.

    Args:
        crossing: Which.
        limit: As for `Mailbox`.
        take_place: Asks whether the thread may wait beside those that the executor
            counts. It is asked again at each wait.

    Attributes:
        wanted: The thread has asked for bytes at least once.
    """

    wanted = False

    def __init__(
        self, crossing: Crossing, limit: int, take_place: Callable[[], bool]
    ) -> None:
        super().__init__(crossing, limit)
        self._take_place = take_place

    def feed(self, data: bytes) -> None:
        """Give bytes to the thread; nothing is no end."""
        if data:
            self.deliver(data, len(data))

    def pull(self) -> bytes:
        """Wait for bytes; nothing if no more will come. Raises as `fetch` does."""
        if not self.wanted:
            self.wanted = True
            self._crossing.port.post(self._crossing.nudge)
        return self.fetch() or b""

    def _wait(self, bell: Bell) -> None:
        crossing = self._crossing
        if not self._take_place():
            crossing.wait_bell(bell, UNPLACED_S)
            return
        if not crossing.step_out():
            crossing.wait_bell(bell)
            return
        try:
            crossing.wait_bell(bell)
        finally:
            crossing.step_in()
