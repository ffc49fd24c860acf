"""The server cancels the request's task, in each phase of a request."""

import asyncio
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from asgiref.sync import async_to_sync

from tests.apps import Body, Stream, answering, endless, hello, never_called, start
from tests.drivers import (
    Gate,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    length,
    on_each_loop,
    others_end,
    piece,
    run,
    until,
    uploading,
)
from wsgi_asgi import ClientDisconnected, WsgiToAsgi


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the task wait but briefly for the thread, which here never ends first."""
    monkeypatch.setattr("wsgi_asgi._bridge.LINGER_S", 0.01)


async def cancel(app: WsgiToAsgi, server: HttpServer, when: Gate) -> None:
    """Cancel a request; the task must end at once, whatever the thread does."""
    task = asyncio.create_task(server.run(app))
    await when.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(2):
            await task


@on_each_loop
def test_request_cancelled_while_its_body_comes_application_is_not_called(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    app = adapter(never_called, spool=False)
    never = Gate("more of the body comes")
    server = uploading(piece(b"ab"), never, header=length(5))
    run(cancel(app, server, server.received(2)), loop_factory)
    assert app.stats().disconnected == 1


@pytest.mark.usefixtures("impatient")
@on_each_loop
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"threads": 1}, id="one thread"),
        pytest.param({"thread_sensitive": True}, id="thread-sensitive"),
    ],
)
def test_request_cancelled_in_the_queue_application_is_not_called(
    adapter: MakeAdapter, loop_factory: LoopFactory, options: dict[str, Any]
) -> None:
    begun, go_on = Gate("the thread is taken"), Gate()
    paths: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        paths.append(environ["PATH_INFO"])
        begun.open()
        go_on.wait()
        return hello(environ, start_response)

    served = adapter(app, **options)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(HttpServer(path="/first").run(served))
            await begun.reached()
            second = HttpServer(path="/second")
            queued = Gate("the request is queued")
            asyncio.get_running_loop().call_soon(queued.open)
            await cancel(served, second, queued)
            go_on.open()
        # What comes after it in the queue has been reached when this is served.
        await HttpServer(path="/third").run(served)
        await others_end()

    run(main(), loop_factory)
    assert paths == ["/first", "/third"]
    stats = served.stats()
    assert (stats.completed, stats.disconnected, stats.queued) == (2, 1, 0)


@on_each_loop
def test_request_cancelled_in_a_long_call_sends_nothing(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    begun, go_on = Gate("the application runs"), Gate()
    stream = Stream([b"late"])

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        go_on.wait()
        start(start_response)
        return stream

    served = adapter(app)
    server = HttpServer()

    async def main() -> None:
        await cancel(served, server, begun)
        assert served.stats().busy == 1
        go_on.open()
        await stream.closed.reached()

    run(main(), loop_factory)
    assert (stream.taken, stream.closes) == (0, 1)
    assert not server.messages


@on_each_loop
def test_request_cancelled_in_a_read_frees_the_thread(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    begun, raised = Gate("the application runs"), Gate("read() has raised")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        with pytest.raises(ClientDisconnected):
            environ["wsgi.input"].read(10)
        raised.open()
        return hello(environ, start_response)

    served = adapter(app, spool=False)
    server = uploading(piece(b"ab"), Gate("more of the body comes"))

    async def main() -> None:
        await cancel(served, server, begun)
        await raised.reached()
        await others_end()

    run(main(), loop_factory)
    assert not server.messages


@pytest.mark.usefixtures("impatient")
@on_each_loop
def test_request_cancelled_in_the_next_step_takes_no_other(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    blocked, go_on = Gate("the next step blocks"), Gate()

    def chunks() -> Body:
        yield b"first"
        blocked.open()
        go_on.wait()
        yield b"second"
        yield b"third"

    stream = Stream(chunks())
    server = HttpServer()

    async def main() -> None:
        await cancel(adapter(answering(stream)), server, blocked)
        go_on.open()
        await stream.closed.reached()

    run(main(), loop_factory)
    assert (stream.taken, stream.closes) == (2, 1)


@on_each_loop
@pytest.mark.parametrize("by_write", [False, True], ids=["iterable", "write"])
def test_request_cancelled_while_the_client_stalls_frees_the_thread(
    adapter: MakeAdapter, loop_factory: LoopFactory, by_write: bool
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

    server = HttpServer()
    server.stall_at(2)

    async def main() -> None:
        await cancel(adapter(app), server, server.sent(2))
        await stream.closed.reached()

    run(main(), loop_factory)
    assert stream.closes == 1


@pytest.mark.usefixtures("impatient")
@on_each_loop
def test_request_cancelled_in_close_counts_as_complete(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    closing, go_on = Gate("close() runs"), Gate()

    def close() -> None:
        closing.open()
        go_on.wait()

    stream = Stream([b"a"], at_close=close)
    served = adapter(answering(stream))
    server = HttpServer(tells_end=False)

    async def main() -> None:
        task = asyncio.create_task(cancel(served, server, server.complete))
        await closing.reached()
        await task
        go_on.open()
        await stream.closed.reached()

    run(main(), loop_factory)
    assert stream.closes == 1
    assert server.body == b"a"
    assert served.stats().disconnected == 0


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("thread_sensitive", [False, True], ids=["pool", "asgiref's"])
def test_request_cancelled_error_of_the_application_is_logged_once(
    adapter: MakeAdapter, caplog: pytest.LogCaptureFixture, thread_sensitive: bool
) -> None:
    begun, go_on = Gate("the application runs"), Gate()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        go_on.wait()
        raise KeyError("nobody waits for this")

    served = adapter(app, thread_sensitive=thread_sensitive)

    async def main() -> None:
        await cancel(served, HttpServer(), begun)
        go_on.open()
        await asyncio.to_thread(until, lambda: not served.stats().busy, "it ends")
        await others_end()

    run(main())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "nobody waits for this" in caplog.text
    assert "in app\n" in caplog.text
    caplog.clear()


def test_request_cancelled_after_its_async_code_is_silent(
    adapter: MakeAdapter,
) -> None:
    # A loop that ends cancels all tasks, in whatever order.
    views: list[asyncio.Task[None] | None] = []
    begun = Gate("the coroutine waits")

    async def view() -> None:
        views.append(asyncio.current_task())
        begun.open()
        await asyncio.Event().wait()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        async_to_sync(view)()
        return never_called(environ, start_response)

    served = adapter(app)

    async def main() -> None:
        task = asyncio.create_task(HttpServer().run(served))
        await begun.reached()
        assert views[0]
        views[0].cancel()
        # In between, the thread hears of the one and not yet of the other.
        asyncio.get_running_loop().call_soon(
            until, lambda: not served.stats().busy, "the thread is free"
        )
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert served.stats().disconnected == 1


def test_request_cancelled_before_its_first_turn_application_is_not_called(
    adapter: MakeAdapter,
) -> None:
    app = adapter(never_called)

    async def main() -> None:
        task = asyncio.create_task(app(HttpServer().scope, None, None))  # type: ignore[arg-type]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_request_whose_coroutine_is_closed_frees_the_thread(
    adapter: MakeAdapter,
) -> None:
    begun, go_on = Gate("the application runs"), Gate()
    stream = Stream([b"late"])

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        go_on.wait()
        start(start_response)
        return stream

    served = adapter(app)

    async def main() -> None:
        # A loop that goes away without a word leaves the coroutine to be closed.
        coroutine = served(HttpServer().scope, None, None)  # type: ignore[arg-type]
        coroutine.send(None)
        await begun.reached()
        coroutine.close()
        go_on.open()
        await stream.closed.reached()

    run(main())
    assert (stream.taken, stream.closes) == (0, 1)
