"""What one request is made of, each part by itself, in microseconds.

The other commands say how many requests there are in a second, and this one why.
Its numbers are no ratios and so depend on the machine, and on how busy that is.

A hop costs more than the instructions it takes: to wake a thread that sleeps on
another processor lasts tens of microseconds, and what one thread has written the
other must fetch. So the hops are measured once more with all threads on one
processor, where neither is so.
"""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from statistics import median
from typing import Any

from benchmarks.applications import HELLO, application
from benchmarks.bodies import PIECE_BYTES
from benchmarks.cases import CASES, make_scope
from benchmarks.client import Client, run_round
from benchmarks.contenders import OURS, find_contender, make_app
from benchmarks.environs import count_environs, make_builder
from benchmarks.worker import loop_factory
from wsgi_asgi import Limits, WsgiToAsgi
from wsgi_asgi._input import BodyReader, BodyStream
from wsgi_asgi._pool import Bell
from wsgi_asgi._response import Response

__all__ = ["show_parts"]

ROUNDS = 9
ROUND_S = 0.2
LOOPS = ("asyncio", "uvloop")
CASE = next(case for case in CASES if case.name == "trivial-32")


DONE: Future[None] = Future()
DONE.set_result(None)


class Inline(Executor):
    """Runs work at once, in the thread that brings it."""

    def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run it."""
        work(*args, **kwargs)
        return DONE


def show_parts(*, rounds: int = ROUNDS, round_s: float = ROUND_S) -> str:
    """Measure the parts, and give them as a table: medians of some rounds."""
    lines = ["| microseconds | asyncio | uvloop |", "| --- | ---: | ---: |"]
    anywhere = os.sched_getaffinity(0)
    one = {min(anywhere)}
    for name, make, processors in (
        ("the client alone", lambda: _limit("no hop"), anywhere),
        ("bare hop", lambda: _limit("bare hop"), anywhere),
        ("bare hop, all on one processor", lambda: _limit("bare hop"), one),
        (f"{OURS}, without a thread", lambda: _ours(executor=Inline()), anywhere),
        (OURS, _ours, anywhere),
        (f"{OURS}, all on one processor", _ours, one),
    ):
        with _only_on(processors):
            times = [_request(make, loop, rounds, round_s) for loop in LOOPS]
        lines.append(_row(f"a request, {name}", *times))
    for name, measure, processors in (
        ("an environ", _environ, anywhere),
        ("a response, from start_response() to messages", _responses, anywhere),
        ("to wake a thread, and to be woken by it", _wake_ups, anywhere),
        ("the same, both on one processor", _wake_ups, one),
        ("to read 64 KiB from `wsgi.input`", _reads, anywhere),
    ):
        with _only_on(processors):
            times = [measure(round_s) for _ in range(rounds)]
        lines.append(_row(name, median(times)))
    return "\n".join(lines) + "\n"


def _limit(name: str) -> Any:
    return make_app(find_contender(name), application(CASE.application))


def _ours(**options: Any) -> Any:
    return WsgiToAsgi(application(CASE.application).load(), **options)


@contextmanager
def _only_on(processors: set[int]) -> Iterator[None]:
    """Keep this thread, and those that it starts meanwhile, on some processors."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _row(name: str, *cells: float) -> str:
    values = [f"{cell:.1f}" for cell in cells]
    return f"| {name} | {' | '.join(values + [''] * (2 - len(values)))} |"


def _request(make: Callable[[], Any], loop: str, rounds: int, round_s: float) -> float:
    app = make()
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        client = Client(app, CASE)
        times = []
        for _ in range(rounds + 1):  # the first one warms up
            count, seconds = runner.run(run_round(client, CASE.at_a_time, round_s))
            times.append(seconds / count * 1e6)
            gc.collect()
            gc.freeze()  # as in the other commands, see `worker`
    if isinstance(app, WsgiToAsgi):
        app.executor.shutdown()  # else its threads would stay for a while
    gc.unfreeze()
    return median(times[1:])


def _environ(round_s: float) -> float:
    count, seconds = count_environs(make_builder(OURS), make_scope(CASE), round_s)
    return seconds / count * 1e6


def _responses(round_s: float) -> float:
    headers = [("Content-Type", "text/plain"), ("Content-Length", f"{len(HELLO)}")]

    buffer = Limits().buffer

    def once() -> None:
        response = Response("application", "GET")
        response.start("200 OK", headers)
        response.whole([HELLO], buffer)

    return _mean(once, round_s)


def _wake_ups(round_s: float) -> float:
    there, back = Bell(), Bell()
    over = False

    def answer() -> None:
        while there.wait() and not over:
            back.ring()

    thread = threading.Thread(target=answer)
    thread.start()

    def once() -> None:
        there.ring()
        back.wait()

    result = _mean(once, round_s)
    over = True
    there.ring()
    thread.join()
    return result


def _reads(round_s: float) -> float:
    piece = bytes(PIECE_BYTES)
    stream = BodyReader(BodyStream(lambda: piece))
    return _mean(lambda: stream.read(PIECE_BYTES), round_s)


def _mean(call: Callable[[], object], round_s: float) -> float:
    count = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < round_s or not count:
        call()
        count += 1
    return elapsed / count * 1e6
