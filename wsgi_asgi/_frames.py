"""WebSocket frames (RFC 6455), as the client's end of a connection has them.

Applications that speak the protocol themselves believe to be the server of a client
that they share a socket with. What is written here stands in for that client: it
takes the frames that a server writes and makes those that it reads.

The protocol and nothing else: no I/O, no thread, and no opinion on what to do next.
Section numbers are those of RFC 6455.
"""

import codecs
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

__all__ = [
    "Close",
    "Event",
    "FrameDecoder",
    "FrameError",
    "Opcode",
    "Ping",
    "Pong",
    "check_close",
    "encode_close",
    "encode_message",
    "encode_pong",
]

# A control frame's payload has no extended length (5.5).
CONTROL_BYTES = 125

_FIN = 0x80
_RESERVED = 0x70
_MASKED = 0x80
# Payloads of up to 125 bytes have their length in the second byte of the frame, these
# announce two or eight bytes of it (5.2).
_LENGTH_IN_2, _LENGTH_IN_8 = 126, 127
# A client must mask what it sends (5.3), by a key of its choice. With this one the
# payload stays what it is. Masks protect proxies in between, and here are none.
_ZERO_KEY = bytes(4)

PROTOCOL_ERROR = 1002
INVALID_PAYLOAD = 1007


class Opcode(IntEnum):
    """What a frame is (5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


# What the first byte of a frame may be (5.2, 5.5), and what it says: whether this is
# the last frame of a message, and which kind it is.
_HEADS = {
    final | opcode: (bool(final), opcode)
    for opcode in Opcode
    for final in (0, _FIN)
    if final or opcode < Opcode.CLOSE
}


class FrameError(Exception):
    """A frame breaks the protocol, and the connection has failed (7.1.7).

    Attributes:
        code: The close code that says so (7.4.1).
    """

    def __init__(self, what: str, section: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(f"{what} (RFC 6455 {section})")
        self.code = code


@dataclass(frozen=True, slots=True)
class Close:
    """The connection is to be closed.

    Attributes:
        code: Why, as a number (7.4); None if it was not said.
        reason: Why, in words.
    """

    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Ping:
    """A sign of life is asked for, to be answered by a `Pong` that says the same."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a `Ping`, or a sign of life that nobody has asked for."""

    payload: bytes


# What a decoder gives: a whole text or binary message, or a control frame.
Event = str | bytes | Close | Ping | Pong


def check_close(code: int, reason: str) -> None:
    """Check what a close frame is to say.

    Raises:
        ValueError: The code must not be sent, or the reason is too long or cannot
            be encoded.
    """
    if not _is_close_code(code):
        raise ValueError(f"{code!r} is no close code that can be sent (RFC 6455 7.4)")
    size = len(reason.encode())
    if size > CONTROL_BYTES - 2:
        raise ValueError(
            f"a reason of {size} bytes does not fit in a close frame, which has room "
            f"for {CONTROL_BYTES - 2} (RFC 6455 5.5)"
        )


def _is_close_code(code: int) -> bool:
    # 1004 has no meaning, and 1005, 1006 and 1015 say what could not be sent. Up to
    # 1014 the others are registered by now, 3000 and above are free (7.4.1, 7.4.2).
    return (
        1000 <= code <= 1014 and code not in (1004, 1005, 1006)
    ) or 3000 <= code <= 4999


def encode_message(message: str | bytes) -> bytes:
    r"""Make the one frame of a text or binary message.

    >>> encode_message("Hi")
    b'\x81\x82\x00\x00\x00\x00Hi'
    """
    if isinstance(message, str):
        return _encode(Opcode.TEXT, message.encode())
    return _encode(Opcode.BINARY, message)


def encode_close(code: int | None, reason: str = "") -> bytes:
    r"""Make a close frame.

    Args:
        code: The close code, or None to say nothing.
        reason: In words.

    Raises:
        ValueError: As `check_close` says.

    >>> encode_close(1000, "bye")[-5:]
    b'\x03\xe8bye'
    """
    if code is None:
        return _encode(Opcode.CLOSE, b"")
    check_close(code, reason)
    return _encode(Opcode.CLOSE, struct.pack("!H", code) + reason.encode())


def encode_pong(payload: bytes) -> bytes:
    """Make the answer to a ping."""
    return _encode(Opcode.PONG, payload)


def _encode(opcode: Opcode, payload: bytes) -> bytes:
    size = len(payload)
    if size < _LENGTH_IN_2:
        head = struct.pack("!BB", _FIN | opcode, _MASKED | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FIN | opcode, _MASKED | _LENGTH_IN_2, size)
    else:
        head = struct.pack("!BBQ", _FIN | opcode, _MASKED | _LENGTH_IN_8, size)
    return b"".join((head, _ZERO_KEY, payload))


