"""Small WSGI applications, and what checks build others from.

Header names are in lower case and nothing is unusual unless a check is about that,
so that a fault of an adapter shows in the row that is meant for it and not in all.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from conformance.gate import Gate

__all__ = [
    "TEXT",
    "NoWrite",
    "Body",
    "answering",
    "begin",
    "endless",
    "hello",
    "begin_writing",
    "raising",
    "reading",
]

TEXT = ("content-type", "text/plain")


def begin(
    start_response: StartResponse, *headers: tuple[str, str], status: str = "200 OK"
) -> Callable[[bytes], object]:
    """Call start_response for some plain text."""
    return start_response(status, [TEXT, *headers])


class NoWrite(Exception):
    """start_response() has returned no write callable."""


def begin_writing(
    start_response: StartResponse, *headers: tuple[str, str]
) -> Callable[[bytes], object]:
    """Call start_response, and see that what it returns can be called.

    Raises:
        NoWrite: It cannot.
    """
    write = begin(start_response, *headers)
    if not callable(write):
        raise NoWrite(f"start_response() returned {write!r} and no write()")
    return write


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer "hello"."""
    begin(start_response)
    return [b"hello"]


def answering(
    body: Iterable[bytes], *headers: tuple[str, str], status: str = "200 OK"
) -> WSGIApplication:
    """Make an application that returns this body, as it is."""

    def answer(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        begin(start_response, *headers, status=status)
        return body

    return answer


def raising(error: BaseException) -> WSGIApplication:
    """Make an application that fails before it has answered anything."""

    def fail(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        raise error

    return fail


def reading(use: Callable[[WSGIEnvironment], object]) -> WSGIApplication:
    """Make an application that does something with its environ, then says hello."""

    def read(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        use(environ)
        return hello(environ, start_response)

    return read


def endless(chunk: bytes = b"tick") -> Iterator[bytes]:
    """Give the same chunk for ever."""
    while True:
        yield chunk


class Body:
    """A response body that records what is done to it.

    Args:
        chunks: What it gives.
        on_close: Called by close().

    Attributes:
        taken: How many chunks were taken.
        closes: How often close() was called.
        closed: Opens when close() is called.
        threads: Those that took chunks and closed.
    """

    def __init__(
        self, chunks: Iterable[bytes], on_close: Callable[[], object] | None = None
    ) -> None:
        self._chunks = iter(chunks)
        self._on_close = on_close
        self.taken = 0
        self.closes = 0
        self.closed = Gate()
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self.threads.add(threading.get_ident())
        chunk = next(self._chunks)
        self.taken += 1
        return chunk

    def close(self) -> None:
        """Record the call."""
        self.threads.add(threading.get_ident())
        self.closes += 1
        self.closed.open()
        if self._on_close:
            self._on_close()
