"""Applications for gevent-websocket, with what they import from it, and no gevent loop.

The two kinds that there are: a loop around ``wsgi.websocket``, as the documentation
of Bottle has it, and the classes of gevent-websocket itself, as its own has them.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

from bottle import Bottle, abort, request  # type: ignore[import-untyped]
from geventwebsocket import Resource, WebSocketApplication, WebSocketError

from wsgi_asgi import WsgiToAsgi

events: list[str] = []

bottle_app = Bottle()


@bottle_app.route("/bottle")
def handle_websocket() -> None:
    wsock = request.environ.get("wsgi.websocket")
    if not wsock:
        abort(400, "Expected WebSocket request.")

    while True:
        try:
            message = wsock.receive()
            wsock.send(f"Your message was: {message}")
        except WebSocketError:
            break


def plain(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    ws = environ["wsgi.websocket"]
    while True:
        try:
            message = ws.receive()
            ws.send(message)
        except WebSocketError:
            events.append("plain is over")
            break
    return []


class EchoApplication(WebSocketApplication):
    def on_open(self) -> None:
        events.append("echo is open")

    def on_message(self, message: Any) -> None:
        self.ws.send(message)


class ChatApplication(WebSocketApplication):
    def on_open(self) -> None:
        events.append("chat is open")
        self.ws.send("welcome")

    def on_message(self, message: Any) -> None:
        if message is not None:
            self.ws.send(f"{self.ws.path}: {message}")

    def on_close(self, reason: Any) -> None:
        events.append("chat is over")


def tell_events(
    environ: dict[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [", ".join(events).encode()]


resource = Resource(
    OrderedDict(
        [
            ("/resource/echo", EchoApplication),
            ("/resource/chat", ChatApplication),
            ("/resource/events", tell_events),
        ]
    )
)

APPLICATIONS: dict[str, WSGIApplication] = {"resource": resource, "plain": plain}


def every(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Choose by the first segment of the path; whatever else there is is Bottle's."""
    name = environ["PATH_INFO"].split("/")[1]
    application: WSGIApplication = APPLICATIONS.get(name, bottle_app)
    return application(environ, start_response)


app = WsgiToAsgi(every)
