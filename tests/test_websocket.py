"""WebSockets by messages, and how they are asked for, refused and ended."""

import asyncio
import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from types import ModuleType
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
from asgiref.sync import async_to_sync

from tests.apps import answering, endless, hello, never_called, raising, start
from tests.drivers import (
    QUIET_S,
    Gate,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    Message,
    WebSocketServer,
    connect,
    incoming,
    leaving,
    lifespan,
    most_sent_in_a_turn,
    on_each_loop,
    run,
    serve,
    serve_all,
    until,
)
from wsgi_asgi import ClientDisconnected, Limits, WebSocketError, WsgiToAsgi
from wsgi_asgi import _adapter as adapter_module
from wsgi_asgi import _bridge as bridge
from wsgi_asgi import _websocket as exchange
from wsgi_asgi._handshake import build_denial
from wsgi_asgi._pool import ThreadPool
from wsgi_asgi._port import AsyncioPort

Body = Iterable[bytes]
Talk = Callable[[Any], object]


def talking(talk: Talk) -> WSGIApplication:
    """Make an application that does something with its WebSocket, and returns."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        talk(environ["wsgi.websocket"])
        return []

    return application


def echo(websocket: Any) -> None:
    for message in websocket:
        websocket.send(message)


@pytest.fixture
def raw(adapter: MakeAdapter) -> MakeAdapter:
    """Make adapters without wsgiref's validator, which wants a start_response()."""

    def make(app: WSGIApplication, **options: Any) -> WsgiToAsgi:
        return adapter(app, validate=False, **options)

    return make


# Messages.


@on_each_loop
def test_websocket_echoes_text_and_bytes(
    raw: MakeAdapter, loop_factory: LoopFactory
) -> None:
    messages: list[str | bytes] = [
        "a",
        "",
        b"",
        "é\u20ac",
        b"\0\xff",
        "x" * 200_000,
        bytes(200_000),
    ]
    server = WebSocketServer(connect(), *map(incoming, messages), leaving())
    said: list[str | bytes] = []

    def talk(websocket: Any) -> None:
        said.extend(websocket)

    serve(raw(talking(talk)), server, loop_factory)
    assert said == messages


@on_each_loop
def test_websocket_sends_in_order_and_closes_on_return(
    raw: MakeAdapter, loop_factory: LoopFactory
) -> None:
    messages = [str(number) for number in range(200)]

    def talk(websocket: Any) -> None:
        for message in messages:
            websocket.send(message)

    server = WebSocketServer()
    serve(raw(talking(talk)), server, loop_factory)
    assert server.kinds == ["accept", *["send"] * 200, "close"]
    assert server.data == messages
    assert server.close_code == 1000


@pytest.mark.parametrize(
    ("data", "binary", "expected"),
    [
        ("text", None, "text"),
        (b"bytes", None, b"bytes"),
        (bytearray(b"array"), None, b"array"),
        (memoryview(b"view"), None, b"view"),
        ("é", True, "é".encode()),
        ("é".encode(), False, "é"),
        ("", None, ""),
    ],
    ids=["str", "bytes", "bytearray", "memoryview", "as bytes", "as text", "empty"],
)
def test_websocket_sends_data_of_each_kind(
    raw: MakeAdapter, data: object, binary: bool | None, expected: str | bytes
) -> None:
    server = WebSocketServer()
    serve(raw(talking(lambda ws: ws.send(data, binary))), server)
    assert server.data == [expected]
    assert type(server.data[0]) is type(expected)


def test_websocket_takes_messages_with_both_keys(raw: MakeAdapter) -> None:
    said: list[str | bytes] = []
    both = {"type": "websocket.receive", "text": None, "bytes": b"x"}
    other = {"type": "websocket.receive", "text": "y", "bytes": None}
    server = WebSocketServer(connect(), both, other, leaving())
    serve(raw(talking(lambda ws: said.extend(ws))), server)
    assert said == [b"x", "y"]


# How it is accepted.


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda ws: ws.send("x"), id="send"),
        pytest.param(lambda ws: ws.receive(), id="receive"),
        pytest.param(lambda ws: ws.closed, id="closed"),
        pytest.param(lambda ws: ws.accept(), id="accept"),
        pytest.param(list, id="iteration"),
    ],
)
def test_websocket_is_accepted_by_its_first_use(raw: MakeAdapter, use: Talk) -> None:
    server = WebSocketServer(connect(), leaving())
    serve(raw(talking(use)), server)
    accept: Message = {"type": "websocket.accept", "subprotocol": None, "headers": []}
    assert server.messages[0] == accept


def test_websocket_accepted_in_other_words_says_them(raw: MakeAdapter) -> None:
    def talk(websocket: Any) -> None:
        websocket.accept("chat", [("X-Node", "7 ")])
        websocket.send(websocket.protocol)

    server = WebSocketServer(subprotocols=["talk", "chat"])
    serve(raw(talking(talk)), server)
    assert server.messages[0]["subprotocol"] == "chat"
    assert server.messages[0]["headers"] == [(b"x-node", b"7")]
    assert server.data == ["talk, chat"]


@pytest.mark.parametrize("used_before", [False, True])
def test_websocket_accepted_by_start_response_has_its_headers(
    raw: MakeAdapter, used_before: bool
) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        if used_before:
            environ["wsgi.websocket"].send("early")
        headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", "whatever"),
            ("Sec-WebSocket-Protocol", "chat"),
            ("Set-Cookie", "a=1"),
        ]
        write = start_response("101 Switching Protocols", headers)
        write(b"is dropped")
        environ["wsgi.websocket"].send("late")
        return [b"is dropped too"]

    server = WebSocketServer(subprotocols=["chat"])
    serve(raw(application), server)
    assert server.messages[0]["subprotocol"] == (None if used_before else "chat")
    headers = [] if used_before else [(b"set-cookie", b"a=1")]
    assert server.messages[0]["headers"] == headers
    assert server.data[-1] == "late"
    assert server.close_code == 1000


# Headers that say how the connection goes on, or are of the handshake itself.
SERVERS_OWN = [
    *("Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "TE"),
    *("Trailer", "Transfer-Encoding", "Upgrade", "Sec-WebSocket-Accept"),
    *("Sec-WebSocket-Extensions", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol"),
    *("Sec-WebSocket-Version", "sec-websocket-ACCEPT"),
]


def accepting(*names: str) -> WSGIApplication:
    headers = [("X-Node", "7"), *((name, "1") for name in names)]
    return talking(lambda ws: ws.accept(headers=headers))


def answering_101(*names: str) -> WSGIApplication:
    """Accept as applications do that write a 101 response."""
    headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", "whatever"),
        ("X-Node", "7"),
        *((name, "1") for name in names),
    ]

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start_response("101 Switching Protocols", headers)
        return []

    return application


def writing_101(*names: str) -> WSGIApplication:
    """Do the same by the socket."""
    head = "".join(f"{name}: 1\r\n" for name in names)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        environ["werkzeug.socket"].sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: whatever\r\n"
            b"X-Node: 7\r\n" + head.encode() + b"\r\n\x88\0"
        )
        return []

    return application


WAYS_TO_ACCEPT = [accepting, answering_101, writing_101]


