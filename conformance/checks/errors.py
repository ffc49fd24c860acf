"""Errors of the application, of close() and of the server."""

import gc
import logging
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from conformance.apps import Body, answering, begin, hello, raising, reading
from conformance.bench import Bench
from conformance.checking import check, expect, expect_equal
from conformance.exchanges import STREAMED, HttpExchange, request_part

Chunks = Iterable[bytes]


class Planned(Exception):
    """What applications raise here."""


def raising_late(error: BaseException, chunks: int = 1) -> Any:
    """Make an application that fails after some chunks."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        begin(start_response)
        for _ in range(chunks):
            yield b"some"
        raise error

    return app


@check("PEP3333-errors-02")
def error_before_start_response(bench: Bench) -> None:
    """An error before start_response() is raised, or answered with a 5xx."""
    exchange = bench.attempt(raising(Planned()))
    expect(exchange.failed, f"there was {exchange.outcome()}")
    expect(exchange.status in (None, 500), f"the status is {exchange.status}")


@check("ASGI-MAIN-errors-01")
def error_itself(bench: Bench) -> None:
    """The application's own exception comes out, with the application's traceback."""
    error = Planned()
    exchange = bench.attempt(raising(error))
    expect(exchange.error is error, f"the adapter raised {exchange.error!r}")
    places = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    known = any(place.endswith("apps.py") for place in places)
    expect(known, "its traceback does not lead into the application")


@check("PEP3333-errors-03")
def error_after_start_response(bench: Bench) -> None:
    """After an error before any output, the status that was announced is not sent."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin(start_response)
        raise Planned

    exchange = bench.attempt(app)
    expect(exchange.failed, f"there was {exchange.outcome()}")
    expect(exchange.status != 200, "the status 200 was sent")


@check("PEP3333-errors-04")
def error_in_the_first_step(bench: Bench) -> None:
    """After an error in the body's first step, the announced status is not sent."""
    exchange = bench.attempt(raising_late(Planned(), chunks=0))
    expect(exchange.failed, f"there was {exchange.outcome()}")
    expect(exchange.status != 200, "the status 200 was sent")


@check("PEP3333-errors-05")
def error_after_output(bench: Bench) -> None:
    """After an error that follows output, the response is visibly unfinished."""
    exchange = bench.attempt(raising_late(Planned()))
    expect(not exchange.complete, "the response was completed as if nothing had been")
    expect(exchange.error is not None, "the adapter returned as if nothing had been")


@check("PEP3333-close-09")
def error_and_error_in_close(bench: Bench) -> None:
    """An error in close() does not hide the error before it."""

    def chunks() -> Iterator[bytes]:
        yield b"some"
        raise Planned("first")

    def on_close() -> None:
        raise ValueError("second")

    body = Body(chunks(), on_close=on_close)
    exchange = bench.attempt(answering(body))
    expect(body.closes, "close() was not called")
    seen: list[BaseException] = []
    error = exchange.error
    while error is not None and error not in seen:
        seen.append(error)
        inner = getattr(error, "exceptions", None)  # of an exception group
        error = inner[0] if inner else error.__cause__ or error.__context__
    first = any(isinstance(error, Planned) for error in seen)
    expect(first, f"the first error is not in {seen!r}")


@check("PEP3333-close-10")
def error_in_iter(bench: Bench) -> None:
    """An error in the body's __iter__ comes out, and close() is called."""

    class Broken(Body):
        def __iter__(self) -> Iterator[bytes]:
            raise Planned

    body = Broken([])
    exchange = bench.attempt(answering(body))
    expect(exchange.failed, f"there was {exchange.outcome()}")
    expect(body.closed.wait(), "close() was not called")
    expect(body.closes == 1, f"close() was called {body.closes} times")


@check("PRACTICE-errors-01")
def stop_iteration(bench: Bench) -> None:
    """A StopIteration of the application is an error, and hangs nothing."""
    exchange = bench.attempt(raising(StopIteration()))
    expect(exchange.failed, f"there was {exchange.outcome()}")


@check("PRACTICE-errors-03")
def error_that_is_its_own_cause(bench: Bench) -> None:
    """An error that is its own cause, or its cause's, is an error and hangs nothing."""
    itself, first, second = (Planned(name) for name in ("itself", "first", "second"))
    itself.__cause__ = itself
    first.__cause__, second.__cause__ = second, first
    for error in (itself, first):
        exchange = bench.attempt(raising(error))
        expect(exchange.failed, f"for {error!r} there was {exchange.outcome()}")
        expect(bench.loop.turn(), f"after {error!r} the event loop stood still")


