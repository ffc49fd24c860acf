"""One request at a time over HTTP/1.1 or HTTP/2, with every byte in the test's hand.

httpx hides what these tests look at: when the head and each piece of the body are
sent, interim answers, whether the answer was cut, and how the client leaves.
"""

import contextlib
import select
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h11

TIMEOUT_S = 15.0
READ_BYTES = 65536

Headers = Sequence[tuple[str, str]]


class CutError(Exception):
    """The answer ended before it was complete."""


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    headers: list[tuple[str, str]]
    interim: list[int] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        values = self.get_all(name)
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


class Connection(ABC):
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    @abstractmethod
    def start(
        self, method: str, path: str, headers: Headers = (), *, end: bool = True
    ) -> None:
        """Send the head of a request, and with `end` that no body follows."""

    @abstractmethod
    def send(self, data: bytes, *, end: bool = False) -> None: ...

    @abstractmethod
    def has_answer(self) -> bool:
        """Say whether anything of an answer has come, without waiting."""

    @abstractmethod
    def read_head(self) -> Head: ...

    @abstractmethod
    def read_some(self) -> bytes:
        """Read some of the body; nothing means its end, CutError that it was cut."""

    def leave(self) -> None:
        """Go away without a word: no clean end of anything that is under way."""
        self.socket.close()

    def reset(self) -> None:
        """Leave with a TCP reset, as a crashed client does."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


def read_body(connection: Connection) -> bytes:
    pieces: list[bytes] = []
    while piece := connection.read_some():
        pieces.append(piece)
    return b"".join(pieces)


class Http1Connection(Connection):
    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._authority = f"127.0.0.1:{port}"
        self._state = h11.Connection(h11.CLIENT)

    def start(
        self, method: str, path: str, headers: Headers = (), *, end: bool = True
    ) -> None:
        if self._state.our_state is not h11.IDLE:
            self._state.start_next_cycle()
        fields = [("host", self._authority), *headers]
        request = h11.Request(method=method, target=path, headers=fields)
        self._write(request)
        if end:
            self._write(h11.EndOfMessage())

    def send(self, data: bytes, *, end: bool = False) -> None:
        self._write(h11.Data(data))
        if end:
            self._write(h11.EndOfMessage())

    def has_answer(self) -> bool:
        return _is_readable(self.socket)

    def read_head(self) -> Head:
        interim: list[int] = []
        while True:
            event = self._next()
            if isinstance(event, h11.InformationalResponse):
                interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                fields = [
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in event.headers
                ]
                return Head(event.status_code, fields, interim)
            else:
                raise CutError(f"no head, but {event!r}")

    def read_some(self) -> bytes:
        event = self._next()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return b""
        raise CutError(f"no body, but {event!r}")

    def read_continue(self) -> None:
        """Wait for the server's leave to send the body."""
        event = self._next()
        assert isinstance(event, h11.InformationalResponse), event
        assert event.status_code == 100

    def pipeline(self, paths: Sequence[str], headers: Headers) -> Iterator[bytes]:
        """Send GETs all at once, then yield the body of each answer, which is 200."""
        requests = [
            h11.Request(
                method="GET",
                target=path,
                headers=[("host", self._authority), *headers],
            )
            for path in paths
        ]
        early = b""
        for number, request in enumerate(requests):
            # h11 knows no pipelining: each answer gets a state of its own.
            self._state = h11.Connection(h11.CLIENT)
            self._state.send(request)
            self._state.send(h11.EndOfMessage())
            if not number:
                heads = [
                    h11.Connection(h11.CLIENT).send(one) or b"" for one in requests
                ]
                self.socket.sendall(b"".join(heads))
            if early:
                self._state.receive_data(early)
            assert self.read_head().status == 200
            yield read_body(self)
            early, _ = self._state.trailing_data

    def read_stray(self) -> bytes:
        """Read what the server sends after the answer until it closes."""
        pieces = [self._state.trailing_data[0]]
        while data := self.socket.recv(READ_BYTES):
            pieces.append(data)
        return b"".join(pieces)

    def _write(self, event: h11.Event) -> None:
        data = self._state.send(event)
        if data:
            self.socket.sendall(data)

    def _next(self) -> object:
        while True:
            try:
                event = self._state.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._state.receive_data(self.socket.recv(READ_BYTES))
            except (h11.RemoteProtocolError, ConnectionResetError) as error:
                raise CutError(str(error)) from error


