"""Where requests run: in which threads, how many at a time, and what they block."""

import asyncio
import sqlite3
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from asgiref.sync import SyncToAsync, sync_to_async

from tests.apps import Body, Stream, answering, echo_while_reading, hello, start
from tests.drivers import (
    WAIT_S,
    Gate,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    MakeOptions,
    in_each_executor,
    lifespan,
    on_each_loop,
    others_end,
    piece,
    run,
    serve,
    serve_all,
    uploading,
)
from wsgi_asgi import Limits


class Overlap:
    """Tells whether requests run at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running -= 1


# The thread of one request.


@on_each_loop
@in_each_executor
def test_request_runs_in_one_thread_that_is_not_the_loops(
    adapter: MakeAdapter, loop_factory: LoopFactory, make_options: MakeOptions
) -> None:
    streams: list[tuple[int, Stream]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        stream = Stream([b"x"] * 5)
        streams.append((threading.get_ident(), stream))
        start(start_response)
        return stream

    served = adapter(app, **make_options())
    run(serve_all(served, [HttpServer() for _ in range(10)]), loop_factory)
    for thread, stream in streams:
        assert stream.threads == {thread}
        assert thread != threading.get_ident()


@in_each_executor
def test_request_bound_to_a_thread_can_stream(
    adapter: MakeAdapter, make_options: MakeOptions
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        # Refuses every thread but that which made it.
        database = sqlite3.connect(":memory:")
        database.execute("create table numbers (number)")
        database.executemany(
            "insert into numbers values (?)", [(number,) for number in range(9)]
        )
        start(start_response)
        rows = database.execute("select number from numbers order by number")
        return Stream((b"%d" % row for row in rows), at_close=database.close)

    server = HttpServer()
    serve(adapter(app, **make_options()), server)
    assert server.body == b"012345678"


# What it does not block.


@on_each_loop
@in_each_executor
@pytest.mark.parametrize("phase", ["call", "next", "write", "close"])
def test_loop_goes_on_while_the_application_blocks(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    make_options: MakeOptions,
    phase: str,
) -> None:
    blocked, turned = Gate("the application blocks"), Gate("the loop has turned")

    def block(where: str) -> None:
        if where == phase:
            blocked.open()
            turned.wait()

    def chunks() -> Body:
        yield b"a"
        block("next")
        yield b"b"

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        block("call")
        write = start(start_response)
        write(b"w")
        block("write")
        return Stream(chunks(), at_close=lambda: block("close"))

    server = HttpServer()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(adapter(app, **make_options())))
            await blocked.reached()
            for _ in range(20):
                await asyncio.sleep(0)
            turned.open()

    run(main(), loop_factory)
    assert server.body == b"wab"


class _Untouched(ThreadPoolExecutor):
    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        raise AssertionError("the loop's default executor was used")


@on_each_loop
@pytest.mark.parametrize("thread_sensitive", [False, True], ids=["pool", "asgiref's"])
def test_default_executor_of_the_loop_is_not_used(
    adapter: MakeAdapter, loop_factory: LoopFactory, thread_sensitive: bool
) -> None:
    app = adapter(answering([b"a", b"b"]), thread_sensitive=thread_sensitive)

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(_Untouched())
        async with lifespan(app):
            await HttpServer().run(app)

    run(main(), loop_factory)


def test_default_executor_of_the_loop_is_free_when_all_threads_are_taken(
    adapter: MakeAdapter,
) -> None:
    go_on = Gate("the requests go on")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        go_on.wait()
        return hello(environ, start_response)

    served = adapter(app, threads=2)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(50):
                tasks.create_task(HttpServer().run(served))
            assert await asyncio.to_thread(lambda: "done") == "done"
            go_on.open()

    run(main())


# How many run at a time.


@on_each_loop
def test_requests_that_block_run_at_the_same_time(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    everyone = threading.Barrier(20)
    flags = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        everyone.wait(WAIT_S)
        flags.append(environ["wsgi.multithread"])
        return hello(environ, start_response)

    run(serve_all(adapter(app), [HttpServer() for _ in range(20)]), loop_factory)
    assert flags == [True] * 20


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_requests_run_at_most_as_many_as_there_are_threads(
    adapter: MakeAdapter, threads: int
) -> None:
    overlap = Overlap()
    full = threading.Barrier(threads)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        with overlap:
            full.wait(WAIT_S)
        return hello(environ, start_response)

    served = adapter(app, threads=threads, validate=False)
    run(serve_all(served, [HttpServer() for _ in range(4 * threads)]))
    assert overlap.most == threads


@on_each_loop
def test_requests_that_block_all_complete_on_few_threads(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    pairs = threading.Barrier(2)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        pairs.wait(WAIT_S)
        return hello(environ, start_response)

    servers = [HttpServer() for _ in range(80)]
    run(serve_all(adapter(app, threads=4), servers), loop_factory)
    assert all(server.body == b"Hello" for server in servers)


@on_each_loop
def test_streams_both_ways_all_complete_on_few_threads(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    servers = []
    for _ in range(60):
        server = uploading(piece(b"a"))
        for number, body in enumerate([b"b", b"c"], 2):
            server.will_receive(server.sent(number), piece(body))
        server.will_receive(server.sent(4), piece(b"", more=False))
        servers.append(server)
    run(
        serve_all(adapter(echo_while_reading, threads=4, spool=False), servers),
        loop_factory,
    )
    assert all(server.body == b"abc" for server in servers)


def test_uploads_read_whole_by_more_requests_than_threads_all_complete(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        size = len(environ["wsgi.input"].read())
        start(start_response)
        return [b"%d" % size]

    bodies = [piece(b"x" * 10_000)] * 20
    servers = [uploading(*bodies, piece(b"", more=False)) for _ in range(30)]
    run(serve_all(adapter(app, threads=2, validate=False, spool=False), servers))
    assert all(server.body == b"200000" for server in servers)


@on_each_loop
@pytest.mark.parametrize("by_write", [False, True], ids=["iterable", "write"])
def test_streams_between_chunks_leave_the_threads_to_others(
    adapter: MakeAdapter, loop_factory: LoopFactory, by_write: bool
) -> None:
    go_on = Gate("the streams go on")

    def slow() -> Body:
        yield b"first"
        go_on.wait()
        yield b"last"

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        if environ["QUERY_STRING"] == "quick":
            return hello(environ, start_response)
        write = start(start_response)
        if not by_write:
            return slow()
        for chunk in slow():
            write(chunk)
        return []

    served = adapter(app, threads=2)
    streams = [HttpServer() for _ in range(6)]
    quick = HttpServer(query_string=b"quick")

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for server in streams:
                tasks.create_task(server.run(served))
            for server in streams:
                await server.sent(2).reached()
            stats = served.stats()
            assert (stats.busy, stats.streams, stats.queued) == (6, 6, 0)
            await quick.run(served)
            go_on.open()

    run(main(), loop_factory)
    assert quick.body == b"Hello"
    assert all(server.body == b"firstlast" for server in streams)
    assert served.stats().streams == 0


def test_streams_beyond_their_limit_keep_the_threads(adapter: MakeAdapter) -> None:
    go_on = Gate("the streams go on")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield b"first"
        go_on.wait()

    served = adapter(app, threads=2, limits=Limits(streams=1))
    servers = [HttpServer() for _ in range(4)]

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for server in servers:
                tasks.create_task(server.run(served))
            for server in servers[:3]:
                await server.sent(2).reached()
            await servers[3].sent(1).stays_shut()
            stats = served.stats()
            assert (stats.busy, stats.streams, stats.queued) == (3, 1, 1)
            go_on.open()

    run(main())
    assert all(server.body == b"first" for server in servers)


# One at a time.


def test_one_thread_runs_requests_strictly_one_after_the_other(
    adapter: MakeAdapter,
) -> None:
    overlap = Overlap()
    flags = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        flags.append(environ["wsgi.multithread"])
        with overlap:
            start(start_response)
            yield b"a"
            yield b"b"

    run(serve_all(adapter(app, threads=1), [HttpServer() for _ in range(10)]))
    assert flags == [False] * 10
    assert overlap.most == 1


@pytest.mark.parametrize(
    "options",
    [{"threads": 1}, {"thread_sensitive": True}],
    ids=["one thread", "asgiref's thread"],
)
def test_stream_of_a_serial_application_holds_the_others(
    adapter: MakeAdapter, options: dict[str, Any]
) -> None:
    go_on = Gate("the stream goes on")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert environ["wsgi.multithread"] is False
        start(start_response)
        yield b"first"
        go_on.wait()

    served = adapter(app, **options)
    first, second = HttpServer(), HttpServer()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(first.run(served))
            await first.sent(2).reached()
            tasks.create_task(second.run(served))
            await second.sent(1).stays_shut()
            go_on.open()

    run(main())
    assert first.body == second.body == b"first"


@on_each_loop
def test_thread_sensitive_application_runs_in_asgirefs_thread(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    threads = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        threads.append(threading.get_ident())
        return hello(environ, start_response)

    served = adapter(app, thread_sensitive=True)

    async def main() -> None:
        await serve_all(served, [HttpServer() for _ in range(3)])
        threads.append(await sync_to_async(threading.get_ident)())

    run(main(), loop_factory)
    assert len(threads) == 4
    assert len(set(threads)) == 1
    assert served.stats().threads == 0


@on_each_loop
def test_thread_sensitive_request_leaves_no_task(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    app = adapter(hello, thread_sensitive=True)
    server = HttpServer()
    serve(app, server, loop_factory)  # which fails if there is one
    assert server.body == b"Hello"


def test_thread_sensitive_request_that_asgiref_refuses_is_an_error(
    adapter: MakeAdapter,
) -> None:
    served = adapter(hello, thread_sensitive=True)

    async def main() -> None:
        # What asgiref sets for code that already waits for its one thread.
        SyncToAsync.deadlock_context.set(True)
        with pytest.raises(RuntimeError, match="would deadlock"):
            await HttpServer().run(served)
        await others_end()

    run(main())
    assert (served.stats().busy, served.stats().queued) == (0, 0)


# Whose threads.


def test_executor_given_runs_the_requests(adapter: MakeAdapter) -> None:
    names = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        names.append(threading.current_thread().name)
        assert environ["wsgi.multithread"] is True
        return hello(environ, start_response)

    executor = ThreadPoolExecutor(1, thread_name_prefix="own")
    served = adapter(app, executor=executor)
    serve(served, HttpServer())
    assert served.executor is executor
    assert names[0].startswith("own")
    assert served.stats().threads == 0


def test_executor_shared_by_two_adapters_bounds_both(adapter: MakeAdapter) -> None:
    overlap = Overlap()
    pairs = threading.Barrier(2)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        with overlap:
            pairs.wait(WAIT_S)
        return hello(environ, start_response)

    first = adapter(app, threads=2, validate=False)
    second = adapter(app, executor=first.executor, validate=False)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(10):
                tasks.create_task(HttpServer().run(first))
                tasks.create_task(HttpServer().run(second))

    run(main())
    assert second.executor is first.executor
    assert overlap.most == 2
    assert first.stats().threads == second.stats().threads == 2
    assert first.stats().completed == second.stats().completed == 10


def test_executor_that_is_shut_down_refuses_requests(adapter: MakeAdapter) -> None:
    app = adapter(hello)
    app.executor.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        serve(app, HttpServer())
    assert (app.stats().busy, app.stats().queued) == (0, 0)


def test_queue_is_counted(adapter: MakeAdapter) -> None:
    begun, go_on = Gate("the thread is taken"), Gate()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        go_on.wait()
        return hello(environ, start_response)

    served = adapter(app, threads=1)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(HttpServer().run(served))
            await begun.reached()
            stats = served.stats()
            assert (stats.threads, stats.busy, stats.queued) == (1, 1, 3)
            go_on.open()

    run(main())
    assert served.stats().completed == 4
