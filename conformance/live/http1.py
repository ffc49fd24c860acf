"""The client of HTTP/1.1."""

from collections.abc import Iterator, Sequence

import h11
from typing_extensions import override

from conformance.live.clients import (
    READ_BYTES,
    TIMEOUT_S,
    Connection,
    CutError,
    Head,
    Headers,
    is_readable,
    read_body,
)

__all__ = ["Http1Connection"]


class Http1Connection(Connection):
    """A connection that is kept alive unless a header says otherwise."""

    def __init__(self, port: int, timeout: float = TIMEOUT_S) -> None:
        super().__init__(port, timeout)
        self._authority = f"127.0.0.1:{port}"
        self._state = h11.Connection(h11.CLIENT)

    @override
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

    @override
    def send(self, data: bytes, *, end: bool = False) -> None:
        self._write(h11.Data(data))
        if end:
            self._write(h11.EndOfMessage())

    @override
    def has_answer(self) -> bool:
        return is_readable(self.socket)

    @override
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

    @override
    def read_some(self) -> bytes:
        event = self._next()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return b""
        raise CutError(f"no body, but {event!r}")

    def read_continue(self) -> None:
        """Wait for the server's leave to send the body.

        Raises:
            CutError: Something else came.
        """
        event = self._next()
        if not isinstance(event, h11.InformationalResponse):
            raise CutError(f"no 100 Continue, but {event!r}")
        if event.status_code != 100:
            raise CutError(f"no 100 Continue, but {event.status_code}")

    def pipeline(self, paths: Sequence[str], headers: Headers) -> Iterator[bytes]:
        """Send GETs all at once, then yield the body of each answer.

        Raises:
            CutError: An answer is cut, or is not a 200.
        """
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
            if (status := self.read_head().status) != 200:
                raise CutError(f"an answer in the pipeline was {status}")
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
                data = self.socket.recv(READ_BYTES)
                if not data and self._state.their_state is h11.SEND_RESPONSE:
                    raise CutError("the connection was closed")
                self._state.receive_data(data)
            except (h11.RemoteProtocolError, ConnectionResetError) as error:
                raise CutError(str(error)) from error
