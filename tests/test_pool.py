"""The thread pool, by what its jobs can see: who runs, how many at a time, and when."""

import asyncio
import gc
import os
import re
import runpy
import select
import signal
import sys
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor
from functools import partial
from types import ModuleType
from typing import Any, NoReturn, cast

import pytest

from tests.drivers import QUIET_S, WAIT_S, assert_ends, until
from wsgi_asgi import _pool
from wsgi_asgi._pool import (
    CORE,
    Bell,
    DedicatedThreads,
    Guard,
    Places,
    ThreadPool,
    check_threads,
)

MakePool = Callable[..., ThreadPool]


@pytest.fixture(autouse=True)
def no_thread_is_left_at_all() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT_S)
    assert set(threading.enumerate()) <= before


def stand_in(
    monkeypatch: pytest.MonkeyPatch, name: str, asked_by: str, *patched: str
) -> None:
    """Pretend that a library has patched some modules."""
    module = ModuleType(name)
    setattr(module, asked_by, patched.__contains__)
    monkeypatch.setitem(sys.modules, name, module)


GEVENT = ("gevent.monkey", "is_module_patched")
EVENTLET = ("eventlet.patcher", "is_monkey_patched")


class Crowd:
    """Jobs that stay in their threads until they are let go."""

    def __init__(self) -> None:
        self.inside = self.most = self.left = 0
        self._open = False
        self._changed = threading.Condition()

    def job(self) -> None:
        with self._changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._open, WAIT_S)
            self.inside -= 1
            self.left += 1
            self._changed.notify_all()

    def let_go(self) -> None:
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def wait_inside(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.inside == number, WAIT_S), (
                f"{self.inside} jobs run and not {number}"
            )

    def wait_left(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.left == number, WAIT_S), (
                f"{self.left} jobs have run and not {number}"
            )


class Streamer:
    """A job that streams between two signals of the test."""

    def __init__(self, pool: ThreadPool) -> None:
        self.streams: bool | None = None
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.ended = threading.Event()
        self._pool = pool

    def job(self) -> None:
        self.streams = self._pool.begin_stream()
        self.begun.set()
        self.may_end.wait(WAIT_S)
        if self.streams:
            self._pool.end_stream()
        self.ended.set()

    def start(self) -> "Streamer":
        self._pool.execute(self.job)
        assert self.begun.wait(WAIT_S)
        return self


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    crowd.let_go()


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    pools: list[ThreadPool] = []

    def make(*args: int) -> ThreadPool:
        pools.append(ThreadPool(*args))
        return pools[-1]

    yield make
    for pool in pools:
        pool.shutdown(wait=False)


def run(pool: ThreadPool, job: Callable[[], object] = lambda: None) -> None:
    """Have a job run to its end, as far as the job can tell."""
    done = threading.Event()

    def work() -> None:
        job()
        done.set()

    pool.execute(work)
    assert done.wait(WAIT_S)


def in_thread(work: Callable[[], object]) -> threading.Event:
    """Do something in a thread of the test's own; the event says that it is done."""
    done = threading.Event()

    def do() -> None:
        work()
        done.set()

    threading.Thread(target=do, daemon=True).start()
    return done


# The bell.


def test_bell_rung_before_the_wait_is_heard_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    assert bell.wait(WAIT_S)
    assert not bell.wait(0)


def test_bell_rung_during_the_wait_wakes_the_thread() -> None:
    bell = Bell()
    heard = in_thread(bell.wait)
    bell.ring()
    assert heard.wait(WAIT_S)


def test_bell_not_rung_gives_up_in_time() -> None:
    assert not Bell().wait(0.001)


# Jobs.


def test_pool_without_jobs_has_no_thread(make_pool: MakePool) -> None:
    pool = make_pool(5, 7)
    assert isinstance(pool, Executor)
    assert (pool.threads, pool.max_threads, pool.max_streams) == (0, 5, 7)


def test_job_runs_in_a_daemon_thread_of_the_pool(make_pool: MakePool) -> None:
    pool = make_pool(2)
    threads: list[threading.Thread] = []
    run(pool, lambda: threads.append(threading.current_thread()))
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon  # it must not hold up the end of the process
    assert pool.threads == 1


def test_jobs_in_one_thread_run_in_order(make_pool: MakePool, crowd: Crowd) -> None:
    pool = make_pool(1)
    numbers: list[int] = []
    pool.execute(crowd.job)
    for number in range(100):
        pool.execute(partial(numbers.append, number))
    crowd.let_go()
    run(pool)
    assert numbers == list(range(100))
    assert pool.threads == 1


