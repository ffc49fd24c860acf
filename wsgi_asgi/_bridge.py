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
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar, cast

from asgiref.sync import SyncToAsync, sync_to_async

from wsgi_asgi._context import make_own
from wsgi_asgi._errors import disconnect_error, raisable
from wsgi_asgi._pool import (
    Bell,
    DedicatedThreads,
    Guard,
    Places,
    ThreadPool,
    check_threads,
    reset_in_child,
)
from wsgi_asgi._port import AsyncioPort, Port, Term, Waiter, settle

# No public name does this. Without it, values of asgiref's Local would stay behind.
try:
    from asgiref.sync import _restore_context as restore_context
except ImportError:  # pragma: no cover  # no asgiref so far is without it

    def restore_context(context: contextvars.Context) -> None:
        """Leave the context as it is."""


__all__ = ["MAX_ITEMS", "Bridge", "Crossing", "Rings", "wider"]

T = TypeVar("T")

logger = logging.getLogger("wsgi_asgi")

# How often a waiting thread looks whether its loop is still there.
LIVENESS_S = 0.5
# Items that may wait beside the byte limit: each costs memory of its own.
MAX_ITEMS = 1024
# One hand-over takes some 60 microseconds, and a chunk of 64 KiB a tenth of that. So
# where both sides are so fast that the one always waits for the other, the bytes
# between them may become more, up to this.
WINDOW_BYTES = 2 << 20
# Threads that read and write files; a disk has little use for more at a time.
FILE_THREADS = 4
# When they end. Downloads and uploads follow each other within less, or are few.
FILE_IDLE_S = 1.0
# How long a cancelled task waits for its thread, which is about to end if it looks.
LINGER_S = 1.0

_STALL = (
    "the event loop stood still for at least %.1f s, and served nobody, while a "
    "coroutine of the application was under way on it; what an async def view or "
    "async_to_sync() runs there must not block: make the view a plain def, which has a "
    "thread of its own, or await what takes time"
)

# Two threads of one crossing may make a bell at the same time, but seldom do.
_BELLS = Guard()
# Nor do they often begin a stream, or do so as the work ends.
_STREAMS = Guard()


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


