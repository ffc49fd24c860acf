"""Errors of the application: what the server gets of them, and what the client."""

import asyncio
import gc
import sys
import traceback
import weakref
from collections.abc import Callable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from tests.apps import (
    Body,
    Stream,
    answering,
    hello,
    raising,
    start,
)
from tests.drivers import (
    HttpServer,
    LoopFactory,
    MakeAdapter,
    on_each_loop,
    run,
    serve,
)

SECRET = "s3cret-detail"


class OwnError(Exception):
    """An application's own."""


ERRORS = [
    pytest.param(KeyError(SECRET), id="key error"),
    pytest.param(OwnError(SECRET), id="error of its own"),
    pytest.param(RuntimeError(SECRET), id="runtime error"),
    pytest.param(OSError(SECRET), id="os error"),
    pytest.param(ConnectionResetError(SECRET), id="lost database connection"),
    pytest.param(TimeoutError(SECRET), id="timeout"),
    pytest.param(AssertionError(SECRET), id="assertion"),
    pytest.param(ExceptionGroup(SECRET, [KeyError(SECRET)]), id="group"),
]
# These would end or confuse the loop if they reached it as they are.
EXITS = [
    pytest.param(StopIteration(SECRET), id="stop iteration"),
    pytest.param(StopAsyncIteration(SECRET), id="stop async iteration"),
    pytest.param(SystemExit(3), id="system exit"),
    pytest.param(KeyboardInterrupt(), id="keyboard interrupt"),
    pytest.param(GeneratorExit(), id="generator exit"),
    pytest.param(asyncio.CancelledError(), id="cancelled"),
]

# Raising what went wrong.


@on_each_loop
@pytest.mark.parametrize("error", ERRORS)
def test_error_before_start_response_is_raised_itself(
    adapter: MakeAdapter, loop_factory: LoopFactory, error: Exception
) -> None:
    server = HttpServer()
    with pytest.raises(type(error)) as caught:
        serve(adapter(raising(error)), server, loop_factory)
    assert caught.value is error
    assert "in fail\n" in "".join(traceback.format_exception(error))
    assert not server.messages


@on_each_loop
@pytest.mark.parametrize("error", EXITS)
def test_error_that_would_end_the_loop_is_raised_wrapped(
    adapter: MakeAdapter, loop_factory: LoopFactory, error: BaseException
) -> None:
    app = adapter(raising(error))
    server = HttpServer()
    with pytest.raises(RuntimeError) as caught:
        serve(app, server, loop_factory)
    assert caught.value.__cause__ is error
    assert not server.messages
    assert app.stats().busy == 0


def _raise_again_from_itself(first: ValueError) -> None:
    raise first from first


def _raise_again_from_what_it_caused(first: ValueError) -> None:
    try:
        raise RuntimeError("second") from first
    except RuntimeError as second:
        raise first from second


@on_each_loop
@pytest.mark.parametrize(
    "again", [_raise_again_from_itself, _raise_again_from_what_it_caused]
)
def test_error_that_is_its_own_cause_is_raised_like_any_other(
    adapter: MakeAdapter, loop_factory: LoopFactory, again: Callable[[Any], None]
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        try:
            raise ValueError("first")
        except ValueError as first:
            again(first)
        raise AssertionError("again() raises")

    with pytest.raises(ValueError, match="first"):
        serve(adapter(app), HttpServer(), loop_factory)


def _after_start(error: BaseException) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        raise error

    return app


def _in_the_first_step(error: BaseException) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield b""
        raise error

    return app


def _after_a_chunk(error: BaseException) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield b"chunk"
        raise error

    return app


def _after_a_write(error: BaseException) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)(b"chunk")
        raise error

    return app


ANY_ERROR = [ERRORS[0], ERRORS[3], EXITS[2], EXITS[4], EXITS[5]]


@pytest.mark.parametrize("error", ANY_ERROR)
@pytest.mark.parametrize(
    "make_app", [_after_start, _in_the_first_step], ids=["call", "first step"]
)
def test_error_before_output_sends_nothing(
    adapter: MakeAdapter, make_app: Any, error: BaseException
) -> None:
    server = HttpServer()
    with pytest.raises(Exception) as caught:
        serve(adapter(make_app(error)), server)
    assert error in (caught.value, caught.value.__cause__)
    assert not server.messages


