"""A WSGI application without a framework, checked by wsgiref.validate."""

import hashlib
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from urllib.parse import parse_qs
from wsgiref.types import InputStream, StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.validate import validator

from asgiref.sync import async_to_sync

from tests.integration.apps import context, journal, payload
from wsgi_asgi import Limits, WsgiToAsgi

BLOCK_BYTES = 8192
MEET_S = 20.0
SHUTDOWN_S = 1.0
SHORT_BYTES = 1000
BODY_BYTES = 50_000
SPOOL_BYTES = 2 * payload.MIB
SPOOL_TOTAL_BYTES = 3 * payload.MIB
TICK_S = 0.02

Answer = Iterable[bytes]
Route = Callable[[WSGIEnvironment, StartResponse], Answer]

_meetings: defaultdict[str, threading.Barrier] = defaultdict(
    lambda: threading.Barrier(2)
)
_never = threading.Event()


def pause() -> None:
    """Wait between the chunks of an endless stream."""
    _never.wait(TICK_S)


def _query(environ: WSGIEnvironment, name: str, default: str = "") -> str:
    values: list[str] = parse_qs(environ["QUERY_STRING"]).get(name, [default])
    return values[0]


def _start(
    start_response: StartResponse,
    *headers: tuple[str, str],
    status: HTTPStatus = HTTPStatus.OK,
) -> None:
    fields = [("Content-Type", "text/plain"), *headers]
    start_response(f"{status.value} {status.phrase}", fields)


def _json(start_response: StartResponse, value: object) -> Answer:
    _start(start_response)
    return [json.dumps(value).encode()]


def _blocks_of(stream: InputStream) -> Iterator[bytes]:
    while block := stream.read(BLOCK_BYTES):
        yield block


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    _start(start_response, ("Content-Length", "5"))
    return [b"hello"]


