"""Threads, contexts and loops."""

import asyncio
import contextvars
import decimal
import gc
import os
import re
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from conformance.adapters import SERIAL, TWO_THREADS
from conformance.apps import Body, answering, begin, hello, reading
from conformance.bench import Bench, Served
from conformance.checking import NotOffered, check, expect, expect_equal, fail
from conformance.checks.messages import lifespan
from conformance.exchanges import (
    STREAMED,
    HttpExchange,
    LifespanExchange,
    http_scope,
)
from conformance.gate import Gate, Hold, come_to_rest
from conformance.server import Exchange, Message
from conformance.timing import EXCHANGE_S, HAPPENS_S, PATIENCE

Chunks = Iterable[bytes]

# Within this, an adapter that listens for the client's leaving has heard of it.
_NOTICING_S = 0.4 * PATIENCE
# Turns of the loop that show it is not blocked.
_TURNS = 20


def _loop_turns(bench: Bench) -> bool:
    """See, from an application's thread, that the loop goes on."""
    return all(bench.loop.turn() for _ in range(_TURNS))


def _loop_thread(bench: Bench) -> int:
    async def ident() -> int:
        return threading.get_ident()

    return bench.loop.run(ident())


@check("ASGI-HTTP-threads-01")
def another_thread(bench: Bench) -> None:
    """The application runs in another thread than the event loop."""
    threads: list[int] = []
    bench.request(reading(lambda environ: threads.append(threading.get_ident())))
    expect(threads[0] != _loop_thread(bench), "it runs in the event loop's thread")


@check("ASGI-HTTP-threads-02")
def loop_goes_on_during_the_call(bench: Bench) -> None:
    """The event loop goes on while the application's call blocks."""
    seen: list[bool] = []
    bench.attempt(reading(lambda environ: seen.append(_loop_turns(bench))))
    expect(seen == [True], "the loop stood still during the call")


@check("ASGI-HTTP-threads-03")
def loop_goes_on_during_the_body(bench: Bench) -> None:
    """The event loop goes on while the body's next step or its close() blocks."""
    seen: dict[str, bool] = {}

    def chunks() -> Iterator[bytes]:
        yield b"a"
        seen["next()"] = _loop_turns(bench)
        yield b"b"

    def on_close() -> None:
        seen["close()"] = _loop_turns(bench)

    body = Body(chunks(), on_close=on_close)
    bench.attempt(answering(body))
    for step, went_on in seen.items():
        expect(went_on, f"the loop stood still during {step}")
    expect("next()" in seen, "the body was not taken")
    same = _loop_thread(bench) in body.threads
    expect(not same, "the body was used in the event loop's thread")


# Context variables.

_CITY: contextvars.ContextVar[str] = contextvars.ContextVar("city", default="none")


@check("PRACTICE-context-01")
def context_of_the_caller(bench: Bench) -> None:
    """The application sees the context variables of whoever called the adapter."""
    seen: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        seen.append(_CITY.get())
        begin(start_response)
        yield b"a"
        seen.append(_CITY.get())

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        seen.append(_CITY.get())
        return app(environ, start_response)

    token = _CITY.set("Oslo")
    try:
        bench.request(call)
    finally:
        _CITY.reset(token)
    expect_equal(seen, ["Oslo"] * 3, "the variable in call and generator")


@check("PRACTICE-context-02")
def context_of_one_request(bench: Bench) -> None:
    """Call, iteration and close() of one request share one context."""
    seen: list[str] = []
    tokens: list[contextvars.Token[str]] = []
    raised: list[Exception] = []

    def chunks() -> Iterator[bytes]:
        seen.append(_CITY.get())
        tokens.append(_CITY.set("set in iteration"))
        yield b"a"
        yield b"b"

    def on_close() -> None:
        seen.append(_CITY.get())
        try:
            _CITY.reset(tokens[0])
        except ValueError as error:
            raised.append(error)

    body = Body(chunks(), on_close=on_close)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        _CITY.set("set in the call")
        begin(start_response)
        return body

    bench.request(app)
    # Whether close() is called is for other checks.
    wanted = ["set in the call", "set in iteration"][: len(seen)]
    expect_equal(seen, wanted, "the variable in iteration and close()")
    expect(not raised, f"reset() in close() raised {raised}")


