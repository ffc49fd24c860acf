"""One request's body, on its way from ``receive()`` to ``wsgi.input``.

How it travels depends on what the headers say of it:

    none announced        nothing is received unless the application reads
    length up to buffer   received whole, so that a slow sender holds no thread
    longer, or no length  handed over with its first message, then streamed, so
                          that the application may refuse it early
    Expect: 100-continue  nothing is received before the application reads, as
                          receiving makes the server ask for the body

On HTTP/2 and later the end of a body is a mark of its own, which often follows the last
byte in another frame. The application gets the last byte with it and not before, since
servers take a mark that follows the response for an error: Hypercorn drops the
connection, on trio all of them.

Once it streams, one task owns ``receive()``: it keeps a bounded amount ahead of the
thread that reads, and after the body listens for the client's leaving.

All of this but where it says so runs on the event loop.
"""

import io
import logging
import threading
from typing import Any

from wsgi_asgi._bridge import Crossing
from wsgi_asgi._environ import find_framing
from wsgi_asgi._errors import IncompleteBody, RequestRefused, disconnect_error
from wsgi_asgi._input import BodyStream, LazyStream
from wsgi_asgi._limits import Limits
from wsgi_asgi._mailbox import Inlet
from wsgi_asgi._types import Message, Receive, Scope

__all__ = ["RequestBody"]

logger = logging.getLogger("wsgi_asgi")

# Methods whose requests have a body only if a header announces one, also on
# HTTP/2, where none needs to.
_BODILESS_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "TRACE"})


# How long an application may stream its response before a body is taken for unwanted
# that it has never asked for, and that is longer than the buffer.
UNREAD_S = 5.0

# Held for the few instructions that open an inlet, by the thread or the task.
_OPENING = threading.Lock()