class Budget:
    """Bytes that all crossings of one adapter share, to grow their windows by.

    Args:
        size: Bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        """Start from nothing; also in a forked child, where nobody holds any."""
        self._left = self._size
        self._lock = threading.RLock()  # as in `Guard`

    def widen(self, crossing: "Crossing", window: int, most: int) -> int:
        """Give a crossing a wider window, as far as the budget allows; any thread.

        At most a quarter of what is left is granted at a time, so that there is
        something left for the next.

        Args:
            crossing: The one that holds the bytes until `settle`.
            window: Bytes that the window has.
            most: Bytes up to which it may grow.

        Returns:
            Bytes that the window now has.
        """
        wanted = wider(window, most) - window
        if not wanted:
            return window
        with self._lock:
            granted = min(wanted, self._left // 4)
            self._left -= granted
            crossing.granted += granted
        # Looked at after the grant, as `leave` settles after it has ended the
        # crossing. Whoever comes second gives the bytes back.
        if crossing.over:
            self.settle(crossing)
        return window + granted

    def settle(self, crossing: "Crossing") -> None:
        """Take back what a crossing was granted; any thread."""
        with self._lock:
            self._left += crossing.granted
            crossing.granted = 0


class AsyncTasks(list[asyncio.Task[Any]]):
    """Tasks that ``async_to_sync`` runs for a thread, while they run.

    asgiref appends each as its first and removes it as its last step.

    Attributes:
        ended_at: When one was last removed, by `time.monotonic`; absent before.
    """

    # Each request makes one, and most use none, so nothing is set beforehand.
    __slots__ = ("ended_at",)

    def remove(self, task: asyncio.Task[Any], /) -> None:
        """Take notice that a task has ended; on its loop."""
        super().remove(task)
        self.ended_at = time.monotonic()


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
        windows: Bytes by which all crossings together may widen their windows.

    Attributes:
        marker: The key of the `Term` in what a server passes on to its requests.
        files: Threads that read and write files, for work that requests wait for
            while they hold no thread of the executor.
        is_serial: Work runs one after the other.
        warn_once: Logs a warning, unless it has done so by the same key.

    Raises:
        RuntimeError: There are no threads, see `check_threads`.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        owned: bool = True,
        thread_sensitive: bool = False,
        apart: int = 0,
        dedicated: int = 0,
        windows: int = 4 * WINDOW_BYTES,
    ) -> None:
        check_threads()
        self.apart = Places(apart)
        self.dedicated = DedicatedThreads(dedicated)
        self.executor = executor
        self.owned = owned
        self.pool = executor if isinstance(executor, ThreadPool) else None
        self.thread_sensitive = thread_sensitive
        self.is_serial = thread_sensitive or (
            self.pool is not None and self.pool.max_threads == 1
        )
        # By this a server's requests are told from those of another on the same loop.
        self.marker = f"wsgi_asgi.term.{id(self):x}"
        self.files = ThreadPool(FILE_THREADS, idle=FILE_IDLE_S)
        self.windows = Budget(windows)
        self.warn_once: Callable[[str, str], object]
        self.warn_once = partial(logger.warning, "%s: %s")
        self._hooks = DedicatedThreads(sys.maxsize)
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        """Know no loop; also in a forked child, where no request goes on."""
        self._ports: dict[object, Port] = {}
        self._latest: tuple[object, Port | None] = (None, None)

    def term_of(self, scope: Mapping[str, Any]) -> Term | None:
        """Find out which of several servers has sent something, if it says so."""
        state = scope.get("state")
        return state.get(self.marker) if isinstance(state, dict) else None

    def port(self) -> Port:
        """Give the running loop's port."""
        # trio is asked first, since a program may run a loop of asyncio's inside trio,
        # or trio as a guest of asyncio's loop. And trio is there if a task of it is.
        trio = sys.modules.get("trio")
        if trio is not None and trio.lowlevel.in_trio_task():
            from wsgi_asgi._trio import TrioPort

            token = trio.lowlevel.current_trio_token()
            return self._ports.get(token) or self._add_port(token, TrioPort())
        # What a loop sets for as long as it runs in a thread says which loop it is,
        # without the system call of get_running_loop() before Python 3.12. But a run of
        # trio that is a loop's guest sets the same for both.
        hook = None if trio else sys.get_asyncgen_hooks().firstiter
        known_hook, port = self._latest
        if port is None or hook is None or hook is not known_hook:
            loop = asyncio.get_running_loop()
            port = self._ports.get(loop) or self._add_port(loop, AsyncioPort(loop))
            self._latest = hook, port
        return port

    def _add_port(self, loop: object, port: Port) -> Port:
        check_threads()  # as they may be gone since the adapter was made
        for other, its_port in [*self._ports.items()]:
            if its_port.is_gone():
                # Another loop's thread may find out at the same time.
                self._ports.pop(other, None)
        self._ports[loop] = port
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
        if any(port.terms for port in list(self._ports.values())):
            return  # another server goes on
        self.files.retire()
        if self.pool and self.owned:
            self.pool.retire()

    async def call_file(self, work: Callable[[], T]) -> T:
        """Run a callable that waits for a disk; see `_call`."""
        return await self._call(work, self.files.execute)

    async def call_hook(
        self, hook: Callable[[], object], patience: float | None = None
    ) -> None:
        """Run a hook of the server's start or end; see `_call`.

        It runs in a thread of its own, since those of the executor may all be stuck
        in requests that never end. Where the application is bound to asgiref's one
        thread, its hooks are as well.

        Args:
            hook: Called without arguments.
            patience: Seconds in which asgiref's thread must be free for it; None
                for any time.
        """
        if not self.thread_sensitive:
            await self._call(hook, self._hooks.execute)
        else:
            await self._call(hook, patience=patience)

    async def _call(
        self,
        work: Callable[[], T],
        execute: Callable[[Callable[[], None]], object] | None = None,
        patience: float | None = None,
    ) -> T:
        """Run a callable in a thread, and wait for what it returns.

        Args:
            work: The callable.
            execute: What gives it to a thread; None for what requests run in.
            patience: Seconds in which a thread must have begun it.

        Raises:
            TimeoutError: No thread was free in that time, or a shutdown gave up on
                the work before a thread had begun it.
            Exception: What the callable raised, made `raisable`.
        """
        results: list[T] = []
        port = self.port()
        crossing = Crossing(self, port, lambda: results.append(work()), buffer=0)
        crossing.apart = True
        crossing.start(execute)
        timer = None if patience is None else port.call_later(patience, crossing.drop)
        try:
            while not crossing.ended:
                crossing.nudged = False
                await crossing.wait()
        finally:
            if timer:
                timer.cancel()
            crossing.leave()
        if (error := crossing.take_error()) is not None:
            raise raisable(error, repr(work))
        if not results:
            raise TimeoutError(f"no thread was free in time for {work!r}")
        return results[0]


