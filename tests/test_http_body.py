"""Request bodies, from receive() to wsgi.input."""

import asyncio
import io
import threading
from contextlib import suppress
from wsgiref.types import InputStream, StartResponse, WSGIEnvironment

import pytest

from tests.apps import (
    Body,
    answer_413_unread,
    echo,
    echo_while_reading,
    hello,
    never_called,
    read_blocks,
    start,
)
from tests.drivers import (
    CHUNKED,
    QUIET_S,
    Gate,
    Header,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    Message,
    Split,
    assert_ends,
    declared_or_not,
    disconnect,
    in_each_buffer,
    in_each_split,
    length,
    on_each_loop,
    piece,
    pieces,
    posting,
    run,
    serve,
    uploading,
)
from wsgi_asgi import ClientDisconnected, Limits
from wsgi_asgi._body import RequestBody
from wsgi_asgi._bridge import MAX_ITEMS, Crossing
from wsgi_asgi._mailbox import LIMIT_BYTES
from wsgi_asgi._pool import Places

LINES = b"one\ntwo\r\n\nthree\x85 and\x0b a \0 half"


@on_each_loop
@declared_or_not
@in_each_buffer
@in_each_split
def test_body_however_it_arrives_is_read_whole(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    split: Split,
    declared: bool,
    buffer: int,
) -> None:
    server = posting(*split(LINES), declared=declared)
    serve(adapter(echo, limits=Limits(buffer=buffer)), server, loop_factory)
    assert server.body == LINES


def _by_every_method(stream: InputStream) -> bytes:
    parts = [stream.read(2), stream.readline(), next(iter(stream))]
    parts += [stream.readline(1), *stream.readlines(2), stream.read(3)]
    parts += [stream.readline(), stream.read(), *stream, stream.read(5)]
    return b"|".join(parts)


@declared_or_not
@in_each_buffer
@in_each_split
def test_body_read_by_every_method_gives_each_byte_once(
    adapter: MakeAdapter, split: Split, declared: bool, buffer: int
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        return [_by_every_method(environ["wsgi.input"])]

    served = adapter(app, validate=False, limits=Limits(buffer=buffer))
    server = posting(*split(LINES), declared=declared)
    serve(served, server)
    assert server.body == _by_every_method(io.BytesIO(LINES))


@declared_or_not
@in_each_split
def test_body_read_past_its_end_is_empty_again_and_again(
    adapter: MakeAdapter, split: Split, declared: bool
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        stream = environ["wsgi.input"]
        assert stream.read() == b"abcd"
        after = [stream.read(), stream.read(5), stream.readline()]
        assert [*after, *stream.readlines(), *stream] == [b"", b"", b""]
        start(start_response)
        return [b"ok"]

    server = posting(*split(b"abcd"), declared=declared)
    serve(adapter(app, validate=False), server)
    assert server.body == b"ok"


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(
            [{"type": "http.request", "more_body": True}, piece(b"abc", more=False)],
            id="no body in the first",
        ),
        pytest.param([{"type": "http.request", "body": b"abc"}], id="no more_body"),
        pytest.param(
            [piece(b"abc"), {"type": "http.request"}], id="neither in the last"
        ),
        pytest.param(
            [piece(b"ab") | {"x": 1}, piece(b"c", more=False) | {"y": 2}],
            id="unknown keys",
        ),
    ],
)
def test_body_message_with_other_keys_is_read(
    adapter: MakeAdapter, messages: list[Message]
) -> None:
    server = uploading(*messages)
    serve(adapter(echo, spool=False), server)
    assert server.body == b"abc"


def test_body_of_6_mb_read_in_blocks_is_identical(adapter: MakeAdapter) -> None:
    body = bytes(range(256)) * 192
    bodies = [body[number:] + body[:number] for number in range(128)]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        return read_blocks(environ)

    server = posting(*bodies)
    serve(adapter(app), server)
    assert server.body == b"".join(bodies)


@pytest.mark.parametrize(
    "header", [CHUNKED, length(6)], ids=["chunked", "declared beyond the buffer"]
)
def test_body_still_arriving_can_be_read_as_far_as_it_is(
    adapter: MakeAdapter, header: Header
) -> None:
    begun = Gate("the first bytes were read")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        first = environ["wsgi.input"].read(3)
        begun.open()
        start(start_response)
        return [first, b"-", environ["wsgi.input"].read(3)]

    server = uploading(piece(b"abc"), begun, *pieces(b"def"), header=header)
    serve(adapter(app, limits=Limits(buffer=4), spool=False), server)
    assert server.body == b"abc-def"