def _visitors(seen: list[str]) -> Any:
    """Make an application that leaves a mark in its context."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        seen.append(_CITY.get())
        _CITY.set(f"set for {environ['PATH_INFO']}")
        begin(start_response)
        yield b"a"
        yield b"b"

    return app


@check("PRACTICE-context-03")
def context_of_the_next_request(bench: Bench) -> None:
    """What one request sets in its context, the next does not see."""
    seen: list[str] = []
    served = bench.serve(_visitors(seen))
    for number in range(30):
        served.request(path=f"/{number}")
    found = [value for value in seen if value != "none"]
    expect(not found, f"{len(found)} of 30 requests found what others had {found[:1]}")


@check("PRACTICE-context-04")
def context_of_a_kept_connection(bench: Bench) -> None:
    """A request that the server starts inside send() sees nothing of the last one."""
    seen: list[str] = []
    served = bench.serve(_visitors(seen))
    following: list[HttpExchange] = []
    first = HttpExchange(path="/1")

    def start_next(message: Message) -> None:
        # As servers do: the next request's task is made while the last message of
        # this one is sent, and so with a copy of the context of that moment.
        if message["type"] == "http.response.body" and not message.get("more_body"):
            following.append(HttpExchange(path="/2"))
            loop = bench.loop.loop
            loop.start(following[0].run(served.adapter, loop))

    first.on_send = start_next
    served.request(first)
    expect(following, "the response was not completed")
    bench.exchanges.append(following[0])
    served.finish(following[0])
    second = following[0]
    expect(second.complete, f"the second request brought {second.outcome()}")
    expect(seen == ["none"] * 2, f"the second request found what was {seen[1:]}")


@check("PRACTICE-context-06")
def decimal_context_of_the_next_request(bench: Bench) -> None:
    """What one request changes in the decimal context, the next does not find."""
    seen: list[int] = []

    def use(environ: WSGIEnvironment) -> None:
        seen.append(decimal.getcontext().prec)
        decimal.getcontext().prec = 3

    served = bench.serve(reading(use))
    with decimal.localcontext(decimal.Context(prec=7)):
        for _ in range(5):
            served.request()
        seen.append(decimal.getcontext().prec)
    expect(3 not in seen, f"digits found by five requests and the caller: {seen}")


@check("PRACTICE-context-07")
def decimal_context_of_one_request(bench: Bench) -> None:
    """Each request calculates in a decimal context of its own, a copy of the loop's."""
    coarse, over = Gate(), Gate()
    seen: dict[str, int] = {}

    def use(environ: WSGIEnvironment) -> None:
        context = decimal.getcontext()
        seen[environ["PATH_INFO"]] = context.prec
        if environ["PATH_INFO"] == "/coarse":
            context.prec = 3
            coarse.open()
            over.wait()

    served = bench.serve(reading(use))
    with decimal.localcontext(decimal.Context(prec=17)):
        first = served.start(HttpExchange(path="/coarse"))
        coarse.wait()
        served.attempt(path="/beside")
    over.open()
    served.finish(first)
    expect_equal(seen.get("/coarse"), 17, "the precision that the caller has set")
    expect_equal(seen.get("/beside"), 17, "the precision beside a request with 3")


# Threads.


@check("PRACTICE-threads-01")
def thread_of_one_request(bench: Bench) -> None:
    """Call, iteration and close() of one request run in one thread."""
    body = Body([b"a", b"b", b"c"])

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        body.threads.add(threading.get_ident())
        begin(start_response)
        return body

    bench.request(app)
    expect_equal(len(body.threads), 1, "the count of threads that were used")


def _blocking(meeting: threading.Barrier) -> Any:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin(start_response)
        try:
            meeting.wait(HAPPENS_S)
        except threading.BrokenBarrierError:
            return [b"alone"]
        return [b"together"]

    return app


@check("PRACTICE-threads-02")
def two_requests_at_once(bench: Bench) -> None:
    """Two requests that block run at the same time."""
    served = bench.serve(_blocking(threading.Barrier(2)))
    exchanges = [served.start(HttpExchange()) for _ in range(2)]
    for exchange in exchanges:
        served.finish(exchange)
        together = exchange.body == b"together"
        expect(together, "one of two requests that block waited for the other")


@check("PRACTICE-threads-04")
def four_requests_at_once(bench: Bench) -> None:
    """Four requests that block run at the same time, without being asked to."""
    served = bench.serve(_blocking(threading.Barrier(4)))
    exchanges = [served.start(HttpExchange()) for _ in range(4)]
    for exchange in exchanges:
        served.finish(exchange)
    alone = sum(exchange.body != b"together" for exchange in exchanges)
    expect(not alone, f"{alone} of 4 requests that block did not meet the others")


