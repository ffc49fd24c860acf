"""wsgi.input against io.BytesIO, in pieces of any size, whole and cut off."""

import io
import sys
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from typing import IO, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drivers import QUIET_S, Gate
from wsgi_asgi._errors import ClientDisconnected, IncompleteBody
from wsgi_asgi._input import BLOCK_BYTES, BodyReader, BodyStream, LazyStream

# No clock and no chance: the same examples in each run.
PROFILE = settings(derandomize=True, deadline=None, max_examples=300)

# How a body may be cut into messages. Empty ones never reach the stream, since
# nothing would tell them from the end.
CUTS: dict[str, Callable[[bytes], list[bytes]]] = {
    "one message": lambda body: [body] if body else [],
    "one byte a message": lambda body: [bytes([byte]) for byte in body],
    "pieces of three": lambda body: [body[i : i + 3] for i in range(0, len(body), 3)],
}
three_ways = pytest.mark.parametrize("cut", list(CUTS.values()), ids=list(CUTS))
all_kinds = pytest.mark.parametrize("kind", ["declared", "undeclared", "lazy"])

Cut = Callable[[bytes], list[bytes]]
Call = tuple[str, Any]


def pulling(
    pieces: Sequence[bytes], end: Callable[[], bytes] = lambda: b""
) -> Callable[[], bytes]:
    """Make a pull() of pieces, and of what comes after them, again and again."""
    rest = iter(pieces)

    def pull() -> bytes:
        for piece in rest:
            return piece
        return end()

    return pull


def never() -> bytes:
    raise AssertionError("pulled beyond the end")


def leave() -> bytes:
    raise ClientDisconnected("the client has left")


def open_body(
    pieces: Sequence[bytes],
    length: int | None = None,
    end: Callable[[], bytes] = lambda: b"",
    buffer_size: int = io.DEFAULT_BUFFER_SIZE,
) -> io.BufferedReader:
    return BodyReader(BodyStream(pulling(pieces, end), length), buffer_size)


def open_lazily(
    pieces: Sequence[bytes], end: Callable[[], bytes] = lambda: b""
) -> io.BufferedReader:
    # It has all that a BufferedReader has, by delegation.
    return cast("io.BufferedReader", LazyStream(pulling(pieces, end)))


def open_kind(kind: str, body: bytes, cut: Cut) -> io.BufferedReader:
    """Open a body; where its end is known, looking for more is an error."""
    if kind == "declared":
        return open_body(cut(body), len(body), never)
    return open_lazily(cut(body)) if kind == "lazy" else open_body(cut(body))


def call(stream: IO[bytes], method: str, *args: Any) -> Any:
    """Call a method, `list` and `readinto` among them; give what it read."""
    if method == "list":
        return list(stream)
    if method == "next":
        return next(stream, b"")
    if method == "readinto":
        buffer = bytearray(args[0])
        count: int = stream.readinto(buffer)  # type: ignore[attr-defined]  # both classes have it, IO has not
        return bytes(buffer[:count])
    return getattr(stream, method)(*args)


LINES = b"one\n\ntwo\nthree"


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        pytest.param(b"hello\0\xff", [("read", b"hello\0\xff")], id="read"),
        pytest.param(
            b"abcdef",
            [("read", 3, b"abc"), ("read", 1, b"d"), ("read", 10, b"ef")]
            + [("read", 3, b"")],
            id="read sizes, however the pieces come",
        ),
        pytest.param(b"abc", [("read", 0, b""), ("read", b"abc")], id="read nothing"),
        pytest.param(b"abc", [("read", -1, b"abc"), ("read", -1, b"")], id="read -1"),
        pytest.param(b"abc", [("read", None, b"abc")], id="read None"),
        pytest.param(
            LINES,
            [("readline", line) for line in (b"one\n", b"\n", b"two\n", b"three")]
            + [("readline", b""), ("readline", b"")],
            id="readline",
        ),
        pytest.param(
            b"hello\nworld",
            [("readline", 3, b"hel"), ("readline", 100, b"lo\n")]
            + [("readline", 2, b"wo"), ("readline", b"rld")],
            id="readline sizes",
        ),
        pytest.param(
            b"a\nb\n",
            [("readline", 0, b""), ("readline", -1, b"a\n")]
            + [("readline", None, b"b\n")],
            id="readline without size",
        ),
        pytest.param(
            b"a\rb\x0bc\x0cd\x85e\r\nf",
            [("list", [b"a\rb\x0bc\x0cd\x85e\r\n", b"f"])],
            id="only a line feed ends a line",
        ),
        pytest.param(LINES, [("readlines", LINES.splitlines(True))], id="readlines"),
        pytest.param(LINES, [("list", LINES.splitlines(True))], id="iteration"),
        pytest.param(
            b"ab\ncd\nef\ngh\nij\nkl",
            [("read", 1, b"a"), ("readline", b"b\n"), ("next", b"cd\n")]
            + [("read", 1, b"e"), ("readlines", 1, [b"f\n"]), ("peek", b"gh\nij\nkl")]
            + [("readinto", 4, b"gh\ni"), ("read1", 0, b""), ("read", b"j\nkl")],
            id="methods in turns",
        ),
        pytest.param(
            b"end",
            [("read", b"end"), ("read", b""), ("read", 5, b""), ("readline", b"")]
            + [("readlines", []), ("list", []), ("readinto", 5, b""), ("read", b"")]
            + [("read1", 5, b""), ("peek", b""), ("next", b"")],
            id="after the end",
        ),
        *(
            pytest.param(b"", [(method, *args)], id=f"{method} without a body")
            for method, *args in (
                ("read", b""),
                ("read", 5, b""),
                ("readline", b""),
                ("readlines", []),
                ("list", []),
                ("next", b""),
                ("readinto", 5, b""),
            )
        ),
    ],
)
@all_kinds
@three_ways
def test_stream_read_by_any_method_gives_each_byte_once(
    body: bytes, calls: list[tuple[Any, ...]], kind: str, cut: Cut
) -> None:
    stream = open_kind(kind, body, cut)
    for method, *args, expected in calls:
        result = call(stream, method, *args)
        # peek() may show as little as it likes, but not nothing.
        if method == "peek" and result:
            assert expected.startswith(result)
        else:
            assert result == expected


