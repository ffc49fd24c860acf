"""Requests that never run: dropped while they wait for a thread, by whomever."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.thread import BrokenThreadPool
from contextlib import suppress
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import trio
from asgiref.sync import SyncToAsync

from tests.apps import Body, echo, hello, never_called
from tests.drivers import (
    CHUNKED,
    Gate,
    HttpServer,
    LifespanServer,
    LoopFactory,
    MakeAdapter,
    MakeOptions,
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
from wsgi_asgi._bridge import Crossing

in_each_serial_executor = pytest.mark.parametrize(
    "make_options",
    [
        pytest.param(lambda: {"threads": 1}, id="own pool"),
        pytest.param(lambda: {"executor": ThreadPoolExecutor(1)}, id="executor given"),
        pytest.param(lambda: {"thread_sensitive": True}, id="asgiref's thread"),
    ],
)
AT_ONCE = Limits(abandoned_timeout=0.01)


class Holder:
    """An application whose first request holds the only thread.

    Attributes:
        paths: Those of the requests that ran.
        begun: Open when the first runs.
        go_on: Open it to let the first end.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.begun = Gate("the thread is taken")
        self.go_on = Gate("the thread is free")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        self.paths.append(environ["PATH_INFO"])
        self.begun.open()
        self.go_on.wait()
        return hello(environ, start_response)


async def leave_queue(served: WsgiToAsgi, *servers: HttpServer) -> None:
    """Serve requests that wait for a thread, and have their clients leave."""
    async with asyncio.TaskGroup() as tasks:
        for server in servers:
            tasks.create_task(server.run(served))
        for server in servers:
            # The first after the body is the one that listens for the leaving.
            listening = 2 if server.scope["method"] == "POST" else 1
            await server.received(listening).reached()
        for server in servers:
            server.left.open()


async def logged(caplog: pytest.LogCaptureFixture) -> None:
    while not caplog.records:  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0.001)


# Clients that leave the queue.


@on_each_loop
@in_each_serial_executor
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_posts_whose_clients_left_the_queue_are_dropped_in_time_and_logged_once(
    adapter: MakeAdapter,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    loop_factory: LoopFactory,
    make_options: MakeOptions,
    declared: bool,
) -> None:
    monkeypatch.setattr("wsgi_asgi._http.DROPPED_LOG_S", 0.05)
    holder = Holder()
    served = adapter(holder, limits=AT_ONCE, **make_options())
    servers = [posting(b"ab", path="/left", declared=declared) for _ in range(5)]

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(HttpServer(path="/first").run(served))
            await holder.begun.reached()
            await leave_queue(served, *servers)
            assert served.stats().queued == 0
            await logged(caplog)
            holder.go_on.open()
        await HttpServer(path="/last").run(served)
        await others_end()

    run(main(), loop_factory)
    assert holder.paths == ["/first", "/last"]
    stats = served.stats()
    assert (stats.completed, stats.disconnected, stats.dropped) == (2, 5, 5)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "dropped 5 request(s)" in record.getMessage()
    assert "0.01 s" in record.getMessage()
    caplog.clear()


@on_each_loop
@in_each_serial_executor
def test_gets_whose_clients_left_the_queue_are_dropped_at_once(
    adapter: MakeAdapter, loop_factory: LoopFactory, make_options: MakeOptions
) -> None:
    holder = Holder()
    served = adapter(holder, **make_options())

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(HttpServer(path="/first").run(served))
            await holder.begun.reached()
            servers = [HttpServer(path="/left") for _ in range(5)]
            async with asyncio.timeout(2):
                await leave_queue(served, *servers)
            holder.go_on.open()
        await HttpServer(path="/last").run(served)
        await others_end()

    run(main(), loop_factory)
    assert holder.paths == ["/first", "/last"]
    assert (served.stats().disconnected, served.stats().dropped) == (5, 0)


@in_each_serial_executor
def test_post_whose_client_left_the_queue_runs_if_a_thread_comes_free_in_time(
    adapter: MakeAdapter, make_options: MakeOptions
) -> None:
    holder = Holder()
    served = adapter(holder, **make_options())
    server = posting(b"ab", path="/left")

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(HttpServer(path="/first").run(served))
            await holder.begun.reached()
            left = tasks.create_task(server.run(served))
            await server.received(2).reached()
            server.left.open()
            await server.told.reached()
            assert served.stats().queued == 1
            holder.go_on.open()
            await left

    run(main())
    assert holder.paths == ["/first", "/left"]
    assert (served.stats().disconnected, served.stats().dropped) == (1, 0)