@check("PEP3333-threads-01")
def multithread(bench: Bench) -> None:
    """wsgi.multithread is true if requests can overlap."""
    flags: list[object] = []
    meet = _blocking(threading.Barrier(2))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        flags.append(environ["wsgi.multithread"])
        chunks: Chunks = meet(environ, start_response)
        return chunks

    served = bench.serve(app)
    exchanges = [served.start(HttpExchange()) for _ in range(2)]
    for exchange in exchanges:
        served.finish(exchange)
    overlap = any(exchange.body == b"together" for exchange in exchanges)
    expect(all(flags) or not overlap, f"requests overlap, and it is {flags[0]!r}")


@check("PEP3333-threads-02")
def one_request_at_a_time(bench: Bench) -> None:
    """An adapter that is told so runs one request at a time, and says that it does."""
    running: list[int] = []
    most: list[int] = []
    flags: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        flags.append(environ["wsgi.multithread"])
        running.append(1)
        most.append(len(running))
        begin(start_response)
        yield b"a"
        time.sleep(0.002)
        most.append(len(running))
        yield b"b"
        running.pop()

    served = bench.serve(app, SERIAL)
    exchanges = [served.start(HttpExchange()) for _ in range(8)]
    for exchange in exchanges:
        served.finish(exchange)
    expect_equal(max(most), 1, "the count of requests that ran at once")
    expect(not any(flags), f"wsgi.multithread is {flags[0]!r}, expected false")


@check("PRACTICE-threads-03")
def size_of_the_pool(bench: Bench) -> None:
    """The count of requests that run at once can be set."""
    enough, most = Gate(), [0]
    lock = threading.Lock()
    running = 0

    def use(environ: WSGIEnvironment) -> None:
        nonlocal running
        with lock:
            running += 1
            most.append(running)
        enough.wait(HAPPENS_S)
        with lock:
            running -= 1

    served = bench.serve(reading(use), TWO_THREADS)
    exchanges = [served.start(HttpExchange()) for _ in range(6)]
    come_to_rest(lambda: max(most))
    enough.open()
    for exchange in exchanges:
        served.finish(exchange)
    expect_equal(max(most), 2, "the count of requests that ran at once")


@check("PRACTICE-cancel-03")
def cancelled_before_the_call(bench: Bench) -> None:
    """A request that is cancelled while it waits for a thread is never started."""
    first_in, first_may_end = Gate(), Gate()
    called: list[str] = []

    def use(environ: WSGIEnvironment) -> None:
        called.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/1":
            first_in.open()
            first_may_end.wait()

    served = bench.serve(reading(use), SERIAL)
    first = served.start(HttpExchange(path="/1"))
    first_in.wait()
    second = served.start(HttpExchange(path="/2"))
    bench.settle()
    second.cancel()
    bench.settle()
    first_may_end.open()
    served.finish(first)
    served.finish(second)
    served.request(path="/3")
    expect_equal(called, ["/1", "/3"], "the requests that were called")


@check("PRACTICE-loops-02")
def loop_of_the_application(bench: Bench) -> None:
    """The application can run an event loop of its own."""
    results: list[object] = []

    async def work() -> str:
        await asyncio.sleep(0)
        return "worked"

    def use(environ: WSGIEnvironment) -> None:
        try:
            asyncio.get_running_loop()
            results.append("a loop is running in the application's thread")
        except RuntimeError:
            results.append(asyncio.run(work()))

    bench.request(reading(use))
    expect_equal(results, ["worked"], "what asyncio.run() gave")


def _asgiref() -> Any:
    try:
        return import_module("asgiref.sync")
    except ImportError:
        raise NotOffered("asgiref is not installed") from None


@check("PRACTICE-asgiref-01")
def async_to_sync(bench: Bench) -> None:
    """The async_to_sync of asgiref works in the application and in its generator."""
    sync = _asgiref()
    results: list[str] = []

    async def work() -> str:
        await asyncio.sleep(0)
        return "worked"

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        begin(start_response)
        yield b"a"
        results.append(sync.async_to_sync(work)())
        yield b"b"

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        results.append(sync.async_to_sync(work)())
        return app(environ, start_response)

    bench.request(call)
    expect_equal(results, ["worked", "worked"], "the results")