class Http2Connection(Connection):
    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._authority = f"127.0.0.1:{port}"
        config = h2.config.H2Configuration(header_encoding="latin-1")
        self._state = h2.connection.H2Connection(config)
        self._state.initiate_connection()
        self._flush()
        self._stream = 0
        self._events: list[h2.events.Event] = []

    def start(
        self, method: str, path: str, headers: Headers = (), *, end: bool = True
    ) -> None:
        self._stream = self._state.get_next_available_stream_id()
        fields = [
            (":method", method),
            (":path", path),
            (":scheme", "http"),
            (":authority", self._authority),
            *headers,
        ]
        self._state.send_headers(self._stream, fields, end_stream=end)
        self._flush()

    def send(self, data: bytes, *, end: bool = False) -> None:
        """Send data as fast as the server takes it, and no more once it answered."""
        view = memoryview(data)
        while view:
            if self._is_answered():
                return
            window = self._state.local_flow_control_window(self._stream)
            size = min(window, self._state.max_outbound_frame_size, len(view))
            if size:
                self._state.send_data(self._stream, bytes(view[:size]))
                self._flush()
                view = view[size:]
            else:
                self._receive()
        if end:
            self._state.end_stream(self._stream)
            self._flush()

    def has_answer(self) -> bool:
        while _is_readable(self.socket):
            self._receive()
        return self._is_answered()

    def _is_answered(self) -> bool:
        return any(
            isinstance(event, h2.events.ResponseReceived) for event in self._events
        )

    def read_head(self) -> Head:
        interim: list[int] = []
        for event in self._of_stream():
            if isinstance(event, h2.events.InformationalResponseReceived):
                interim.append(_status(event.headers))
            elif isinstance(event, h2.events.ResponseReceived):
                fields = [(_text(name), _text(value)) for name, value in event.headers]
                return Head(_status(event.headers), fields, interim)
        raise CutError("no head")

    def read_some(self) -> bytes:
        for event in self._of_stream():
            if isinstance(event, h2.events.DataReceived):
                with contextlib.suppress(h2.exceptions.ProtocolError):
                    self._state.acknowledge_received_data(
                        event.flow_controlled_length, self._stream
                    )
                    self._flush()
                if event.data:
                    return event.data
            elif isinstance(event, h2.events.StreamEnded):
                return b""
        raise CutError("no end")

    def reset_stream(self) -> None:
        """Give up the request, but not the connection."""
        self._state.reset_stream(self._stream)
        self._flush()

    def _of_stream(self) -> Iterator[h2.events.Event]:
        while True:
            while not self._events:
                self._receive()
            event = self._events.pop(0)
            if isinstance(event, h2.events.ConnectionTerminated):
                raise CutError("the connection was terminated")
            if getattr(event, "stream_id", None) != self._stream:
                continue
            if isinstance(event, h2.events.StreamReset):
                raise CutError(f"the stream was reset: {event.error_code}")
            yield event

    def _receive(self) -> None:
        try:
            data = self.socket.recv(READ_BYTES)
        except ConnectionResetError as error:
            raise CutError(str(error)) from error
        if not data:
            raise CutError("the connection was closed")
        self._events += self._state.receive_data(data)
        self._flush()

    def _flush(self) -> None:
        data = self._state.data_to_send()
        if data:
            self.socket.sendall(data)


def _is_readable(sock: socket.socket) -> bool:
    readable, _, _ = select.select([sock], [], [], 0)
    return bool(readable)


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _status(headers: Sequence[tuple[bytes | str, bytes | str]]) -> int:
    return int(next(value for name, value in headers if _text(name) == ":status"))
