"""One event loop, as the bridge and its threads see it: a `Port`.

What the package needs of event loops is here, and nothing else in it knows one.
`AsyncioPort` is for asyncio and for loops with its interface, as uvloop is; the one
for trio is in `_trio`, which is imported only where trio runs.
"""

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
)
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    nullcontext,
)
from functools import partial
from typing import Any, Protocol

__all__ = ["AsyncioPort", "Port", "Term", "Timer", "Waiter", "settle"]

# How often a loop looks for crossings that take long; `Tracked.nudge` comes after
# one to two of these.
TICK_S = 0.1
# A loop that looks later than that by so much stood still. Between two looks it does so
# for up to `TICK_S` without being late.
STALL_S = 1.0


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> object:
        """Do not make it."""


class Waiter(Awaitable[None], Protocol):
    """What one task waits for, once; as much as is needed of asyncio's Future."""

    def done(self) -> bool:
        """Tell whether it was settled, or its task was cancelled."""

    def set_result(self, result: None, /) -> object:
        """Let the task go on; on the loop, and once."""


class Term:
    """The time for which one server uses a loop; there may be several servers.

    Attributes:
        is_ending: The server is about to stop, and takes no new work.
        is_over: The server has stopped.
    """

    def __init__(self) -> None:
        self.is_ending = False
        self.is_over = False


class Tracked(Protocol):
    """Work under way, as a port counts it."""

    age: int
    term: Term | None

    def nudge(self) -> None:
        """Have the task look after it."""

    def note_stall(self, seconds: float, since: float) -> None:
        """Hear that the loop stood still, which some coroutine may have caused.

        Args:
            seconds: For how long, at least.
            since: When it was last seen to go on, by `time.monotonic`.
        """

    def abandon(self, *, at_end: bool = False) -> None:
        """Tell its thread to end; the server's end has come if `at_end`."""


def settle(waiter: Waiter) -> None:
    """Let the task that waits go on, unless it does already; on the loop."""
    if not waiter.done():
        waiter.set_result(None)