@check("PRACTICE-asgiref-02")
def thread_sensitive_code(bench: Bench) -> None:
    """Thread-sensitive code under async_to_sync runs in the application's thread."""
    sync = _asgiref()
    threads: list[int] = []

    async def work() -> None:
        ask = sync.sync_to_async(threading.get_ident, thread_sensitive=True)
        threads.append(await ask())

    def use(environ: WSGIEnvironment) -> None:
        threads.append(threading.get_ident())
        sync.async_to_sync(work)()

    bench.request(reading(use))
    expect_equal(len(set(threads)), 1, "the count of threads that were used")


@check("PRACTICE-asgiref-03")
def begun_work_of_a_post(bench: Bench) -> None:
    """A coroutine that a POST waits for is not cancelled when the client leaves."""
    sync = _asgiref()
    begun, may_end = Gate(), Gate()
    results: list[str] = []

    async def work() -> None:
        loop, ending = asyncio.get_running_loop(), asyncio.Event()
        may_end.on_open(lambda: loop.call_soon_threadsafe(ending.set))
        begun.open()
        try:
            await ending.wait()
        except asyncio.CancelledError:
            results.append("cancelled")
            raise
        results.append("done")

    served = bench.serve(reading(lambda environ: sync.async_to_sync(work)()))
    exchange = served.start(HttpExchange(body=b"an order"))
    expect(begun.wait(), f"the application was not called: {exchange.progress()}")
    exchange.left.open()
    Gate().wait(_NOTICING_S)
    may_end.open()
    served.finish(exchange)
    expect_equal(results, ["done"], "what became of the work")


# Many requests.


def _start_many(served: Served, count: int) -> list[HttpExchange]:
    return [served.start(HttpExchange()) for _ in range(count)]


def _finish_all(served: Served, exchanges: Iterable[Exchange], within: float) -> None:
    deadline = time.monotonic() + within
    for exchange in exchanges:
        served.finish(exchange, max(0.1, deadline - time.monotonic()))


@check("PRACTICE-load-01")
def many_blocking_requests(bench: Bench) -> None:
    """80 requests that block, more than there are threads, are all answered."""

    def use(environ: WSGIEnvironment) -> None:
        time.sleep(0.01)

    served = bench.serve(reading(use))
    exchanges = _start_many(served, 80)
    _finish_all(served, exchanges, EXCHANGE_S * 2)
    answered = sum(exchange.body == b"hello" for exchange in exchanges)
    expect_equal(answered, 80, "the count of requests that were answered")


@check("PRACTICE-load-02", limit=EXCHANGE_S * 6)
def many_streams_both_ways(bench: Bench) -> None:
    """60 uploads that are echoed as they come do not dead-lock each other."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        begin(start_response)
        while byte := environ["wsgi.input"].read(1):
            yield byte

    def conversation() -> HttpExchange:
        gate = Gate()
        exchange = HttpExchange(body=[b"a", Hold(gate), b"b"], framing=STREAMED)
        exchange.when(lambda: exchange.body == b"a").on_open(gate.open)
        return exchange

    served = bench.serve_streaming(app)
    exchanges = [served.start(conversation()) for _ in range(60)]
    _finish_all(served, exchanges, EXCHANGE_S * 4)
    wrong = [exchange for exchange in exchanges if exchange.body != b"ab"]
    if wrong:
        fail(f"{len(wrong)} of 60 were not echoed; the first: {wrong[0].outcome()}")


@check("PRACTICE-load-03")
def streams_beside_quick_requests(bench: Bench) -> None:
    """A quick request is answered while 60 streams are open."""
    over = Gate()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        begin(start_response)
        yield b"a"
        if environ["PATH_INFO"] == "/stream":
            over.wait(EXCHANGE_S * 2)

    served = bench.serve(app)
    streams = [served.start(HttpExchange(path="/stream")) for _ in range(60)]
    come_to_rest(lambda: sum(len(stream.messages) for stream in streams))
    quick = served.start(HttpExchange())
    answered = quick.returned.wait()
    over.open()
    open_streams = sum(bool(stream.messages) for stream in streams)
    expect(answered, f"no answer within 1 s; {open_streams} of 60 streams had begun")
    _finish_all(served, streams, EXCHANGE_S)


@check("PRACTICE-load-04")
def default_executor(bench: Bench) -> None:
    """Requests that block leave the event loop's own executor to others."""
    over = Gate()
    served = bench.serve(reading(lambda environ: over.wait(EXCHANGE_S)))
    exchanges = _start_many(served, 60)
    bench.settle()
    elsewhere = Gate()
    bench.loop.spawn(bench.loop.loop.in_thread(elsewhere.open))
    free = elsewhere.wait()
    over.open()
    _finish_all(served, exchanges, EXCHANGE_S)
    threads = bench.loop.loop.threads
    expect(free, f"with 60 requests that block, {threads} got no thread")


