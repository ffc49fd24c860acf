"""A WebSocket for applications that want the connection: ``werkzeug.socket``.

They speak WebSocket themselves: they write a 101 response and then frames, and read
the client's frames. Here is a socket for them, with nobody behind it but this module:
what is written is taken apart and goes on as messages, and what is read is made from
messages.
"""

import re
import socket
import threading
import weakref
from contextlib import suppress

from wsgi_asgi._channel import Channel, State
from wsgi_asgi._errors import websocket_error
from wsgi_asgi._frames import (
    Close,
    Event,
    FrameDecoder,
    FrameError,
    Ping,
    Pong,
    encode_close,
    encode_message,
    encode_pong,
)
from wsgi_asgi._handshake import divide_upgrade

__all__ = ["FrameSocket"]

# More than any server would take.
HEAD_BYTES = 65536

_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([0-9]{3}(?: [^\r\n]*)?)")

NO_CODE = 1005
INTERNAL_ERROR = 1011


class _Beacon:
    """A descriptor that can be read from when there is something, for selectors."""

    def __init__(self) -> None:
        # For a thread that has to collect garbage meanwhile, which may be the coroutine
        # of this WebSocket, thrown away with its loop: it rings once more.
        self._lock = threading.RLock()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        # Not __del__: in a cycle the sockets might be finalized before this, and warn.
        self._close = weakref.finalize(self, _close_all, self._reader, self._writer)

    def fileno(self) -> int:
        return self._reader.fileno()

    def ring(self) -> None:
        """Make it readable; any thread."""
        with self._lock:
            if self._writer.fileno() >= 0:
                try:  # noqa: SIM105  # the loop runs this
                    self._writer.send(b"\0")
                except BlockingIOError:
                    pass  # it is more than readable

    def clear(self) -> None:
        """Make it unreadable."""
        with self._lock, suppress(OSError):  # nothing is left, or it is closed
            while True:
                self._reader.recv(4096)

    def close(self) -> None:
        with self._lock:
            self._close()


def _close_all(*sockets: socket.socket) -> None:
    for one in sockets:
        one.close()


