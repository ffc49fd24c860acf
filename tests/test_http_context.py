"""Context variables and asgiref: what the application sees, what stays behind."""

import asyncio
import decimal
import sys
import threading
import time
import warnings
from concurrent.futures import Executor, Future
from contextvars import ContextVar, Token
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import anyio
import anyio.lowlevel
import pytest
import sniffio
from asgiref.local import Local
from asgiref.sync import async_to_sync, sync_to_async
from flask import Flask

from tests.apps import Body, Stream, hello, nothing, start
from tests.drivers import (
    WAIT_S,
    ASGIApp,
    Clock,
    Gate,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    MakeOptions,
    Server,
    in_each_executor,
    on_each_loop,
    run,
    serve_all,
    until,
)
from wsgi_asgi import _bridge, _port
from wsgi_asgi._bridge import Crossing

in_each_thread = pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="own pool"),
        pytest.param({"thread_sensitive": True}, id="asgiref's thread"),
    ],
)

variable: ContextVar[str] = ContextVar("variable", default="unset")
local = Local()


def text() -> bytes:
    return variable.get().encode()


# In, and nothing back.


@on_each_loop
@in_each_thread
def test_context_of_the_caller_is_seen_in_every_phase(
    adapter: MakeAdapter, loop_factory: LoopFactory, options: dict[str, Any]
) -> None:
    closed: list[bytes] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)(text())
        return Stream(
            (text() for _ in range(2)), at_close=lambda: closed.append(text())
        )

    server = HttpServer()

    async def main() -> None:
        variable.set("middleware")
        await server.run(adapter(app, **options))

    run(main(), loop_factory)
    assert server.body == b"middleware" * 3
    assert closed == [b"middleware"]


@on_each_loop
@in_each_thread
def test_context_of_one_request_is_the_same_in_every_phase(
    adapter: MakeAdapter, loop_factory: LoopFactory, options: dict[str, Any]
) -> None:
    tokens: list[Token[str]] = []

    def chunks() -> Body:
        yield text()
        # Possible only in the very context in which it was set.
        variable.reset(tokens.pop())
        tokens.append(variable.set("next"))
        yield text()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        tokens.append(variable.set("call"))
        start(start_response)
        return Stream(chunks(), at_close=lambda: variable.reset(tokens.pop()))

    server = HttpServer()
    run(server.run(adapter(app, **options)), loop_factory)
    assert server.body == b"callnext"
    assert not tokens


