"""Synchronous applications with WebSockets, each as its own documentation has it."""

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

import simple_websocket
import socketio as socketio_package
from asgiref.sync import async_to_sync
from flask import Flask, abort, request
from flask_sock import Sock
from flask_socketio import SocketIO, emit

from wsgi_asgi import Limits, WebSocketError, WsgiToAsgi

NAP_S = 0.5
SHUTDOWN_S = 2.0

flask_app = Flask(__name__)
flask_app.config["SOCK_SERVER_OPTIONS"] = {"subprotocols": ["chat.v2", "chat.v1"]}
sock = Sock(flask_app)
socketio = SocketIO(flask_app, async_mode="threading", path="/socket.io")

pinging_app = Flask("pinging")
pinging_app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": 0.1}
pinging_sock = Sock(pinging_app)


def echo(ws: simple_websocket.Server) -> None:
    while True:
        ws.send(ws.receive())


sock.route("/sock/echo")(echo)
pinging_sock.route("/ping/echo")(echo)


@sock.route("/sock/subprotocol")
def tell_subprotocol(ws: simple_websocket.Server) -> None:
    ws.send(ws.subprotocol)


@sock.route("/sock/bye")
def close_with_a_code(ws: simple_websocket.Server) -> None:
    ws.close(4001, "bye")


@sock.route("/sock/fail")
def fail(ws: simple_websocket.Server) -> None:
    raise KeyError("the view has failed")


@sock.route("/sock/count")
def count(ws: simple_websocket.Server) -> None:
    for number in range(100):
        ws.send(str(number))


@flask_app.route("/sock/forbidden", websocket=True)
def forbidden() -> str:
    abort(451)


@flask_app.get("/")
def page() -> str:
    return "Here are WebSockets\n"


@flask_app.get("/browser")
def page_with_a_websocket() -> str:
    return Path(__file__).with_name("websocket_page.html").read_text("utf-8")


@flask_app.get("/stats")
def stats() -> dict[str, int]:
    now = app.stats()
    return {
        "websockets": now.websockets,
        "busy": now.busy,
        "departures": len(departures),
    }


@socketio.on("shout")
def shout(words: str) -> str:
    emit("heard", words.upper())
    return f"{socketio.server.transport(request.sid)}: {words}"  # type: ignore[attr-defined]  # of Flask-SocketIO


@socketio.on("blob")
def blob(data: bytes) -> bytes:
    return data[::-1]


@socketio.on("tell all")
def tell_all(words: str) -> None:
    socketio.start_background_task(socketio.emit, "told", words)


@socketio.on("disconnect")
def disconnect(reason: str) -> None:
    departures.append(reason)


departures: list[str] = []

# The same without Flask-SocketIO.
plain_socketio = socketio_package.Server(async_mode="threading")


@plain_socketio.on("shout")
def plain_shout(sid: str, words: str) -> str:
    plain_socketio.emit("heard", words.upper(), to=sid)
    return f"{plain_socketio.transport(sid)}: {words}"


@plain_socketio.on("blob")
def plain_blob(sid: str, data: bytes) -> bytes:
    return data[::-1]


@plain_socketio.on("tell all")
def plain_tell_all(sid: str, words: str) -> None:
    plain_socketio.start_background_task(plain_socketio.emit, "told", words)


@plain_socketio.on("disconnect")
def plain_disconnect(sid: str, reason: str) -> None:
    departures.append(reason)


def message_loop(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Echo, as gevent-websocket's documentation does."""
    websocket = environ["wsgi.websocket"]
    while True:
        try:
            websocket.send(websocket.receive())
        except WebSocketError:
            break
    return []


def accept_in_other_words(
    environ: dict[str, Any], start_response: Any
) -> Iterable[bytes]:
    offered = environ["wsgi.websocket"].protocol.split(", ")
    headers = [("Sec-WebSocket-Protocol", offered[-1]), ("X-Node", "7")]
    start_response("101 Switching Protocols", headers)
    environ["wsgi.websocket"].send(environ["HTTP_SEC_WEBSOCKET_KEY"])
    return []


def tell_protocol(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["wsgi.websocket"].send(environ["SERVER_PROTOCOL"])
    environ["wsgi.websocket"].close(4004, "told")
    return []


def say_goodbye(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["wsgi.websocket"].accept()
    environ["wsgi.websocket"].close(4003, "so long")
    return []


def tell_close_code(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    websocket = environ["wsgi.websocket"]
    for _ in websocket:
        pass
    closes.append((websocket.close_code, websocket.close_reason))
    return []


closes: list[tuple[int | None, str]] = []


def last_close(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [repr(closes[-1:]).encode()]


def take_a_nap(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    time.sleep(NAP_S)
    environ["wsgi.websocket"].send("awake")
    return []


def flood(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Send more than any buffer holds, and count how far it came."""
    for _ in range(1000):
        environ["wsgi.websocket"].send(bytes(65536))
        flooded.append(65536)
    return []


flooded: list[int] = []


def tell_flooded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [str(sum(flooded)).encode()]


def nap_on_the_loop(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    async def answer() -> str:
        return threading.current_thread().name

    environ["wsgi.websocket"].send(async_to_sync(answer)())
    return []


def never_look(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Take no notice of the client, nor of the server's end."""
    environ["wsgi.websocket"].send("ready")
    time.sleep(60)
    return []


APPLICATIONS: dict[str, WSGIApplication] = {
    "/messages/echo": message_loop,
    "/messages/101": accept_in_other_words,
    "/messages/bye": say_goodbye,
    "/messages/protocol": tell_protocol,
    "/messages/code": tell_close_code,
    "/messages/nap": take_a_nap,
    "/messages/flood": flood,
    "/messages/loop": nap_on_the_loop,
    "/messages/never": never_look,
    "/last-close": last_close,
    "/flooded": tell_flooded,
    "/ping/echo": pinging_app,
    "/plain.io/": socketio_package.WSGIApp(plain_socketio, socketio_path="plain.io"),
}


def every(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    application = APPLICATIONS.get(environ["PATH_INFO"], flask_app)
    return application(environ, start_response)


app = WsgiToAsgi(every, limits=Limits(websockets=20, shutdown_timeout=SHUTDOWN_S))