class FrameSocket:
    """The methods of a socket, as far as a WebSocket has a use for them.

    Args:
        channel: The WebSocket.

    Attributes:
        refusal: Status, headers and body of a response other than 101 that the
            application has written, if it has.
    """

    refusal: tuple[str, list[tuple[str, str]], bytes] | None = None
    _timeout: float | None = None
    _beacon: _Beacon | None = None
    _at_end = False
    _is_closed = False

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._head: bytearray | None = bytearray()
        self._decoder = FrameDecoder()
        # Guards all that is written, and the beacon. It is never held while anything
        # is waited for: a close must not wait for another thread's message.
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._frame = memoryview(b"")  # what is left of it to be read

    # Writing.

    def send(self, data: bytes, flags: int = 0) -> int:
        """Write all; raises as `sendall` does."""
        self.sendall(data, flags)
        return len(data)

    def sendall(self, data: bytes, flags: int = 0) -> None:
        """Write a part of the 101 response, or frames, cut anywhere.

        Messages wait while too much is on its way to the client, and with them what
        comes after them in the same bytes. What another thread writes goes on.

        Raises:
            WebSocketError: The client has left, or the socket was closed, or this
                breaks the protocol.
        """
        with self._lock:
            if self._is_closed:
                raise websocket_error("the socket was closed")
            raw = bytes(data)
            if self._head is not None:
                raw = self._take_head(raw)
            events = self._decode(raw)
        for event in events:
            self._pass_on(event)

    def _decode(self, data: bytes) -> list[Event | FrameError]:
        """Give what is said by these bytes, up to what breaks the protocol."""
        events: list[Event | FrameError] = []
        try:
            for event in self._decoder.feed(data):
                events.append(event)  # noqa: PERF402  # what comes before an error counts
        except FrameError as error:
            events.append(error.with_traceback(None))  # else it would hold itself
        return events

    def _take_head(self, data: bytes) -> bytes:
        """Collect the response; give what comes after it."""
        assert self._head is not None
        if self.refusal:
            status, headers, body = self.refusal
            self.refusal = status, headers, body + data
            return b""
        self._head += data
        head, end, rest = bytes(self._head).partition(b"\r\n\r\n")
        if not end:
            if len(head) > HEAD_BYTES:
                raise websocket_error("the application wrote no 101 response")
            return b""
        status, headers = _parse_head(head)
        if not status.startswith("101"):
            self.refusal = status, headers, rest
            return b""
        self._head = None
        self._channel.accept(*divide_upgrade(headers))
        return rest

    def _pass_on(self, event: Event | FrameError) -> None:
        channel = self._channel
        if isinstance(event, str | bytes):
            channel.send(event)
        elif isinstance(event, Ping):
            channel.check_there()
            channel.answer(Pong(event.payload))
        elif isinstance(event, Close):
            # Nothing can be said to the client by no code but that all is well.
            channel.close(event.code or 1000, event.reason)
        elif isinstance(event, FrameError):
            # The client has done nothing wrong, so it is told something else.
            channel.answer(Close(event.code, ""))
            channel.close(INTERNAL_ERROR)
            raise websocket_error(f"the application wrote {event}")

    # Reading.

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Wait for the client's frames, and give as much of them as is there.

        Returns:
            At most so many bytes; none at the end.

        Raises:
            BlockingIOError: Nothing is there, and the timeout is zero.
            TimeoutError: Nothing has come in the time set.
            WebSocketError: No 101 response was written.
        """
        with self._reading:
            if self._channel.state is State.CONNECTING:
                raise websocket_error("recv() before a 101 response was written")
            known_beacon = self._beacon
            if not self._frame and not self._at_end and size:
                frame = self._next_frame()
                if len(frame) <= size and not self._beacon:
                    return frame
                self._frame = memoryview(frame)
            data = bytes(self._frame[:size])
            self._frame = self._frame[size:]
            if beacon := self._beacon:
                if not self._frame:
                    beacon.clear()
                    # After that, since more may have come in between.
                    self._ring_if_readable(beacon)
                elif beacon is not known_beacon:
                    beacon.ring()  # it was made when this frame was in neither place
            return data

    def _next_frame(self) -> bytes:
        try:
            item = self._channel.fetch(self._timeout)
        except TimeoutError:
            if self._timeout:
                raise
            raise BlockingIOError("nothing has come") from None
        if item is None or isinstance(item, Close):
            self._at_end = True
            return _encode_last(item or self._channel.last)
        if isinstance(item, Pong):
            return encode_pong(item.payload)
        return encode_message(item)

    def _ring_if_readable(self, beacon: _Beacon) -> None:
        if self._at_end or self._channel.is_readable:
            beacon.ring()

    # All else.

    def fileno(self) -> int:
        """Give a real descriptor, for selectors only: readable when `recv` gives.

        It costs two descriptors, and only applications that ask for it pay. Nothing
        can be read from it.
        """
        with self._lock:
            if self._is_closed:
                return -1
            if not self._beacon:
                beacon = self._beacon = _Beacon()
                self._channel.add_listener(beacon)
                if self._frame:
                    beacon.ring()
                self._ring_if_readable(beacon)
            return self._beacon.fileno()

    def settimeout(self, value: float | None) -> None:
        """Set how many seconds `recv` waits; None for any time."""
        self._timeout = value

    def gettimeout(self) -> float | None:
        """Give what `settimeout` has set."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """Have `recv` wait, or not."""
        self._timeout = None if flag else 0.0

    def shutdown(self, how: int) -> None:
        """End the connection, if it is one that writes which ends."""
        if how != socket.SHUT_RD:
            self._hang_up()

    def close(self) -> None:
        """End the connection; a WebSocket that is still open is closed with 1011."""
        with self._lock:
            self._is_closed = True
            beacon = self._beacon
        self._hang_up()
        if beacon:
            beacon.close()

    def _hang_up(self) -> None:
        if not self.refusal:
            self._channel.close(INTERNAL_ERROR)


def _parse_head(raw_head: bytes) -> tuple[str, list[tuple[str, str]]]:
    line, *fields = raw_head.decode("latin-1").split("\r\n")
    match = _STATUS_LINE.fullmatch(line)
    if not match:
        raise websocket_error(f"the application wrote {line!r} and not a 101 response")
    pairs = (field.partition(":") for field in fields)
    return match[1], [(name.strip(), value.strip()) for name, _, value in pairs]


def _encode_last(close: Close) -> bytes:
    try:
        return encode_close(None if close.code == NO_CODE else close.code, close.reason)
    except ValueError:
        return b""  # 1006, for one: the connection was lost without a frame
