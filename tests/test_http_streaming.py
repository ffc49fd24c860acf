"""When things go out: headers, chunks, write(), back-pressure, lengths, close()."""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.apps import Body, Stream, answering, endless, start
from tests.drivers import (
    QUIET_S,
    Gate,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    Message,
    most_sent_in_a_turn,
    on_each_loop,
    run,
    serve,
)
from wsgi_asgi import Limits
from wsgi_asgi._bridge import MAX_ITEMS

# The headers.


def test_start_response_alone_sends_nothing(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        with pytest.raises(AssertionError):
            server.sent(1).wait(QUIET_S)
        return [b"Hello"]

    server = HttpServer()
    serve(adapter(app), server)
    assert server.body == b"Hello"


def test_start_response_in_the_first_step_is_accepted(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response, status="201 Created")
        yield b"made"

    server = HttpServer()
    serve(adapter(app), server)
    assert (server.status, server.body) == (201, b"made")


@pytest.mark.parametrize("empty", [b"", bytearray()], ids=["bytes", "bytearray"])
def test_start_response_after_an_empty_chunk_is_accepted(
    adapter: MakeAdapter, empty: bytes
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        yield empty
        start(start_response)
        yield b"x"

    server = HttpServer()
    serve(adapter(app, validate=False), server)
    assert (server.status, server.body) == (200, b"x")


def test_headers_after_empty_chunks_can_still_be_replaced(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response, ("X-A", "1"))
        yield b""
        yield b""
        try:
            raise KeyError("late")
        except KeyError:
            headers = [("Content-Type", "text/plain"), ("X-B", "2")]
            start_response("500 Oh no", headers, sys.exc_info())
        yield b"error page"

    server = HttpServer()
    serve(adapter(app), server)
    assert (server.status, server.body) == (500, b"error page")
    assert (server.header(b"x-a"), server.header(b"x-b")) == (None, b"2")


def test_headers_changed_after_the_call_go_out_as_they_were(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        headers = [("Content-Type", "text/plain"), ("X-A", "1")]
        start_response("200 OK", headers)
        headers[1] = ("X-A", "2\r\nX-Evil: 1")
        headers.append(("X-B", "3"))
        return [b"x"]

    server = HttpServer()
    serve(adapter(app), server)
    assert (server.header(b"x-a"), server.header(b"x-b")) == (b"1", None)


# Chunks.


@on_each_loop
def test_chunk_is_sent_while_the_next_is_made(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        for number in range(5):
            yield b"%d" % number
            server.sent(number + 2).wait()

    server = HttpServer()
    serve(adapter(app), server, loop_factory)
    assert server.body == b"01234"


def test_chunks_made_while_the_client_stalls_arrive_in_order(
    adapter: MakeAdapter,
) -> None:
    sizes = [1, 16_000, 1, 17_000, 3, 16_384, 2, 16_385, 1, 1, 1]
    chunks = [bytes([65 + at]) * size for at, size in enumerate(sizes)]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield from chunks
        made.open()

    server = HttpServer()
    made = server.stall_at(2)
    serve(adapter(app, limits=Limits(buffer=1_000_000)), server)
    assert server.body == b"".join(chunks)
    # Small ones are joined, since a message each would cost more than the copy.
    assert len(server.messages) < len(chunks)


def test_stream_that_never_waits_lets_other_tasks_have_their_turn(
    adapter: MakeAdapter,
) -> None:
    total, put = 100, 0

    class Busy(HttpServer):
        def _after_send(self, message: Message) -> None:
            super()._after_send(message)
            # The application is always ahead, so there is nothing to wait for.
            while put < min(len(self.messages) + 1, total):
                time.sleep(0.0001)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        nonlocal put
        start(start_response)
        for _ in range(total):
            yield b"x" * 5000
            put += 1

    server = Busy()
    served = adapter(app, limits=Limits(buffer=50_000))
    assert run(most_sent_in_a_turn(server, served)) < total // 2
    assert len(server.body) == total * 5000


def test_chunk_that_was_sent_is_not_kept_while_others_wait(
    adapter: MakeAdapter,
) -> None:
    references: list[int] = []

    class Counting(HttpServer):
        def _after_send(self, message: Message) -> None:
            super()._after_send(message)
            # The one before this may still be at hand.
            before = self.of_type("body")[:-2]
            references.extend(sys.getrefcount(message["body"]) for message in before)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        for number in range(8):
            yield bytes([number]) * 20_000
        made.open()

    server = Counting()
    made = server.stall_at(2)
    serve(adapter(app, limits=Limits(buffer=1_000_000)), server)
    assert len(server.body) == 8 * 20_000
    # One is the server's, and one the call that counts them.
    assert set(references) == {2}


@pytest.mark.parametrize(
    "body", [[b"ab", b"cd"], (b"ab", b"cd")], ids=["list", "tuple"]
)
@on_each_loop
def test_write_precedes_what_is_returned(
    adapter: MakeAdapter, loop_factory: LoopFactory, body: Body
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        write = start(start_response)
        write(b"one")
        write(b"")
        write(b"two")
        return body

    server = HttpServer()
    serve(adapter(app, validate=False), server, loop_factory)
    assert server.body == b"onetwoabcd"


@pytest.mark.parametrize(
    "rest", [[], [b" and more"], (), iter([])], ids=["none", "one", "tuple", "iterator"]
)
def test_response_after_write_ends_without_the_tick(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch, rest: Body
) -> None:
    # Within a test's time nothing then wakes the task by chance.
    monkeypatch.setattr("wsgi_asgi._port.TICK_S", 1000.0)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)(b"page")
        server.sent(2).wait()
        server.is_idle().wait()
        return rest

    server = HttpServer()
    serve(adapter(app, validate=False), server)  # its wrapper would hide the list
    assert server.body == b"page" + b"".join(
        rest if type(rest) in (list, tuple) else ()
    )


def test_write_is_sent_while_the_application_runs(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        write = start(start_response)
        write(b"one")
        server.sent(2).wait()
        write(b"two")
        server.sent(3).wait()
        return []

    server = HttpServer()
    serve(adapter(app), server)
    assert server.body == b"onetwo"


def test_write_of_text_is_refused_and_not_sent(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        write = start(start_response)
        with pytest.raises(TypeError, match="str and not bytes"):
            write("text")  # type: ignore[arg-type]
        write(b"bytes")
        return []

    server = HttpServer()
    serve(adapter(app, validate=False), server)
    assert server.body == b"bytes"


def test_write_after_the_response_is_refused(adapter: MakeAdapter) -> None:
    writes = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        writes.append(start(start_response))
        return [b"x"]

    serve(adapter(app), HttpServer())
    with pytest.raises(RuntimeError, match="after the response had ended"):
        writes[0](b"late")


# Back-pressure.


@pytest.mark.parametrize(
    ("size", "buffer", "most"),
    [
        pytest.param(10_000, 65_536, 7, id="some chunks of the buffer"),
        pytest.param(10_000, 200_000, 21, id="larger buffer"),
        pytest.param(1_000_000, 65_536, 1, id="chunks larger than the buffer"),
        pytest.param(1, 65_536, 2 * MAX_ITEMS, id="tiny chunks"),
    ],
)
@pytest.mark.parametrize("by_write", [False, True], ids=["iterable", "write"])
def test_client_that_stalls_holds_the_application(
    adapter: MakeAdapter, size: int, buffer: int, most: int, by_write: bool
) -> None:
    count = 3 * most
    stream = Stream(bytes([number % 256]) * size for number in range(count))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        write = start(start_response)
        if not by_write:
            return stream
        for chunk in stream:
            write(chunk)
        return []

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.sent(2).reached()
            # What is taken too many, is taken by then or never.
            await Gate().stays_shut()
            # write() waits with a chunk in its hand.
            assert 1 <= stream.taken <= most + by_write
            go_on.open()

    server = HttpServer()
    go_on = server.stall_at(2)
    served = adapter(app, limits=Limits(buffer=buffer))
    run(main())
    body = b"".join(bytes([number % 256]) * size for number in range(count))
    assert server.body == body


# Content-Length.


@pytest.mark.parametrize("validate", [False, True], ids=["list", "iterator"])
@pytest.mark.parametrize(
    ("declared", "chunks", "expected"),
    [
        pytest.param(5, [b"01234", b"56789"], b"01234", id="a chunk too many"),
        pytest.param(5, [b"0123456789"], b"01234", id="one chunk too long"),
        pytest.param(5, [b"012", b"3456789"], b"01234", id="last chunk too long"),
        pytest.param(0, [b"x"], b"", id="zero with a chunk"),
        pytest.param(0, [], b"", id="zero with none"),
    ],
)
def test_body_longer_than_declared_is_cut(
    adapter: MakeAdapter,
    declared: int,
    chunks: list[bytes],
    expected: bytes,
    validate: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = answering(chunks, ("Content-Length", str(declared)))
    served = adapter(app, validate=validate)
    for _ in range(2):
        serve(served, server := HttpServer())
        assert server.body == expected
        assert server.header(b"content-length") == b"%d" % declared
        assert server.complete.is_open
    # Said once, if any bytes were lost: an iterator is not asked for a chunk that
    # there is no room for.
    asked = list(itertools.accumulate(chunks))
    if validate:
        asked = asked[: 1 + sum(len(sofar) < declared for sofar in asked)]
    assert caplog.text.count("longer than its Content-Length") == (
        bool(asked) and len(asked[-1]) > declared
    )
    caplog.clear()


def test_body_as_long_as_declared_is_not_asked_for_more(adapter: MakeAdapter) -> None:
    stream = Stream([b"012", b"34", b"56"])
    server = HttpServer()
    serve(adapter(answering(stream, ("Content-Length", "5"))), server)
    assert (stream.taken, stream.closes) == (2, 1)
    assert server.complete.is_open


def test_write_beyond_the_declared_length_sends_nothing_beyond_it(
    adapter: MakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        write = start(start_response, ("Content-Length", "5"))
        write(b"0123")
        write(b"4567")
        return [b"89"]

    server = HttpServer()
    serve(adapter(app), server)
    assert server.body == b"01234"
    assert server.complete.is_open
    assert "longer than its Content-Length" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [
        pytest.param("GET", "200 OK", [("Content-Length", "4")], id="declared length"),
        pytest.param("HEAD", "200 OK", [], id="HEAD"),
        pytest.param("GET", "304 Not Modified", [], id="status without body"),
    ],
)
@pytest.mark.parametrize("chunk", [b"", b"more"], ids=["empty", "chunk"])
def test_iterable_after_write_has_given_all_is_not_exhausted(
    adapter: MakeAdapter,
    caplog: pytest.LogCaptureFixture,
    method: str,
    status: str,
    headers: list[tuple[str, str]],
    chunk: bytes,
) -> None:
    stream = Stream(endless(chunk))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start_response(status, headers)(b"0123")
        return stream

    server = HttpServer(method=method)
    serve(adapter(app, validate=False), server)
    assert (stream.taken, stream.closes) == (1, 1)
    assert server.complete.is_open
    caplog.clear()


def _returning(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    start(start_response, ("Content-Length", "10"))
    return [b"01234"]


def _generating(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    start(start_response, ("Content-Length", "10"))
    yield b"01"
    yield b"234"


def _writing(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    start(start_response, ("Content-Length", "10"))(b"01234")
    return []


@pytest.mark.parametrize(
    "app",
    [_returning, _generating, _writing],
    ids=["list", "generator", "write"],
)
def test_body_shorter_than_declared_is_an_error_and_unfinished(
    adapter: MakeAdapter, app: object
) -> None:
    server = HttpServer()
    with pytest.raises(RuntimeError, match="5 bytes short of its Content-Length"):
        serve(adapter(app, validate=False), server)  # type: ignore[arg-type]
    assert not server.complete.is_open


def test_head_of_an_endless_body_takes_one_chunk_and_closes(
    adapter: MakeAdapter,
) -> None:
    stream = Stream(endless())
    server = HttpServer(method="HEAD")
    serve(adapter(answering(stream)), server)
    assert (stream.taken, stream.closes) == (1, 1)
    assert server.complete.is_open


# close().


def _failing() -> Iterator[bytes]:
    yield b"x"
    raise KeyError("in the iteration")


def test_close_after_a_response_is_called_once(adapter: MakeAdapter) -> None:
    stream = Stream([b"a", b"b"])
    serve(adapter(answering(stream)), HttpServer())
    assert stream.closes == 1


@on_each_loop
def test_close_after_a_failed_iteration_is_called_once(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    stream = Stream(_failing())
    with pytest.raises(KeyError):
        serve(adapter(answering(stream)), HttpServer(), loop_factory)
    assert stream.closes == 1


@pytest.mark.parametrize("chunks", [[], [b"x"]], ids=["no chunk", "a chunk"])
def test_close_without_start_response_is_called_once(
    adapter: MakeAdapter, chunks: list[bytes]
) -> None:
    stream = Stream(chunks)
    server = HttpServer()
    with pytest.raises(RuntimeError, match=r"start_response\(\) was never called"):
        serve(adapter(lambda environ, start: stream, validate=False), server)
    assert stream.closes == 1
    assert not server.messages


class _NotIterable:
    """Has no __iter__ that works, and is closed all the same."""

    closes = 0

    def __iter__(self) -> Iterator[bytes]:
        raise KeyError("no iteration")

    def close(self) -> None:
        self.closes += 1


def test_close_after_iter_failed_is_called_once(adapter: MakeAdapter) -> None:
    body = _NotIterable()
    server = HttpServer()
    with pytest.raises(KeyError, match="no iteration"):
        serve(adapter(answering(body), validate=False), server)
    assert body.closes == 1
    assert not server.messages


class _Outer:
    """Closed itself, not what it gives to iterate over."""

    def __init__(self) -> None:
        self.closes = 0
        self.inner = Stream([b"a"])

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.inner)

    def close(self) -> None:
        self.closes += 1


def test_close_is_of_what_was_returned(adapter: MakeAdapter) -> None:
    body = _Outer()
    serve(adapter(answering(body)), HttpServer())
    assert (body.closes, body.inner.closes) == (1, 0)


class _ClosableList(list[bytes]):
    closes = 0

    def close(self) -> None:
        self.closes += 1


def test_close_of_a_list_with_close_is_called_once(adapter: MakeAdapter) -> None:
    body = _ClosableList([b"a", b"b"])
    server = HttpServer()
    serve(adapter(answering(body), validate=False), server)
    assert body.closes == 1
    assert server.body == b"ab"


def test_close_runs_when_the_last_message_is_sent(adapter: MakeAdapter) -> None:
    server = HttpServer()
    stream = Stream([b"a", b"b"], at_close=server.complete.wait)
    serve(adapter(answering(stream)), server)
    assert stream.closes == 1


def test_close_waits_until_the_last_chunk_is_taken(adapter: MakeAdapter) -> None:
    def chunks() -> Body:
        yield b"a"
        server.sent(2).wait()
        yield b"b"

    stream = Stream(chunks())
    server = HttpServer()
    go_on = server.stall_at(3)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(adapter(answering(stream))))
            await server.sent(3).reached()
            await stream.closed.stays_shut()
            go_on.open()

    run(main())
    assert server.body == b"ab"
    assert stream.closes == 1


@pytest.mark.parametrize(
    "error", [KeyError("in close"), SystemExit(3)], ids=["exception", "exit"]
)
def test_close_that_fails_leaves_the_response_complete(
    adapter: MakeAdapter, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    server = HttpServer()
    with pytest.raises((KeyError, RuntimeError)) as caught:
        serve(adapter(answering(Stream([b"a"], at_close=fail))), server)
    assert error in (caught.value, caught.value.__cause__)
    assert server.body == b"a"
    assert server.complete.is_open


def test_close_that_fails_after_an_error_does_not_hide_it(
    adapter: MakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("in close")

    with pytest.raises(KeyError, match="in the iteration"):
        serve(adapter(answering(Stream(_failing(), at_close=fail))), HttpServer())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "ValueError: in close" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("http_version", "expected"), [("1.1", 65536), ("2", 100_000)], ids=["1.1", "2"]
)
def test_long_chunks_go_in_small_messages_to_a_server_that_counts_messages(
    adapter: MakeAdapter, http_version: str, expected: int
) -> None:
    chunks = [bytes([number]) * 100_000 for number in range(5)]
    extensions: dict[str, Any] = {"http.response.pathsend": {}}
    server = HttpServer(extensions=extensions, http_version=http_version)
    serve(adapter(answering(iter(chunks))), server)
    assert server.body == b"".join(chunks)
    assert max(len(message["body"]) for message in server.of_type("body")) == expected