def _expect_survival(bench: Bench, end: Callable[[HttpExchange], object]) -> None:
    """Let 45 clients leave their streams, each in the same way, and go on."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        begin(start_response)
        yield b"a"
        if environ["PATH_INFO"] == "/stream":
            # Slowly, so that streams that nobody stops leave others a processor.
            while not over.wait(0.02):
                yield b"a"

    over = Gate()
    served = bench.serve(app)
    streams = [served.start(HttpExchange(path="/stream")) for _ in range(45)]
    come_to_rest(lambda: sum(bool(stream.messages) for stream in streams))
    for stream in streams:
        end(stream)
    come_to_rest(lambda: sum(stream.returned.is_open for stream in streams))
    quick = served.start(HttpExchange())
    answered = quick.returned.wait()
    running = sum(not stream.returned.is_open for stream in streams)
    over.open()
    for stream in streams:
        stream.left.open()
    expect(
        answered,
        f"after 45 clients had left, a request was not answered within 1 s; {running} "
        f"of their streams were still running",
    )


@check("PRACTICE-survival-01")
def survives_clients_that_leave(bench: Bench) -> None:
    """After 45 clients have left their streams, the adapter serves the next."""
    _expect_survival(bench, lambda stream: stream.left.open())


@check("PRACTICE-survival-02")
def survives_failing_sends(bench: Bench) -> None:
    """After send() has failed for 45 streams, the adapter serves the next request."""
    gone = OSError("the client has left")
    _expect_survival(bench, lambda stream: stream.fail_sends(1, gone))


@check("PRACTICE-survival-03")
def survives_cancellation(bench: Bench) -> None:
    """After 45 streams were cancelled, the adapter serves the next request."""
    _expect_survival(bench, lambda stream: stream.cancel())


# The end.

_SERVED = """
import sys
from conformance.adapters import import_target
from conformance.apps import answering
from conformance.exchanges import HttpExchange
from conformance.loops import find_loop

async def live(loop):
    adapter = import_target(sys.argv[1])(answering([b"a", b"b"]))
    for _ in range(5):
        exchange = HttpExchange(body=b"hello")
        await exchange.run(adapter, loop)
        assert exchange.complete, exchange.outcome()
    await loop.end_tasks()

find_loop(sys.argv[2]).run(live)
"""

# The loop is stopped as it stands, as servers do that are in a hurry.
_STREAMING = """
import sys
from conformance.adapters import import_target
from conformance.apps import Body, answering, endless
from conformance.exchanges import HttpExchange
from conformance.gate import come_to_rest
from conformance.loops import find_loop

body = Body(endless(b"x" * 100_000))

async def live(loop):
    adapter = import_target(sys.argv[1])(answering(body))
    exchange = HttpExchange()
    exchange.stall_send(3)
    loop.start(exchange.run(adapter, loop))
    await loop.first_open(exchange.sent(3))
    await loop.in_thread(lambda: come_to_rest(lambda: body.taken))

find_loop(sys.argv[2]).run(live)
"""

# An application that is called by then goes on when its loop is over.
_OUTLIVING = """
import sys, threading
from conformance.adapters import import_target
from conformance.apps import begin
from conformance.exchanges import HttpExchange
from conformance.gate import Gate, come_to_rest
from conformance.loops import find_loop
from conformance.timing import EXCHANGE_S

inside, over = Gate(), Gate()

def app(environ, start_response):
    inside.open()
    over.wait(EXCHANGE_S)
    begin(start_response)
    return [b"late"]

async def live(loop):
    adapter = import_target(sys.argv[1])(app)
    exchange = HttpExchange()
    loop.start(exchange.run(adapter, loop))
    await loop.first_open(inside)
    exchange.cancel()
    await loop.first_open(exchange.returned)
    await loop.end_tasks()

