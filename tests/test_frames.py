"""The frame codec, by the numbers of RFC 6455, and against wsproto as the server."""

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    CloseConnection,
    Message,
)
from wsproto.events import Ping as TheirPing
from wsproto.events import Pong as TheirPong

from wsgi_asgi._frames import (
    Close,
    Event,
    FrameDecoder,
    FrameError,
    Opcode,
    Ping,
    Pong,
    check_close,
    encode_close,
    encode_message,
    encode_pong,
)

FIN, TEXT, BINARY, CLOSE, PING, PONG = 0x80, 1, 2, 8, 9, 10
MASKED = 0x80


def frame(first: int, payload: bytes = b"", second: int | None = None) -> bytes:
    """Make a server's frame by its first byte."""
    size = len(payload)
    if second is not None:
        return bytes([first, second]) + payload
    if size < 126:
        return bytes([first, size]) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def whole(data: bytes) -> list[Event]:
    return list(FrameDecoder().feed(data))


def by_byte(data: bytes) -> list[Event]:
    decoder = FrameDecoder()
    return [
        event for at in range(len(data)) for event in decoder.feed(data[at : at + 1])
    ]


in_each_split = pytest.mark.parametrize(
    "decode", [whole, by_byte], ids=["whole", "one byte at a time"]
)
Decode = Callable[[bytes], list[Event]]


@in_each_split
@pytest.mark.parametrize(
    ("data", "event"),
    [
        pytest.param("810548656c6c6f", "Hello", id="text"),
        pytest.param("8103e282ac", "\u20ac", id="text beyond ASCII"),
        pytest.param("8100", "", id="empty text"),
        pytest.param("8200", b"", id="empty binary"),
        pytest.param("820200ff", b"\x00\xff", id="binary"),
        pytest.param("010348656c80026c6f", "Hello", id="two fragments"),
        pytest.param("0101e20001828001ac", "\u20ac", id="character in three fragments"),
        pytest.param("01016100", None, id="nothing complete"),
        pytest.param("02000001ff8000", b"\xff", id="empty fragments"),
        pytest.param("890548656c6c6f", Ping(b"Hello"), id="ping"),
        pytest.param("8a0548656c6c6f", Pong(b"Hello"), id="pong"),
        pytest.param("8800", Close(None, ""), id="close without a code"),
        pytest.param("880203e8", Close(1000, ""), id="close"),
        pytest.param("88050fa1e282ac", Close(4001, "\u20ac"), id="close with reason"),
    ],
)
def test_frames_as_in_5_7_are_decoded(
    decode: Decode, data: str, event: Event | None
) -> None:
    assert decode(bytes.fromhex(data)) == ([] if event is None else [event])


@in_each_split
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
def test_frame_of_each_form_of_length_is_decoded(decode: Decode, size: int) -> None:
    payload = b"x" * size
    data = frame(FIN | BINARY, payload) + frame(FIN | PING)
    assert decode(data) == [payload, Ping(b"")]


@in_each_split
def test_control_frame_between_fragments_is_given_at_once(decode: Decode) -> None:
    # 5.5: "Control frames ... MAY be injected in the middle of a fragmented message."
    data = frame(TEXT, b"one ") + frame(FIN | PING, b"?") + frame(FIN, b"two")
    assert decode(data) == [Ping(b"?"), "one two"]


@in_each_split
def test_frames_after_a_close_are_ignored(decode: Decode) -> None:
    assert decode(frame(FIN | CLOSE) + frame(FIN | TEXT, b"late") + b"\xff") == [
        Close(None, "")
    ]


