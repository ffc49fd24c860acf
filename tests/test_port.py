"""Event loops of each kind, as the bridge sees them."""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine, MutableMapping
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import trio
from asgiref.sync import SyncToAsync, async_to_sync

from tests.apps import Body, hello
from tests.drivers import (
    WAIT_S,
    Clock,
    Gate,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    make_scope,
    on_each_loop,
    run,
)
from wsgi_asgi import WsgiToAsgi, _port
from wsgi_asgi._bridge import Crossing
from wsgi_asgi._port import AsyncioPort, Port, Term, Timer, Waiter, settle
from wsgi_asgi._trio import TrioPort

ITEMS = 400

Main = Callable[[Port], Coroutine[Any, Any, None]]
Run = Callable[[Main], None]


def on_asyncio(main: Main) -> None:
    async def start() -> None:
        await main(AsyncioPort(asyncio.get_running_loop()))

    run(start())


def on_uvloop(main: Main) -> None:
    import uvloop

    async def start() -> None:
        await main(AsyncioPort(asyncio.get_running_loop()))

    run(start(), uvloop.new_event_loop)


def on_trio(main: Main) -> None:
    async def start() -> None:
        with trio.fail_after(WAIT_S):
            await main(TrioPort())

    trio.run(start, strict_exception_groups=True)


RUNS = [pytest.param(on_asyncio, id="asyncio"), pytest.param(on_trio, id="trio")]
if sys.platform != "win32":
    RUNS.append(pytest.param(on_uvloop, id="uvloop"))
on_each_kind = pytest.mark.parametrize("on_loop", RUNS)


cut: list[bool] = []


@pytest.fixture(autouse=True)
def nothing_cut() -> None:
    cut.clear()


async def wait_or_cut(waiter: Waiter) -> None:
    """Wait, and note if that was cancelled."""
    try:
        await waiter
    except (asyncio.CancelledError, trio.Cancelled):
        cut.append(True)
        raise


# Posting.


class SlowPort(AsyncioPort):
    """Of a loop that is slow to look after its callbacks."""

    def __init__(self) -> None:
        super().__init__(asyncio.new_event_loop())
        self.wake_ups: list[Callable[[], object]] = []

    def _call_soon(self, callback: Callable[[], object]) -> None:
        self.wake_ups.append(callback)


def test_port_wakes_a_busy_loop_once_for_many_callbacks() -> None:
    port = SlowPort()
    called: list[int] = []
    for number in range(10):
        port.post(lambda number=number: called.append(number))  # type: ignore[misc]
    assert len(port.wake_ups) == 1
    port.wake_ups.pop()()
    assert called == list(range(10))
    port.post(lambda: called.append(10))
    assert len(port.wake_ups) == 1
    assert port.asyncio_loop
    port.asyncio_loop.close()


def test_port_calls_what_comes_after_a_callback_that_fails() -> None:
    port = SlowPort()
    called: list[int] = []

    def fail() -> None:
        raise KeyError("in a callback")

    port.post(fail)
    port.post(lambda: called.append(1))
    with pytest.raises(KeyError):
        port.wake_ups.pop()()
    port.wake_ups.pop()()
    assert called == [1]
    assert not port.wake_ups
    assert port.asyncio_loop
    port.asyncio_loop.close()


@on_each_kind
def test_port_of_a_loop_that_is_gone_takes_callbacks_and_forgets_them(
    on_loop: Run,
) -> None:
    ports: list[Port] = []
    called: list[int] = []

    async def main(port: Port) -> None:
        assert port.is_alive()
        assert not port.is_gone()
        ports.append(port)

    on_loop(main)
    port = ports[0]
    assert port.is_gone()
    assert not port.is_alive()
    port.post(lambda: called.append(1))
    port.post(lambda: called.append(2))
    assert called == []
    assert not port._callbacks