@on_each_loop
@pytest.mark.parametrize("error", ANY_ERROR)
@pytest.mark.parametrize(
    "make_app", [_after_a_chunk, _after_a_write], ids=["chunk", "write"]
)
def test_error_after_output_leaves_the_response_unfinished(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    make_app: Any,
    error: BaseException,
) -> None:
    server = HttpServer()
    with pytest.raises(Exception) as caught:
        serve(adapter(make_app(error)), server, loop_factory)
    assert error in (caught.value, caught.value.__cause__)
    assert server.body == b"chunk"
    assert not server.complete.is_open
    assert SECRET not in repr(server.messages)


def test_errors_of_many_requests_leave_the_adapter_serving(
    adapter: MakeAdapter,
) -> None:
    apps = [raising(KeyError("a")), raising(SystemExit(1)), _after_a_chunk(OSError())]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        number = int(environ["QUERY_STRING"])
        return [*apps, hello][number](environ, start_response)

    served = adapter(app, threads=2)
    for number in [0, 1, 2] * 15:
        with pytest.raises((KeyError, RuntimeError, OSError)):
            serve(served, HttpServer(query_string=b"%d" % number))
    server = HttpServer(query_string=b"3")
    serve(served, server)
    assert server.body == b"Hello"
    stats = served.stats()
    assert (stats.busy, stats.completed, stats.disconnected) == (0, 1, 0)


# Responses that are none.


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(None, TypeError, id="none"),
        pytest.param(5, TypeError, id="number"),
        pytest.param("hello", TypeError, id="bare str"),
        pytest.param(b"hello", TypeError, id="bare bytes"),
        pytest.param(["text"], TypeError, id="str in a list"),
        pytest.param([None], TypeError, id="none in a list"),
        pytest.param(iter([5]), TypeError, id="number in an iterator"),
    ],
)
def test_response_of_the_wrong_type_is_an_error_and_not_sent(
    adapter: MakeAdapter, body: Any, error: type[Exception]
) -> None:
    server = HttpServer()
    with pytest.raises(error, match="bytes"):
        serve(adapter(answering(body), validate=False), server)
    assert not server.messages


@pytest.mark.parametrize(
    "chunk", ["text", 5, None, [b"x"]], ids=["str", "number", "none", "list"]
)
def test_chunk_of_the_wrong_type_later_on_leaves_the_response_unfinished(
    adapter: MakeAdapter, chunk: Any
) -> None:
    stream = Stream(iter([b"first", chunk, b"third"]))
    server = HttpServer()
    with pytest.raises(TypeError, match="not bytes"):
        serve(adapter(answering(stream), validate=False), server)
    assert server.body == b"first"
    assert not server.complete.is_open
    assert stream.closes == 1


@pytest.mark.parametrize(
    "body",
    [[bytearray(b"ab")], [memoryview(b"ab")], iter([bytearray(b"ab")])],
    ids=["bytearray", "memoryview", "iterator of bytearray"],
)
def test_chunk_that_is_like_bytes_is_sent_as_bytes(
    adapter: MakeAdapter, body: Any
) -> None:
    server = HttpServer()
    serve(adapter(answering(body), validate=False), server)
    assert server.body == b"ab"