@all_kinds
@three_ways
def test_readlines_with_a_hint_gives_whole_lines_and_loses_none(
    kind: str, cut: Cut
) -> None:
    body = b"a1\nb2\nc3\nd4\ne5\n"
    stream = open_kind(kind, body, cut)
    # PEP 3333, Input and Error Streams, note 3: how many more lines is open.
    lines = stream.readlines(6)
    assert all(len(line) == 3 for line in lines)
    assert len(lines) >= 2
    assert b"".join(lines) + stream.read() == body


# Beyond the body, and beyond what is read in one block, up to all that there can be.
FAR = st.sampled_from([BLOCK_BYTES, BLOCK_BYTES + 1, 9 * 10**14, sys.maxsize])
SIZES = st.none() | st.integers(-1, 12) | FAR
CALLS: st.SearchStrategy[Call] = st.one_of(
    st.tuples(st.sampled_from(["read", "readline", "readlines"]), SIZES),
    st.tuples(st.sampled_from(["readinto", "read1", "peek"]), st.integers(0, 12)),
    st.tuples(st.sampled_from(["read1", "peek"]), FAR),
    st.tuples(st.sampled_from(["list", "next"]), st.none()),
)
PIECES = st.lists(
    st.binary(min_size=1, max_size=8)
    | st.text("ab\n\r", min_size=1, max_size=8).map(str.encode),
    max_size=8,
)


@PROFILE
@given(
    pieces=PIECES,
    calls=st.lists(CALLS, max_size=12),
    surplus=st.none() | st.just(b"") | st.binary(min_size=1, max_size=4),
    buffer_size=st.sampled_from([0, 1, 2, 7, io.DEFAULT_BUFFER_SIZE]),
)
def test_stream_under_arbitrary_calls_behaves_as_bytesio_does(
    pieces: list[bytes], calls: list[Call], surplus: bytes | None, buffer_size: int
) -> None:
    body = b"".join(pieces)
    if not buffer_size:
        stream = open_lazily(pieces)
    elif surplus is None:
        stream = open_body(pieces, buffer_size=buffer_size)
    else:
        # What follows the declared length is not part of the body.
        pieces = [*pieces[:-1], pieces[-1] + surplus] if pieces else [b"surplus"]
        stream = open_body(pieces, len(body), never, buffer_size)
    model = io.BytesIO(body)
    for method, size in calls:
        rest = body[model.tell() :]
        args = () if method in ("list", "next") else (size,)
        result = call(stream, method, *args)
        if method == "peek":
            assert rest.startswith(result)
            assert bool(result) is bool(rest)
        elif method == "read1":
            # It reads once, so it may stop early; but not at nothing.
            assert result == model.read(len(result))
            assert len(result) <= size
            assert bool(result) is bool(rest and size)
        elif method == "readlines" and size and size > 0:
            # io.IOBase and io.BytesIO differ in where a hint stops them.
            lines = [model.readline() for _ in result]
            assert result == lines
            assert sum(map(len, result)) >= min(size, len(rest))
        else:
            assert result == call(model, method, *args)
    assert stream.read() == model.read()