def show_environ(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    texts = {key: value for key, value in environ.items() if isinstance(value, str)}
    return _json(start_response, texts)


def set_cookies(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    _start(
        start_response,
        ("Set-Cookie", "one=1; Path=/; Expires=Wed, 21 Oct 2099 07:28:00 GMT"),
        ("Set-Cookie", "two=2; HttpOnly"),
        ("Set-Cookie", "three=3"),
    )
    return [b"set"]


def digest(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Read all of the body and answer with its checksum."""
    key = _query(environ, "key")
    journal.note(key, "called")
    checksum, total = hashlib.sha256(), 0
    try:
        for block in _blocks_of(environ["wsgi.input"]):
            if not total:
                journal.note(key, "reading")
            checksum.update(block)
            total += len(block)
    except BaseException as error:
        is_os_error = isinstance(error, OSError)
        journal.note(key, "OSError" if is_os_error else type(error).__name__)
        raise
    journal.note(key, "read")
    return _json(start_response, {"sha256": checksum.hexdigest(), "bytes": total})


def copy(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Begin to answer, and then give back what comes."""

    def chunks() -> Iterator[bytes]:
        yield b"begun"
        yield from _blocks_of(environ["wsgi.input"])

    _start(start_response)
    return chunks()


def refuse(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    journal.note(_query(environ, "key"), "refused")
    _start(start_response, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return [b"too large"]


def download(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    total = int(_query(environ, "bytes"))
    _start(start_response, ("Content-Length", str(total)))
    return payload.blocks(total)


def tick(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Stream until closed, and say on which thread that was."""
    key, errors = _query(environ, "key"), environ["wsgi.errors"]
    thread = threading.get_ident()

    def ticks() -> Iterator[bytes]:
        try:
            while True:
                yield b"tick\n"
                pause()
        finally:
            same = threading.get_ident() == thread
            journal.note(key, "closed" if same else "closed on another thread")
            errors.write(f"closed {key}\n")

    _start(start_response)
    return ticks()


def hold(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Stream one chunk, then block for ever in the application's own code."""

    def chunks() -> Iterator[bytes]:
        yield b"held\n"
        _never.wait()

    _start(start_response)
    return chunks()


def flood(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Stream as fast as the client reads, without end."""
    key = _query(environ, "key")

    def chunks() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(payload.BLOCK_BYTES)
        finally:
            journal.note(key, "closed")

    _start(start_response)
    return chunks()


def work_on(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Work without a word until the client has left; in a stream with `stream`."""
    key, departure = _query(environ, "key"), environ["wsgi_asgi.client_disconnected"]

    def work() -> None:
        assert not departure()
        journal.note(key, "asking")
        while not departure():
            pause()
        journal.note(key, f"left at {time.monotonic()}")

    def chunks() -> Iterator[bytes]:
        yield b"begun"
        work()

    _start(start_response)
    if _query(environ, "stream"):
        return chunks()
    work()
    return [b"late"]


def stick(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Never return."""
    environ["wsgi.errors"].write("stuck\n")
    _never.wait()
    raise AssertionError("nobody sets it")


def meet(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Answer when two requests are here at the same time."""
    _meetings[_query(environ, "key")].wait(MEET_S)
    _start(start_response)
    return [b"met"]


def fail(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    raise RuntimeError(f"deliberate {_query(environ, 'key')}")


def fail_late(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Fail after the first chunk; with `length`, of a body of known length."""
    key, length = _query(environ, "key"), _query(environ, "length")

    def chunks() -> Iterator[bytes]:
        yield b"partial"
        raise RuntimeError(f"deliberate {key}")

    _start(start_response, *([("Content-Length", length)] if length else []))
    return chunks()


def remember(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Answer with what is remembered, then remember the value given."""
    before = {
        "variable": context.own_variable.get(),
        "local": getattr(context.own_local, "value", None),
        "port": environ["REMOTE_PORT"],
    }
    if value := _query(environ, "value"):
        context.own_variable.set(value)
        context.own_local.value = value
    return _json(start_response, before)


def show_context(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Answer with the middleware's values: in the call, and in each chunk."""
    called = context.seen()
    in_async_code = async_to_sync(context.seen_in_async_code)()

    def chunks() -> Iterator[bytes]:
        yield json.dumps([called, in_async_code]).encode()[:-1]
        yield b"," + json.dumps(context.seen()).encode() + b"]"

    _start(start_response)
    return chunks()


def not_found(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    _start(start_response, status=HTTPStatus.NOT_FOUND)
    return [b"not found"]


ROUTES: dict[str, Route] = {
    "/hello": hello,
    "/set-cookies": set_cookies,
    "/digest": digest,
    "/copy": copy,
    "/refuse": refuse,
    "/download": download,
    "/tick": tick,
    "/hold": hold,
    "/flood": flood,
    "/work-on": work_on,
    "/stick": stick,
    "/meet": meet,
    "/fail": fail,
    "/fail-late": fail_late,
    "/remember": remember,
    "/context": show_context,
}


def route(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    if environ["PATH_INFO"].startswith("/environ"):
        return show_environ(environ, start_response)
    return ROUTES.get(environ["PATH_INFO"], not_found)(environ, start_response)


application: WSGIApplication = validator(route)
app = WsgiToAsgi(application)
narrow = WsgiToAsgi(application, threads=4)
streaming = WsgiToAsgi(application, spool=False)
whole = WsgiToAsgi(application, spool="all")
choosing = WsgiToAsgi(
    application, spool=lambda scope: "all" if scope["path"] == "/digest" else False
)
bounded = WsgiToAsgi(
    application, limits=Limits(spool=SPOOL_BYTES, spool_total=SPOOL_TOTAL_BYTES)
)
limited = WsgiToAsgi(
    application, limits=Limits(body=BODY_BYTES, spool=SPOOL_BYTES, spool_total=0)
)


def say_that_it_ends() -> None:
    sys.stderr.write("the hook has run\n")


stuck = WsgiToAsgi(
    application,
    threads=2,
    limits=Limits(shutdown_timeout=SHUTDOWN_S / 5),
    on_shutdown=[say_that_it_ends],
)
ending = WsgiToAsgi(application, limits=Limits(shutdown_timeout=SHUTDOWN_S))
short = WsgiToAsgi(application, spool=False, limits=Limits(body=SHORT_BYTES))