@in_each_buffer
@pytest.mark.parametrize(
    "first", [b"hello", b"helloXYZ"], ids=["just the length", "more than the length"]
)
def test_body_of_declared_length_needs_no_further_message(
    adapter: MakeAdapter, first: bytes, buffer: int
) -> None:
    never = Gate("more of the body comes")
    server = uploading(piece(first), never, header=length(5))
    serve(adapter(echo, limits=Limits(buffer=buffer), spool=False), server)
    assert server.body == b"hello"


@in_each_buffer
@in_each_split
@pytest.mark.parametrize("body", [b"", b"hello"])
def test_answer_waits_for_the_mark_of_the_end_on_http2(
    adapter: MakeAdapter, body: bytes, split: Split, buffer: int
) -> None:
    marked = Gate("the end of the body is marked")
    server = HttpServer(
        *map(piece, split(body)),
        marked,
        piece(b"", more=False),
        method="POST",
        headers=[length(len(body))],
        http_version="2",
    )

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.sent(1).stays_shut()
            marked.open()

    served = adapter(echo, limits=Limits(buffer=buffer))
    run(main())
    assert server.body == body


def test_body_of_declared_length_zero_needs_no_message(adapter: MakeAdapter) -> None:
    server = uploading(Gate("an empty body comes"), header=length(0))
    serve(adapter(echo, spool=False), server)
    assert server.body == b""
    assert server.receives == 0


@in_each_buffer
@in_each_split
def test_body_beyond_its_declared_length_is_cut(
    adapter: MakeAdapter, split: Split, buffer: int
) -> None:
    server = uploading(*pieces(*split(b"helloXYZ")), header=length(5))
    serve(adapter(echo, limits=Limits(buffer=buffer), spool=False), server)
    assert server.body == b"hello"