def test_large_body_read_in_blocks_is_intact() -> None:
    pieces = [bytes([number]) * 49152 for number in range(128)]
    stream = open_body(pieces)
    blocks = list(iter(lambda: stream.read(8192), b""))
    assert b"".join(blocks) == b"".join(pieces)
    assert {len(block) for block in blocks} == {8192}


@pytest.mark.parametrize(
    ("method", "size"),
    [
        pytest.param("read", -1, id="read"),
        pytest.param("read", 50_000, id="read of a size"),
        pytest.param("read", BLOCK_BYTES + 1, id="read of a size far above the body"),
        pytest.param("readline", -1, id="readline"),
    ],
)
def test_read_of_tiny_pieces_costs_the_same_for_each(method: str, size: int) -> None:
    def count_calls(pieces: int) -> int:
        count = 0

        def profile(*_: object) -> None:
            nonlocal count
            count += 1

        stream = open_body([b"x"] * pieces)
        sys.setprofile(profile)
        try:
            body = getattr(stream, method)(size)
        finally:
            sys.setprofile(None)
        assert body == b"x" * pieces
        return count

    some, twice, thrice = (count_calls(number * 10_000) for number in (1, 2, 3))
    assert thrice - twice == pytest.approx(twice - some, rel=0.01)


# How much is pulled.


@pytest.mark.parametrize(
    ("method", "size", "result"),
    [
        pytest.param("read", 3, b"abc", id="read"),
        pytest.param("readline", 3, b"abc", id="readline of a size"),
        pytest.param("readinto", 3, b"abc", id="readinto"),
        pytest.param("read1", 100, b"abc\nd", id="read1"),
        pytest.param("read1", 9 * 10**14, b"abc\nd", id="read1 of any size"),
        pytest.param("readline", -1, b"abc\n", id="readline"),
        pytest.param("peek", 100, b"abc\nd", id="peek"),
    ],
)
def test_read_that_the_first_message_satisfies_pulls_no_more(
    method: str, size: int, result: bytes
) -> None:
    assert call(open_body([b"abc\nd"], end=never), method, size) == result


@pytest.mark.parametrize("size", [1, 2 * BLOCK_BYTES], ids=["small", "large"])
def test_read_of_another_thread_waits_for_a_large_one(size: int) -> None:
    waits, waits_too = Gate("a thread waits"), Gate("another thread waits")
    comes = Gate("the bytes come")
    pieces = iter([b"a", b"b" * BLOCK_BYTES, b"c" * BLOCK_BYTES])
    parts: list[bytes] = []

    def pull() -> bytes:
        piece = next(pieces, b"")
        if piece != b"a":
            (waits_too if waits.is_open else waits).open()
            comes.wait()
        return piece

    body = BodyReader(BodyStream(pull))
    large = threading.Thread(target=lambda: parts.append(body.read(BLOCK_BYTES + 1)))
    other = threading.Thread(target=lambda: parts.append(body.read(size)))
    large.start()
    waits.wait()
    other.start()
    with pytest.raises(AssertionError):
        waits_too.wait(QUIET_S)
    comes.open()
    large.join()
    other.join()
    assert parts[0] == b"a" + b"b" * BLOCK_BYTES
    assert parts[1] + body.read() == b"c" * BLOCK_BYTES


def test_read_of_many_blocks_pulls_no_more_than_it_gives() -> None:
    size = 2 * BLOCK_BYTES
    pieces = [b"ab", bytes(BLOCK_BYTES), bytes(BLOCK_BYTES - 3) + b"cd"]
    stream = open_body(pieces, end=never)
    assert stream.read(1) == b"a"
    assert stream.read(size - 1) == b"b" + bytes(size - 3) + b"c"
    assert stream.read(1) == b"d"


@pytest.mark.parametrize("method", ["read", "read1", "readline", "readlines", "peek"])
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(1 << 30, id="that could be had"),
        pytest.param(9 * 10**14, id="beyond any machine's"),
    ],
)
@all_kinds
def test_read_of_a_size_takes_memory_only_for_what_comes(
    kind: str, size: int, method: str
) -> None:
    stream = open_kind(kind, b"abc", CUTS["one message"])
    tracemalloc.start()
    try:
        result = getattr(stream, method)(size)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert b"".join(result if method == "readlines" else [result]) == b"abc"
    assert peak < 2 * BLOCK_BYTES


@pytest.mark.parametrize("method", ["read", "read1"])
@pytest.mark.parametrize(
    "size",
    ["3", 3.0, 9e14, b"3", [], -2, -(10**6), True, None],
    ids=lambda size: f"{type(size).__name__} {size!r}",
)
def test_read_of_an_odd_size_is_answered_as_the_library_does(
    method: str, size: Any
) -> None:
    def answer(stream: IO[bytes]) -> Any:
        try:
            return getattr(stream, method)(size)
        except (TypeError, ValueError) as error:
            return type(error)

    stream = open_body([b"abcdef"])
    model = io.BufferedReader(io.BytesIO(b"abcdef"))
    assert answer(stream) == answer(model)
    assert stream.read() == model.read()


