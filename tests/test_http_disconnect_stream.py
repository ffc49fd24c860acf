"""The client leaves while its response streams, or when it is complete."""

import asyncio
import threading
from collections.abc import Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from asgiref.sync import async_to_sync

from tests.apps import (
    Body,
    Stream,
    answering,
    endless,
    hello,
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
    MakeOptions,
    assert_left,
    disconnect,
    in_each_executor,
    leave,
    length,
    on_each_loop,
    piece,
    run,
    serve,
    uploading,
)
from wsgi_asgi import Limits

EXPECT = (b"expect", b"100-continue")

# While it streams.


def _waiting_for(server: HttpServer) -> Iterator[bytes]:
    """Give a chunk, and the next ones when the client's leaving is known."""
    yield b"first"
    server.sent(2).wait()
    server.left.open()
    server.told.wait()
    yield b"second"
    yield b"third"


@on_each_loop
@in_each_executor
def test_client_leaves_in_the_next_step_no_other_is_taken(
    adapter: MakeAdapter, loop_factory: LoopFactory, make_options: MakeOptions
) -> None:
    server = HttpServer()
    stream = Stream(_waiting_for(server))
    served = adapter(answering(stream), **make_options())
    serve(served, server, loop_factory)
    assert (stream.taken, stream.closes) == (2, 1)
    assert server.body == b"first"
    assert_left(served)


