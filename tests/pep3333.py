"""What must come of a WSGI application: a small model of PEP 3333.

It knows nothing of threads, of ASGI or of the package; it goes through what a random
application does, one action after the other, and keeps account.
"""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from enum import Enum

from tests.random_apps import (
    COUNTS_CLOSES,
    FILES,
    WHOLE,
    Action,
    Chunk,
    Raise,
    RandomApp,
    Start,
    Text,
    Write,
    data_of,
)

__all__ = ["Expected", "permitted"]

# RFC 9110 15.3.5, 15.3.6, 15.4.5.
_BODILESS = ("204", "205", "304")


class Failed(Exception):
    """The application fails, by itself or by a rule.

    Args:
        error: The mark of the application's own error, or the rule.
    """

    def __init__(self, error: int | str) -> None:
        super().__init__(error)
        self.error = error


@dataclass
class Expected:
    """What is expected of a server.

    Attributes:
        start: The call of start_response() that the client gets to know of. None if
            nothing was sent, so that the server can answer an error.
        body: All of the body.
        least: How much of it must have been sent at the end. It is less than all
            where a list or a file could not be sent as a whole. None if even the
            headers need not have been.
        is_complete: The client sees that it has all there is.
        error: What the server is told: the mark of the application's own error, or
            the rule which was broken, or None.
        taken: How many chunks the iterable is asked for.
        closes: How often close() is called, if the result has one.
        is_in_parts: The body has several parts, so that there is a time for close()
            at which all were sent.
    """

    start: Start | None = None
    body: bytes = b""
    least: int | None = None
    is_complete: bool = False
    error: int | str | None = None
    taken: int = 0
    closes: int = 0
    is_in_parts: bool = False


class _Response:
    """A response, as the specification has it."""

    def __init__(self, method: str) -> None:
        self._method = method
        self.start: Start | None = None
        self.is_out = False
        self.is_complete = False
        self.body = b""
        self.parts = 0

    @property
    def room(self) -> int | None:
        """Bytes that the body may still have; None if any."""
        assert self.start
        if self._method == "HEAD" or self.start.status.startswith(_BODILESS):
            return 0
        length = self.start.length
        return None if length is None else length - len(self.body)

    @property
    def is_enough(self) -> bool:
        """All that may be sent has been sent."""
        return self.is_out and self.room == 0

    def begin(self, start: Start) -> None:
        if start.reports and self.is_out:
            if start.swallows:
                return
            raise Failed(start.mark)
        if self.start and not start.reports:
            raise Failed("start_response() again, without exc_info")
        self.start = start

    def give(self, data: bytes) -> None:
        if not data:
            return
        if not self.start:
            raise Failed("a chunk before start_response()")
        self.is_out = True
        fitting = data[: self.room]
        self.parts += bool(fitting)
        self.body += fitting

    def end(self) -> None:
        if not self.start:
            raise Failed("start_response() was never called")
        length = self.start.length
        if self.room and length is not None:
            raise Failed("fewer bytes than Content-Length")
        self.is_out = True
        self.is_complete = True

    def do(self, action: Action) -> None:
        match action:
            case Start():
                self.begin(action)
            case Write() | Chunk():
                self.give(data_of(action))
            case Text():
                raise Failed("a chunk that is not bytes")
            case Raise(mark):
                raise Failed(mark)


def permitted(app: RandomApp) -> Iterator[Expected]:
    """Give what a server may make of an application.

    A server that has sent all that Content-Length permits should not go on to
    iterate. Where write() has sent that, it may still take a first chunk. And a list
    may be taken as a whole.
    """
    yield _expected(app, _Greed.ONE)
    yield _expected(app, _Greed.NONE)
    if app.kind in WHOLE:
        yield _expected(app, _Greed.ALL)


class _Greed(Enum):
    """How many chunks are taken after all that may be sent has been sent."""

    NONE = 0
    ONE = 1
    ALL = 2


def _expected(app: RandomApp, greed: _Greed) -> Expected:
    response = must = _Response(app.method)
    expected = Expected()
    try:
        for action in app.call:
            for _ in range(getattr(action, "times", 1)):
                response.do(action)
        expected.closes = int(app.kind in COUNTS_CLOSES)
        if app.kind in WHOLE + FILES:
            must = copy(response)
        if greed is not _Greed.NONE or not response.is_enough:
            _iterate(app, response, greed, expected)
    except Failed as failure:
        expected.error = failure.error
    else:
        must = response
    if expected.closes:
        try:
            for action in app.close:
                response.do(action)
        except Failed as failure:
            # One that came before is not to be hidden.
            expected.error = expected.error or failure.error
    expected.start = response.start if response.is_out else None
    expected.body = response.body
    expected.least = len(must.body) if must.is_out else None
    expected.is_complete = must.is_complete or must.is_enough
    expected.is_in_parts = response.parts > 1
    return expected


def _iterate(
    app: RandomApp, response: _Response, greed: _Greed, expected: Expected
) -> None:
    for action in app.result:
        for _ in range(getattr(action, "times", 1)):
            expected.taken += isinstance(action, Chunk | Text)
            response.do(action)
            if (
                isinstance(action, Chunk)
                and response.is_enough
                and greed is not _Greed.ALL
            ):
                return
    response.end()
