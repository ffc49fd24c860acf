"""Event loops that the fake server runs on, each in a thread of its own.

So a check is plain synchronous code that watches from outside, as it would watch a real
server, and an adapter that blocks the loop is seen to do so.

What the server needs of a loop is here, as `Loop`, and no exchange or check knows a
kind of loop besides. The kinds are in `conformance.asyncio_loop` and
`conformance.trio_loop`; the latter is imported only where it is asked for, so that trio
need not be there.
"""

import contextvars
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar, Protocol, TypeVar

from conformance.checking import Failed, fail
from conformance.gate import Gate
from conformance.timing import EXCHANGE_S, HAPPENS_S

__all__ = ["ASYNCIO", "LOOPS", "Complain", "Event", "Loop", "LoopThread", "find_loop"]

T = TypeVar("T")

# The kinds of loops.
ASYNCIO, TRIO = LOOPS = "asyncio", "trio"

# Turns of the loop after which all that an adapter had on its way has happened.
_SETTLING_TURNS = 20

Complain = Callable[[str], object]


class Event(Protocol):
    """What a task waits for; as much as asyncio's Event and trio's have in common."""

    def is_set(self) -> bool:
        """Tell whether it has happened."""

    def set(self) -> None:
        """Let it happen; on the loop."""


class Loop(ABC):
    """One event loop that runs.

    Attributes:
        threads: How it calls the threads that it has for all.
    """

    threads: ClassVar[str]

    async def first_open(self, *gates: Gate, within: float | None = None) -> bool:
        """Let the calling task wait until one of several gates is open.

        Args:
            gates: Which.
            within: Seconds; None for any time.

        Returns:
            False if that took too long.
        """
        opened = self._new_event()
        for gate in gates:
            gate.on_open(partial(self.call_soon, opened.set))
        await self._wait(opened, within)
        return opened.is_set()

    def call_soon(self, callback: Callable[[], object]) -> bool:
        """Call something on the loop; any thread. False if the loop is gone."""
        try:
            self._call_soon(callback)
        except RuntimeError:
            return False
        return True

    # What kinds of loops differ in.

    @staticmethod
    @abstractmethod
    def run(
        main: Callable[[Any], Coroutine[Any, Any, object]],
        complain: Complain = lambda what: None,
    ) -> None:
        """Run a loop in the calling thread.

        Other tasks are not waited for: as in a server that is in a hurry, they
        stop when this one is over.

        Args:
            main: Gets the loop.
            complain: Called with errors that nobody takes, but for those that end
                the run, which are raised.
        """

    @abstractmethod
    def _call_soon(self, callback: Callable[[], object]) -> None:
        """Call something on the loop; any thread.

        Raises:
            RuntimeError: The loop is gone.
        """

    @abstractmethod
    def _new_event(self) -> Event: ...

    @abstractmethod
    async def _wait(self, event: Any, within: float | None) -> None:
        """Wait for an event, and no longer than some seconds."""

    @abstractmethod
    def here(self) -> tuple[int, int]:
        """Tell the thread and the loop that the calling task runs in."""

    @abstractmethod
    def start(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Start a task with a copy of the current context; on the loop."""

    @abstractmethod
    async def pause(self, seconds: float = 0) -> None:
        """Let others have a turn, or some seconds."""

    @abstractmethod
    async def in_thread(self, function: Callable[[], object]) -> None:
        """Call a function in one of `threads`."""

    @abstractmethod
    def cancellable(self) -> AbstractContextManager[Callable[[], object]]:
        """Give what cancels the calling task as long as it is in the block."""

    @abstractmethod
    def is_cancellation(self, error: BaseException | None) -> bool:
        """Tell whether an error is but how a cancelled task ends."""

    @abstractmethod
    def tasks(self) -> set[Any]:
        """Give all tasks of the loop that are not over; on the loop."""

    @abstractmethod
    async def strays(self, tasks: Collection[Any]) -> list[str]:
        """Name those of the tasks that an adapter should not have left behind.

        Args:
            tasks: Those that were not there when it was called, and were not over
                when it returned.
        """

    @abstractmethod
    async def end_tasks(self) -> bool:
        """Cancel all tasks but this one; False if that does not end them."""


def find_loop(kind: str) -> type[Loop]:
    """Import a kind of loop.

    Args:
        kind: One of `LOOPS`.
    """
    if kind == TRIO:
        from conformance.trio_loop import TrioLoop

        return TrioLoop
    from conformance.asyncio_loop import AsyncioLoop

    return AsyncioLoop


class LoopThread:
    """An event loop, running in a thread.

    Args:
        kind: One of `LOOPS`.

    Attributes:
        kind: That.
        loop: What runs there.
        complaints: Errors that the loop heard of and nobody took.
        death: What ended the loop although nobody had stopped it.
    """

    loop: Loop

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.complaints: list[str] = []
        self.death: BaseException | None = None
        self._begun = Gate()
        self._stopping = Gate()
        self._ended_well = False
        self._thread = threading.Thread(
            target=self._run, args=(find_loop(kind),), name="server", daemon=True
        )
        self._thread.start()
        if not self._begun.wait(EXCHANGE_S):
            fail(f"the event loop did not start within {EXCHANGE_S:g} s")

    def _run(self, loop: type[Loop]) -> None:
        try:
            loop.run(self._live, self.complaints.append)
        except BaseException as error:
            self.death = error

    async def _live(self, loop: Loop) -> None:
        self.loop = loop
        self._begun.open()
        await loop.first_open(self._stopping)
        self._ended_well = await loop.end_tasks()

    def spawn(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Start a task on the loop, with a copy of the caller's context."""
        start = partial(contextvars.copy_context().run, self.loop.start, coroutine)
        if not self.loop.call_soon(start):
            coroutine.close()  # `death` says why

    def run(self, coroutine: Coroutine[Any, Any, T], within: float = EXCHANGE_S) -> T:
        """Run a coroutine on the loop, and wait for its result."""
        future: Future[T] = Future()

        async def work() -> None:
            try:
                future.set_result(await coroutine)
            except Exception as error:
                future.set_exception(error)

        self.spawn(work())
        try:
            return future.result(within)
        except TimeoutError:
            raise Failed(f"the event loop made no progress for {within:g} s") from None

    def turn(self, within: float = HAPPENS_S) -> bool:
        """Let the loop make a turn; any thread but its own.

        Args:
            within: Seconds.

        Returns:
            False if it has not.
        """
        turned = Gate()
        self.loop.call_soon(turned.open)
        return turned.wait(within)

    def settle(self) -> None:
        """Let all that is ready on the loop happen; any thread but the loop's."""
        for _ in range(_SETTLING_TURNS):
            if not self.turn(EXCHANGE_S):
                fail(f"the event loop stood still for {EXCHANGE_S:g} s")

    def stop(self) -> bool:
        """Stop the loop.

        Returns:
            Whether that went well and left nothing behind.
        """
        self._stopping.open()
        self._thread.join(2 * HAPPENS_S)
        return self._ended_well and not self._thread.is_alive()
