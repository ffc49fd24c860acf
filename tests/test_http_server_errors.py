"""The server's own failures: send() raises, receive() raises."""

from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from tests.apps import (
    Body,
    Stream,
    answering,
    echo,
    endless,
    hello,
    never_called,
    read_blocks,
    start,
)
from tests.drivers import (
    CHUNKED,
    Header,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    Message,
    length,
    on_each_loop,
    piece,
    pieces,
    serve,
    uploading,
)

# send() fails.


def _endless_writes(stream: Stream) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        write = start(start_response)
        try:
            for chunk in stream:
                write(chunk)
        finally:
            stream.close()
        return []

    return app


SENDING = [
    pytest.param(answering, number, id=f"iterable, message {number}")
    for number in (1, 2, 3, 5)
] + [
    pytest.param(_endless_writes, number, id=f"write, message {number}")
    for number in (1, 2, 3, 5)
]


@on_each_loop
@pytest.mark.parametrize(("make_app", "number"), SENDING)
def test_send_that_raises_os_error_ends_an_endless_response(
    adapter: MakeAdapter, loop_factory: LoopFactory, make_app: Any, number: int
) -> None:
    stream = Stream(endless(b"x" * 20_000))
    app = adapter(make_app(stream))
    server = HttpServer()
    server.fail_at(number, ConnectionResetError("gone"))
    serve(app, server, loop_factory)
    assert stream.closes == 1
    assert len(server.messages) == number - 1
    assert (app.stats().disconnected, app.stats().completed) == (1, 0)


@pytest.mark.parametrize(("make_app", "number"), SENDING)
def test_send_that_raises_another_error_has_it_surface(
    adapter: MakeAdapter, make_app: Any, number: int
) -> None:
    stream = Stream(endless(b"x" * 20_000))
    error = RuntimeError("server's fault")
    server = HttpServer()
    server.fail_at(number, error)
    with pytest.raises(RuntimeError) as caught:
        serve(adapter(make_app(stream)), server)
    assert caught.value is error
    assert stream.closes == 1


@pytest.mark.parametrize("number", [1, 2], ids=["start", "body"])
def test_send_that_raises_os_error_for_a_whole_response_is_no_error(
    adapter: MakeAdapter, number: int
) -> None:
    app = adapter(hello, validate=False)
    server = HttpServer()
    server.fail_at(number, BrokenPipeError("gone"))
    serve(app, server)
    assert (app.stats().disconnected, app.stats().completed) == (1, 0)


@pytest.mark.parametrize("number", [1, 2], ids=["start", "body"])
@pytest.mark.parametrize(
    "app", [hello, never_called], ids=["answered", "refused by the adapter"]
)
def test_send_that_raises_another_error_for_a_whole_response_has_it_surface(
    adapter: MakeAdapter, app: WSGIApplication, number: int
) -> None:
    refused = [(b"content-length", b"five")] if app is never_called else []
    server = HttpServer(headers=refused)
    server.fail_at(number, RuntimeError("server's fault"))
    with pytest.raises(RuntimeError, match="server's fault"):
        serve(adapter(app, validate=False), server)


def test_send_that_raises_os_error_for_a_refusal_is_no_error(
    adapter: MakeAdapter,
) -> None:
    server = HttpServer(headers=[(b"content-length", b"five")])
    server.fail_at(1, ConnectionResetError("gone"))
    serve(adapter(never_called), server)
    assert not server.messages


# receive() fails.


@pytest.mark.parametrize("header", [length(5), CHUNKED], ids=["declared", "chunked"])
def test_receive_that_raises_at_once_has_it_surface(
    adapter: MakeAdapter, header: Header
) -> None:
    error = RuntimeError("server's fault")
    server = uploading(error, header=header)
    with pytest.raises(RuntimeError) as caught:
        serve(adapter(never_called, spool=False), server)
    assert caught.value is error


@pytest.mark.parametrize(
    "error", [RuntimeError("server's fault"), OSError("lost")], ids=["runtime", "os"]
)
def test_receive_that_raises_in_the_body_reaches_the_reader(
    adapter: MakeAdapter, error: Exception
) -> None:
    raised: list[BaseException] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        try:
            for _ in read_blocks(environ):
                pass
        except Exception as caught:
            raised.append(caught)
        start(start_response, status="400 Bad Request")
        return [b"unreadable"]

    server = uploading(piece(b"ab"), error)
    serve(adapter(app, spool=False), server)
    assert raised == [error]


def test_receive_that_raises_in_the_body_surfaces_if_uncaught(
    adapter: MakeAdapter,
) -> None:
    error = RuntimeError("server's fault")
    server = uploading(piece(b"ab"), error)
    with pytest.raises(RuntimeError) as caught:
        serve(adapter(echo, spool=False), server)
    assert caught.value is error
    assert not server.messages


@pytest.mark.parametrize(
    ("steps", "headers"),
    [
        pytest.param([], [], id="no body"),
        pytest.param(pieces(b"abc"), [length(3)], id="declared body"),
        pytest.param(pieces(b"abc"), [CHUNKED], id="chunked body"),
    ],
)
def test_receive_that_raises_after_the_body_does_not_spoil_the_response(
    adapter: MakeAdapter, steps: list[Message], headers: list[Header]
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        body = b"".join(read_blocks(environ)) if headers else b""
        start(start_response)
        yield b"first" + body
        server.received(len(steps) + 1).wait()
        yield b"second"

    error = RuntimeError("server's fault")
    server = HttpServer(*steps, error, method="POST", headers=headers)
    serve(adapter(app, spool=False), server)
    assert server.body in {b"firstsecond", b"firstabcsecond"}
    assert server.complete.is_open


def test_receive_that_raises_os_error_after_the_body_is_a_disconnect(
    adapter: MakeAdapter,
) -> None:
    stream = Stream(endless())
    server = uploading(*pieces(b"ab"), ConnectionResetError("gone"))
    app = adapter(answering(stream), spool=False)
    serve(app, server)
    assert stream.closes == 1
    assert app.stats().disconnected == 1