@on_each_loop
@in_each_thread
def test_context_of_one_request_is_not_seen_by_another(
    adapter: MakeAdapter, loop_factory: LoopFactory, options: dict[str, Any]
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        before = text() + getattr(local, "value", "").encode()
        variable.set("leak")
        local.value = "leak"
        yield before

    served = adapter(app, **options)
    servers = [HttpServer() for _ in range(30)]

    async def main() -> None:
        for server in servers[:10]:
            await server.run(served)
        await serve_all(served, servers[10:])

    run(main(), loop_factory)
    assert {server.body for server in servers} == {b"unset"}


@on_each_loop
@in_each_thread
def test_context_of_the_caller_is_not_changed_at_any_time(
    adapter: MakeAdapter, loop_factory: LoopFactory, options: dict[str, Any]
) -> None:
    seen: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        variable.set("application")
        start(start_response)
        yield b"a"
        variable.set("generator")
        yield b"b"

    served = adapter(app, **options)

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        # A server that goes on to the next request from within send() copies
        # the context that it finds there.
        async def noting_send(message: Any) -> None:
            seen.append(variable.get())
            await send(message)
            seen.append(variable.get())

        await served(scope, receive, noting_send)
        seen.append(variable.get())

    run(HttpServer().run(middleware), loop_factory)
    assert set(seen) == {"unset"}
    assert getattr(local, "value", None) is None


@on_each_loop
def test_context_of_the_caller_is_seen_in_send_and_receive(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    seen: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield b"a"
        server.received(1).wait()
        yield b"b"

    served = adapter(app)
    server = HttpServer()

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        variable.set("middleware")

        async def noting_receive() -> Any:
            seen.append(variable.get())
            return await receive()

        async def noting_send(message: Any) -> None:
            seen.append(variable.get())
            await send(message)

        await served(scope, noting_receive, noting_send)

    run(server.run(middleware), loop_factory)
    assert set(seen) == {"middleware"}
    assert len(seen) >= 4


def test_send_is_awaited_by_the_task_of_the_request(adapter: MakeAdapter) -> None:
    tasks: list[Any] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        for _ in range(3):
            yield b"x"

    served = adapter(app)

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        own = asyncio.current_task()

        async def noting_send(message: Any) -> None:
            tasks.append(asyncio.current_task() is own)
            await send(message)

        await served(scope, receive, noting_send)

    run(HttpServer().run(middleware))
    assert set(tasks) == {True}


def test_context_of_a_request_does_not_stay_with_its_thread(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        variable.set("leak")
        local.value = "leak"
        return hello(environ, start_response)

    served = adapter(app, threads=1)
    run(HttpServer().run(served))
    later = served.executor.submit(lambda: (variable.get(), hasattr(local, "value")))
    assert later.result() == ("unset", False)


# What can be changed without a context variable's being set.


def digits() -> bytes:
    return b"%d " % decimal.getcontext().prec


@on_each_loop
@in_each_executor
def test_decimal_context_is_a_copy_of_the_loops_for_each_request(
    adapter: MakeAdapter, loop_factory: LoopFactory, make_options: MakeOptions
) -> None:
    closed: list[bytes] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)(digits())
        decimal.getcontext().prec = 3

        def chunks() -> Body:
            yield digits()
            decimal.getcontext().prec = 4

        return Stream(chunks(), at_close=lambda: closed.append(digits()))

    served = adapter(app, **make_options())
    servers = [HttpServer() for _ in range(12)]

    async def main() -> None:
        decimal.setcontext(decimal.Context(prec=7))
        for server in servers[:4]:
            await server.run(served)
        await serve_all(served, servers[4:])
        assert digits() == b"7 "

    run(main(), loop_factory)
    assert {server.body for server in servers} == {b"7 3 "}
    assert set(closed) == {b"4 "}


@in_each_executor
def test_decimal_context_of_a_request_is_that_of_its_asynchronous_code(
    adapter: MakeAdapter, make_options: MakeOptions
) -> None:
    async def view() -> bytes:
        before = digits()
        decimal.getcontext().prec = 4
        return before

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        decimal.getcontext().prec = 3
        return [async_to_sync(view)() + digits()]

    server = HttpServer()

    async def main() -> None:
        decimal.setcontext(decimal.Context(prec=7))
        await server.run(adapter(app, **make_options()))
        assert digits() == b"7 "

    run(main())
    assert server.body == b"3 4 "


class Filters:
    """As the standard library has them in a context variable, since Python 3.14."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def copy(self) -> "Filters":
        return Filters(self.names[:])


@in_each_executor
@pytest.mark.parametrize(
    ("is_global", "kept"), [(False, []), (True, ["mine"])], ids=["set", "global"]
)
def test_warnings_context_is_a_copy_of_the_loops_unless_that_is_the_global_one(
    adapter: MakeAdapter,
    make_options: MakeOptions,
    monkeypatch: pytest.MonkeyPatch,
    is_global: bool,
    kept: list[str],
) -> None:
    filters: ContextVar[Filters] = ContextVar("filters")
    of_loop = Filters([])

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        filters.get().names.append("mine")
        return [",".join(filters.get().names).encode()]

    server = HttpServer()

    async def main() -> None:
        filters.set(of_loop)
        await server.run(adapter(app, **make_options()))

    with monkeypatch.context() as patch:
        patch.setattr(warnings, "_warnings_context", filters, raising=False)
        known = of_loop if is_global else Filters([])
        patch.setattr(warnings, "_global_context", known, raising=False)
        run(main())
    assert server.body == b"mine"
    assert of_loop.names == kept


# What is true of the loop's thread only.


@in_each_executor
def test_loop_of_anyio_is_run_by_an_application_below_a_loop_of_anyio(
    adapter: MakeAdapter, make_options: MakeOptions
) -> None:
    async def view() -> str:
        await anyio.lowlevel.checkpoint()
        return sniffio.current_async_library()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        with pytest.raises(sniffio.AsyncLibraryNotFoundError):
            sniffio.current_async_library()
        found = [anyio.run(view), anyio.run(view, backend="trio")]
        found.append(async_to_sync(view)())
        start(start_response)
        return [",".join(found).encode()]

    served = adapter(app, **make_options())
    server = HttpServer()

    async def main() -> str:
        await server.run(served)
        return sniffio.current_async_library()

    assert anyio.run(main) == "asyncio"
    assert server.body == b"asyncio,trio,asyncio"


@in_each_executor
@pytest.mark.parametrize("module", ["decimal", "sniffio"])
def test_module_that_is_not_used_is_not_imported_for_a_request(
    adapter: MakeAdapter,
    make_options: MakeOptions,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
) -> None:
    monkeypatch.delitem(sys.modules, module)
    server = HttpServer()

    async def main() -> None:
        variable.set("set")
        await server.run(adapter(hello, **make_options()))

    run(main())
    assert server.body == b"Hello"
    assert module not in sys.modules


# asgiref.


@on_each_loop
@in_each_thread
def test_local_of_asgiref_set_by_middleware_is_seen_in_every_phase(
    adapter: MakeAdapter, loop_factory: LoopFactory, options: dict[str, Any]
) -> None:
    closed: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)(local.value.encode())
        return Stream(
            (local.value.encode() for _ in range(2)),
            at_close=lambda: closed.append(local.value),
        )

    served = adapter(app, **options)
    server = HttpServer()

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        local.value = "mine"
        await served(scope, receive, send)
        assert local.value == "mine"

    run(server.run(middleware), loop_factory)
    assert server.body == b"minemine" + b"mine"
    assert closed == ["mine"]


async def _where() -> tuple[Any, int]:
    await asyncio.sleep(0)
    return asyncio.get_running_loop(), threading.get_ident()


@on_each_loop
@in_each_thread
@pytest.mark.parametrize("phase", ["call", "next", "close"])
def test_async_to_sync_runs_on_the_servers_loop(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    options: dict[str, Any],
    phase: str,
) -> None:
    found: list[tuple[Any, int]] = []

    def note(where: str) -> None:
        if where == phase:
            found.append(async_to_sync(_where)())

    def chunks() -> Body:
        yield b"a"
        note("next")
        yield b"b"

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        note("call")
        start(start_response)
        return Stream(chunks(), at_close=lambda: note("close"))

    async def main() -> None:
        await HttpServer().run(adapter(app, **options))
        assert found == [await _where()]

    run(main(), loop_factory)


@on_each_loop
@in_each_thread
def test_async_to_sync_shares_the_context_of_the_request(
    adapter: MakeAdapter, loop_factory: LoopFactory, options: dict[str, Any]
) -> None:
    async def change() -> str:
        before = f"{variable.get()},{local.value}"
        variable.set("coroutine")
        local.value = "coroutine"
        return before

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        variable.set("call")
        local.value = "call"
        before = async_to_sync(change)()
        start(start_response)
        return [f"{before},{variable.get()},{local.value}".encode()]

    server = HttpServer()
    run(server.run(adapter(app, **options)), loop_factory)
    assert server.body == b"call,call,coroutine,coroutine"


@on_each_loop
@in_each_thread
def test_sync_to_async_below_async_to_sync_runs_in_the_requests_thread(
    adapter: MakeAdapter, loop_factory: LoopFactory, options: dict[str, Any]
) -> None:
    async def view() -> int:
        return await sync_to_async(threading.get_ident)()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert async_to_sync(view)() == threading.get_ident()
        start(start_response)
        yield b"a"
        assert async_to_sync(view)() == threading.get_ident()
        yield b"b"

    server = HttpServer()
    run(server.run(adapter(app, **options)), loop_factory)
    assert server.body == b"ab"


async def _slept() -> str:
    await asyncio.sleep(0)
    return "slept"


@on_each_loop
def test_async_views_of_twice_as_many_requests_as_threads_all_complete(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    async def view() -> str:
        task = asyncio.create_task(_slept())
        await sync_to_async(nothing)()
        return await asyncio.wait_for(task, WAIT_S)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        return [async_to_sync(view)().encode()]

    servers = [HttpServer() for _ in range(8)]
    run(serve_all(adapter(app, threads=4), servers), loop_factory)
    assert {server.body for server in servers} == {b"slept"}


# Coroutines that hold the loop up.


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of those who look whether the loop stood still.

    Whoever sets it on in a step of the loop makes that step a long one.
    """
    made = Clock()
    monkeypatch.setattr(_port, "time", made)
    monkeypatch.setattr(_bridge, "time", made)
    monkeypatch.setattr(_port, "TICK_S", 0.02)
    return made


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Opens when a request has heard of a loop that stood still."""
    gate = Gate("a request hears of it")
    note_stall = Crossing.note_stall

    def note_and_tell(crossing: Crossing, seconds: float, since: float) -> None:
        note_stall(crossing, seconds, since)
        gate.open()

    monkeypatch.setattr(Crossing, "note_stall", note_and_tell)
    return gate


def of_stalls(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Give the warnings of the package, once, so that they count as expected."""
    texts = [one.getMessage() for one in caplog.records if one.name == "wsgi_asgi"]
    caplog.clear()
    return texts


def blocks_and_ends(clock: Clock, heard: Gate) -> Any:
    async def view() -> None:
        clock.now += 2

    return view


def blocks_after_a_wait(clock: Clock, heard: Gate) -> Any:
    async def view() -> None:
        await asyncio.sleep(0.1)
        clock.now += 2

    return view


def blocks_and_waits(clock: Clock, heard: Gate) -> Any:
    async def view() -> None:
        clock.now += 2
        await heard.reached()

    return view


@on_each_loop
@pytest.mark.parametrize(
    "make_view", [blocks_and_ends, blocks_after_a_wait, blocks_and_waits]
)
def test_coroutine_that_blocks_the_loop_is_warned_of_once(
    adapter: MakeAdapter,
    caplog: pytest.LogCaptureFixture,
    clock: Clock,
    heard: Gate,
    loop_factory: LoopFactory,
    make_view: Any,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        async_to_sync(make_view(clock, heard))()
        heard.wait()
        return hello(environ, start_response)

    served = adapter(app, validate=False)
    run(HttpServer().run(served), loop_factory)
    (text,) = of_stalls(caplog)
    assert text.startswith(f"{__name__}.{app.__qualname__}: the event loop stood still")
    assert "for at least 2.0 s" in text
    assert "async def view" in text
    run(HttpServer().run(served), loop_factory)
    assert of_stalls(caplog) == []


def test_coroutine_in_asgirefs_thread_that_blocks_the_loop_and_goes_on_is_warned_of(
    adapter: MakeAdapter,
    caplog: pytest.LogCaptureFixture,
    clock: Clock,
    heard: Gate,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        async_to_sync(blocks_and_waits(clock, heard))()
        return hello(environ, start_response)

    run(HttpServer().run(adapter(app, thread_sensitive=True)))
    assert len(of_stalls(caplog)) == 1


@pytest.mark.parametrize("before", [False, True], ids=["without coroutines", "later"])
def test_loop_held_up_by_others_is_not_warned_of(
    adapter: MakeAdapter,
    clock: Clock,
    heard: Gate,
    before: bool,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        if before:
            async_to_sync(_slept)()
            clock.now += 0.5
            (port,) = served._bridge._ports.values()
            until(lambda: port._ticked_at == clock.now, "the loop goes on")
        loop.call_soon_threadsafe(stand_still)
        heard.wait()
        return hello(environ, start_response)

    def stand_still() -> None:
        clock.now += 2

    served = adapter(app)
    loop = asyncio.new_event_loop()
    run(HttpServer().run(served), lambda: loop)


def test_coroutine_on_a_loop_of_its_own_is_not_warned_of(
    adapter: MakeAdapter, clock: Clock, heard: Gate
) -> None:
    async def view() -> None:
        loop.call_soon_threadsafe(stand_still)
        await heard.reached()

    def stand_still() -> None:
        clock.now += 2

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        async_to_sync(view, force_new_loop=True)()
        return hello(environ, start_response)

    loop = asyncio.new_event_loop()
    run(HttpServer().run(adapter(app)), lambda: loop)


@on_each_loop
def test_flask_view_that_blocks_the_loop_for_more_than_a_second_is_warned_of(
    adapter: MakeAdapter, caplog: pytest.LogCaptureFixture, loop_factory: LoopFactory
) -> None:
    flask_app = Flask(__name__)

    @flask_app.get("/")
    async def view() -> str:
        time.sleep(1.1)  # noqa: ASYNC251  # what is wrong with it
        return "slow"

    server = HttpServer()
    run(server.run(adapter(flask_app, validate=False)), loop_factory)
    assert server.body == b"slow"
    (text,) = of_stalls(caplog)
    assert text.startswith("flask.app.Flask: the event loop stood still")


def test_async_to_sync_after_the_request_does_not_use_its_loop(
    adapter: MakeAdapter,
) -> None:
    served = adapter(hello, threads=1)

    async def main() -> Any:
        await HttpServer().run(served)
        later = served.executor.submit(lambda: async_to_sync(_where)())
        loop, _ = await asyncio.wrap_future(later)
        return loop is asyncio.get_running_loop()

    assert run(main()) is False


@in_each_thread
def test_application_can_run_a_loop_of_its_own(
    adapter: MakeAdapter, options: dict[str, Any]
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        loop, _ = asyncio.run(_where())
        start(start_response)
        return [b"own" if loop is not served_on[0] else b"server's"]

    served_on: list[Any] = []
    server = HttpServer()

    async def main() -> None:
        served_on.append(asyncio.get_running_loop())
        await server.run(adapter(app, **options))

    run(main())
    assert server.body == b"own"


def test_adapter_below_async_to_sync_serves(adapter: MakeAdapter) -> None:
    # As synchronous test clients call an ASGI application.
    app: ASGIApp = adapter(hello)
    server: Server = HttpServer()
    async_to_sync(server.run)(app)
    assert isinstance(server, HttpServer)
    assert server.body == b"Hello"


def test_request_in_a_thread_that_asgiref_uses_leaves_it_its_loop(
    adapter: MakeAdapter,
) -> None:
    class SameThread(Executor):
        def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Any:
            future: Future[None] = Future()
            future.set_result(work(*args, **kwargs))
            return future

    # The validator would make a stream, which waits for its loop.
    served = adapter(hello, validate=False, executor=SameThread())

    def serve_and_look() -> Any:
        asyncio.run(HttpServer().run(served))
        return async_to_sync(_where)()

    async def main() -> bool:
        loop, _ = await sync_to_async(serve_and_look)()
        return loop is asyncio.get_running_loop()

    assert run(main()) is True
