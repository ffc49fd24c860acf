"""The client leaves, in each phase. send() is silent about it, as on most servers."""

import asyncio
from collections.abc import Callable
from typing import Any
from wsgiref.types import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

import pytest
from flask import Flask, Response, request

from tests.apps import (
    Body,
    Stream,
    endless,
    hello,
    never_called,
    read_blocks,
    start,
)
from tests.drivers import (
    CHUNKED,
    Gate,
    Header,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    assert_left,
    disconnect,
    leave,
    length,
    on_each_loop,
    piece,
    pieces,
    run,
    serve,
    uploading,
)
from wsgi_asgi import ClientDisconnected

# Before the application runs.


@on_each_loop
@pytest.mark.parametrize(
    ("steps", "header"),
    [
        pytest.param([disconnect()], CHUNKED, id="chunked, no message"),
        pytest.param([disconnect()], length(5), id="declared, no message"),
        pytest.param(
            [piece(b"ab"), disconnect()], length(5), id="declared, in the middle"
        ),
    ],
)
def test_client_leaves_before_the_body_is_there_application_is_not_called(
    adapter: MakeAdapter, loop_factory: LoopFactory, steps: list[Any], header: Header
) -> None:
    app = adapter(never_called, spool=False)
    server = uploading(*steps, header=header)
    serve(app, server, loop_factory)
    assert not server.messages
    assert_left(app)


@pytest.mark.parametrize(
    ("method", "body", "expected"),
    [
        pytest.param("GET", b"", ["/first"], id="get is given up"),
        pytest.param("POST", b"", ["/first", "/second"], id="post is served"),
        pytest.param("POST", b"ab", ["/first", "/second"], id="post of a body, too"),
        pytest.param("GET", b"ab", ["/first"], id="get of a body is given up, too"),
    ],
)
def test_client_leaves_in_the_queue_only_what_it_sent_whole_is_served(
    adapter: MakeAdapter, method: str, body: bytes, expected: list[str]
) -> None:
    begun, go_on = Gate("the thread is taken"), Gate()
    paths: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        paths.append(environ["PATH_INFO"])
        begun.open()
        go_on.wait()
        assert b"".join(read_blocks(environ)) in {b"", b"ab"}
        return hello(environ, start_response)

    served = adapter(app, threads=1)
    first = HttpServer(path="/first")
    headers = [length(len(body))] if body else []
    second = HttpServer(*pieces(body), method=method, path="/second", headers=headers)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(first.run(served))
            await begun.reached()
            tasks.create_task(second.run(served))
            # Once the adapter listens for its leaving.
            await second.received(2).reached()
            second.left.open()
            await second.told.reached()
            go_on.open()

    run(main())
    assert paths == expected
    assert first.body == b"Hello"
    assert not second.messages
    assert (served.stats().disconnected, served.stats().completed) == (1, 1)


# While it reads.


def _iterate(stream: InputStream) -> object:
    return list(stream)


READS = [
    pytest.param(lambda stream: stream.read(10), id="read of a size"),
    pytest.param(lambda stream: stream.read(), id="read"),
    pytest.param(lambda stream: stream.readline(), id="readline"),
    pytest.param(lambda stream: stream.readlines(), id="readlines"),
    pytest.param(_iterate, id="iteration"),
    pytest.param(lambda stream: stream.readinto(bytearray(10)), id="readinto"),
]


@pytest.mark.parametrize(
    "header", [CHUNKED, length(100_000)], ids=["chunked", "declared beyond the buffer"]
)
@pytest.mark.parametrize("read", READS)
def test_client_leaves_in_the_body_reader_gets_an_os_error(
    adapter: MakeAdapter, read: Callable[[Any], object], header: Header
) -> None:
    raised: list[BaseException] = []
    begun = Gate("the application runs")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        try:
            # A read may give what is there before the next tells of the end.
            while read(environ["wsgi.input"]):
                pass
        except ConnectionResetError as error:
            raised.append(error)
            raise
        return hello(environ, start_response)

    served = adapter(app, validate=False, spool=False)
    server = uploading(piece(b"ab"), piece(b"c"), begun, disconnect(), header=header)
    serve(served, server)
    (error,) = raised
    assert isinstance(error, ClientDisconnected)
    assert not server.messages
    assert_left(served)


def _answer_400(error: OSError, start_response: StartResponse) -> Body:
    start(start_response, status="400 Bad Request")
    return [b"unreadable"]


