"""Between an event loop and threads; the only module that knows both.

A `Crossing` joins one task on a loop with one thread that works for it. There is
one hand-over each way: `Crossing.start` gives the work to a thread, and what the
thread puts out the task takes, in batches, with `Crossing.take`. The task
itself does all the awaiting, so that whatever it calls sees the task's own
context variables and is cancelled with it.

    task, on the loop                        thread
    ─────────────────                        ──────
    start(work) ───────────────────────────▶ work()
    wait() sleeps                              put(items)
    take() gives items ◀────── wake-up ──────  put(items)
    taken(bytes) ─────────────── bell ───────▶ wait_room() returns
    Inlet.feed(bytes) ────────── bell ───────▶ Inlet.pull() returns
    Inlet.room() returns ◀──── wake-up ──────  Inlet.pull()
    wait() returns ◀────────── wake-up ──────  work ended

The wake-ups of all crossings on one loop go through its `Port`, which calls
``call_soon_threadsafe``, a system call, only for the first since the loop last
looked. In the other direction a thread waits on a `Bell` of its own.

No lock guards the flags on which the two sides meet. Each side writes its own and
reads the other's after it has written: whoever comes second sees the first, so
one of the two always finds out. Where that order matters a comment says so.

A thread never waits for a loop that has gone: every wait is also a look, twice a
second, at whether the loop still runs.
"""

import asyncio
import contextvars
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from asgiref.sync import SyncToAsync, sync_to_async

from wsgi_asgi._errors import ClientDisconnected, raisable
from wsgi_asgi._pool import Bell, DedicatedThreads, ThreadPool

# No public name does this. Without it, values of asgiref's Local would stay behind.
try:
    from asgiref.sync import _restore_context as restore_context
except ImportError:  # pragma: no cover  # no asgiref so far is without it

    def restore_context(context: contextvars.Context) -> None:
        """Leave the context as it is."""


__all__ = ["Bridge", "Crossing", "Inlet", "Mailbox", "Port", "beside", "pause"]

T = TypeVar("T")

# How often a waiting thread looks whether its loop is still there.
LIVENESS_S = 0.5
# How often a loop looks for crossings that take long; `Crossing.nudged` comes
# after one to two of these.
TICK_S = 0.1
# Items that may wait beside the byte limit: each costs memory of its own.
MAX_ITEMS = 1024
# One hand-over takes some 20 microseconds, and a chunk of 64 KiB a tenth of that. So
# where both sides are so fast that the one always waits for the other, the bytes
# between them may become more, up to this.
WINDOW_BYTES = 1 << 20
# How long a cancelled task waits for its thread, which is about to end if it looks.
LINGER_S = 1.0

# Two threads of one crossing may make a bell at the same time, but seldom do.
_BELLS = threading.Lock()


class Rings(Protocol):
    """What a thread can wait for."""

    def ring(self) -> None:
        """Wake that thread."""


