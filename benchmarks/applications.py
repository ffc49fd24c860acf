"""The WSGI applications that are measured, and the answers that they must give."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

from benchmarks.bodies import PIECE_BYTES, digest, pieces

__all__ = ["APPLICATIONS", "HELLO", "SLEEP_S", "Application", "application"]

HELLO = b"Hello, world!\n"
CHUNKS = [b"%09d\n" % number for number in range(1000)]
SLEEP_S = 0.01

Environ = dict[str, Any]


def _start(start_response: StartResponse, length: int | None) -> None:
    headers = [("Content-Type", "text/plain")]
    if length is not None:
        headers.append(("Content-Length", str(length)))
    start_response("200 OK", headers)


def trivial(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    _start(start_response, len(HELLO))
    return [HELLO]


def sleeping(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answer after 10 ms, as one that asks a database does."""
    time.sleep(SLEEP_S)
    return trivial(environ, start_response)


def echo(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    _start(start_response, len(body))
    return [body]


def chunks(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """Answer in 1,000 chunks of 10 bytes, without saying how many they will be."""
    _start(start_response, None)
    yield from CHUNKS


def download(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with as many bytes as the query says."""
    size = int(environ["QUERY_STRING"])
    _start(start_response, size)
    return pieces(size)


def upload(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Read a body to its end, piece by piece, and say what came."""
    read = environ["wsgi.input"].read
    body = digest(iter(lambda: read(PIECE_BYTES), b""))
    _start(start_response, len(body))
    return [body]


def messages(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Send back what comes by WebSocket."""
    websocket = environ["wsgi.websocket"]
    for message in websocket:
        websocket.send(message)
    return []


# What the limits send for a request with this query and body.
Answer = Callable[[bytes, Iterable[bytes]], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Application:
    """An application, and what it answers.

    Attributes:
        path: Where it is.
        load: Gives the WSGI application.
        answer: Gives the chunks of its answer to a query and a body; for the
            limits, which run no WSGI application, so None keeps them out.
    """

    path: str
    load: Callable[[], WSGIApplication]
    answer: Answer | None = None


def _flask() -> WSGIApplication:
    from benchmarks.frameworks import flask_application

    return flask_application()


def _flask_sock() -> WSGIApplication:
    from benchmarks.frameworks import flask_sock_application

    return flask_sock_application()


def _django() -> WSGIApplication:
    from benchmarks.frameworks import django_application

    return django_application()


APPLICATIONS = {
    "trivial": Application("/hello", lambda: trivial, lambda query, body: [HELLO]),
    "echo": Application("/echo", lambda: echo, lambda query, body: [b"".join(body)]),
    "chunks": Application("/chunks", lambda: chunks, lambda query, body: CHUNKS),
    "download": Application(
        "/download", lambda: download, lambda query, body: pieces(int(query))
    ),
    "upload": Application(
        "/upload", lambda: upload, lambda query, body: [digest(body)]
    ),
    "sleeping": Application("/sleep", lambda: sleeping),
    "flask": Application("/flask", _flask),
    "django": Application("/django", _django),
    "messages": Application("/messages", lambda: messages),
    "flask-sock": Application("/flask-sock", _flask_sock),
}


def application(name: str) -> Application:
    """Find an application by its name."""
    return APPLICATIONS[name]
