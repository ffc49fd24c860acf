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
    ENDED     given all that the response may have

Headers are held back until there is a chunk because an application may find out
only while it makes the first one that it has to answer something else.
"""

import re
from collections.abc import Iterable, Sized
from enum import Enum

from wsgi_asgi._types import ExcInfo, Message

__all__ = ["ENDED", "TRANSITIONS", "Event", "Response", "State", "plain_text"]


class State(Enum):
    """How far a response has come."""

    # Enum's own is written in Python, and too slow for a key of the hot path.
    __hash__ = object.__hash__

    NEW = "start_response() was never called"
    REFUSED = "start_response() failed and was not called again with exc_info"
    READY = "start_response() was called, nothing has been sent"
    OPEN = "part of the response has been sent"
    ENDED = "the response is complete"


class Event(Enum):
    """What an application can do to its response."""

    __hash__ = object.__hash__

    START = "start_response() was called"
    REPLACE = "start_response() was called with exc_info"
    CHUNK = "a chunk of the body was given"
    END = "the body ended"


# Before Python 3.12 an Enum's members are slow to look up in their class.
NEW, REFUSED, READY, OPEN, ENDED = State
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
    # for. They are dropped.
    ENDED: {CHUNK: ENDED, END: ENDED},
}

# Names and status lines are the same few for each application, so what they
# turn into is remembered; an application that makes them up is not.
CACHED_TEXTS = 512
CACHED_TEXT_LENGTH = 64

_NAME_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS = re.compile(r"([0-9]{3})(?: [\x20-\x7e\x80-\xff]*)?")
# RFC 9110 5.5 allows a tab in a value and no other control character.
_VALUE_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_LATIN_1 = re.compile(r"[^\x00-\xff]")
# More digits are the length of nothing that exists.
MAX_LENGTH_DIGITS = 18

# These speak of one connection, which is the server's (RFC 9110 7.6.1; PEP 3333,
# Other HTTP Features). On HTTP/2 they would make the response malformed.
_CONNECTION_HEADERS = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Whose values are few for each application, and no secrets.
_STEADY_HEADERS = frozenset(
    {
        b"allow",
        b"cache-control",
        b"content-encoding",
        b"content-language",
        b"content-type",
        b"cross-origin-opener-policy",
        b"referrer-policy",
        b"strict-transport-security",
        b"vary",
        b"x-content-type-options",
        b"x-frame-options",
    }
)
_NO_BODY = frozenset({204, 205, 304})  # RFC 9110 15.3.5, 15.3.6, 15.4.5
_LENGTH_DROPPED = frozenset({204, 205})


class _StatusCache(dict[str, int]):
    def __missing__(self, status: str) -> int:
        match = _STATUS.fullmatch(status)
        if not match:
            raise ValueError(
                f"status {status!r} is not three digits, a space and a reason"
            )
        code = int(match[1])
        if code < 200:
            raise ValueError(
                f"status {status!r} is informational and cannot end a request"
            )
        if _is_worth_caching(self, status):
            self[status] = code
        return code


class _NameCache(dict[str, bytes]):
    def __missing__(self, name: str) -> bytes:
        if not _NAME_TOKEN.fullmatch(name):
            raise ValueError(f"header name {name!r} is not a token (RFC 9110 5.6.2)")
        raw_name = name.lower().encode("ascii")
        if _is_worth_caching(self, name):
            self[name] = raw_name
        return raw_name


def _is_worth_caching(cache: Sized, text: str) -> bool:
    return (
        len(cache) < CACHED_TEXTS
        and len(text) <= CACHED_TEXT_LENGTH
        and type(text) is str  # an object of another class might hold anything
    )


class _HeaderCache(dict[tuple[str, str], tuple[bytes, bytes]]):
    def __missing__(self, pair: tuple[str, str]) -> tuple[bytes, bytes]:
        header = encode_header(pair)
        if header[0] in _STEADY_HEADERS and _is_worth_caching(self, pair[1]):
            self[pair] = header
        return header


_STATUSES = _StatusCache()
_NAMES = _NameCache()
_HEADERS = _HeaderCache()


def encode_header(pair: object) -> tuple[bytes, bytes]:
    """Check one response header and encode it.

    Args:
        pair: Name and value, as the application gave them.

    Returns:
        The name in lower case, and the value without the blanks around it, which
        are no part of it (RFC 9110 5.5) and make some servers drop the response.

    Raises:
        TypeError: It is no pair of str.
        ValueError: It cannot be sent.

    >>> encode_header(("Content-Type", "text/html "))
    (b'content-type', b'text/html')
    """
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"header is not a pair of name and value: {pair!r}")
    name, value = pair
    if not (isinstance(name, str) and isinstance(value, str)):
        raise TypeError(f"header name and value must be str: {pair!r}")
    raw_name = _NAMES[name]
    # What is wrong is shown without the rest, which may be a secret. And
    # isprintable() is asked first as it is quick, and true for nearly all values.
    if not value.isprintable() and (control := _VALUE_CONTROLS.search(value)):
        raise ValueError(f"header {name!r} holds a control character: {control[0]!r}")
    try:
        return raw_name, value.encode("latin-1").strip(b" \t")
    except UnicodeEncodeError as error:
        foreign = value[error.start : error.end]
        raise ValueError(
            f"header {name!r} holds text outside Latin-1: {foreign!r}"
        ) from None


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
            "status": _STATUSES[status],
            "headers": [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", b"%d" % len(body)),
                *((_NAMES[name], value.encode("latin-1")) for name, value in headers),
            ],
        },
        {
            "type": "http.response.body",
            "body": b"" if head else body,
            "more_body": False,
        },
    ]


class Response:
    """One response, as the application makes it.

    Every method may be called by any thread, but by one at a time. The messages
    that they return are the caller's to send, in order.

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
        "_application",
        "_has_length",
        "_headers",
        "_left",
        "_method",
        "_no_body",
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
        self.state = NEW
        self.is_cut = False
        self.dropped: tuple[bytes, ...] = ()

    @property
    def is_out(self) -> bool:
        """Whether a part of it can have reached the client."""
        return self.state in (OPEN, ENDED)

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
        length: bytes | None = None
        # A list nearly always, and the general question is a slow one.
        if type(headers) is not list and not isinstance(headers, Iterable):
            raise self._refusal(TypeError(f"headers must be a list: {headers!r}"))
        if not isinstance(status, str):
            raise self._refusal(
                TypeError(f"status is {type(status).__name__} and not str: {status!r}")
            )
        try:
            code = _STATUSES[status]
        except ValueError as error:
            raise self._refusal(error) from None
        for pair in headers:
            try:
                try:
                    header = _HEADERS[pair]
                except TypeError:
                    # No key of a dict, which a good pair may be: a list is none.
                    header = encode_header(pair)
            except (TypeError, ValueError) as error:
                raise self._refusal(error) from None
            raw_name, raw_value = header
            if raw_name in _CONNECTION_HEADERS:
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

    def announce(self, length: int) -> None:
        """Add the Content-Length of a body that is known to be one chunk.

        Without it HTTP/1.1 falls back to chunked coding, and the end of the
        response takes a message of its own. An application that has declared
        a length is believed.

        Args:
            length: Bytes of the body.
        """
        if (
            self.state is READY
            and not self._has_length
            and self.status not in _NO_BODY
            # No chunk of a response to HEAD does not mean that GET's has none.
            and (length or self._method != "HEAD")
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
        if self.state is ENDED:
            self.is_cut = not self._no_body
            return []
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
                self.state = ENDED
        messages.append(
            {
                "type": "http.response.body",
                "body": data,
                "more_body": self.state is not ENDED,
            }
        )
        return messages

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
            send after it. If those are none, the response is complete.

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
        self.state = ENDED
        return messages, count

    def end(self) -> list[Message]:
        """Take notice that the body has ended.

        Returns:
            What completes the response; nothing if it was complete.

        Raises:
            RuntimeError: start_response() was not called, or failed, or bytes
                are missing that Content-Length promised. The response must not
                be completed then, so that the client can see it is not.
        """
        state = TRANSITIONS[self.state].get(END)
        if state is None:
            raise self._error(f"the response has ended, but {self.state.value}")
        if self.state is ENDED:
            return []
        if self._left:
            raise self._error(
                f"the response ended {self._left} bytes short of its Content-Length",
                "Handling the Content-Length Header",
            )
        messages: list[Message] = []
        if self.state is READY:
            self.announce(0)
            messages.append(self._start_message())
        self.state = state
        messages.append({"type": "http.response.body", "body": b"", "more_body": False})
        return messages

    def _start_message(self) -> Message:
        return {
            "type": "http.response.start",
            "status": self.status,
            "headers": self._headers,
        }

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