@pytest.mark.parametrize("name", SERVERS_OWN)
def test_websocket_accepted_with_a_header_of_the_server_is_without_it(
    raw: MakeAdapter, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = raw(accepting(name))
    for _ in range(2):
        server = WebSocketServer()
        serve(app, server)
        assert server.messages[0]["headers"] == [(b"x-node", b"7")]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"were dropped: {name.lower()}" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("make", WAYS_TO_ACCEPT)
def test_websocket_accepted_in_any_way_drops_the_same_headers(
    raw: MakeAdapter,
    make: Callable[..., WSGIApplication],
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = raw(make("Transfer-Encoding", "Content-Length", "Sec-WebSocket-Key"))
    for _ in range(2):
        server = WebSocketServer()
        serve(app, server)
        assert server.messages[0]["headers"] == [(b"x-node", b"7")]
    (record,) = caplog.records
    assert record.getMessage().endswith(
        "were dropped: content-length, sec-websocket-key, transfer-encoding"
    )
    caplog.clear()


@pytest.mark.parametrize("make", WAYS_TO_ACCEPT)
def test_websocket_accepted_with_the_applications_own_headers_warns_of_nothing(
    raw: MakeAdapter, make: Callable[..., WSGIApplication]
) -> None:
    server = WebSocketServer()
    serve(raw(make("Set-Cookie")), server)
    assert server.messages[0]["headers"] == [(b"x-node", b"7"), (b"set-cookie", b"1")]


def test_websocket_refused_with_headers_of_the_connection_is_without_them(
    raw: MakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    app = raw(answering([b"no"], ("Connection", "close"), status="403 Forbidden"))
    for _ in range(2):
        server = WebSocketServer()
        serve(app, server)
        assert b"connection" not in server.denial[1]
    (record,) = caplog.records
    assert "were dropped: connection" in record.getMessage()
    caplog.clear()


def test_websocket_and_request_warn_of_the_same_header_once(
    raw: MakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        if websocket := environ.get("wsgi.websocket"):
            websocket.accept(headers=[("Connection", "close")])
            return []
        start(start_response, ("Connection", "close"))
        return []

    app = raw(application)
    serve(app, HttpServer())
    serve(app, WebSocketServer())
    assert len(caplog.records) == 1
    caplog.clear()


def test_websocket_may_be_written_to_by_the_log_of_its_own_acceptance(
    raw: MakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        websocket = environ["wsgi.websocket"]

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                websocket.send(record.getMessage())

        handler = Handler()
        logger.addHandler(handler)
        try:
            websocket.accept(headers=[("Upgrade", "x")])
        finally:
            logger.removeHandler(handler)
        return []

    logger = logging.getLogger("wsgi_asgi")
    server = WebSocketServer()
    serve(raw(application), server)
    assert len(server.data) == 1
    caplog.clear()


@pytest.mark.parametrize(
    "pair", [("X-A",), ("X-A", 5), ("Bad name", "x"), "ab", None], ids=repr
)
@pytest.mark.parametrize("make", ["accept", "101"])
def test_websocket_accepted_with_a_header_that_is_none_says_so(
    raw: MakeAdapter, make: str, pair: Any
) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        if make == "accept":
            environ["wsgi.websocket"].accept(headers=[pair])
        else:
            start_response("101 Switching Protocols", [pair])
        return []

    server = WebSocketServer()
    with pytest.raises(WebSocketError, match="header"):
        serve(raw(application), server)
    assert server.denial[0] == 500


@pytest.mark.parametrize(
    ("misuse", "text"),
    [
        (lambda ws: (ws.accept(), ws.accept()), "the WebSocket is accepted"),
        (lambda ws: (ws.send("x"), ws.accept()), "the WebSocket is accepted"),
        (lambda ws: ws.accept("other"), "'other' is none of those .* 4.2.2"),
        (lambda ws: ws.accept(None, [("Bad name", "x")]), "not a token"),
        (lambda ws: ws.accept(None, [("X", "a\r\nb")]), "control character"),
        (lambda ws: ws.send(None), "not NoneType"),
        (lambda ws: ws.send(5), "not int"),
        (lambda ws: ws.send("\ud800"), "cannot be encoded"),
        (lambda ws: ws.send(b"\xff", binary=False), "no text"),
        (lambda ws: ws.close(1005), "1005 is no close code"),
        (lambda ws: ws.close(1000, "x" * 124), "124 bytes"),
    ],
    ids=[
        *("accepted twice", "accepted late", "subprotocol", "header", "line break"),
        *("None", "number", "surrogate", "bytes as text", "close code", "reason"),
    ],
)
def test_websocket_misused_says_how(raw: MakeAdapter, misuse: Talk, text: str) -> None:
    server = WebSocketServer(subprotocols=["chat"])
    with pytest.raises(WebSocketError, match=text):
        serve(raw(talking(misuse)), server)
    if server.accepted.is_open:
        assert server.close_code == 1011
    else:
        assert server.denial[0] == 500


def test_websocket_extension_is_not_the_applications_to_choose(
    raw: MakeAdapter,
) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        headers = [("Sec-WebSocket-Extensions", "permessage-deflate")]
        start_response("101 Switching Protocols", headers)
        return []

    server = WebSocketServer()
    with pytest.raises(WebSocketError, match="permessage-deflate.*9.1"):
        serve(raw(application), server)


# The environ.


def environ_of(raw: MakeAdapter, **scope: Any) -> WSGIEnvironment:
    found: WSGIEnvironment = {}

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        found.update(environ)
        start(start_response, status="404 Not Found")
        return []

    serve(raw(application), WebSocketServer(**scope))
    return found


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("ws", ("http", None)),
        ("wss", ("https", "on")),
        # Middleware writes what a proxy has said: Hypercorn's ProxyFixMiddleware.
        ("http", ("http", None)),
        ("https", ("https", "on")),
    ],
)
def test_websocket_environ_is_that_of_an_upgrade(
    raw: MakeAdapter, scheme: str, expected: tuple[str, str | None]
) -> None:
    headers = [
        (b"upgrade", b"WebSocket"),
        (b"Connection", b"keep-alive, Upgrade"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"sec-websocket-version", b"13"),
        (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
        (b"sec-websocket-protocol", b"a, b"),
        (b"content-length", b"5"),
        (b"transfer-encoding", b"chunked"),
        (b"origin", b"https://example.org"),
    ]
    environ = environ_of(raw, scheme=scheme, headers=headers, subprotocols=["a", "b"])
    assert environ["REQUEST_METHOD"] == "GET"
    assert (environ["wsgi.url_scheme"], environ.get("HTTPS")) == expected
    assert environ["HTTP_UPGRADE"] == "WebSocket"
    assert environ["HTTP_CONNECTION"] == "keep-alive, Upgrade"
    assert environ["HTTP_SEC_WEBSOCKET_KEY"] == "dGhlIHNhbXBsZSBub25jZQ=="
    assert environ["HTTP_SEC_WEBSOCKET_PROTOCOL"] == "a, b"
    assert environ["wsgi.input"].read() == b""
    assert environ["wsgi.multithread"] is True
    for key in ("SEC_WEBSOCKET_EXTENSIONS", "TRANSFER_ENCODING"):
        assert f"HTTP_{key}" not in environ
    assert "CONTENT_LENGTH" not in environ
    websocket = environ["wsgi.websocket"]
    assert environ["wsgi.websocket_version"] == websocket.version == "13"
    assert websocket.origin == "https://example.org"
    assert websocket.path == environ["PATH_INFO"]
    assert websocket.environ["PATH_INFO"] == environ["PATH_INFO"]


def test_websocket_environ_has_what_the_scope_lacks(raw: MakeAdapter) -> None:
    # HTTP/2 has no such headers, uvicorn with wsproto keeps the subprotocols.
    scope = {"headers": [], "http_version": "2", "subprotocols": ["a", "b"]}
    environ = environ_of(raw, **scope)
    assert environ["HTTP_UPGRADE"] == "websocket"
    assert environ["HTTP_CONNECTION"] == "Upgrade"
    assert len(environ["HTTP_SEC_WEBSOCKET_KEY"]) == 24
    assert environ["HTTP_SEC_WEBSOCKET_VERSION"] == "13"
    assert environ["HTTP_SEC_WEBSOCKET_PROTOCOL"] == "a, b"
    assert environ["HTTP_HOST"]


def test_websocket_scope_without_optional_keys_is_served(raw: MakeAdapter) -> None:
    server = WebSocketServer()
    for key in ("http_version", "scheme", "subprotocols", "extensions"):
        del server.scope[key]
    serve(raw(talking(lambda ws: ws.send(ws.environ["SERVER_PROTOCOL"]))), server)
    assert server.data == ["HTTP/1.1"]


def test_websocket_scope_is_seen_unchanged(raw: MakeAdapter) -> None:
    environ = environ_of(raw)
    assert environ["asgi.scope"]["scheme"] == "ws"
    assert repr(environ["asgi.scope"]) == "<ASGI scope of websocket '/'>"


# Refusals.


def test_websocket_refused_by_a_response_sends_that(adapter: MakeAdapter) -> None:
    headers = [("Content-Length", "9"), ("WWW-Authenticate", "Basic")]
    app = answering([b"not ", b"today"], *headers, status="401 Unauthorized")
    server = WebSocketServer()
    serve(adapter(app), server)
    status, sent, body = server.denial
    assert (status, body) == (401, b"not today")
    assert sent[b"www-authenticate"] == b"Basic"
    assert sent[b"content-length"] == b"9"


@pytest.mark.parametrize(
    ("status", "code"), [("204 No Content", 204), ("302 Found", 302), ("200 OK", 200)]
)
def test_websocket_refused_without_a_body_has_a_length(
    adapter: MakeAdapter, status: str, code: int
) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start_response(status, [] if code == 204 else [("Content-Type", "text/plain")])
        return []

    server = WebSocketServer()
    serve(adapter(application), server)
    assert server.denial[0] == code
    assert server.denial[1][b"content-length"] == b"0"


@pytest.mark.parametrize("make", ["generator", "write"])
def test_websocket_refused_in_pieces_sends_them_at_once(
    adapter: MakeAdapter, make: str
) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        write = start(start_response, status="404 Not Found")
        if make == "write":
            write(b"no")
            write(b"where")
            return []
        return iter([b"no", b"", b"where"])

    server = WebSocketServer()
    serve(adapter(application), server)
    assert server.denial[2] == b"nowhere"


def test_websocket_refused_without_end_is_cut(adapter: MakeAdapter) -> None:
    app = answering(endless(bytes(1000)))
    server = WebSocketServer()
    serve(adapter(app, limits=Limits(buffer=1500)), server)
    assert server.denial[2] == bytes(1500)


def test_websocket_refused_slowly_ends_when_the_client_leaves(
    adapter: MakeAdapter,
) -> None:
    go_on = Gate("the stream goes on")

    def slow() -> Iterable[bytes]:
        yield b"x"
        go_on.wait()
        yield b"y"
        raise AssertionError("nobody is there")

    server = WebSocketServer()
    app = adapter(answering(slow()))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(app))
            await server.received(2).reached()
            server.left.open()
            await server.told.reached()
            go_on.open()

    run(main())
    assert server.messages == []


@pytest.mark.parametrize(
    ("scope", "app"),
    [
        pytest.param({"denial": False}, answering([b"x"], status="404 No"), id="none"),
        # RFC 8441 5: there 2xx says that it is open.
        pytest.param({"http_version": "2"}, hello, id="200 over HTTP/2"),
    ],
)
def test_websocket_refused_where_no_response_can_be_is_closed(
    adapter: MakeAdapter, scope: dict[str, Any], app: WSGIApplication
) -> None:
    server = WebSocketServer(**scope)
    serve(adapter(app), server)
    assert server.kinds == ["close"]


def test_websocket_refused_over_http_2_keeps_its_status(adapter: MakeAdapter) -> None:
    server = WebSocketServer(http_version="2")
    serve(adapter(answering([b"x"], status="404 Not Found")), server)
    assert server.denial[0] == 404


def test_websocket_closed_before_it_was_accepted_is_refused(raw: MakeAdapter) -> None:
    server = WebSocketServer()
    serve(raw(talking(lambda ws: ws.close(4000, b"no"))), server)
    assert server.kinds == ["close"]


@pytest.mark.parametrize(
    ("app", "error"),
    [
        pytest.param(raising(KeyError("x")), KeyError, id="raised"),
        pytest.param(raising(SystemExit()), RuntimeError, id="exited"),
        pytest.param(raising(ClientDisconnected()), ClientDisconnected, id="untrue"),
        pytest.param(raising(StopIteration()), RuntimeError, id="not upgraded"),
        pytest.param(talking(bool), RuntimeError, id="no start_response"),
        pytest.param(answering(["text"]), TypeError, id="chunk of text"),  # type: ignore[list-item]
        pytest.param(answering([], status="1"), ValueError, id="bad status"),
        pytest.param(
            answering([], ("Content-Length", "5")), RuntimeError, id="too short"
        ),
    ],
)
def test_websocket_of_an_application_that_fails_is_refused_with_500(
    raw: MakeAdapter, app: WSGIApplication, error: type[Exception]
) -> None:
    server = WebSocketServer()
    with pytest.raises(error):
        serve(raw(app), server)
    assert server.denial[0] == 500


def test_websocket_with_a_bad_header_never_reaches_the_application(
    raw: MakeAdapter,
) -> None:
    app = raw(never_called, duplicate_header_limit=2)
    bad = WebSocketServer(headers=[(b"x", b"a\nb")])
    many = WebSocketServer(headers=[(b"x", b"1")] * 3)
    serve(app, bad)
    serve(app, many)
    assert (bad.denial[0], many.denial[0]) == (400, 431)
    assert app.stats().rejected == 2


def test_websocket_that_left_before_it_connected_is_sent_nothing(
    raw: MakeAdapter,
) -> None:
    server = WebSocketServer(leaving(1006))
    serve(raw(never_called), server)
    assert not server.messages


# Options and bounds.


@on_each_loop
def test_websockets_false_refuses_before_anything_runs(
    raw: MakeAdapter, loop_factory: LoopFactory
) -> None:
    server, gone = WebSocketServer(), WebSocketServer(leaving())
    app = raw(never_called, websockets=False)
    serve(app, server, loop_factory)
    serve(app, gone, loop_factory)
    assert (server.kinds, gone.kinds) == (["close"], [])


def test_websockets_of_an_asgi_application_are_its_own(raw: MakeAdapter) -> None:
    async def other(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 4000, "reason": ""})

    server = WebSocketServer()
    serve(raw(never_called, websockets=other), server)
    assert server.close_code == 4000


def test_websockets_of_another_kind_are_refused_when_made() -> None:
    with pytest.raises(TypeError, match="websockets is True, False or"):
        WsgiToAsgi(hello, websockets="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"threads": 1}, {"thread_sensitive": True}])
def test_websockets_beside_requests_that_take_turns_are_refused(
    raw: MakeAdapter, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = raw(never_called, **options)
    for _ in range(2):
        server = WebSocketServer()
        serve(app, server)
        assert server.kinds == ["close"]
    assert [record.getMessage()[-60:] for record in caplog.records] == [
        "after the other; websockets=False refuses them without saying so"[-60:]
    ]
    caplog.clear()


@pytest.mark.parametrize("most", [0, 2])
def test_websockets_beyond_the_bound_are_refused_with_503(
    raw: MakeAdapter, most: int
) -> None:
    app = raw(talking(echo), limits=Limits(websockets=most))

    async def main() -> None:
        open_ones = [WebSocketServer() for _ in range(most)]
        async with asyncio.TaskGroup() as tasks:
            for server in open_ones:
                tasks.create_task(server.run(app))
                await server.accepted.reached()
            assert app.stats().websockets == most
            assert (app.stats().busy, app.stats().queued) == (0, 0)
            late = WebSocketServer()
            await late.run(app)
            assert late.denial[0] == 503
            assert late.denial[1][b"retry-after"] == b"10"
            for server in open_ones:
                server.left.open()

    run(main())
    until(lambda: app.stats().websockets == 0, "no thread is held")
    assert app.stats().rejected == 1
    if most:
        again = WebSocketServer(connect(), leaving())
        serve(app, again)
        assert again.accepted.is_open


def test_websocket_without_a_thread_to_be_had_is_refused(
    raw: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    app, server = raw(never_called), WebSocketServer()
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    serve(app, server)
    assert server.denial[0] == 503
    assert app.stats().websockets == 0


# Before they are accepted: in the threads that requests run in.


class Visits:
    """Calls of an application that stay until the gate is open.

    Args:
        then: What each does after that.

    Attributes:
        go_on: The gate.
        count: How many have begun.
        most: How many have been inside at a time.
    """

    def __init__(self, then: WSGIApplication) -> None:
        self.go_on = Gate("the calls go on")
        self.count = self.most = 0
        self._inside = 0
        self._lock = threading.Lock()
        self._then = then

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        with self._lock:
            self.count += 1
            self._inside += 1
            self.most = max(self.most, self._inside)
        self.go_on.wait()
        with self._lock:
            self._inside -= 1
        return self._then(environ, start_response)


def test_websockets_not_accepted_run_no_more_calls_at_a_time_than_threads(
    raw: MakeAdapter,
) -> None:
    view = Visits(answering([b"no"], status="404 Not Found"))
    app = raw(view, threads=2)
    servers = [WebSocketServer() for _ in range(20)]
    late = HttpServer()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for server in servers:
                tasks.create_task(server.run(app))
            await asyncio.to_thread(until, lambda: view.count == 2, "two have begun")
            tasks.create_task(late.run(app))
            await asyncio.sleep(QUIET_S)
            stats = app.stats()
            assert (stats.busy, stats.queued, stats.websockets) == (2, 19, 0)
            view.go_on.open()

    run(main())
    assert view.most == 2
    assert [server.denial[0] for server in servers] == [404] * 20
    assert late.status == 404


EXECUTORS = [
    pytest.param(lambda: {"threads": 2}, id="own pool"),
    pytest.param(lambda: {"executor": ThreadPool(2)}, id="pool that is shared"),
    pytest.param(lambda: {"executor": ThreadPoolExecutor(1)}, id="executor given"),
]
in_each_executor_for_many = pytest.mark.parametrize("make_options", EXECUTORS)


@in_each_executor_for_many
def test_websockets_that_are_accepted_keep_nobody_from_running(
    raw: MakeAdapter, make_options: Callable[[], dict[str, Any]]
) -> None:
    threads: list[threading.Thread] = []

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        if "wsgi.websocket" not in environ:
            return hello(environ, start_response)
        threads.append(threading.current_thread())
        echo(environ["wsgi.websocket"])
        return []

    app = raw(application, **make_options())
    servers = [WebSocketServer() for _ in range(5)]

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for server in servers:
                tasks.create_task(server.run(app))
                await server.accepted.reached()
            request = HttpServer()
            await request.run(app)
            assert request.body == b"Hello"
            assert (app.stats().websockets, app.stats().busy) == (5, 0)
            for server in servers:
                server.left.open()

    run(main())
    until(lambda: app.stats().websockets == 0, "no WebSocket is open")
    # Each thread ends with its WebSocket, and does not come back for requests.
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert len(set(threads)) == 5
    again = HttpServer()
    serve(app, again)
    assert again.body == b"Hello"


@in_each_executor_for_many
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda ws: ws.accept(), id="accept"),
        pytest.param(lambda ws: ws.send("x"), id="send"),
        pytest.param(lambda ws: ws.receive(), id="receive"),
        pytest.param(list, id="iteration"),
    ],
)
@pytest.mark.parametrize("goes_on", [False, True], ids=["it fails", "it answers"])
def test_websocket_accepted_when_all_places_are_taken_meanwhile_is_refused_with_503(
    raw: MakeAdapter,
    make_options: Callable[[], dict[str, Any]],
    use: Talk,
    goes_on: bool,
) -> None:
    full = Gate("all places are taken")
    errors: list[str] = []

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        websocket = environ["wsgi.websocket"]
        if websocket.path == "/first":
            list(websocket)
            return []
        full.wait()
        with pytest.raises(WebSocketError) as caught:
            use(websocket)
        errors.append(str(caught.value))
        assert websocket.closed
        if not goes_on:
            raise caught.value
        return hello(environ, start_response)

    app = raw(application, limits=Limits(websockets=1), **make_options())
    first, second = WebSocketServer(path="/first"), WebSocketServer(path="/second")

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(second.run(app))
            await asyncio.to_thread(until, lambda: app.stats().busy == 1, "it runs")
            tasks.create_task(first.run(app))
            await first.accepted.reached()
            full.open()
            await task
            assert app.stats().websockets == 1
            first.left.open()

    run(main())
    assert second.denial[0] == 503
    assert second.denial[1][b"retry-after"] == b"10"
    assert errors[0].startswith("too many WebSockets are open")
    assert app.stats().rejected == 1
    until(lambda: app.stats().websockets == 0, "the first is over")


def test_websocket_asked_for_beside_too_many_others_is_refused_with_503(
    raw: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_module, "HANDSHAKES", 2)
    view = Visits(talking(echo))
    app = raw(view, executor=ThreadPoolExecutor(1))
    servers = [WebSocketServer() for _ in range(2)]

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for server in servers:
                tasks.create_task(server.run(app))
            await asyncio.to_thread(until, lambda: view.count == 2, "both have begun")
            assert (app.stats().busy, app.stats().websockets) == (2, 0)
            late = WebSocketServer()
            await late.run(app)
            assert late.denial[0] == 503
            assert late.denial[1][b"retry-after"] == b"1"
            view.go_on.open()
            for server in servers:
                await server.accepted.reached()
            # What is accepted is none of them any more.
            another = WebSocketServer(connect(), leaving())
            await another.run(app)
            assert another.accepted.is_open
            for server in servers:
                server.left.open()

    run(main())
    assert app.stats().rejected == 1


def test_websocket_whose_client_leaves_before_its_turn_is_dropped(
    raw: MakeAdapter,
) -> None:
    view = Visits(hello)
    app = raw(view, threads=2)
    leaves = Gate("the client leaves")
    servers = [WebSocketServer() for _ in range(2)]
    impatient = WebSocketServer(connect(), leaves, leaving(1001))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for server in servers:
                tasks.create_task(server.run(app))
            await asyncio.to_thread(until, lambda: view.count == 2, "two have begun")
            leaves.open()
            await impatient.run(app)  # which need not wait for a thread
            assert app.stats().queued == 0
            view.go_on.open()

    run(main())
    serve(app, HttpServer())  # by which all that waited before has had its turn
    assert view.count == 3
    assert impatient.messages == []


def test_websocket_whose_turn_a_shutdown_does_not_wait_for_is_refused_with_503(
    raw: MakeAdapter,
) -> None:
    view = Visits(hello)
    app = raw(view, threads=2, limits=Limits(shutdown_timeout=0.05))
    servers = [WebSocketServer() for _ in range(3)]

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            async with lifespan(app):
                for server in servers:
                    tasks.create_task(server.run(app))
                until_two = partial(until, lambda: view.count == 2, "two have begun")
                await asyncio.to_thread(until_two)
            view.go_on.open()

    run(main())
    assert view.count == 2
    assert servers[2].denial[0] == 503
    assert app.stats().rejected == 1


def test_websocket_whose_task_is_cancelled_before_its_turn_never_runs(
    raw: MakeAdapter,
) -> None:
    view = Visits(hello)
    app = raw(view, threads=2)
    servers = [WebSocketServer() for _ in range(2)]

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for server in servers:
                tasks.create_task(server.run(app))
            await asyncio.to_thread(until, lambda: view.count == 2, "two have begun")
            third = asyncio.create_task(WebSocketServer().run(app))
            await asyncio.sleep(0)
            third.cancel()
            with pytest.raises(asyncio.CancelledError):
                await third
            view.go_on.open()

    run(main())
    serve(app, HttpServer())
    assert view.count == 3


# Inbound and outbound bounds.


def test_websocket_not_read_from_stops_receiving(raw: MakeAdapter) -> None:
    read_on, read = Gate("the application reads on"), []

    def talk(websocket: Any) -> None:
        websocket.accept()
        read_on.wait()
        read.extend(websocket)

    messages = [b"x" * 100] * 50
    server = WebSocketServer(connect(), *map(incoming, messages), leaving())
    app = raw(talking(talk), limits=Limits(buffer=1000))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(app))
            await server.received(11).reached()
            await server.received(12).stays_shut()
            read_on.open()

    run(main())
    assert read == messages


def test_websocket_send_waits_for_a_slow_client(raw: MakeAdapter) -> None:
    sent: list[int] = []

    def talk(websocket: Any) -> None:
        for number in range(10):
            websocket.send(bytes(600))
            sent.append(number)

    server = WebSocketServer()
    stall = server.stall_at(2)
    app = raw(talking(talk), limits=Limits(buffer=1000))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(app))
            await server.sent(3).stays_shut()
            assert sent == [0]
            stall.open()

    run(main())
    assert len(server.data) == 10


