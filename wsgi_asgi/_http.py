"""One HTTP exchange: environ, input, response and bridge, joined.

The request's task receives the body as far as it should be there before a thread
is taken, hands over, and then sends what the application's thread puts out. Where
the exchange takes longer, a second task stands beside it, the only one to call
``receive()`` from then on: it feeds the body to the thread, and goes on listening
for the client's leaving, which most servers tell in no other way.
"""

import io
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any
from wsgiref.types import WSGIApplication

from wsgi_asgi._bridge import Bridge, Crossing, Inlet, beside
from wsgi_asgi._environ import build_environ
from wsgi_asgi._errors import ClientDisconnected, RequestRefused
from wsgi_asgi._input import BodyStream, spool
from wsgi_asgi._limits import Limits
from wsgi_asgi._response import Response, State, plain_text
from wsgi_asgi._types import ExcInfo, Message, Receive, Scope, Send

__all__ = ["HttpExchange", "HttpSettings", "join_chunks"]

logger = logging.getLogger("wsgi_asgi")

# Chunks that wait together are sent as one message up to this size. Copying
# larger ones would cost more than the message that it spares.
JOIN_BYTES = 16384

# Methods whose requests have a body only if it is announced, also on HTTP/2,
# which needs no header to announce one.
_BODILESS_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "TRACE"})

# Errors that mean something else when they are raised in a coroutine. Those that
# are no Exception at all, as SystemExit, are errors of one request here too.
_NOT_TO_RAISE = (StopIteration, StopAsyncIteration)

_DRAINING = RequestRefused(
    "503 Service Unavailable",
    "The server is shutting down; try again.",
    (("Retry-After", "1"),),
)

_UNREAD = (
    "answered without reading a request body of unknown length; if it cannot read "
    "one without CONTENT_LENGTH, as Django cannot, use WsgiToAsgi(..., spool=True)"
)


@dataclass(slots=True, kw_only=True)
class HttpSettings:
    """What all exchanges of one adapter share.

    Attributes:
        application: The WSGI application.
        name: What messages call it.
        base_environ: Variables that are the same for each request.
        spool: Receive a body of unknown length whole before the application runs.
        completed: Exchanges that ended with a complete response.
        rejected: Exchanges that were answered without the application.
        disconnected: Exchanges whose client left, or was given up, before that.
        warned: What was already warned of.
    """

    application: WSGIApplication
    name: str
    base_environ: Mapping[str, Any]
    bridge: Bridge
    limits: Limits
    duplicate_header_limit: int | None
    spool: bool
    completed: int = 0
    rejected: int = 0
    disconnected: int = 0
    warned: set[str] = field(default_factory=set)

    def warn_once(self, key: str, message: str) -> None:
        """Log a warning, unless the same was logged for this application."""
        if key not in self.warned:
            self.warned.add(key)
            logger.warning("%s: %s", self.name, message)


def join_chunks(messages: list[Message]) -> list[Message]:
    """Join small body messages that wait together into fewer.

    >>> chunk = {"type": "http.response.body", "body": b"ab", "more_body": True}
    >>> join_chunks([chunk, chunk])
    [{'type': 'http.response.body', 'body': b'abab', 'more_body': True}]
    """
    joined: list[Message] = []
    bodies: list[bytes] = []
    size = 0
    last: Message = {}
    for message in messages:
        body = message.get("body")
        if body is None or len(body) > JOIN_BYTES - size:
            _flush(joined, bodies, last)
            bodies, size = [], 0
        if body is None or len(body) > JOIN_BYTES:
            joined.append(message)
        else:
            bodies.append(body)
            size += len(body)
            last = message
    _flush(joined, bodies, last)
    return joined


def _flush(joined: list[Message], bodies: list[bytes], last: Message) -> None:
    if len(bodies) == 1:
        joined.append(last)
    elif bodies:
        joined.append({**last, "body": b"".join(bodies)})