FAULTS = [
    pytest.param(frame(FIN | 0x40 | TEXT), 1002, "5.2", id="RSV1 set"),
    pytest.param(frame(FIN | 0x20 | TEXT), 1002, "5.2", id="RSV2 set"),
    pytest.param(frame(FIN | 0x10 | PING), 1002, "5.2", id="RSV3 set"),
    *(
        pytest.param(frame(FIN | opcode), 1002, "5.2", id=f"opcode {opcode:#x}")
        for opcode in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF)
    ),
    pytest.param(
        frame(FIN | TEXT, bytes(5), MASKED | 1), 1002, "5.1", id="masked by a server"
    ),
    pytest.param(
        frame(FIN | BINARY, b"\0\x7d" + bytes(125), 126),
        1002,
        "5.2",
        id="two bytes of length for 125",
    ),
    pytest.param(
        frame(FIN | BINARY, struct.pack("!Q", 65535), 127),
        1002,
        "5.2",
        id="eight bytes of length for 65535",
    ),
    pytest.param(
        frame(FIN | BINARY, struct.pack("!Q", 1 << 63), 127),
        1002,
        "5.2",
        id="highest bit of a length",
    ),
    pytest.param(frame(FIN, b"x"), 1002, "5.4", id="continuation of nothing"),
    pytest.param(
        frame(FIN | TEXT, b"x") + frame(FIN, b"x"),
        1002,
        "5.4",
        id="continuation of a whole message",
    ),
    pytest.param(
        frame(TEXT, b"x") + frame(FIN | BINARY, b"x"),
        1002,
        "5.4",
        id="message inside another",
    ),
    pytest.param(frame(PING, b"x"), 1002, "5.5", id="fragmented ping"),
    pytest.param(frame(CLOSE), 1002, "5.5", id="fragmented close"),
    pytest.param(frame(FIN | PING, bytes(126)), 1002, "5.5", id="ping of 126 bytes"),
    pytest.param(frame(FIN | CLOSE, bytes(65536)), 1002, "5.5", id="long close"),
    pytest.param(frame(FIN | CLOSE, b"\x03"), 1002, "5.5.1", id="half a close code"),
    *(
        pytest.param(
            frame(FIN | CLOSE, struct.pack("!H", code)), 1002, "7.4", id=f"close {code}"
        )
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    ),
    pytest.param(
        frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007, "5.5.1", id="reason is no UTF-8"
    ),
    pytest.param(frame(FIN | TEXT, b"\xc3\x28"), 1007, "8.1", id="no UTF-8"),
    pytest.param(frame(FIN | TEXT, b"\xed\xa0\x80"), 1007, "8.1", id="a surrogate"),
    pytest.param(frame(FIN | TEXT, b"\xe2\x82"), 1007, "8.1", id="half a character"),
    pytest.param(
        frame(TEXT, b"\xe2\x82") + frame(FIN, b"\x28"),
        1007,
        "8.1",
        id="no UTF-8 across fragments",
    ),
    pytest.param(
        frame(TEXT, b"\xe2\x82") + frame(FIN),
        1007,
        "8.1",
        id="half a character at the end of fragments",
    ),
]


@in_each_split
@pytest.mark.parametrize(("data", "code", "section"), FAULTS)
def test_fault_fails_the_connection_by_its_section(
    decode: Decode, data: bytes, code: int, section: str
) -> None:
    with pytest.raises(FrameError, match=rf"\(RFC 6455 {section}\)$") as caught:
        decode(data)
    assert caught.value.code == code


def test_bad_text_is_found_before_its_last_fragment() -> None:
    with pytest.raises(FrameError):
        whole(frame(TEXT, b"\xff"))


def test_what_comes_before_a_fault_is_given() -> None:
    events = FrameDecoder().feed(frame(FIN | TEXT, b"good") + frame(FIN | 3))
    assert next(events) == "good"
    with pytest.raises(FrameError):
        next(events)