find_loop(sys.argv[2]).run(live)
over.open()
come_to_rest(threading.active_count)
"""


def _ended_process(bench: Bench, script: str) -> "subprocess.CompletedProcess[str]":
    """Run a script in a process of its own, which must end by itself."""
    path = os.pathsep.join(place or os.getcwd() for place in sys.path)
    try:
        return subprocess.run(
            [
                sys.executable,
                "-W",
                "ignore",
                "-c",
                script,
                bench.target,
                bench.loop.kind,
            ],
            capture_output=True,
            text=True,
            timeout=EXCHANGE_S * 2,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        fail(f"the process had not ended after {EXCHANGE_S * 2:g} s")


def _expect_silence(ended: "subprocess.CompletedProcess[str]") -> None:
    lines = (ended.stderr + ended.stdout).splitlines()
    words = [line.strip() for line in lines if re.search(r"\w", line)]
    expect(ended.returncode == 0 and not words, f"it ended with {words[-1:]}")


@check("PRACTICE-exit-01")
def process_exits(bench: Bench) -> None:
    """A process that has served requests exits promptly, and says nothing."""
    _expect_silence(_ended_process(bench, _SERVED))


@check("PRACTICE-exit-01")
def process_exits_after_a_late_answer(bench: Bench) -> None:
    """A process says nothing of an application that has outlived its event loop."""
    _expect_silence(_ended_process(bench, _OUTLIVING))


@check("PRACTICE-exit-02")
def process_exits_while_streaming(bench: Bench) -> None:
    """A process whose loop ends in the middle of a stream exits all the same."""
    _ended_process(bench, _STREAMING)


@check("ASGI-LIFESPAN-shutdown-01")
def shutdown_releases_threads(bench: Bench) -> None:
    """After the lifespan's shutdown, the adapter's threads are gone."""
    before = set(threading.enumerate())
    served, exchange = lifespan(bench)
    for _ in range(3):
        served.request()
    exchange.stopping.open()
    served.finish(exchange)
    left: set[threading.Thread] = set()
    for _ in range(20):
        left = {t for t in threading.enumerate() if t not in before and t.is_alive()}
        for thread in left:
            thread.join(HAPPENS_S / 20)
    expect(not left, f"still alive: {', '.join(sorted(t.name for t in left))}")


@check("ASGI-LIFESPAN-shutdown-02")
def second_life(bench: Bench) -> None:
    """After a shutdown, an adapter can be started again, on another loop."""
    served, exchange = lifespan(bench)
    for turn in (1, 2):
        body = served.request().body
        expect_equal(body, b"hello", f"the body in life {turn}")
        exchange.stopping.open()
        served.finish(exchange)
        if turn == 1:
            bench.renew_loop()
            exchange = served.start(LifespanExchange())
            exchange.sent(1).wait()
            wanted = ["lifespan.startup.complete"]
            expect_equal(exchange.answers, wanted, "the answer at the second start")


class _Token:
    """Something that an application puts in its environ."""


@check("PRACTICE-memory-01")
def nothing_is_kept(bench: Bench) -> None:
    """Nothing of a request is kept alive after it."""
    kept: list[weakref.ref[Any]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        token = environ["x.token"] = _Token()
        body = Body([b"a", b"b"])
        kept.extend((weakref.ref(token), weakref.ref(body)))
        begin(start_response)
        return body

    served = bench.serve(app)
    served.request()
    for _ in range(20):
        gc.collect()
        alive = [ref for ref in kept if ref() is not None]
        if not alive:
            return
        Gate().wait(HAPPENS_S / 20)
    kinds = [type(ref()).__name__.strip("_") for ref in kept if ref() is not None]
    fail(f"still alive 1 s after the request: {' and '.join(kinds)}")


# Other loops.


@check("PRACTICE-trio-01")
def trio(bench: Bench) -> None:
    """The adapter runs on trio."""
    try:
        library = import_module("trio")
    except ImportError:
        raise NotOffered("trio is not installed") from None
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    async def live() -> None:
        with library.fail_after(HAPPENS_S):
            await bench.serve(hello).adapter(http_scope(), receive, send)

    try:
        library.run(live)
    except Exception as error:
        if not sent:
            raise NotOffered(f"on trio it raises {error!r}") from None
        fail(f"on trio it raised {error!r} after {len(sent)} messages")
    body = b"".join(message.get("body", b"") for message in sent)
    expect_equal(body, b"hello", "the response on trio")
