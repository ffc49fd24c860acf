"""Bodies that come slowly: whose thread waits for them, and how many may at a time."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.apps import Body, answer_413_unread, echo, hello, nothing, start
from tests.drivers import (
    CHUNKED,
    WAIT_S,
    Gate,
    Header,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    Step,
    disconnect,
    length,
    make_scope,
    on_each_loop,
    others_end,
    piece,
    pieces,
    posting,
    run,
    serve,
    until,
    uploading,
)
from wsgi_asgi import Limits, WsgiToAsgi
from wsgi_asgi._body import RequestBody
from wsgi_asgi._bridge import Crossing
from wsgi_asgi._port import Port

LONG = length(70_000)
EXPECT = (b"expect", b"100-continue")

# What a client does that announces a body and then sends little or nothing of it.
in_each_slow_way = pytest.mark.parametrize(
    ("headers", "steps"),
    [
        pytest.param([LONG], [piece(b"x")], id="announced and one byte"),
        pytest.param([LONG], [], id="announced and nothing"),
        pytest.param([CHUNKED], [piece(b"x")], id="chunked and one byte"),
        pytest.param([length(5), EXPECT], [], id="announced and asked for leave"),
        pytest.param([CHUNKED, EXPECT], [], id="chunked and asked for leave"),
    ],
)
streamed_or_not = pytest.mark.parametrize(
    "spool", [False, True], ids=["streamed", "spooled"]
)

# Adapters in which no thread may wait for a client.
in_each_bound_executor = pytest.mark.parametrize(
    "make_options",
    [
        pytest.param(lambda: {"threads": 1}, id="one thread"),
        pytest.param(lambda: {"executor": ThreadPoolExecutor(2)}, id="executor given"),
        pytest.param(lambda: {"thread_sensitive": True}, id="asgiref's thread"),
    ],
)


def places_taken(app: WsgiToAsgi) -> int:
    return app._http.intake.uploads.taken


async def port_of(app: WsgiToAsgi) -> Port:
    return app._bridge.port()


def idle(app: WsgiToAsgi) -> bool:
    stats = app.stats()
    return (stats.busy, stats.queued, places_taken(app)) == (0, 0, 0)


@contextlib.asynccontextmanager
async def running(
    app: WsgiToAsgi, servers: Iterable[HttpServer]
) -> AsyncIterator[None]:
    """Serve requests as long as the block takes; then their clients leave."""
    servers = [*servers]
    async with asyncio.TaskGroup() as tasks:
        for server in servers:
            tasks.create_task(server.run(app))
        yield
        for server in servers:
            server.left.open()
    await others_end()


def slow(headers: list[Header], steps: list[Step], **scope: Any) -> HttpServer:
    never = Gate("the rest of the body comes")
    scope = {"method": "POST"} | scope
    return HttpServer(*steps, never, headers=headers, **scope)


@on_each_loop
@in_each_slow_way
@streamed_or_not
def test_slow_uploads_do_not_keep_a_quick_request_from_running(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    headers: list[Header],
    steps: list[Step],
    spool: bool,
) -> None:
    app = adapter(echo, threads=2, spool=spool, limits=Limits(uploads=3))
    servers = [slow(headers, steps) for _ in range(12)]

    async def main() -> None:
        async with running(app, servers):
            for server in servers:
                await server.received(len(steps)).reached()
            quick = HttpServer()
            await quick.run(app)
            assert quick.status == 200
            await asyncio.to_thread(
                until, lambda: app.stats().threads <= 5, "few threads are there"
            )

    run(main(), loop_factory)
    until(lambda: idle(app), "nothing is held")
    assert app.stats().disconnected == 12


@in_each_slow_way
@in_each_bound_executor
def test_slow_uploads_never_reach_threads_that_must_not_wait(
    adapter: MakeAdapter,
    make_options: Any,
    headers: list[Header],
    steps: list[Step],
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert environ["REQUEST_METHOD"] == "GET"
        return echo(environ, start_response)

    served = adapter(app, spool=False, **make_options())
    servers = [slow(headers, steps) for _ in range(6)]

    async def main() -> None:
        async with running(served, servers):
            for server in servers:
                await server.received(len(steps) + 1).reached()
            quick = HttpServer()
            await quick.run(served)
            assert quick.status == 200

    run(main())
    assert not any(server.messages for server in servers)
    assert served.stats().disconnected == 6


@in_each_bound_executor
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_request_without_an_end_never_reaches_threads_that_must_not_wait(
    adapter: MakeAdapter, make_options: Any, method: str
) -> None:
    # On HTTP/2 a request with no header that speaks of a body may have one.
    served = adapter(echo, **make_options())
    servers = [slow([], [], method=method, http_version="2") for _ in range(6)]

    async def main() -> None:
        async with running(served, servers):
            for server in servers:
                await server.received(1).reached()
            quick = HttpServer(*pieces(b"quick"), method=method, http_version="2")
            await quick.run(served)
            assert quick.body == b"quick"

    run(main())
    assert not any(server.messages for server in servers)


def test_requests_without_an_end_are_refused_where_too_many_wait(
    adapter: MakeAdapter,
) -> None:
    app = adapter(echo, threads=2, limits=Limits(uploads=3))
    servers = [slow([], [], http_version="2", method="GET") for _ in range(12)]

    async def main() -> None:
        async with running(app, servers):
            quick = HttpServer()
            await quick.run(app)
            assert quick.status == 200
            await asyncio.to_thread(
                until, lambda: app.stats().rejected == 9, "all but three are refused"
            )
            assert app.stats().busy == 3

    run(main())
    refused = [server for server in servers if server.messages]
    assert {server.status for server in refused} == {503}
    assert {server.header(b"retry-after") for server in refused} == {b"10"}
    until(lambda: idle(app), "nothing is held")


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_body_unannounced_that_comes_late_is_waited_for_where_a_place_is_free(
    adapter: MakeAdapter, version: str
) -> None:
    come = Gate("the body comes")
    server = HttpServer(come, *pieces(b"x"), method="DELETE", http_version=version)
    served = adapter(echo, limits=Limits(uploads=1 if version == "2" else 0))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.received(1).reached()
            await server.complete.stays_shut()
            come.open()

    run(main())
    assert server.body == b"x"


def test_body_unannounced_that_comes_soon_is_read_where_no_place_is_free(
    adapter: MakeAdapter,
) -> None:
    server = HttpServer(*pieces(b"a", b"b"), method="DELETE", http_version="2")
    serve(adapter(echo, limits=Limits(uploads=0)), server)
    assert server.body == b"ab"


def test_response_under_way_may_wait_for_a_body_without_a_place(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield b"first-"
        yield environ["wsgi.input"].read(1)

    come = Gate("the body comes")
    server = HttpServer(come, *pieces(b"x"), method="GET", http_version="2")
    served = adapter(app, validate=False, limits=Limits(uploads=0))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.sent(2).reached()
            await server.complete.stays_shut()  # for longer than others may wait
            come.open()

    run(main())
    assert server.body == b"first-x"


# Places.


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([disconnect()], id="before anything came"),
        pytest.param([piece(b"x"), disconnect()], id="after some came"),
        pytest.param([piece(b"x"), RuntimeError("receive() fails")], id="by an error"),
        pytest.param([RuntimeError("receive() fails")], id="by an error at once"),
        pytest.param([piece(b"x" * 70_000, more=False)], id="in one message"),
        pytest.param(pieces(*[b"x" * 7000] * 10), id="in many messages"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [[LONG], [LONG, EXPECT], [CHUNKED]],
    ids=["announced", "asked for leave", "chunked"],
)
def test_place_of_an_upload_is_given_back_however_it_ends(
    adapter: MakeAdapter, headers: list[Header], steps: list[Step]
) -> None:
    app = adapter(echo, spool=False, limits=Limits(uploads=1))
    server = HttpServer(*steps, method="POST", headers=headers)
    with contextlib.suppress(RuntimeError):
        serve(app, server)
    until(lambda: idle(app), "nothing is held")


def test_place_is_given_back_where_the_application_reads_nothing(
    adapter: MakeAdapter,
) -> None:
    app = adapter(answer_413_unread, spool=False, limits=Limits(uploads=1))
    for _ in range(3):
        server = uploading(piece(b"x"), Gate("more comes"))
        serve(app, server)
        assert server.status == 413
    until(lambda: idle(app), "nothing is held")


def test_place_is_given_back_before_a_long_answer_to_a_body_that_is_here(
    adapter: MakeAdapter,
) -> None:
    read, go_on = Gate("the body is read"), Gate("the application answers")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        environ["wsgi.input"].read(70_000)
        read.open()
        go_on.wait()
        return hello(environ, start_response)

    served = adapter(app, spool=False, limits=Limits(uploads=1))
    server = posting(*[b"x" * 7000] * 10)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await read.reached()
            await asyncio.to_thread(
                until, lambda: not places_taken(served), "the place is free"
            )
            go_on.open()

    run(main())
    assert server.status == 200


def test_place_given_back_by_two_threads_at_once_is_given_back_once(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Meeting:
        """A lock that two threads find before either gets it."""

        def __init__(self) -> None:
            self._lock = threading.Lock()
            self._barrier = threading.Barrier(2)

        def __enter__(self) -> None:
            self._barrier.wait(WAIT_S)
            self._lock.acquire()

        def __exit__(self, *_: object) -> None:
            self._lock.release()

    app = adapter(echo)
    intake = app._http.intake
    assert intake.uploads.take()  # by another body
    body = RequestBody(
        Crossing(app._bridge, run(port_of(app)), nothing, buffer=1),
        uploading().receive,
        intake,
    )
    assert body.prepare(make_scope(method="POST", headers=[LONG]))
    assert places_taken(app) == 2
    monkeypatch.setattr("wsgi_asgi._body._OPENING", Meeting())
    threads = [threading.Thread(target=body.discard) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert places_taken(app) == 1
