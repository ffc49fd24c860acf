"""What a strict server says to each message that it is sent.

No loop, no thread and no adapter in here: a judge is told messages in their order,
and answers with what is wrong with each, in words for the report.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

__all__ = ["HttpJudge", "Judge", "LifespanJudge", "WebSocketJudge"]

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BREAKS = re.compile(rb"[\r\n\0]")

# What a server must have offered before an application may send it.
_EXTENSIONS = {
    "http.response.debug": "http.response.debug",
    "http.response.early_hint": "http.response.early_hint",
    "http.response.pathsend": "http.response.pathsend",
    "http.response.push": "http.response.push",
    "http.response.trailers": "http.response.trailers",
    "http.response.zerocopysend": "http.response.zerocopysend",
    "websocket.http.response.start": "websocket.http.response",
    "websocket.http.response.body": "websocket.http.response",
}


class Judge:
    """Judges the messages of one exchange.

    Args:
        extensions: Names of the extensions that the server offers.

    Attributes:
        complete: The last message has been seen.
    """

    def __init__(self, extensions: Collection[str] = ()) -> None:
        self.extensions = frozenset(extensions)
        self.complete = False

    def judge(self, message: object) -> list[str]:
        """Say what is wrong with the next message; nothing if it is right."""
        if not isinstance(message, dict):
            return [f"a message is a dict, not {type(message).__name__}: {message!r}"]
        kind = message.get("type")
        if not isinstance(kind, str):
            return [f"a message has a type that is str, not {kind!r}"]
        if self.complete:
            return [f"{kind} was sent after the last message of the exchange"]
        extension = _EXTENSIONS.get(kind)
        if extension and extension not in self.extensions:
            return [f"{kind} was sent, but the server does not offer {extension}"]
        return list(self.see(kind, message))

    def see(self, kind: str, message: Mapping[str, Any]) -> Iterator[str]:
        """Judge a message that is a dict with a type."""
        raise NotImplementedError


def _typed(
    message: Mapping[str, Any], key: str, wanted: type, *, required: bool = False
) -> Iterator[str]:
    kind = message["type"]
    if key not in message:
        if required:
            yield f"{kind} lacks {key!r}"
    elif type(message[key]) is not wanted:
        seen = message[key]
        yield (
            f"{key!r} of {kind} is {type(seen).__name__}, expected "
            f"{wanted.__name__}: {seen!r:.100}"
        )


def _headers(message: Mapping[str, Any]) -> Iterator[str]:
    kind = message["type"]
    headers = message.get("headers", ())
    try:
        pairs = [tuple(pair) for pair in headers]
    except TypeError:
        yield f"'headers' of {kind} are no pairs of name and value: {headers!r:.200}"
        return
    for pair in pairs:
        if len(pair) != 2 or not all(type(part) is bytes for part in pair):
            yield f"a header of {kind} is not two byte strings: {pair!r}"
            continue
        name, value = pair
        if name != name.lower():
            yield f"header name {name!r} of {kind} is not in lower case"
        elif not _TOKEN.fullmatch(name):
            yield f"header name {name!r} of {kind} is no token, so no header"
        if _BREAKS.search(value):
            yield f"header {name!r} of {kind} holds a line break or NUL: {value!r}"


class HttpJudge(Judge):
    """Judges an ``http`` exchange.

    Attributes:
        started: The start message has been seen.
    """

    def __init__(self, extensions: Collection[str] = ()) -> None:
        super().__init__(extensions)
        self.started = False
        self._trailers = False  # will follow the body
        self._in_trailers = False
        self._has_body = False

    def see(self, kind: str, message: Mapping[str, Any]) -> Iterator[str]:
        """Judge a message that is a dict with a type."""
        if kind == "http.response.start":
            yield from self._see_start(message)
        elif kind in ("http.response.body", "http.response.zerocopysend"):
            yield from self._see_body(kind, message)
        elif kind == "http.response.pathsend":
            yield from self._see_pathsend(message)
        elif kind == "http.response.trailers":
            yield from self._see_trailers(message)
        elif kind == "http.response.early_hint":
            yield from self._see_hint(message)
        elif kind not in ("http.response.push", "http.response.debug"):
            yield f"a server does not know the message {kind}"

    def _see_start(self, message: Mapping[str, Any]) -> Iterator[str]:
        if self.started:
            yield "http.response.start was sent a second time"
        yield from _typed(message, "status", int, required=True)
        status = message.get("status")
        if type(status) is int and not 100 <= status <= 599:
            yield f"status {status} of http.response.start is no HTTP status"
        yield from _headers(message)
        if message.get("trailers") and "http.response.trailers" not in self.extensions:
            yield "http.response.start announces trailers, which are not offered"
        self._trailers = bool(message.get("trailers"))
        self.started = True

    def _see_body(self, kind: str, message: Mapping[str, Any]) -> Iterator[str]:
        yield from self._body_may_come(kind)
        yield from _typed(message, "more_body", bool)
        if kind == "http.response.body":
            yield from _typed(message, "body", bytes)
        else:
            yield from _typed(message, "offset", int)
            yield from _typed(message, "count", int)
            if not hasattr(message.get("file"), "fileno"):
                yield f"'file' of {kind} has no descriptor: {message.get('file')!r}"
        self._has_body = True
        if not message.get("more_body", False):
            self._end_body()

    def _see_pathsend(self, message: Mapping[str, Any]) -> Iterator[str]:
        yield from self._body_may_come("http.response.pathsend")
        yield from _typed(message, "path", str, required=True)
        if not str(message.get("path", "")).startswith("/"):
            yield f"'path' of http.response.pathsend is not absolute: {message!r}"
        if self._has_body:
            yield "http.response.pathsend was sent beside a body"
        self._end_body()

    def _body_may_come(self, kind: str) -> Iterator[str]:
        if not self.started:
            yield f"{kind} was sent before http.response.start"
        elif self._in_trailers:
            yield f"{kind} was sent after the last message of the body"

    def _end_body(self) -> None:
        self._in_trailers = self._trailers
        self.complete = not self._trailers

    def _see_trailers(self, message: Mapping[str, Any]) -> Iterator[str]:
        if not self._in_trailers:
            yield "http.response.trailers was sent before the end of the body"
        yield from _headers(message)
        yield from _typed(message, "more_trailers", bool)
        self.complete = not message.get("more_trailers", False)

    def _see_hint(self, message: Mapping[str, Any]) -> Iterator[str]:
        if self.started:
            yield "http.response.early_hint was sent after http.response.start"
        for link in message.get("links", ()):
            if type(link) is not bytes or _BREAKS.search(link):
                yield f"a link of http.response.early_hint cannot be sent: {link!r}"


class LifespanJudge(Judge):
    """Judges a ``lifespan`` exchange.

    Attributes:
        asked: What the server has asked for: "startup", then "shutdown".
    """

    asked = "startup"

    def see(self, kind: str, message: Mapping[str, Any]) -> Iterator[str]:
        """Judge a message that is a dict with a type."""
        known = {f"lifespan.{self.asked}.complete", f"lifespan.{self.asked}.failed"}
        if kind not in known:
            yield f"{kind} was sent, expected an answer to lifespan.{self.asked}"
        yield from _typed(message, "message", str)
        self.complete = self.asked == "shutdown" or kind.endswith(".failed")


class WebSocketJudge(Judge):
    """Judges a ``websocket`` exchange.

    Attributes:
        accepted: The connection has been accepted.
    """

    def __init__(self, extensions: Collection[str] = ()) -> None:
        super().__init__(extensions)
        self.accepted = False
        self._denial: HttpJudge | None = None

    def see(self, kind: str, message: Mapping[str, Any]) -> Iterator[str]:
        """Judge a message that is a dict with a type."""
        if kind.startswith("websocket.http.response."):
            yield from self._see_denial(message)
        elif self._denial:
            yield f"{kind} was sent beside an HTTP response"
        elif kind == "websocket.accept":
            if self.accepted:
                yield "websocket.accept was sent a second time"
            self.accepted = True
            if message.get("subprotocol") is not None:
                yield from _typed(message, "subprotocol", str)
            yield from _headers(message)
        elif kind == "websocket.send":
            if not self.accepted:
                yield "websocket.send was sent before websocket.accept"
            yield from self._see_data(message)
        elif kind == "websocket.close":
            yield from _typed(message, "code", int)
            if message.get("reason") is not None:
                yield from _typed(message, "reason", str)
            self.complete = True
        else:
            yield f"a server does not know the message {kind} on a websocket"

    def _see_data(self, message: Mapping[str, Any]) -> Iterator[str]:
        data, text = message.get("bytes"), message.get("text")
        if (data is None) == (text is None):
            yield f"websocket.send holds not exactly one of bytes and text: {message!r}"
        if data is not None:
            yield from _typed(message, "bytes", bytes)
        if text is not None:
            yield from _typed(message, "text", str)

    def _see_denial(self, message: Mapping[str, Any]) -> Iterator[str]:
        if self.accepted:
            yield f"{message['type']} was sent after websocket.accept"
        judge = self._denial = self._denial or HttpJudge()
        kind = message["type"].removeprefix("websocket.")
        yield from judge.see(kind, {**message, "type": kind})
        self.complete = judge.complete