# What is encoded.


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode_message("Hi"), "8182 00000000 4869"),
        (encode_message(b"\xff"), "8281 00000000 ff"),
        (encode_message(""), "8180 00000000"),
        (encode_message(bytes(126))[:8], "82fe 007e 00000000"),
        (encode_message(bytes(65536))[:14], "82ff 0000000000010000 00000000"),
        (encode_pong(b"?"), "8a81 00000000 3f"),
        (encode_close(None), "8880 00000000"),
        (encode_close(1001, "bye"), "8885 00000000 03e9 627965"),
    ],
    ids=["text", "binary", "empty", "126", "65536", "pong", "no code", "close"],
)
def test_clients_frame_is_masked_with_zeros(data: bytes, expected: str) -> None:
    # 5.3: a client masks all that it sends. 5.2: in the shortest form of its length.
    assert data == bytes.fromhex(expected)


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1011, 1012, 1014, 3000, 4999])
def test_close_code_of_7_4_that_can_be_sent_is_taken(code: int) -> None:
    check_close(code, "x" * 123)


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 2000, 5000])
def test_close_code_of_7_4_that_cannot_be_sent_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match=f"{code}.*7.4"):
        encode_close(code)


def test_reason_too_long_for_a_control_frame_is_refused() -> None:
    with pytest.raises(ValueError, match=r"124 bytes .* \(RFC 6455 5\.5\)"):
        check_close(1000, "é" * 62)


# Against wsproto, which nobody here wrote.

FRAGMENTS: st.SearchStrategy[list[str] | list[bytes]] = st.one_of(
    st.lists(st.text(), min_size=1, max_size=4),
    st.lists(st.binary(), min_size=1, max_size=4),
)
CONTROLS = st.lists(
    st.builds(Ping, st.binary(max_size=125)) | st.builds(Pong, st.binary(max_size=125)),
    max_size=2,
)
# What is sent: the fragments of a message, each with the control frames after it.
MESSAGES = st.lists(
    FRAGMENTS.flatmap(
        lambda fragments: st.tuples(
            st.just(fragments), st.tuples(*(CONTROLS for _ in fragments))
        )
    ),
    max_size=4,
)
# 1014 is registered (7.4.2) but not known to wsproto (1.3).
UNKNOWN = 1014
CLOSES = st.builds(
    Close,
    st.integers(1000, 1003) | st.integers(1007, 1013) | st.integers(3000, 4999),
    st.text(max_size=41).filter(lambda reason: len(reason.encode()) <= 123),
)
PLACES = st.lists(st.integers(0, 10_000), max_size=8)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def events_of(peer: Connection, pieces: list[bytes]) -> list[Event]:
    """Have wsproto read, and give what it says in our words."""
    events: list[Event] = []
    parts: list[Any] = []
    for piece in filter(None, pieces):
        peer.receive_data(piece)
        for event in peer.events():
            if isinstance(event, Message):
                parts.append(
                    event.data if isinstance(event.data, str) else bytes(event.data)
                )
                if event.message_finished:
                    events.append(type(parts[0])().join(parts))
                    parts.clear()
            elif isinstance(event, TheirPing):
                events.append(Ping(bytes(event.payload)))
            elif isinstance(event, TheirPong):
                events.append(Pong(bytes(event.payload)))
            elif isinstance(event, CloseConnection):
                code = None if event.code == 1005 else int(event.code)
                events.append(Close(code, event.reason or ""))
    return events


@given(MESSAGES, CLOSES, PLACES)
def test_what_wsproto_sends_is_decoded(
    messages: list[tuple[list[Any], tuple[list[Ping | Pong], ...]]],
    close: Close,
    places: list[int],
) -> None:
    server = Connection(ConnectionType.SERVER)
    data, expected = b"", list[Event]()
    for fragments, controls in messages:
        for number, fragment in enumerate(fragments, 1):
            final = number == len(fragments)
            data += server.send(Message[Any](data=fragment, message_finished=final))
            if final:
                expected.append(type(fragment)().join(fragments))
            for control in controls[number - 1]:
                theirs = TheirPing if isinstance(control, Ping) else TheirPong
                data += server.send(theirs(control.payload))
                expected.append(control)
    assert close.code
    data += server.send(CloseConnection(close.code, close.reason))
    decoder = FrameDecoder()
    events = [event for piece in cut(data, places) for event in decoder.feed(piece)]
    assert events == [*expected, close]


