"""Runs of trio, which are its loops."""

import math
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from conformance.loops import Complain, Loop
from conformance.timing import HAPPENS_S

__all__ = ["TrioLoop"]

# How often it is looked whether a timer has run out.
_LOOK_S = 0.005


class TrioLoop(Loop):
    """The run of trio that the calling task belongs to.

    Args:
        nursery: Of the tasks.
    """

    threads = "trio.to_thread.run_sync()"

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()

    @staticmethod
    def run(
        main: Callable[["TrioLoop"], Coroutine[Any, Any, object]],
        complain: Complain = lambda what: None,
    ) -> None:
        """Run trio in the calling thread; see `Loop.run`.

        There are no complaints: trio raises what nobody takes.
        """

        async def host(task_status: trio.TaskStatus[trio.Nursery]) -> None:
            async with trio.open_nursery() as nursery:
                task_status.started(nursery)
                await trio.sleep_forever()

        async def live() -> None:
            async with trio.open_nursery() as apart:
                # `end_tasks` cancels this one, and main goes on.
                nursery = await apart.start(host)
                await main(TrioLoop(nursery))
                nursery.cancel_scope.cancel()

        trio.run(live)

    def _call_soon(self, callback: Callable[[], object]) -> None:
        self._token.run_sync_soon(callback)

    def _new_event(self) -> trio.Event:
        return trio.Event()

    async def _wait(self, event: trio.Event, within: float | None) -> None:
        with trio.move_on_after(math.inf if within is None else within):
            await event.wait()

    def here(self) -> tuple[int, int]:
        """Tell the thread and the run that the calling task belongs to."""
        return threading.get_ident(), id(trio.lowlevel.current_trio_token())

    def start(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Start a task with a copy of the current context; on the loop."""

        async def run() -> None:
            await coroutine

        self._nursery.start_soon(run, name=repr(coroutine))

    async def pause(self, seconds: float = 0) -> None:
        """Let others have a turn, or some seconds."""
        await trio.sleep(seconds)

    async def in_thread(self, function: Callable[[], object]) -> None:
        """Call a function in a thread that counts for trio's default limiter."""
        await trio.to_thread.run_sync(function)

    @contextmanager
    def cancellable(self) -> Iterator[Callable[[], object]]:
        """Give what cancels the calling task as long as it is in the block."""
        with trio.CancelScope() as scope:
            yield scope.cancel

    def is_cancellation(self, error: BaseException | None) -> bool:
        """Tell whether an error is but how a cancelled task ends.

        One that leaves a nursery is in a group, even if it is alone.
        """
        if isinstance(error, BaseExceptionGroup):
            return error.split(trio.Cancelled)[1] is None
        return isinstance(error, trio.Cancelled)

    def tasks(self) -> set[Any]:
        """Give all tasks of the run, and so its own; on the loop."""
        found: set[trio.lowlevel.Task] = set()
        root = trio.lowlevel.current_root_task()
        unseen = [root] if root else []
        while unseen:
            task = unseen.pop()
            found.add(task)
            for nursery in task.child_nurseries:
                unseen += nursery.child_tasks
        return found

    async def strays(self, tasks: Collection[Any]) -> list[str]:
        """Name those of the tasks that an adapter should not have left behind.

        Trio has no timers: what is to be done later is a system task until then. So
        such a task is not yet astray, unless it is still there a while later.
        """
        root = trio.lowlevel.current_root_task()
        timers = {task for task in tasks if task.parent_nursery.parent_task is root}
        with trio.move_on_after(HAPPENS_S):
            while timers & self.tasks():  # noqa: ASYNC110  # their end tells nobody
                await trio.sleep(_LOOK_S)
        return [
            task.name for task in tasks if task not in timers or task in self.tasks()
        ]

    async def end_tasks(self) -> bool:
        """Cancel all tasks but this one; the run does not end before they do."""
        self._nursery.cancel_scope.cancel()
        return True
