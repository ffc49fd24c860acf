"""Bodies that are received whole: in memory, in a file, and where there is no room."""

import asyncio
import errno
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from tests.drivers import Gate, Split, in_each_split, run
from wsgi_asgi._bridge import MAX_ITEMS, Bridge
from wsgi_asgi._errors import RequestRefused
from wsgi_asgi._pool import ThreadPool
from wsgi_asgi._spool import MOST_TOTAL_BYTES, Spool, Storage

MEMORY_BYTES = 8

MakeStorage = Callable[[int | None], Storage]


@pytest.fixture
def make_storage() -> Iterator[MakeStorage]:
    """Make storages; each has a few bytes of memory and a disk of the size given."""
    bridges: list[Bridge] = []

    def make(total: int | None = None) -> Storage:
        bridges.append(Bridge(ThreadPool(1)))
        return Storage(bridges[-1], MEMORY_BYTES, total)

    yield make
    for bridge in bridges:
        bridge.files.shutdown()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[IO[bytes]]:
    """List the temporary files that are made."""
    files: list[IO[bytes]] = []
    make = tempfile.TemporaryFile

    def record(**options: Any) -> IO[bytes]:
        files.append(make(**options))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", record)
    return files


async def keep(storage: Storage, *chunks: bytes) -> tuple[Spool, IO[bytes]]:
    """Keep a whole body."""
    spool = Spool(storage)
    for chunk in chunks:
        await spool.write(chunk)
    return spool, await spool.finish()


def room_taken(storage: Storage) -> int:
    return storage._used


def has_room_for(storage: Storage, size: int) -> bool:
    """Say whether a body of so many bytes would find room, and take none."""
    try:
        storage.take(size)
    except RequestRefused:
        return False
    storage.give_back(size)
    return True


@pytest.mark.parametrize(
    ("body", "files"),
    [
        pytest.param(b"", 0, id="no body"),
        pytest.param(b"abc\ndefg", 0, id="as long as memory"),
        pytest.param(b"abc\ndefgh", 1, id="longer by one"),
        pytest.param(bytes(range(256)) * 30, 1, id="much longer"),
    ],
)
@in_each_split
def test_spool_of_any_body_gives_it_from_the_start(
    make_storage: MakeStorage,
    disk: list[IO[bytes]],
    split: Split,
    body: bytes,
    files: int,
) -> None:
    storage = make_storage(None)
    spool, file = run(keep(storage, *split(body)))
    assert spool.size == len(body)
    assert (file.read(2), file.read()) == (body[:2], body[2:])
    assert len(disk) == files
    assert room_taken(storage) == (len(body) if files else 0)
    spool.close()
    assert all(file.closed for file in disk)
    assert room_taken(storage) == 0


def test_spool_takes_memory_for_bytes_and_not_for_each_piece_of_them(
    make_storage: MakeStorage,
) -> None:
    storage = make_storage(None)
    storage.memory = 10 * MAX_ITEMS

    async def most_pieces() -> int:
        spool, most = Spool(storage), 0
        for number in range(9 * MAX_ITEMS):
            await spool.write(b"x" * (number % 2))
            most = max(most, len(spool._chunks))
        assert (await spool.finish()).read() == b"x" * spool.size
        return most

    assert run(most_pieces()) <= MAX_ITEMS + 1