class Port:
    """One event loop, as threads see it.

    Attributes:
        pid: The process that the loop runs in.
        crossings: Those under way on this loop, changed by the loop only.
        draining: Whether the loop is about to end and takes no new work.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pid = os.getpid()
        self.crossings: set[Crossing] = set()
        self.draining = False
        self._callbacks: deque[Callable[[], object]] = deque()
        self._scheduled = False
        self._ticking = False
        self._empty: asyncio.Event | None = None

    def post(self, callback: Callable[[], object]) -> None:
        """Call something on the loop, soon; any thread. Lost if the loop is gone."""
        self._callbacks.append(callback)
        # Only after the append: `_drain` clears the flag before it empties the
        # deque, so a flag that is still up here will find the callback.
        if not self._scheduled:
            self._scheduled = True
            try:
                self.loop.call_soon_threadsafe(self._drain)
            except RuntimeError:
                self._callbacks.clear()  # the loop is closed

    def _drain(self) -> None:
        self._scheduled = False
        callbacks = self._callbacks
        while callbacks:
            callbacks.popleft()()

    def is_alive(self) -> bool:
        """Tell whether the loop runs; any thread."""
        return self.loop.is_running()

    def enter(self, crossing: "Crossing") -> None:
        """Count a crossing as under way."""
        self.crossings.add(crossing)
        if not self._ticking:
            self._ticking = True
            self.loop.call_later(TICK_S, self._tick)

    def leave(self, crossing: "Crossing") -> None:
        """Count a crossing as over."""
        self.crossings.discard(crossing)
        if self._empty and not self.crossings:
            self._empty.set()

    def _tick(self) -> None:
        self._ticking = bool(self.crossings)
        if self._ticking:
            self.loop.call_later(TICK_S, self._tick)
        for crossing in self.crossings:
            crossing.age += 1
            if crossing.age == 2:
                crossing.nudge()

    async def drain(self, patience: float) -> None:
        """Wait until no crossing is under way, then abandon those that are.

        Args:
            patience: Seconds to wait.
        """
        if self.crossings:
            self._empty = asyncio.Event()
            try:
                async with asyncio.timeout(patience):
                    await self._empty.wait()
            except TimeoutError:
                for crossing in list(self.crossings):
                    crossing.abandon()
            finally:
                self._empty = None


def wider(window: int) -> int:
    """Give the next window of two sides that keep each other waiting.

    >>> wider(65536), wider(WINDOW_BYTES), wider(2 * WINDOW_BYTES)
    (131072, 1048576, 2097152)
    """
    return max(window, min(2 * window, WINDOW_BYTES))


class Bridge:
    """The threads of one adapter, and the loops that it serves.

    Args:
        executor: Where work runs.
        owned: Nobody else uses the executor.
        thread_sensitive: Run work in asgiref's one thread for synchronous code
            instead, together with all other thread-sensitive code.
        apart: How many crossings may have a thread of their own, beside the
            executor.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        owned: bool = True,
        thread_sensitive: bool = False,
        apart: int = 0,
    ) -> None:
        self.apart = DedicatedThreads(apart)
        self.executor = executor
        self.owned = owned
        self.pool = executor if isinstance(executor, ThreadPool) else None
        self.thread_sensitive = thread_sensitive
        self._ports: dict[asyncio.AbstractEventLoop, Port] = {}
        self._latest: tuple[object, Port | None] = (None, None)

    def port(self) -> Port:
        """Give the running loop's port."""
        # What a loop sets for as long as it runs in a thread says which one it is,
        # without the system call that get_running_loop() makes before Python 3.12.
        hook = sys.get_asyncgen_hooks().firstiter
        known_hook, port = self._latest
        if port is None or hook is None or hook is not known_hook:
            port = self._find_port()
            self._latest = hook, port
        return port

    def _find_port(self) -> Port:
        loop = asyncio.get_running_loop()
        port = self._ports.get(loop)
        if port is None:
            for other in [other for other in self._ports if other.is_closed()]:
                del self._ports[other]
            port = self._ports[loop] = Port(loop)
        return port

    def crossings(self) -> "list[Crossing]":
        """List what is under way on all loops; any thread."""
        return [
            crossing
            for port in list(self._ports.values())
            for crossing in list(port.crossings)
        ]

    def release(self) -> None:
        """End the threads that are the adapter's own; new work starts others."""
        if self.pool and self.owned:
            self.pool.retire()

    async def call(self, work: Callable[[], T]) -> T:
        """Run a callable in a thread, and wait for what it returns.

        Raises:
            ClientDisconnected: A shutdown gave up on it before it began.
            Exception: What the callable raised, made `raisable`.
        """
        results: list[T] = []
        crossing = Crossing(self, self.port(), lambda: results.append(work()), buffer=0)
        crossing.start()
        try:
            while not crossing.ended:
                crossing.nudged = False
                await crossing.wait()
        finally:
            crossing.leave()
        if (error := crossing.take_error()) is not None:
            raise raisable(error, repr(work))
        if not results:
            raise ClientDisconnected("the work was given up")
        return results[0]


