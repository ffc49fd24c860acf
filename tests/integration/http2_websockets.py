"""A client of WebSockets over HTTP/2 (RFC 8441), in clear text, prior knowledge.

No client of WebSockets speaks HTTP/2 so far, so here are the two that each know one
half, joined: h2 for streams, and wsproto for the frames inside them.
"""

import socket
import struct
from collections import deque
from types import TracebackType
from typing import Any, Self

import h2.config
import h2.connection
import h2.errors
import h2.events
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Message, Ping, Pong

TIMEOUT_S = 15.0
READ_BYTES = 65536


class StreamLost(Exception):
    """The stream, or the connection, ended before that was due."""


class Http2Connection:
    """A connection, and the streams on it.

    It reads only while something is waited for, by whichever stream.

    Args:
        port: The server's.
    """

    def __init__(self, port: int) -> None:
        self.authority = f"127.0.0.1:{port}"
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self.state = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="latin-1")
        )
        self._streams: dict[int, Stream] = {}
        self.state.initiate_connection()
        self.flush()
        # A client must not ask before the server has said that it may (RFC 8441 3).
        while not self.state.remote_settings.enable_connect_protocol:
            self.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Leave with a TCP reset, as a crashed client does."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()

    def request(self, path: str) -> "Stream":
        """Start a GET."""
        return self._start(
            [(":method", "GET"), (":scheme", "http"), (":path", path)], end=True
        )

    def websocket(self, path: str, *subprotocols: str) -> "WebSocketStream":
        """Ask for a WebSocket, by an extended CONNECT (RFC 8441 4)."""
        fields = [
            *((":method", "CONNECT"), (":protocol", "websocket")),
            *((":scheme", "http"), (":path", path)),
            ("sec-websocket-version", "13"),
        ]
        if subprotocols:
            fields.append(("sec-websocket-protocol", ", ".join(subprotocols)))
        return WebSocketStream(self._start(fields, end=False))

    def _start(self, fields: list[tuple[str, str]], *, end: bool) -> "Stream":
        number = self.state.get_next_available_stream_id()
        # Pseudo-headers come before all others (RFC 9113 8.3).
        self.state.send_headers(
            number, [(":authority", self.authority), *fields], end_stream=end
        )
        self.flush()
        stream = self._streams[number] = Stream(self, number)
        return stream

    def receive(self) -> None:
        """Wait for something to come, and hand it to its streams."""
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise StreamLost("the connection was closed")
        for event in self.state.receive_data(data):
            if isinstance(event, h2.events.ConnectionTerminated):
                raise StreamLost(f"the connection was ended: {event.error_code!r}")
            if stream := self._streams.get(getattr(event, "stream_id", None) or 0):
                stream.take(event)
        self.flush()

    def flush(self) -> None:
        if data := self.state.data_to_send():
            self.socket.sendall(data)


class Stream:
    """One request, and its answer."""

    status = 0
    ended = False  # by the server
    error: h2.errors.ErrorCodes | int | None = None  # by which it was reset

    def __init__(self, connection: Http2Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.headers: dict[str, str] = {}
        self.pieces: deque[bytes] = deque()

    def take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            fields = {str(name): str(value) for name, value in event.headers}
            self.status = int(fields.pop(":status"))
            self.headers = fields
        elif isinstance(event, h2.events.DataReceived):
            self.pieces.append(event.data)
            if not self.ended:
                self.connection.state.acknowledge_received_data(
                    event.flow_controlled_length, self.number
                )
        elif isinstance(event, h2.events.StreamEnded):
            self.ended = True
        elif isinstance(event, h2.events.StreamReset):
            self.ended = True
            self.error = event.error_code

    def wait_for_head(self) -> int:
        """Wait for the head of the answer, and give its status."""
        while not self.status:
            self._receive()
        return self.status

    def read(self) -> bytes:
        """Wait for some of the body; nothing at its end."""
        while not self.pieces:
            if self.ended and self.error is None:
                return b""
            self._receive()
        return self.pieces.popleft()

    def read_all(self) -> bytes:
        return b"".join(iter(self.read, b""))

    def send(self, data: bytes, *, last: bool = False) -> None:
        """Send some of the body, as fast as the server takes it."""
        state = self.connection.state
        view = memoryview(data)
        while view:
            window = state.local_flow_control_window(self.number)
            size = min(window, state.max_outbound_frame_size, len(view))
            if size:
                piece, view = bytes(view[:size]), view[size:]
                state.send_data(self.number, piece, end_stream=last and not view)
                self.connection.flush()
            else:
                self._receive()

    def reset(self) -> None:
        """Give it up, but not the connection."""
        self.connection.state.reset_stream(self.number, h2.errors.ErrorCodes.CANCEL)
        self.connection.flush()

    def _receive(self) -> None:
        if self.error is not None:
            raise StreamLost(f"the stream was reset: {self.error!r}")
        self.connection.receive()


class WebSocketStream:
    """A WebSocket in a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._frames = Connection(ConnectionType.CLIENT)
        self._events: deque[Event] = deque()
        self._parts: list[Any] = []

    def accepted(self) -> Self:
        """Wait until it is open.

        Raises:
            StreamLost: It is refused.
        """
        status = self.stream.wait_for_head()
        if not 200 <= status < 300:
            raise StreamLost(f"refused with {status}")
        return self

    @property
    def subprotocol(self) -> str | None:
        return self.stream.headers.get("sec-websocket-protocol")

    def send(self, message: str | bytes, *, fragments: int = 1) -> None:
        """Send a message, in so many frames."""
        size = max(1, -(-len(message) // fragments))
        starts = range(0, max(1, len(message)), size)
        for start in starts:
            self._send(
                Message[Any](
                    data=message[start : start + size],
                    message_finished=start == starts[-1],
                )
            )

    def ping(self, payload: bytes) -> None:
        self._send(Ping(payload))

    def close(self, code: int, reason: str = "") -> None:
        """Say that it is to be closed; the answer is what `receive` gives."""
        self._send(CloseConnection(code, reason))

    def receive(self) -> str | bytes | Pong | CloseConnection:
        """Wait for a message, the answer to a ping, or the close.

        Raises:
            StreamLost: It ended without a close.
        """
        while True:
            event = self._next_event()
            if isinstance(event, Ping):
                self._send(event.response())
            elif isinstance(event, Pong | CloseConnection):
                return event
            elif isinstance(event, Message):
                self._parts.append(event.data)
                if event.message_finished:
                    message: str | bytes = type(event.data)().join(self._parts)
                    self._parts.clear()
                    return message

    def _next_event(self) -> Event:
        while not self._events:
            data = self.stream.read()
            if not data:
                raise StreamLost("the stream ended without a close frame")
            self._frames.receive_data(data)
            self._events.extend(self._frames.events())
        return self._events.popleft()

    def answer_close(self, close: CloseConnection) -> None:
        """Do the client's part of what the server has begun (RFC 6455 7.1.1)."""
        # In one frame of HTTP/2: Hypercorn (0.18) knows the stream no more when the
        # close frame has come, and an empty frame for its end would be its own end.
        self.stream.send(self._frames.send(close.response()), last=True)

    def _send(self, event: Event) -> None:
        self.stream.send(self._frames.send(event))
