"""What the application did goes in, ASGI messages come out.

This module holds every rule of PEP 3333 about the order of things: when
start_response() may be called and called again, when the headers are committed,
what Content-Length permits, which responses have no body. It knows no thread, no
loop and no server, so each rule can be tested by a table of calls.

    state     the application has ...
    NEW       not called start_response()
    REFUSED   called it with something that cannot be sent
    READY     called it; status and headers are held and can still be replaced
    OPEN      given a first non-empty chunk; the headers are gone
    TRAILING  given all of the body; the trailers that were announced are held
    ENDED     given all that the response may have

Headers are held back until there is a chunk because an application may find out
only while it makes the first one that it has to answer something else.

Two things can go with a response, where the server offers them: early hints before
it, and trailers after it. The headers say whether there will be trailers, so an
application has to speak of them before its first chunk. Their values it may find out
later, up to the end of its body.
"""

from collections.abc import Iterable, Sequence
from enum import Enum

from wsgi_asgi._chunks import body_message, join_list
from wsgi_asgi._fields import (
    CONNECTION_HEADERS,
    HEADERS,
    NAMES,
    NO_TRAILERS,
    STATUSES,
    encode_field,
    encode_header,
)
from wsgi_asgi._types import ExcInfo, Message

__all__ = [
    "EARLY_HINT",
    "ENDED",
    "NEW",
    "REFUSED",
    "TRAILERS",
    "TRANSITIONS",
    "Event",
    "Response",
    "State",
    "plain_text",
]

# The types of the messages of two extensions, which are their names as well.
EARLY_HINT = "http.response.early_hint"
TRAILERS = "http.response.trailers"


class State(Enum):
    """How far a response has come."""

    # Enum's own is written in Python, and too slow for a key of the hot path.
    __hash__ = object.__hash__

    NEW = "start_response() was never called"
    REFUSED = "start_response() failed and was not called again with exc_info"
    READY = "start_response() was called, nothing has been sent"
    OPEN = "part of the response has been sent"
    TRAILING = "all but the trailers has been sent"
    ENDED = "the response is complete"


class Event(Enum):
    """What an application can do to its response."""

    __hash__ = object.__hash__

    START = "start_response() was called"
    REPLACE = "start_response() was called with exc_info"
    CHUNK = "a chunk of the body was given"
    END = "the body ended"


# Before Python 3.12 an Enum's members are slow to look up in their class.
NEW, REFUSED, READY, OPEN, TRAILING, ENDED = State
START, REPLACE, CHUNK, END = Event

TRANSITIONS: dict[State, dict[Event, State]] = {
    NEW: {START: READY, REPLACE: READY},
    REFUSED: {REPLACE: READY},
    READY: {
        REPLACE: READY,
        CHUNK: OPEN,
        END: ENDED,
    },
    OPEN: {CHUNK: OPEN, END: ENDED},
    # Chunks beyond the end are those that Content-Length or HEAD has no room
    # for. They are dropped, and nothing is waited for after them.
    TRAILING: {CHUNK: ENDED, END: ENDED},
    ENDED: {CHUNK: ENDED, END: ENDED},
}

# More digits are the length of nothing that exists.
MAX_LENGTH_DIGITS = 18

_NO_BODY = frozenset({204, 205, 304})  # RFC 9110 15.3.5, 15.3.6, 15.4.5
_LENGTH_DROPPED = frozenset({204, 205})

# What has a proxy send a file instead of the body: Apache's, nginx's and lighttpd's.
_SENT_BY_PROXY = frozenset(
    {b"x-sendfile", b"x-accel-redirect", b"x-lighttpd-send-file"}
)


