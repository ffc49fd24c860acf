"""The bridge where the adapter cannot reach it: moments, and loops that are lost."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.drivers import Gate, LoopFactory, on_each_loop, run
from wsgi_asgi._bridge import (
    WINDOW_BYTES,
    Bridge,
    Crossing,
    Inlet,
    Mailbox,
    Port,
    beside,
)
from wsgi_asgi._pool import ThreadPool

ITEMS = 400


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    pool = ThreadPool(threads=4)
    yield Bridge(pool)
    pool.shutdown()


def _nothing() -> None:
    pass


# Port.


class CountingLoop:
    """Stands in for a loop that is slow to look after its callbacks."""

    def __init__(self) -> None:
        self.wake_ups: list[Callable[[], object]] = []

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        self.wake_ups.append(callback)


def test_port_wakes_a_busy_loop_once_for_many_callbacks() -> None:
    loop = CountingLoop()
    port = Port(loop)  # type: ignore[arg-type]
    called: list[int] = []
    for number in range(10):
        port.post(lambda number=number: called.append(number))  # type: ignore[misc]
    assert len(loop.wake_ups) == 1
    loop.wake_ups.pop()()
    assert called == list(range(10))
    port.post(lambda: called.append(10))
    assert len(loop.wake_ups) == 1


def test_port_of_a_closed_loop_takes_callbacks_and_forgets_them() -> None:
    loop = asyncio.new_event_loop()
    port = Port(loop)
    loop.close()
    called: list[int] = []
    port.post(lambda: called.append(1))
    port.post(lambda: called.append(2))
    assert called == []


@on_each_loop
def test_port_calls_on_the_loop_what_many_threads_post(
    loop_factory: LoopFactory,
) -> None:
    called: list[tuple[int, int]] = []

    async def main() -> None:
        port = Port(asyncio.get_running_loop())
        done = Gate("all has been called")

        def call(thread: int, number: int) -> None:
            assert asyncio.get_running_loop() is port.loop
            called.append((thread, number))
            if len(called) == 4 * ITEMS:
                done.open()

        def post(thread: int) -> None:
            for number in range(ITEMS):
                port.post(lambda number=number: call(thread, number))  # type: ignore[misc]

        threads = [threading.Thread(target=post, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        await done.reached()
        for thread in threads:
            thread.join()

    run(main(), loop_factory)
    for thread in range(4):
        own = [number for who, number in called if who == thread]
        assert own == list(range(ITEMS))


# Crossing.


@on_each_loop
@pytest.mark.parametrize("buffer", [0, 1, 100], ids=["none", "one byte", "100 bytes"])
def test_crossing_of_many_items_loses_none_and_no_wake_up(
    bridge: Bridge, loop_factory: LoopFactory, buffer: int
) -> None:
    taken: list[int] = []

    async def main() -> None:
        def work() -> None:
            for number in range(ITEMS):
                crossing.put([number], number % 3)
                crossing.wait_room()

        crossing = Crossing(bridge, bridge.port(), work, buffer=buffer)
        crossing.start()
        while True:
            ended = crossing.ended
            items = crossing.take()
            for number in items:
                taken.append(number)
                crossing.taken(number % 3)
            if not items:
                if ended:
                    break
                await crossing.wait()
        crossing.leave()
        assert crossing.error is None

    run(main(), loop_factory)
    assert taken == list(range(ITEMS))


class Late(Crossing):
    """Changes between two looks, as if the other side had acted in between."""

    looks: Iterator[bool] = iter(())
    attribute = ""

    def __getattribute__(self, name: str) -> Any:
        if name == super().__getattribute__("attribute"):
            return next(super().__getattribute__("looks"), True)
        return super().__getattribute__(name)


@pytest.mark.parametrize("attribute", ["ended", "nudged"])
def test_crossing_that_ends_as_the_task_goes_to_sleep_wakes_it(
    bridge: Bridge, attribute: str
) -> None:
    async def main() -> None:
        crossing = Late(bridge, bridge.port(), _nothing, buffer=0)
        crossing.looks = iter([False])
        crossing.attribute = attribute
        async with asyncio.timeout(1):
            await crossing.wait()

    run(main())


def test_crossing_with_room_again_lets_the_thread_go_on(bridge: Bridge) -> None:
    stalled, done = Gate("the thread stalls"), Gate("the thread goes on")

    async def main() -> None:
        def work() -> None:
            crossing.put([b"item"], 4)
            stalled.open()
            crossing.wait_room()
            done.open()

        crossing = Crossing(bridge, bridge.port(), work, buffer=0)
        crossing.start()
        await stalled.reached()
        assert crossing.take() == [b"item"]
        await done.stays_shut()
        crossing.taken(4)
        await done.reached()
        await crossing.wait()
        crossing.leave()

    run(main())


def test_window_of_sides_that_wait_for_each_other_grows_to_its_bound(
    bridge: Bridge,
) -> None:
    size = 65536
    batches: list[int] = []

    async def main() -> None:
        def work() -> None:
            for _ in range(100):
                crossing.push(b"block", size)

        crossing = Crossing(bridge, bridge.port(), work, buffer=size)
        crossing.start()
        while not crossing.ended:
            await crossing.wait()
            while not (crossing._stalled or crossing.ended):  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0)
            batches.append(len(crossing.take()))
            crossing.taken(batches[-1] * size)
        crossing.leave()

    run(main())
    # The window, and the item that passes it.
    assert batches[0] == 2
    assert max(batches) == WINDOW_BYTES // size + 1


# Inlet.


@on_each_loop
@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_inlet_of_many_pieces_loses_none_and_no_wake_up(
    bridge: Bridge, loop_factory: LoopFactory, limit: int
) -> None:
    pulled: list[bytes] = []

    async def main() -> None:
        def work() -> None:
            while piece := inlet.pull():
                pulled.append(piece)

        crossing = Crossing(bridge, bridge.port(), work, buffer=0)
        inlet = Inlet(crossing, limit)
        crossing.start()
        for number in range(ITEMS):
            assert await inlet.room(10)
            inlet.feed(b"%d" % number)
        inlet.end()
        while not crossing.ended:
            crossing.nudged = False
            await crossing.wait()
        crossing.leave()

    run(main(), loop_factory)
    assert pulled == [b"%d" % number for number in range(ITEMS)]


class LateInlet(Inlet):
    """Has room from the second look on, as if the thread had pulled in between."""

    looks = iter([False])

    def _has_room(self, size: int, items: int) -> bool:
        return next(self.looks, True)


def test_inlet_pulled_as_the_task_goes_to_sleep_wakes_it(bridge: Bridge) -> None:
    async def main() -> None:
        crossing = Crossing(bridge, bridge.port(), _nothing, buffer=0)
        async with asyncio.timeout(1):
            assert await LateInlet(crossing, 1).room()

    run(main())


def test_inlet_ended_twice_keeps_the_first_end(bridge: Bridge) -> None:
    async def main() -> None:
        inlet = Inlet(Crossing(bridge, bridge.port(), _nothing, buffer=0), 1)
        inlet.end()
        inlet.end(KeyError("late"))
        assert inlet.pull() == b""

    run(main())


# Mailbox.


@on_each_loop
def test_mailbox_gives_items_of_any_kind_and_then_none(
    bridge: Bridge, loop_factory: LoopFactory
) -> None:
    fetched: list[object] = []
    rung: list[bool] = []

    class Listener:
        def ring(self) -> None:
            rung.append(True)

    async def main() -> None:
        def work() -> None:
            while (item := mailbox.fetch()) is not None:
                fetched.append(item)
            fetched.append(mailbox.is_empty)

        crossing = Crossing(bridge, bridge.port(), work, buffer=0)
        mailbox = Mailbox[object](crossing, 5)
        mailbox.listener = Listener()
        crossing.start()
        for item in ("", b"", 0, False):
            mailbox.deliver(item, 10)
            assert await mailbox.room()
        mailbox.end()
        await crossing.wait()
        crossing.leave()

    run(main(), loop_factory)
    assert fetched == ["", b"", 0, False, True]
    assert len(rung) == 5


def test_mailbox_without_an_item_gives_up_in_time(bridge: Bridge) -> None:
    async def main() -> None:
        mailbox = Mailbox[str](Crossing(bridge, bridge.port(), _nothing, buffer=0), 1)
        with pytest.raises(TimeoutError):
            mailbox.fetch(0.01)
        mailbox.deliver("late", 4)
        assert not await mailbox.room(0.01)
        assert mailbox.fetch(0) == "late"

    run(main())


# beside().


@on_each_loop
@pytest.mark.parametrize("told", [True, False])
def test_beside_cuts_the_foreground_short_only_if_told(
    loop_factory: LoopFactory, told: bool
) -> None:
    finished: list[str] = []
    released = Gate("the foreground may end")

    async def background() -> bool:
        asyncio.get_running_loop().call_later(0.05, released.open)
        return told

    async def foreground() -> None:
        try:
            await released.reached()
            finished.append("by itself")
        except asyncio.CancelledError:
            finished.append("cut short")
            raise

    run(beside(background, foreground), loop_factory)
    assert finished == ["cut short" if told else "by itself"]


@on_each_loop
def test_beside_ends_the_background_with_the_foreground(
    loop_factory: LoopFactory,
) -> None:
    ended: list[bool] = []

    async def background() -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        return True

    async def foreground() -> None:
        await asyncio.sleep(0)
        raise KeyError("in the foreground")

    with pytest.raises(KeyError):
        run(beside(background, foreground), loop_factory)
    assert ended == [True]