class Crossing:
    """One task and the thread that works for it.

    Args:
        bridge: Whose threads do it.
        port: The running loop's.
        work: Called once, in the thread, in a copy of the task's context.
        buffer: Bytes by which the thread may run ahead of the task; more where the
            task is faster, see `wider`.

    Attributes:
        age: Ticks of `TICK_S` since the start.
        abandoned: Nobody wants the result any more; the thread should end.
        deserted: Nor does anybody wait for the thread to end.
        indispensable: The work is to be done even if it was abandoned before a
            thread has begun it.
        ended: The thread is done, and `error` is what the work raised.
        nudged: `wait` returned early, because of `nudge`.
        running: A thread is at work.
        streaming: The thread counts as a stream's.
        apart: The thread is its own, and not the executor's.
    """

    # Defaults of the class, since to make one is on the way of every request.
    age = 0
    abandoned = False
    deserted = False
    indispensable = False
    ended = False
    error: BaseException | None = None
    nudged = False
    running = False
    streaming = False
    apart = False
    _put = 0  # bytes, counted by the thread alone
    _taken = 0  # bytes, counted by the task alone
    _sleeping = False
    _stalled: Callable[[], bool] | None = None  # what the thread waits for
    _has_stalled = False  # it had to wait for room, and the task not yet for it
    _in_hand = 0  # items taken, and not known to be delivered
    _waiter: asyncio.Future[None] | None = None
    _bell: Bell | None = None
    _bells: tuple[Rings, ...] = ()
    _task: asyncio.Task[None] | None = None
    _async_tasks: Sequence[asyncio.Task[Any]] = ()
    _on_lost_error: Callable[[BaseException], object]

    def __init__(
        self, bridge: Bridge, port: Port, work: Callable[[], object], *, buffer: int
    ) -> None:
        self.port = port
        self._bridge = bridge
        self._window = buffer
        self._work = work
        self._context = contextvars.copy_context()
        self._items: deque[Any] = deque()

    # The task's side.

    def start(self) -> None:
        """Hand the work to a thread.

        Raises:
            RuntimeError: The executor takes no more work.
        """
        bridge = self._bridge
        self.port.enter(self)
        if bridge.thread_sensitive:
            self._task = self.port.loop.create_task(self._run_thread_sensitive())
            return
        try:
            if bridge.pool:
                bridge.pool.execute(self._run)
            else:
                bridge.executor.submit(self._run)
        except BaseException:
            self.port.leave(self)
            raise

    def start_apart(self) -> bool:
        """Hand the work to a thread of its own; False if there are too many."""
        self.apart = True
        self.port.enter(self)
        if not self._bridge.apart.execute(self._run):
            self.port.leave(self)
            return False
        return True

    def take(self) -> list[Any]:
        """Give all that the thread has put out since the last time.

        What was given then counts as delivered now.
        """
        # Raised before they leave, see `_is_undelivered`.
        count = self._in_hand = len(self._items)
        next_item = self._items.popleft
        items = [next_item() for _ in range(count)]
        if self._stalled:
            self._look_if_stalled()
        return items

    async def wait(self) -> None:
        """Wait until there is something to take, the end, or a nudge."""
        while not (self._items or self.ended or self.nudged):
            self._sleeping = True
            # Looked at again, now that the thread can see that it must wake us.
            if not (self._items or self.ended or self.nudged):
                self._waiter = self.port.loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            self._sleeping = False

    def taken(self, size: int) -> None:
        """Say that bytes which `take` gave are on their way."""
        self._taken += size
        if self._stalled:
            self._look_if_stalled()

    def nudge(self) -> None:
        """Make `wait` return, once, even if there is nothing to take."""
        self.nudged = True
        self._wake()

    def abandon(self) -> None:
        """Tell the thread to end: no more is wanted."""
        self.abandoned = True
        for task in list(self._async_tasks):
            task.cancel()
        for bell in self._bells:
            bell.ring()

    async def linger(self) -> None:
        """Give an abandoned thread a moment to end, and forget what it put out."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not self.ended:
                    self.take()
                    self.nudged = False
                    await self.wait()

    def desert(self, on_error: Callable[[BaseException], object]) -> None:
        """Let the thread end with nobody waiting for it.

        Args:
            on_error: Called with what the work raises.
        """
        self._on_lost_error = on_error
        self.deserted = True
        # Looked at after `deserted` is up: if the thread has not ended yet, it
        # will see that, and have the loop call `_bury`.
        if self.ended:
            self._bury()

    def take_error(self) -> BaseException | None:
        """Give what the work raised, once: it refers to all that the work did."""
        error, self.error = self.error, None
        return error

    def _bury(self) -> None:
        self.leave()
        error = self.take_error()
        if error is None:
            return
        # A loop that ends cancels all tasks, in whatever order.
        if not isinstance(error.__cause__, asyncio.CancelledError):
            self._on_lost_error(error)

    def leave(self) -> None:
        """Count the crossing as over."""
        self.port.leave(self)
        # An application may have passed on what waits for the task to other threads.
        self.abandoned = True

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _look_if_stalled(self) -> None:
        stalled = self._stalled
        if stalled and not stalled() and self._bell:
            self._bell.ring()

    # The thread's side.

    def put(self, items: list[Any], size: int) -> None:
        """Give items to the task at once.

        Args:
            items: What `take` will give.
            size: The bytes that they hold.
        """
        self._items.extend(items)
        self._put += size
        if self._sleeping:
            self._rouse()

    def push(self, item: Any, size: int) -> None:
        """Give one item to the task at once, and wait until it is near enough.

        It is `put` and `wait_room` in one, for streams of many chunks.

        Raises:
            ClientDisconnected: As `wait_room` does.
        """
        self._items.append(item)
        self._put = put = self._put + size
        if self._sleeping:
            self._rouse()
        if put - self._taken > self._window or len(self._items) >= MAX_ITEMS:
            self.wait_room()
        elif self.abandoned:
            self.check()

    def _rouse(self) -> None:
        self._sleeping = False
        self.port.post(self._wake)
        if self._has_stalled:
            # Each has waited for the other: the window is what holds them up.
            self._has_stalled = False
            self._window = wider(self._window)

    def put_last(self, items: list[Any]) -> None:
        """Give items to the task, with the end of the work right after this.

        That is one wake-up where `put` and the end would each need one.
        """
        self._items.extend(items)

    def wait_room(self) -> None:
        """Wait until the task has come near enough.

        Raises:
            ClientDisconnected: The crossing was abandoned, or its loop is gone.
        """
        if self._is_ahead(self._window, MAX_ITEMS):
            self._has_stalled = True
            # Not before there is room for some more, else each would be a hand-over.
            self._wait_while(lambda: self._is_ahead(self._window // 2, MAX_ITEMS // 2))
        self.check()

    def wait_delivered(self) -> None:
        """Wait until the task has delivered all that was put out; raises as above."""
        self._wait_while(self._is_undelivered)
        self.check()

    def _is_ahead(self, size: int, items: int) -> bool:
        return self._put - self._taken > size or len(self._items) >= items

    def _is_undelivered(self) -> bool:
        # In this order, since `take` raises the one before it empties the other.
        return bool(self._items) or self._in_hand > 0

    def _wait_while(self, stalled: Callable[[], bool]) -> None:
        bell = self._bell = self._bell or self.new_bell()
        # Looked at after this is up, so that either we or the task find out.
        self._stalled = stalled
        while stalled() and not self.abandoned:
            self.wait_bell(bell)
        self._stalled = None

    def check(self) -> None:
        """Raise ClientDisconnected if the crossing was abandoned."""
        if self.abandoned:
            raise ClientDisconnected("the client has left")

    def new_bell(self) -> Bell:
        """Make a bell that `abandon` rings too."""
        bell = Bell()
        self.add_bell(bell)
        return bell

    def add_bell(self, bell: Rings) -> None:
        """Have `abandon` ring something."""
        with _BELLS:
            self._bells = (*self._bells, bell)

    def wait_bell(self, bell: Bell, patience: float = LIVENESS_S) -> None:
        """Wait for the loop, as long as there is one; then abandon.

        Args:
            bell: What the loop rings.
            patience: Seconds after which to return, if they are few.
        """
        if not bell.wait(min(patience, LIVENESS_S)):
            self.check_alive()

    def check_alive(self) -> None:
        """Abandon if the loop is gone."""
        if not self.port.is_alive():
            self.abandoned = True

    def begin_stream(self) -> None:
        """Count this thread among the streams from now on, if there is room."""
        pool = self._bridge.pool
        if not self.streaming and pool and not self._bridge.thread_sensitive:
            self.streaming = pool.begin_stream()

    def _run(self) -> None:
        """Do the work; the whole of the job that the executor sees."""
        if not self.abandoned or self.indispensable:
            self.running = True
            try:
                self._context.run(self._run_in_context)
            except BaseException as error:
                self.error = error
            self.running = False
            if self.streaming and self._bridge.pool:
                self._bridge.pool.end_stream()
        self._end()

    def _run_in_context(self) -> None:
        # What asgiref's own threads do: async_to_sync finds the server's loop, and
        # values of asgiref's Local follow from the task into this thread.
        local = SyncToAsync.threadlocal
        outer_loop = getattr(local, "main_event_loop", None)
        local.main_event_loop = self.port.loop
        local.main_event_loop_pid = self.port.pid
        # Tasks that async_to_sync starts for this thread.
        local.task_context = self._async_tasks = []
        try:
            if self._context:
                restore_context(self._context)
            self._do_work()
        finally:
            local.main_event_loop = outer_loop

    def _do_work(self) -> None:
        work = self._work
        del self._work  # else a cycle would keep the request
        try:
            work()
        except asyncio.CancelledError as error:
            self.check()
            raise RuntimeError("asynchronous code was cancelled") from error

    def _end(self) -> None:
        self.ended = True
        # Read after `ended` is up, see `desert` and `wait`.
        if self.deserted:
            self.port.post(self._bury)
        elif self._sleeping:
            self.port.post(self._wake)

    async def _run_thread_sensitive(self) -> None:
        # asgiref chooses the thread, enters the context and cares for Local.
        try:
            await sync_to_async(self._run_guarded, thread_sensitive=True)()
        except BaseException as error:
            self.error = error  # refused by asgiref, or cancelled with the loop
        self.ended = True
        if self.deserted:
            self._bury()
        self._wake()

    def _run_guarded(self) -> None:
        if not self.abandoned or self.indispensable:
            self.running = True
            self._async_tasks = getattr(SyncToAsync.threadlocal, "task_context", ())
            try:
                self._do_work()
            except BaseException as error:
                self.error = error
            self.running = False


class Mailbox(Generic[T]):
    """Items from one task to the thread of its crossing, and those it has started.

    Args:
        crossing: Which.
        limit: Bytes that may wait to be fetched; more where the thread is faster,
            see `wider`.

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
    _resume: asyncio.Event | None = None
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

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more items will come, and why, if that is an error."""
        if not self.complete:
            self._error = error
            self.complete = True  # last, since `fetch` reads it first
            self._ring()

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
        resume = self._resume = asyncio.Event()
        self._has_stalled = True
        # Looked at after this is up, so that either we or the thread find out.
        if not self._has_ample_room():
            loop = self._crossing.port.loop
            timer = None if patience is None else loop.call_later(patience, resume.set)
            try:
                await resume.wait()
            finally:
                if timer:
                    timer.cancel()
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
                self._limit = wider(self._limit)
            if self._bell is None:
                self._bell = crossing.new_bell()  # and look again: the task sees it now
            elif deadline is None:
                crossing.wait_bell(self._bell)
            elif (left := deadline - time.monotonic()) > 0:
                crossing.wait_bell(self._bell, left)
            else:
                raise TimeoutError(f"nothing has come within {patience:g} seconds")

    def _next_item(self) -> T:
        item, size = self._items.popleft()
        self._pulled += size
        resume = self._resume
        if resume and self._has_ample_room():
            self._crossing.port.post(resume.set)
        return item


class Inlet(Mailbox[bytes]):
    """Bytes from one task to the thread of its crossing.

    Attributes:
        wanted: The thread has asked for bytes at least once.
    """

    wanted = False

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


async def pause(seconds: float) -> None:
    """Let the loop go on for a while."""
    await asyncio.sleep(seconds)


async def beside(
    background: Callable[[], Coroutine[Any, Any, bool]],
    foreground: Callable[[], Awaitable[object]],
) -> None:
    """Run something while something else goes on, and no longer.

    Args:
        background: Cancelled when the other is done. If it returns True, the
            other is cancelled instead. Raises nothing of its own.
        foreground: Run by the calling task itself.
    """
    scope = asyncio.timeout(None)

    async def run() -> None:
        if await background():
            scope.reschedule(0)

    with suppress(TimeoutError):
        async with scope:
            task = asyncio.create_task(run())
            try:
                await foreground()
            finally:
                task.cancel()
                await asyncio.wait((task,))