def test_websocket_that_never_waits_lets_other_tasks_have_their_turn(
    raw: MakeAdapter,
) -> None:
    total, put = 100, 0

    class Busy(WebSocketServer):
        def _after_send(self, message: Message) -> None:
            super()._after_send(message)
            # The application is always ahead, so there is nothing to wait for.
            while self.data and put < min(len(self.data) + 1, total):
                time.sleep(0.0001)

    def flood(websocket: Any) -> None:
        nonlocal put
        for _ in range(total):
            websocket.send("x" * 5000)
            put += 1

    server = Busy()
    served = raw(talking(flood), limits=Limits(buffer=50_000))
    assert run(most_sent_in_a_turn(server, served)) < total // 2
    assert len(server.data) == total


@pytest.mark.parametrize("how", ["by a close", "at once"])
def test_websocket_send_that_waits_ends_when_the_client_leaves(
    raw: MakeAdapter, how: str
) -> None:
    raised: list[WebSocketError] = []

    def talk(websocket: Any) -> None:
        try:
            while True:
                websocket.send(bytes(2000))
        except WebSocketError as error:
            raised.append(error)

    leaves = Gate("the client leaves")
    server = WebSocketServer(connect(), leaves, leaving())
    server.stall_at(3)
    app = raw(talking(talk), limits=Limits(buffer=1000))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(app))
            await server.sent(3).reached()
            (leaves if how == "by a close" else server.left).open()

    run(main())
    assert "the client has left" in str(raised[0])


