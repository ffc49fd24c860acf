"""One WebSocket, as the application's threads see it.

What the application may do when is ruled here, in `Channel`, for all that stands on
it: `WebSocket`, the object that applications for gevent-websocket know, and the
socket of `_socket`. Nothing here awaits; what is to be sent goes out by the crossing,
and what has come in is taken from a mailbox.

A WebSocket lives as long as the call of the application, but its methods may be
called by any thread, also by several at a time: applications that push messages do
so from other threads.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, cast

from wsgi_asgi._bridge import Crossing, Rings
from wsgi_asgi._errors import ClientDisconnected, websocket_error
from wsgi_asgi._fields import divide_handshake, encode_header, warning_of_dropped
from wsgi_asgi._frames import Close, Pong, check_close
from wsgi_asgi._mailbox import Mailbox
from wsgi_asgi._types import Message

__all__ = ["Channel", "Incoming", "State", "WebSocket", "byte_size"]

# Close codes (RFC 6455 7.4.1). The second stands for what was not sent.
GOING_AWAY = 1001
LOST = 1006

# What a message costs beside its data. Many small ones must not wait without bound.
MESSAGE_BYTES = 256

Incoming = str | bytes | Pong | Close


class State(Enum):
    """How far a WebSocket has come, as far as the application decides that.

    That the client has left is no state: it may be known before the application has
    read what had come before.
    """

    CONNECTING = "not accepted"
    OPEN = "accepted"
    CLOSED = "closed"


class Channel:
    """What can be done with a WebSocket, and when.

    Args:
        crossing: The application's thread.
        inbox: What has come from the client. It ends when the WebSocket does.
        offered: The subprotocols that the client can speak.
        warn: Told what the application does wrong and what is ignored: a key by which
            it is not said twice, and a sentence.

    Attributes:
        state: How far it has come.
        accepted: It was open at some time.
        last: How it was closed, by whichever side, once the inbox has ended. If
            that is never said, it was lost.
    """

    def __init__(
        self,
        crossing: Crossing,
        inbox: Mailbox[Incoming],
        offered: Iterable[str],
        warn: Callable[[str, str], object],
    ) -> None:
        self.state = State.CONNECTING
        self.accepted = False
        self.last = Close(LOST, "")
        self.inbox = inbox
        self.offered = tuple(offered)
        self._crossing = crossing
        self._warn = warn
        self._sending = threading.Lock()
        self._receiving = threading.Lock()

    @property
    def has_left(self) -> bool:
        """Whether nothing reaches the client any more, whoever has closed."""
        return (
            self.state is State.CLOSED
            or self.inbox.complete
            or self._crossing.abandoned
        )

    def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Open it.

        Args:
            subprotocol: One of those offered.
            headers: More headers of the server's answer, as pairs of str. Those that
                are the server's are dropped, as `start_response` drops them.

        Raises:
            WebSocketError: It is open or closed already, or the arguments are not
                such.
        """
        try:
            raw_headers, dropped = divide_handshake(map(encode_header, headers))
        except (TypeError, ValueError) as error:
            raise websocket_error(f"accept(): {error}") from None
        with self._sending:
            if self.state is not State.CONNECTING:
                raise websocket_error(f"accept(): the WebSocket is {self.state.value}")
            self._accept(subprotocol, raw_headers)
        if dropped:
            # Not within the lock: what is logged may go to this very WebSocket.
            self._warn(*warning_of_dropped(dropped))

    def open(self) -> None:
        """Accept it, unless that has been decided."""
        with self._sending:
            if self.state is State.CONNECTING:
                self._accept(None, [])

    def _accept(
        self, subprotocol: str | None, raw_headers: list[tuple[bytes, bytes]]
    ) -> None:
        if subprotocol is not None and subprotocol not in self.offered:
            raise websocket_error(
                f"the subprotocol {subprotocol!r} is none of those that the client "
                f"offered, {list(self.offered)} (RFC 6455 4.2.2)"
            )
        self.state = State.OPEN
        self.accepted = True
        self._put(
            {
                "type": "websocket.accept",
                "subprotocol": subprotocol,
                "headers": raw_headers,
            }
        )

    def send(self, message: str | bytes) -> None:
        """Send a message, waiting as long as too much is on its way.

        Raises:
            WebSocketError: It is closed, by whichever side, or the text cannot be
                encoded. Another thread may have closed it while this one waited.
        """
        key = "text" if isinstance(message, str) else "bytes"
        size = byte_size(message) + MESSAGE_BYTES
        with self._sending:
            if self.state is State.CONNECTING:
                self._accept(None, [])
            self._crossing.check_alive()
            self.check_there()
            try:
                self._crossing.push(
                    ({"type": "websocket.send", key: message}, size), size
                )
            except ClientDisconnected:
                raise websocket_error("the WebSocket was closed meanwhile") from None

    def end(self, close: Close) -> None:
        """Say that nothing more will come; the loop calls this."""
        if not self.inbox.complete:
            self.last = close
            self.inbox.end()

    def check_there(self) -> None:
        """Raise WebSocketError if nothing can be sent any more."""
        if self.state is State.CLOSED:
            raise websocket_error("the application has closed the WebSocket")
        if self.has_left:
            raise websocket_error("the client has left the WebSocket")

    def fetch(self, patience: float | None = None) -> Incoming | None:
        """Wait for what comes from the client.

        Args:
            patience: Seconds to wait; None for any time.

        Returns:
            That, or None if no more will come.

        Raises:
            TimeoutError: Nothing has come in that time.
        """
        if patience is None:
            self._receiving.acquire()
        else:
            start = time.monotonic()
            if not self._receiving.acquire(timeout=patience):
                raise TimeoutError("another thread is receiving")
            patience = max(0.0, start + patience - time.monotonic())
        try:
            return self.inbox.fetch(patience)
        except ClientDisconnected:
            return None
        finally:
            self._receiving.release()

    def answer(self, item: Incoming) -> None:
        """Have something fetched that is not from the client."""
        self._crossing.port.post(lambda: self.inbox.deliver(item, 0))

    @property
    def is_readable(self) -> bool:
        """Whether `fetch` would not wait."""
        return self.has_left or not self.inbox.is_empty

    def add_listener(self, listener: Rings) -> None:
        """Have something rung whenever `is_readable` may have become true."""
        self._crossing.add_bell(listener)
        self.inbox.listener = listener

    def close(self, code: int, reason: str = "") -> None:
        """Close it, or refuse it if it is not accepted; once is enough.

        Raises:
            WebSocketError: Code or reason cannot be sent.
        """
        try:
            check_close(code, reason)
        except ValueError as error:
            raise websocket_error(f"close(): {error}") from None
        with self._sending:
            if self.state is not State.CLOSED:
                self.state = State.CLOSED
                self._put({"type": "websocket.close", "code": code, "reason": reason})

    def refuse(self, messages: list[Message]) -> None:
        """Answer by something else than a WebSocket, if nothing was answered."""
        with self._sending:
            if self.state is State.CONNECTING:
                self.state = State.CLOSED
                self._crossing.put([(message, 0) for message in messages], 0)

    def finish(self, code: int) -> None:
        """Close it at the end of the application's call, if it is open."""
        self.close(GOING_AWAY if self._crossing.abandoned else code)

    def _put(self, message: Message) -> None:
        self._crossing.put([(message, 0)], 0)


