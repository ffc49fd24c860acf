"""The client of HTTP/2, in clear text and with prior knowledge, or over TLS."""

import contextlib
import ssl
from collections.abc import Iterator, Sequence

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from typing_extensions import override

from conformance.live.clients import (
    READ_BYTES,
    TIMEOUT_S,
    Connection,
    CutError,
    Head,
    Headers,
    is_readable,
)

__all__ = ["Http2Connection"]


class Http2Connection(Connection):
    """A connection whose requests are streams of their own, one after the other.

    Args:
        port: The server's.
        timeout: As for `Connection`.
        tls: What a connection over TLS trusts; without it it is in clear text.

    Attributes:
        trailers: Those of the last answer, once its body has ended.
    """

    def __init__(
        self,
        port: int,
        timeout: float = TIMEOUT_S,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(port, timeout)
        self._scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.trailers: list[tuple[str, str]] | None = None
        self._authority = f"127.0.0.1:{port}"
        config = h2.config.H2Configuration(header_encoding="latin-1")
        self._state = h2.connection.H2Connection(config)
        self._state.initiate_connection()
        self._flush()
        self._stream = 0
        self._events: list[h2.events.Event] = []

    @override
    def start(
        self, method: str, path: str, headers: Headers = (), *, end: bool = True
    ) -> None:
        self._stream = self._state.get_next_available_stream_id()
        fields = [
            (":method", method),
            (":path", path),
            (":scheme", self._scheme),
            (":authority", self._authority),
            *headers,
        ]
        self._state.send_headers(self._stream, fields, end_stream=end)
        self._flush()

    @override
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

    @override
    def has_answer(self) -> bool:
        while is_readable(self.socket):
            self._receive()
        return self._is_answered()

    def _is_answered(self) -> bool:
        return any(
            isinstance(event, h2.events.ResponseReceived) for event in self._events
        )

    def read_interim(self) -> Head:
        """Wait for one interim answer; it is not among those of `read_head` then.

        Raises:
            CutError: There will be none.
        """
        event = next(self._of_stream())
        if not isinstance(event, h2.events.InformationalResponseReceived):
            raise CutError(f"no interim answer, but {type(event).__name__}")
        return Head(_status(event.headers), _fields(event.headers))

    @override
    def read_head(self) -> Head:
        interim: list[int] = []
        for event in self._of_stream():
            if isinstance(event, h2.events.InformationalResponseReceived):
                interim.append(_status(event.headers))
            elif isinstance(event, h2.events.ResponseReceived):
                self.trailers = None
                return Head(_status(event.headers), _fields(event.headers), interim)
        raise CutError("no head")

    @override
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
            elif isinstance(event, h2.events.TrailersReceived):
                self.trailers = _fields(event.headers)
            elif isinstance(event, h2.events.StreamEnded):
                return b""
        raise CutError("no end")

    @property
    def stream(self) -> int:
        """The stream of the request; assign an earlier one to go back to it."""
        return self._stream

    @stream.setter
    def stream(self, stream: int) -> None:
        self._stream = stream

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
        try:
            self._events += self._state.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            raise CutError(str(error)) from error
        self._flush()

    def _flush(self) -> None:
        data = self._state.data_to_send()
        if data:
            self.socket.sendall(data)


def _fields(
    headers: Sequence[tuple[bytes | str, bytes | str]],
) -> list[tuple[str, str]]:
    return [(_text(name), _text(value)) for name, value in headers]


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _status(headers: Sequence[tuple[bytes | str, bytes | str]]) -> int:
    return int(next(value for name, value in headers if _text(name) == ":status"))
