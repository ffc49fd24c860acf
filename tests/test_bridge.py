"""The bridge where the adapter cannot reach it: moments, and loops that are lost."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.drivers import Gate, LoopFactory, assert_ends, on_each_loop, run, until
from wsgi_asgi._bridge import WINDOW_BYTES, Bridge, Budget, Crossing
from wsgi_asgi._mailbox import Inlet, Mailbox
from wsgi_asgi._pool import ThreadPool

ITEMS = 400


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    pool = ThreadPool(threads=4, streams=4)
    yield Bridge(pool)
    pool.shutdown()


def _nothing() -> None:
    pass


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


def test_window_of_work_that_outlives_its_loop_is_given_back(bridge: Bridge) -> None:
    may_end = Gate("the work may end")
    size = bridge.windows._left
    errors: list[BaseException] = []

    async def main() -> Crossing:
        crossing = Crossing(bridge, bridge.port(), may_end.wait, buffer=0)
        crossing.start()
        assert crossing.widen(1000, 4000) == 4000
        crossing.abandon()
        crossing.desert(errors.append)
        return crossing

    crossing = run(main())
    assert (crossing.ended, bridge.windows._left) == (False, size - 3000)
    may_end.open()
    until(lambda: bridge.windows._left == size, "the bytes are given back")
    assert not errors


class Collecting(Crossing):
    """Has another settled, by the thread that notes what this one is granted."""

    other: Crossing

    def __getattribute__(self, name: str) -> Any:
        if name == "granted":
            bridge = super().__getattribute__("_bridge")
            bridge.windows.settle(super().__getattribute__("other"))
        return super().__getattribute__(name)


def test_window_is_given_back_by_the_thread_that_widens_another(bridge: Bridge) -> None:
    size = bridge.windows._left

    async def main() -> None:
        port = bridge.port()
        crossing = Collecting(bridge, port, _nothing, buffer=0)
        crossing.other = Crossing(bridge, port, _nothing, buffer=0)
        crossing.other.widen(1000, 4000)
        assert_ends(lambda: crossing.widen(1000, 2000))
        assert bridge.windows._left == size - 1000

    run(main())


class SlowToBegin(ThreadPool):
    """Takes its time to begin a stream.

    Attributes:
        begins: Open when it was asked for a first one.
        begins_again: Open when it was asked for another.
        may_go_on: Open it to let it begin them.
    """

    def __init__(self) -> None:
        super().__init__(threads=1, streams=2)
        self.begins = Gate("a stream begins")
        self.begins_again = Gate("another stream begins")
        self.may_go_on = Gate("the stream may begin")

    def begin_stream(self) -> bool:
        (self.begins_again if self.begins.is_open else self.begins).open()
        self.may_go_on.wait()
        return super().begin_stream()


@contextmanager
def slow_to_begin() -> Iterator[SlowToBegin]:
    """Make a pool; when the block has ended, it must count no stream."""
    pool = SlowToBegin()
    yield pool
    pool.shutdown()
    assert (pool._streams, pool._awake) == (0, 0)


def test_stream_that_two_threads_begin_is_counted_once() -> None:
    async def main(pool: SlowToBegin) -> None:
        def work() -> None:
            second = threading.Thread(target=crossing.begin_stream)
            pool.begins.on_open(second.start)
            crossing.begin_stream()
            second.join()

        bridge = Bridge(pool)
        crossing = Crossing(bridge, bridge.port(), work, buffer=0)
        crossing.start()
        await pool.begins.reached()
        await pool.begins_again.stays_shut()
        pool.may_go_on.open()
        await crossing.wait()
        crossing.leave()

    with slow_to_begin() as pool:
        run(main(pool))


@pytest.mark.parametrize("begins", ["before the end", "after the end"])
def test_stream_of_work_that_has_ended_is_not_counted(begins: str) -> None:
    async def main(pool: SlowToBegin) -> None:
        def work() -> None:
            if begins == "before the end":
                thread.start()
                pool.begins.wait()

        bridge = Bridge(pool)
        crossing = Crossing(bridge, bridge.port(), work, buffer=0)
        thread = threading.Thread(target=crossing.begin_stream)
        crossing.start()
        await crossing.wait()
        pool.may_go_on.open()
        if begins == "after the end":
            thread.start()
        thread.join()
        crossing.leave()

    with slow_to_begin() as pool:
        run(main(pool))


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
        inlet = Inlet(crossing, limit, lambda: True)
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
            assert await LateInlet(crossing, 1, lambda: False).room()

    run(main())


def test_inlet_ended_twice_keeps_the_first_end(bridge: Bridge) -> None:
    async def main() -> None:
        inlet = Inlet(Crossing(bridge, bridge.port(), _nothing, buffer=0), 1, bool)
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


# Windows.


def test_window_that_is_kept_does_not_grow(bridge: Bridge) -> None:
    size = 65536
    batches: list[int] = []

    async def main() -> None:
        def work() -> None:
            for _ in range(50):
                crossing.push(b"block", size)

        crossing = Crossing(bridge, bridge.port(), work, buffer=size)
        crossing.keeps_window = True
        crossing.start()
        while not crossing.ended:
            await crossing.wait()
            while not (crossing._stalled or crossing.ended):  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0)
            batches.append(len(crossing.take()))
            crossing.taken(batches[-1] * size)
        crossing.leave()

    run(main())
    assert max(batches) == 2


def test_budget_gives_a_quarter_at_a_time_and_never_more_than_it_has(
    bridge: Bridge,
) -> None:
    async def main() -> None:
        port = bridge.port()
        budget = Budget(1000)
        crossings = [Crossing(bridge, port, _nothing, buffer=0) for _ in range(20)]
        for crossing in crossings:
            window = budget.widen(crossing, 100, 10_000)
            assert window == 100 + crossing.granted
            assert budget._left >= 0
        grants = [crossing.granted for crossing in crossings]
        assert grants[:3] == [250, 187, 140]
        assert grants == sorted(grants, reverse=True)
        assert grants[-1] <= 1
        assert sum(grants) + budget._left == 1000
        assert budget.widen(crossings[0], 10_000, 10_000) == 10_000
        for crossing in [*crossings, *crossings]:  # once is as good as twice
            budget.settle(crossing)
        assert budget._left == 1000

    run(main())


def test_budget_of_many_threads_is_all_given_back(bridge: Bridge) -> None:
    budget = bridge.windows
    before = budget._left
    everybody = threading.Barrier(4)

    async def main() -> None:
        crossings = [
            Crossing(bridge, bridge.port(), _nothing, buffer=0) for _ in range(200)
        ]

        def widen() -> None:
            everybody.wait()
            for crossing in crossings:
                budget.widen(crossing, 10, 10_000_000)
                assert budget._left >= 0

        def end() -> None:
            everybody.wait()
            for crossing in crossings:
                crossing.leave()

        async with asyncio.TaskGroup() as tasks:
            for work in (widen, widen, widen, end):
                tasks.create_task(asyncio.to_thread(work))

    run(main())
    assert budget._left == before


def test_window_granted_as_its_crossing_ends_is_given_back(bridge: Bridge) -> None:
    before = bridge.windows._left

    async def main() -> None:
        crossing = Crossing(bridge, bridge.port(), _nothing, buffer=0)
        crossing.leave()
        assert crossing.widen(10, 1000) == 40
        assert crossing.granted == 0

    run(main())
    assert bridge.windows._left == before


# Threads that wait beside the others.


def test_thread_steps_out_of_its_own_crossing_only(bridge: Bridge) -> None:
    stepped: dict[str, bool] = {}
    pool = bridge.pool
    assert pool

    async def main() -> None:
        def work() -> None:
            other = threading.Thread(
                target=lambda: stepped.update(other=crossing.step_out())
            )
            other.start()
            other.join()
            awake = pool._awake
            stepped["own"] = crossing.step_out()
            assert pool._awake == awake - 1
            crossing.step_in()
            assert pool._awake == awake

        crossing = Crossing(bridge, bridge.port(), work, buffer=0)
        crossing.start()
        await crossing.wait()
        crossing.leave()
        assert crossing.error is None
        assert not crossing.step_out()

    run(main())
    assert stepped == {"other": False, "own": True}


def test_thread_that_streams_does_not_step_out(bridge: Bridge) -> None:
    stepped: list[bool] = []

    async def main() -> None:
        def work() -> None:
            crossing.begin_stream()
            stepped.append(crossing.step_out())

        crossing = Crossing(bridge, bridge.port(), work, buffer=0)
        crossing.start()
        await crossing.wait()
        crossing.leave()

    run(main())
    assert stepped == [False]
