"""What is sent when a client has left before its response, for middleware to see."""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from tests.apps import Body, Stream, answering, endless, hello, never_called, start
from tests.drivers import (
    CHUNKED,
    WAIT_S,
    Gate,
    Header,
    HttpServer,
    LifespanServer,
    LoopFactory,
    MakeAdapter,
    Message,
    assert_left,
    disconnect,
    leave,
    length,
    on_each_loop,
    piece,
    run,
    serve,
    uploading,
)
from wsgi_asgi import Limits

CLOSED = 499


def answer_of(server: HttpServer) -> tuple[int, list[Header]]:
    """Give status and headers of what was sent though the client had left."""
    assert not server.messages
    head, last = server.dropped
    assert head["type"] == "http.response.start"
    assert last == {"type": "http.response.body", "body": b"", "more_body": False}
    return head["status"], list(head["headers"])


# Which answer there is.


@on_each_loop
@pytest.mark.parametrize(
    "body", [[b"late"], endless(b""), endless(b"late")], ids=["list", "empty", "stream"]
)
def test_client_that_left_a_get_is_answered_499(
    adapter: MakeAdapter, loop_factory: LoopFactory, body: Body
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        server.told.wait()
        start(start_response, ("Set-Cookie", "a=b"))
        return body

    begun = Gate("the application runs")
    served = adapter(app, validate=False)
    server = HttpServer()
    run(leave(served, server, begun), loop_factory)
    assert answer_of(server) == (CLOSED, [])
    assert_left(served)


@pytest.mark.parametrize(
    ("steps", "header", "spool"),
    [
        pytest.param([disconnect()], length(5), True, id="short"),
        pytest.param([piece(b"ab"), disconnect()], length(5), True, id="in mid-body"),
        pytest.param([disconnect()], length(100_000), True, id="long"),
        pytest.param([piece(b"ab"), disconnect()], CHUNKED, True, id="spooled"),
        pytest.param([disconnect()], CHUNKED, False, id="streamed"),
    ],
)
def test_client_that_left_before_its_body_was_there_is_answered_499(
    adapter: MakeAdapter, steps: list[Any], header: Header, spool: bool
) -> None:
    served = adapter(never_called, spool=spool)
    server = uploading(*steps, header=header)
    serve(served, server)
    assert answer_of(server) == (CLOSED, [])
    assert_left(served)
    assert served._http.intake.uploads.taken == 0


def test_client_that_left_in_the_body_it_streams_is_answered_499(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        environ["wsgi.input"].read()
        return never_called(environ, start_response)

    begun = Gate("the application runs")
    served = adapter(app, spool=False, validate=False)
    server = uploading(piece(b"ab"), begun, disconnect())
    serve(served, server)
    assert answer_of(server) == (CLOSED, [])
    assert_left(served)


def _returns(stream: Stream) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response, ("Content-Length", "4"), status="201 Created")
        return [b"late"]

    return app


def _yields(stream: Stream) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response, ("Content-Length", "4"), status="201 Created")
        return stream

    return app


@pytest.mark.parametrize("make", [_returns, _yields], ids=["list", "iterator"])
def test_client_that_left_a_post_is_answered_with_the_applications_status(
    adapter: MakeAdapter, make: Callable[[Stream], WSGIApplication]
) -> None:
    def chunks() -> Body:
        yield b"late"

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        server.told.wait()
        return make(Stream(chunks()))(environ, start_response)

    begun = Gate("the application runs")
    served = adapter(app)
    server = HttpServer(method="POST")
    run(leave(served, server, begun))
    content_type = (b"content-type", b"text/plain")
    assert answer_of(server) == (201, [content_type])
    assert_left(served)


def test_client_that_left_as_a_post_made_its_first_chunk_gets_its_status(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response, status="201 Created")
        begun.open()
        server.told.wait()
        yield b"late"

    begun = Gate("the application runs")
    server = HttpServer(method="POST")
    run(leave(adapter(app), server, begun))
    assert answer_of(server)[0] == 201