class Trailers:
    """The trailers of one response.

    Attributes:
        fields: Those that the application has given.
        are_wanted: It has spoken of them.
        names: What the application's own Trailer headers say.
    """

    __slots__ = ("are_wanted", "fields", "names")

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.are_wanted = False
        self.names: list[bytes] = []

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Make the header that names them, as far as it is known (RFC 9110 6.6.2)."""
        names = self.names or [*dict(self.fields)]
        return [(b"trailer", b", ".join(names))] if names else []


def plain_text(
    status: str, text: str, headers: Iterable[tuple[str, str]] = (), *, head: bool
) -> list[Message]:
    """Make the messages of a whole plain-text response.

    Args:
        status: Status line.
        text: One line for the client to read.
        headers: More headers.
        head: Whether the request was HEAD, which is answered without the text.
    """
    body = f"{text}\n".encode()
    return [
        {
            "type": "http.response.start",
            "status": STATUSES[status],
            "headers": [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", b"%d" % len(body)),
                *((NAMES[name], value.encode("latin-1")) for name, value in headers),
            ],
        },
        body_message(b"" if head else body, more=False),
    ]


class Response:
    """One response, as the application makes it.

    Every method may be called by any thread, but by one at a time; beside that one
    others may call `early_hint` and `send_trailers`. The messages that they return
    are the caller's to send, in order.

    Args:
        application: What error messages call the application.
        method: The request's method; HEAD has no body in its response.

    Attributes:
        state: How far it has come.
        status: The status code; 0 before start_response() was called.
        is_cut: There was more of a body than Content-Length had room for.
        dropped: Connection headers that the application set and that are not
            sent, as lower-case bytes.
    """

    __slots__ = (
        "_after_body",
        "_application",
        "_has_length",
        "_headers",
        "_left",
        "_method",
        "_no_body",
        "_trailers",
        "dropped",
        "is_cut",
        "state",
        "status",
    )

    def __init__(self, application: str, method: str) -> None:
        self._application = application
        self._method = method
        self.status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._has_length = False
        self._left: int | None = None  # of Content-Length, if that is known
        self._no_body = False
        self._trailers: Trailers | None = None
        self._after_body = ENDED
        self.state = NEW
        self.is_cut = False
        self.dropped: tuple[bytes, ...] = ()

    @property
    def is_out(self) -> bool:
        """Whether a part of it can have reached the client."""
        return self.state in (OPEN, TRAILING, ENDED)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Those that are held, to be sent as they are."""
        return self._headers

    def early_hint(self, headers: Iterable[object]) -> list[Message]:
        """Take fields that the client may act upon while the response is made.

        Args:
            headers: Pairs of str or bytes. Only those named Link can be sent.

        Returns:
            What may be sent at once; nothing if a part of the response is out.

        Raises:
            TypeError: The fields are no list of pairs.
            ValueError: A field cannot be sent. None of this call are.
        """
        fields = self._encode_fields("early hints", headers)
        links = [value for name, value in fields if name == b"link"]
        if not links or self.is_out:
            return []
        return [{"type": EARLY_HINT, "links": links}]

    def offer_trailers(self) -> None:
        """Let the application send trailers: the server can."""
        self._trailers = Trailers()

    def send_trailers(self, headers: Iterable[object]) -> None:
        """Send fields after the body: ``environ["wsgi_asgi.send_trailers"]``.

        The first call must come before the first chunk, since the headers of the
        response announce that there will be trailers. What they are may be said then
        or later, in any number of calls, until the iterable is exhausted: those that
        are known only at the end are announced by a call with an empty list. They
        are sent once the body is complete.

        That the body has a Content-Length changes nothing: the iterable is exhausted
        all the same, unless it gives more than that. None is added to a list of
        chunks or to a file, and a file goes out as a body and never by its path.

        A response that has no body has no trailers, and they are dropped: that of
        a HEAD request, and one with status 204, 205 or 304. If the application
        fails after the announcement, nothing more is sent, and the client can see
        that the response is not complete. If the client leaves, nothing is either;
        the call itself does not fail for that.

        Runs on:
            Any thread, also of the application's own.

        Args:
            headers: Pairs of name and value, str or bytes.

        Raises:
            RuntimeError: A part of the response is out and has not announced any
                trailers, or the response is complete.
            TypeError: The fields are no list of pairs.
            ValueError: A field cannot be sent, or not after the body. None of this
                call are.
        """
        fields = self._encode_fields("trailers", headers)
        for name, _ in fields:
            if name in NO_TRAILERS:
                raise ValueError(
                    f"{self._application}: trailers: {name.decode()!r} belongs to the "
                    f"headers (RFC 9110 6.5.1)"
                )
        trailers = self._trailers
        assert trailers, "it is given to nobody before offer_trailers()"
        if not self.is_out:
            trailers.are_wanted = True
        elif self._no_body:
            return
        elif self._after_body is not TRAILING:
            raise RuntimeError(
                f"{self._application}: trailers came after the response had started "
                f"without them; call send_trailers() before the first chunk, with an "
                f"empty list if they are not known by then"
            )
        elif self.state is ENDED:
            raise RuntimeError(
                f"{self._application}: trailers came after the response had ended; "
                f"the last moment is before the iterable is exhausted"
            )
        trailers.fields += fields

    def _encode_fields(
        self, what: str, headers: Iterable[object]
    ) -> list[tuple[bytes, bytes]]:
        try:
            if isinstance(headers, str | bytes) or not isinstance(headers, Iterable):
                raise TypeError(f"headers must be a list: {headers!r}")
            return [encode_field(pair) for pair in headers]
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{self._application}: {what}: {error}") from None

    def start(
        self,
        status: str,
        headers: Iterable[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> None:
        """Take status and headers, checked and copied; nothing is sent yet.

        Args:
            status: Status line; the reason may be missing, since ASGI drops it.
            headers: Pairs of str.
            exc_info: The error that this status reports, if it does.

        Raises:
            BaseException: That of ``exc_info``, where a part of the response is
                already out and cannot be replaced.
            RuntimeError: The second call without ``exc_info``.
            TypeError: Status or a header is not str.
            ValueError: Status or a header cannot be sent, for one because it
                holds a line break. Nothing of this call is kept.
        """
        event = REPLACE if exc_info else START
        state = TRANSITIONS[self.state].get(event)
        if state is None:
            if exc_info and exc_info[1] is not None:
                try:
                    raise exc_info[1].with_traceback(exc_info[2])
                finally:
                    exc_info = None  # else the traceback holds itself, by this frame
            raise self._error(
                "start_response() was called a second time without exc_info"
            )
        self.state = REFUSED
        self._take_head(status, headers)
        self.state = state

    def _take_head(self, status: str, headers: Iterable[tuple[str, str]]) -> None:
        raw_headers: list[tuple[bytes, bytes]] = []
        dropped: list[bytes] = []
        trailer_names: list[bytes] = []
        length: bytes | None = None
        # A list nearly always, and the general question is a slow one.
        if type(headers) is not list and not isinstance(headers, Iterable):
            raise self._refusal(TypeError(f"headers must be a list: {headers!r}"))
        if not isinstance(status, str):
            raise self._refusal(
                TypeError(f"status is {type(status).__name__} and not str: {status!r}")
            )
        try:
            code = STATUSES[status]
        except ValueError as error:
            raise self._refusal(error) from None
        for pair in headers:
            try:
                try:
                    header = HEADERS.get(pair) or encode_header(pair)
                except TypeError:
                    # No key of a dict, which a good pair may be: a list is none.
                    header = encode_header(pair)
            except (TypeError, ValueError) as error:
                raise self._refusal(error) from None
            raw_name, raw_value = header
            if raw_name in CONNECTION_HEADERS:
                if raw_name == b"trailer" and self._trailers:
                    trailer_names.append(raw_value)
                else:
                    dropped.append(raw_name)
            elif raw_name != b"content-length":
                raw_headers.append(header)
            elif not (raw_value.isdigit() and len(raw_value) <= MAX_LENGTH_DIGITS):
                raise self._refusal(
                    ValueError(f"Content-Length is not a number: {raw_value!r}")
                )
            elif length is None:
                length = raw_value
                if code not in _LENGTH_DROPPED:
                    raw_headers.append(header)
            elif length != raw_value:
                raise self._refusal(ValueError("two Content-Length headers differ"))
        self.status = code
        self.dropped = tuple(dropped)
        self._headers = raw_headers
        self._has_length = length is not None
        self._no_body = self._method == "HEAD" or code in _NO_BODY
        self._left = None if self._no_body or length is None else int(length)
        if self._trailers:
            self._trailers.names = trailer_names

    def announce(self, length: int) -> None:
        """Add the Content-Length of a body that is known before any of it is sent.

        Without it HTTP/1.1 falls back to chunked coding, and the end of the
        response takes a message of its own. An application that has declared
        a length is believed. With trailers there is none, since HTTP/1.1 has them
        in chunked coding only.

        Args:
            length: Bytes of the body.
        """
        if (
            self.state is READY
            and not self._has_length
            and self.status not in _NO_BODY
            # No chunk of a response to HEAD does not mean that GET's has none.
            and (length or self._method != "HEAD")
            and not (self._trailers and self._trailers.are_wanted)
        ):
            self._has_length = True
            self._headers.append((b"content-length", b"%d" % length))
            if not self._no_body:
                self._left = length

    def chunk(self, data: bytes) -> list[Message]:
        """Take one chunk of the body.

        Returns:
            What may be sent at once. An empty chunk never sends anything.

        Raises:
            RuntimeError: start_response() was not called, or failed.
            TypeError: The chunk is not bytes.
        """
        if type(data) is not bytes:
            data = self._as_bytes(data)
        if not data:
            return []
        state = TRANSITIONS[self.state].get(CHUNK)
        if state is None:
            raise self._error(f"a chunk was given, but {self.state.value}")
        if state is not OPEN:
            self.is_cut = not self._no_body
            return self.end()
        messages: list[Message] = []
        if self.state is READY:
            messages.append(self._start_message())
        self.state = state
        if self._no_body:
            data = b""
            self.state = ENDED
        elif self._left is not None:
            if len(data) > self._left:
                data = data[: self._left]
                self.is_cut = True
            self._left -= len(data)
            if not self._left:
                self.state = self._after_body
        messages.append(body_message(data, more=self.state is OPEN))
        if self.is_cut:
            messages += self.end()
        return messages

    def whole(self, chunks: Sequence[bytes], buffer: int) -> list[Message]:
        """Take all of a body at once, so that its length is known, and end it.

        Args:
            chunks: A list or a tuple. Small chunks are joined.
            buffer: If they are no more than so many bytes together, they become one
                message and get a Content-Length, as one chunk does. Not for HEAD,
                to which an application need not give all that GET gets.

        Returns:
            What is to be sent.

        Raises:
            RuntimeError: As `chunk` and `end` do.
            TypeError: A chunk is not bytes.
        """
        if len(chunks) == 1 and type(data := chunks[0]) is bytes:
            size = len(data)
            if (
                size
                and self.state is READY
                and (size == self._left or not self._has_length)
                and not (self._no_body or self._trailers)
            ):
                # What most responses are, and the same as all that is below.
                self._left = 0
                self.state = ENDED
                if not self._has_length:
                    self._headers.append((b"content-length", b"%d" % size))
                return [
                    {
                        "type": "http.response.start",
                        "status": self.status,
                        "headers": self._headers,
                    },
                    {"type": "http.response.body", "body": data, "more_body": False},
                ]
            self.announce(size)
        elif len(chunks) > 1:
            chunks = self._joined(chunks, buffer)
        messages: list[Message] = []
        for chunk in chunks:
            messages += self.chunk(chunk)
        return messages + self.end()

    def _joined(self, chunks: Sequence[bytes], buffer: int) -> Sequence[bytes]:
        """Join chunks of a whole body, and tell its length, if that is short."""
        if not {bytes}.issuperset(map(type, chunks)):
            chunks = [self._as_bytes(chunk) for chunk in chunks]
        size = sum(map(len, chunks))
        if size > buffer:
            return join_list(chunks)
        if self._method != "HEAD":
            self.announce(size)
        return (b"".join(chunks),)

    def passes(self, data: object) -> int:
        """Take a chunk that may go out as it is, with more to follow.

        That is what most chunks of a stream are, and there can be many.

        Returns:
            Its bytes; zero if nothing was taken, and `chunk` is to decide.
        """
        if self.state is not OPEN or type(data) is not bytes:
            return 0
        size = len(data)
        if self._left is not None:
            if size >= self._left:
                return 0
            self._left -= size
        return size

    def rest(self, size: int) -> tuple[list[Message], int]:
        """Take notice that the rest of the body is known, and not by chunks.

        Args:
            size: Its bytes.

        Returns:
            What may be sent at once, and how many of those bytes the caller has to
            send after it, before what `end` gives. If those are none, the response
            is complete.

        Raises:
            RuntimeError: As `chunk` and `end` do, before anything is sent.
        """
        self.announce(size)
        count = 0 if self._no_body or self.state is ENDED else size
        if self._left is not None:
            count = min(count, self._left)
            self._left -= count
        if not count or self._left:
            return self.end(), 0
        if CHUNK not in TRANSITIONS[self.state]:
            raise self._error(f"a file was given, but {self.state.value}")
        messages = [self._start_message()] if self.state is READY else []
        self.state = self._after_body
        return messages, count

    def end(self) -> list[Message]:
        """Take notice that the body has ended.

        Returns:
            What completes the response; nothing if it was complete.

        Raises:
            RuntimeError: start_response() was not called, or failed, or bytes
                are missing that Content-Length promised, and no proxy was asked to
                send them. The response must not be completed then, so that the client
                can see it is not.
        """
        state = TRANSITIONS[self.state].get(END)
        if state is None:
            raise self._error(f"the response has ended, but {self.state.value}")
        if self.state is ENDED:
            return []
        if self._left and not self._leave_to_proxy():
            raise self._error(
                f"the response ended {self._left} bytes short of its Content-Length",
                "Handling the Content-Length Header",
            )
        messages: list[Message] = []
        if self.state is READY:
            self.announce(0)
            messages.append(self._start_message())
        if self.state is not TRAILING:
            messages.append(body_message(b"", more=False))
        self.state = state
        if self._trailers and self._after_body is TRAILING:
            messages.append(
                {
                    "type": TRAILERS,
                    "headers": [*self._trailers.fields],
                    "more_trailers": False,
                }
            )
        return messages

    def _leave_to_proxy(self) -> bool:
        """Drop the length of a body that the proxy in front is to send, if it is.

        Frameworks add the length of the file that they name, and give no byte of it.
        """
        fields = dict(self._headers)
        is_untouched = int(fields[b"content-length"]) == self._left
        if not is_untouched or _SENT_BY_PROXY.isdisjoint(fields):
            return False
        self._headers = [one for one in self._headers if one[0] != b"content-length"]
        return True

    def _start_message(self) -> Message:
        message = {
            "type": "http.response.start",
            "status": self.status,
            "headers": self._headers,
        }
        trailers = self._trailers
        if trailers and trailers.are_wanted and not self._no_body:
            # This is remembered, and not asked again: another thread of the
            # application may come to want trailers a moment too late.
            self._after_body = TRAILING
            message["headers"] = [*self._headers, *trailers.headers()]
            message["trailers"] = True
        return message

    def _as_bytes(self, data: object) -> bytes:
        if isinstance(data, bytes | bytearray | memoryview):
            return bytes(data)
        raise TypeError(
            f"{self._application}: a chunk of the body is {type(data).__name__} and "
            f"not bytes (PEP 3333, Unicode Issues)"
        )

    def _error(self, what: str, clause: str = "start_response") -> RuntimeError:
        return RuntimeError(f"{self._application}: {what} (PEP 3333, {clause})")

    def _refusal(self, error: Exception) -> Exception:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        return kind(f"{self._application}: {error} (PEP 3333, start_response)")