def test_websocket_is_sent_to_by_several_threads_at_once(raw: MakeAdapter) -> None:
    def talk(websocket: Any) -> None:
        def push(who: int) -> None:
            for number in range(50):
                websocket.send(f"{who} {number}")

        threads = [threading.Thread(target=push, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    server = WebSocketServer()
    serve(raw(talking(talk), limits=Limits(buffer=20)), server)
    for who in range(4):
        own = [text for text in server.data if str(text).startswith(f"{who} ")]
        assert own == [f"{who} {number}" for number in range(50)]


# What does not wait for a client that takes nothing, although a send() does.


def send_until_it_raises(websocket: Any, who: str = "x") -> list[str]:
    """Send what is too much at once, and give what was taken."""
    sent: list[str] = []
    try:
        while True:
            message = f"{who} {len(sent)}".ljust(2000)
            websocket.send(message)
            sent.append(message)
    except WebSocketError:
        return sent


class Senders:
    """Threads that send to one WebSocket until it is closed.

    Args:
        websocket: The WebSocket.
        server: Its server, which is `stalled`.
        count: How many threads.
    """

    def __init__(self, websocket: Any, server: WebSocketServer, count: int = 1) -> None:
        self.sent: list[list[str]] = [[] for _ in range(count)]

        def send(number: int) -> None:
            self.sent[number] = send_until_it_raises(websocket, str(number))

        self._threads = [
            threading.Thread(target=send, args=(number,)) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()
        server.sent(4).wait()
        until(lambda: websocket._channel._crossing._stalled, "one of them waits")

    def join(self) -> None:
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


def stalled() -> WebSocketServer:
    """Make a server whose client takes two messages, and waits for its gate."""
    server = WebSocketServer()
    server.stall_at(4)
    return server


async def run_beside_stalled(
    app: WsgiToAsgi, server: WebSocketServer, before: Gate
) -> None:
    """Have the client take nothing before the gate is open, and then all."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run(app))
        await before.reached()
        server.stall_at(4).open()


@pytest.mark.parametrize("count", [1, 3], ids=["one thread", "several threads"])
@pytest.mark.parametrize("how", ["close()", "the end of the call", "an error"])
def test_websocket_close_waits_for_no_send_of_other_threads(
    raw: MakeAdapter, count: int, how: str
) -> None:
    closed, ended = Gate("it is closed"), Gate("the senders have ended")
    senders: list[Senders] = []

    def talk(websocket: Any) -> None:
        websocket.accept()
        senders.append(Senders(websocket, server, count))
        if how == "close()":
            websocket.close(4000)
            closed.open()
            senders[0].join()
            ended.open()
        if how == "an error":
            raise ConnectionError

    server, app = stalled(), raw(talking(talk), limits=Limits(buffer=5000))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(app))
            if how == "close()":
                await closed.reached()
            await asyncio.to_thread(until, lambda: senders, "the threads send")
            await asyncio.to_thread(senders[0].join)
            await server.over.stays_shut(0.05)
            server.stall_at(4).open()

    run(main())
    assert server.kinds[-1] == "close"
    assert server.close_code == (4000 if how == "close()" else 1000)
    # What was taken is sent, in the order of each, and what was not is not.
    for number, sent in enumerate(senders[0].sent):
        own = [text for text in server.data if str(text).startswith(f"{number} ")]
        assert own == sent


def test_websocket_close_of_another_thread_ends_a_receive_at_once(
    raw: MakeAdapter,
) -> None:
    received = Gate("receive() has returned")

    def talk(websocket: Any) -> None:
        websocket.accept()
        senders = Senders(websocket, server)
        timer = threading.Timer(0.05, websocket.close)
        timer.start()
        assert websocket.receive() is None
        assert websocket.close_code == 1000
        received.open()
        timer.join()
        senders.join()

    server = stalled()
    app = raw(talking(talk), limits=Limits(buffer=5000))
    run(run_beside_stalled(app, server, received))
    assert server.close_code == 1000


def test_websocket_receives_while_another_thread_sends(raw: MakeAdapter) -> None:
    received, stuck = Gate("a message is received"), Gate("a send() waits")

    def talk(websocket: Any) -> None:
        websocket.accept()
        senders = Senders(websocket, server)
        stuck.open()
        assert websocket.receive() == "hello"
        assert not websocket.closed
        with pytest.raises(WebSocketError, match="is accepted"):
            websocket.accept()
        received.open()
        websocket.close()
        senders.join()

    server = stalled()
    server.will_receive(stuck, incoming("hello"))
    app = raw(talking(talk), limits=Limits(buffer=5000))
    run(run_beside_stalled(app, server, received))


class Clock:
    """Timers of the loop that a test lets go off, of those that take so long.

    Args:
        monkeypatch: Puts them in place.
        seconds: How long.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        call_later = AsyncioPort.call_later
        self.due: list[Callable[[], object]] = []

        def call(port: AsyncioPort, delay: float, callback: Any) -> Any:
            if delay == seconds:
                self.due.append(callback)
            return call_later(port, delay, callback)

        monkeypatch.setattr(AsyncioPort, "call_later", call)

    def go_off(self) -> None:
        """Call what is due; on the loop."""
        due, self.due = self.due, []
        for callback in due:
            callback()


@pytest.mark.parametrize(
    "goes_on", [False, True], ids=["it has ended", "it goes on and fails"]
)
def test_websocket_whose_client_takes_nothing_is_given_up(
    raw: MakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    goes_on: bool,
) -> None:
    clock = Clock(monkeypatch, exchange.CLOSING_S)
    go_on = Gate("the application goes on")
    sent: list[list[str]] = []

    def talk(websocket: Any) -> None:
        timer = threading.Timer(0.05, websocket.close)
        timer.start()
        sent.append(send_until_it_raises(websocket))
        timer.join()
        if goes_on:
            go_on.wait()
            raise KeyError("too late to be raised")

    server, app = stalled(), raw(talking(talk), limits=Limits(buffer=5000))

    async def main() -> None:
        task = asyncio.create_task(server.run(app))
        await server.sent(4).reached()
        await asyncio.to_thread(until, lambda: clock.due, "the application has closed")
        # The client takes one message, and has another while for the next ones.
        server.stall_at(5)
        server.stall_at(4).open()
        await server.sent(5).reached()
        clock.go_off()
        await asyncio.sleep(0)
        assert not task.done()
        clock.go_off()
        await task
        assert app.stats().websockets == goes_on
        go_on.open()
        await asyncio.to_thread(until, lambda: not app.stats().websockets, "its end")
        # The loop hears of it after the thread has ended.
        await asyncio.to_thread(until, lambda: not app._bridge.crossings(), "no trace")

    run(main())
    assert server.data == sent[0][:4]
    assert server.kinds[-1] == "send"
    assert ("too late to be raised" in caplog.text) is goes_on
    caplog.clear()


def test_websocket_whose_client_takes_no_refusal_is_given_up(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "CLOSING_S", 0.05)
    server = WebSocketServer()
    server.stall_at(1)
    serve(adapter(answering([b"no"], status="404 Not Found")), server)
    assert server.kinds == ["http.response.start"]


# The end.


def test_websocket_closed_by_the_client_says_so_once(raw: MakeAdapter) -> None:
    def talk(websocket: Any) -> None:
        assert websocket.receive() == "last"
        assert websocket.receive() is None
        assert websocket.closed
        assert (websocket.close_code, websocket.close_reason) == (4000, "enough")
        with pytest.raises(WebSocketError):
            websocket.receive()
        with pytest.raises(WebSocketError):
            websocket.send("x")
        with pytest.raises(WebSocketError):
            websocket.send(None)
        assert list(websocket) == []
        websocket.close()

    server = WebSocketServer(connect(), incoming("last"), leaving(4000, "enough"))
    serve(raw(talking(talk)), server)
    assert server.kinds == ["accept"]


def test_websocket_closed_is_not_said_before_all_is_read(raw: MakeAdapter) -> None:
    read: list[str] = []

    def talk(websocket: Any) -> None:
        websocket.accept()
        until(lambda: server.told.is_open, "the client has left")
        with pytest.raises(WebSocketError, match="client has left"):
            websocket.send("too late")
        while not websocket.closed:
            read.append(websocket.receive())

    server = WebSocketServer(connect(), incoming("a"), incoming("b"), leaving())
    serve(raw(talking(talk)), server)
    assert read == ["a", "b"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        pytest.param({"type": "websocket.disconnect"}, 1005, id="without a code"),
        pytest.param(leaving(1006), 1006, id="lost"),
        pytest.param(ConnectionResetError(), 1006, id="receive failed"),
        pytest.param({"type": "websocket.receive", "text": "\ud800"}, 1006, id="bad"),
    ],
)
def test_websocket_close_code_is_what_the_server_knows(
    raw: MakeAdapter, message: Message | BaseException, code: int
) -> None:
    codes: list[int] = []

    def talk(websocket: Any) -> None:
        assert websocket.receive() is None
        codes.append(websocket.close_code)

    serve(raw(talking(talk)), WebSocketServer(connect(), message))
    assert codes == [code]


def test_websocket_left_before_it_is_iterated_knows_the_code(raw: MakeAdapter) -> None:
    codes: list[tuple[int | None, str]] = []

    def talk(websocket: Any) -> None:
        codes.append((websocket.close_code, websocket.close_reason))
        websocket.accept()
        until(lambda: server.told.is_open, "the client has left")
        assert list(websocket) == []
        codes.append((websocket.close_code, websocket.close_reason))

    server = WebSocketServer(connect(), leaving(4000, "enough"))
    serve(raw(talking(talk)), server)
    assert codes == [(None, ""), (4000, "enough")]


def test_websocket_closed_by_the_application_is_closed_for_it(
    raw: MakeAdapter,
) -> None:
    def talk(websocket: Any) -> None:
        websocket.send("x")
        websocket.close(4001, "bye")
        assert websocket.closed
        websocket.close(4002)
        for data in ("x", bytearray(b"x"), None):
            with pytest.raises(WebSocketError, match="closed"):
                websocket.send(data)
        with pytest.raises(WebSocketError, match="closed"):
            websocket.receive()

    server = WebSocketServer()
    serve(raw(talking(talk)), server)
    assert server.kinds == ["accept", "send", "close"]
    assert (server.close_code, server.messages[-1]["reason"]) == (4001, "bye")


def test_websocket_closed_by_another_thread_ends_a_receive(raw: MakeAdapter) -> None:
    def talk(websocket: Any) -> None:
        websocket.accept()
        timer = threading.Timer(0.1, websocket.close)
        timer.start()
        assert websocket.receive() is None
        timer.join()

    server = WebSocketServer()
    serve(raw(talking(talk)), server)
    assert server.close_code == 1000


def test_websocket_loop_that_goes_on_until_an_error_ends_well(
    raw: MakeAdapter,
) -> None:
    def talk(websocket: Any) -> None:
        while True:
            websocket.send(websocket.receive())

    server = WebSocketServer(connect(), incoming("a"))
    server.will_receive(server.sent(2), leaving())
    serve(raw(talking(talk)), server)
    assert server.data == ["a"]


def test_websocket_end_that_is_wrapped_ends_well(raw: MakeAdapter) -> None:
    def talk(websocket: Any) -> None:
        try:
            while True:
                websocket.send(websocket.receive())
        except WebSocketError as error:
            raise KeyError("gone") from error

    serve(raw(talking(talk)), WebSocketServer(connect(), leaving()))


def failing(error: BaseException) -> WSGIApplication:
    def talk(websocket: Any) -> None:
        websocket.send("x")
        raise error

    return talking(talk)


@pytest.mark.parametrize("error", [StopIteration(), ConnectionError()], ids=repr)
def test_websocket_ended_as_flask_sock_and_engineio_do_is_no_error(
    raw: MakeAdapter, error: Exception
) -> None:
    server = WebSocketServer()
    serve(raw(failing(error)), server)
    assert server.close_code == 1000


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), ConnectionRefusedError(), WebSocketError("own"), SystemExit()],
    ids=repr,
)
def test_websocket_of_an_application_that_raises_is_closed_with_1011(
    raw: MakeAdapter, error: BaseException
) -> None:
    server = WebSocketServer()
    with pytest.raises((type(error), RuntimeError)):
        serve(raw(failing(error)), server)
    assert server.close_code == 1011