def test_client_that_left_a_post_without_an_answer_is_answered_499(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        server.left.open()
        assert environ["wsgi_asgi.client_disconnected"].wait(WAIT_S)
        return []

    server = HttpServer(method="POST")
    serve(adapter(app, validate=False), server)
    assert answer_of(server) == (CLOSED, [])


def test_client_that_left_a_post_that_fails_gets_its_error(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        server.left.open()
        server.told.wait()
        raise KeyError("a bug")

    server = HttpServer(method="POST")
    with pytest.raises(KeyError, match="a bug"):
        serve(adapter(app), server)
    assert not (server.messages)
    assert not (server.dropped)


@on_each_loop
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_client_that_left_in_the_queue_is_answered_499(
    adapter: MakeAdapter, loop_factory: LoopFactory, method: str
) -> None:
    begun, go_on = Gate("the thread is taken"), Gate()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert environ["PATH_INFO"] == "/first"
        begun.open()
        go_on.wait()
        return hello(environ, start_response)

    served = adapter(app, threads=1, limits=Limits(abandoned_timeout=0.01))
    first = HttpServer(path="/first")
    second = HttpServer(path="/second", method=method)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(first.run(served))
            await begun.reached()
            await leave(served, second, second.received(2 - (method == "GET")))
            go_on.open()

    run(main(), loop_factory)
    assert answer_of(second) == (CLOSED, [])


# To whom there is none.


def test_client_that_stays_gets_no_byte_of_another_answer(
    adapter: MakeAdapter,
) -> None:
    # The server says the end of each response by a disconnect, which is no leaving.
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert not environ["wsgi_asgi.client_disconnected"]()
        return Stream(hello(environ, start_response), at_close=server.told.wait)

    server = HttpServer()
    serve(adapter(app), server)
    assert server.status == 200
    assert not server.dropped


def test_client_that_left_in_mid_response_gets_no_second_start(
    adapter: MakeAdapter,
) -> None:
    served = adapter(answering(Stream(endless())))
    server = HttpServer()
    run(leave(served, server, server.sent(3)))
    assert {message["type"] for message in server.dropped} <= {"http.response.body"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_cancelled_request_whose_client_left_sends_nothing(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("wsgi_asgi._bridge.LINGER_S", 0.01)
    begun, go_on = Gate("the application runs"), Gate()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        go_on.wait()
        return hello(environ, start_response)

    served = adapter(app)
    server = HttpServer(method=method)

    async def main() -> None:
        task = asyncio.create_task(server.run(served))
        await begun.reached()
        server.left.open()
        await server.told.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.open()

    run(main())
    assert not (server.messages)
    assert not (server.dropped)
    assert served.stats().disconnected == 1


def test_client_that_left_while_the_server_stops_is_sent_nothing(
    adapter: MakeAdapter,
) -> None:
    begun, go_on = Gate("the application runs"), Gate()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        go_on.wait()
        return hello(environ, start_response)

    served = adapter(app)
    server, stopping = HttpServer(), LifespanServer()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stopping.run(served))
            await stopping.started.reached()
            tasks.create_task(server.run(served))
            await begun.reached()
            stopping.stopping.open()
            await stopping.told.reached()
            server.left.open()
            await server.told.reached()
            go_on.open()

    run(main())
    assert not (server.messages)
    assert not (server.dropped)
    assert_left(served)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("http_version", "spec_version", "expected"),
    [
        pytest.param("1.1", "2.1", 0, id="hypercorn"),
        pytest.param("2", "2.1", 2, id="hypercorn, http2"),
        pytest.param("1.1", "2.3", 2, id="another server"),
        pytest.param("1.1", None, 2, id="a server without a version"),
    ],
)
def test_server_that_writes_to_clients_that_left_is_given_nothing(
    adapter: MakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    http_version: str,
    spec_version: str | None,
    expected: int,
) -> None:
    # Since it says so as well of a client that has closed but its side, and reads on.
    monkeypatch.setitem(sys.modules, "hypercorn", sys)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        server.left.open()
        server.told.wait()
        return hello(environ, start_response)

    asgi = {"version": "3.0", "spec_version": spec_version}
    server = HttpServer(
        piece(b"", more=False), method=method, http_version=http_version, asgi=asgi
    )
    serve(adapter(app), server)
    assert len(server.dropped) == expected


def test_server_that_has_refused_the_request_itself_is_given_an_answer(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hypercorn", sys)
    server = uploading(piece(b"ab"), disconnect(), header=length(5))
    server.scope["asgi"]["spec_version"] = "2.1"
    serve(adapter(never_called), server)
    assert answer_of(server) == (CLOSED, [])


# Servers that do not take it.


class Refusing(HttpServer):
    """Fails, or never returns, where something is sent to a client that has left."""

    error: Exception | None = None
    sending: Gate | None = None

    async def _send(self, message: Message) -> None:
        await super()._send(message)
        if self.dropped and self.error:
            raise self.error
        if self.dropped and self.sending:
            self.sending.open()
            await Gate().reached()


@pytest.mark.parametrize(
    "error", [OSError("gone"), RuntimeError("no longer")], ids=["os", "another"]
)
def test_send_that_fails_for_a_client_that_left_is_told_to_debuggers_only(
    adapter: MakeAdapter, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    caplog.set_level(logging.DEBUG, "wsgi_asgi")
    server = Refusing(disconnect(), method="POST", headers=[length(5)])
    server.error = error
    served = adapter(never_called)
    serve(served, server)
    assert len(server.dropped) == 1
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    caplog.clear()
    assert_left(served)


@on_each_loop
def test_send_that_never_returns_for_a_client_that_left_is_given_up(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch, loop_factory: LoopFactory
) -> None:
    monkeypatch.setattr("wsgi_asgi._http.LAST_SEND_S", 0.01)
    server = Refusing(disconnect(), method="POST", headers=[length(5)])
    server.sending = Gate("send() was called")
    served = adapter(never_called)
    serve(served, server, loop_factory)
    assert len(server.dropped) == 1
    assert_left(served)


@pytest.mark.parametrize("has_begun", [False, True], ids=["unbegun", "begun"])
def test_request_cancelled_in_the_answer_to_nobody_is_counted_once(
    adapter: MakeAdapter, has_begun: bool
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        server.left.open()
        server.told.wait()
        return hello(environ, start_response)

    steps = [] if has_begun else [disconnect()]
    server = Refusing(*steps, headers=[] if has_begun else [length(5)])
    sending = server.sending = Gate("send() was called")
    served = adapter(app)

    async def main() -> None:
        task = asyncio.create_task(server.run(served))
        await sending.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert_left(served)