def test_read_of_a_size_that_only_acts_as_a_number_gives_so_many() -> None:
    class Three:
        def __index__(self) -> int:
            return 3

    stream: Any = open_body([b"abcdef"])
    assert stream.read(Three()) + stream.read1(Three()) == b"abcdef"


@pytest.mark.parametrize("size", [-1, 0, 5, 9, BLOCK_BYTES + 1])
def test_read_of_a_declared_length_ends_there_without_another_message(
    size: int,
) -> None:
    stream = open_body([b"hel", b"loXYZ"], 5, never)
    assert stream.read(size) + stream.read() == b"hello"
    assert stream.read() == b""


@pytest.mark.parametrize("method", ["read", "readline", "readlines", "list"])
def test_read_of_length_zero_pulls_nothing(method: str) -> None:
    assert not call(open_body([], 0, never), method)


# Bodies that are cut off.

READS = pytest.mark.parametrize(
    ("method", "args"),
    [
        ("read", ()),
        ("read", (10,)),
        ("read", (9 * 10**14,)),
        ("readline", ()),
        ("readline", (10,)),
        ("readlines", ()),
        ("list", ()),
        ("next", ()),
        ("readinto", (10,)),
    ],
    ids=lambda value: value if isinstance(value, str) else f"size {value}",
)


@READS
@three_ways
def test_body_whose_client_left_raises_again_and_again(
    method: str, args: tuple[int, ...], cut: Cut
) -> None:
    for stream in (
        open_body(cut(b"abcd"), end=leave),
        open_lazily(cut(b"abcd"), leave),
    ):
        for _ in range(3):  # never a short read, nor an end of file afterwards
            with pytest.raises(ClientDisconnected):
                call(stream, method, *args)


@READS
@three_ways
def test_body_shorter_than_its_length_raises_again_and_again(
    method: str, args: tuple[int, ...], cut: Cut
) -> None:
    stream = open_body(cut(b"abcd"), 10)
    for _ in range(3):
        with pytest.raises(IncompleteBody, match="6 bytes short of the 10"):
            call(stream, method, *args)


@pytest.mark.parametrize("length", [None, 10], ids=["no length", "length declared"])
def test_bytes_that_came_before_the_client_left_can_be_read(length: int | None) -> None:
    stream = open_body([b"ab\n", b"cd"], length, leave)
    assert stream.readline() == b"ab\n"
    assert stream.read(2) == b"cd"
    with pytest.raises(ClientDisconnected):
        stream.read(1)


def test_body_that_is_complete_can_be_read_though_the_client_left() -> None:
    assert open_body([b"ab", b"cd"], 4, leave).read() == b"abcd"


# What else makes it a file.


@all_kinds
def test_stream_says_what_it_can_do(kind: str) -> None:
    stream = open_kind(kind, b"abc", CUTS["one message"])
    assert isinstance(stream, io.BufferedIOBase)
    assert (stream.readable(), stream.writable()) == (True, False)
    assert (stream.seekable(), stream.isatty(), stream.closed) == (False, False, False)
    for unsupported in (stream.tell, stream.fileno, lambda: stream.seek(0)):
        with pytest.raises(OSError):
            unsupported()
    with pytest.raises(OSError):
        stream.write(b"abc")
    with stream as entered:
        assert next(entered) == b"abc"
    assert stream.closed
    with pytest.raises(ValueError, match="closed"):
        stream.read()


def test_lazy_stream_pulls_nothing_before_it_is_read() -> None:
    stream = open_lazily([], never)
    iter(stream)
    assert not stream.closed
    stream.close()


@all_kinds
@three_ways
def test_stream_in_a_text_wrapper_gives_text(kind: str, cut: Cut) -> None:
    stream = open_kind(kind, "naïve\r\n中文\n".encode(), cut)
    text = io.TextIOWrapper(stream, "utf-8", newline="")
    assert list(text) == ["naïve\r\n", "中文\n"]


@three_ways
def test_raw_stream_reads_without_a_buffer(cut: Cut) -> None:
    raw = BodyStream(pulling(cut(b"abcdef")))
    buffer = bytearray(b"....")
    count = raw.readinto(memoryview(buffer))
    assert 1 <= count <= 4
    assert buffer == b"abcdef"[:count] + b"." * (4 - count)
    assert raw.readall() == b"abcdef"[count:]
    assert raw.readall() == b""
    assert raw.readinto(memoryview(buffer)) == 0