@pytest.mark.parametrize(
    ("status", "code"), [("200 OK", 1000), ("500 Internal Server Error", 1011)]
)
def test_websocket_close_code_follows_the_last_status(
    raw: MakeAdapter, status: str, code: int
) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        environ["wsgi.websocket"].send("x")
        start_response(status, [], (KeyError, KeyError(), None))  # type: ignore[arg-type]
        return [b"is dropped"]

    server = WebSocketServer()
    serve(raw(application), server)
    assert server.close_code == code


@pytest.mark.parametrize(
    ("app", "code"),
    [
        pytest.param(hello, 1000, id="returns"),
        pytest.param(raising(ValueError("broken")), 1011, id="raises"),
    ],
)
def test_websocket_that_another_thread_accepts_as_the_application_ends_is_closed(
    raw: MakeAdapter, monkeypatch: pytest.MonkeyPatch, app: WSGIApplication, code: int
) -> None:
    environs: list[WSGIEnvironment] = []

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        environs.append(environ)
        return app(environ, start_response)

    def accept_and_build(*arguments: Any) -> Any:
        accepting = threading.Thread(target=environs[0]["wsgi.websocket"].accept)
        accepting.start()
        accepting.join()
        return build_denial(*arguments)

    monkeypatch.setattr(exchange, "build_denial", accept_and_build)
    server = WebSocketServer()
    with suppress(ValueError):
        serve(raw(application), server)
    assert server.kinds == ["accept", "close"]
    assert server.close_code == code


