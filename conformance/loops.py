"""An event loop in a thread of its own, as a real server has it.

So a check is plain synchronous code that watches from outside, and an adapter that
blocks the loop is seen to do so.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from conformance.checking import Failed, fail
from conformance.gate import Gate
from conformance.timing import EXCHANGE_S, HAPPENS_S

__all__ = ["LoopThread"]

T = TypeVar("T")

# Turns of the loop after which all that an adapter had on its way has happened.
_SETTLING_TURNS = 20


class LoopThread:
    """An event loop, running in a thread.

    Attributes:
        complaints: What the loop's exception handler was told.
        death: What ended the loop although nobody had stopped it.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.complaints: list[str] = []
        self.death: BaseException | None = None
        self.loop.set_exception_handler(self._complain)
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        except BaseException as error:
            self.death = error

    def _complain(
        self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]
    ) -> None:
        error = context.get("exception")
        self.complaints.append(f"{context['message']}{f': {error!r}' if error else ''}")

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Start a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T], within: float = EXCHANGE_S) -> T:
        """Run a coroutine on the loop, and wait for its result."""
        future = self.spawn(coroutine)
        try:
            return future.result(within)
        except TimeoutError:
            raise Failed(f"the event loop made no progress for {within:g} s") from None

    def settle(self) -> None:
        """Let all that is ready on the loop happen; any thread but the loop's."""
        for _ in range(_SETTLING_TURNS):
            turned = Gate()
            self.loop.call_soon_threadsafe(turned.open)
            if not turned.wait(EXCHANGE_S):
                fail(f"the event loop stood still for {EXCHANGE_S:g} s")

    def stop(self) -> bool:
        """Stop and close the loop.

        Returns:
            Whether that went well and left nothing behind.
        """
        clean = self.death is None and self._thread.is_alive()
        if clean:
            ending = self.spawn(self._end_tasks())
            try:
                clean = ending.result(HAPPENS_S)
            except TimeoutError:
                clean = False
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(HAPPENS_S)
        if not self._thread.is_alive():
            self.loop.close()
        return clean and not self._thread.is_alive()

    async def _end_tasks(self) -> bool:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=HAPPENS_S / 2)
        await self.loop.shutdown_asyncgens()
        return all(task.done() for task in tasks)
