"""Start-up, shutdown, and the requests in between."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.apps import Body, Stream, answering, endless, hello, start
from tests.drivers import (
    WAIT_S,
    Gate,
    HttpServer,
    LifespanServer,
    LoopFactory,
    MakeAdapter,
    lifespan,
    on_each_loop,
    run,
    serve,
    until,
)
from wsgi_asgi import ClientDisconnected, Limits
from wsgi_asgi._port import TICK_S

variable: ContextVar[str] = ContextVar("variable", default="unset")

FAILURES = [
    pytest.param(KeyError("no database"), id="exception"),
    pytest.param(SystemExit("no database"), id="exit"),
    pytest.param(KeyboardInterrupt("no database"), id="interrupt"),
    pytest.param(StopIteration("no database"), id="stop iteration"),
]


def pool_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "wsgi" in thread.name]


def failing(error: BaseException) -> Callable[[], object]:
    def hook() -> None:
        raise error

    return hook


async def started(server: LifespanServer, app: Any) -> None:
    """Run a lifespan whose server stops at once."""
    server.stopping.open()
    await server.run(app)


@on_each_loop
def test_lifespan_without_hooks_is_completed(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    server = LifespanServer()
    run(started(server, adapter(hello)), loop_factory)
    assert server.answers == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_lifespan_message_unknown_is_ignored(adapter: MakeAdapter) -> None:
    server = LifespanServer({"type": "lifespan.unknown"})
    run(started(server, adapter(hello)))
    assert len(server.answers) == 2


@on_each_loop
def test_lifespan_hooks_run_in_order_in_a_thread(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    calls: list[tuple[str, bool]] = []

    def hook(name: str) -> Callable[[], object]:
        return lambda: calls.append((name, threading.current_thread() is main_thread))

    main_thread = threading.current_thread()
    app = adapter(
        hello,
        on_startup=[hook("start 1"), hook("start 2")],
        on_shutdown=iter([hook("stop 1"), hook("stop 2")]),
    )

    async def main() -> None:
        async with lifespan(app):
            assert calls == [("start 1", False), ("start 2", False)]
            await HttpServer().run(app)

    run(main(), loop_factory)
    assert calls[2:] == [("stop 1", False), ("stop 2", False)]


@on_each_loop
def test_startup_waits_for_a_hook_that_takes_long(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    calls: list[str] = []

    def hook() -> None:
        with pytest.raises(AssertionError):
            Gate().wait(3 * TICK_S)  # longer than the loop takes to look after it
        calls.append("end")

    async def main() -> None:
        async with lifespan(adapter(hello, on_startup=[hook])):
            assert calls == ["end"]

    run(main(), loop_factory)


def test_lifespan_hook_sees_the_context_of_the_server(adapter: MakeAdapter) -> None:
    seen: list[str] = []
    app = adapter(hello, on_startup=[lambda: seen.append(variable.get())])

    async def main() -> None:
        variable.set("server")
        await started(LifespanServer(), app)

    run(main())
    assert seen == ["server"]


@on_each_loop
@pytest.mark.parametrize("error", FAILURES)
def test_startup_hook_that_fails_is_reported_and_ends_the_lifespan(
    adapter: MakeAdapter,
    caplog: pytest.LogCaptureFixture,
    loop_factory: LoopFactory,
    error: BaseException,
) -> None:
    calls: list[str] = []
    app = adapter(
        hello,
        on_startup=[
            lambda: calls.append("before"),
            failing(error),
            lambda: calls.append("after"),
        ],
        on_shutdown=[lambda: calls.append("shutdown")],
    )
    server = LifespanServer()
    serve(app, server, loop_factory)
    assert server.answers == ["lifespan.startup.failed"]
    assert "no database" in server.messages[0]["message"]
    assert "failing" in server.messages[0]["message"]
    assert calls == ["before"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "in hook\n" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("error", FAILURES)
def test_shutdown_hook_that_fails_is_reported_after_the_others_ran(
    adapter: MakeAdapter, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    calls: list[str] = []
    app = adapter(
        hello,
        on_shutdown=[failing(error), lambda: calls.append("after"), failing(error)],
    )
    server = LifespanServer()
    run(started(server, app))
    assert server.answers == ["lifespan.startup.complete", "lifespan.shutdown.failed"]
    assert server.messages[1]["message"].count("no database") == 2
    assert calls == ["after"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert not pool_threads()
    caplog.clear()


@on_each_loop
def test_lifespan_hooks_of_a_thread_sensitive_application_share_its_thread(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    threads: list[int] = []

    def note() -> None:
        threads.append(threading.get_ident())

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        note()
        return hello(environ, start_response)

    served = adapter(app, on_startup=[note], on_shutdown=[note], thread_sensitive=True)

    async def main() -> None:
        async with lifespan(served):
            await HttpServer().run(served)

    run(main(), loop_factory)
    assert len(threads) == 3
    assert len(set(threads)) == 1


def _stuck_in_requests(
    adapter: MakeAdapter, hook: Callable[[], object], **options: Any
) -> LifespanServer:
    """Shut down an adapter whose threads are all stuck, and give the server."""
    begun, go_on = Gate("the application runs"), Gate()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        go_on.wait()
        return hello(environ, start_response)

    served = adapter(
        app, on_shutdown=[hook], limits=Limits(shutdown_timeout=0.01), **options
    )
    server = LifespanServer()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(server.run(served))
            await server.started.reached()
            stuck = tasks.create_task(HttpServer().run(served))
            await begun.reached()
            server.stopping.open()
            await asyncio.wait_for(asyncio.shield(ending), WAIT_S)
            assert not stuck.done()
            go_on.open()

    run(main())
    return server


@pytest.mark.parametrize(
    "make_options",
    [
        pytest.param(lambda: {"threads": 1}, id="pool"),
        pytest.param(lambda: {"executor": ThreadPoolExecutor(1)}, id="executor given"),
    ],
)
def test_shutdown_hook_runs_though_all_threads_are_stuck(
    adapter: MakeAdapter, make_options: Callable[[], dict[str, Any]]
) -> None:
    ran: list[bool] = []
    server = _stuck_in_requests(adapter, lambda: ran.append(True), **make_options())
    assert ran == [True]
    assert server.answers[1] == "lifespan.shutdown.complete"


def test_shutdown_hook_for_a_stuck_thread_of_asgirefs_is_given_up(
    adapter: MakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[bool] = []

    def note() -> None:
        ran.append(True)

    server = _stuck_in_requests(adapter, note, thread_sensitive=True)
    assert ran == []
    assert server.answers[1] == "lifespan.shutdown.failed"
    assert "no thread was free in time" in server.messages[1]["message"]
    caplog.clear()


# Several servers.


def test_server_that_stops_leaves_another_on_its_loop_alone(
    adapter: MakeAdapter,
) -> None:
    served = adapter(hello)
    first, second = LifespanServer(), LifespanServer()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(first.run(served))
            tasks.create_task(second.run(served))
            await first.started.reached()
            await second.started.reached()
            first.stopping.open()
            await ending
            # Whether or not the server passes on which it is.
            for state in (None, dict(second.scope["state"])):
                request = HttpServer(state=state)
                await request.run(served)
                assert request.status == 200
            second.stopping.open()

    run(main())


def test_server_that_stops_drains_its_own_requests_and_no_others(
    adapter: MakeAdapter,
) -> None:
    begun = {"/first": Gate("the first runs"), "/second": Gate("the second runs")}
    go_on = Gate()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun[environ["PATH_INFO"]].open()
        go_on.wait()
        return hello(environ, start_response)

    served = adapter(app, limits=Limits(shutdown_timeout=0.01))
    first, second = LifespanServer(), LifespanServer()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(first.run(served))
            tasks.create_task(second.run(served))
            await first.started.reached()
            await second.started.reached()
            own, other = (
                HttpServer(path=path, state=dict(server.scope["state"]))
                for path, server in (("/first", first), ("/second", second))
            )
            for request in (own, other):
                tasks.create_task(request.run(served))
                await begun[request.scope["path"]].reached()
            first.stopping.open()
            await ending
            go_on.open()
            await other.complete.reached()
            second.stopping.open()
        assert other.status == 200
        assert own.status is None

    run(main())


def test_request_after_the_last_lifespan_of_its_loop_is_served(
    adapter: MakeAdapter,
) -> None:
    served = adapter(hello)

    async def main() -> None:
        async with lifespan(served):
            pass
        request = HttpServer()
        await request.run(served)
        assert request.status == 200

    run(main())


def test_lifespan_without_a_state_is_served(adapter: MakeAdapter) -> None:
    server = LifespanServer()
    server.scope["state"] = None
    server.stopping.open()
    serve(adapter(hello), server)
    assert server.answers[1] == "lifespan.shutdown.complete"


# Threads and life cycles.


@on_each_loop
def test_shutdown_releases_the_threads(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    everyone = threading.Barrier(5)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        everyone.wait()
        return hello(environ, start_response)

    served = adapter(app)

    async def main() -> None:
        async with lifespan(served):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(5):
                    tasks.create_task(HttpServer().run(served))
            assert len(pool_threads()) >= 5

    run(main(), loop_factory)
    until(lambda: not pool_threads(), "all threads have ended")
    assert served.stats().threads == 0


def test_shutdown_of_one_of_two_adapters_leaves_the_shared_threads(
    adapter: MakeAdapter,
) -> None:
    first = adapter(hello)
    second = adapter(hello, executor=first.executor)

    async def main() -> None:
        async with lifespan(first):
            async with lifespan(second):
                await HttpServer().run(second)
            assert first.stats().threads >= 1
            await HttpServer().run(first)

    run(main())


@on_each_loop
@pytest.mark.parametrize(
    "options", [{}, {"thread_sensitive": True}], ids=["pool", "asgiref's"]
)
def test_lifespan_can_begin_again_on_another_loop(
    adapter: MakeAdapter, loop_factory: LoopFactory, options: dict[str, Any]
) -> None:
    app = adapter(hello, **options)

    async def main() -> None:
        server = HttpServer()
        async with lifespan(app):
            await server.run(app)
        assert server.body == b"Hello"

    for _ in range(2):
        run(main(), loop_factory)


def test_lifespan_can_begin_again_on_the_same_loop(adapter: MakeAdapter) -> None:
    app = adapter(hello)

    async def main() -> None:
        for _ in range(2):
            async with lifespan(app):
                server = HttpServer()
                await server.run(app)
                assert server.status == 200

    run(main())


def test_request_without_a_lifespan_is_served(adapter: MakeAdapter) -> None:
    server = HttpServer()
    serve(adapter(hello), server)
    assert server.status == 200


# Draining.


@on_each_loop
def test_shutdown_waits_for_requests_and_refuses_new_ones(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    begun, go_on = Gate("the request runs"), Gate()
    hooks: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        go_on.wait()
        return hello(environ, start_response)

    served = adapter(app, on_shutdown=[lambda: hooks.append("after the last request")])
    running, refused = HttpServer(), HttpServer()
    server = LifespanServer()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.started.reached()
            tasks.create_task(running.run(served))
            await begun.reached()
            server.stopping.open()
            await server.told.reached()
            await refused.run(served)
            assert len(server.answers) == 1
            assert not hooks
            go_on.open()

    run(main(), loop_factory)
    assert running.body == b"Hello"
    assert refused.status == 503
    assert refused.header(b"retry-after") == b"1"
    assert refused.header(b"content-type") == b"text/plain; charset=utf-8"
    assert server.answers[1] == "lifespan.shutdown.complete"
    assert hooks == ["after the last request"]
    assert (served.stats().completed, served.stats().rejected) == (1, 1)


@on_each_loop
@pytest.mark.parametrize("timeout", [0.0, 0.05], ids=["at once", "after a while"])
def test_shutdown_lets_go_of_what_runs_on(
    adapter: MakeAdapter, loop_factory: LoopFactory, timeout: float
) -> None:
    stream = Stream(endless())
    app = adapter(answering(stream), limits=Limits(shutdown_timeout=timeout))
    request = HttpServer()

    async def main() -> None:
        server = LifespanServer()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(app))
            await server.started.reached()
            tasks.create_task(request.run(app))
            await request.sent(3).reached()
            server.stopping.open()
        assert server.answers[1] == "lifespan.shutdown.complete"

    run(main(), loop_factory)
    assert stream.closes == 1
    assert not request.complete.is_open
    assert app.stats().disconnected == 1


@pytest.mark.parametrize("phase", ["read", "write"])
def test_shutdown_wakes_a_request_that_waits_for_its_client(
    adapter: MakeAdapter, phase: str
) -> None:
    raised: list[BaseException] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        write = start(start_response)
        write(b"begun")
        try:
            if phase == "read":
                environ["wsgi.input"].read(10)
            for chunk in endless(b"x" * 50_000):
                write(chunk)
        except ClientDisconnected as error:
            raised.append(error)
        return []

    served = adapter(app, limits=Limits(shutdown_timeout=0.0), spool=False)
    request = HttpServer(Gate("a body comes"), method="POST")
    go_on = request.stall_at(3)

    async def main() -> None:
        server = LifespanServer()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.started.reached()
            tasks.create_task(request.run(served))
            await request.sent(3 if phase == "write" else 2).reached()
            server.stopping.open()
            await asyncio.to_thread(until, lambda: raised, "the thread is woken")
            go_on.open()

    run(main())
    assert len(raised) == 1


@pytest.mark.parametrize("streams", [False, True], ids=["call", "stream"])
def test_shutdown_waits_for_requests_whose_task_was_cancelled(
    adapter: MakeAdapter, streams: bool
) -> None:
    begun, go_on = Gate("the request runs"), Gate()
    hooks: list[bool] = []
    done: list[bool] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        if streams:
            yield b"first"
        begun.open()
        go_on.wait()
        done.append(True)

    served = adapter(app, on_shutdown=[lambda: hooks.extend(done)])

    async def main() -> None:
        async with lifespan(served) as server:
            request = asyncio.create_task(HttpServer().run(served))
            await begun.reached()
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            server.stopping.open()
            await server.told.reached()
            assert not hooks
            go_on.open()

    run(main())
    assert hooks == [True]


def test_lifespan_cancelled_in_a_hook_ends(adapter: MakeAdapter) -> None:
    begun, go_on = Gate("the hook runs"), Gate()

    def hook() -> None:
        begun.open()
        go_on.wait()

    app = adapter(hello, on_startup=[hook])
    server = LifespanServer()

    async def main() -> None:
        task = asyncio.create_task(server.run(app))
        await begun.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.open()

    run(main())
    assert not server.messages