@pytest.mark.parametrize("result", [None, []])
def test_websocket_application_may_return_nothing(
    raw: MakeAdapter, result: Any
) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        environ["wsgi.websocket"].send("x")
        return result  # type: ignore[no-any-return]

    server = WebSocketServer()
    serve(raw(application), server)
    assert server.close_code == 1000


def test_websocket_generator_talks_as_it_is_iterated(raw: MakeAdapter) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        for message in environ["wsgi.websocket"]:
            environ["wsgi.websocket"].send(message)
            yield b"is dropped"

    server = WebSocketServer(connect(), incoming("a"), incoming("b"))
    server.will_receive(server.sent(3), leaving())
    serve(raw(application), server)
    assert server.data == ["a", "b"]


def test_websocket_generator_is_stopped_when_the_client_leaves(
    raw: MakeAdapter,
) -> None:
    ended = Gate("the generator is closed")

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        environ["wsgi.websocket"].send("x")
        try:
            yield from endless()
        finally:
            ended.open()

    serve(raw(application), WebSocketServer(connect(), leaving()))
    assert ended.is_open


# Timeouts.


def test_websocket_receive_gives_up_in_time(raw: MakeAdapter) -> None:
    def talk(websocket: Any) -> None:
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError):
                websocket.receive(timeout)
        websocket.send("patience")
        assert websocket.receive(10) == "at last"
        assert websocket.receive(timeout=10) is None

    patience = Gate("patience")
    server = WebSocketServer(connect(), patience, incoming("at last"), leaving())
    app = raw(talking(talk))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(app))
            await server.sent(2).reached()
            patience.open()

    run(main())