@given(
    st.lists(
        st.text() | st.binary() | st.builds(Pong, st.binary(max_size=125)), max_size=5
    ),
    CLOSES,
    PLACES,
)
def test_what_is_encoded_wsproto_decodes(
    items: list[str | bytes | Pong], close: Close, places: list[int]
) -> None:
    data = b"".join(
        encode_pong(item.payload) if isinstance(item, Pong) else encode_message(item)
        for item in items
    )
    data += encode_close(close.code, close.reason)
    server = Connection(ConnectionType.SERVER)
    assert events_of(server, cut(data, places)) == [*items, close]


@given(st.text(), PLACES)
def test_text_whose_fragments_cut_characters_is_decoded(
    text: str, places: list[int]
) -> None:
    # 5.6: a fragment need not be valid UTF-8, the whole message must.
    pieces = cut(text.encode(), places)
    opcodes = [TEXT, *(0 for _ in pieces[1:])]
    opcodes[-1] |= FIN
    data = b"".join(map(frame, opcodes, pieces))
    assert whole(data) == [text]


def any_frame(
    first: int, masked: int, payload: bytes, length: Callable[[int, int], bytes]
) -> bytes:
    """Make a frame that nobody may send, or, by chance, one that a server may."""
    key = bytes(4) if masked else b""
    return bytes([first]) + length(masked, len(payload)) + key + payload


def in_1_byte(masked: int, size: int) -> bytes:
    return bytes([masked | size]) if size <= 125 else in_2_bytes(masked, size)


def in_2_bytes(masked: int, size: int) -> bytes:
    return struct.pack("!BH", masked | 126, size)


def in_8_bytes(masked: int, size: int) -> bytes:
    return struct.pack("!BQ", masked | 127, size)


def seldom(value: int) -> st.SearchStrategy[int]:
    return st.sampled_from([0] * 7 + [value])


FIRST_BYTES = st.builds(
    lambda *bits: sum(bits),
    st.sampled_from([0, FIN, FIN]),
    seldom(0x40),
    seldom(0x20),
    seldom(0x10),
    st.sampled_from([0, TEXT, BINARY, CLOSE, PING, PONG]) | st.integers(0, 15),
)
PAYLOADS = st.one_of(
    st.binary(max_size=5),
    st.text(max_size=3).map(str.encode),
    st.integers(0, 6000).filter(UNKNOWN.__ne__).map(struct.Struct("!H").pack),
    st.integers(124, 127).map(bytes),
)
LENGTHS = st.sampled_from([in_1_byte] * 5 + [in_2_bytes, in_8_bytes])


@given(
    st.lists(
        st.builds(any_frame, FIRST_BYTES, seldom(MASKED), PAYLOADS, LENGTHS), max_size=6
    )
)
def test_frames_that_fail_do_so_where_they_fail_for_wsproto(
    frames: list[bytes],
) -> None:
    data = b"".join(frames)
    events: list[Event] = []
    try:
        events.extend(FrameDecoder().feed(data))
    except FrameError as error:
        events.append(Close(error.code, ""))
    theirs = events_of(Connection(ConnectionType.CLIENT), [data])
    # It says by a close that it has failed, and may go on after one.
    closes = [at for at, event in enumerate(theirs) if isinstance(event, Close)]
    if closes:
        del theirs[closes[0] + 1 :]
    assert [shown(event) for event in events] == [shown(event) for event in theirs]


def shown(event: Event) -> object:
    return event.code if isinstance(event, Close) else event


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_frame_error(data: bytes) -> None:
    with suppress(FrameError):
        for event in whole(data):
            assert isinstance(event, str | bytes | Close | Ping | Pong)


def test_opcodes_are_those_of_5_2() -> None:
    assert [int(code) for code in Opcode] == [0, 1, 2, 8, 9, 10]
