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
from functools import partial
from typing import Any
from wsgiref.types import WSGIApplication

from wsgi_asgi._body import Intake, RequestBody
from wsgi_asgi._bridge import Bridge, Crossing
from wsgi_asgi._chunks import body_message, join_chunks, split_chunks
from wsgi_asgi._departure import Departure
from wsgi_asgi._environ import build_environ
from wsgi_asgi._errors import (
    ClientDisconnected,
    RequestRefused,
    raisable,
    shutting_down,
    stems_from,
)
from wsgi_asgi._extensions import Extensions
from wsgi_asgi._fields import warning_of_dropped
from wsgi_asgi._files import BLOCK_BYTES, FilePart, FileWrapper
from wsgi_asgi._limits import Limits
from wsgi_asgi._port import Port, Timer
from wsgi_asgi._response import (
    EARLY_HINT,
    ENDED,
    NEW,
    REFUSED,
    TRAILERS,
    Response,
    plain_text,
)
from wsgi_asgi._types import ExcInfo, Message, Receive, Scope, Send

__all__ = ["HttpExchange", "HttpSettings"]

logger = logging.getLogger("wsgi_asgi")

# How long a server may take with the end of a response whose client has left.
LAST_SEND_S = 5.0
# The same for a response that nobody hears but what stands between: that has taken it
# by then, and Hypercorn's send() to an HTTP/2 client that is gone never returns.
UNHEARD_SEND_S = 0.5

# What is read of a file at once where it is in memory. Blocks of 256 KiB are half as
# fast, since the allocator takes as much from the system each time anew; where threads
# read them, more hops would cost more than that. It is also the most that a server
# which counts messages gets at once, see `_counts_messages`.
SENT_BYTES = 65536

# How long requests that are dropped are counted before the count is logged.
DROPPED_LOG_S = 1.0

# What an access log shows for a client that has left before it was answered; nginx
# made the number up, and others took it over.
CLIENT_CLOSED_REQUEST = 499

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 9.2.1

_CUT = "a response body was cut, since it was longer than its Content-Length"

_UNREAD = (
    "answered without reading a request body of unknown length; if it cannot read "
    "one without CONTENT_LENGTH, as Django cannot, leave out spool=False"
)


@dataclass(slots=True, kw_only=True)
class HttpSettings:
    """What all exchanges of one adapter share.

    Attributes:
        application: The WSGI application.
        name: What messages call it.
        base_environ: Variables that are the same for each request.
        intake: What their request bodies share.
        completed: Exchanges that ended with a complete response.
        rejected: Exchanges that were answered without the application.
        disconnected: Exchanges whose client left, or was given up, before that.
        dropped: Those of them that waited for a thread in vain after that.
        dropped_unlogged: Those of them that no log line has told of.
        dropped_log_port: The loop that is about to log them.
        warned: What was already warned of.
    """

    application: WSGIApplication
    name: str
    base_environ: Mapping[str, Any]
    bridge: Bridge
    limits: Limits
    duplicate_header_limit: int | None
    intake: Intake
    completed: int = 0
    rejected: int = 0
    disconnected: int = 0
    dropped: int = 0
    dropped_unlogged: int = 0
    dropped_log_port: Port | None = None
    warned: set[str] = field(default_factory=set)

    def warn_once(self, key: str, message: str) -> None:
        """Log a warning, unless the same was logged for this application."""
        if key not in self.warned:
            self.warned.add(key)
            logger.warning("%s: %s", self.name, message)

    def note_dropped(self, port: Port) -> None:
        """Count a request that was dropped, and log all of a second at once."""
        self.dropped += 1
        self.dropped_unlogged += 1
        # A loop may end before it has logged them, and then another does it.
        if port is not self.dropped_log_port:
            self.dropped_log_port = port
            port.call_later(DROPPED_LOG_S, self._log_dropped)

    def _log_dropped(self) -> None:
        self.dropped_log_port = None
        count, self.dropped_unlogged = self.dropped_unlogged, 0
        if not count:
            return  # another loop has logged them
        logger.warning(
            "%s: dropped %d request(s) whose clients had left, since no thread was "
            "free within %g s (Limits.abandoned_timeout); the application has not seen "
            "them",
            self.name,
            count,
            self.limits.abandoned_timeout,
        )


