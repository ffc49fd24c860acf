"""Loops of asyncio."""

import asyncio
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from conformance.loops import Complain, Loop
from conformance.timing import HAPPENS_S

__all__ = ["AsyncioLoop"]


class AsyncioLoop(Loop):
    """A loop of asyncio.

    Args:
        loop: Which.
    """

    threads = "asyncio.to_thread()"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._started: set[asyncio.Task[object]] = set()  # the loop keeps none alive

    @staticmethod
    def run(
        main: Callable[["AsyncioLoop"], Coroutine[Any, Any, object]],
        complain: Complain = lambda what: None,
    ) -> None:
        """Run a loop in the calling thread; see `Loop.run`."""

        def hear(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            complain(f"{context['message']}{f': {error!r}' if error else ''}")

        loop = asyncio.new_event_loop()
        loop.set_exception_handler(hear)
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(main(AsyncioLoop(loop)))
        finally:
            loop.close()

    def _call_soon(self, callback: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(callback)

    def _new_event(self) -> asyncio.Event:
        return asyncio.Event()

    async def _wait(self, event: asyncio.Event, within: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await event.wait()

    def here(self) -> tuple[int, int]:
        """Tell the thread and the loop that the calling task runs in."""
        return threading.get_ident(), id(asyncio.get_running_loop())

    def start(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Start a task with a copy of the current context; on the loop."""
        task = self._loop.create_task(coroutine)
        self._started.add(task)
        task.add_done_callback(self._started.discard)

    async def pause(self, seconds: float = 0) -> None:
        """Let others have a turn, or some seconds."""
        await asyncio.sleep(seconds)

    async def in_thread(self, function: Callable[[], object]) -> None:
        """Call a function in a thread of the default executor."""
        await asyncio.to_thread(function)

    @contextmanager
    def cancellable(self) -> Iterator[Callable[[], object]]:
        """Give what cancels the calling task."""
        task = asyncio.current_task()
        assert task is not None
        yield task.cancel

    def is_cancellation(self, error: BaseException | None) -> bool:
        """Tell whether an error is but how a cancelled task ends."""
        return isinstance(error, asyncio.CancelledError)

    def tasks(self) -> set[Any]:
        """Give all tasks of the loop that are not over; on the loop."""
        return asyncio.all_tasks(self._loop)

    async def strays(self, tasks: Collection[Any]) -> list[str]:
        """Name all of them: what is to be done later is no task of asyncio."""
        return [repr(task.get_coro()) for task in tasks]

    async def end_tasks(self) -> bool:
        """Cancel all tasks but this one; False if that does not end them."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=HAPPENS_S / 2)
        await self._loop.shutdown_asyncgens()
        return all(task.done() for task in tasks)
