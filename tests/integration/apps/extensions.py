"""A WSGI application that gives early hints and trailers, where it can."""

import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.validate import validator

from tests.integration.apps import payload
from wsgi_asgi import WsgiToAsgi

HINTED_S = 10.0
FILE_BYTES = 3 * payload.MIB
STYLE = "</style.css>; rel=preload; as=style"
SCRIPT = "</script.js>; rel=preload; as=script"
TRAILERS = [("X-Sum", "1"), ("Server-Timing", "total;dur=5")]

Answer = Iterable[bytes]

_released: defaultdict[str, threading.Event] = defaultdict(threading.Event)


def _query(environ: WSGIEnvironment, name: str) -> str:
    values: list[str] = parse_qs(environ["QUERY_STRING"]).get(name, [""])
    return values[0]


def _start(start_response: StartResponse, *headers: tuple[str, str]) -> None:
    start_response("200 OK", [("Content-Type", "text/plain"), *headers])


def _give(environ: WSGIEnvironment, key: str, headers: list[tuple[str, str]]) -> None:
    if key in environ:
        environ[key](headers)


def hints(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Give two early hints, and answer once another request says that both are there.

    Without a key it is answered at once.
    """
    _give(environ, "wsgi.early_hints", [("Link", STYLE), ("X-Dropped", "1")])
    _give(environ, "wsgi.early_hints", [("Link", SCRIPT)])
    key = _query(environ, "key")
    in_time = not key or _released[key].wait(HINTED_S)
    _start(start_response, ("Content-Length", "5"))
    return [b"hello" if in_time else b"late!"]


def release(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    _released[_query(environ, "key")].set()
    _start(start_response)
    return [b"released"]


def trailers(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Stream, and know the trailers only then; with `length` as long as that is."""
    _give(environ, "wsgi_asgi.send_trailers", [])
    length = _query(environ, "length")
    _start(start_response, *([("Content-Length", length)] if length else []))

    def chunks() -> Iterator[bytes]:
        yield b"hel"
        yield b"lo"
        if _query(environ, "fail"):
            raise RuntimeError(f"deliberate {_query(environ, 'key')}")
        _give(environ, "wsgi_asgi.send_trailers", TRAILERS)

    return chunks()


def known_trailers(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    _give(environ, "gunicorn.http2.send_trailers", TRAILERS)
    _start(start_response)
    return [b"hello"]


def no_trailers(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    _give(environ, "wsgi_asgi.send_trailers", [])
    _start(start_response)
    return [b"hello"]


def file(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    _give(environ, "wsgi_asgi.send_trailers", TRAILERS)
    _start(start_response, ("Content-Length", str(FILE_BYTES)))
    opened = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the response
    opened.writelines(payload.blocks(FILE_BYTES))
    opened.seek(0)
    wrapped: Answer = environ["wsgi.file_wrapper"](opened)
    return wrapped


def keys(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Say which of the keys are there."""
    words = ("early_hints", "send_trailers")
    found = [key for key in environ if key.endswith(words)]
    _start(start_response)
    return [" ".join(sorted(found)).encode()]


Route = Callable[[WSGIEnvironment, StartResponse], Answer]
ROUTES: dict[str, Route] = {
    "/hints": hints,
    "/release": release,
    "/trailers": trailers,
    "/known-trailers": known_trailers,
    "/no-trailers": no_trailers,
    "/keys": keys,
}


def route(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    return ROUTES.get(environ["PATH_INFO"], keys)(environ, start_response)


_validated = validator(route)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    # The validator would iterate over the file itself.
    answer = file if environ["PATH_INFO"] == "/file" else _validated
    return answer(environ, start_response)


app = WsgiToAsgi(application)