def test_spool_writes_in_a_thread_that_no_request_runs_in(
    make_storage: MakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    storage = make_storage(None)
    take = storage.take

    def record(size: int) -> None:
        threads.append(threading.current_thread().name)
        take(size)

    monkeypatch.setattr(storage, "take", record)
    spool, _ = run(keep(storage, b"longer than memory"))
    spool.close()
    assert threads
    assert threading.current_thread().name not in threads
    assert storage.bridge.pool
    assert storage.bridge.pool.threads == 0


# The room of all of them together.


def test_storage_has_room_for_as_much_as_it_was_given(
    make_storage: MakeStorage,
) -> None:
    storage = make_storage(20)
    first, _ = run(keep(storage, b"x" * 10))
    assert has_room_for(storage, 10)
    assert not has_room_for(storage, 11)
    with pytest.raises(RequestRefused, match="503 .* no room") as caught:
        run(keep(storage, b"y" * 11))
    assert caught.value.headers == (("Retry-After", "10"),)
    first.close()
    second, file = run(keep(storage, b"z" * 20))
    assert file.read() == b"z" * 20
    second.close()


def test_storage_needs_no_room_for_what_stays_in_memory(
    make_storage: MakeStorage,
) -> None:
    _, file = run(keep(make_storage(0), b"x" * MEMORY_BYTES))
    assert file.read() == b"x" * MEMORY_BYTES


@pytest.mark.parametrize(
    ("free", "most"),
    [
        pytest.param(1000, 500, id="half of little"),
        pytest.param(100 << 40, MOST_TOTAL_BYTES, id="a bound of much"),
        pytest.param(0, 0, id="nothing of nothing"),
    ],
)
def test_storage_without_a_size_is_a_share_of_the_free_space(
    make_storage: MakeStorage, monkeypatch: pytest.MonkeyPatch, free: int, most: int
) -> None:
    left = free

    def disk_usage(folder: str) -> SimpleNamespace:
        assert folder == tempfile.gettempdir()
        return SimpleNamespace(free=left)

    monkeypatch.setattr("shutil.disk_usage", disk_usage)
    storage = make_storage(None)
    assert has_room_for(storage, most)
    assert not has_room_for(storage, most + 1)
    # What it has taken of the free space itself makes that no smaller.
    storage.take(most // 2)
    left -= most // 2
    assert has_room_for(storage, most - most // 2)
    assert not has_room_for(storage, most - most // 2 + 1)


# The disk fails.


def no_space(**_: Any) -> IO[bytes]:
    raise OSError(errno.ENOSPC, "No space left on device")


def full_device(**_: Any) -> IO[bytes]:
    """Make a file that takes bytes and fails when they have to reach the disk."""
    return open("/dev/full", "r+b")


needs_dev_full = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="the system has no device that is full"
)


@pytest.mark.parametrize(
    ("make", "body"),
    [
        pytest.param(no_space, b"x" * 9, id="no file can be made"),
        pytest.param(full_device, b"x" * 9, id="full at the end", marks=needs_dev_full),
        pytest.param(
            full_device, b"x" * 99_999, id="full in between", marks=needs_dev_full
        ),
    ],
)
def test_spool_on_a_full_disk_is_refused_with_one_clear_line(
    make_storage: MakeStorage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    make: Callable[..., IO[bytes]],
    body: bytes,
) -> None:
    files: list[IO[bytes]] = []

    def record(**options: Any) -> IO[bytes]:
        files.append(make(**options))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", record)
    storage = make_storage(None)
    spool = Spool(storage)

    async def fill() -> None:
        await spool.write(body)
        await spool.finish()

    with pytest.raises(RequestRefused, match="503 .* no room"):
        run(fill())
    spool.close()
    assert all(file.closed for file in files)
    assert room_taken(storage) == 0
    [record_of_it] = caplog.records
    assert record_of_it.levelname == "ERROR"
    assert record_of_it.exc_info is None
    assert tempfile.gettempdir() in caplog.text
    assert "No space left on device" in caplog.text
    assert "set TMPDIR" in caplog.text


def test_spool_without_any_folder_for_files_is_refused_too(
    make_storage: MakeStorage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    missing = [str(tmp_path / "missing")]
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: missing)
    with pytest.raises(RequestRefused, match="503"):
        run(keep(make_storage(None), b"longer than memory"))
    assert "No usable temporary directory" in caplog.text
    assert "set TMPDIR" in caplog.text


def test_spool_gives_its_room_back_where_no_thread_can_be_had(
    make_storage: MakeStorage, monkeypatch: pytest.MonkeyPatch, disk: list[IO[bytes]]
) -> None:
    storage = make_storage(None)

    async def main() -> None:
        spool = Spool(storage)
        await spool.write(b"longer than memory")

        def refuse(job: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(storage.bridge.files, "execute", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            await spool.write(b"longer than memory")
        spool.close()

    run(main())
    assert [file.closed for file in disk] == [True]
    assert room_taken(storage) == 0


# It is closed by whoever comes last.


def test_spool_closed_again_gives_its_room_back_once(
    make_storage: MakeStorage,
) -> None:
    storage = make_storage(None)
    other, _ = run(keep(storage, b"y" * 10))
    spool, _ = run(keep(storage, b"x" * 10))
    spool.close()
    spool.close()
    assert room_taken(storage) == 10
    other.close()


def test_spool_closed_by_many_threads_gives_its_room_back_once(
    make_storage: MakeStorage,
) -> None:
    storage = make_storage(None)
    for _ in range(50):
        spool, _ = run(keep(storage, *[b"x" * 10] * 5))
        threads = [threading.Thread(target=spool.close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert room_taken(storage) == 0


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "later"])
def test_spool_closed_while_a_thread_writes_is_released_by_that_thread(
    make_storage: MakeStorage,
    monkeypatch: pytest.MonkeyPatch,
    disk: list[IO[bytes]],
    is_first: bool,
) -> None:
    storage = make_storage(None)
    writing, go_on = Gate("a thread writes"), Gate("the disk goes on")
    take = storage.take

    def stall(size: int) -> None:
        writing.open()
        go_on.wait()
        take(size)

    async def main() -> None:
        spool = Spool(storage)
        if not is_first:
            await spool.write(b"longer than memory")
        monkeypatch.setattr(storage, "take", stall)
        task = asyncio.create_task(spool.write(b"longer than memory"))
        await writing.reached()
        task.cancel()
        await asyncio.wait([task])
        spool.close()
        assert not any(file.closed for file in disk)
        go_on.open()

    run(main())
    storage.bridge.files.shutdown()
    assert [file.closed for file in disk] == [True]
    assert room_taken(storage) == 0