def byte_size(message: str | bytes) -> int:
    """Give the bytes of a message; raises WebSocketError if it has none."""
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    try:
        return len(message.encode())
    except UnicodeEncodeError as error:
        raise websocket_error(f"send(): the text cannot be encoded: {error}") from None


class WebSocket:
    """A WebSocket by messages: ``environ["wsgi.websocket"]``.

    It is what gevent-websocket gives to applications, and some more. It is accepted
    by the first call of `accept`, `send` or `receive` or the first look at `closed`;
    until then the application may answer with a response of HTTP instead.

    Any thread may call any method.

    Args:
        channel: The WebSocket.
        environ: The request's.

    Attributes:
        environ: The request's environ.
    """

    _ended = False

    def __init__(self, channel: Channel, environ: Mapping[str, Any]) -> None:
        self._channel = channel
        self.environ = environ

    def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Accept it, in other words than without.

        Args:
            subprotocol: One of those that the client has offered, see `protocol`.
            headers: More headers for the server's answer. Those that are the server's,
                of the connection or of the handshake itself, are dropped.

        Raises:
            WebSocketError: It was accepted or closed before, or the arguments are
                not such.
        """
        self._channel.accept(subprotocol, headers)

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """Wait for a message.

        Args:
            timeout: Seconds to wait; None for any time.

        Returns:
            The message, or None, once, if the client has closed.

        Raises:
            TimeoutError: None has come in that time.
            WebSocketError: It is closed, and that was known.
        """
        self._channel.open()
        if self._is_shut():
            raise websocket_error("receive(): the WebSocket is closed")
        return self._receive(timeout)

    def __iter__(self) -> Iterator[str | bytes]:
        self._channel.open()
        while not self._is_shut() and (message := self._receive()) is not None:
            yield message

    def _is_shut(self) -> bool:
        return self._ended or self._channel.state is State.CLOSED

    def _receive(self, timeout: float | None = None) -> str | bytes | None:
        item = self._channel.fetch(timeout)
        if isinstance(item, str | bytes):
            return item
        self._ended = True
        return None

    def send(self, data: str | bytes, binary: bool | None = None) -> None:
        """Send a message; waits while too much is on its way to the client.

        Args:
            data: Text, or bytes of any kind.
            binary: Send it as a binary message, or as text. By default that is what
                it is.

        Raises:
            WebSocketError: It is closed, by whichever side, or this is no data.
        """
        channel = self._channel
        # First, since loops rely on it: after the end receive() has returned None,
        # and that is sent.
        if self._ended:
            raise websocket_error("send(): the WebSocket is closed")
        if binary is None and isinstance(data, str | bytes):
            channel.send(data)
            return
        # Before it is looked at, for the same reason: what is closed is that first.
        if channel.state is not State.CONNECTING:
            channel.check_there()
        channel.send(_as_message(data, binary))

    def close(self, code: int = 1000, reason: str | bytes = "") -> None:
        """Close it; what is closed stays closed.

        One that was not accepted is refused by that, with status 403.

        Args:
            code: A close code (RFC 6455 7.4).
            reason: Up to 123 bytes of text.

        Raises:
            WebSocketError: Code or reason cannot be sent.
        """
        text = reason if isinstance(reason, str) else reason.decode("utf-8", "replace")
        self._channel.close(code, text)

    @property
    def closed(self) -> bool:
        """Whether it is closed, and all that came before has been received."""
        channel = self._channel
        channel.open()
        return self._is_shut() or (channel.has_left and channel.inbox.is_empty)

    @property
    def close_code(self) -> int | None:
        """The code by which it was closed, by whichever side; None if it was not.

        1005 stands for none, and 1006 for a connection that was lost.
        """
        return self._channel.last.code if self._channel.inbox.complete else None

    @property
    def close_reason(self) -> str:
        """The same in words, if there are any."""
        return self._channel.last.reason if self._channel.inbox.complete else ""

    @property
    def origin(self) -> str | None:
        """The site whose page has opened it, if a browser has."""
        return cast(str | None, self.environ.get("HTTP_ORIGIN"))

    @property
    def protocol(self) -> str | None:
        """The subprotocols that the client has offered, as it wrote them."""
        return cast(str | None, self.environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL"))

    @property
    def version(self) -> str | None:
        """The version of the protocol, 13."""
        return cast(str | None, self.environ.get("HTTP_SEC_WEBSOCKET_VERSION"))

    @property
    def path(self) -> str | None:
        """The request's ``PATH_INFO``."""
        return cast(str | None, self.environ.get("PATH_INFO"))


def _as_message(data: object, binary: bool | None) -> str | bytes:
    if isinstance(data, str):
        return data.encode() if binary else data
    if isinstance(data, bytes | bytearray | memoryview):
        if binary is not False:
            return bytes(data)
        try:
            return bytes(data).decode()
        except UnicodeDecodeError as error:
            raise websocket_error(f"send(): bytes that are no text: {error}") from None
    raise websocket_error(
        f"send(): data must be str or bytes, and not {type(data).__name__}"
    )
