"""A run of trio, as the bridge and its threads see it.

Imported only in a task of trio, so that all others need not have it.
"""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
)
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import trio

from wsgi_asgi._port import Port, Timer

__all__ = ["TrioPort"]


class _Waiter:
    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = trio.Event()

    def done(self) -> bool:
        return self._event.is_set()

    def set_result(self, result: None, /) -> None:
        self._event.set()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._event.wait().__await__()


class TrioPort(Port):
    """The run of trio that the calling task belongs to.

    ``async_to_sync`` is asyncio's and cannot run coroutines here.
    """

    def __init__(self) -> None:
        super().__init__()
        self._token = trio.lowlevel.current_trio_token()
        self.new_waiter = _Waiter

    def _call_soon(self, callback: Callable[[], object]) -> None:
        self._token.run_sync_soon(callback)

    def is_alive(self) -> bool:
        """Tell whether the run goes on; any thread."""
        try:
            self._token.run_sync_soon(_nothing, idempotent=True)
        except trio.RunFinishedError:
            return False
        return True

    def is_gone(self) -> bool:
        """Tell whether the run has ended."""
        return not self.is_alive()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call something in the run, after some seconds, unless it ends before."""
        scope = trio.CancelScope()

        async def wait() -> None:
            with scope:
                await trio.sleep(seconds)
                callback()

        # Of the run and not of a task: it may outlive the one that asks for it.
        trio.lowlevel.spawn_system_task(wait)
        return scope

    async def pause(self, seconds: float) -> None:
        """Let the run go on for a while."""
        await trio.sleep(seconds)

    def shield(self) -> AbstractContextManager[object]:
        """Let a task wait that was cancelled, as trio cancels each wait anew."""
        return trio.CancelScope(shield=True)

    @asynccontextmanager
    async def interruptible(self) -> AsyncIterator[Callable[[], object]]:
        """Have a task run a block that can be cut short; see `Port.interruptible`."""
        with trio.CancelScope() as scope:
            yield scope.cancel

    async def beside(
        self,
        background: Callable[[], Coroutine[Any, Any, bool]],
        foreground: Callable[[], Awaitable[object]],
    ) -> None:
        """Run something while something else goes on; see `Port.beside`."""
        error: Exception | None = None
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                if await background():
                    nursery.cancel_scope.cancel()

            nursery.start_soon(run)
            try:
                await foreground()
            except Exception as raised:
                error = raised  # else the nursery would put it into a group
            nursery.cancel_scope.cancel()
        try:
            if error is not None:
                raise error
        finally:
            del error  # else its traceback would hold it, by this frame


def _nothing() -> None:
    pass