@on_each_kind
def test_port_calls_on_the_loop_what_many_threads_post(on_loop: Run) -> None:
    called: list[tuple[int, int]] = []
    where: set[int] = set()

    async def main(port: Port) -> None:
        done = port.new_waiter()

        def call(thread: int, number: int) -> None:
            where.add(threading.get_ident())
            called.append((thread, number))
            if len(called) == 4 * ITEMS:
                settle(done)

        def post(thread: int) -> None:
            for number in range(ITEMS):
                port.post(lambda number=number: call(thread, number))  # type: ignore[misc]

        threads = [threading.Thread(target=post, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        await done
        for thread in threads:
            thread.join()

    on_loop(main)
    assert where == {threading.get_ident()}
    for thread in range(4):
        own = [number for who, number in called if who == thread]
        assert own == list(range(ITEMS))


# Waiting.


@on_each_kind
def test_waiter_settled_twice_lets_its_task_go_on(on_loop: Run) -> None:
    async def main(port: Port) -> None:
        waiter = port.new_waiter()
        assert not waiter.done()
        port.post(lambda: settle(waiter))
        await waiter
        assert waiter.done()
        settle(waiter)

    on_loop(main)


@on_each_kind
def test_wait_for_gives_up_after_its_patience(on_loop: Run) -> None:
    async def main(port: Port) -> None:
        await port.wait_for(port.new_waiter(), 0.01)

    on_loop(main)


@on_each_kind
def test_call_later_cancelled_is_not_made(on_loop: Run) -> None:
    called: list[str] = []

    async def main(port: Port) -> None:
        last = port.new_waiter()

        def end() -> None:
            called.append("kept")
            settle(last)

        cancelled: Timer = port.call_later(0.01, lambda: called.append("cancelled"))
        port.call_later(0.02, end)
        cancelled.cancel()
        await last

    on_loop(main)
    assert called == ["kept"]


@on_each_kind
def test_pause_lets_others_go_on(on_loop: Run) -> None:
    called: list[bool] = []

    async def main(port: Port) -> None:
        port.post(lambda: called.append(True))
        while not called:
            await port.pause(0)

    on_loop(main)


@on_each_kind
def test_shield_lets_a_cancelled_task_wait(on_loop: Run) -> None:
    cleaned: list[bool] = []

    async def main(port: Port) -> None:
        async def background() -> bool:
            return True

        async def foreground() -> None:
            try:
                await wait_or_cut(port.new_waiter())
            finally:
                with port.shield():
                    await port.wait_for(port.new_waiter(), 0.01)
                cleaned.append(True)

        await port.beside(background, foreground)

    on_loop(main)
    assert cleaned == cut == [True]


# Beside.


@on_each_kind
@pytest.mark.parametrize("told", [True, False])
def test_beside_cuts_the_foreground_short_only_if_told(
    on_loop: Run, told: bool
) -> None:
    async def main(port: Port) -> None:
        released = port.new_waiter()

        async def background() -> bool:
            port.call_later(0.05, lambda: settle(released))
            return told

        async def foreground() -> None:
            await wait_or_cut(released)

        await port.beside(background, foreground)

    on_loop(main)
    assert cut == [True] * told


@on_each_kind
def test_beside_ends_the_background_with_the_foreground(on_loop: Run) -> None:
    async def main(port: Port) -> None:
        async def background() -> bool:
            await wait_or_cut(port.new_waiter())
            return True

        async def foreground() -> None:
            await port.pause(0)
            raise KeyError("in the foreground")

        with pytest.raises(KeyError, match="in the foreground"):
            await port.beside(background, foreground)
        assert cut == [True]
        await port.pause(0)

    on_loop(main)


@on_each_kind
def test_beside_within_another_is_cut_short_with_it(on_loop: Run) -> None:
    async def main(port: Port) -> None:
        async def never() -> bool:
            await wait_or_cut(port.new_waiter())
            return False

        async def at_once() -> bool:
            return True

        async def inner() -> None:
            await port.beside(never, never)

        await port.beside(at_once, inner)

    on_loop(main)
    assert cut


@on_each_kind
def test_interruptible_block_is_cut_short_by_a_call(on_loop: Run) -> None:
    after: list[bool] = []

    async def main(port: Port) -> None:
        async with port.interruptible() as interrupt:
            port.call_later(0.01, interrupt)
            await wait_or_cut(port.new_waiter())
        await port.pause(0)
        after.append(True)

    on_loop(main)
    assert cut == after == [True]


@on_each_kind
def test_interruptible_block_raises_what_is_its_own(on_loop: Run) -> None:
    async def main(port: Port) -> None:
        async with port.interruptible():
            await port.pause(0)
        with pytest.raises(TimeoutError, match="of a server"):
            async with port.interruptible():
                raise TimeoutError("of a server")

    on_loop(main)


# Counting.


class Work:
    age = 0

    def __init__(self, port: Port, term: Term | None = None) -> None:
        self.term = term
        self.nudged = port.new_waiter()
        self.abandoned = False
        self.stalls: list[tuple[float, float]] = []

    def nudge(self) -> None:
        settle(self.nudged)

    def note_stall(self, seconds: float, since: float) -> None:
        self.stalls.append((seconds, since))

    def abandon(self, *, at_end: bool = False) -> None:
        assert at_end
        self.abandoned = True


@on_each_kind
def test_work_that_takes_long_is_nudged_and_abandoned_by_a_drain(
    on_loop: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_port, "TICK_S", 0.01)

    async def main(port: Port) -> None:
        term = Term()
        term.is_ending = True
        port.terms.add(term)
        quick, slow = Work(port), Work(port, term)
        port.enter(quick)
        port.enter(slow)
        await slow.nudged
        port.call_later(0, lambda: port.leave(quick))
        await port.drain(term, 0.05)
        assert slow.abandoned
        assert not quick.abandoned
        port.call_later(0, lambda: port.leave(slow))
        await port.drain(term, WAIT_S)
        assert port.crossings == set()
        await port.drain(term, WAIT_S)

    on_loop(main)


@on_each_kind
@pytest.mark.parametrize(
    ("passed", "stalls"),
    [
        pytest.param(0.5, [], id="short"),
        pytest.param(1.0, [], id="up to the bound"),
        pytest.param(2.0, [(1.75, 100.0)], id="long"),
    ],
)
def test_work_hears_once_of_a_loop_that_stood_still(
    on_loop: Run,
    monkeypatch: pytest.MonkeyPatch,
    passed: float,
    stalls: list[tuple[float, float]],
) -> None:
    clock = Clock()
    monkeypatch.setattr(_port, "time", clock)
    monkeypatch.setattr(_port, "TICK_S", 0.25)

    async def main(port: Port) -> None:
        work = Work(port)
        port.enter(work)
        clock.now += passed
        await work.nudged  # by the second tick, for which no time has passed
        assert work.stalls == stalls
        port.leave(work)

    on_loop(main)


@on_each_kind
def test_work_of_a_server_that_goes_on_is_not_drained(on_loop: Run) -> None:
    async def main(port: Port) -> None:
        ending, other = Term(), Term()
        port.terms.update((ending, other))
        assert not (port.drains(None))
        assert not (port.drains(ending))
        ending.is_ending = True
        assert port.drains(ending)
        assert not (port.drains(None))
        assert not (port.drains(other))
        work = [Work(port), Work(port, other), Work(port, ending)]
        for one in work:
            port.enter(one)
        await port.drain(ending, 0)
        assert [one.abandoned for one in work] == [False, False, True]
        other.is_ending = True
        assert port.drains(None)
        await port.drain(ending, 0)
        assert [one.abandoned for one in work] == [True, False, True]
        port.terms.clear()
        assert not port.drains(None)
        for one in work:
            port.leave(one)

    on_loop(main)


@on_each_kind
def test_drains_of_two_servers_end_each_when_its_own_work_has_ended(
    on_loop: Run,
) -> None:
    async def main(port: Port) -> None:
        first, second = Term(), Term()
        first.is_ending = second.is_ending = True
        port.terms.update((first, second))
        work = Work(port, first), Work(port, second)
        for one in work:
            port.enter(one)
        port.call_later(0, lambda: port.leave(work[0]))
        ended: list[Term] = []

        async def drain(term: Term, patience: float) -> bool:
            await port.drain(term, patience)
            ended.append(term)
            return False

        await port.beside(lambda: drain(second, 0.05), lambda: drain(first, WAIT_S))
        assert ended == [first]
        await drain(second, 0)
        assert [one.abandoned for one in work] == [False, True]
        port.leave(work[1])

    on_loop(main)


# The adapter.


@on_each_loop
def test_adapter_knows_each_loop_again_where_trio_is_not_loaded(
    adapter: MakeAdapter, loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "trio")
    served = adapter(hello)

    async def ask_twice() -> None:
        for _ in range(2):
            server = HttpServer()
            await server.run(served)
            assert server.body == b"Hello"

    for _ in range(2):
        run(ask_twice(), loop_factory)


def test_adapter_serves_a_guest_of_trios_beside_its_host(adapter: MakeAdapter) -> None:
    served = adapter(hello)
    statuses: list[int] = []
    begun = asyncio.Event()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if "status" in message:
            statuses.append(message["status"])

    async def ask() -> None:
        await served(make_scope(), receive, send)

    async def guest() -> None:
        await ask()
        begun.set()
        while len(statuses) < 2:  # noqa: ASYNC110  # the host sets no event of trio's
            await trio.sleep(0.001)
        await ask()

    async def host() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=ended.set_result,
        )
        await begun.wait()
        await ask()
        (await ended).unwrap()

    run(host())
    assert statuses == [200, 200, 200]


@pytest.mark.parametrize("sensitive", [False, True], ids=["pool", "asgiref's thread"])
def test_adapter_on_trio_runs_the_application_in_a_thread(sensitive: bool) -> None:
    threads: list[str] = []

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        threads.append(threading.current_thread().name)
        return hello(environ, start_response)

    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        await trio.sleep_forever()
        raise AssertionError("not reached")

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def main() -> None:
        with trio.fail_after(WAIT_S):
            for _ in range(2):
                await app(make_scope(), receive, send)

    app = WsgiToAsgi(application, thread_sensitive=sensitive)
    trio.run(main)
    assert [message["type"] for message in sent[:2]] == [
        "http.response.start",
        "http.response.body",
    ]
    assert sent[1]["body"] == sent[3]["body"]
    assert threading.current_thread().name not in threads
    if sensitive:
        executor = SyncToAsync.single_thread_executor
        assert threads == [executor.submit(threading.current_thread).result().name] * 2
    app.executor.shutdown()


def test_coroutine_beside_trio_is_not_warned_of_when_trio_stands_still(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr(_port, "time", clock)
    monkeypatch.setattr(_port, "TICK_S", 0.02)
    heard = Gate("the request hears that the loop stood still")
    note_stall = Crossing.note_stall

    def note_and_tell(crossing: Crossing, seconds: float, since: float) -> None:
        note_stall(crossing, seconds, since)
        heard.open()

    def stand_still() -> None:
        clock.now += 2

    async def view() -> None:
        await asyncio.sleep(0)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        async_to_sync(view)()
        tokens[0].run_sync_soon(stand_still)
        heard.wait()
        return hello(environ, start_response)

    async def receive() -> MutableMapping[str, Any]:
        await trio.sleep_forever()
        raise AssertionError("not reached")

    async def send(message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()

    async def main() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        with trio.fail_after(WAIT_S):
            await app(make_scope(), receive, send)

    tokens: list[trio.lowlevel.TrioToken] = []
    monkeypatch.setattr(Crossing, "note_stall", note_and_tell)
    app = WsgiToAsgi(application)
    trio.run(main)
    app.executor.shutdown()
    assert heard.is_open
    assert not caplog.records
