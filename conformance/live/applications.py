"""The WSGI applications that an adapter is given on a server."""

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from asgiref.local import Local

from conformance.live import journal
from conformance.live.gates import wait_at_gate

__all__ = ["COOKIES", "FLOOD_BYTES", "TICK_S", "make_flask", "plain"]

BLOCK_BYTES = 65536
READ_BYTES = 8192
TICK_S = 0.02
# For another request to come while one waits for it.
MEET_S = 3.0
# More than the kernel's buffers and a server's own hold for one connection.
FLOOD_BYTES = 64 * 1024 * 1024
COOKIES = (
    "one=1; Path=/; Expires=Wed, 21 Oct 2099 07:28:00 GMT",
    "two=2; HttpOnly",
    "three=3",
)

Answer = Iterable[bytes]
Route = Callable[[WSGIEnvironment, StartResponse], Answer]

_never = threading.Event()
_meetings: defaultdict[str, threading.Barrier] = defaultdict(
    lambda: threading.Barrier(2)
)
_variable: ContextVar[str | None] = ContextVar("variable", default=None)
_local = Local()


def _key(environ: WSGIEnvironment) -> str:
    key: str = environ.get("HTTP_X_KEY", "")
    return key


def _query(environ: WSGIEnvironment, name: str, default: str = "") -> str:
    values = parse_qs(str(environ.get("QUERY_STRING", "")))
    return values.get(name, [default])[0]


def _start(
    start_response: StartResponse,
    *headers: tuple[str, str],
    status: HTTPStatus = HTTPStatus.OK,
) -> None:
    fields = [("content-type", "text/plain"), *headers]
    start_response(f"{status.value} {status.phrase}", fields)


def _json(start_response: StartResponse, value: object) -> Answer:
    _start(start_response)
    return [json.dumps(value).encode()]


class _Endless:
    """A body without an end; close() is noted, as garbage collection would not be."""

    def __init__(
        self, environ: WSGIEnvironment, chunk: bytes, pause: float, total: int = 0
    ) -> None:
        self._key, self._errors = _key(environ), environ["wsgi.errors"]
        self._chunk, self._pause, self._total = chunk, pause, total
        self._made = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._made and self._pause:
            _never.wait(self._pause)
        if self._total and self._made >= self._total:
            raise StopIteration
        self._made += len(self._chunk)
        journal.note(self._key, "bytes", len(self._chunk))
        journal.note(self._key, "chunks")
        return self._chunk

    def close(self) -> None:
        journal.note(self._key, "closed")
        # Nobody can ask the journal any more when the process ends.
        self._errors.write(f"closed {self._key}\n")
        self._errors.flush()


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Answer "hello"."""
    _start(start_response, ("content-length", "5"))
    return [b"hello"]


def show_environ(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Answer with the text in the environ."""
    texts = {key: value for key, value in environ.items() if isinstance(value, str)}
    return _json(start_response, texts)


def tick(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Stream small chunks for ever, one after each `pause` in seconds."""
    pause = float(_query(environ, "pause", str(TICK_S)))
    _start(start_response)
    return _Endless(environ, b"tick\n", pause)


def flood(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Stream as fast as the client reads; but not for ever, to spare the machine."""
    _start(start_response)
    return _Endless(environ, bytes(BLOCK_BYTES), 0, FLOOD_BYTES)


def turns(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Stream one chunk, and another once the gate is open."""
    key = _key(environ)

    def chunks() -> Iterator[bytes]:
        yield b"first"
        wait_at_gate(key)
        yield b"second"

    _start(start_response)
    return chunks()


def wait(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Answer only once the gate is open."""
    journal.note(_key(environ), "called")
    wait_at_gate(_key(environ))
    return hello(environ, start_response)


def meet(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Answer only if another request of the same key is here at the same time."""
    try:
        _meetings[_key(environ)].wait(MEET_S)
    except threading.BrokenBarrierError:
        _start(start_response, status=HTTPStatus.CONFLICT)
        return [b"alone"]
    return hello(environ, start_response)


def set_cookies(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Set three cookies, the first with a comma in it."""
    _start(start_response, *(("set-cookie", cookie) for cookie in COOKIES))
    return [b"set"]


def fail(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Fail before the answer."""
    raise RuntimeError("deliberate")


def fall_short(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Announce more bytes than there are."""
    _start(start_response, ("content-length", "10"))
    return [b"short"]


def digest(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Read all of the body in pieces and answer with its checksum."""
    key, stream = _key(environ), environ["wsgi.input"]
    journal.note(key, "called")
    checksum, total = hashlib.sha256(), 0
    try:
        while block := stream.read(READ_BYTES):
            if not total:
                journal.note(key, "reading")
            checksum.update(block)
            total += len(block)
    except BaseException as error:
        kind = "OSError" if isinstance(error, OSError) else type(error).__name__
        journal.note(key, f"met {kind}")
        raise
    journal.note(key, "read to the end")
    return _json(start_response, {"sha256": checksum.hexdigest(), "bytes": total})


def refuse(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Answer that the body is too large, without a look at it."""
    _start(start_response, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return [b"too large"]


def stray(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Send a body with a status that has none."""
    _start(start_response, status=HTTPStatus(int(_query(environ, "status"))))
    return [b"stray"]


def fail_late(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Fail after the first chunk."""

    def chunks() -> Iterator[bytes]:
        yield b"partial"
        raise RuntimeError("deliberate")

    _start(start_response)
    return chunks()


def remember(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Answer with what is remembered, then remember the value given."""
    seen = {
        "variable": _variable.get(),
        "local": getattr(_local, "value", None),
        "port": environ.get("REMOTE_PORT"),
    }
    if value := _query(environ, "value"):
        _variable.set(value)
        _local.value = value
    return _json(start_response, seen)


ROUTES: dict[str, Route] = {
    "/hello": hello,
    "/environ": show_environ,
    "/tick": tick,
    "/flood": flood,
    "/digest": digest,
    "/refuse": refuse,
    "/stray": stray,
    "/fail-late": fail_late,
    "/remember": remember,
    "/turns": turns,
    "/wait": wait,
    "/meet": meet,
    "/set-cookies": set_cookies,
    "/fail": fail,
    "/fall-short": fall_short,
}


def plain(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Run what the beginning of the path names."""
    beginning, _, _ = environ["PATH_INFO"][1:].partition("/")
    return ROUTES[f"/{beginning}"](environ, start_response)


def make_flask() -> WSGIApplication:
    """Make a Flask application that reads bodies as Flask does.

    Raises:
        ImportError: Flask is not installed.
    """
    from flask import Flask, jsonify, request

    flask = Flask("conformance")

    @flask.post("/digest")
    def take() -> Any:
        content = request.get_data()
        return jsonify(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))

    @flask.get("/cookies")
    def cookies() -> Any:
        return jsonify(request.cookies.to_dict())

    return flask