class HttpExchange:
    """One request and its response.

    Args:
        settings: The adapter's.
        scope: The ASGI ``http`` scope.
        receive: The server's; awaited by one task at a time.
        send: The server's; awaited by the task that runs the exchange.
    """

    __slots__ = (
        "_after_file",
        "_body",
        "_closed",
        "_crossing",
        "_drop_timer",
        "_extensions",
        "_file",
        "_final_given",
        "_final_sent",
        "_pending",
        "_pumping",
        "_receive",
        "_response",
        "_scope",
        "_send",
        "_send_error",
        "_settings",
        "_start_given",
        "_streams",
        "_told",
    )

    def __init__(
        self, settings: HttpSettings, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._settings = settings
        self._scope = scope
        self._receive = receive
        self._send = send
        self._response = Response(settings.name, scope["method"])
        self._pumping = False  # another task owns receive()
        self._pending: list[Message] = []  # taken, and kept until the pump runs
        # The server has said that the client left, and does not stop itself.
        self._told = False
        self._start_given = False  # the head of a response was given to send()
        # The message that completes the response was given to send() ...
        self._final_given = False
        self._final_sent = False  # ... which has returned
        self._send_error: Exception | None = None
        self._streams = False  # a part of the response was put out before its end
        self._file: FilePart | None = None  # the rest of it, which the task sends
        self._after_file: list[Message] = []  # but for these
        self._extensions: Extensions | None = None  # those that the server offers
        self._closed = False  # the application is done
        self._drop_timer: Timer | None = None

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
        body = self._body = RequestBody(crossing, self._receive, settings.intake)
        try:
            if port.terms:
                crossing.term = settings.bridge.term_of(self._scope)
                if port.drains(crossing.term):
                    raise shutting_down()
            if type(self._scope["headers"]) is not list:
                # Any iterable is permitted, also one that can be read but once.
                self._scope = {**self._scope, "headers": [*self._scope["headers"]]}
            if body.prepare(self._scope):
                ends = port.ends(crossing.term)
                self._told = not await body.receive_first()
                # The server may even have stopped meanwhile, with the application's
                # hooks, and this request with it.
                if not self._told and (
                    port.drains(crossing.term) or port.ends(crossing.term) > ends
                ):
                    body.discard()
                    raise shutting_down()
        except RequestRefused as refusal:
            await self._refuse(refusal)
            return
        except BaseException as error:
            settings.disconnected += not isinstance(error, Exception)
            raise
        if self._told:
            settings.disconnected += 1
            await self._say_closed()
            return
        if body.holds:
            crossing.on_drop = body.discard
        crossing.start()
        try:
            if not await self._deliver():
                self._pumping = True
                await self._crossing.port.beside(self._watch, self._deliver)
                # The watch may have cut it short, in a send() that nobody would
                # have received. Nothing is sent now, but the thread's end matters.
                await self._deliver()
        except BaseException as error:
            # Cancelled. At its next read, write or chunk the thread learns that
            # nobody waits for it, and ends by itself if that takes long.
            settings.disconnected += not self._final_sent
            crossing.cancels = self._is_safe()
            crossing.abandon()
            body.close()
            try:
                if not isinstance(error, GeneratorExit):
                    await crossing.linger()
            finally:
                if self._drop_timer and crossing.has_begun:
                    self._drop_timer.cancel()
                crossing.desert(self._log_lost_error)
                if self._file:
                    self._file.close()
            raise
        try:
            if crossing.dropped and not self._told:
                # A shutdown had no time for it, and its client still waits.
                settings.rejected += 1
                await self._send_at_last(
                    _refusal_messages(shutting_down(), self._scope), LAST_SEND_S
                )
            elif late_refusal := self._conclude():
                await self._refuse(late_refusal)
            elif self._told and not self._start_given:
                await self._say_closed()
        finally:
            if self._drop_timer:
                self._drop_timer.cancel()  # else it would keep all of this
            crossing.leave()
            body.close()

    async def _deliver(self) -> bool:
        """Send what the thread puts out.

        Returns:
            True when the thread has ended; False, with some messages perhaps
            pending, when the pump must run beside this.
        """
        crossing = self._crossing
        while True:
            ended = crossing.ended  # read first: after it nothing is put out
            messages = self._pending or crossing.take()
            if messages:
                if self._streams:
                    messages = join_chunks(messages)
                    if crossing.keeps_window:
                        messages = split_chunks(messages, SENT_BYTES)
                if messages[-1].get("more_body"):
                    self._body.response_streams = True
                    wants_watch = not ended
                else:
                    # On HTTP/2 a client can leave this one exchange, and Hypercorn
                    # then waits for it to read the answer, for ever.
                    wants_watch = (
                        self._scope["http_version"] >= "2" and self._body.may_receive()
                    )
                if wants_watch and not self._pumping:
                    self._pending = messages
                    return False  # from now on the client's leaving matters
                self._pending = []
                await self._send_all(messages)
                if ended and not (self._file or self._pumping):
                    return True
                if crossing.has_more:
                    # Sending need not have waited for anything, see `_send_block`.
                    await crossing.port.pause(0)
            elif ended:
                if not self._file:
                    return True
                if not self._pumping:
                    return False
                self._file = await self._send_block(self._file)
            elif crossing.nudged and not self._pumping and self._body.may_receive():
                return False
            else:
                crossing.nudged = False
                await crossing.wait()

    async def _send_block(self, file: FilePart) -> FilePart | None:
        """Send some of the file that is the rest of the response.

        Returns:
            The file, if there is more of it to send.
        """
        crossing = self._crossing
        if crossing.abandoned:
            file.close()
            return None
        self._body.response_streams = True
        try:
            block = file.read_cached(min(file.left, SENT_BYTES))
            if block is None:
                # The disk has to be waited for, which only threads may do.
                most = SENT_BYTES if _counts_messages(self._scope) else BLOCK_BYTES
                block = await self._settings.bridge.call_file(
                    partial(file.read, min(file.left, most))
                )
        except Exception as error:
            file.close()
            if not crossing.abandoned:
                self._send_error = error
            return None
        await self._send_all([body_message(block, more=file.left > 0)])
        if not file.left:
            file.close()
            await self._send_all(self._after_file)
            return None
        # Neither the reading nor the sending need have waited for anything, and the
        # other tasks, among them the one that listens, must have their turn.
        await self._crossing.port.pause(0)
        return file

    async def _send_all(self, messages: list[Message]) -> None:
        """Send messages, and empty the list: what was sent is not to be kept."""
        crossing = self._crossing
        extensions = self._extensions
        messages.reverse()
        while messages:
            message = messages.pop()
            if crossing.abandoned:
                return
            if extensions and not extensions.admits(message):
                continue
            # Before it is sent, since servers report a disconnect once the
            # response is complete, and that is none.
            self._final_given = (
                message.get("more_body") is False or message["type"] == TRAILERS
            )
            if not self._start_given:
                self._start_given = message["type"] == "http.response.start"
            completes = self._final_given and not (
                extensions and extensions.trailers_follow
            )
            if completes and self._pumping:
                # Hypercorn does not return before it has got rid of all the body.
                self._body.close()
            try:
                await self._send(message)
                self._final_sent = completes
            except Exception as error:
                self._final_given = False
                if not isinstance(error, OSError):
                    self._send_error = error
                self._disconnect()
                return
            if body := message.get("body"):
                crossing.taken(len(body))

    async def _watch(self) -> bool:
        """Listen; True if the client has left before it got its response."""
        if not await self._body.pump():
            return False
        crossing = self._crossing
        self._told = not crossing.port.drains(crossing.term)
        if self._final_given:
            # A server that says so then means that the response is complete, or
            # gunicorn that its body is, and there may be trailers to come. But it
            # may also have lost the client and never return from send().
            self._body.close()
            await crossing.port.pause(LAST_SEND_S)
            self._final_given = self._final_sent
        return self._disconnect()

    def _disconnect(self) -> bool:
        self._body.close()
        if self._final_given:
            return False
        crossing = self._crossing
        # Clients that post something and do not wait for the answer are served.
        crossing.cancels = self._is_safe()
        crossing.indispensable = self._body.is_whole and not crossing.cancels
        crossing.abandon()
        if not crossing.has_begun:
            self._drop_timer = crossing.port.call_later(
                self._settings.limits.abandoned_timeout, self._drop_unbegun
            )
        return True

    def _is_safe(self) -> bool:
        """Tell whether it changes nothing if the request is broken off."""
        return self._scope["method"] in _SAFE_METHODS

    def _drop_unbegun(self) -> None:
        if self._crossing.drop():
            self._settings.note_dropped(self._crossing.port)

    def _conclude(self) -> RequestRefused | None:
        """Account for the exchange, and raise what the server should log.

        Returns:
            What is still to be answered instead of the application.
        """
        settings = self._settings
        if self._send_error:
            raise self._send_error
        gone = self._crossing.abandoned
        settings.disconnected += gone
        error = self._crossing.take_error()
        if error is None:
            settings.completed += not gone
            return None
        try:
            if _is_disconnect(error) and (gone or self._final_sent):
                settings.completed += not gone
                return None
            if isinstance(error, RequestRefused) and not self._response.is_out:
                return None if gone else error
            if self._body.refusal and stems_from(error, RequestRefused):
                # It is too late for an answer, and no fault of the application's:
                # the server cuts a response that was not completed.
                settings.rejected += 1
                logger.info("%s: a response was cut: %s", settings.name, error)
                return None
            raise raisable(error, settings.name)
        finally:
            del error  # else its traceback would hold it, by this frame

    async def _say_closed(self) -> None:
        """Answer a client that has left, for all that stand between.

        Servers drop this. But middleware takes a response that never begins for an
        error, and access logs show what has happened. An application that was let
        finish has the status that it has given.
        """
        crossing = self._crossing
        if crossing.port.drains(crossing.term) or (
            _writes_on(self._scope) and self._body.is_whole
        ):
            return
        response = self._response
        status, headers = CLIENT_CLOSED_REQUEST, []
        if not (response.state in (NEW, REFUSED) or crossing.cancels):
            status = response.status
            # No body goes with them, so they cannot announce its length.
            headers = [one for one in response.headers if one[0] != b"content-length"]
        await self._send_at_last(
            [
                {"type": "http.response.start", "status": status, "headers": headers},
                body_message(b"", more=False),
            ],
            UNHEARD_SEND_S,
        )

    async def _send_at_last(self, messages: list[Message], seconds: float) -> None:
        """Send a short response that nobody may be there for, for so many seconds."""
        # A server that never returns from send() must not keep the task.
        await self._crossing.port.beside(
            partial(self._give_up, seconds), partial(self._send_ignored, messages)
        )

    async def _give_up(self, seconds: float) -> bool:
        await self._crossing.port.pause(seconds)
        return True

    async def _send_ignored(self, messages: list[Message]) -> None:
        try:
            for message in messages:
                await self._send(message)
        except Exception:
            logger.debug("send() failed after the client had left", exc_info=True)

    async def _refuse(self, refusal: RequestRefused) -> None:
        self._settings.rejected += 1
        await self._send_all(_refusal_messages(refusal, self._scope))
        if self._send_error:
            raise self._send_error

    # In the application's thread.

    def _work(self) -> None:
        """Call the application and put out its response."""
        settings = self._settings
        file: FilePart | None = None
        try:
            environ = self._make_environ()
            iterable = settings.application(environ, self._start_response)
            try:
                if type(iterable) is FileWrapper:
                    file = FilePart.of(iterable.filelike)
                if file is None:
                    self._iterate(iterable)
                if self._streams:
                    # close() comes after the last chunk is with the server. Where
                    # it was the only one that is not waited for, as it would cost
                    # every quick request a second hop.
                    self._crossing.wait_delivered()
            except BaseException:
                self._close_after_error(iterable)
                raise
            try:
                if close := getattr(iterable, "close", None):
                    close()
            finally:
                if file:
                    self._put_file(file)
        finally:
            self._closed = True
            # The last is looked at after it was left to the task, which looks the
            # other way round: so one of the two closes it.
            if file and (file is not self._file or self._crossing.abandoned):
                file.close()
            if self._body.holds:
                self._body.discard()
        body = self._body
        if self._response.is_cut and type(iterable) is not FileWrapper:
            settings.warn_once("cut", _CUT)
        if body.unsized and body.is_unread and self._response.status < 400:
            settings.warn_once("unread", _UNREAD)

    def _make_environ(self) -> dict[str, Any]:
        """Make the environ.

        Here and not on the loop, which is free for others meanwhile, and there are
        fewer at a time.

        Raises:
            RequestRefused: A header would mislead the application.
        """
        settings = self._settings
        scope = self._scope
        environ = build_environ(
            scope, settings.base_environ, settings.duplicate_header_limit
        )
        self._body.add_to(environ)
        environ["wsgi.errors"] = sys.stderr or io.StringIO()
        departure = Departure(self._crossing)
        environ["wsgi_asgi.client_disconnected"] = departure
        environ["waitress.client_disconnected"] = departure
        offered = scope.get("extensions")
        if offered and (EARLY_HINT in offered or TRAILERS in offered):
            self._extensions = Extensions(self._response, self._crossing)
            self._extensions.add_to(environ, scope)
        return environ

    def _iterate(self, iterable: Any) -> None:
        response = self._response
        crossing = self._crossing
        # An application that knows it need not have called start_response().
        if crossing.abandoned:
            crossing.check()
        if type(iterable) is list or type(iterable) is tuple:
            crossing.put_last(response.whole(iterable, self._settings.limits.buffer))
            return
        if isinstance(iterable, str | bytes) or not (
            hasattr(iterable, "__iter__") or hasattr(iterable, "__getitem__")
        ):
            raise TypeError(
                f"{self._settings.name} returned {type(iterable).__name__} and not an "
                f"iterable of bytes (PEP 3333, Specification Details)"
            )
        for chunk in iterable:
            if size := response.passes(chunk):
                if not crossing.streaming:
                    crossing.begin_stream()  # there may be room by now
                crossing.push(chunk, size)
            elif messages := response.chunk(chunk):
                self._put(messages)
                if response.state is ENDED:
                    return
                crossing.wait_room()
            elif response.state is ENDED:
                return  # since write(), and there may be no end of chunks
            else:
                crossing.check()
        if messages := response.end():
            self._put(messages)

    def _put_file(self, file: FilePart) -> None:
        """Put out a short file, or leave a long one to the task.

        The wrapped file is closed already, and with it perhaps removed.
        """
        messages, count = self._response.rest(file.left)
        trailers = self._response.end()
        if not count:
            pass
        elif count <= self._settings.limits.buffer:
            messages += [body_message(file.read_all(count), more=False), *trailers]
        else:
            file.left = count
            self._after_file = trailers
            self._file = file
        self._crossing.put_last(messages)

    def _put(self, messages: list[Message]) -> None:
        last = messages[-1]
        body = last.get("body", b"")
        items: list[Message | bytes] = [*messages]
        if last.get("more_body"):
            if not self._streams:
                self._streams = True
                self._crossing.keeps_window = _counts_messages(self._scope)
            self._crossing.begin_stream()
            items[-1] = body
        self._crossing.put(items, len(body))

    def _start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> Callable[[bytes], None]:
        response = self._response
        try:
            response.start(status, headers, exc_info)
        finally:
            exc_info = None  # else its traceback would hold itself, by this frame
        refusal = self._body.refusal
        if refusal and response.status >= 500 and not response.is_out:
            # The application took the refused body for a failure of its own.
            raise refusal
        if response.dropped:
            self._settings.warn_once(*warning_of_dropped(response.dropped))
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


def _refusal_messages(refusal: RequestRefused, scope: Scope) -> list[Message]:
    return plain_text(
        refusal.status,
        refusal.reason,
        refusal.headers,
        head=scope["method"] == "HEAD",
    )


def _counts_messages(scope: Scope) -> bool:
    """Tell whether a server holds a client back by messages, and not by bytes.

    Granian does, with HTTP/1: it takes some ten messages more than its client does,
    whatever their size, so that it goes no faster if more are at hand. It alone offers
    to send a file by its path.
    """
    offered = scope.get("extensions") or ()
    return "http.response.pathsend" in offered and scope["http_version"] < "2"


def _writes_on(scope: Scope) -> bool:
    """Tell whether a server sends what it is given after it has said http.disconnect.

    Hypercorn does so with HTTP/1: it takes the end of what a client sends for the
    client's leaving, and the client may have closed but its side, and read on. An
    exception is a request that is not complete, which it has refused by then.
    """
    return (
        scope["http_version"] < "2"
        and "hypercorn" in sys.modules
        and scope.get("asgi", {}).get("spec_version") == "2.1"
    )


def _is_disconnect(error: BaseException) -> bool:
    """Tell whether an error is but the application's way to say who left."""
    return stems_from(error, ClientDisconnected)
