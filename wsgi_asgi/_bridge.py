"""Between an event loop and threads.

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
    wait() returns ◀────────── wake-up ──────  work ended

The wake-ups of all crossings on one loop go through its `Port`. In the other direction
a thread waits on a `Bell` of its own.

No lock guards the flags on which the two sides meet. Each side writes its own and
reads the other's after it has written: whoever comes second sees the first, so
one of the two always finds out. Where that order matters a comment says so.

A thread never waits for a loop that has gone: every wait is also a look, twice a
second, at whether the loop still runs.
"""

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, NoReturn, Protocol, TypeVar, cast

from asgiref.sync import SyncToAsync, sync_to_async

from wsgi_asgi._errors import ClientDisconnected, raisable
from wsgi_asgi._pool import Bell, DedicatedThreads, Places, ThreadPool
from wsgi_asgi._port import AsyncioPort, Port, Waiter, settle

# No public name does this. Without it, values of asgiref's Local would stay behind.
try:
    from asgiref.sync import _restore_context as restore_context
except ImportError:  # pragma: no cover  # no asgiref so far is without it

    def restore_context(context: contextvars.Context) -> None:
        """Leave the context as it is."""


__all__ = ["MAX_ITEMS", "Bridge", "Crossing", "Rings", "wider"]

T = TypeVar("T")

# How often a waiting thread looks whether its loop is still there.
LIVENESS_S = 0.5
# Items that may wait beside the byte limit: each costs memory of its own.
MAX_ITEMS = 1024
# One hand-over takes some 60 microseconds, and a chunk of 64 KiB a tenth of that. So
# where both sides are so fast that the one always waits for the other, the bytes
# between them may become more, up to this.
WINDOW_BYTES = 2 << 20
# How long a cancelled task waits for its thread, which is about to end if it looks.
LINGER_S = 1.0

# Two threads of one crossing may make a bell at the same time, but seldom do.
_BELLS = threading.Lock()


class Rings(Protocol):
    """What a thread can wait for."""

    def ring(self) -> None:
        """Wake that thread."""


def wider(window: int, most: int) -> int:
    """Give the next window of two sides that keep each other waiting.

    Args:
        window: Bytes.
        most: Bytes up to which it grows; it stays if it is more.

    >>> wider(65536, 1048576), wider(524288, 1048576), wider(2097152, 1048576)
    (262144, 1048576, 2097152)
    """
    return max(window, min(4 * window, most))