@pytest.mark.parametrize(
    "chunks", [[], [b""], [b"x"]], ids=["no chunk", "an empty chunk", "a chunk"]
)
def test_start_response_never_called_is_an_error_that_names_the_application(
    adapter: MakeAdapter, chunks: list[bytes]
) -> None:
    def forgetful(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        return chunks

    server = HttpServer()
    with pytest.raises(
        RuntimeError,
        match=r"forgetful: .*start_response\(\) was never called.*PEP 3333",
    ):
        serve(adapter(forgetful, validate=False), server)
    assert not server.messages


@pytest.mark.parametrize("status", ["100 Continue", "103 Early Hints", "199 Own"])
def test_status_that_ends_no_request_is_an_error(
    adapter: MakeAdapter, status: str
) -> None:
    server = HttpServer()
    with pytest.raises(ValueError, match="informational"):
        serve(adapter(answering([b"x"], status=status)), server)
    assert not server.messages


def test_start_response_after_a_chunk_is_an_error(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        yield b"too early"
        start(start_response)

    server = HttpServer()
    with pytest.raises(RuntimeError, match=r"start_response\(\) was never called"):
        serve(adapter(app, validate=False), server)
    assert not server.messages


def test_start_response_twice_is_an_error(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        start(start_response)
        return []

    server = HttpServer()
    with pytest.raises(RuntimeError, match="a second time without exc_info"):
        serve(adapter(app), server)
    assert not server.messages


# exc_info.


def _error_page(start_response: StartResponse) -> Any:
    headers = [("Content-Type", "text/plain"), ("X-B", "2")]
    return start_response("500 Oh no", headers, sys.exc_info())


def test_exc_info_before_output_replaces_the_response_and_is_not_raised(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response, ("X-A", "1"), ("Content-Length", "3"))
        try:
            raise KeyError("reported")
        except KeyError:
            _error_page(start_response)
        return [b"error page"]

    server = HttpServer()
    serve(adapter(app), server)
    assert (server.status, server.body) == (500, b"error page")
    assert (server.header(b"x-a"), server.header(b"x-b")) == (None, b"2")


def test_exc_info_in_the_first_call_is_a_normal_call(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        try:
            raise KeyError("reported")
        except KeyError:
            _error_page(start_response)
        return [b"error page"]

    server = HttpServer()
    serve(adapter(app), server)
    assert (server.status, server.body) == (500, b"error page")


def test_exc_info_none_is_a_normal_call(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start_response("200 OK", [("Content-Type", "text/plain")], None)
        return [b"x"]

    server = HttpServer()
    serve(adapter(app), server)
    assert (server.status, server.body) == (200, b"x")


def test_exc_info_by_keyword_replaces_the_response(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: Any) -> Body:
        start(start_response)
        try:
            raise KeyError("reported")
        except KeyError:
            start_response("500 Oh no", [], exc_info=sys.exc_info())
        return [b"x"]

    server = HttpServer()
    serve(adapter(app, validate=False), server)
    assert server.status == 500


@pytest.mark.parametrize("by_write", [False, True], ids=["chunk", "write"])
def test_exc_info_after_output_raises_what_it_holds(
    adapter: MakeAdapter, by_write: bool
) -> None:
    error = KeyError("too late")
    raised: list[BaseException] = []

    def fail(start_response: StartResponse) -> None:
        try:
            raise error
        except KeyError:
            try:
                _error_page(start_response)
            except BaseException as caught:
                raised.append(caught)
                raise

    def chunks(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield b"chunk"
        fail(start_response)
        yield b"error page"

    def writes(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)(b"chunk")
        fail(start_response)
        return [b"error page"]

    server = HttpServer()
    with pytest.raises(KeyError) as caught:
        serve(adapter(writes if by_write else chunks), server)
    assert caught.value is error
    assert raised == [error]
    assert server.body == b"chunk"
    assert not server.complete.is_open


def test_exc_info_is_not_kept_after_the_call(adapter: MakeAdapter) -> None:
    alive: list[bool] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        try:
            raise OwnError
        except OwnError as error:
            reference = weakref.ref(error)
            _error_page(start_response)
        alive.append(reference() is not None)
        return [b"error page"]

    gc.disable()
    try:
        serve(adapter(app, validate=False), HttpServer())
    finally:
        gc.enable()
    assert alive == [False]


def test_error_of_the_application_leaves_no_reference_cycle(
    adapter: MakeAdapter,
) -> None:
    class Marker:
        pass

    references: list[weakref.ref[Marker]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        marker = Marker()
        references.append(weakref.ref(marker))
        raise OwnError

    async def main() -> bool:
        # asyncio.Runner would keep the error of its own task.
        server = HttpServer()
        with pytest.raises(OwnError):
            await server.run(served)
        return references[0]() is not None

    served = adapter(app, validate=False)
    gc.disable()
    try:
        assert run(main()) is False
    finally:
        gc.enable()
