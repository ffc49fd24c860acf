"""The status line and the fields of a response, checked and encoded.

Pure functions and bounded caches: an application gives the same few in each response,
so what they turn into is remembered.
"""

import re
from collections.abc import Iterable, Sized

__all__ = [
    "CONNECTION_HEADERS",
    "HEADERS",
    "NAMES",
    "NO_TRAILERS",
    "STATUSES",
    "divide_handshake",
    "encode_field",
    "encode_header",
    "warning_of_dropped",
]

# For applications that make names or status lines up.
CACHED_TEXTS = 512
CACHED_TEXT_LENGTH = 64

_NAME_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS = re.compile(r"([0-9]{3})(?: [\x20-\x7e\x80-\xff]*)?")
# RFC 9110 5.5 allows a tab in a value and no other control character.
_VALUE_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

# These speak of one connection, which is the server's (RFC 9110 7.6.1; PEP 3333,
# Other HTTP Features). On HTTP/2 they would make the response malformed.
CONNECTION_HEADERS = frozenset(
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
# What a client has to know before the body (RFC 9110 6.5.1): how it is framed and
# to be read, and what the response is to be taken for.
NO_TRAILERS = CONNECTION_HEADERS | {
    b"age",
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"date",
    b"expires",
    b"host",
    b"location",
    b"pragma",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"retry-after",
    b"set-cookie",
    b"vary",
    b"www-authenticate",
}
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
        if code > 599:
            # Servers differ: some send it, others cut the connection.
            raise ValueError(
                f"status {status!r} is none that HTTP has; the last one is 599 (RFC "
                f"9110 15)"
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


STATUSES = _StatusCache()
NAMES = _NameCache()
HEADERS: dict[object, tuple[bytes, bytes]] = {}


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
    if name == "Content-Length" and value.isdecimal() and value.isascii():
        # Nearly every response has one, and few the same as another.
        return b"content-length", value.encode()
    raw_name = NAMES[name]
    # What is wrong is shown without the rest, which may be a secret. And
    # isprintable() is asked first as it is quick, and true for nearly all values.
    if not value.isprintable() and (control := _VALUE_CONTROLS.search(value)):
        raise ValueError(f"header {name!r} holds a control character: {control[0]!r}")
    try:
        header = raw_name, value.encode("latin-1").strip(b" \t")
    except UnicodeEncodeError as error:
        foreign = value[error.start : error.end]
        raise ValueError(
            f"header {name!r} holds text outside Latin-1: {foreign!r}"
        ) from None
    if (
        raw_name in _STEADY_HEADERS
        and type(pair) is tuple
        and _is_worth_caching(HEADERS, value)
    ):
        HEADERS[pair] = header
    return header


def encode_field(pair: object) -> tuple[bytes, bytes]:
    """Check one field of early hints or trailers and encode it.

    As `encode_header`, but name and value may be bytes too, as gunicorn has it.

    >>> encode_field((b"Link", "</a.css>; rel=preload"))
    (b'link', b'</a.css>; rel=preload')
    """
    if isinstance(pair, tuple | list):
        if not all(isinstance(part, str | bytes) for part in pair):
            raise TypeError(f"name and value must be str or bytes: {pair!r}")
        pair = [
            part.decode("latin-1") if isinstance(part, bytes) else part for part in pair
        ]
    return encode_header(pair)


def divide_handshake(
    headers: Iterable[tuple[bytes, bytes]],
) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Divide headers for the acceptance of a WebSocket: the application's, and others.

    The others are the server's: those of the connection, as in any response, and those
    of the handshake itself, in which the two sides would no longer agree with each
    other (RFC 6455 4.2.2). Nor has a handshake a body whose length could be told.

    Args:
        headers: As `encode_header` makes them.

    Returns:
        Those that may be sent, and the names of those that may not.

    >>> divide_handshake([(b"x-node", b"7"), (b"upgrade", b"websocket")])
    ([(b'x-node', b'7')], [b'upgrade'])
    """
    kept: list[tuple[bytes, bytes]] = []
    dropped: list[bytes] = []
    for header in headers:
        name = header[0]
        if (
            name in CONNECTION_HEADERS
            or name == b"content-length"
            or name.startswith(b"sec-websocket-")
        ):
            dropped.append(name)
        else:
            kept.append(header)
    return kept, dropped


def warning_of_dropped(names: Iterable[bytes]) -> tuple[str, str]:
    """Say that headers were not sent, since they are the server's.

    Returns:
        What tells this warning from others, and the warning.
    """
    listed = ", ".join(sorted(name.decode() for name in names))
    return listed, f"response headers that are the server's were dropped: {listed}"