class Bridge:
    """The threads of one adapter, and the loops that it serves.

    Args:
        executor: Where work runs.
        owned: Nobody else uses the executor.
        thread_sensitive: Run work in asgiref's one thread for synchronous code
            instead, together with all other thread-sensitive code.
        apart: How many crossings may keep their thread for themselves, beside the
            others, see `Crossing.move_apart`.
        dedicated: How many that may do so can run before, where the executor is none
            of ours and its threads cannot be kept.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        owned: bool = True,
        thread_sensitive: bool = False,
        apart: int = 0,
        dedicated: int = 0,
    ) -> None:
        self.apart = Places(apart)
        self.dedicated = DedicatedThreads(dedicated)
        self.executor = executor
        self.owned = owned
        self.pool = executor if isinstance(executor, ThreadPool) else None
        self.thread_sensitive = thread_sensitive
        self._ports: dict[object, Port] = {}
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
        # First, since a program may run a loop of asyncio's inside trio. And trio
        # is there if a task of it is.
        trio = sys.modules.get("trio")
        if trio is not None and trio.lowlevel.in_trio_task():
            from wsgi_asgi._trio import TrioPort

            return self._port_of(trio.lowlevel.current_trio_token(), TrioPort)
        loop = asyncio.get_running_loop()
        return self._port_of(loop, lambda: AsyncioPort(loop))

    def _port_of(self, loop: object, make: Callable[[], Port]) -> Port:
        port = self._ports.get(loop)
        if port is None:
            for other, its_port in [*self._ports.items()]:
                if its_port.is_gone():
                    del self._ports[other]
            port = self._ports[loop] = make()
        return port

    def crossings(self) -> "list[Crossing]":
        """List what is under way on all loops; any thread."""
        return [
            cast(Crossing, crossing)
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
        apart: The thread is its own, and none of those that others use.
        over: The task has no more to do with it. There may still be threads that wait
            for the task, to which the application has passed on what does.
    """

    # Each request makes one. And before Python 3.12 an attribute that the instance has
    # is found sooner than a default of its class.
    __slots__ = (
        "_async_tasks",
        "_bell",
        "_bells",
        "_bridge",
        "_context",
        "_has_stalled",
        "_in_hand",
        "_is_patient",
        "_items",
        "_on_lost_error",
        "_put",
        "_sleeping",
        "_stalled",
        "_taken",
        "_task",
        "_waiter",
        "_window",
        "_work",
        "abandoned",
        "age",
        "apart",
        "deserted",
        "ended",
        "error",
        "indispensable",
        "nudged",
        "over",
        "port",
        "running",
        "streaming",
    )

    _on_lost_error: Callable[[BaseException], object]
    _task: asyncio.Task[None]

    def __init__(
        self, bridge: Bridge, port: Port, work: Callable[[], object], *, buffer: int
    ) -> None:
        self.port = port
        self._bridge = bridge
        self._window = buffer
        self._work = work
        self._context = contextvars.copy_context()
        self._items: list[Any] = []
        self.age = 0
        self.abandoned = False
        self.deserted = False
        self.indispensable = False
        self.ended = False
        self.error: BaseException | None = None
        self.nudged = False
        self.running = False
        self.streaming = False
        self.apart = False
        self.over = False
        self._put = 0  # bytes, counted by the thread alone
        self._taken = 0  # bytes, counted by the task alone
        self._sleeping = False
        self._is_patient = True
        self._stalled: Callable[[], bool] | None = None  # what the thread waits for
        # It had to wait for room, and the task not yet for it.
        self._has_stalled = False
        self._in_hand = 0  # items taken, and not known to be delivered
        self._waiter: Waiter | None = None
        self._bell: Bell | None = None
        self._bells: tuple[Rings, ...] = ()
        self._async_tasks: Sequence[asyncio.Task[Any]] = ()

    # The task's side.

    def start(self) -> None:
        """Hand the work to a thread.

        Raises:
            RuntimeError: The executor takes no more work.
        """
        bridge = self._bridge
        self.port.enter(self)
        loop = self.port.asyncio_loop
        try:
            if bridge.thread_sensitive:
                if loop:
                    self._task = loop.create_task(self._run_thread_sensitive())
                else:
                    SyncToAsync.single_thread_executor.submit(self._run)
            elif bridge.pool:
                bridge.pool.execute(self._run)
            else:
                bridge.executor.submit(self._run)
        except BaseException:
            self.port.leave(self)
            raise

    def start_movable(self) -> bool:
        """Hand the work to a thread that it may `move_apart` with.

        Returns:
            False if there is none to be had, now or ever.
        """
        self.port.enter(self)
        try:
            self._movable.execute(self._run)
        except RuntimeError:
            self.port.leave(self)
            return False
        return True

    @property
    def _movable(self) -> ThreadPool | DedicatedThreads:
        return self._bridge.pool or self._bridge.dedicated

    def move_apart(self, thread: int) -> bool:
        """Keep the work's thread, so that it does not count among the others; once.

        The work has to call `end_apart` at its end.

        Args:
            thread: The identity of that thread. Any thread may call this.

        Returns:
            False if as many as may be are apart; nothing has changed then.
        """
        if not self._bridge.apart.take():
            return False
        self.apart = True
        self._movable.detach(thread)
        return True

    def end_apart(self) -> None:
        """Count the thread no more, if it was moved apart; it is about to end."""
        if self.apart:
            self._bridge.apart.free()

    def take(self) -> list[Any]:
        """Give all that the thread has put out since the last time.

        What was given then counts as delivered now.
        """
        # Raised before they leave, see `_is_undelivered`.
        count = self._in_hand = len(self._items)
        items: list[Any] = []
        if count:
            # Each of these is one step, between which the thread may append.
            items = self._items[:count]
            del self._items[:count]
        if self._stalled:
            self._look_if_stalled()
        return items

    @property
    def has_more(self) -> bool:
        """Whether there is something to take."""
        return bool(self._items)

    async def wait(self) -> None:
        """Wait until there is something to take, the end, or a nudge."""
        while not (self._items or self.ended or self.nudged):
            self._sleeping = True
            # Looked at again, now that the thread can see that it must wake us.
            if not (self._items or self.ended or self.nudged):
                self._waiter = self.port.new_waiter()
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
            # Not of this loop where async_to_sync had to make one.
            with suppress(RuntimeError):  # it is closed by now
                task.get_loop().call_soon_threadsafe(task.cancel)
        for bell in self._bells:
            bell.ring()

    async def linger(self) -> None:
        """Give an abandoned thread a moment to end, and forget what it put out."""
        timer = self.port.call_later(LINGER_S, self._lose_patience)
        try:
            with self.port.shield():
                while self._is_patient and not self.ended:
                    self.take()
                    self.nudged = False
                    await self.wait()
        finally:
            timer.cancel()

    def _lose_patience(self) -> None:
        self._is_patient = False
        self.nudge()

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
        self.over = True
        for bell in self._bells:
            bell.ring()

    def _wake(self) -> None:
        if self._waiter:
            settle(self._waiter)

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
            self._window = wider(self._window, WINDOW_BYTES)

    def interject(self, item: Any) -> None:
        """Give one item to the task at once, by any thread; it does not count as bytes.

        It is lost once nobody wants the result any more.
        """
        if not (self.abandoned or self.over):
            self._items.append(item)
            # The rest of `_rouse` is for the one thread that does the work.
            if self._sleeping:
                self.port.post(self._wake)

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

    def wait_room_for(self, size: int, unless: Callable[[], bool]) -> None:
        """Wait until so many bytes fit between the thread and the task.

        What is longer than all that fits there has room once nothing is left. One
        thread at a time may wait here, but it may be any that the work has started.

        Args:
            size: Bytes that are to be put out after this.
            unless: Tells whether nothing is to be put out any more, and so not to
                wait. Who makes it true calls `ring`.
        """
        if self._is_too_full(size, self._window, MAX_ITEMS) and not unless():
            self._has_stalled = True
            self._wait_while(
                lambda: (
                    self._is_too_full(size, self._window // 2, MAX_ITEMS // 2)
                    and not unless()
                )
            )

    def ring(self) -> None:
        """Have each thread that waits look again at what it waits for; any thread."""
        # Who waits has added a bell, with this lock, before it looked the first time.
        # So either the bell is here, or that look has seen what there was to see.
        with _BELLS:
            bells = self._bells
        for bell in bells:
            bell.ring()

    def wait_delivered(self) -> None:
        """Wait until the task has delivered all that was put out; raises as above."""
        # What `put_last` has put out relies on the end of the work for its wake-up,
        # and the end comes after this.
        if self._items and self._sleeping:
            self._rouse()
        self._wait_while(self._is_undelivered)
        self.check()

    def _is_ahead(self, size: int, items: int) -> bool:
        return self._put - self._taken > size or len(self._items) >= items

    def _is_too_full(self, size: int, window: int, items: int) -> bool:
        ahead = self._put - self._taken
        return ahead > max(0, window - size) or len(self._items) >= items

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
        """Raise ClientDisconnected if the crossing was abandoned, or is over."""
        if self.abandoned or self.over:
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
        # All of the thread's at once, since each access to a `local` looks for it.
        local = SyncToAsync.threadlocal.__dict__
        outer_loop = local.get("main_event_loop")
        port = self.port
        local["main_event_loop"] = port.asyncio_loop
        local["main_event_loop_pid"] = port.pid
        # Tasks that async_to_sync starts for this thread.
        local["task_context"] = self._async_tasks = []
        work = self._work
        del self._work  # else a cycle would keep the request
        try:
            if self._context:
                restore_context(self._context)
            work()
        except asyncio.CancelledError as error:
            self._raise_cancelled(error)
        finally:
            local["main_event_loop"] = outer_loop

    def _raise_cancelled(self, error: asyncio.CancelledError) -> NoReturn:
        """Say what it means that asynchronous code below the work was cancelled."""
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
            work = self._work
            del self._work
            try:
                try:
                    work()
                except asyncio.CancelledError as error:
                    self._raise_cancelled(error)
            except BaseException as error:
                self.error = error
            self.running = False
