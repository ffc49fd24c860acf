"""Views whose clients leave, below middleware that takes no answer for an error."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.integration.apps import journal
from wsgi_asgi import Limits, WsgiToAsgi

WAIT_S = 20.0
PAUSE_S = 0.02
# More than the adapter takes to listen for a client's leaving.
LONG_S = 0.4
ABANDONED_S = 0.3
WORK_S = 1.0
CROWD_ABANDONED_S = 2.0
THREADS = 2
BLOCK_BYTES = 8192

gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)
_never = threading.Event()


def wait(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer once the client has left."""
    note(environ, "called")
    assert environ["wsgi_asgi.client_disconnected"].wait(WAIT_S)
    start_response("201 Created", [("Content-Length", "4")])
    return [b"late"]


def empty(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Give nothing, for ever."""
    note(environ, "called")
    start_response("200 OK", [("Content-Type", "text/plain")])
    while True:
        yield b""
        _never.wait(PAUSE_S)


def hold(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer when the gate of the key opens."""
    note(environ, "called")
    assert gates[environ["HTTP_X_KEY"]].wait(WAIT_S)
    start_response("200 OK", [("Content-Length", "4")])
    return [b"held"]


def read(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Read the body."""
    note(environ, "called")
    while environ["wsgi.input"].read(BLOCK_BYTES):
        pass
    start_response("200 OK", [("Content-Length", "4")])
    return [b"read"]


def last(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Take so long that the adapter listens for the client's leaving."""
    _never.wait(LONG_S)
    start_response("200 OK", [("Content-Length", "6")])
    return [b"lasted"]


def work(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Take a second, as a query does that is too slow for its clients."""
    note(environ, "called")
    _never.wait(WORK_S)
    start_response("200 OK", [("Content-Length", "6")])
    return [b"worked"]


def quick(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"quick"]


VIEWS: dict[str, Callable[..., Iterable[bytes]]] = {
    "/wait": wait,
    "/empty": empty,
    "/hold": hold,
    "/read": read,
    "/last": last,
    "/work": work,
    "/quick": quick,
}


def note(environ: WSGIEnvironment, event: str) -> None:
    journal.note(environ["HTTP_X_KEY"], f"{event} {environ['PATH_INFO']}")


def site(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return VIEWS[environ["PATH_INFO"]](environ, start_response)


class Recorder:
    """Notes what is sent through it, as an access log does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope)["x-key"]

        async def record(message: Message) -> None:
            if message["type"] == "http.response.start":
                event = f"start {message['status']}"
            else:
                more = "more" if message.get("more_body") else "last"
                event = f"body {len(message['body'])} {more}"
            journal.note(key, f"{scope['path']} {event}")
            await send(message)

        await self.app(scope, receive, record)


class Expecting:
    """Takes an application that answers nothing for a fault."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started: list[Any] = []

        async def look(message: Message) -> None:
            started.append(message)
            await send(message)

        await self.app(scope, receive, look)
        if not started:
            raise RuntimeError("No response returned.")


async def pass_on(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


def below_http_middleware(adapter: ASGIApp) -> ASGIApp:
    middleware = [Middleware(BaseHTTPMiddleware, dispatch=pass_on)]
    return Recorder(Starlette(routes=[Mount("/", adapter)], middleware=middleware))


def below_asgi_middleware(adapter: ASGIApp) -> ASGIApp:
    return Recorder(Expecting(adapter))


wide = WsgiToAsgi(site)
# With more than one, a body may stream.
narrow = WsgiToAsgi(site, threads=THREADS, limits=Limits(abandoned_timeout=ABANDONED_S))
crowded = WsgiToAsgi(
    site, threads=THREADS, limits=Limits(abandoned_timeout=CROWD_ABANDONED_S)
)
APPS: dict[str, ASGIApp] = {
    "crowded": crowded,
    "left-http": below_http_middleware(wide),
    "left-asgi": below_asgi_middleware(wide),
    "left-http-narrow": below_http_middleware(narrow),
    "left-asgi-narrow": below_asgi_middleware(narrow),
}