def test_websocket_receive_waits_no_longer_behind_another(raw: MakeAdapter) -> None:
    def talk(websocket: Any) -> None:
        websocket.accept()
        other = threading.Thread(target=websocket.receive)
        other.start()
        until(lambda: websocket._channel._receiving.locked(), "the other receives")
        with pytest.raises(TimeoutError, match="another thread"):
            websocket.receive(0.01)
        websocket.close()
        other.join()

    serve(raw(talking(talk)), WebSocketServer())


# Servers that complain, stop or cancel.


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(OSError("gone"), False, id="gone"),
        pytest.param(RuntimeError("after close"), True, id="gone in other words"),
    ],
)
def test_websocket_that_cannot_be_sent_to_since_the_client_left_is_no_error(
    raw: MakeAdapter, error: Exception, told: bool
) -> None:
    def talk(websocket: Any) -> None:
        while True:
            websocket.send("x")

    server = WebSocketServer(connect(), *([leaving()] if told else []))
    server.fail_at(2, error)
    serve(raw(talking(talk)), server)


@pytest.mark.parametrize("denial", [True, False], ids=["response", "close"])
def test_websocket_that_cannot_be_refused_since_the_client_left_is_no_error(
    adapter: MakeAdapter, denial: bool
) -> None:
    server = WebSocketServer(denial=denial)
    server.fail_at(1, RuntimeError("Connection already upgraded"))
    serve(adapter(hello), server)
    assert server.receives == 1


def test_websocket_that_the_server_does_not_take_is_an_error(raw: MakeAdapter) -> None:
    def talk(websocket: Any) -> None:
        websocket.send("x")
        websocket.close(1008)

    server = WebSocketServer()
    server.fail_at(3, ValueError("invalid close code 1008"))
    with pytest.raises(ValueError, match="1008"):
        serve(raw(talking(talk)), server)


def test_websocket_that_left_before_the_server_complained_is_no_error(
    raw: MakeAdapter,
) -> None:
    failed = Gate("the server has complained")

    def talk(websocket: Any) -> None:
        websocket.send("x")
        websocket.close(1008)
        until(lambda: websocket._channel.inbox.complete, "the server has complained")
        failed.open()

    server = WebSocketServer(connect(), failed, incoming("unread"), leaving())
    server.fail_at(3, RuntimeError("after close"))
    serve(raw(talking(talk)), server)


# How long it is kept after the close: until the client has answered that.


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_websocket_closed_is_kept_until_the_client_has_answered(
    raw: MakeAdapter, version: str
) -> None:
    free = Gate("no thread is held")
    server = WebSocketServer(connect(), tells_end=False, http_version=version)
    server.will_receive(server.over, incoming("late"), free, leaving())
    app = raw(talking(lambda ws: ws.send("x")))

    async def main() -> None:
        task = asyncio.create_task(server.run(app))
        await server.over.reached()
        await asyncio.to_thread(until, lambda: not app.stats().websockets, "free")
        free.open()
        await task

    run(main())
    assert server.told.is_open


def test_websocket_closed_is_not_kept_for_ever(
    raw: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "CLOSING_S", 0.01)
    server = WebSocketServer(tells_end=False)
    serve(raw(talking(lambda ws: ws.send("x"))), server)
    assert server.close_code == 1000


@pytest.mark.parametrize(
    ("steps", "app"),
    [
        pytest.param([leaving()], talking(echo), id="the client has closed"),
        pytest.param([], answering([b"x"], status="404 Not Found"), id="refused"),
        pytest.param([], talking(lambda ws: ws.close()), id="never accepted"),
    ],
)
def test_websocket_without_a_close_to_be_answered_is_not_kept(
    raw: MakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[Message],
    app: WSGIApplication,
) -> None:
    monkeypatch.setattr(exchange, "CLOSING_S", 1000)  # more than a test may take
    serve(raw(app), WebSocketServer(connect(), *steps, tells_end=False))


def test_websocket_of_an_application_that_raises_is_kept_before_that(
    raw: MakeAdapter,
) -> None:
    def talk(websocket: Any) -> None:
        websocket.send("x")
        raise KeyError("a fault")

    server = WebSocketServer(tells_end=False)
    server.will_receive(server.over, leaving())
    with pytest.raises(KeyError):
        serve(raw(talking(talk)), server)
    assert server.told.is_open


@pytest.mark.parametrize("fails", [True, False])
def test_websocket_whose_task_is_cancelled_while_it_is_kept_logs_what_was_raised(
    raw: MakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fails: bool,
) -> None:
    kept = Gate("the answer to the close is waited for")

    async def pause(port: AsyncioPort, seconds: float) -> None:
        if seconds:  # and not only to let others have their turn
            kept.open()
            await asyncio.Event().wait()

    monkeypatch.setattr(AsyncioPort, "pause", pause)

    def talk(websocket: Any) -> None:
        websocket.send("x")
        if fails:
            raise KeyError("a fault")

    server, app = WebSocketServer(tells_end=False), raw(talking(talk))

    async def main() -> None:
        task = asyncio.create_task(server.run(app))
        await kept.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert ("a fault" in caplog.text) is fails
    caplog.clear()