class RequestBody:
    """A body and its way to the application.

    Args:
        crossing: The thread that will read it.
        receive: The server's.
        limits: `buffer` and `body` count here.

    Attributes:
        is_announced: The headers speak of one.
        response_streams: A part of the response is out, and not all of it.
        refusal: Why no more of it is received, if the adapter has refused it.
        unsized: It streams, and nobody knows its length.
    """

    __slots__ = (
        "_at_end",
        "_crossing",
        "_end_is_marked",
        "_expects_continue",
        "_inlet",
        "_input",
        "_is_unexpected",
        "_kept",
        "_length",
        "_limits",
        "_receive",
        "_received",
        "_size",
        "is_announced",
        "refusal",
        "response_streams",
        "unsized",
    )

    def __init__(self, crossing: Crossing, receive: Receive, limits: Limits) -> None:
        self._crossing = crossing
        self._receive = receive
        self._limits = limits
        self.is_announced = False
        self.response_streams = False
        self.refusal: RequestRefused | None = None
        self.unsized = False
        self._input: io.BufferedIOBase | None = None  # none if nothing is announced
        self._length: int | None = None  # as the headers have it
        # If the headers have none, but it was received whole.
        self._size: int | None = None
        self._received = 0  # bytes
        self._end_is_marked = False  # so that it comes even where the length is known
        self._kept = b""  # the last bytes of a body, until its end is marked
        self._is_unexpected = False  # the headers speak of none; there may be one
        self._expects_continue = False
        self._at_end = False  # the server has said that no more comes
        self._inlet: Inlet | None = None  # where it streams

    @property
    def is_unread(self) -> bool:
        """Whether it streams and the application has not asked for any of it."""
        return self._inlet is not None and not self._inlet.wanted

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it is missing."""
        return (
            self._at_end
            or not self.is_announced
            or (self._received == self._length and not self._end_is_marked)
        )

    def prepare(self, scope: Scope) -> bool:
        """Find out what comes, and how it is to travel.

        Returns:
            True if `receive_first` must be awaited before the application runs.

        Raises:
            RequestRefused: The body would be longer than permitted, or the headers
                contradict each other.
        """
        length, is_coded, expects_continue = find_framing(scope["headers"])
        if length is None:
            # HTTP/2 and later mark the end of a request without a header.
            if not is_coded and (
                scope["http_version"][0] == "1" or scope["method"] in _BODILESS_METHODS
            ):
                # There may be one all the same: clients in process need no headers.
                self._is_unexpected = True
                return False
        else:
            self._length = length
            if self._is_over_limit(length):
                raise self._too_large()
            self._end_is_marked = scope["http_version"] >= "2"
            if not length:
                self._input = io.BytesIO()
                return self._end_is_marked
        self.is_announced = True
        if expects_continue:
            self._expects_continue = True
            self._stream()
            return False
        return True

    def add_to(self, environ: dict[str, Any]) -> None:
        """Add ``wsgi.input`` and what belongs to it; the application's thread."""
        if self._length is None:
            # Only where no length tells the end: with one, Werkzeug has a stream
            # of its own, which turns a client's leaving into a 400.
            environ["wsgi.input_terminated"] = True
        if self._input is None:
            environ["wsgi.input"] = LazyStream(self._pull)
        else:
            environ["wsgi.input"] = self._input
        if self._size is not None:
            # A length is worth having: there are applications that read nothing
            # without one.
            environ["CONTENT_LENGTH"] = str(self._size)

    def _open(self) -> Inlet:
        """Give the inlet of a body that the headers do not announce; any thread.

        Few such requests are ever asked for one, and then by the application or by
        the pump, whichever is first.
        """
        with _OPENING:
            if self._inlet is None:
                self._inlet = Inlet(self._crossing, self._limits.buffer)
            return self._inlet

    def _pull(self) -> bytes:
        return self._open().pull()

    async def receive_first(self) -> bool:
        """Receive a short body whole, of any other what comes in one message.

        Returns:
            False if the client has left, so that there is nobody to answer.

        Raises:
            RequestRefused: The body is longer than permitted.
        """
        length = self._length
        chunks: list[bytes] = []
        whole = length is not None and length <= self._limits.buffer
        more = True
        while more and (whole or not chunks):
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return False
            chunks.append(self._checked(message))
            more = not self._at_end and (
                length is None or self._received < length or self._awaits_mark()
            )
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if more:
            self._feed(self._stream(), body)
            self._crossing.nudge()  # the pump is needed from the start
        elif length is not None and len(body) < length:
            inlet = self._stream()
            inlet.feed(body)
            inlet.end()
        else:
            self._size = len(body) if length is None else None
            self._input = io.BytesIO(body[:length])
        return True

    def may_receive(self) -> bool:
        """Tell whether receiving is harmless: not while it would say 100 Continue."""
        return not self._expects_continue or not self.is_unread

    async def pump(self) -> bool:
        """Receive the body as the thread reads it, and then go on listening.

        Returns:
            True when the client has left; False if there is no more to hear.
        """
        inlet = self._open() if self._is_unexpected else self._inlet
        try:
            while True:
                if inlet and not inlet.complete:
                    await self._make_room(inlet)
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    return True
                if self._at_end:
                    # Only the client's leaving was left to say. A receive() that
                    # says the end again would do so for ever.
                    return False
                self._pass_on(message)
        except Exception as error:
            if inlet and not inlet.complete:
                inlet.end(error)  # the reader gets it
                return False
            logger.debug("receive() failed after the body", exc_info=True)
            return isinstance(error, OSError)

    def _pass_on(self, message: Message) -> None:
        inlet = self._inlet
        try:
            data = self._checked(message)
        except RequestRefused as refusal:
            self.refusal = refusal
            if inlet:
                inlet.end(refusal)
            return
        if inlet and not inlet.complete:
            self._feed(inlet, data)
            if self._at_end:
                inlet.end()

    def _feed(self, inlet: Inlet, data: bytes) -> None:
        data = self._kept + data
        if self._awaits_mark():
            self._kept = data
        else:
            self._kept = b""
            inlet.feed(data)

    def _awaits_mark(self) -> bool:
        """Tell whether all of a body is here but the mark of its end."""
        return (
            self._end_is_marked and not self._at_end and self._received == self._length
        )

    async def _make_room(self, inlet: Inlet) -> None:
        """Wait until the thread has read enough, or is not going to.

        Until the body has been received nobody learns that the client has left,
        and an application which streams without end would go on for ever. So if
        it does not care for the body, the body is dropped.
        """
        while not (await inlet.room(UNREAD_S) or inlet.complete):
            if self.response_streams and self.is_unread:
                inlet.drop(
                    IncompleteBody(
                        f"the request body was dropped, because the application had "
                        f"been sending its response for {UNREAD_S:g} seconds without "
                        f"reading it"
                    )
                )
                return

    def close(self) -> None:
        """Let no reader wait for more; what has arrived can still be read.

        The client has left, or the response is complete. From then on `pump` receives
        without holding back, and drops what comes.
        """
        inlet = self._inlet
        if inlet and not inlet.complete:
            inlet.end(
                disconnect_error("the client left before the end of its request body")
            )

    def _stream(self) -> Inlet:
        length = self._length
        inlet = self._inlet = Inlet(self._crossing, self._limits.buffer)
        self._input = io.BufferedReader(BodyStream(inlet.pull, length))
        self.unsized = length is None
        return inlet

    def _checked(self, message: Message) -> bytes:
        if message["type"] != "http.request":
            raise RuntimeError(f"the server sent {message['type']!r} in a request body")
        self._at_end = not message.get("more_body", False)
        body: bytes = message.get("body") or b""
        self._received += len(body)
        if self._is_over_limit(self._received):
            raise self._too_large()
        return body

    def _is_over_limit(self, size: int) -> bool:
        limit = self._limits.body
        return limit is not None and size > limit

    def _too_large(self) -> RequestRefused:
        return RequestRefused(
            "413 Content Too Large",
            f"The request body is longer than {self._limits.body} bytes.",
        )
