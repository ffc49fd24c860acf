"""The loops that the conformance suite's server runs on."""

import asyncio
import contextvars
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import trio

from conformance import loops, trio_loop
from conformance.apps import hello
from conformance.bench import Bench
from conformance.checking import Failed
from conformance.exchanges import HttpExchange
from conformance.gate import Gate
from conformance.loops import ASYNCIO, LOOPS, TRIO, Loop, LoopThread
from conformance.server import AsgiApp
from tests.drivers import WAIT_S, until

Run = Callable[[Loop], Coroutine[Any, Any, object]]

on_each_loop = pytest.mark.parametrize("kind", LOOPS)


@pytest.fixture
def thread(kind: str) -> Iterator[LoopThread]:
    thread = LoopThread(kind)
    yield thread
    thread.stop()


def serve(kind: str, adapter: AsgiApp) -> tuple[Bench, HttpExchange]:
    """Have an adapter serve one request."""
    bench = Bench(lambda app: adapter, loop=kind)
    return bench, bench.attempt(hello)


def test_suite_on_asyncio_does_not_import_trio() -> None:
    script = (
        "import sys, conformance.worker as worker; worker.load_checks();"
        "worker.Bench(print).close(); sys.exit('trio' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=WAIT_S)


# Tasks.


@on_each_loop
def test_run_gives_what_the_coroutine_returns_or_raises(thread: LoopThread) -> None:
    async def work(number: int) -> float:
        await thread.loop.pause()
        return 1 / number

    assert thread.run(work(2)) == 0.5
    with pytest.raises(ZeroDivisionError):
        thread.run(work(0))


@on_each_loop
def test_run_of_a_coroutine_that_goes_on_fails_the_check(thread: LoopThread) -> None:
    with pytest.raises(Failed, match=r"made no progress for 0.01 s"):
        thread.run(thread.loop.first_open(Gate()), within=0.01)


@on_each_loop
def test_tasks_begin_with_the_context_of_whoever_started_them(
    thread: LoopThread,
) -> None:
    city = contextvars.ContextVar("city", default="none")
    seen: list[str] = []
    done = Gate()

    async def inner() -> None:
        seen.append(city.get())
        done.open()

    async def outer() -> None:
        seen.append(city.get())
        city.set("Rome")
        thread.loop.start(inner())
        city.set("Lima")

    city.set("Oslo")
    thread.spawn(outer())
    assert done.wait()
    assert seen == ["Oslo", "Rome"]


@on_each_loop
def test_first_open_waits_for_any_gate(thread: LoopThread) -> None:
    closed, opened = Gate(), Gate()
    assert not thread.run(thread.loop.first_open(closed, within=0.01))
    thread.spawn(thread.loop.in_thread(opened.open))
    assert thread.run(thread.loop.first_open(closed, opened))
    assert thread.run(thread.loop.first_open(opened, closed, within=WAIT_S))


@on_each_loop
def test_turn_of_a_loop_that_is_blocked_is_not_made(thread: LoopThread) -> None:
    released = Gate()
    assert thread.turn()
    thread.loop.call_soon(released.wait)
    assert not thread.turn(within=0.01)
    released.open()
    thread.settle()


# The end of an exchange.


@on_each_loop
def test_strays_of_a_task_that_goes_on_names_it(kind: str) -> None:
    async def goes_on() -> None:
        await bench.loop.loop.first_open(Gate())

    async def adapter(scope: Any, receive: Any, send: Any) -> None:
        bench.loop.loop.start(goes_on())

    bench = Bench(lambda app: adapter, loop=kind)
    names = bench.strays(bench.attempt(hello))
    assert [name for name in names if "goes_on" in name] == names != []
    assert bench.close() == (None, True)


@on_each_loop
def test_strays_of_a_task_that_has_ended_is_none(kind: str) -> None:
    async def ends(ended: Gate) -> None:
        ended.open()

    async def adapter(scope: Any, receive: Any, send: Any) -> None:
        ended = Gate()
        bench.loop.loop.start(ends(ended))
        await bench.loop.loop.first_open(ended)

    bench = Bench(lambda app: adapter, loop=kind)
    assert bench.strays(bench.attempt(hello)) == []
    bench.close()


@pytest.mark.parametrize(
    ("seconds", "count"),
    [pytest.param(0.02, 0, id="short"), pytest.param(WAIT_S, 1, id="long")],
)
def test_strays_of_a_timer_of_trio_are_those_that_go_on(
    monkeypatch: pytest.MonkeyPatch, seconds: float, count: int
) -> None:
    async def adapter(scope: Any, receive: Any, send: Any) -> None:
        trio.lowlevel.spawn_system_task(trio.sleep, seconds)

    monkeypatch.setattr(trio_loop, "HAPPENS_S", 0.5)
    bench, exchange = serve(TRIO, adapter)
    assert bench.strays(exchange) == ["trio.sleep"] * count
    bench.close()


async def waits(scope: Any, receive: Any, send: Any) -> None:
    while True:
        await receive()


async def waits_in_a_nursery(scope: Any, receive: Any, send: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        await receive()


async def raises_when_cancelled(scope: Any, receive: Any, send: Any) -> None:
    try:
        await receive()
    finally:
        raise KeyError("in the end")


async def raises_a_group_when_cancelled(scope: Any, receive: Any, send: Any) -> None:
    try:
        await receive()
    except BaseException as error:
        raise BaseExceptionGroup("two", [error, KeyError("in the end")]) from None


@pytest.mark.parametrize(
    ("kind", "adapter", "only"),
    [
        pytest.param(ASYNCIO, waits, True, id="asyncio"),
        pytest.param(ASYNCIO, raises_when_cancelled, False, id="asyncio, an error"),
        pytest.param(TRIO, waits, True, id="trio"),
        pytest.param(TRIO, waits_in_a_nursery, True, id="trio, a nursery"),
        pytest.param(TRIO, raises_when_cancelled, False, id="trio, an error"),
        pytest.param(TRIO, raises_a_group_when_cancelled, False, id="trio, both"),
    ],
)
def test_cancelled_exchange_ends_with_what_its_loop_calls_a_cancellation(
    kind: str, adapter: AsgiApp, only: bool
) -> None:
    bench = Bench(lambda app: adapter, loop=kind)
    exchange = HttpExchange(steps=[])
    waiting = exchange.when(lambda: exchange.receives)
    served = bench.serve(hello)
    served.start(exchange)
    assert waiting.wait()
    exchange.cancel()
    served.finish(exchange)
    assert bench.loop.loop.is_cancellation(exchange.error) is only
    assert bench.close() == (None, True)


# The end of a loop.


@on_each_loop
def test_stop_with_tasks_that_can_be_cancelled_is_clean(kind: str) -> None:
    thread = LoopThread(kind)
    thread.spawn(thread.loop.first_open(Gate()))
    assert thread.stop()
    assert thread.death is None


@on_each_loop
def test_stop_with_a_task_that_goes_on_is_not_clean(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "HAPPENS_S", 0.1)
    begun, released = Gate(), Gate()

    async def stubborn() -> None:
        begun.open()
        while not released.is_open:
            try:
                await server.loop.first_open(released)
            except (asyncio.CancelledError, trio.Cancelled):
                if kind == TRIO:  # it would be cancelled anew
                    with trio.CancelScope(shield=True):
                        await server.loop.first_open(released)

    server = LoopThread(kind)
    server.spawn(stubborn())
    assert begun.wait()
    assert not server.stop()
    released.open()


@on_each_loop
def test_loop_that_dies_says_so_and_takes_no_more(kind: str) -> None:
    async def adapter(scope: Any, receive: Any, send: Any) -> None:
        bench.loop.loop.call_soon(sys.exit)
        await receive()

    bench = Bench(lambda app: adapter, loop=kind)
    served = bench.serve(hello)
    served.start(HttpExchange(steps=[]))
    until(lambda: bench.loop.death is not None, "the loop is dead")
    with pytest.raises(Failed, match="got out into the event loop"):
        served.finish(served.start(HttpExchange()), within=0.01)
    assert not bench.loop.turn(within=0.01)
    fault, clean = bench.close()
    assert "got out into the event loop" in str(fault)
    assert not clean


def test_error_that_nobody_takes_is_a_complaint_on_asyncio() -> None:
    async def fails() -> None:
        raise KeyError("nobody takes it")

    thread = LoopThread(ASYNCIO)
    thread.spawn(fails())
    until(lambda: thread.complaints, "there is a complaint")
    assert "KeyError('nobody takes it')" in thread.complaints[0]
    assert thread.stop()
