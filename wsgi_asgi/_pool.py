"""The threads that applications run in.

A pool of our own, for three reasons. Work is handed over without a Future, a
Condition or a wake-up per job, which is most of what a hop to a thread costs.
Threads are injected as the work needs them: the interpreter runs one thread at a
time, so an application that computes is fastest on few, and one that waits for a
database needs many. And a thread that serves its client at the client's own speed
does not count against the bound that quick requests share: a thread that streams a
response (`begin_stream`), one that waits for more of a request's body (`step_out`),
and one that a WebSocket keeps for as long as it lasts (`detach`).

Theory of operation. Jobs wait in one deque. A thread without a job parks on a
stack, so that those used last are used next and the others can retire. A new job
wakes a parked thread, or starts one, only while fewer than `CORE` threads are
awake. Beyond that it is the injector's turn, one thread that looks at the queue
every couple of milliseconds for as long as there is one: where a job has waited
although the processor is idle, the awake threads must be blocked, so another is
woken or started.

All counts are changed with one lock, held for a few instructions and never while
foreign code runs. A job is queued and taken without it, as most need no other thread
than those that are awake. Who queues one looks afterwards who is awake, and a thread
that parks looks for jobs after it stopped counting as awake; the injector does the
same. Whoever comes second sees the first, so no job can be missed by all.
"""

import logging
import os
import sys
import threading
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, ParamSpec, Protocol, TypeVar

__all__ = [
    "Bell",
    "DedicatedThreads",
    "Guard",
    "Places",
    "ThreadPool",
    "check_threads",
    "numbered",
    "reset_in_child",
]

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("wsgi_asgi")

# Up to this many threads are added as soon as a job comes while those awake have not
# taken one for `STALLED_S`; they must be blocked, or busy with something long.
CORE = 2
STALLED_S = 0.0005
# How often the injector looks, and so how long work waits before one more thread.
TICK_S = 0.002
# While the process uses this share of a processor, its threads are computing and
# not blocked, and one more would only fight for the interpreter ...
COMPUTING_SHARE = 0.8
# ... unless no job has been taken for this long.
STARVED_S = 0.010
# The injector goes on looking for this long after the queue was last seen waiting,
# which spares waking it for each burst.
WATCHFUL_S = 0.1
# A thread that had nothing to do for this long ends.
IDLE_S = 30.0
# How long retiring waits for threads that may be on their way out.
RETIRE_S = 0.1

# How many threads of each kind the process has had.
_numbers: defaultdict[str, "count[int]"] = defaultdict(lambda: count(1))


def numbered(kind: str) -> str:
    """Name a thread so that logs and profilers tell it from others of its kind."""
    return f"{kind}-{next(_numbers[kind])}"


# What may stand in for threads: its module and what that is asked by, its word for
# threads and others that it may have patched, and a call that leaves threads alone.
# Tried on each server: with all other patches the adapter works, but on trio, whose own
# loop takes only sockets of the system.
_STAND_INS = (
    (
        "gevent.monkey",
        "is_module_patched",
        "threading",
        ("os", "queue", "select", "signal", "socket", "ssl", "subprocess", "time"),
        # Its ways to wait for a child process know the main thread only.
        (
            "gevent.monkey.patch_all(thread=False, subprocess=False, os=False, "
            "signal=False)"
        ),
    ),
    (
        "eventlet.patcher",
        "is_monkey_patched",
        "thread",
        ("os", "select", "socket", "subprocess", "time"),
        "eventlet.monkey_patch(thread=False)",
    ),
)


def check_threads() -> None:
    """Check that threads are the system's.

    Raises:
        RuntimeError: gevent or eventlet has put its own in their place. They take turns
            with each other only, and an event loop never gives them one.
    """
    for name, asked_by, threads, others, remedy in _STAND_INS:
        is_patched = getattr(sys.modules.get(name), asked_by, None)
        if is_patched and is_patched(threads):
            patched = ", ".join([threads, *filter(is_patched, others)])
            library = name.partition(".")[0]
            raise RuntimeError(
                f"{library} has patched {patched}; with its threads no request would "
                f"ever be answered, since they do not run beside an event loop. Patch "
                f"nothing in a process that serves ASGI, or, if other code needs it, "
                f"leave threads alone by {remedy}"
            )


