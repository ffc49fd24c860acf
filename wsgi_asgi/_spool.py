"""Request bodies that are received whole before a thread is taken.

A short body stays in memory. A longer one goes to a temporary file, and the threads
that write it are none of those that run applications: a slow sender holds none of
them, and the event loop never waits for a disk.

All files of one adapter together have a bound, so that uploads cannot fill the disk.
"""

import io
import logging
import shutil
import tempfile
import threading
from contextlib import suppress
from functools import partial
from typing import IO

from wsgi_asgi._bridge import MAX_ITEMS, Bridge
from wsgi_asgi._errors import RequestRefused
from wsgi_asgi._pool import reset_in_child

__all__ = ["Spool", "Storage"]

logger = logging.getLogger("wsgi_asgi")

# The most that all files may have together where `Limits.spool_total` is None.
MOST_TOTAL_BYTES = 4 << 30


class Storage:
    """The room for the spooled bodies of one adapter.

    Args:
        bridge: Its file threads write the bodies.
        memory: Bytes of a body that are kept in memory.
        total: Bytes that all files may have together; None for half of what is free,
            up to `MOST_TOTAL_BYTES`.
    """

    def __init__(self, bridge: Bridge, memory: int, total: int | None) -> None:
        self.bridge = bridge
        self.memory = memory
        self._total = total
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        """Start from nothing; also in a forked child, which receives none of them."""
        self._used = 0
        self._lock = threading.RLock()  # as in `Guard`

    def take(self, size: int) -> None:
        """Take room for bytes of a file; any thread.

        Raises:
            RequestRefused: There is none left.
        """
        with self._lock:
            if self._used + size > self._most():
                raise _no_room()
            self._used += size

    def give_back(self, size: int) -> None:
        """Give back room that was taken; any thread."""
        with self._lock:
            self._used -= size

    def _most(self) -> int:
        if self._total is not None:
            return self._total
        free = shutil.disk_usage(tempfile.gettempdir()).free
        return min((free + self._used) // 2, MOST_TOTAL_BYTES)


class Spool:
    """One body on its way into memory or a file; one task at a time uses it.

    Args:
        storage: Where there is room for it.

    Attributes:
        size: Bytes that it has so far.
    """

    # `_is_closed` is of whoever closes, `_is_writing` of the file thread once the task
    # has set it. Each side writes its own and then reads the other's, so that one of
    # the two finds out that the file is to be released.
    _is_closed = False
    _is_writing = False

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._chunks: list[bytes] = []
        self._waiting = 0  # bytes of these
        self._files: list[IO[bytes]] = []  # the one there is, or none
        self._rooms: list[int] = []  # bytes of room, as they were taken
        self.size = 0

    async def write(self, data: bytes) -> None:
        """Add bytes to it.

        Raises:
            RequestRefused: There is no room for them, or the disk fails.
        """
        self._chunks.append(data)
        self._waiting += len(data)
        self.size += len(data)
        if self._waiting > self._storage.memory:
            await self._store(is_last=False)
        elif len(self._chunks) > MAX_ITEMS:
            # Each has memory of its own, which may be many times that of its bytes.
            self._chunks = [b"".join(self._chunks)]

    async def finish(self) -> IO[bytes]:
        """Give the whole body, to be read from its beginning.

        Its reader must `close` this spool when the body is no longer needed.

        Raises:
            RequestRefused: As `write` does.
        """
        if not self._files:
            return io.BytesIO(b"".join(self._chunks))
        await self._store(is_last=True)
        return self._files[0]

    def close(self) -> None:
        """Give up the file, if there is one, and its room; any thread."""
        self._is_closed = True
        if not self._is_writing:
            self._release()

    async def _store(self, *, is_last: bool) -> None:
        chunks, self._chunks, self._waiting = self._chunks, [], 0
        self._is_writing = True
        try:
            await self._storage.bridge.call_file(partial(self._append, chunks, is_last))
        except Exception as error:
            self._is_writing = False  # also where no thread was there to begin with it
            if isinstance(error, RequestRefused) or not isinstance(error, OSError):
                raise
            logger.error(
                "a request was answered 503, because its body could not be written to "
                "a file in %s: %s; make room there, set TMPDIR to another folder, or "
                "permit the process more open files",
                # Asking for it would raise where none was found.
                tempfile.tempdir or "a folder for temporary files",
                error,
            )
            raise _no_room() from error

    # In a file thread.

    def _append(self, chunks: list[bytes], is_last: bool) -> None:
        try:
            size = sum(map(len, chunks))
            self._storage.take(size)
            self._rooms.append(size)
            if not self._files:
                self._files.append(tempfile.TemporaryFile())  # noqa: SIM115  # `_release` closes it
            file = self._files[0]
            file.writelines(chunks)
            if is_last:
                file.seek(0)
        finally:
            self._is_writing = False
            if self._is_closed:
                self._release()

    def _release(self) -> None:
        # IndexError: it was released already. OSError: the disk is still full when the
        # file writes the rest; it is closed all the same.
        with suppress(IndexError, OSError):
            self._files.pop().close()
        with suppress(IndexError):
            while True:
                self._storage.give_back(self._rooms.pop())


def _no_room() -> RequestRefused:
    return RequestRefused(
        "503 Service Unavailable",
        "The server has no room for the request body now; try again later.",
        (("Retry-After", "10"),),
    )
