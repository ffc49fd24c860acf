"""One request's body, on its way from ``receive()`` to ``wsgi.input``.

How it travels depends on what the headers say of it:

    none announced        nothing is received unless the application reads; where
                          the method allows a body, what there is, is received whole
    length up to buffer   received whole, so that a slow sender holds no thread
    longer                handed over with its first message, then streamed, so that
                          the application may refuse it early
    Expect: 100-continue  nothing is received before the application reads, as
                          receiving makes the server ask for the body
    no length             received whole and given a length, since most applications
                          read nothing of a body without one

A body that streams can make its thread wait for the client. Such a thread does not
count against the bound of quick requests, but it holds one of `Limits.uploads` places.
Where none is free, the body is received whole as well, or refused if the thread runs
already, as nothing announced a body. It is received whole, always, where requests run
one after the other or in an executor that is not ours, since there a thread that waits
would keep others from running.

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import IO, Any

from typing_extensions import TypeAliasType

from wsgi_asgi._bridge import MAX_ITEMS, Crossing
from wsgi_asgi._environ import find_framing
from wsgi_asgi._errors import IncompleteBody, RequestRefused, disconnect_error
from wsgi_asgi._input import BodyReader, BodyStream, LazyStream
from wsgi_asgi._limits import Limits
from wsgi_asgi._mailbox import Inlet
from wsgi_asgi._pool import Guard, Places
from wsgi_asgi._spool import Spool, Storage
from wsgi_asgi._types import Message, Receive, Scope

__all__ = ["Intake", "RequestBody", "SpoolPolicy", "check_spool"]

logger = logging.getLogger("wsgi_asgi")

# Methods whose requests have a body only if a header announces one, also on
# HTTP/2, where none needs to.
_BODILESS_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "TRACE"})


# How long an application may stream its response before a body is taken for unwanted
# that it has never asked for, and that is longer than the buffer.
UNREAD_S = 5.0

# How often a thread may wait for a body without a place for it, and the next time gets
# an error. A wait ends with the next bytes, or after `UNPLACED_S`.
UNPLACED_WAITS = 2

# Held for the few instructions that open an inlet or change whether a body holds a
# place, by the thread or the task.
_OPENING = Guard()

# True, False, "all", or a callable of the scope that gives any of these.
SpoolPolicy = TypeAliasType("SpoolPolicy", bool | str | Callable[[Scope], bool | str])


@dataclass(slots=True, kw_only=True)
class Intake:
    """What the bodies of one adapter share.

    Attributes:
        limits: `buffer`, `body` and `spool` count here.
        storage: Where bodies are kept that are received whole.
        uploads: Places for bodies that stream.
        spool: Which bodies are received whole: those without a length (True), all
            ("all"), or only those that must be (False).
        is_always_whole: No thread may wait for a body.
    """

    limits: Limits
    storage: Storage
    uploads: Places
    spool: SpoolPolicy
    is_always_whole: bool


class RequestBody:
    """A body and its way to the application.

    Args:
        crossing: The thread that will read it.
        receive: The server's.
        intake: What it shares with others.

    Attributes:
        is_announced: The headers speak of one.
        response_streams: A part of the response is out, and not all of it.
        refusal: Why no more of it is received, if the adapter has refused it.
        unsized: It streams, and nobody knows its length.
        holds: It has, or has had, something that `discard` gives back.
    """

    __slots__ = (
        "_at_end",
        "_crossing",
        "_end_is_marked",
        "_expects_continue",
        "_has_place",
        "_inlet",
        "_input",
        "_intake",
        "_is_closed",
        "_is_unexpected",
        "_kept",
        "_length",
        "_limits",
        "_receive",
        "_received",
        "_size",
        "_spool",
        "holds",
        "is_announced",
        "refusal",
        "response_streams",
        "unsized",
    )

    def __init__(self, crossing: Crossing, receive: Receive, intake: Intake) -> None:
        self._crossing = crossing
        self._receive = receive
        self._intake = intake
        self._limits = intake.limits
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
        self._has_place = False  # one of those for bodies that stream
        self._is_closed = False
        self._spool: Spool | None = None  # where it was received whole
        self.holds = False

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
        is_http1 = scope["http_version"][0] == "1"
        if length is not None:
            self._length = length
            if _is_over(self._limits.body, length):
                raise _too_large(self._limits.body)
            self._end_is_marked = not is_http1
            if not length:
                self._input = io.BytesIO()
                return self._end_is_marked
        elif not is_coded:
            # HTTP/2 and later mark the end of a request without a header. And
            # clients in process, and gateways of events, need no header at all.
            seldom = scope["method"] in _BODILESS_METHODS
            if seldom and (is_http1 or not self._intake.is_always_whole):
                self._end_is_marked = not is_http1
                self._is_unexpected = True
                return False
            if seldom or is_http1:
                if not self._is_spooled(scope):
                    self._is_unexpected = True
                    return False
                self._begin_spool()
                return True
        self.is_announced = True
        self._choose_way(scope, expects_continue)
        return not self._expects_continue

    def _choose_way(self, scope: Scope, expects_continue: bool) -> None:
        """Find out whether a body that is announced must be received whole."""
        length = self._length
        in_memory = length is not None and length <= self._limits.buffer
        if self._is_spooled(scope):
            pass
        elif in_memory and not expects_continue:
            return
        elif self._take_place():
            if expects_continue:
                self._expects_continue = True
                self._stream()
            return
        elif length is not None and length > self._limits.spool:
            raise _busy()  # it may stream as soon as there is a place
        if length is not None and length > self._limits.spool:
            raise _too_large(self._limits.spool)
        if not in_memory:
            self._begin_spool()

    def _begin_spool(self) -> None:
        self._spool = Spool(self._intake.storage)
        self.holds = True

    def _is_spooled(self, scope: Scope) -> bool:
        """Tell whether a body is received whole, whatever its length is."""
        intake = self._intake
        policy = intake.spool
        if callable(policy):
            policy = policy(scope)
        check_spool(policy)
        if intake.is_always_whole or policy == "all":
            return True
        return bool(policy) and self._length is None

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
            # without one, and some that would decode the chunks once more.
            environ["CONTENT_LENGTH"] = str(self._size)
            environ.pop("HTTP_TRANSFER_ENCODING", None)

    def _open(self) -> Inlet:
        """Give the inlet of a body that the headers do not announce; any thread.

        Few such requests are ever asked for one, and then by the application or by
        the pump, whichever is first.
        """
        with _OPENING:
            if self._inlet is None:
                take_place: Callable[[], bool] = self._take_place
                if self._end_is_marked:
                    take_place = partial(self._insist, count(1))
                self._inlet = Inlet(self._crossing, self._limits.buffer, take_place)
            return self._inlet

    def _pull(self) -> bytes:
        return self._open().pull()

    async def receive_first(self) -> bool:
        """Receive what the application is not to wait for.

        Returns:
            False if the client has left, so that there is nobody to answer.

        Raises:
            RequestRefused: The body is longer than permitted, or there is no room.
        """
        is_here = False
        try:
            is_here = await (
                self._receive_spool if self._spool else self._receive_some
            )()
        finally:
            if not is_here:
                self.discard()
        return is_here

    async def _receive_some(self) -> bool:
        """Receive a short body whole, of any other what comes in one message."""
        length = self._length
        chunks: list[bytes] = []
        whole = length is not None and length <= self._limits.buffer
        more = True
        while more and (whole or not chunks):
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return False
            chunks.append(self._checked(message))
            if len(chunks) > MAX_ITEMS:
                chunks = [b"".join(chunks)]  # since each has memory of its own
            more = self._has_more()
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if more:
            self._feed(self._stream(), body)
            self._crossing.nudge()  # the pump is needed from the start
        else:
            self._give_place_back()
            self._take_whole(io.BytesIO(body[:length]), len(body))
        return True

    async def _receive_spool(self) -> bool:
        """Receive a body of any length whole."""
        spool = self._spool
        assert spool
        length, most = self._length, self._limits.spool
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return False
            data = self._checked(message)
            if length is not None:
                data = data[: length - spool.size]
            elif _is_over(most, self._received):
                raise _too_large(most)
            await spool.write(data)
            more = self._has_more()
        self._take_whole(await spool.finish(), spool.size)
        return True

    def _has_more(self) -> bool:
        """Tell whether some of a body that is received first is still to come."""
        length = self._length
        return not self._at_end and (
            length is None or self._received < length or self._awaits_mark()
        )

    def _take_whole(self, file: IO[bytes], size: int) -> None:
        """Give the application a body that is here, as far as there is one."""
        length = self._length
        if length is not None and size < length:
            # What is missing, the application learns when it reads that far.
            pull = partial(file.read, self._limits.buffer)
            self._input = BodyReader(BodyStream(pull, length))
            return
        self._input = file  # type: ignore[assignment]  # typeshed: IO is no class of io
        # A request that announces no body and has none needs no length either.
        if length is None and (size or self.is_announced):
            self._size = size

    def discard(self) -> None:
        """Let go of a body that no thread reads any more; any thread."""
        self._give_place_back()
        if self._spool:
            self._spool.close()

    def _take_place(self) -> bool:
        """Take a place for a body that streams; any thread."""
        if self._intake.is_always_whole:
            return False
        with _OPENING:
            if not (self._has_place or self._is_closed):
                self._has_place = self.holds = self._intake.uploads.take()
                if self._is_closed:  # meanwhile and by this very thread, see `Guard`
                    self._give_place_back()
            return self._has_place

    def _insist(self, waits: Iterator[int]) -> bool:
        """Take a place for a body over HTTP/2 that nothing announced, or give it up.

        Its thread is at work already, and most such bodies are empty and end at once.
        Where there is no place for one that does not, its thread may not wait for
        longer, since it is one of those that quick requests need.

        Returns:
            True if the thread may wait for as long as it takes.

        Raises:
            RequestRefused: It has waited often enough without a place.
        """
        if self._crossing.streaming or self._take_place():
            return True
        if next(waits) > UNPLACED_WAITS:
            self.refusal = _busy()
            raise self.refusal
        return False

    def _give_place_back(self) -> None:
        if not self._has_place:
            return  # so it is nearly always
        with _OPENING:
            has_place, self._has_place = self._has_place, False
        if has_place:
            self._intake.uploads.give_back()

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
                self._give_place_back()

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
        if inlet:
            with _OPENING:  # a thread may be about to take a place
                self._is_closed = True
            self._give_place_back()

    def _stream(self) -> Inlet:
        length = self._length
        inlet = Inlet(self._crossing, self._limits.buffer, self._take_place)
        self._inlet = inlet
        self._input = BodyReader(BodyStream(inlet.pull, length))
        self.unsized = length is None
        return inlet

    def _checked(self, message: Message) -> bytes:
        if message["type"] != "http.request":
            raise RuntimeError(f"the server sent {message['type']!r} in a request body")
        self._at_end = not message.get("more_body", False)
        body: bytes = message.get("body") or b""
        self._received += len(body)
        if _is_over(self._limits.body, self._received):
            raise _too_large(self._limits.body)
        return body


def check_spool(policy: object) -> None:
    """Refuse what cannot say which bodies are received whole.

    Raises:
        TypeError: It is none of True, False and "all".
    """
    if not isinstance(policy, bool) and policy != "all":
        raise TypeError(
            f'spool is True, False, "all" or a callable of the scope that gives one '
            f"of these, not {policy!r}"
        )


def _is_over(limit: int | None, size: int) -> bool:
    return limit is not None and size > limit


def _too_large(limit: int | None) -> RequestRefused:
    return RequestRefused(
        "413 Content Too Large", f"The request body is longer than {limit} bytes."
    )


def _busy() -> RequestRefused:
    return RequestRefused(
        "503 Service Unavailable",
        "Too many request bodies arrive at the same time; try again later.",
        (("Retry-After", "10"),),
    )
