"""The three kinds of scope that a server has for an adapter."""

from collections.abc import Sequence
from typing import Any

from conformance.gate import Gate
from conformance.judges import HttpJudge, LifespanJudge, WebSocketJudge
from conformance.server import Exchange, Message, Scope, Script, Step

__all__ = [
    "Header",
    "HttpExchange",
    "LifespanExchange",
    "WebSocketExchange",
    "disconnect",
    "http_scope",
    "request_part",
]

Header = tuple[bytes, bytes]

# How a request says that it has a body. The last is chunked too, for an adapter that
# receives no such body whole.
LENGTH, CHUNKED, SILENT, STREAMED = "content-length", "chunked", "silent", "streamed"


def http_scope(**changes: Any) -> Scope:
    """Make the scope of ``GET /`` over HTTP/1.1, with changes.

    Args:
        changes: Keys and values. Headers come after the Host header, unless they
            have one of their own; a value of ``...`` leaves a key out.
    """
    headers = changes.pop("headers", ())
    if isinstance(headers, Sequence):
        has_host = any(name.lower() == b"host" for name, _ in headers)
        host = [] if has_host else [(b"host", b"example.org")]
        headers = [*host, *headers]
    path = changes.get("path", "/")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogateescape"),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("192.0.2.7", 4321),
        "server": ("203.0.113.5", 8000),
    } | changes
    return {key: value for key, value in scope.items() if value is not ...}


def request_part(body: bytes, *, more: bool) -> Message:
    """Make one message of a request body."""
    return {"type": "http.request", "body": body, "more_body": more}


def disconnect() -> Message:
    """Make the message that says that the client has left."""
    return {"type": "http.disconnect"}


def body_steps(body: Script) -> list[Step]:
    """Turn the bytes in a script into messages; the last of them ends the body."""
    parts = [number for number, step in enumerate(body) if isinstance(step, bytes)]
    return [
        request_part(step, more=number != parts[-1])
        if isinstance(step, bytes)
        else step
        for number, step in enumerate(body)
    ]


class HttpExchange(Exchange):
    """The server's end of one request.

    Args:
        body: The request's body: bytes, or a script of bytes and what happens
            between them. Without it there is one message with an empty body.
        framing: How the request announces a body that it has.
        steps: The whole script instead of a body; see `Exchange`.
        tells_end: See `Exchange`.
        coroutines: See `Exchange`.
        scope: Changes to `http_scope`.

    Attributes:
        is_streamed: The adapter must not receive the body whole.
    """

    def __init__(
        self,
        *,
        body: bytes | Script | None = None,
        framing: str = LENGTH,
        steps: Sequence[Step] | None = None,
        tells_end: bool = True,
        coroutines: bool = True,
        **scope: Any,
    ) -> None:
        self.is_streamed = framing == STREAMED
        if body is not None:
            script = [body] if isinstance(body, bytes) else list(body)
            scope = _announced(scope, script, framing)
            steps = body_steps(script)
        elif steps is None:
            steps = [request_part(b"", more=False)]
        whole = http_scope(**scope)
        super().__init__(
            whole,
            list(steps),
            HttpJudge(whole.get("extensions") or ()),
            ends_with=disconnect(),
            tells_end=tells_end,
            coroutines=coroutines,
        )

    @property
    def start(self) -> Message | None:
        """The start message, if it was sent."""
        starts = [m for m in self.messages if m["type"] == "http.response.start"]
        return starts[0] if starts else None

    @property
    def status(self) -> int | None:
        """The response's status, if it has started."""
        return self.start["status"] if self.start else None

    @property
    def headers(self) -> list[Header]:
        """The response's headers; none if it has not started."""
        pairs = self.start.get("headers", ()) if self.start else ()
        return [(name, value) for name, value in pairs]

    def header(self, name: bytes) -> bytes | None:
        """The value of a response header; repeats are joined, as a client would."""
        values = [value for key, value in self.headers if key.lower() == name]
        return b",".join(values) if values else None

    @property
    def body(self) -> bytes:
        """What was sent of the response's body."""
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def complete(self) -> bool:
        """Whether the response has been sent to its end."""
        return self.completed.is_open

    @property
    def refused(self) -> bool:
        """Whether the response is a complete 4xx."""
        return self.complete and 400 <= (self.status or 0) < 500

    @property
    def failed(self) -> bool:
        """Whether the client and the server can see that something went wrong.

        Either the adapter raised, and did not complete a response that looks
        right; or it sent a complete 5xx of its own.
        """
        if self.complete:
            return (self.status or 0) >= 500
        return self.error is not None

    def outcome(self) -> str:
        """Say in words how the exchange ended."""
        size = "1 byte" if len(self.body) == 1 else f"{len(self.body)} bytes"
        if self.complete:
            text = f"a complete response {self.status} with {size}"
        elif self.start:
            text = f"an unfinished response {self.status} with {size}"
        else:
            text = "no response"
        return f"{text}, and {self.error!r}" if self.error is not None else text


def _announced(scope: dict[str, Any], script: Script, framing: str) -> dict[str, Any]:
    size = sum(len(step) for step in script if isinstance(step, bytes))
    announcements = {
        LENGTH: [(b"content-length", b"%d" % size)],
        CHUNKED: [(b"transfer-encoding", b"chunked")],
        SILENT: [],
    }
    announcements[STREAMED] = announcements[CHUNKED]
    headers = [*scope.get("headers", ()), *announcements[framing]]
    return {"method": "POST", **scope, "headers": headers}


class LifespanExchange(Exchange):
    """The server's end of one lifespan.

    Attributes:
        stopping: Opened by `stop`.
        answers: The types of what was sent.
    """

    def __init__(self, **scope: Any) -> None:
        self.stopping = Gate()
        judge = LifespanJudge()
        shutdown = {"type": "lifespan.shutdown"}
        super().__init__(
            {
                "type": "lifespan",
                "asgi": {"version": "3.0", "spec_version": "2.0"},
                "state": {},
                **scope,
            },
            [{"type": "lifespan.startup"}, self.stopping, shutdown],
            judge,
            ends_with=shutdown,
            tells_end=False,
        )
        self.stopping.on_open(lambda: setattr(judge, "asked", "shutdown"))

    @property
    def answers(self) -> list[str]:
        """The types of the messages that were sent."""
        return [message["type"] for message in self.messages]


class WebSocketExchange(Exchange):
    """The server's end of one WebSocket.

    Args:
        steps: What the client does once it is connected.
        scope: Changes to the scope.
    """

    def __init__(self, *steps: Step, **scope: Any) -> None:
        upgrade = [
            (b"connection", b"Upgrade"),
            (b"upgrade", b"websocket"),
            (b"sec-websocket-version", b"13"),
            (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        ]
        headers = [*upgrade, *scope.pop("headers", ())]
        whole = http_scope(
            type="websocket",
            scheme="ws",
            method=...,
            subprotocols=[],
            headers=headers,
            **scope,
        )
        super().__init__(
            whole,
            [{"type": "websocket.connect"}, *steps],
            WebSocketJudge(whole.get("extensions") or ()),
            ends_with={"type": "websocket.disconnect", "code": 1006, "reason": ""},
        )

    @property
    def kinds(self) -> list[str]:
        """The types of the messages that were sent."""
        return [message["type"] for message in self.messages]