@check("PRACTICE-errors-02")
def system_exit(bench: Bench) -> None:
    """sys.exit() in the application ends its request and not the server."""
    for error in (SystemExit(3), KeyboardInterrupt(), GeneratorExit()):
        exchange = bench.attempt(raising(error))
        good = isinstance(exchange.error, Exception) or exchange.failed
        expect(good, f"for {error!r} there was {exchange.outcome()}")
        deadly = isinstance(exchange.error, SystemExit | KeyboardInterrupt)
        expect(not deadly, f"{exchange.error!r} comes out, and ends the server")


@check("PRACTICE-survival-04")
def survives_errors(bench: Bench) -> None:
    """After 45 requests that failed in three ways, the adapter serves the next."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        way = environ["PATH_INFO"]
        if way == "/call":
            raise Planned
        if way == "/body":
            late: Chunks = raising_late(Planned())(environ, start_response)
            return late
        if way == "/close":
            begin(start_response)
            return Body([b"a"], on_close=fail_in_close)
        return hello(environ, start_response)

    def fail_in_close() -> None:
        raise Planned

    served = bench.serve(app)
    for _ in range(15):
        for way in ("/call", "/body", "/close"):
            served.attempt(path=way)
    expect_equal(served.request().body, b"hello", "the body afterwards")


@check("ASGI-MAIN-errors-02")
def receive_raises(bench: Bench) -> None:
    """An error of receive() reaches the reader or the server."""
    results: list[object] = []

    def use(environ: WSGIEnvironment) -> None:
        try:
            results.append(environ["wsgi.input"].read())
        except Exception as error:
            results.append(error)

    for serve in (bench.serve, bench.serve_streaming):
        results.clear()
        exchange = serve(reading(use)).attempt(
            steps=[request_part(b"ab", more=True), RuntimeError("receive() failed")],
            method="POST",
            headers=[(b"transfer-encoding", b"chunked")],
        )
        refused = exchange.error is not None
        told = isinstance(results[0], Exception) if results else refused
        expect(told, f"read() gave {results}, and there was {exchange.outcome()}")


@check("ASGI-HTTP-send-03")
def first_send_raises(bench: Bench) -> None:
    """An error of the very first send() ends the request, and closes the body."""
    body = Body([b"a", b"b"])
    exchange = HttpExchange()
    exchange.fail_sends(1, OSError("the client has left"))
    bench.attempt(answering(body), exchange)
    expect(body.closed.wait(), "close() was not called")
    expect(body.closes == 1, f"close() was called {body.closes} times")


@contextmanager
def _noise(bench: Bench) -> Iterator[list[str]]:
    """Collect what Python says to nobody in particular."""
    heard = bench.loop.complaints
    saved = sys.unraisablehook
    sys.unraisablehook = lambda args: heard.append(repr(args.exc_value))
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield heard
            gc.collect()
            bench.settle()
            heard += [
                str(warning.message)
                for warning in warned
                if issubclass(warning.category, RuntimeWarning)
            ]
    finally:
        sys.unraisablehook = saved


@check("PRACTICE-tasks-02")
def errors_make_no_noise(bench: Bench) -> None:
    """Errors leave no task or coroutine behind that complains of it."""
    gone = HttpExchange()
    gone.fail_sends(2, OSError("the client has left"))
    with _noise(bench) as heard:
        bench.attempt(raising(Planned()))
        bench.attempt(raising_late(Planned()), body=b"hello", framing=STREAMED)
        bench.attempt(answering(iter([b"a"] * 10)), gone)
        bench.exchanges[-1].error = None
    expect(not heard, f"Python said: {heard[0] if heard else ''}")


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.errors.append(record.exc_info[1])


@check("PEP3333-errors-06")
def error_is_reported(bench: Bench) -> None:
    """An error after output, or in close(), is raised or logged, and that once."""

    def on_close() -> None:
        raise Planned("in close()")

    closing = Body([b"a", b"b"], on_close=on_close)
    apps: dict[str, Any] = {
        "after output": raising_late(Planned("after output")),
        "in close()": answering(closing),
    }
    for place, app in apps.items():
        records = _Records()
        logging.getLogger().addHandler(records)
        try:
            exchange = bench.attempt(app)
        finally:
            logging.getLogger().removeHandler(records)
        errors = [*records.errors, exchange.error]
        expect(place != "in close()" or closing.closes, "close() was not called")
        reports = sum(isinstance(error, Planned) for error in errors)
        expect(reports == 1, f"an error {place} was reported {reports} times")