@in_each_buffer
@in_each_split
def test_body_short_of_its_declared_length_is_an_error_for_the_reader(
    adapter: MakeAdapter, split: Split, buffer: int
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        with pytest.raises(OSError, match="5 bytes short of the 10"):
            environ["wsgi.input"].read(10)
        start(start_response, status="400 Bad Request")
        return [b"too short"]

    server = uploading(*pieces(*split(b"hello")), header=length(10))
    serve(adapter(app, limits=Limits(buffer=buffer), spool=False), server)
    assert (server.status, server.body) == (400, b"too short")


@pytest.mark.parametrize(
    ("header", "version"),
    [
        pytest.param(CHUNKED, "1.1", id="chunked"),
        pytest.param(length(100_000), "1.1", id="declared beyond the buffer"),
        pytest.param((b"x-a", b"1"), "2", id="http 2 without length"),
    ],
)
def test_body_still_arriving_can_be_refused_at_once(
    adapter: MakeAdapter, header: Header, version: str
) -> None:
    never = Gate("more of the body comes")
    server = HttpServer(
        piece(b"ab"), never, method="POST", http_version=version, headers=[header]
    )
    serve(adapter(answer_413_unread, spool=False), server)
    assert (server.status, server.body) == (413, b"too much")
    assert server.complete.is_open


@on_each_loop
@pytest.mark.parametrize("read", [0, 10])
@pytest.mark.parametrize("last", [2, 3], ids=["whole", "stream"])
def test_last_message_that_is_sent_only_once_the_body_is_received_is_sent(
    adapter: MakeAdapter, loop_factory: LoopFactory, read: int, last: int
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        if read:
            environ["wsgi.input"].read(read)
        return [b"done"] if last == 2 else stream()

    def stream() -> Body:
        yield b"done"
        server.sent(2).wait()

    # Hypercorn ends the request in send(), and for that waits until there is room
    # among what it has received and receive() has not taken.
    server = HttpServer(
        *pieces(*[b"x" * 16384] * 30),
        tells_end=False,
        method="POST",
        headers=[length(30 * 16384)],
    )
    server.received(25).on_open(server.stall_at(last).open)
    serve(adapter(app), server, loop_factory)
    assert server.body == b"done"
    assert server.received(25).is_open


def test_body_read_after_the_first_chunk_is_whole(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield b"first-"
        yield b"".join(read_blocks(environ))

    server = HttpServer(piece(b"hel"), method="POST", headers=[CHUNKED])
    server.will_receive(server.sent(2), *pieces(b"lo"))
    serve(adapter(app, spool=False), server)
    assert server.body == b"first-hello"


@on_each_loop
def test_body_and_response_are_streamed_in_turns(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    server = uploading(piece(b"a"))
    for number, body in enumerate([b"b", b"c", b"d"], 2):
        server.will_receive(server.sent(number), piece(body))
    server.will_receive(server.sent(5), piece(b"", more=False))
    serve(adapter(echo_while_reading, spool=False), server, loop_factory)
    assert server.body == b"abcd"


@pytest.mark.parametrize(
    ("header", "buffer"),
    [
        pytest.param(CHUNKED, 65536, id="chunked"),
        pytest.param(length(4_915_200), 65536, id="declared"),
        pytest.param(CHUNKED, 200_000, id="larger buffer"),
    ],
)
def test_body_unread_is_not_received_beyond_the_buffer(
    adapter: MakeAdapter, header: Header, buffer: int
) -> None:
    size = 16384
    begun = Gate("the first bytes were read")
    go_on = Gate("the application reads on")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        first = environ["wsgi.input"].read(10)
        begun.open()
        go_on.wait()
        count = len(first) + sum(map(len, read_blocks(environ)))
        start(start_response)
        return [b"%d" % count]

    server = uploading(*pieces(*[b"x" * size] * 300), header=header)
    most = buffer // size + 3  # one in hand, one read, one that passes the limit
    assert most < 64

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await begun.reached()
            await server.received(most + 1).stays_shut()
            go_on.open()

    served = adapter(app, limits=Limits(buffer=buffer), spool=False)
    run(main())
    assert server.body == b"4915200"


@pytest.mark.parametrize("size", [100, 8192, 100_000])
def test_body_read_in_blocks_is_never_received_far_ahead(
    adapter: MakeAdapter, size: int
) -> None:
    buffer = 65536
    most = 0

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        nonlocal most
        read = 0
        for block in read_blocks(environ):
            read += len(block)
            most = max(most, server.receives * size - read)
        start(start_response)
        return [b"%d" % read]

    server = posting(*[b"x" * size] * 500, declared=False)
    serve(adapter(app, limits=Limits(buffer=buffer), spool=False), server)
    assert server.body == b"%d" % (500 * size)
    # Beside the window, which grows as the application is as fast as the server, there
    # are the message that passes its limit, the one that the application is reading,
    # the one that is awaited, and a file's buffer.
    assert most <= LIMIT_BYTES + 3 * size + 8192


def test_body_read_slowly_is_never_received_beyond_the_buffer(
    adapter: MakeAdapter,
) -> None:
    size, buffer = 10_000, 65536

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        for read in range(0, 20 * size, size):
            # What the buffer holds, the message that passes its limit, and a file's.
            most = (read + buffer + 8192) // size + 1
            with pytest.raises(AssertionError):
                server.received(most + 1).wait(QUIET_S)
            assert server.receives > read // size
            environ["wsgi.input"].read(size)
        start(start_response)
        return [b"%d" % sum(map(len, read_blocks(environ)))]

    server = posting(*[b"x" * size] * 100, declared=False)
    serve(adapter(app, limits=Limits(buffer=buffer), spool=False), server)
    assert server.body == b"800000"


def test_body_in_tiny_messages_unread_is_not_received_without_end(
    adapter: MakeAdapter,
) -> None:
    begun = Gate("the application runs")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        with pytest.raises(AssertionError):
            server.received(MAX_ITEMS + 2).wait(QUIET_S)
        start(start_response)
        return [b"%d" % sum(map(len, read_blocks(environ)))]

    server = posting(*[b"x"] * 2000, declared=False)
    serve(adapter(app, spool=False), server)
    assert server.body == b"2000"


@in_each_buffer
def test_body_with_a_bogus_message_is_an_error(
    adapter: MakeAdapter, buffer: int
) -> None:
    bogus = {"type": "http.bogus", "body": b"XX", "more_body": False}
    server = uploading(piece(b"ab"), bogus, header=length(4))
    with pytest.raises(RuntimeError, match=r"http\.bogus"):
        serve(adapter(echo, limits=Limits(buffer=buffer), spool=False), server)
    assert not server.messages


def test_body_with_a_bogus_message_at_its_start_is_an_error(
    adapter: MakeAdapter,
) -> None:
    server = uploading({"type": "http.bogus"})
    with pytest.raises(RuntimeError, match=r"http\.bogus"):
        serve(adapter(never_called, spool=False), server)


def test_body_with_both_length_and_coding_is_read_as_coded(
    adapter: MakeAdapter,
) -> None:
    server = posting(b"he", b"llo", declared=False, headers=[length(3)])
    serve(adapter(echo, spool=False), server)
    assert server.body == b"hello"


@pytest.mark.parametrize("headers", [[], [CHUNKED]], ids=["no body", "chunked"])
def test_body_of_no_declared_length_is_said_to_end_by_itself(
    adapter: MakeAdapter, headers: list[Header]
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert environ["wsgi.input_terminated"] is True
        return echo(environ, start_response)

    server = HttpServer(method="POST", headers=headers)
    serve(adapter(app), server)
    assert server.body == b""


def test_body_complete_before_the_client_left_is_readable(adapter: MakeAdapter) -> None:
    seen: list[bytes] = []
    begun = Gate("the application runs")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        server.told.wait()
        seen.append(environ["wsgi.input"].read(10))
        start(start_response)
        return [b"nobody listens"]

    server = uploading(piece(b"ab"), *pieces(b"cd"), begun, disconnect())
    serve(adapter(app, spool=False), server)
    assert seen == [b"abcd"]


@declared_or_not
def test_body_can_be_read_by_a_thread_of_the_application(
    adapter: MakeAdapter, declared: bool
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        parts: list[bytes] = []
        helper = threading.Thread(target=lambda: parts.extend(read_blocks(environ)))
        helper.start()
        helper.join()
        start(start_response)
        return parts

    server = posting(b"ab", b"cd", declared=declared)
    serve(adapter(app, limits=Limits(buffer=3)), server)
    assert server.body == b"abcd"


class SlowPlaces(Places):
    """Places that are taken while the exchange ends.

    Attributes:
        taking: Open when one is about to be taken.
        over: Open it when the exchange has ended.
    """

    def __init__(self) -> None:
        super().__init__(1)
        self.taking, self.over = Gate("a place is taken"), Gate()

    def take(self) -> bool:
        self.taking.open()
        with suppress(AssertionError):  # the exchange waits for this
            self.over.wait(QUIET_S)
        return super().take()


def test_place_that_a_thread_takes_as_the_exchange_ends_is_given_back(
    adapter: MakeAdapter,
) -> None:
    readers: list[threading.Thread] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        def read() -> None:
            with pytest.raises(ClientDisconnected):
                environ["wsgi.input"].read()

        readers.append(threading.Thread(target=read))
        readers[0].start()
        places.taking.wait()
        return hello(environ, start_response)

    served = adapter(app, validate=False)
    places = served._http.intake.uploads = SlowPlaces()
    serve(served, HttpServer(Gate("the body comes")))
    places.over.open()
    readers[0].join()
    assert places.taken == 0


def test_place_taken_while_the_same_thread_closes_the_body_is_given_back(
    adapter: MakeAdapter,
) -> None:
    # It may have to collect garbage, which may be this request, thrown away.
    class Closing(Places):
        def take(self) -> bool:
            body.close()
            return super().take()

    served = adapter(hello)
    intake = served._http.intake
    places = intake.uploads = Closing(1)

    async def main() -> RequestBody:
        crossing = Crossing(served._bridge, served._bridge.port(), bool, buffer=1)
        return RequestBody(crossing, None, intake)  # type: ignore[arg-type]

    body = run(main())
    body._stream()
    assert_ends(body._take_place)
    assert not body._take_place()
    assert places.taken == 0


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"abc", id="letters"),
        pytest.param(b"-5", id="negative"),
        pytest.param(b"+5", id="plus"),
        pytest.param(b"5_0", id="underscore"),
        pytest.param(b"", id="empty"),
        pytest.param(b"0x5", id="hexadecimal"),
        pytest.param(b"9" * 5000, id="5000 digits"),
        pytest.param(b"5, 6", id="two that differ"),
        pytest.param("٥".encode(), id="digits of another script"),
    ],
)
def test_content_length_invalid_is_answered_400(
    adapter: MakeAdapter, value: bytes
) -> None:
    header = (b"content-length", value)
    server = uploading(*pieces(b"hello"), header=header)
    app = adapter(never_called, spool=False)
    serve(app, server)
    assert server.status == 400
    assert server.complete.is_open
    assert app.stats().rejected == 1