@in_each_serial_executor
def test_post_whose_client_left_the_queue_may_run_for_longer_than_it_waited(
    adapter: MakeAdapter, make_options: MakeOptions
) -> None:
    timeout = 0.2
    first, second = Gate("the first goes on"), Gate("the second goes on")
    begun = {"/first": Gate("the first runs"), "/left": Gate("the second runs")}

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        path = environ["PATH_INFO"]
        begun[path].open()
        (first if path == "/first" else second).wait()
        return hello(environ, start_response)

    served = adapter(app, limits=Limits(abandoned_timeout=timeout), **make_options())
    server = posting(b"ab", path="/left")

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(HttpServer(path="/first").run(served))
            await begun["/first"].reached()
            tasks.create_task(server.run(served))
            await server.received(2).reached()
            server.left.open()
            await server.told.reached()
            first.open()
            await begun["/left"].reached()
            over = Gate("the time to wait is over")
            asyncio.get_running_loop().call_later(timeout, over.open)
            await over.reached()
            second.open()

    run(main())
    assert [m["status"] for m in server.dropped if "status" in m] == [200]
    assert (served.stats().disconnected, served.stats().dropped) == (1, 0)


@on_each_loop
@in_each_serial_executor
def test_post_that_is_cancelled_after_its_client_left_is_dropped_in_time(
    adapter: MakeAdapter,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    loop_factory: LoopFactory,
    make_options: MakeOptions,
) -> None:
    # As servers do that give a request some seconds after its client has left.
    monkeypatch.setattr("wsgi_asgi._bridge.LINGER_S", 0.01)
    monkeypatch.setattr("wsgi_asgi._http.DROPPED_LOG_S", 0.01)
    holder = Holder()
    served = adapter(holder, limits=Limits(abandoned_timeout=0.05), **make_options())
    server = posting(b"ab", path="/left")

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(HttpServer(path="/first").run(served))
            await holder.begun.reached()
            left = asyncio.create_task(server.run(served))
            await server.received(2).reached()
            server.left.open()
            await server.told.reached()
            left.cancel()
            with suppress(asyncio.CancelledError):
                await left
            assert served.stats().queued == 1
            await logged(caplog)
            assert served.stats().queued == 0
            holder.go_on.open()
        await others_end()

    run(main(), loop_factory)
    assert holder.paths == ["/first"]
    assert (served.stats().disconnected, served.stats().dropped) == (1, 1)
    assert "dropped 1 request(s)" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("cancels", [False, True], ids=["ends", "is cancelled"])