class OddError(BaseException):
    pass


any_error = pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        StopIteration(),
        GeneratorExit(),
        KeyboardInterrupt(),
        SystemExit(3),
        asyncio.CancelledError(),
        OddError(),
    ],
    ids=lambda error: type(error).__name__,
)


def failing(error: BaseException) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise error

    return fail


@any_error
def test_job_that_raises_anything_is_logged_and_its_thread_lives_on(
    error: BaseException, make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(1)
    idents: list[int] = []
    pool.execute(lambda: idents.append(threading.get_ident()))
    pool.execute(failing(error))
    run(pool, lambda: idents.append(threading.get_ident()))
    assert len(set(idents)) == 1
    assert pool.threads == 1
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("wsgi_asgi", "ERROR")
    assert record.exc_info
    assert record.exc_info[1] is error


@any_error
def test_submitted_work_that_raises_anything_tells_its_future_only(
    error: BaseException, make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(1)
    assert pool.submit(failing(error)).exception(WAIT_S) is error
    run(pool)
    assert not caplog.records


def test_submitted_work_gets_its_arguments_and_gives_its_result(
    make_pool: MakePool,
) -> None:
    pool = make_pool(2)
    # Names that the pool itself may use must reach the work.
    future = pool.submit(dict, work=1, future=2, self=3)
    assert future.result(WAIT_S) == {"work": 1, "future": 2, "self": 3}
    assert list(pool.map(pow, (2, 3), (5, 2), timeout=WAIT_S)) == [32, 9]


def test_submitted_work_that_is_cancelled_in_time_does_not_run(
    make_pool: MakePool, crowd: Crowd
) -> None:
    pool = make_pool(1)
    running = pool.submit(crowd.job)
    crowd.wait_inside(1)
    waiting = pool.submit(crowd.job)
    assert waiting.cancel()
    assert not running.cancel()
    crowd.let_go()
    run(pool)
    assert crowd.left == 1
    with pytest.raises(CancelledError):
        waiting.result(WAIT_S)


def test_job_that_has_run_is_let_go_by_its_thread(make_pool: MakePool) -> None:
    class Request:
        pass

    pool = make_pool(1)
    request = Request()
    gone = threading.Event()
    weakref.finalize(request, gone.set)
    pool.execute(partial(id, request))
    gc.disable()  # a cycle would not do
    try:
        del request
        assert gone.wait(WAIT_S)
    finally:
        gc.enable()
    assert pool.threads == 1


# How many threads.


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_jobs_that_block_get_as_many_threads_as_are_permitted(
    threads: int, make_pool: MakePool, crowd: Crowd
) -> None:
    pool = make_pool(threads)
    for _ in range(threads + 3):
        pool.execute(crowd.job)
    crowd.wait_inside(threads)
    assert pool.threads == threads
    crowd.let_go()
    crowd.wait_left(threads + 3)
    assert crowd.most == threads


def test_threads_of_pools_that_run_at_once_have_names_of_their_own(
    make_pool: MakePool,
) -> None:
    crowd = Crowd()
    pools = [make_pool(3), make_pool(3)]
    for pool in pools:
        for _ in range(3):
            pool.execute(crowd.job)
    apart = DedicatedThreads(2)
    for _ in range(2):
        apart.execute(crowd.job)
    crowd.wait_inside(8)
    names = [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("wsgi")
    ]
    crowd.let_go()
    crowd.wait_left(8)
    assert len(set(names)) == len(names)
    kinds = Counter(re.sub(r"-\d+$", "-#", name) for name in names)
    assert kinds == {"wsgi-#": 6, "wsgi-injector-#": 2, "wsgi-dedicated-#": 2}


def when_waiting(
    monkeypatch: pytest.MonkeyPatch, kind: str, react: Callable[[Bell], bool]
) -> None:
    """Have something happen in threads of a kind before they wait for a bell.

    Args:
        monkeypatch: Ends it with the test.
        kind: The threads, by their name without its number.
        react: Does it; True makes the wait end at once, as if in vain.
    """
    wait = Bell.wait

    def react_and_wait(bell: Bell, timeout: float = -1) -> bool:
        if threading.current_thread().name.rpartition("-")[0] == kind and react(bell):
            return False
        return wait(bell, timeout)

    monkeypatch.setattr(Bell, "wait", react_and_wait)


def test_jobs_that_block_get_threads_after_a_quiet_time_too(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pool, "WATCHFUL_S", 0)
    quiet = threading.Event()

    def note(_: Bell) -> bool:
        quiet.set()
        return False

    when_waiting(monkeypatch, "wsgi-injector", note)
    pool = make_pool(6)
    for _ in range(5):
        quiet.clear()
        crowd = Crowd()
        for _ in range(6):
            pool.execute(crowd.job)
        crowd.wait_inside(6)
        crowd.let_go()
        crowd.wait_left(6)
        assert quiet.wait(WAIT_S)


@pytest.mark.parametrize("moment", ["stops looking", "gives up waiting"])
def test_job_that_comes_as_the_injector_rests_is_not_missed(
    moment: str,
    make_pool: MakePool,
    crowd: Crowd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One more than the core, so that there is an injector; and one that comes late.
    pool = make_pool(CORE + 2)
    late: list[Callable[[], object]] = [crowd.job]

    def come_late(now: str) -> bool:
        if now != moment or not late:
            return False
        pool.execute(late.pop())
        return True

    class Patience(float):
        def __lt__(self, waited: float) -> bool:
            # Called by the injector, to tell whether it may stop looking.
            if crowd.inside <= CORE:
                return False
            come_late("stops looking")
            return True

    monkeypatch.setattr(_pool, "WATCHFUL_S", Patience())
    when_waiting(monkeypatch, "wsgi-injector", lambda _: come_late("gives up waiting"))
    for _ in range(CORE + 1):
        pool.execute(crowd.job)
    crowd.wait_inside(CORE + 2)


class Processor:
    """A processor time that shows the process as computing without a pause."""

    def __init__(self, ticks: int) -> None:
        self.seen = threading.Event()
        self._ticks = ticks

    def __call__(self) -> float:
        self._ticks -= 1
        if not self._ticks:
            self.seen.set()
        return time.monotonic()


def test_jobs_that_compute_get_the_core_threads_only(
    make_pool: MakePool, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = Processor(ticks=30)
    monkeypatch.setattr(time, "process_time", processor)
    monkeypatch.setattr(_pool, "STARVED_S", WAIT_S)
    pool = make_pool(8)
    for _ in range(8):
        pool.execute(crowd.job)
    assert processor.seen.wait(WAIT_S)
    assert 1 <= pool.threads <= CORE


def test_jobs_that_starve_get_threads_though_others_compute(
    make_pool: MakePool, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "process_time", Processor(ticks=0))
    pool = make_pool(8)
    for _ in range(8):
        pool.execute(crowd.job)
    crowd.wait_inside(8)


def test_jobs_that_block_get_threads_by_a_clock_that_moves_in_jumps(
    make_pool: MakePool, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Windows' monotonic clock moves 64 times a second, the processor time likewise.
    clock, processor = time.monotonic, time.process_time
    monkeypatch.setattr(time, "monotonic", lambda: clock() * 64 // 1 / 64)
    monkeypatch.setattr(time, "process_time", lambda: processor() * 64 // 1 / 64)
    pool = make_pool(6)
    for _ in range(6):
        pool.execute(crowd.job)
    crowd.wait_inside(6)


# Streams.


def test_job_that_streams_does_not_count_against_the_threads(
    make_pool: MakePool,
) -> None:
    pool = make_pool(1, 3)
    streamers = [Streamer(pool).start() for _ in range(3)]
    assert [streamer.streams for streamer in streamers] == [True, True, True]
    run(pool)
    assert pool.threads == 4
    for streamer in streamers:
        streamer.may_end.set()


def test_job_that_begins_to_stream_makes_room_for_one_that_waits(
    make_pool: MakePool,
) -> None:
    pool = make_pool(1, 1)
    ran = threading.Event()

    def stream() -> None:
        pool.execute(ran.set)
        assert not ran.is_set()
        assert pool.begin_stream()
        assert ran.wait(WAIT_S)
        pool.end_stream()

    run(pool, stream)


@pytest.mark.parametrize("streams", [0, 1], ids=["none at all", "one at a time"])
def test_job_that_finds_no_room_to_stream_counts_on(
    streams: int, make_pool: MakePool
) -> None:
    pool = make_pool(1, streams)
    for _ in range(streams):
        streamer = Streamer(pool).start()
        assert streamer.streams
    refused = Streamer(pool).start()
    assert refused.streams is False
    ran = threading.Event()
    pool.execute(ran.set)
    assert not ran.wait(QUIET_S)
    refused.may_end.set()
    assert ran.wait(WAIT_S)
    if streams:
        streamer.may_end.set()
        assert streamer.ended.wait(WAIT_S)
        assert (again := Streamer(pool).start()).streams
        again.may_end.set()


def test_job_that_ended_to_stream_counts_again(
    make_pool: MakePool, crowd: Crowd
) -> None:
    pool = make_pool(2, 2)
    streamers = [Streamer(pool).start() for _ in range(2)]
    for _ in range(8):
        pool.execute(crowd.job)
    crowd.wait_inside(2)
    for streamer in streamers:
        streamer.may_end.set()
        assert streamer.ended.wait(WAIT_S)
    crowd.let_go()
    crowd.wait_left(8)
    assert crowd.most == 2


# Waits for a client.


def test_job_that_steps_out_makes_room_for_one_that_waits(make_pool: MakePool) -> None:
    pool = make_pool(1)
    ran = threading.Event()

    def wait_for_client() -> None:
        pool.execute(ran.set)
        pool.step_out()
        assert ran.wait(WAIT_S)
        pool.step_in()

    run(pool, wait_for_client)


def test_job_that_steps_in_runs_on_at_once_and_lets_none_begin_beside_it(
    make_pool: MakePool, crowd: Crowd
) -> None:
    pool = make_pool(2)
    out, may_go_on, is_in, may_end = (threading.Event() for _ in range(4))

    def wait_for_client() -> None:
        pool.step_out()
        out.set()
        may_go_on.wait(WAIT_S)
        pool.step_in()
        is_in.set()
        may_end.wait(WAIT_S)

    pool.execute(wait_for_client)
    assert out.wait(WAIT_S)
    for _ in range(2):
        pool.execute(crowd.job)
    crowd.wait_inside(2)
    late, may_end_too = threading.Event(), threading.Event()

    may_go_on.set()
    assert is_in.wait(WAIT_S)  # a third beside the two

    def come_late() -> None:
        late.set()
        may_end_too.wait(WAIT_S)

    pool.execute(come_late)
    crowd.let_go()
    crowd.wait_left(2)
    assert late.wait(WAIT_S)  # one runs beside the job that has stepped in ...
    later = threading.Event()
    pool.execute(later.set)
    assert not later.wait(QUIET_S)  # ... and no more than one
    may_end.set()
    assert later.wait(WAIT_S)
    may_end_too.set()


def test_job_that_is_detached_ends_its_thread_and_makes_room(
    make_pool: MakePool,
) -> None:
    pool = make_pool(1)
    threads: list[threading.Thread] = []
    may_end = threading.Event()
    ran = threading.Event()

    def leave() -> None:
        threads.append(threading.current_thread())
        pool.execute(ran.set)
        pool.detach(threading.get_ident())
        assert ran.wait(WAIT_S)
        may_end.wait(WAIT_S)

    pool.execute(leave)
    assert ran.wait(WAIT_S)
    assert pool.threads == 1
    may_end.set()
    threads[0].join(WAIT_S)
    assert not threads[0].is_alive()
    run(pool)
    pool.retire()
    assert pool.threads == 0


def test_job_of_another_thread_goes_on_beside_a_detached_one(
    make_pool: MakePool, crowd: Crowd
) -> None:
    pool = make_pool(2)
    detached, may_end = threading.Event(), threading.Event()

    def leave() -> None:
        pool.detach(threading.get_ident())
        detached.set()
        may_end.wait(WAIT_S)

    pool.execute(leave)
    assert detached.wait(WAIT_S)
    for _ in range(4):
        pool.execute(crowd.job)
    crowd.wait_inside(2)
    crowd.let_go()
    crowd.wait_left(4)
    run(pool)  # threads that are not detached take one job after the other
    may_end.set()


def test_job_is_detached_though_no_thread_can_be_had_for_the_next(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1)
    ran, tried, may_end = (threading.Event() for _ in range(3))
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        tried.set()
        raise RuntimeError("can't start new thread")

    def leave() -> None:
        pool.execute(ran.set)
        monkeypatch.setattr(threading.Thread, "start", fail)
        pool.detach(threading.get_ident())
        monkeypatch.setattr(threading.Thread, "start", start)
        may_end.wait(WAIT_S)

    pool.execute(leave)
    assert tried.wait(WAIT_S)
    assert ran.wait(WAIT_S)  # the injector has tried again
    may_end.set()


# Ends.


def test_pool_that_is_idle_ends_all_its_threads_and_starts_others(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pool, "IDLE_S", 0.01)
    monkeypatch.setattr(_pool, "WATCHFUL_S", 0.01)
    pool = make_pool(4)
    before = set(threading.enumerate())
    for _ in range(3):
        crowd = Crowd()
        for _ in range(4):
            pool.execute(crowd.job)
        crowd.wait_inside(4)
        crowd.let_go()
        until(lambda: not pool.threads, "the pool has no thread")
        # Not even one that only looks after the others: adapters come and go.
        until(lambda: set(threading.enumerate()) <= before, "all threads have ended")


def test_thread_woken_as_it_gives_up_waiting_takes_the_job_and_counts_once(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pool, "IDLE_S", 0.001)
    pool = make_pool(2)
    ran = threading.Event()
    woken: set[Bell] = set()

    def give_up(bell: Bell) -> bool:
        if ran.is_set() or bell in woken:
            return False
        woken.add(bell)
        pool.execute(ran.set)
        return True

    when_waiting(monkeypatch, "wsgi", give_up)
    pool.execute(lambda: None)
    assert ran.wait(WAIT_S)
    for _ in range(3):
        # A thread that counts as parked and is gone would be sent for the job.
        until(lambda: not pool.threads, "the pool has no thread")
        run(pool)


def test_retire_ends_idle_threads_and_the_next_job_starts_others(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pool, "RETIRE_S", WAIT_S)
    pool = make_pool(4)
    pool.retire()  # with nothing to end
    before = set(threading.enumerate())
    for _ in range(3):
        crowd = Crowd()
        for _ in range(4):
            pool.execute(crowd.job)
        crowd.wait_inside(4)
        crowd.let_go()
        crowd.wait_left(4)
        pool.retire()
        assert pool.threads == 0
        assert set(threading.enumerate()) <= before


def test_retire_lets_busy_threads_end_after_their_job(
    make_pool: MakePool, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pool, "RETIRE_S", 0)
    pool = make_pool(2)
    pool.execute(crowd.job)
    crowd.wait_inside(1)
    pool.retire()
    assert pool.threads == 1
    crowd.let_go()
    until(lambda: not pool.threads, "the pool has no thread")


def end_by_retiring(pool: ThreadPool) -> None:
    pool.retire()


def end_by_shutdown(pool: ThreadPool) -> None:
    pool.shutdown(wait=False)


either_end = pytest.mark.parametrize("end", [end_by_retiring, end_by_shutdown])


@either_end
def test_end_of_a_pool_with_jobs_that_wait_loses_none(
    end: Callable[[ThreadPool], None],
    make_pool: MakePool,
    crowd: Crowd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_pool, "RETIRE_S", 0)
    pool = make_pool(8)
    for _ in range(8):
        pool.execute(crowd.job)
    end(pool)
    # Each of them blocks, so they must still be given threads.
    crowd.wait_inside(8)
    crowd.let_go()
    until(lambda: not pool.threads, "the pool has no thread")


@either_end
def test_end_of_a_pool_with_a_stream_leaves_no_thread_waiting(
    end: Callable[[ThreadPool], None],
    make_pool: MakePool,
    crowd: Crowd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_pool, "RETIRE_S", 0)
    pool = make_pool(1, 1)
    streamer = Streamer(pool)
    gone = threading.Event()
    weakref.finalize(streamer, gone.set)
    may_end = streamer.start().may_end
    del streamer
    pool.execute(crowd.job)
    crowd.wait_inside(1)
    pool.execute(lambda: None)
    end(pool)
    # The stream's thread is one too many now, though there is a job to run.
    may_end.set()
    assert gone.wait(WAIT_S)
    crowd.let_go()
    until(lambda: not pool.threads, "the pool has no thread")


def test_shutdown_runs_what_waits_and_takes_no_more(
    make_pool: MakePool, crowd: Crowd
) -> None:
    pool = make_pool(1)
    for _ in range(3):
        pool.execute(crowd.job)
    crowd.wait_inside(1)
    ended = in_thread(pool.shutdown)

    def refuses() -> bool:
        try:
            pool.execute(lambda: None)
        except RuntimeError:
            return True
        return False

    until(refuses, "the pool takes no more")
    assert not ended.is_set()
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(int)
    crowd.let_go()
    assert ended.wait(WAIT_S)
    assert crowd.left == 3
    assert pool.threads == 0
    pool.shutdown()  # a second time is as good as none


def test_shutdown_waits_for_jobs_that_get_their_threads_meanwhile(
    make_pool: MakePool, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Slow enough for the shutdown to come before the injector.
    monkeypatch.setattr(_pool, "TICK_S", 0.05)
    pool = make_pool(CORE + 2)
    first = Crowd()
    for _ in range(CORE):
        pool.execute(first.job)
    for _ in range(2):
        pool.execute(crowd.job)
    ended = in_thread(pool.shutdown)
    crowd.wait_inside(2)
    first.let_go()
    first.wait_left(CORE)
    assert not ended.wait(QUIET_S)
    crowd.let_go()
    assert ended.wait(WAIT_S)
    assert crowd.left == 2


def test_shutdown_without_waiting_returns_while_jobs_run(
    make_pool: MakePool, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pool, "RETIRE_S", 0)
    pool = make_pool(1)
    pool.execute(crowd.job)
    crowd.wait_inside(1)
    pool.shutdown(wait=False)
    assert crowd.inside == 1


def test_shutdown_that_cancels_spares_what_runs(
    make_pool: MakePool, crowd: Crowd
) -> None:
    pool = make_pool(1)
    running = pool.submit(crowd.job)
    crowd.wait_inside(1)
    waiting = [pool.submit(crowd.job) for _ in range(3)]
    pool.execute(crowd.job)  # has no future, so it cannot be cancelled
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    crowd.let_go()
    assert running.result(WAIT_S) is None
    crowd.wait_left(2)
    until(lambda: not pool.threads, "the pool has no thread")
    assert crowd.left == 2


def test_pool_as_a_context_manager_waits_for_its_work() -> None:
    with ThreadPool(4) as pool:
        futures = [pool.submit(pow, 2, number) for number in range(50)]
    assert [future.result(0) for future in futures] == [2**n for n in range(50)]
    assert pool.threads == 0


def test_job_accepted_as_the_pool_is_shut_down_runs_and_leaves_no_thread(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1)
    run(pool)
    clock = time.monotonic
    here = threading.current_thread()
    ended = threading.Event()

    def shut_down() -> float:
        # Called by execute(), which has seen by now that the pool is open.
        if threading.current_thread() is here and not ended.is_set():
            ended.set()
            pool.shutdown(wait=False)
        return clock()

    ran = threading.Event()
    monkeypatch.setattr(time, "monotonic", shut_down)
    try:
        pool.execute(ran.set)
    except RuntimeError:
        pass  # as good, since the caller knows
    else:
        assert ran.wait(WAIT_S)
    monkeypatch.undo()
    assert ended.is_set()
    until(lambda: not pool.threads, "the pool has no thread")


def test_thread_that_comes_too_late_for_a_job_waits_for_the_next(
    make_pool: MakePool,
) -> None:
    class Contested(deque[Any]):
        """Jobs of which the first look takes the only one."""

        looks = 0

        def popleft(self) -> Any:
            self.looks += 1
            if self.looks == 1:
                raise IndexError("another thread was quicker")
            return super().popleft()

    pool = make_pool(1)
    jobs = pool._jobs = Contested()
    run(pool)
    assert jobs.looks == 2


# Systems that are out of threads.


@pytest.mark.parametrize(
    "failures",
    [{1}, {2}, {3}, {4}, {1, 2}, {2, 3, 4}, set(range(1, 9))],
    ids=lambda numbers: "start " + " ".join(map(str, sorted(numbers))),
)
def test_thread_that_cannot_be_started_costs_no_more_than_its_own_job(
    failures: set[int],
    make_pool: MakePool,
    crowd: Crowd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    starts = 0

    def start_or_fail(thread: threading.Thread) -> None:
        nonlocal starts
        starts += 1
        if starts in failures:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    pool = make_pool(6)
    accepted = 0
    while accepted < 6:
        try:
            pool.execute(crowd.job)
        except RuntimeError:
            continue  # and it must not run
        accepted += 1
    crowd.wait_inside(6)
    assert pool.threads == 6
    crowd.let_go()
    crowd.wait_left(6)
    pool.shutdown()
    assert crowd.left == 6


def test_job_that_another_thread_took_is_accepted_though_none_can_be_started(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1)
    taken: list[object] = []

    def take_and_fail(thread: threading.Thread) -> None:
        # What a thread would do that was about to end.
        taken.append(pool._next_job(Bell()))
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", take_and_fail)
    pool.execute(job := lambda: None)
    assert taken == [job]


# Many at once.


class Census:
    """Jobs that keep count of each other, by whether they stream."""

    def __init__(self, pool: ThreadPool, jobs: int) -> None:
        self.ran: Counter[int] = Counter()
        self.most = {"quick": 0, "streaming": 0}
        self.complete = threading.Event()
        self._now = Counter[str]()
        self._lock = threading.Lock()
        self._pool = pool
        self._jobs = jobs

    def job(self, number: int) -> None:
        streams = False
        self._enter("quick")
        if number % 7 == 0:
            # No more than the pool knows: what it counts, it counts for longer.
            self._leave("quick")
            streams = self._pool.begin_stream()
            self._enter("streaming" if streams else "quick")
        if number % 5 == 0:
            time.sleep(0)  # gives up the interpreter
        self._leave("streaming" if streams else "quick")
        if streams:
            self._pool.end_stream()
        with self._lock:
            self.ran[number] += 1
            if len(self.ran) == self._jobs:
                self.complete.set()

    def _enter(self, group: str) -> None:
        with self._lock:
            self._now[group] += 1
            self.most[group] = max(self.most[group], self._now[group])

    def _leave(self, group: str) -> None:
        with self._lock:
            self._now[group] -= 1


@pytest.fixture
def hasty_switches() -> Iterator[None]:
    """Have the interpreter change threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty_switches")
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    ("idle", "retires"),
    [
        pytest.param(30, False, id="threads stay"),
        pytest.param(0.0002, False, id="threads end at once"),
        pytest.param(30, True, id="threads are retired"),
    ],
)
def test_jobs_from_many_threads_run_once_each_and_within_the_bound(
    threads: int,
    idle: float,
    retires: bool,
    make_pool: MakePool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_pool, "IDLE_S", idle)
    monkeypatch.setattr(_pool, "RETIRE_S", 0.001)
    pool = make_pool(threads, 2)
    census = Census(pool, 2000)

    def client(first: int) -> None:
        for number in range(first, 2000, 4):
            pool.execute(partial(census.job, number))
            if retires and number % 50 == 0:
                pool.retire()

    done = [in_thread(partial(client, first)) for first in range(4)]
    assert all(event.wait(WAIT_S) for event in done)
    assert census.complete.wait(WAIT_S)
    assert set(census.ran.values()) == {1}
    assert census.most["quick"] <= threads
    assert census.most["streaming"] <= 2


# Fork.


def needs_fork(test: Callable[..., None]) -> Callable[..., None]:
    # What Python 3.12 warns of, a child that uses locks of other threads, is tested.
    test = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")(test)
    skip = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    return cast("Callable[..., None]", skip(test))


def in_child(work: Callable[[], bool]) -> bytes:
    """Do something in a forked child; say how that went."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, b"right" if work() else b"wrong")
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)  # none of the test run's own business is the child's
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], WAIT_S)
        return os.read(reader, 1000) if ready else b"no answer"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)


@needs_fork
def test_pool_in_a_forked_child_starts_its_own_threads(
    make_pool: MakePool, crowd: Crowd
) -> None:
    pool = make_pool(3, 1)
    streamer = Streamer(pool).start()
    for _ in range(3):
        pool.execute(crowd.job)
    crowd.wait_inside(3)
    pool.execute(crowd.job)  # waits, and is the parent's

    def work() -> bool:
        had_none = pool.threads == 0
        inside = threading.Barrier(4)
        for _ in range(3):
            pool.execute(lambda: inside.wait(WAIT_S))
        inside.wait(WAIT_S)
        return had_none and pool.submit(pool.begin_stream).result(WAIT_S)

    assert in_child(work) == b"right"
    assert pool.threads == 4
    streamer.may_end.set()
    crowd.let_go()
    crowd.wait_left(4)


@needs_fork
def test_pool_in_a_child_forked_as_a_thread_is_started_is_not_locked(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(2)
    start = threading.Thread.start
    answers: list[bytes] = []

    def fork_and_start(thread: threading.Thread) -> None:
        monkeypatch.undo()
        answers.append(in_child(lambda: pool.submit(pow, 2, 3).result(WAIT_S) == 8))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fork_and_start)
    run(pool)
    assert answers == [b"right"]


@pytest.mark.parametrize("forks", [True, False], ids=["fork", "no fork"])
def test_module_on_any_system_cares_for_forks_if_there_are_any(
    forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks: list[Callable[[], object]] = []

    def register(*, after_in_child: Callable[[], object]) -> None:
        hooks.append(after_in_child)

    if forks:
        monkeypatch.setattr(os, "register_at_fork", register, raising=False)
    else:
        monkeypatch.delattr(os, "register_at_fork", raising=False)
    module: dict[str, Any] = runpy.run_path(str(_pool.__file__))
    with module["ThreadPool"](1) as pool:
        for hook in hooks:
            hook()
        assert pool.submit(pow, 2, 3).result(WAIT_S) == 8
    assert len(hooks) == forks


# Dedicated threads.


def test_dedicated_threads_run_each_job_in_its_own_up_to_the_bound(
    crowd: Crowd,
) -> None:
    threads = DedicatedThreads(3)
    for _ in range(3):
        threads.execute(crowd.job)
    with pytest.raises(RuntimeError, match="3 dedicated threads run already"):
        threads.execute(crowd.job)
    crowd.wait_inside(3)
    assert threads.running == 3
    crowd.let_go()
    until(lambda: threads.running == 0, "all jobs have ended")
    threads.execute(lambda: None)
    until(lambda: threads.running == 0, "the job has ended")


def test_dedicated_thread_that_is_detached_makes_room(crowd: Crowd) -> None:
    threads = DedicatedThreads(1)

    def leave() -> None:
        threads.detach(threading.get_ident())
        crowd.job()

    threads.execute(leave)
    crowd.wait_inside(1)
    assert threads.running == 0
    threads.execute(crowd.job)
    crowd.wait_inside(2)
    assert threads.running == 1
    crowd.let_go()
    until(lambda: threads.running == 0, "the other job has ended")
    assert crowd.left == 2


def test_dedicated_thread_that_cannot_be_had_leaves_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = DedicatedThreads(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="can't start"):
            threads.execute(list)
    threads.execute(list)
    until(lambda: threads.running == 0, "the job has ended")


def test_dedicated_thread_logs_what_a_job_raises_and_is_free_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> NoReturn:
        raise SystemExit("lost")

    threads = DedicatedThreads(1)
    threads.execute(fail)
    until(lambda: threads.running == 0, "the job has ended")
    assert "a job of a dedicated thread failed" in caplog.text


@needs_fork
def test_dedicated_threads_in_a_forked_child_are_none(crowd: Crowd) -> None:
    threads, places = DedicatedThreads(1), Places(1)
    threads.execute(crowd.job)
    assert places.take()
    crowd.wait_inside(1)

    def are_free() -> bool:
        threads.execute(list)  # else it raises
        return places.take()

    assert in_child(are_free) == b"right"
    assert threads.running == places.taken == 1
    crowd.let_go()
    until(lambda: threads.running == 0, "the job has ended")


# What stands in for threads.


@pytest.mark.parametrize(
    ("library", "patched", "listed", "remedy"),
    [
        pytest.param(
            GEVENT,
            ("_thread", "threading", "time", "socket"),
            "gevent has patched threading, socket, time;",
            r"by gevent\.monkey\.patch_all\(thread=False, .*, signal=False\)$",
            id="gevent",
        ),
        pytest.param(
            EVENTLET,
            ("thread", "os"),
            "eventlet has patched thread, os;",
            r"by eventlet\.monkey_patch\(thread=False\)$",
            id="eventlet",
        ),
    ],
)
def test_threads_that_a_library_stands_in_for_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    library: tuple[str, str],
    patched: tuple[str, ...],
    listed: str,
    remedy: str,
) -> None:
    stand_in(monkeypatch, *library, *patched)
    with pytest.raises(RuntimeError, match=f"^{listed} with its threads.*{remedy}"):
        check_threads()


@pytest.mark.parametrize(
    ("library", "patched"),
    [
        pytest.param(GEVENT, ("socket", "select", "time"), id="gevent's other patches"),
        pytest.param(EVENTLET, ("os", "time", "socket"), id="eventlet's other patches"),
        pytest.param(("gevent.monkey", "something_else"), (), id="of another version"),
    ],
)
def test_threads_that_are_the_systems_are_taken(
    monkeypatch: pytest.MonkeyPatch, library: tuple[str, str], patched: tuple[str, ...]
) -> None:
    stand_in(monkeypatch, *library, *patched)
    check_threads()


def test_places_are_taken_up_to_the_bound() -> None:
    places = Places(2)
    assert [places.take() for _ in range(3)] == [True, True, False]
    assert places.full
    places.give_back()
    assert (places.full, places.taken) == (False, 1)
    assert places.take()


# Garbage, which any thread may have to collect at any time: a coroutine that was thrown
# away with its loop gives back what it has taken.


class Interrupted(Places):
    """Has one given back by the thread that is just taking another."""

    @property
    def full(self) -> bool:
        if self.taken:
            self.give_back()
        return super().full


def test_place_is_given_back_by_the_thread_that_takes_one() -> None:
    places = Interrupted(1)
    places.take()
    assert_ends(places.take)
    assert places.taken == 1


def test_guard_is_entered_once_more_by_the_thread_that_holds_it() -> None:
    guard = Guard()

    def enter_twice() -> None:
        with guard, guard:
            pass

    assert_ends(enter_twice)