class FrameDecoder:
    r"""Takes what a server writes, in whatever pieces, and gives what it says.

    After a close frame all else is ignored (5.5.1).

    >>> list(FrameDecoder().feed(b"\x81\x05Hello"))
    ['Hello']
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._kind: Opcode | None = None  # of the message that is not complete
        self._parts: list[str | bytes] = []
        # Kept from fragment to fragment: they may cut a character in two (5.6).
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._closed = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes.

        Returns:
            What they complete, in order; to be iterated to its end.

        Raises:
            FrameError: They break the protocol, and the decoder is of no more use.
                What they completed before that has been given.
        """
        self._buffer += data
        while not self._closed and (frame := self._next_frame()):
            event = self._take(*frame)
            if event is not None:
                yield event

    def _next_frame(self) -> tuple[bool, Opcode, bytes] | None:
        """Cut the next frame off; None if it is not all there."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, size = buffer[0], buffer[1]
        final, opcode = _parse_head(first, size)
        start = 2
        if size >= _LENGTH_IN_2:
            start = 4 if size == _LENGTH_IN_2 else 10
            if len(buffer) < start:
                return None
            size = _parse_long_size(bytes(buffer[2:start]))
        end = start + size
        if len(buffer) < end:
            return None
        with memoryview(buffer) as view:
            payload = bytes(view[start:end])
        del buffer[:end]
        return final, opcode, payload

    def _take(self, final: bool, opcode: Opcode, payload: bytes) -> Event | None:
        if opcode < Opcode.CLOSE:
            return self._take_data(final, opcode, payload)
        if opcode is Opcode.PING:
            return Ping(payload)
        if opcode is Opcode.PONG:
            return Pong(payload)
        self._closed = True
        return _parse_close(payload)

    def _take_data(self, final: bool, opcode: Opcode, payload: bytes) -> Event | None:
        if opcode is Opcode.CONTINUATION:
            if self._kind is None:
                raise FrameError("a continuation of no message", "5.4")
        elif self._kind is not None:
            raise FrameError(f"{opcode.name} inside a fragmented message", "5.4")
        elif final:
            return _decode(payload) if opcode is Opcode.TEXT else payload
        else:
            self._kind = opcode
        return self._take_fragment(final, payload)

    def _take_fragment(self, final: bool, payload: bytes) -> Event | None:
        is_text = self._kind is Opcode.TEXT
        self._parts.append(_decode(payload, self._text, final) if is_text else payload)
        if not final:
            return None
        parts: list[Any] = self._parts
        self._kind, self._parts = None, []
        return "".join(parts) if is_text else b"".join(parts)


def _decode(
    payload: bytes,
    decoder: codecs.IncrementalDecoder | None = None,
    final: bool = True,
) -> str:
    try:
        return decoder.decode(payload, final) if decoder else payload.decode()
    except UnicodeDecodeError as error:
        raise FrameError(
            f"text that is no UTF-8: {error}", "8.1", INVALID_PAYLOAD
        ) from None


def _parse_head(first: int, second: int) -> tuple[bool, Opcode]:
    """Check the first two bytes of a frame, and say what the first one says."""
    head = _HEADS.get(first)
    if not head:
        raise _head_error(first)
    if second & _MASKED:
        raise FrameError("a server's frame is masked", "5.1")
    if second > CONTROL_BYTES and head[1] >= Opcode.CLOSE:
        raise FrameError(f"a {head[1].name} frame of more than 125 bytes", "5.5")
    return head


def _head_error(first: int) -> FrameError:
    if first & _RESERVED:
        return FrameError("a reserved bit is set", "5.2")
    try:
        opcode = Opcode(first & 0x0F)
    except ValueError:
        return FrameError(f"unknown opcode {first & 0x0F:#x}", "5.2")
    return FrameError(f"a fragmented {opcode.name} frame", "5.5")


def _parse_long_size(raw_size: bytes) -> int:
    size = int.from_bytes(raw_size)
    if size < _LENGTH_IN_2 or (len(raw_size) == 8 and size < 1 << 16):
        raise FrameError(f"{size} bytes announced in more bytes than needed", "5.2")
    if size >= 1 << 63:
        raise FrameError("a length with its highest bit set", "5.2")
    return size


def _parse_close(payload: bytes) -> Close:
    if not payload:
        return Close(None, "")
    if len(payload) == 1:
        raise FrameError("half a close code", "5.5.1")
    code = int.from_bytes(payload[:2])
    if not _is_close_code(code):
        raise FrameError(f"close code {code}", "7.4")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError as error:
        raise FrameError(
            f"a close reason that is no UTF-8: {error}", "5.5.1", INVALID_PAYLOAD
        ) from None
