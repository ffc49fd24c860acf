"""WebSocket scopes.

An adapter may refuse them, or give applications a WebSocket under the names that
servers of WSGI have for it. It must do one of the two, and do it right.
"""

from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from conformance.apps import begin, hello
from conformance.bench import Bench
from conformance.checking import NotOffered, check, expect, expect_equal
from conformance.exchanges import WebSocketExchange
from conformance.gate import Gate
from conformance.server import Step

Chunks = Iterable[bytes]
# Under these names an application gets at a WebSocket.
_KEYS = ("wsgi.websocket", "werkzeug.socket", "gunicorn.socket", "eventlet.input")


def _converse(
    bench: Bench,
    talk: Callable[[Any], object],
    *steps: Step,
    **scope: Any,
) -> WebSocketExchange:
    """Have an application use its wsgi.websocket, if it gets one."""
    found: list[bool] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        socket = environ.get("wsgi.websocket")
        found.append(socket is not None)
        if socket is None:
            return hello(environ, start_response)
        talk(socket)
        return []

    served = bench.serve(app)
    exchange = served.start(WebSocketExchange(*steps, **scope))
    served.finish(exchange)
    if not any(found):
        raise NotOffered("there is no wsgi.websocket")
    if exchange.error is not None:
        expect(False, f"the adapter raised {exchange.error!r}")
    return exchange


def _sent(exchange: WebSocketExchange) -> list[object]:
    sent = [m for m in exchange.messages if m["type"] == "websocket.send"]
    return [m["text"] if m.get("text") is not None else m["bytes"] for m in sent]


def _text(text: str) -> Step:
    return {"type": "websocket.receive", "text": text, "bytes": None}


@check("ASGI-WS-refuse-01")
def application_without_websockets(bench: Bench) -> None:
    """A WebSocket for an application that has none is refused, not accepted."""
    seen: list[WSGIEnvironment] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        seen.append(environ)
        return hello(environ, start_response)

    served = bench.serve(app)
    exchange = served.start(WebSocketExchange())
    served.finish(exchange)
    expect("websocket.accept" not in exchange.kinds, "it was accepted")
    refused = exchange.error is not None or exchange.completed.is_open
    expect(refused, f"the adapter returned, and sent {exchange.kinds}")
    if seen:
        offered = [key for key in _KEYS if key in seen[0]]
        expect(offered, "the application was called as if for a plain request")


@check("ASGI-WS-refuse-02")
def refusal_is_no_error(bench: Bench) -> None:
    """A WebSocket that is refused is closed or denied, without an exception."""
    served = bench.serve(hello)
    exchange = served.start(WebSocketExchange())
    served.finish(exchange)
    expect(exchange.error is None, f"the adapter raised {exchange.error!r}")


@check("ASGI-EXT-denial-01")
def denial_response(bench: Bench) -> None:
    """A refused WebSocket may be answered with an HTTP response, if that is offered."""
    served = bench.serve(hello)
    extensions: dict[str, Any] = {"websocket.http.response": {}}
    exchange = served.start(WebSocketExchange(extensions=extensions))
    served.finish(exchange)
    starts = [m for m in exchange.messages if m["type"].endswith("response.start")]
    if not starts:
        raised = f", and {exchange.error!r}" if exchange.error else ""
        raise NotOffered(f"it is refused by {exchange.kinds or 'no message'}{raised}")
    expect(starts[0]["status"] >= 200, f"the status is {starts[0]['status']}")
    expect(exchange.completed.is_open, "the denial was not completed")


@check("PRACTICE-websocket-01")
def echo(bench: Bench) -> None:
    """wsgi.websocket, if there, carries text and bytes both ways."""

    def talk(socket: Any) -> None:
        while (message := socket.receive()) is not None:
            socket.send(message)

    data = {"type": "websocket.receive", "bytes": b"\0\xff", "text": None}
    left = {"type": "websocket.disconnect", "code": 1000, "reason": ""}
    echoed = Gate()
    exchange = WebSocketExchange(_text("zwölf"), data, echoed, left)
    exchange.when(lambda: len(_sent(exchange)) == 2).on_open(echoed.open)
    found: list[bool] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        found.append("wsgi.websocket" in environ)
        if found[0]:
            talk(environ["wsgi.websocket"])
            return []
        return hello(environ, start_response)

    served = bench.serve(app)
    served.start(exchange)
    served.finish(exchange)
    if not any(found):
        raise NotOffered("there is no wsgi.websocket")
    expect_equal(exchange.kinds[0], "websocket.accept", "the first message")
    expect_equal(_sent(exchange), ["zwölf", b"\0\xff"], "what came back")
    expect(exchange.error is None, f"the adapter raised {exchange.error!r}")


@check("PRACTICE-websocket-02")
def application_closes(bench: Bench) -> None:
    """close() of wsgi.websocket closes the connection, with its code."""
    exchange = _converse(bench, lambda socket: socket.close(1001, b"going"))
    closes = [m for m in exchange.messages if m["type"] == "websocket.close"]
    expect_equal(len(closes), 1, "the count of websocket.close messages")
    expect_equal(closes[0].get("code"), 1001, "the code")


@check("PRACTICE-websocket-03")
def application_returns(bench: Bench) -> None:
    """A connection that the application leaves open is closed when it returns."""
    exchange = _converse(bench, lambda socket: socket.send("bye"))
    expect_equal(_sent(exchange), ["bye"], "what was sent")
    expect(exchange.completed.is_open, f"it was not closed: {exchange.kinds}")


@check("PRACTICE-websocket-04")
def client_leaves(bench: Bench) -> None:
    """receive() of wsgi.websocket gives None once the client has left."""
    results: list[object] = []

    def talk(socket: Any) -> None:
        results.append(socket.receive())
        results.append(socket.receive())

    left = {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    _converse(bench, talk, _text("one"), left)
    expect_equal(results, ["one", None], "what receive() gave")


@check("PRACTICE-websocket-05")
def socket_under_its_other_name(bench: Bench) -> None:
    """werkzeug.socket, if there, is a socket that speaks the WebSocket protocol."""
    frames: list[bytes] = []
    found: list[bool] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        socket = environ.get("werkzeug.socket")
        found.append(socket is not None)
        if socket is None:
            return hello(environ, start_response)
        socket.send(
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Upgrade: WebSocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        frames.append(socket.recv(4096))
        socket.send(b"\x81\x05hello")  # one frame of text, as a server sends it
        socket.send(b"\x88\x02\x03\xe8")  # close, 1000
        begin(start_response)
        return []

    served = bench.serve(app)
    exchange = served.start(WebSocketExchange(_text("question")))
    served.finish(exchange)
    if not any(found):
        raise NotOffered("there is no werkzeug.socket")
    expect_equal(exchange.kinds[0], "websocket.accept", "the first message")
    opcode = frames[0][:1] if frames else b""
    expect_equal(opcode, b"\x81", "the first byte that the application received")
    expect_equal(_sent(exchange), ["hello"], "what the client got")