def _lost_by(executor: Executor) -> RuntimeError:
    return RuntimeError(
        f"{executor!r} has dropped the request before it ran: the executor was shut "
        f"down, or cancelled its future"
    )


def _name(executor: Executor, error: BaseException) -> None:
    """Add to an error by which executor a request was not run."""
    note = f"The request was to run in {executor!r}."
    # Executors may raise the same error again and again.
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


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
        dropped: No thread has begun the work, and none will.
        keeps_window: The thread may never run further ahead than by `buffer`.
        indispensable: The work is to be done even if it was abandoned before a
            thread has begun it. Without this it is dropped then.
        cancels: Coroutines that the work waits for are cancelled if it is abandoned.
        on_drop: Called by any thread if the work was dropped, and never begins.
        term: That of the server which the work comes from, if it is known.
        granted: Bytes of the adapter's `Budget` that it holds.
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
        "_ident",
        "_in_hand",
        "_is_patient",
        "_items",
        "_on_lost_error",
        "_put",
        "_queued",
        "_sleeping",
        "_stalled",
        "_taken",
        "_unbegun",
        "_waiter",
        "_window",
        "abandoned",
        "age",
        "apart",
        "cancels",
        "deserted",
        "dropped",
        "ended",
        "error",
        "granted",
        "indispensable",
        "keeps_window",
        "nudged",
        "on_drop",
        "over",
        "port",
        "running",
        "streaming",
        "term",
    )

    _on_lost_error: Callable[[BaseException], object]

    def __init__(
        self, bridge: Bridge, port: Port, work: Callable[[], object], *, buffer: int
    ) -> None:
        self.port = port
        self._bridge = bridge
        self._window = buffer
        # Whoever takes the work out decides what becomes of it: a thread, or `drop`.
        self._unbegun = [work]
        self._context = contextvars.copy_context()
        self._items: list[Any] = []
        self.age = 0
        self.abandoned = False
        self.deserted = False
        self.dropped = False
        self.indispensable = False
        self.keeps_window = False
        self.cancels = True
        self.ended = False
        self.error: BaseException | None = None
        self.nudged = False
        self.running = False
        self.streaming = False
        self.apart = False
        self.over = False
        self.granted = 0
        self.term: Term | None = None
        self.on_drop: Callable[[], object] | None = None
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
        # Where the executor is not ours, what can still take the work back from it.
        self._queued: Future[None] | asyncio.Task[None] | None = None
        self._ident = 0  # of the thread that does the work

    # The task's side.

    def start(
        self, execute: Callable[[Callable[[], None]], object] | None = None
    ) -> None:
        """Hand the work to a thread.

        Args:
            execute: What gives it to a thread; None for what requests run in.

        Raises:
            RuntimeError: The executor takes no more work.
        """
        bridge = self._bridge
        if not self.apart:
            self.port.enter(self)
        loop = self.port.asyncio_loop
        try:
            if execute:
                execute(self._run)
            elif bridge.thread_sensitive:
                if loop:
                    self._queued = loop.create_task(self._run_thread_sensitive())
                else:
                    self._submit(SyncToAsync.single_thread_executor)
            elif bridge.pool:
                bridge.pool.execute(self._run)
            else:
                self._submit(bridge.executor)
        except BaseException:
            self.port.leave(self)
            self._let_go()
            raise

    def _submit(self, executor: Executor) -> None:
        try:
            future = executor.submit(self._run)
        except RuntimeError as error:
            _name(executor, error)
            raise
        # There are executors that give nothing, and cannot tell what they have lost.
        if isinstance(future, Future):
            self._queued = future
            future.add_done_callback(partial(self._note_outcome, executor))

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

    def move_apart(self) -> bool:
        """Keep the work's thread, so that it does not count among the others.

        To be called once while the work is under way, by any thread; the work has to
        call `end_apart` at its end.

        Returns:
            False if as many as may be are apart; nothing has changed then.
        """
        if not self._bridge.apart.take():
            return False
        self.apart = True
        self._movable.detach(self._ident)
        return True

    def end_apart(self) -> None:
        """Count the thread no more, if it was moved apart; it is about to end."""
        if self.apart:
            self._bridge.apart.give_back()

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

    def note_stall(self, seconds: float, since: float) -> None:
        """Warn if the loop stood still while it ran a coroutine of the work's.

        The sign is that one has begun and not ended, or has ended just now. Of one that
        has ended in asgiref's own thread nothing is known. And one that waits shows the
        same sign while something else holds the loop up.
        """
        tasks, loop = self._async_tasks, self.port.asyncio_loop
        if loop and (
            getattr(tasks, "ended_at", 0.0) >= since
            or any(task.get_loop() is loop for task in list(tasks))
        ):
            self._bridge.warn_once("stall", _STALL % seconds)

    @property
    def has_begun(self) -> bool:
        """Whether a thread has begun the work, or nobody ever will."""
        return not self._unbegun

    def abandon(self, *, at_end: bool = False) -> None:
        """Tell the thread to end: no more is wanted. Work not begun is dropped.

        Args:
            at_end: The loop is about to end, so that no coroutine can go on, and no
                work may begin.
        """
        self.abandoned = True
        if not self.indispensable or at_end:
            self.drop()
        if self.cancels or at_end:
            for task in list(self._async_tasks):
                # Not of this loop where async_to_sync had to make one.
                with suppress(RuntimeError):  # it is closed by now
                    task.get_loop().call_soon_threadsafe(task.cancel)
        for bell in self._bells:
            bell.ring()

    def drop(self) -> bool:
        """End work that no thread has begun; False if one has."""
        try:
            self._unbegun.pop()
        except IndexError:
            return False
        # Where it waits for a thread, nothing is left but this object.
        self._context = contextvars.Context()
        self.dropped = self.ended = True
        if self._queued:
            self._queued.cancel()
        self._let_go()
        if self.deserted:
            self._bury()
        self._wake()
        return True

    def _let_go(self) -> None:
        """Tell whoever has prepared the work that it will never begin."""
        on_drop, self.on_drop = self.on_drop, None
        if on_drop:
            on_drop()

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
        self._queued = None  # it refers to this object
        if self.granted:  # looked at after `over` is up, see `Budget.widen`
            self._bridge.windows.settle(self)
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
            if not self.keeps_window:
                self._window = self.widen(self._window, WINDOW_BYTES)

    def widen(self, window: int, most: int) -> int:
        """Give a wider window to two sides that keep each other waiting.

        Args:
            window: Bytes that it has.
            most: Bytes up to which it may grow.
        """
        return self._bridge.windows.widen(self, window, most)

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
            raise disconnect_error("the client has left")

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

    def step_out(self) -> bool:
        """Stop counting this thread against the executor's bound while it waits.

        Returns:
            True if `step_in` must be called when the wait is over.
        """
        pool = self._bridge.pool
        if pool is None or self.streaming or self._ident != threading.get_ident():
            return False
        pool.step_out()
        return True

    def step_in(self) -> None:
        """Count this thread again."""
        pool = self._bridge.pool
        assert pool, "step_out() has found it"
        pool.step_in()

    def begin_stream(self) -> None:
        """Count the work's thread among the streams from now on, if there is room.

        It may be called by any thread that the work has started. Nothing is counted
        twice, nor once the work has ended.
        """
        pool = self._bridge.pool
        if self.streaming or not pool or self._bridge.thread_sensitive:
            return
        with _STREAMS:
            if self.running and not self.streaming:
                self.streaming = pool.begin_stream()
        # Looked at after `streaming` is up, as `_run` looks at that after `running` is
        # down. Whoever comes second sees the first.
        if not self.running:
            self._end_stream()

    def _end_stream(self) -> None:
        """Count the work's thread as it was counted before; once is enough."""
        with _STREAMS:
            pool = self._bridge.pool
            if self.streaming and pool:
                self.streaming = False
                pool.end_stream()

    def _run(self) -> None:
        """Do the work; the whole of the job that the executor sees."""
        try:
            work = self._unbegun.pop()
        except IndexError:
            return  # it was dropped
        self.on_drop = None  # else a cycle would keep the request
        self._ident = threading.get_ident()
        self.running = True
        try:
            self._context.run(self._run_in_context, work)
        except BaseException as error:
            self.error = error
        del work  # it refers to this object
        self.running = False
        if self.streaming:
            self._end_stream()
        self._end()

    def _note_outcome(self, executor: Executor, future: "Future[None]") -> None:
        """End with the error of an executor that has lost the work; any thread.

        An executor that is shut down may cancel what waits, and one whose threads
        cannot start breaks. The work itself raises nothing.
        """
        if not self._unbegun:
            return  # begun by a thread, or dropped by us
        if future.cancelled():
            error: BaseException = _lost_by(executor)
        elif broken := future.exception():
            error = broken
            _name(executor, error)
        else:
            return
        with suppress(IndexError):  # dropped by us in the same moment
            self._unbegun.pop()
            self._let_go()
            self.error = error
            self._end()

    def _run_in_context(self, work: Callable[[], object]) -> None:
        # What asgiref's own threads do: async_to_sync finds the server's loop, and
        # values of asgiref's Local follow from the task into this thread.
        # All of the thread's at once, since each access to a `local` looks for it.
        local = SyncToAsync.threadlocal.__dict__
        outer_loop = local.get("main_event_loop")
        port = self.port
        local["main_event_loop"] = port.asyncio_loop
        local["main_event_loop_pid"] = port.pid
        # Tasks that async_to_sync starts for this thread.
        local["task_context"] = self._async_tasks = AsyncTasks()
        try:
            if self._context:
                restore_context(self._context)
                make_own(self._context)
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
            if self.granted:  # the loop may be gone, and nobody bury it
                self._bridge.windows.settle(self)
            self.port.post(self._bury)
        elif self._sleeping:
            self.port.post(self._wake)

    async def _run_thread_sensitive(self) -> None:
        # asgiref chooses the thread, enters the context and cares for Local.
        try:
            await sync_to_async(self._run_guarded, thread_sensitive=True)()
        except BaseException as error:
            if self.dropped:
                return
            self.error = error  # refused by asgiref, or cancelled with the loop
            if self._unbegun:
                self._unbegun.clear()
                self._let_go()
                if isinstance(error, asyncio.CancelledError):
                    self.error = _lost_by(SyncToAsync.single_thread_executor)
                    self.error.__cause__ = error
        if self.dropped:
            return
        self.ended = True
        if self.deserted:
            self._bury()
        self._wake()

    def _run_guarded(self) -> None:
        try:
            work = self._unbegun.pop()
        except IndexError:
            return  # it was dropped
        self.on_drop = None
        self.running = True
        self._async_tasks = getattr(SyncToAsync.threadlocal, "task_context", ())
        make_own(contextvars.copy_context())
        try:
            try:
                work()
            except asyncio.CancelledError as error:
                self._raise_cancelled(error)
        except BaseException as error:
            self.error = error
        self.running = False