class Bell:
    """A wake-up for one thread, remembered if it comes before the wait."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the thread that waits, or else the next that will; any thread."""
        try:  # noqa: SIM105  # suppress() costs four times as much, on each hand-over
            self._lock.release()
        except RuntimeError:
            pass  # it was rung and not heard yet

    def wait(self, timeout: float = -1) -> bool:
        """Sleep until rung; False if that took longer than `timeout` seconds."""
        return self._lock.acquire(timeout=timeout)


class ThreadPool(Executor):
    """A bounded pool of daemon threads, which may be shared between adapters.

    Daemon threads, because no request may hold up the end of the process.

    Args:
        threads: The most threads that run at a time, streams not counted.
        streams: The most threads that may stream beside those.
        idle: Seconds after which a thread without work ends; None for `IDLE_S`.
    """

    def __init__(
        self, threads: int, streams: int = 0, *, idle: float | None = None
    ) -> None:
        self.max_threads = threads
        self.max_streams = streams
        self._idle = idle
        self._closed = False
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        """Start from nothing; also in a forked child, which has no threads."""
        self._lock = threading.Lock()
        self._jobs: deque[tuple[Callable[[], object], float]] = deque()
        self._threads: set[threading.Thread] = set()
        self._parked: list[Bell] = []
        self._detached: set[int] = set()  # threads that do not come back
        self._streams = 0
        self._awake = 0  # threads that run quick jobs, or look for one
        self._progress = 0.0  # when a job was last taken, or a thread sent for one
        self._retiring = False
        self._injector: threading.Thread | None = None
        self._watchful = False  # the injector is looking
        self._alarm = Bell()

    @property
    def threads(self) -> int:
        """Threads alive, busy or not."""
        return len(self._threads)

    def execute(self, job: Callable[[], object]) -> None:
        """Run a job in one of the threads, as soon as one is free; any thread.

        Args:
            job: Called once. What it returns is dropped; what it raises is
                logged, so let it raise nothing.

        Raises:
            RuntimeError: The pool was shut down, or there is no thread to be had.
        """
        if self._closed:
            raise RuntimeError("the thread pool was shut down")
        now = time.monotonic()
        waiting = (job, now)
        self._jobs.append(waiting)
        # Looked at after the append, as all who stop looking for jobs do it vice versa.
        if self._needs_thread(now) or not self._watchful:
            self._attend(waiting, now)

    def submit(
        self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Run a callable in one of the threads, as `concurrent.futures` has it."""
        future: Future[T] = Future()
        self.execute(partial(_fulfil, future, partial(work, *args, **kwargs)))
        return future

    def begin_stream(self) -> bool:
        """Stop counting the calling thread's job against `threads`.

        Returns:
            False if `streams` jobs stream already; the job then goes on
            counting, and `end_stream` must not be called.
        """
        with self._lock:
            if self._streams >= self.max_streams:
                return False
            self._streams += 1
            self._awake -= 1
            if self._jobs:
                self._add_thread()
            return True

    def end_stream(self) -> None:
        """Count the calling thread's job against `threads` again."""
        with self._lock:
            self._streams -= 1
            self._awake += 1

    def step_out(self) -> None:
        """Stop counting the calling thread's job against `threads` while it waits.

        The job must `step_in` before it goes on.
        """
        with self._lock:
            self._awake -= 1
            if self._jobs:
                self._add_thread()

    def step_in(self) -> None:
        """Count the calling thread's job again, which goes on at once.

        More jobs than `threads` may run then. No thread takes a new job until the
        count is within the bound again.
        """
        with self._lock:
            self._awake += 1

    def detach(self, ident: int) -> None:
        """Take a thread out of the pool for good; any thread.

        It stops counting at once, and ends when its job does.

        Args:
            ident: The identity of a thread of this pool that runs a job.
        """
        with self._lock:
            self._detached.add(ident)
            self._threads = {one for one in self._threads if one.ident != ident}
            self._awake -= 1
            if self._jobs:
                self._try_to_add_thread()

    def retire(self) -> None:
        """End the threads: those that are idle now, the others after their job.

        The pool stays usable: the next job starts threads again.

        Runs on:
            Any thread but the pool's own. It waits for the threads to end, but
            no longer than `RETIRE_S` for those that are still busy.
        """
        self._retire(RETIRE_S)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs; those queued are run, as PEP 3148 has it."""
        with self._lock:
            self._closed = True
            jobs = [job for job, _ in self._jobs] if cancel_futures else []
        for job in jobs:
            if isinstance(job, partial) and job.func is _fulfil:
                job.args[0].cancel()
        self._retire(threading.TIMEOUT_MAX if wait else 0)

    def _retire(self, patience: float) -> None:
        with self._lock:
            self._retiring = True
            ending = [*self._threads]
            for bell in self._parked:
                bell.ring()
            self._awake += len(self._parked)
            self._parked.clear()
            if self._injector:
                ending.append(self._injector)
                self._alarm.ring()
        deadline = time.monotonic() + patience
        while ending:
            for thread in ending:
                thread.join(max(0.0, deadline - time.monotonic()))
            # Jobs that waited may have been given threads meanwhile.
            with self._lock:
                ending = [*self._threads] if time.monotonic() < deadline else []

    def _needs_thread(self, now: float) -> bool:
        """Tell whether one more thread should run quick jobs at once."""
        return self._awake < CORE and (
            not self._awake or now - self._progress > STALLED_S
        )

    def _attend(self, waiting: tuple[Callable[[], object], float], now: float) -> None:
        """See to it that a job which is queued is taken."""
        with self._lock:
            self._retiring = self._closed
            try:
                if self._needs_thread(now):
                    self._progress = now
                    self._add_thread()
                elif not self._watchful:
                    self._watch()
            except RuntimeError:
                try:
                    self._jobs.remove(waiting)
                except ValueError:
                    return  # one of the threads has taken it after all
                raise

    # Below, "with the lock" means that the caller holds it.

    def _add_thread(self) -> None:
        """Wake a parked thread, or start one, up to the bound; with the lock."""
        if self._awake >= self.max_threads:
            return
        self._awake += 1
        if self._parked:
            self._parked.pop().ring()
        else:
            thread = threading.Thread(
                target=self._work, name=numbered("wsgi"), daemon=True
            )
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError:
                self._threads.discard(thread)
                self._awake -= 1
                # The system is out of threads, so those there are must do.
                if not self._threads:
                    raise

    def _try_to_add_thread(self) -> None:
        """Add a thread, or leave it to the injector to try again; with the lock."""
        with suppress(RuntimeError):  # the system is out of threads
            self._add_thread()

    def _watch(self) -> None:
        """Have the injector look at the queue; with the lock."""
        if self._injector is None:
            injector = threading.Thread(
                target=self._inject, name=numbered("wsgi-injector"), daemon=True
            )
            injector.start()
            self._injector = injector
        else:
            self._alarm.ring()
        self._watchful = True

    def _work(self) -> None:
        """Run jobs, and park when there are none; a thread's whole life."""
        bell = Bell()
        while job := self._next_job(bell):
            self._progress = time.monotonic()
            try:
                job()
            except BaseException:
                logger.exception("a job of the thread pool failed")
            del job  # and with it all that the request held
            if self._detached and self._is_detached():
                return

    def _patience(self) -> float:
        return IDLE_S if self._idle is None else self._idle

    def _is_detached(self) -> bool:
        """Tell whether the calling thread has left the pool, and forget it if so."""
        ident = threading.get_ident()
        with self._lock:
            found = ident in self._detached
            self._detached.discard(ident)
        return found

    def _next_job(self, bell: Bell) -> Callable[[], object] | None:
        """Park until there is something to do; None when the thread must end."""
        jobs = self._jobs
        while True:
            if jobs and self._awake <= self.max_threads:
                try:
                    return jobs.popleft()[0]
                except IndexError:
                    pass  # another thread was quicker
            with self._lock:
                self._awake -= 1
                if jobs and self._awake < self.max_threads:
                    self._awake += 1
                    continue
                if self._retiring:
                    self._threads.discard(threading.current_thread())
                    return None
                self._parked.append(bell)
            if not bell.wait(self._patience()):
                with self._lock:
                    if bell in self._parked:
                        self._parked.remove(bell)
                        self._threads.discard(threading.current_thread())
                        return None
                    bell.wait()  # rung in the same moment; else it would be later

    def _inject(self) -> None:
        """Add a thread when jobs wait and the awake threads seem blocked."""
        while True:
            self._look_after_jobs()
            with self._lock:
                self._watchful = False
                # Who queued a job before this relied on the injector's looking.
                if self._jobs:
                    self._watchful = True
                    continue
                if self._retiring:
                    self._injector = None
                    return
            if not self._alarm.wait(self._patience()):
                with self._lock:
                    if not self._watchful:
                        self._injector = None
                        return
                    self._alarm.wait()  # rung in the same moment

    def _look_after_jobs(self) -> None:
        """Look every tick, until there have been no jobs for a while."""
        looked_at = taken_at = quiet_since = time.monotonic()
        cpu = time.process_time()
        head: object = None
        while True:
            time.sleep(TICK_S)
            now, cpu_now = time.monotonic(), time.process_time()
            share = (cpu_now - cpu) / max(now - looked_at, TICK_S)
            cpu, looked_at = cpu_now, now
            try:
                job = self._jobs[0]
            except IndexError:
                head = None
                if self._retiring or now - quiet_since > WATCHFUL_S:
                    return
                continue
            quiet_since = now
            if job is not head:
                head, taken_at = job, now
            starved = now - taken_at >= STARVED_S
            if now - job[1] >= TICK_S and (share < COMPUTING_SHARE or starved):
                taken_at = now
                with self._lock:
                    self._try_to_add_thread()
            del job


class DedicatedThreads:
    """A new thread for each job, up to a bound; where there is no pool of ours.

    Args:
        most: How many jobs may run at a time, those not counted that were detached.

    Attributes:
        running: How many do.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        """Start from nothing; also in a forked child, which has no threads."""
        self._lock = threading.Lock()
        self._detached: set[int] = set()
        self.running = 0

    def execute(self, job: Callable[[], object]) -> None:
        """Run a job in a thread of its own; any thread.

        Args:
            job: As for `ThreadPool.execute`.

        Raises:
            RuntimeError: The bound is reached, or the system's.
        """
        with self._lock:
            if self.running >= self.most:
                raise RuntimeError(f"{self.running} dedicated threads run already")
            self.running += 1
        thread = threading.Thread(
            target=self._work, args=(job,), name=numbered("wsgi-dedicated"), daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            self._leave()
            raise

    def detach(self, ident: int) -> None:
        """Stop counting a thread; any thread, see `ThreadPool.detach`."""
        with self._lock:
            self._detached.add(ident)
            self.running -= 1

    def _work(self, job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException:
            logger.exception("a job of a dedicated thread failed")
        finally:
            self._leave()

    def _leave(self) -> None:
        ident = threading.get_ident()
        with self._lock:
            if ident in self._detached:
                self._detached.discard(ident)
            else:
                self.running -= 1


class Places:
    """A number of places, each of which one of many can hold; for any thread.

    Args:
        most: How many there are.

    Attributes:
        taken: How many are held.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        """Start from nothing; also in a forked child, which has none of them."""
        self._lock = threading.RLock()  # as in `Guard`
        self.taken = 0

    @property
    def full(self) -> bool:
        """Whether none is free."""
        return self.taken >= self.most

    def take(self) -> bool:
        """Take a place; False if none is free."""
        with self._lock:
            if self.full:
                return False
            self.taken += 1
            return True

    def give_back(self) -> None:
        """Give a place back that was taken."""
        with self._lock:
            self.taken -= 1


class Guard:
    """A lock that is free in a forked child, whoever holds it in the parent.

    The thread that holds it may enter it again. When it has to collect garbage
    meanwhile, that may be a coroutine which was thrown away with its loop, and which
    gives back here what it has taken.
    """

    def __init__(self) -> None:
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


def _fulfil(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


class _Resettable(Protocol):
    def _reset(self) -> None: ...


_resettable: weakref.WeakSet[_Resettable] = weakref.WeakSet()


def reset_in_child(one: _Resettable) -> None:
    """Have an object start from nothing in a forked child, for as long as it is there.

    Nothing that other threads have begun goes on there, and none of them will release
    a lock that it held.

    Args:
        one: What has a method `_reset` for that.
    """
    _resettable.add(one)


def _reset_all() -> None:
    for one in _resettable:
        one._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