class Port(ABC):
    """One event loop, as threads see it.

    Attributes:
        pid: The process that the loop runs in.
        asyncio_loop: Where ``async_to_sync`` can run coroutines; None if that is not
            on this loop.
        crossings: What is under way on this loop, changed by the loop only.
        terms: Those of the servers that use the loop now.
        new_waiter: Makes something that a task can wait for. No method, since each
            request calls it.
    """

    asyncio_loop: asyncio.AbstractEventLoop | None = None
    new_waiter: Callable[[], Waiter]

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.crossings: set[Tracked] = set()
        self.terms: set[Term] = set()
        self._callbacks: deque[Callable[[], object]] = deque()
        self._scheduled = False
        self._ticking = False
        self._ticked_at = 0.0  # when the last tick came, or the first was asked for
        self._drains: dict[Term, Waiter] = {}
        self._ends = 0  # how often all servers have stopped

    def post(self, callback: Callable[[], object]) -> None:
        """Call something on the loop, soon; any thread. Lost if the loop is gone.

        It is a system call only for the first since the loop last looked.
        """
        self._callbacks.append(callback)
        # Only after the append: `_drain` clears the flag before it empties the
        # deque, so a flag that is still up here will find the callback.
        if not self._scheduled:
            self._scheduled = True
            try:
                self._call_soon(self._drain)
            except RuntimeError:  # the loop is closed
                self._callbacks.clear()
                self._scheduled = False

    def _drain(self) -> None:
        self._scheduled = False
        callbacks = self._callbacks
        try:
            while callbacks:
                callbacks.popleft()()
        finally:
            if callbacks:  # the last has failed, and others rely on the next
                self._scheduled = True
                self._call_soon(self._drain)

    def enter(self, crossing: Tracked) -> None:
        """Count a crossing as under way."""
        self.crossings.add(crossing)
        if not self._ticking:
            self._ticking = True
            self._await_tick()

    def leave(self, crossing: Tracked) -> None:
        """Count a crossing as over."""
        self.crossings.discard(crossing)
        if self._drains:
            for term, waiter in self._drains.items():
                if not any(self._ends_with(term)):
                    settle(waiter)

    def _await_tick(self) -> None:
        self._ticked_at = time.monotonic()
        self.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticking = bool(self.crossings)
        if not self._ticking:
            return
        since = self._ticked_at
        self._await_tick()
        late = self._ticked_at - since - TICK_S
        for crossing in self.crossings:
            crossing.age += 1
            if crossing.age == 2:
                crossing.nudge()
            if late > STALL_S:
                crossing.note_stall(late, since)

    def drains(self, term: Term | None) -> bool:
        """Tell whether no new work is taken.

        Args:
            term: That of the server which the work comes from. None if it is not
                known: such work is taken unless all servers are about to stop.
        """
        if term is not None:
            return term.is_ending
        return bool(self.terms) and all(one.is_ending for one in self.terms)

    def retire(self, term: Term) -> None:
        """Forget a server that has stopped; what comes later is served."""
        self._ends += self.drains(None)
        self.terms.discard(term)
        term.is_ending = False
        term.is_over = True

    def ends(self, term: Term | None) -> int:
        """Give a number that grows when the server stops which work comes from.

        Args:
            term: As for `drains`.
        """
        return self._ends if term is None else term.is_over

    def _ends_with(self, term: Term) -> Iterator[Tracked]:
        """Find the work that must end before a server can."""
        all_end = self.drains(None)
        return (
            one
            for one in self.crossings
            if one.term is term or (one.term is None and all_end)
        )

    async def drain(self, term: Term, patience: float) -> None:
        """Wait until the work of a server has ended, then abandon what is left of it.

        Work that comes from nobody knows where is waited for where all servers are
        about to stop.

        Args:
            term: That of the server.
            patience: Seconds to wait.
        """
        if any(self._ends_with(term)):
            waiter = self._drains[term] = self.new_waiter()
            try:
                await self.wait_for(waiter, patience)
            finally:
                del self._drains[term]
            for crossing in [*self._ends_with(term)]:
                crossing.abandon(at_end=True)

    async def wait_for(self, waiter: Waiter, patience: float) -> None:
        """Wait until a waiter is settled, and settle it after some seconds."""
        timer = self.call_later(patience, lambda: settle(waiter))
        try:
            await waiter
        finally:
            timer.cancel()

    # What loops differ in.

    @abstractmethod
    def _call_soon(self, callback: Callable[[], object]) -> None:
        """Call something on the loop; any thread.

        Raises:
            RuntimeError: The loop is gone.
        """

    @abstractmethod
    def is_alive(self) -> bool:
        """Tell whether the loop runs; any thread."""

    @abstractmethod
    def is_gone(self) -> bool:
        """Tell whether the loop has ended for good."""

    @abstractmethod
    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call something on the loop, after some seconds."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Let the loop go on for a while."""

    @abstractmethod
    def shield(self) -> AbstractContextManager[object]:
        """Let a task that was cancelled wait for what it must clean up."""

    @abstractmethod
    def interruptible(self) -> AbstractAsyncContextManager[Callable[[], object]]:
        """Have the calling task run a block that can be cut short.

        Returns:
            What gives the block a function that cuts it short, at whatever it waits
            for. That is to be called on the loop, once and before the block's end.
        """

    @abstractmethod
    async def beside(
        self,
        background: Callable[[], Coroutine[Any, Any, bool]],
        foreground: Callable[[], Awaitable[object]],
    ) -> None:
        """Run something while something else goes on, and no longer.

        Args:
            background: Cancelled when the other is done. If it returns True, the
                other is cancelled instead. Raises nothing of its own.
            foreground: Run by the calling task itself. What it raises, comes out.
        """


class AsyncioPort(Port):
    """A loop of asyncio's kind.

    Args:
        loop: Which.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.asyncio_loop = self._loop = loop
        self.new_waiter = loop.create_future

    def _call_soon(self, callback: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(callback)

    def is_alive(self) -> bool:
        """Tell whether the loop runs; any thread."""
        return self._loop.is_running()

    def is_gone(self) -> bool:
        """Tell whether the loop is closed."""
        return self._loop.is_closed()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call something on the loop, after some seconds."""
        return self._loop.call_later(seconds, callback)

    async def pause(self, seconds: float) -> None:
        """Let the loop go on for a while."""
        await asyncio.sleep(seconds)

    def shield(self) -> AbstractContextManager[object]:
        """Do nothing: asyncio cancels a task once, and then lets it go on."""
        return nullcontext()

    @asynccontextmanager
    async def interruptible(self) -> AsyncIterator[Callable[[], object]]:
        """Have a task run a block that can be cut short; see `Port.interruptible`."""
        scope = asyncio.timeout(None)
        try:
            async with scope:
                yield partial(scope.reschedule, 0)
        except TimeoutError:
            if not scope.expired():
                raise

    async def beside(
        self,
        background: Callable[[], Coroutine[Any, Any, bool]],
        foreground: Callable[[], Awaitable[object]],
    ) -> None:
        """Run something while something else goes on; see `Port.beside`."""
        async with self.interruptible() as cut:

            async def run() -> None:
                if await background():
                    cut()

            task = asyncio.create_task(run())
            try:
                await foreground()
            finally:
                task.cancel()
                await asyncio.wait((task,))