class HttpExchange:
    """One request and its response.

    Args:
        settings: The adapter's.
        scope: The ASGI ``http`` scope.
        receive: The server's; awaited by one task at a time.
        send: The server's; awaited by the task that runs the exchange.
    """

    __slots__ = (
        "_body_size",
        "_closed",
        "_crossing",
        "_environ",
        "_expects_continue",
        "_final_sent",
        "_inlet",
        "_pending",
        "_pumping",
        "_receive",
        "_response",
        "_scope",
        "_send",
        "_send_error",
        "_settings",
        "_unsized",
    )

    def __init__(
        self, settings: HttpSettings, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._settings = settings
        self._scope = scope
        self._receive = receive
        self._send = send
        self._body_size = 0  # received so far
        self._unsized = False  # the body streams, and nobody knows its length
        self._expects_continue = False  # the client waits to be asked for its body
        self._inlet: Inlet | None = None  # where the body streams
        self._pumping = False  # the pump owns receive()
        self._pending: list[Message] = []  # taken, and kept until the pump runs
        self._final_sent = False
        self._send_error: Exception | None = None
        self._closed = False  # the application is done

    # On the event loop.

    async def run(self) -> None:
        """Serve the request, from the first byte of its body to the end of close().

        Raises:
            Exception: What the application raised, unless the client had left.
                The server logs it, and answers 500 or cuts the connection.
        """
        settings = self._settings
        port = settings.bridge.port()
        crossing = self._crossing = Crossing(
            settings.bridge, port, self._work, buffer=settings.limits.buffer
        )
        try:
            if port.draining:
                raise _DRAINING
            environ = self._environ = build_environ(
                self._scope, settings.base_environ, settings.duplicate_header_limit
            )
            if not await self._receive_body():
                settings.disconnected += 1
                return
        except RequestRefused as refusal:
            await self._refuse(refusal)
            return
        environ["wsgi.errors"] = sys.stderr or io.StringIO()
        self._response = Response(settings.name, environ["REQUEST_METHOD"])
        crossing.start()
        try:
            if not await self._deliver():
                self._pumping = True
                await beside(self._pump, self._deliver)
        except BaseException:
            # Cancelled. The thread ends by itself: at its next read, write or
            # chunk it learns that nobody waits for it.
            settings.disconnected += not self._final_sent
            crossing.desert(self._log_lost_error)
            self._end_input()
            raise
        crossing.leave()
        self._end_input()
        await self._conclude(crossing.error)

    async def _receive_body(self) -> bool:
        """Receive what should be there before a thread is taken.

        Returns:
            False if the client has left, so that there is nobody to answer.

        Raises:
            RequestRefused: The body is longer than permitted.
        """
        environ = self._environ
        digits = environ.get("CONTENT_LENGTH")
        length = int(digits) if digits else None
        if length and self._is_over_limit(length):
            raise self._too_large()
        expects_continue = environ.get("HTTP_EXPECT", "").lower() == "100-continue"
        if not length and not (length is None and self._is_body_announced()):
            # There may be one all the same, as clients in process send bodies
            # without headers; it is received if the application reads.
            self._stream_body(None)
        elif expects_continue:
            # The first receive() makes the server ask for the body, and whether
            # it is wanted is for the application to say (RFC 9110 10.1.1).
            self._expects_continue = True
            self._stream_body(length)
        else:
            return await self._receive_first(length)
        return True

    async def _receive_first(self, length: int | None) -> bool:
        """Receive a short body whole, of any other what comes in one message."""
        chunks: list[bytes] = []
        whole = length is not None and length <= self._settings.limits.buffer
        more = True
        while more and (whole or not chunks):
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return False
            chunks.append(self._checked_body(message))
            more = message.get("more_body", False) and self._body_size != length
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if more or (length is not None and len(body) < length):
            inlet = self._stream_body(length)
            inlet.feed(body)
            if more:
                self._crossing.nudge()  # the pump is needed from the start
            else:
                inlet.end()
        else:
            # A length is worth having: there are applications that read nothing
            # without one.
            self._environ["CONTENT_LENGTH"] = str(
                len(body) if length is None else length
            )
            self._environ["wsgi.input"] = io.BytesIO(body[:length])
        return True

    def _is_body_announced(self) -> bool:
        """Tell whether a request without a Content-Length says it has a body."""
        return "HTTP_TRANSFER_ENCODING" in self._environ or (
            self._scope["method"] not in _BODILESS_METHODS
            and self._scope["http_version"][0] != "1"
        )

    def _stream_body(self, length: int | None) -> Inlet:
        inlet = self._inlet = Inlet(self._crossing, self._settings.limits.buffer)
        self._environ["wsgi.input"] = io.BufferedReader(BodyStream(inlet.pull, length))
        self._unsized = length is None and self._is_body_announced()
        return inlet

    def _checked_body(self, message: Message) -> bytes:
        if message["type"] != "http.request":
            raise RuntimeError(f"the server sent {message['type']!r} in a request body")
        body: bytes = message.get("body") or b""
        self._body_size += len(body)
        if self._is_over_limit(self._body_size):
            raise self._too_large()
        return body

    def _is_over_limit(self, size: int) -> bool:
        limit = self._settings.limits.body
        return limit is not None and size > limit

    def _too_large(self) -> RequestRefused:
        return RequestRefused(
            "413 Content Too Large",
            f"The request body is longer than {self._settings.limits.body} bytes.",
        )

    async def _deliver(self) -> bool:
        """Send what the thread puts out.

        Returns:
            True when the thread has ended; False, with some messages perhaps
            pending, when the pump must run beside this.
        """
        crossing = self._crossing
        while True:
            messages = self._pending or await crossing.take()
            if messages:
                self._pending = messages
                if not (self._pumping or crossing.ended) and messages[-1]["more_body"]:
                    return False  # it streams, so the client's leaving matters
                self._pending = []
                await self._send_all(messages)
            elif crossing.ended:
                return True
            else:
                crossing.nudged = False
                if not self._pumping and self._may_receive():
                    return False

    async def _send_all(self, messages: list[Message]) -> None:
        crossing = self._crossing
        for message in join_chunks(messages) if len(messages) > 2 else messages:
            if crossing.abandoned:
                return
            # Before it is sent, since servers report a disconnect once the
            # response is complete, and that is none.
            self._final_sent = message.get("more_body") is False
            try:
                await self._send(message)
            except Exception as error:
                self._final_sent = False
                if not isinstance(error, OSError):
                    self._send_error = error
                self._disconnect()
                return
            if body := message.get("body"):
                crossing.taken(len(body))

    def _may_receive(self) -> bool:
        """Tell whether receive() may be called: not if it would say 100 Continue."""
        return not self._expects_continue or (
            self._inlet is not None and self._inlet.wanted
        )

    async def _pump(self) -> None:
        """Receive the body as the thread reads it, and then the disconnect."""
        inlet = self._inlet
        try:
            while True:
                if inlet:
                    await inlet.room()
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._disconnect()
                    return
                if inlet and not inlet.complete:
                    inlet.feed(self._checked_body(message))
                    if not message.get("more_body", False):
                        inlet.end()
        except Exception as error:
            if inlet and not inlet.complete:
                inlet.end(error)  # the reader gets it
            else:
                logger.debug("receive() failed after the body", exc_info=True)
                self._disconnect()

    def _disconnect(self) -> None:
        if not self._final_sent:
            self._crossing.abandon()
            self._end_input()

    def _end_input(self) -> None:
        if self._inlet:
            self._inlet.end(
                ClientDisconnected("the client left before the end of its request body")
            )

    async def _conclude(self, error: BaseException | None) -> None:
        """Account for the exchange, and raise what the server should log."""
        settings = self._settings
        if self._send_error:
            raise self._send_error
        if self._crossing.abandoned:
            settings.disconnected += 1
            if error is None or _is_disconnect(error):
                return
        elif error is None:
            settings.completed += 1
            return
        elif isinstance(error, RequestRefused) and not self._response.is_out:
            await self._refuse(error)
            return
        if not isinstance(error, Exception) or isinstance(error, _NOT_TO_RAISE):
            raise RuntimeError(f"{settings.name} raised {error!r}") from error
        raise error

    async def _refuse(self, refusal: RequestRefused) -> None:
        self._settings.rejected += 1
        await self._send_all(
            plain_text(
                refusal.status,
                refusal.reason,
                refusal.headers,
                head=self._scope["method"] == "HEAD",
            )
        )
        if self._send_error:
            raise self._send_error

    # In the application's thread.

    def _work(self) -> None:
        """Call the application and put out its response."""
        settings = self._settings
        environ = self._environ
        body: IO[bytes] | None = None
        try:
            if self._unsized and settings.spool:
                body, size = spool(environ["wsgi.input"], settings.limits.buffer)
                environ["wsgi.input"] = body
                environ["CONTENT_LENGTH"] = str(size)
            iterable = settings.application(environ, self._start_response)
            try:
                self._iterate(iterable)
            except BaseException:
                self._close_after_error(iterable)
                raise
            if close := getattr(iterable, "close", None):
                close()
        finally:
            self._closed = True
            if body:
                body.close()
        inlet = self._inlet
        if self._unsized and inlet and not inlet.wanted and self._response.status < 400:
            settings.warn_once("unread", _UNREAD)

    def _iterate(self, iterable: Any) -> None:
        response = self._response
        crossing = self._crossing
        if type(iterable) is list or type(iterable) is tuple:
            self._put_whole(iterable)
            return
        if isinstance(iterable, str | bytes) or not (
            hasattr(iterable, "__iter__") or hasattr(iterable, "__getitem__")
        ):
            raise TypeError(
                f"{self._settings.name} returned {type(iterable).__name__} and not an "
                f"iterable of bytes (PEP 3333, Specification Details)"
            )
        crossing.check()
        for chunk in iterable:
            if messages := response.chunk(chunk):
                self._put(messages)
                if response.state is State.ENDED:
                    return
                crossing.wait_room()
            else:
                crossing.check()
        if messages := response.end():
            self._put(messages)

    def _put_whole(self, chunks: list[bytes] | tuple[bytes, ...]) -> None:
        """Put out a body that is all there, so that its length is known."""
        response = self._response
        length = len(b"".join(chunks)) if len(chunks) != 1 else len(chunks[0])
        if length:
            response.announce(length)
        messages: list[Message] = []
        for chunk in chunks:
            messages += response.chunk(chunk)
        messages += response.end()
        self._crossing.put_last(messages)

    def _put(self, messages: list[Message]) -> None:
        last = messages[-1]
        if last["more_body"]:
            self._crossing.begin_stream()
        self._crossing.put(messages, len(last["body"]))

    def _start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> Callable[[bytes], None]:
        response = self._response
        response.start(status, headers, exc_info)
        if response.dropped:
            names = ", ".join(sorted(name.decode() for name in response.dropped))
            self._settings.warn_once(
                names, f"response headers that are the server's were dropped: {names}"
            )
        return self._write

    def _write(self, data: bytes) -> None:
        if self._closed:
            raise RuntimeError(
                f"{self._settings.name}: write() was called after the response had "
                f"ended (PEP 3333, The write() Callable)"
            )
        self._crossing.wait_room()
        if messages := self._response.chunk(data):
            self._put(messages)

    def _close_after_error(self, iterable: Any) -> None:
        """Close the iterable without hiding the error that is on its way."""
        try:
            if close := getattr(iterable, "close", None):
                close()
        except BaseException:
            logger.exception("%s: close() failed after an error", self._settings.name)

    def _log_lost_error(self, error: BaseException) -> None:
        """Log what nobody waits for any more."""
        if not _is_disconnect(error):
            logger.error(
                "%s: failed after the client had left",
                self._settings.name,
                exc_info=error,
            )


def _is_disconnect(error: BaseException) -> bool:
    """Tell whether an error is but the application's way to say who left."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ClientDisconnected):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