def _raise_from(error: OSError, start_response: StartResponse) -> Body:
    raise ValueError("unreadable post") from error


def _raise_within(error: OSError, start_response: StartResponse) -> Body:
    raise ValueError("unreadable post")


def _raise_itself_from_itself(error: OSError, start_response: StartResponse) -> Body:
    raise error from error


def _raise_group(error: OSError, start_response: StartResponse) -> Body:
    raise ExceptionGroup("unreadable post", [error])


@on_each_loop
@pytest.mark.parametrize(
    "react",
    [_answer_400, _raise_from, _raise_within, _raise_itself_from_itself, _raise_group],
)
def test_client_leaves_in_the_body_application_error_is_none_of_the_servers(
    adapter: MakeAdapter, loop_factory: LoopFactory, react: Any
) -> None:
    begun = Gate("the application runs")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        begun.open()
        try:
            return list(read_blocks(environ))
        except OSError as error:
            return react(error, start_response)

    served = adapter(app, spool=False)
    serve(served, uploading(piece(b"ab"), begun, disconnect()), loop_factory)
    assert_left(served)


@pytest.mark.parametrize(
    "header", [CHUNKED, length(100_000)], ids=["chunked", "declared beyond the buffer"]
)
@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda: request.get_data(), id="data"),
        pytest.param(lambda: request.form, id="form"),
        pytest.param(lambda: request.stream.read(), id="stream"),
        pytest.param(lambda: request.get_json(force=True), id="json"),
    ],
)
def test_client_leaves_in_the_body_flask_answers_a_quiet_400(
    adapter: MakeAdapter, read: Callable[[], object], header: Header
) -> None:
    flask = Flask(__name__)
    statuses: list[int] = []
    begun = Gate("the application runs")

    @flask.post("/")
    def view() -> str:
        begun.open()
        read()
        raise AssertionError("there is nothing to be read")

    @flask.after_request
    def note(response: Response) -> Response:
        statuses.append(response.status_code)
        return response

    form = (b"content-type", b"application/x-www-form-urlencoded")
    server = uploading(piece(b"ab"), piece(b"c"), begun, disconnect(), header=header)
    server.scope["headers"].append(form)
    served = adapter(flask, validate=False, spool=False)
    serve(served, server)  # that nothing is logged, the fixture asserts
    assert statuses == [400]
    assert_left(served)


def test_client_leaves_in_the_body_error_of_another_cause_surfaces(
    adapter: MakeAdapter,
) -> None:
    begun = Gate("the application runs")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        with pytest.raises(OSError, match="left before the end"):
            environ["wsgi.input"].read(10)
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        serve(adapter(app, spool=False), uploading(piece(b"ab"), begun, disconnect()))


# Before there is output.


def _returns(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    start(start_response)
    return [b"late"]


def _fails(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    write = start(start_response)
    with pytest.raises(ClientDisconnected):
        write(b"late")
    return []


@on_each_loop
@pytest.mark.parametrize("validate", [False, True], ids=["bare", "validated"])
@pytest.mark.parametrize("answer", [_returns, _fails], ids=["list", "write"])
def test_client_leaves_in_a_long_call_nothing_is_sent(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    answer: WSGIApplication,
    validate: bool,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        server.left.open()
        server.told.wait()
        return answer(environ, start_response)

    served = adapter(app, validate=validate)
    server = HttpServer()
    serve(served, server, loop_factory)
    assert not server.messages
    assert_left(served)


def test_client_leaves_in_a_long_call_iterable_is_closed_untouched(
    adapter: MakeAdapter,
) -> None:
    stream = Stream([b"late"])

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        server.left.open()
        server.told.wait()
        start(start_response)
        return stream

    served = adapter(app)
    server = HttpServer()
    serve(served, server)
    assert (stream.taken, stream.closes) == (0, 1)
    assert_left(served)


@on_each_loop
@pytest.mark.parametrize(
    "headers", [[], [length(0)], [CHUNKED]], ids=["no body", "empty body", "chunked"]
)
def test_client_leaves_a_long_poll_is_noticed(
    adapter: MakeAdapter, loop_factory: LoopFactory, headers: list[Header]
) -> None:
    stream = Stream(endless(b""))
    begun = Gate("the poll goes on")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert not list(read_blocks(environ))
        begun.open()
        start(start_response)
        return stream

    served = adapter(app)
    server = HttpServer(method="POST", headers=headers)
    run(leave(served, server, begun), loop_factory)
    assert stream.closes == 1
    assert_left(served)