@on_each_loop
def test_client_leaves_an_endless_generator_it_is_closed_in_its_thread(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    finalisers: list[int] = []
    callers: list[int] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        callers.append(threading.get_ident())
        start(start_response)
        try:
            yield from endless()
        except GeneratorExit:
            finalisers.append(threading.get_ident())
            raise

    served = adapter(app)
    server = HttpServer()

    run(leave(served, server, server.sent(3)), loop_factory)
    assert len(callers) == 1
    assert finalisers == callers
    assert_left(served)


@pytest.mark.parametrize(
    "headers",
    [[length(100_000)], [], [CHUNKED, EXPECT]],
    ids=["declared", "unannounced", "never asked for"],
)
def test_client_leaves_an_endless_response_with_its_body_unread_is_noticed(
    adapter: MakeAdapter, headers: list[Header]
) -> None:
    stream = Stream(endless())
    served = adapter(answering(stream), spool=False)
    never = Gate("more of the body comes")
    server = HttpServer(piece(b"ab"), never, method="POST", headers=headers)
    run(leave(served, server, server.sent(3)))
    assert stream.closes == 1
    assert_left(served)


def test_client_leaves_an_endless_response_with_a_large_body_unread_is_noticed(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsgi_asgi._body.UNREAD_S", 0.01)
    stream = Stream(endless())
    served = adapter(answering(stream), limits=Limits(buffer=10), spool=False)
    server = uploading(*[piece(b"x" * 10)] * 50, header=length(1000))
    run(leave(served, server, server.received(51)))
    assert stream.closes == 1
    assert_left(served)


def test_body_dropped_as_unwanted_is_an_error_for_a_late_reader(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsgi_asgi._body.UNREAD_S", 0.01)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield b"first"
        server.received(51).wait()
        with pytest.raises(OSError, match="dropped"):
            environ["wsgi.input"].read(10)
        yield b"last"

    served = adapter(app, limits=Limits(buffer=10), spool=False)
    server = uploading(*[piece(b"x" * 10)] * 50, header=length(1000))
    serve(served, server)
    assert server.body == b"firstlast"


@pytest.mark.parametrize("streams", [False, True], ids=["call", "part read"])
def test_body_that_may_still_be_wanted_is_not_dropped(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch, streams: bool
) -> None:
    monkeypatch.setattr("wsgi_asgi._body.UNREAD_S", 0.01)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        read = 0
        start(start_response)
        if streams:
            read += len(environ["wsgi.input"].read(5))
            yield b"first "
        with pytest.raises(AssertionError):
            Gate().wait(QUIET_S)
        read += sum(map(len, read_blocks(environ)))
        yield b"%d" % read

    served = adapter(app, limits=Limits(buffer=10), spool=False)
    server = uploading(*[piece(b"x" * 10)] * 50, piece(b"", more=False))
    serve(served, server)
    assert server.body == (b"first 500" if streams else b"500")


def test_client_leaves_after_its_body_was_refused_is_noticed(
    adapter: MakeAdapter,
) -> None:
    stream = Stream(endless())

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        with pytest.raises(OSError, match="longer than 3 bytes"):
            environ["wsgi.input"].read(10)
        start(start_response)
        return stream

    served = adapter(app, limits=Limits(body=3), spool=False)
    server = uploading(piece(b"ab"), piece(b"cd"), Gate("more of the body comes"))

    run(leave(served, server, server.sent(3)))
    assert stream.closes == 1


@on_each_loop
@in_each_executor
@pytest.mark.parametrize("by_write", [False, True], ids=["iterable", "write"])
def test_client_leaves_while_it_stalls_thread_is_freed(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    make_options: MakeOptions,
    by_write: bool,
) -> None:
    stream = Stream(endless(b"x" * 50_000))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        write = start(start_response)
        if not by_write:
            return stream
        try:
            for chunk in stream:
                write(chunk)
        finally:
            stream.close()
        return []

    leaves = Gate("receive() tells, while send() still waits")
    served = adapter(app, **make_options())
    server = HttpServer(leaves, disconnect())
    go_on = server.stall_at(2)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.sent(2).reached()
            leaves.open()
            await stream.closed.reached()
            go_on.open()

    run(main(), loop_factory)
    assert stream.closes == 1
    assert_left(served)


# When the response is complete.


def test_client_leaves_during_a_long_close_response_counts_as_complete(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsgi_asgi._http.LAST_SEND_S", 0.01)

    def close() -> None:
        server.complete.wait()
        server.left.open()
        server.told.wait()
        with pytest.raises(AssertionError):
            Gate().wait(QUIET_S)

    server = HttpServer()
    stream = Stream([b"a"], at_close=close)
    served = adapter(answering(stream))
    serve(served, server)
    assert server.body == b"a"
    assert stream.closes == 1
    assert (served.stats().completed, served.stats().disconnected) == (1, 0)


@on_each_loop
def test_client_leaves_in_a_last_send_that_never_returns_thread_is_freed(
    adapter: MakeAdapter, loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsgi_asgi._http.LAST_SEND_S", 0.01)

    def chunks() -> Body:
        yield b"a"
        server.sent(2).wait()

    stream = Stream(chunks())
    served = adapter(answering(stream))
    server = HttpServer()
    server.stall_at(3)
    serve(served, server, loop_factory)
    assert server.body == b"a"
    assert stream.closes == 1
    assert_left(served)


def test_client_leaves_an_http2_stream_and_send_never_returns_it_is_given_up(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsgi_asgi._http.LAST_SEND_S", 0.01)
    # The validator would make a stream of the list.
    served = adapter(answering([b"whole"]), validate=False)
    server = HttpServer(http_version="2")
    server.stall_at(2)
    serve(served, server)
    assert_left(served)


@pytest.mark.parametrize("caught", [True, False], ids=["caught", "uncaught"])
def test_body_read_by_close_when_no_more_of_it_comes_is_an_os_error(
    adapter: MakeAdapter, caught: bool
) -> None:
    raised: list[BaseException] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        def drain() -> None:
            try:
                list(read_blocks(environ))
            except OSError as error:
                raised.append(error)
                if not caught:
                    raise

        start(start_response)
        return Stream([b"a"], at_close=drain)

    # A server's receive() reports the end once the response is complete.
    server = uploading(piece(b"ab"), Gate("more of the body comes"))
    serve(adapter(app, spool=False), server)
    assert server.body == b"a"
    assert len(raised) == 1


# Many of them, and what they leave behind.


def test_clients_leave_in_every_way_other_requests_are_served(
    adapter: MakeAdapter,
) -> None:
    threads = 3

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        if environ["QUERY_STRING"] == "quick":
            return hello(environ, start_response)
        start(start_response)
        return endless(b"x" * 50_000)

    served = adapter(app, threads=threads)

    async def main() -> None:
        servers = [HttpServer() for _ in range(4 * threads)]
        by_receive, by_send, by_cancel, by_stall = (servers[way::4] for way in range(4))
        for server in by_send:
            server.fail_at(4, ConnectionResetError("gone"))
        for server in by_stall:
            server.stall_at(3)
        tasks = {server: asyncio.create_task(server.run(served)) for server in servers}
        for server in servers:
            await server.sent(3).reached()
        for server in by_receive:
            server.left.open()
        for server in by_cancel + by_stall:
            tasks[server].cancel()
        results = await asyncio.gather(*tasks.values(), return_exceptions=True)
        cancelled = [isinstance(result, asyncio.CancelledError) for result in results]
        assert cancelled == [False, False, True, True] * threads
        assert results[::4] == [None] * threads
        quick = HttpServer(query_string=b"quick")
        await quick.run(served)
        assert quick.body == b"Hello"

    run(main())
    assert served.stats().disconnected == 4 * threads


@on_each_loop
@in_each_executor
def test_client_leaves_async_code_under_way_is_cancelled(
    adapter: MakeAdapter, loop_factory: LoopFactory, make_options: MakeOptions
) -> None:
    cancelled = Gate("the coroutine was cancelled")

    async def wait_for_ever() -> None:
        try:
            begun.open()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.open()
            raise

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        async_to_sync(wait_for_ever)()
        return hello(environ, start_response)

    begun = Gate("the coroutine waits")
    served = adapter(app, **make_options())
    server = HttpServer()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await begun.reached()
            server.left.open()
            await cancelled.reached()

    run(main(), loop_factory)
    assert_left(served)
