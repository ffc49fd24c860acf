"""How a WebSocket is asked for, and how that is answered, in terms of WSGI.

Pure functions, and one object without I/O: the environ of the request, the headers of
its 101 response, and the response of an application that gives another answer.
"""

import io
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from wsgi_asgi._environ import ScopeView, build_environ
from wsgi_asgi._errors import RequestRefused, websocket_error
from wsgi_asgi._fields import encode_header
from wsgi_asgi._response import Response, plain_text
from wsgi_asgi._types import ExcInfo, Message, Scope

__all__ = [
    "DENIAL",
    "Answer",
    "build_denial",
    "build_refusal",
    "build_websocket_environ",
    "divide_upgrade",
]

# The extension by which a refusal can be any response.
DENIAL = "websocket.http.response"

# Of 16 bytes that nobody checks, where the server does not tell the client's.
_ANY_KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="

# Extensions are the server's affair: what it gives is whole messages, as sent by the
# application of the client. And a handshake has no body.
_DROPPED = frozenset(
    {b"sec-websocket-extensions", b"content-length", b"transfer-encoding"}
)

_IN_EACH_UPGRADE = frozenset({b"connection", b"sec-websocket-accept", b"upgrade"})


def build_websocket_environ(
    scope: Scope, base: Mapping[str, Any], duplicate_header_limit: int | None
) -> dict[str, Any]:
    """Make the environ of the GET by which HTTP/1.1 asks for a WebSocket.

    Headers that the scope lacks are made up: over HTTP/2 there is no upgrade
    (RFC 8441), and some servers keep to themselves what they have answered already.

    Args:
        scope: An ASGI ``websocket`` scope. It is not changed.
        base: As for `build_environ`.
        duplicate_header_limit: As for `build_environ`.

    Raises:
        RequestRefused: As `build_environ` does.
    """
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name.lower() not in _DROPPED
    ]
    names = {name.lower() for name, _ in headers}
    subprotocols = ", ".join(scope.get("subprotocols") or ())
    for name, value in (
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-key", _ANY_KEY),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-protocol", subprotocols.encode("latin-1", "replace")),
    ):
        if value and name not in names:
            headers.append((name, value))
    request = {
        "http_version": "1.1",  # Daphne does not say
        **scope,
        "method": "GET",
        "headers": headers,
    }
    environ = build_environ(request, base, duplicate_header_limit)
    # What asks for an upgrade must name the host (RFC 6455 4.1).
    server = f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    environ.setdefault("HTTP_HOST", server)
    # Whatever is said of requests: WebSockets run beside them.
    environ["wsgi.multithread"] = True
    environ["asgi.scope"] = ScopeView(scope)
    environ["wsgi.input"] = io.BytesIO()
    environ["wsgi.errors"] = sys.stderr or io.StringIO()
    return environ


def divide_upgrade(
    headers: Iterable[tuple[str, str]],
) -> tuple[str | None, list[tuple[str, str]]]:
    """Divide the headers of a 101 response into the subprotocol and all others.

    What each of them must have (RFC 6455 4.2.2) is left out, since the server writes
    that. What none should have, `Channel.accept` drops.

    Raises:
        WebSocketError: It chooses an extension, or a header cannot be sent.

    >>> divide_upgrade([("Upgrade", "websocket"), ("Sec-WebSocket-Protocol", "chat"),
    ...                 ("X-Node", "7")])
    ('chat', [('X-Node', '7')])
    """
    subprotocol = None
    others: list[tuple[str, str]] = []
    for pair in headers:
        try:
            raw_name, raw_value = encode_header(pair)
        except (TypeError, ValueError) as error:
            raise websocket_error(f"in a 101 response: {error}") from None
        value = raw_value.decode("latin-1")
        if raw_name == b"sec-websocket-protocol":
            subprotocol = value
        elif raw_name == b"sec-websocket-extensions":
            # Not dropped: the frames that the application writes would be of it.
            raise websocket_error(
                f"the application chose the extension {value!r}, but the client "
                f"offered none to it (RFC 6455 9.1)"
            )
        elif raw_name not in _IN_EACH_UPGRADE:
            others.append(pair)
    return subprotocol, others


def build_denial(scope: Scope, response: Iterable[Message]) -> list[Message]:
    """Make the messages that refuse a WebSocket by a response, or without.

    Args:
        scope: What the server offers is looked up here.
        response: The messages of a whole HTTP response.

    Returns:
        That response, or a close, which servers answer with 403.
    """
    messages: list[Message] = [
        {**message, "type": f"websocket.{message['type']}"} for message in response
    ]
    # Over HTTP/2 any status of 2xx would say that the WebSocket is open (RFC 8441 5).
    opens = scope.get("http_version", "1.1") >= "2" and messages[0]["status"] < 300
    if DENIAL in (scope.get("extensions") or ()) and not opens:
        return messages
    return [{"type": "websocket.close", "code": 1000, "reason": ""}]


def build_refusal(refusal: RequestRefused) -> list[Message]:
    """Make the response by which the adapter refuses a request itself."""
    return plain_text(refusal.status, refusal.reason, refusal.headers, head=False)


class Answer:
    """What an application answers that does not accept.

    It is collected, since some servers send no refusal without knowing its length,
    and cut at a bound, since it might be a stream without end.

    Args:
        application: What error messages call the application.
        most: Bytes of its body that are kept.
    """

    def __init__(self, application: str, most: int) -> None:
        self._response = Response(application, "GET")
        self._most = most
        self._body = bytearray()

    def start(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> None:
        """Take status and headers; raises as `Response.start` does."""
        self._response.start(status, headers, exc_info)

    @property
    def dropped(self) -> tuple[bytes, ...]:
        """The names of headers that are not sent, since they are the server's."""
        return self._response.dropped

    def add(self, data: bytes) -> bool:
        """Take a chunk of the body.

        Returns:
            Whether there is room for more.

        Raises:
            TypeError: It is not bytes.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(
                f"a chunk of the body is {type(data).__name__} and not bytes "
                f"(PEP 3333, Unicode Issues)"
            )
        self._body += data
        return len(self._body) <= self._most

    def build(self) -> list[Message]:
        """Make the messages of the response.

        Raises:
            RuntimeError: start_response() was not called, or failed.
        """
        body = bytes(self._body[: self._most])
        messages = self._response.chunk(body) or self._response.end()
        body = messages[1]["body"]
        headers = [
            *(pair for pair in messages[0]["headers"] if pair[0] != b"content-length"),
            (b"content-length", b"%d" % len(body)),
        ]
        return [
            {**messages[0], "headers": headers},
            {"type": "http.response.body", "body": body, "more_body": False},
        ]