def test_request_that_is_over_is_not_kept_by_what_would_have_dropped_it(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch, cancels: bool
) -> None:
    monkeypatch.setattr("wsgi_asgi._bridge.LINGER_S", 0.01)
    first, second = Gate("the first goes on"), Gate("the second goes on")
    begun = {"/first": Gate("the first runs"), "/left": Gate("the second runs")}
    kept: list[weakref.ref[HttpServer]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        path = environ["PATH_INFO"]
        begun[path].open()
        (first if path == "/first" else second).wait()
        return hello(environ, start_response)

    served = adapter(app, threads=1, limits=Limits(abandoned_timeout=1000.0))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(HttpServer(path="/first").run(served))
            await begun["/first"].reached()
            server = posting(b"ab", path="/left")
            kept.append(weakref.ref(server))
            left = asyncio.create_task(server.run(served))
            await server.received(2).reached()
            server.left.open()
            await server.told.reached()
            first.open()
            await begun["/left"].reached()
            if cancels:
                left.cancel()
            else:
                second.open()
            with suppress(asyncio.CancelledError):
                await left
            second.open()
        del server, left
        await asyncio.to_thread(until, lambda: not served.stats().busy, "it has ended")
        await asyncio.sleep(0)
        gc.collect()
        assert kept[0]() is None

    run(main())


def test_dropped_requests_are_logged_though_the_loop_of_the_first_has_ended(
    adapter: MakeAdapter,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = adapter(hello, threads=1, limits=Limits(abandoned_timeout=0))

    async def drop(*, wait: bool) -> None:
        holder = Holder()
        monkeypatch.setattr(served._http, "application", holder)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(HttpServer().run(served))
            await holder.begun.reached()
            await leave_queue(served, posting(b"ab"))
            if wait:
                await logged(caplog)
            holder.go_on.open()

    run(drop(wait=False))
    monkeypatch.setattr("wsgi_asgi._http.DROPPED_LOG_S", 0.01)
    assert not caplog.records
    run(drop(wait=True))
    assert ["dropped 2 request(s)" in r.getMessage() for r in caplog.records] == [True]
    assert served.stats().dropped == 2
    caplog.clear()


def test_dropped_requests_of_two_loops_are_logged_once(
    adapter: MakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    class Clock:
        """A loop, as far as it calls something later."""

        def __init__(self) -> None:
            self.due: list[Callable[[], object]] = []

        def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
            self.due.append(callback)

    settings = adapter(hello)._http
    first, second = Clock(), Clock()
    for clock in (first, first, second):
        settings.note_dropped(clock)  # type: ignore[arg-type]
    (log,) = first.due
    (log_too,) = second.due
    log()
    log_too()
    (record,) = caplog.records
    assert "dropped 3 request(s)" in record.getMessage()
    settings.note_dropped(first)  # type: ignore[arg-type]
    assert len(first.due) == 2
    caplog.clear()


# A server that stops.


@in_each_serial_executor
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_request_that_a_shutdown_finds_in_the_queue_is_answered_503(
    adapter: MakeAdapter, make_options: MakeOptions, method: str
) -> None:
    holder = Holder()
    served = adapter(holder, limits=Limits(shutdown_timeout=0.01), **make_options())
    waiting = HttpServer(path="/waiting", method=method)
    stopping = LifespanServer()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(stopping.run(served))
            await stopping.started.reached()
            tasks.create_task(HttpServer(path="/first").run(served))
            await holder.begun.reached()
            queued = tasks.create_task(waiting.run(served))
            # As it may listen, and that must not keep it.
            await waiting.received(1 + (method == "POST")).reached()
            stopping.stopping.open()
            await ending
            await queued
            holder.go_on.open()
        await others_end()

    run(main())
    assert holder.paths == ["/first"]
    assert waiting.status == 503
    assert waiting.header(b"retry-after") == b"1"
    stats = served.stats()
    assert (stats.completed, stats.rejected, stats.disconnected) == (0, 1, 1)


def test_post_whose_client_left_the_queue_does_not_run_after_a_shutdown(
    adapter: MakeAdapter,
) -> None:
    holder = Holder()
    served = adapter(holder, threads=1, limits=Limits(shutdown_timeout=0.01))
    left = posting(b"ab", path="/left")
    stopping = LifespanServer()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(stopping.run(served))
            await stopping.started.reached()
            tasks.create_task(HttpServer(path="/first").run(served))
            await holder.begun.reached()
            leaving = tasks.create_task(left.run(served))
            await left.received(2).reached()
            left.left.open()
            await left.told.reached()
            stopping.stopping.open()
            await ending
            await leaving
            holder.go_on.open()

    run(main())
    assert holder.paths == ["/first"]
    assert not left.messages
    assert served.stats().disconnected == 2


@pytest.mark.parametrize("passes_state", [False, True], ids=["no state", "state"])
@pytest.mark.parametrize("leaves", [False, True], ids=["whole", "left"])
@pytest.mark.parametrize("runs", [False, True], ids=["stopped", "stopping"])
def test_body_received_while_its_server_stops_is_let_go(
    adapter: MakeAdapter, passes_state: bool, leaves: bool, runs: bool
) -> None:
    begun, go_on = Gate("a request runs"), Gate()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert environ["PATH_INFO"] == "/first"
        begun.open()
        go_on.wait()
        return hello(environ, start_response)

    served = adapter(app, limits=Limits(buffer=10))
    rest = Gate("the rest of the body comes")
    last = disconnect() if leaves else piece(b"y", more=False)
    server = uploading(piece(b"x" * 20), rest, last)
    stopping = LifespanServer()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(stopping.run(served))
            await stopping.started.reached()
            if passes_state:
                server.scope["state"] = dict(stopping.scope["state"])
            if runs:
                tasks.create_task(HttpServer(path="/first").run(served))
                await begun.reached()
            receiving = tasks.create_task(server.run(served))
            await server.received(2).reached()
            stopping.stopping.open()
            await (stopping.told.reached() if runs else ending)
            rest.open()
            await receiving
            go_on.open()

    run(main())
    assert server.status == (None if leaves else 503)
    assert served._http.intake.storage._used == 0
    stats = served.stats()
    assert (stats.rejected, stats.disconnected) == (not leaves, leaves)


def test_request_that_comes_after_its_server_has_stopped_is_served(
    adapter: MakeAdapter,
) -> None:
    served = adapter(echo)

    async def main() -> None:
        stopping = LifespanServer()
        stopping.stopping.open()
        await stopping.run(served)
        server = posting(b"ab", state=dict(stopping.scope["state"]))
        await server.run(served)
        assert server.body == b"ab"

    run(main())


# Executors that lose their work.


@on_each_loop
@pytest.mark.parametrize("header", [length(2), CHUNKED], ids=["declared", "chunked"])
def test_executor_that_is_shut_down_ends_the_requests_in_its_queue(
    adapter: MakeAdapter, loop_factory: LoopFactory, header: Any
) -> None:
    holder = Holder()
    executor = ThreadPoolExecutor(1, thread_name_prefix="small")
    served = adapter(holder, executor=executor)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(HttpServer(path="/first").run(served))
            await holder.begun.reached()
            server = uploading(*pieces(b"ab"), header=header)
            waiting = asyncio.create_task(server.run(served))
            await server.received(1).reached()
            await server.is_idle().reached()
            executor.shutdown(wait=False, cancel_futures=True)
            with pytest.raises(RuntimeError, match="ThreadPoolExecutor.*has dropped"):
                await waiting
            holder.go_on.open()

    run(main(), loop_factory)
    assert holder.paths == ["/first"]
    assert (served.stats().busy, served.stats().queued) == (0, 0)


def test_future_that_somebody_cancels_ends_its_request(adapter: MakeAdapter) -> None:
    futures: list[Future[Any]] = []

    class Noting(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
            futures.append(super().submit(*args, **kwargs))
            return futures[-1]

    holder = Holder()
    served = adapter(holder, executor=Noting(1))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(HttpServer(path="/first").run(served))
            await holder.begun.reached()
            server = HttpServer(path="/second")
            waiting = asyncio.create_task(server.run(served))
            await server.received(1).reached()
            assert futures[1].cancel()
            with pytest.raises(RuntimeError, match="Noting.*has dropped the request"):
                await waiting
            holder.go_on.open()

    run(main())
    assert holder.paths == ["/first"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@on_each_loop
def test_executor_that_breaks_ends_each_request_with_its_error(
    adapter: MakeAdapter, caplog: pytest.LogCaptureFixture, loop_factory: LoopFactory
) -> None:
    def fail() -> None:
        started.wait()
        raise OSError("no licence")

    started = Gate("a request waits")
    executor = ThreadPoolExecutor(1, "fragile", initializer=fail)
    served = adapter(never_called, executor=executor)

    async def main() -> None:
        server = posting(b"ab" * 100_000)
        waiting = asyncio.create_task(server.run(served))
        await server.received(1).reached()
        await server.is_idle().reached()
        started.open()
        with pytest.raises(BrokenThreadPool) as caught:
            await waiting
        assert "ThreadPoolExecutor" in caught.value.__notes__[0]
        with pytest.raises(BrokenThreadPool) as caught:
            await HttpServer().run(served)
        assert "ThreadPoolExecutor" in caught.value.__notes__[0]

    run(main(), loop_factory)
    assert (served.stats().busy, served.stats().queued) == (0, 0)
    assert served._http.intake.storage._used == 0
    caplog.clear()  # what concurrent.futures says of it


def test_executor_that_raises_the_same_error_again_names_itself_once(
    adapter: MakeAdapter,
) -> None:
    class Full(Executor):
        error = RuntimeError("no room")

        def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
            raise self.error

    served = adapter(never_called, executor=Full())
    for _ in range(3):
        with pytest.raises(RuntimeError, match="no room"):
            serve(served, HttpServer())
    assert len(Full.error.__notes__) == 1


def test_executor_that_gives_no_future_runs_requests(adapter: MakeAdapter) -> None:
    class Bare(Executor):
        def __init__(self) -> None:
            self._inner = ThreadPoolExecutor(1)

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            self._inner.submit(*args, **kwargs)

        def shutdown(self, *args: Any, **kwargs: Any) -> None:
            self._inner.shutdown()

    server = HttpServer()
    serve(adapter(hello, executor=Bare()), server)
    assert server.body == b"Hello"


def test_executor_that_gives_a_future_which_is_done_runs_requests(
    adapter: MakeAdapter,
) -> None:
    class Eager(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            done: Future[None] = Future()
            done.set_result(None)
            begin = super().submit
            asyncio.get_running_loop().call_soon(lambda: begin(*args, **kwargs))
            return done

    server = HttpServer()
    serve(adapter(hello, executor=Eager(1)), server)
    assert server.body == b"Hello"


def test_future_that_is_done_as_its_request_is_dropped_changes_nothing(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Racing(list[Any]):
        """Was emptied by the other side since it was looked at."""

        def __bool__(self) -> bool:
            return True

    crossing = Crossing(
        adapter(hello)._bridge,
        None,  # type: ignore[arg-type]
        hello,  # type: ignore[arg-type]
        buffer=0,
    )
    crossing._unbegun = Racing()
    future: Future[None] = Future()
    future.cancel()
    crossing._note_outcome(ThreadPoolExecutor(1), future)
    assert crossing.error is None
    assert not crossing.ended


# asgiref's executor.


@pytest.fixture
def asgirefs(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadPoolExecutor]:
    """An executor in the place of asgiref's, which other tests need."""
    executor = ThreadPoolExecutor(1)
    monkeypatch.setattr(SyncToAsync, "single_thread_executor", executor)
    yield executor
    executor.shutdown()


@on_each_loop
def test_executor_of_asgirefs_that_is_shut_down_ends_the_requests_in_its_queue(
    adapter: MakeAdapter, loop_factory: LoopFactory, asgirefs: ThreadPoolExecutor
) -> None:
    holder = Holder()
    served = adapter(holder, thread_sensitive=True)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(HttpServer(path="/first").run(served))
            await holder.begun.reached()
            server = HttpServer(path="/second")
            waiting = asyncio.create_task(server.run(served))
            await server.received(1).reached()
            asgirefs.shutdown(wait=False, cancel_futures=True)
            with pytest.raises(RuntimeError, match="ThreadPoolExecutor.*has dropped"):
                await waiting
            holder.go_on.open()

    run(main(), loop_factory)
    assert holder.paths == ["/first"]


def test_executor_of_asgirefs_that_is_shut_down_ends_requests_on_trio(
    adapter: MakeAdapter, asgirefs: ThreadPoolExecutor
) -> None:
    holder = Holder()
    served = adapter(holder, thread_sensitive=True, validate=False)
    errors: list[BaseException] = []

    async def receive() -> Any:
        await trio.sleep_forever()

    async def send(message: Any) -> None:
        pass

    async def ask(path: str) -> None:
        try:
            await served(make_scope(path=path), receive, send)
        except RuntimeError as error:
            errors.append(error)

    async def main() -> None:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, "/first")
                while not holder.begun.is_open:  # noqa: ASYNC110  # a gate is asyncio's
                    await trio.sleep(0.001)
                nursery.start_soon(ask, "/second")
                while not served.stats().queued:  # noqa: ASYNC110
                    await trio.sleep(0.001)
                asgirefs.shutdown(wait=False, cancel_futures=True)
                while not errors:  # noqa: ASYNC110
                    await trio.sleep(0.001)
                holder.go_on.open()

    trio.run(main)
    assert holder.paths == ["/first"]
    assert "ThreadPoolExecutor" in str(errors[0])


@on_each_loop
def test_request_dropped_from_asgirefs_queue_leaves_nothing_there(
    adapter: MakeAdapter, loop_factory: LoopFactory, asgirefs: ThreadPoolExecutor
) -> None:
    holder = Holder()
    served = adapter(holder, thread_sensitive=True)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(HttpServer(path="/first").run(served))
            await holder.begun.reached()
            await leave_queue(served, *[HttpServer() for _ in range(5)])
            await asyncio.sleep(0.01)
            waiting = [
                task
                for task in asyncio.all_tasks()
                if "_run_thread_sensitive" in repr(task.get_coro())
            ]
            assert len(waiting) == 1
            holder.go_on.open()

    run(main(), loop_factory)
    assert served.stats().disconnected == 5


def test_asgirefs_thread_finds_that_its_work_was_dropped(adapter: MakeAdapter) -> None:
    ran: list[bool] = []

    async def main() -> None:
        bridge = adapter(hello, thread_sensitive=True)._bridge
        crossing = Crossing(bridge, bridge.port(), lambda: ran.append(True), buffer=0)
        assert crossing.drop()
        crossing._run_guarded()
        # As if the task that waits for the thread could not be cancelled any more.
        await crossing._run_thread_sensitive()
        assert crossing.error is None

    run(main())
    assert ran == []


def test_asgirefs_work_that_is_cancelled_as_it_runs_ends_with_that(
    adapter: MakeAdapter,
) -> None:
    begun, go_on = Gate("the work runs"), Gate()

    async def main() -> None:
        def work() -> None:
            begun.open()
            go_on.wait()

        bridge = adapter(hello, thread_sensitive=True)._bridge
        crossing = Crossing(bridge, bridge.port(), work, buffer=0)
        crossing.start()
        await begun.reached()
        assert isinstance(crossing._queued, asyncio.Task)
        crossing._queued.cancel()  # as a loop that ends does with all its tasks
        await asyncio.sleep(0)
        go_on.open()
        await crossing.wait()
        assert isinstance(crossing.error, asyncio.CancelledError)
        crossing.leave()
        await others_end()

    run(main())