def test_websocket_refused_by_an_application_that_then_fails_stays_refused(
    raw: MakeAdapter,
) -> None:
    def talk(websocket: Any) -> None:
        websocket.close()
        raise KeyError("late")

    server = WebSocketServer()
    with pytest.raises(KeyError):
        serve(raw(talking(talk)), server)
    assert server.kinds == ["close"]


def test_websocket_that_leaves_as_it_is_accepted_is_no_error(raw: MakeAdapter) -> None:
    server = WebSocketServer()
    server.fail_at(1, OSError("gone"))
    serve(raw(talking(echo)), server)


@on_each_loop
def test_websocket_whose_task_is_cancelled_wakes_its_thread(
    raw: MakeAdapter, loop_factory: LoopFactory
) -> None:
    ended = Gate("the application has ended")

    def talk(websocket: Any) -> None:
        assert websocket.receive() is None
        ended.open()

    server, app = WebSocketServer(), raw(talking(talk))

    async def main() -> None:
        task = asyncio.create_task(server.run(app))
        await server.received(2).reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_open

    run(main(), loop_factory)


def test_websocket_whose_task_is_cancelled_as_it_sends_wakes_its_thread(
    raw: MakeAdapter,
) -> None:
    raised: list[WebSocketError] = []

    def talk(websocket: Any) -> None:
        try:
            while True:
                websocket.send(bytes(2000))
        except WebSocketError as error:
            raised.append(error)

    server = WebSocketServer()
    server.stall_at(2)
    app = raw(talking(talk), limits=Limits(buffer=1000))

    async def main() -> None:
        task = asyncio.create_task(server.run(app))
        await server.sent(2).reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert raised


def test_websocket_application_that_fails_after_its_task_was_cancelled_is_logged(
    raw: MakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    def talk(websocket: Any) -> None:
        websocket.receive()
        raise KeyError("late")

    server, app = WebSocketServer(), raw(talking(talk))

    async def main() -> None:
        task = asyncio.create_task(server.run(app))
        await server.received(2).reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert "failed after the client had left" in caplog.text
    caplog.clear()


def test_websocket_coroutine_that_is_thrown_away_frees_its_thread(
    raw: MakeAdapter,
) -> None:
    begun, go_on = Gate("the application runs"), Gate("it goes on")
    ended = Gate("the application has ended")

    def talk(websocket: Any) -> None:
        begun.open()
        go_on.wait()
        assert websocket.receive() is None
        ended.open()

    server, app = WebSocketServer(), raw(talking(talk))

    async def main() -> None:
        # A loop that goes away without a word leaves the coroutine to be closed.
        coroutine = server.run(app)
        coroutine.send(None)
        await begun.reached()
        coroutine.close()
        go_on.open()
        await ended.reached()

    run(main())


def cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """End a loop, and all its tasks, each of which must have been cancelled."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    # All of them: gather() would return with the first.
    loop.run_until_complete(asyncio.wait(tasks))
    assert all(task.cancelled() for task in tasks)
    loop.close()


def test_websocket_whose_loop_has_stopped_frees_its_thread(
    raw: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Granian stops the loop and tells nobody.
    monkeypatch.setattr(bridge, "LIVENESS_S", 0.05)
    ended = Gate("the application has ended")

    def talk(websocket: Any) -> None:
        assert websocket.receive() is None
        with pytest.raises(WebSocketError):
            websocket.send("x")
        ended.open()

    server, app = WebSocketServer(), raw(talking(talk))
    loop = asyncio.new_event_loop()

    async def main() -> None:
        task = loop.create_task(server.run(app))
        await server.received(2).reached()
        task.set_name("left behind")

    loop.run_until_complete(main())
    ended.wait()
    until(lambda: app.stats().websockets == 0, "no thread is held")
    cancel_all(loop)


def test_websocket_send_notices_that_the_loop_has_stopped(raw: MakeAdapter) -> None:
    stopped, ended = Gate("the loop has stopped"), Gate("the application has ended")

    def talk(websocket: Any) -> None:
        websocket.accept()
        stopped.wait()
        with pytest.raises(WebSocketError):
            websocket.send("x")
        ended.open()

    server, app = WebSocketServer(), raw(talking(talk))
    loop = asyncio.new_event_loop()

    async def main() -> None:
        task = loop.create_task(server.run(app))
        await server.received(2).reached()
        task.set_name("left behind")

    loop.run_until_complete(main())
    stopped.open()
    ended.wait()
    cancel_all(loop)


def test_shutdown_waits_for_websockets_and_then_closes_them_with_1001(
    raw: MakeAdapter,
) -> None:
    server = WebSocketServer()
    app = raw(talking(echo), limits=Limits(shutdown_timeout=0.1))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks, lifespan(app):
            tasks.create_task(server.run(app))
            await server.accepted.reached()

    run(main())
    assert server.close_code == 1001


def test_websocket_during_a_shutdown_is_refused_with_503(raw: MakeAdapter) -> None:
    first, second = WebSocketServer(), WebSocketServer()
    app = raw(talking(echo), limits=Limits(shutdown_timeout=0.3))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks, lifespan(app) as life:
            tasks.create_task(first.run(app))
            await first.accepted.reached()
            life.stopping.open()
            await life.received(2).reached()
            await asyncio.sleep(0)
            await second.run(app)

    run(main())
    assert second.denial[0] == 503


# Context, errors' classes and memory.

greeting: ContextVar[str] = ContextVar("greeting")


def test_websocket_sees_context_variables_and_reaches_the_loop(
    raw: MakeAdapter,
) -> None:
    async def where() -> int:
        return id(asyncio.get_running_loop())

    def talk(websocket: Any) -> None:
        websocket.send(greeting.get())
        websocket.send(str(async_to_sync(where)()))

    server, app = WebSocketServer(), raw(talking(talk))

    async def main() -> int:
        greeting.set("hello")
        await server.run(app)
        return await where()

    assert str(run(main())) == server.data[1]
    assert server.data[0] == "hello"


def test_websocket_error_is_the_one_that_gevents_users_catch(
    raw: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = type("WebSocketError", (OSError,), {})
    module = ModuleType("geventwebsocket")
    module.WebSocketError = theirs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "geventwebsocket", module)

    def talk(websocket: Any) -> None:
        websocket.receive()
        kinds = set()
        for _ in range(2):
            with pytest.raises(theirs) as caught:
                websocket.send("x")
            assert isinstance(caught.value, WebSocketError)
            kinds.add(type(caught.value))
        assert len(kinds) == 1  # a class is not made for each

    serve(raw(talking(talk)), WebSocketServer(connect(), leaving()))


def test_websocket_error_is_what_applications_catch_for_sockets() -> None:
    assert issubclass(WebSocketError, OSError)


def parts_alive() -> set[int]:
    gc.collect()
    kinds = ("Crossing", "Mailbox", "Channel", "WebSocket", "FrameSocket")
    return {
        id(one)
        for one in gc.get_objects()
        if type(one).__name__ in kinds and "wsgi_asgi" in str(type(one).__module__)
    }


def test_websocket_that_is_over_leaves_nothing_behind(raw: MakeAdapter) -> None:
    app = raw(talking(echo))
    before = parts_alive()
    servers = [WebSocketServer(connect(), incoming("a"), leaving()) for _ in range(20)]
    run(serve_all(app, servers))
    assert parts_alive() <= before
