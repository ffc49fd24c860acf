"""Tiny WSGI applications, named by what they do, and what tests build them from."""

import threading
from collections.abc import Callable, Iterable, Iterator
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from tests.drivers import Gate

BLOCK_BYTES = 8192

Body = Iterable[bytes]


def start(
    start_response: StartResponse,
    *headers: tuple[str, str],
    status: str = "200 OK",
) -> Callable[[bytes], object]:
    """Begin a response of plain text."""
    return start_response(status, [("Content-Type", "text/plain"), *headers])


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    start(start_response)
    return [b"Hello"]


def hello_in_pieces(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    start(start_response)
    yield b"Hel"
    yield b"lo"


def hello_by_write(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    write = start(start_response)
    write(b"Hel")
    write(b"lo")
    return []


def read_blocks(environ: WSGIEnvironment) -> Iterator[bytes]:
    while block := environ["wsgi.input"].read(BLOCK_BYTES):
        yield block


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    body = b"".join(read_blocks(environ))
    start(start_response)
    return [body]


def echo_while_reading(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    """Answer each byte as soon as it is there."""
    start(start_response)
    while byte := environ["wsgi.input"].read(1):
        yield byte


def answer_413_unread(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    start(start_response, status="413 Content Too Large")
    return [b"too much"]


def never_called(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    raise AssertionError("the application was called")


def nothing() -> None:
    """Do nothing."""


class Stream:
    """A response body that records what is done to it.

    Args:
        chunks: What it gives.
        at_close: Called by close().

    Attributes:
        taken: How many chunks were taken.
        closes: How often close() was called.
        closed: Open when close() has returned or raised.
        threads: Those that took chunks and closed.
    """

    def __init__(
        self, chunks: Body, *, at_close: Callable[[], object] = nothing
    ) -> None:
        self._chunks = iter(chunks)
        self._at_close = at_close
        self.taken = 0
        self.closes = 0
        self.closed = Gate("close() is done")
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self.threads.add(threading.get_ident())
        chunk = next(self._chunks)
        self.taken += 1
        return chunk

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closes += 1
        try:
            self._at_close()
        finally:
            self.closed.open()


def answering(
    body: Body, *headers: tuple[str, str], status: str = "200 OK"
) -> WSGIApplication:
    """Make an application that gives a body that is there already."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response, *headers, status=status)
        return body

    return answer


def raising(error: BaseException) -> WSGIApplication:
    """Make an application that fails before it has answered anything."""

    def fail(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        raise error

    return fail


def endless(chunk: bytes = b"tick") -> Iterator[bytes]:
    """Give the same chunk for ever."""
    while True:
        yield chunk
