"""Files as response bodies: ``wsgi.file_wrapper``, and who sends what it wraps.

An application that returns a wrapped file is done with it as soon as it has: what is
left is to copy bytes, and a client may take an hour over that. So the thread opens
the file a second time, as a `FilePart`, closes what it was given, and ends. The task
of the request then reads the part, block by block, as the client takes it.

That needs a descriptor whose bytes are those that ``read()`` gives, and many objects
have one whose are not: those of a compressed or an encrypted file, for example. It
is taken from the plain files of `io` only, and from objects that pass their
``read()`` on to one. All others are read by the application's thread.

No server is given the path of a file, though Granian offers to send one by it
(``http.response.pathsend``). It opens the path later, when there may be another file,
which it sends with the length of the first. The path of a descriptor, in /proc, is no
way out: Granian does not tell when it has opened it, and the number of one that was
closed too early may be that of another client's file.
"""

import errno
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

__all__ = ["BLOCK_BYTES", "MAX_BLOCK_BYTES", "FilePart", "FileWrapper"]

# What is read at once. The block size that applications ask for is a suggestion
# (PEP 3333, Optional Platform-Specific File Handling), mostly of 4 or 8 KiB, at which
# a response would consist of hops between threads. And it may be anything: a buffered
# file takes the memory for a block before it knows how much there is to read.
BLOCK_BYTES = 262144
MAX_BLOCK_BYTES = 4 * BLOCK_BYTES

# Reads what is in the page cache and does not wait for a disk. Linux has it.
_NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)

# With the code by which an object of tempfile calls its file. A function that does
# more can be made to look the same in all else.
_TEMPFILE_CODE = tempfile._TemporaryFileWrapper.__getattr__.__code__.co_consts

PlainFile = io.FileIO | io.BufferedReader | io.BufferedRandom


class Readable(Protocol):
    """All that a file must have; ``close`` and ``fileno`` it may have."""

    def read(self, size: int, /) -> bytes:
        """Give at most so many bytes; none at the end."""


class FileWrapper:
    """A file as the body of a response: ``environ["wsgi.file_wrapper"]``.

    Returned by the application as it is, it is sent without holding a thread, where
    its file allows that. It is an iterator as well, for middleware that looks at the
    body, and can be sought in, for frameworks that answer range requests.

    Args:
        filelike: What has ``read()``. It is sent from its position.
        block_size: Bytes that the application would read at once. It is a
            suggestion, and raised or lowered to what suits.

    Raises:
        BlockingIOError: Iterating has come to where a file in non-blocking mode has
            nothing yet. To end there would cut the response, and nobody would know.

    >>> wrapper = FileWrapper(io.BytesIO(b"content"))
    >>> wrapper.seek(3)
    3
    >>> list(wrapper)
    [b'tent']
    """

    def __init__(self, filelike: Readable, block_size: int = BLOCK_BYTES) -> None:
        self.filelike = filelike
        self.block_size = min(max(block_size, BLOCK_BYTES), MAX_BLOCK_BYTES)
        self._read: Callable[[int], bytes | None]
        self._read = filelike.read
        if type(filelike) is io.BufferedReader and not _has_own_read(filelike):
            self._read = partial(_read_available, filelike)
        # Absent unless the file has it, as PEP 3333 has it of close().
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data = self._read(self.block_size)
        if data:
            return data
        # For a stream of `io` None is no end; for anything else it is, as in the
        # wrappers of other servers.
        if data is None and isinstance(self.filelike, io.IOBase):
            raise BlockingIOError(
                errno.EAGAIN, f"{self.filelike!r} is non-blocking, and has nothing yet"
            )
        raise StopIteration

    def seekable(self) -> bool:
        """Tell whether `seek` works."""
        seekable = getattr(self.filelike, "seekable", None)
        return bool(seekable()) if seekable else hasattr(self.filelike, "seek")

    def seek(self, *arguments: int) -> int:
        """Move the file's position, as `io.IOBase.seek` does."""
        position: int = self.filelike.seek(*arguments)  # type: ignore[attr-defined]  # as seekable() says
        return position

    def tell(self) -> int:
        """Give the file's position."""
        position: int = self.filelike.tell()  # type: ignore[attr-defined]  # as seekable() says
        return position


class FilePart:
    """The rest of a regular file, by a descriptor of its own.

    It is not moved by reads of the wrapped file, and outlives its closing and its
    deletion. One thread may read it while another closes it.

    Args:
        file: A plain file that is open for reading.

    Attributes:
        offset: Where the next `read` begins.
        left: Bytes from there to the end that the file had when it was opened. Make
            it less to send less.

    Raises:
        OSError: It has no position, as a pipe has none, or there is no descriptor
            to be had.
    """

    # Each side writes its own of these and then reads the other's, so that one of the
    # two always finds out.
    _reading = False
    _closed = False

    def __init__(self, file: PlainFile) -> None:
        self._descriptors: list[int] = []  # the one there is, or none
        if isinstance(file, io.BufferedRandom):
            file.flush()  # what was written is read back by other means
        self.offset = file.tell()
        self._name = file.name
        descriptor = os.dup(file.fileno())
        self._descriptors.append(descriptor)
        self._status = os.fstat(descriptor)
        self.left = self._status.st_size - self.offset

    def __del__(self) -> None:
        self._release()

    def close(self) -> None:
        """Give the descriptor back, as soon as no thread reads from it any more."""
        self._closed = True
        if not self._reading:
            self._release()

    def _release(self) -> None:
        with suppress(IndexError):  # released already
            os.close(self._descriptors.pop())

    @classmethod
    def of(cls, filelike: object) -> "FilePart | None":
        """Open what a wrapped file has left, if that is the plain bytes of a disk.

        Args:
            filelike: Whatever the application has wrapped.
        """
        if not hasattr(os, "pread"):  # Windows
            return None
        file = _plain_file(filelike)
        if file is None or file.closed or not file.readable():
            return None
        try:
            part = cls(file)
            if part._has_its_length():
                return part
        except OSError:
            return None
        part.close()
        return None

    def _has_its_length(self) -> bool:
        """Tell whether the file has the bytes that it says it has, and some left.

        Files that the system makes up as they are read say anything: those in /proc
        that they are empty, those in /sys that they have a page. No disk holds them,
        and of files that none holds the last byte is looked for.
        """
        status = self._status
        if self.left <= 0 or not stat.S_ISREG(status.st_mode):
            return False
        return bool(
            status.st_blocks or os.pread(self._descriptors[0], 1, status.st_size - 1)
        )

    def read(self, size: int) -> bytes:
        """Read the next bytes, waiting for the disk if need be.

        Raises:
            OSError: The disk, or the file system, fails.
            RuntimeError: The file has become shorter.
            ValueError: The part was closed.
        """
        self._reading = True
        try:
            if self._closed:
                raise ValueError(f"the part of {self._name!r} was closed")
            data = os.pread(self._descriptors[0], size, self.offset)
        finally:
            self._reading = False
            if self._closed:
                self._release()
        return self._advanced(data)

    def read_all(self, size: int) -> bytes:
        """Read exactly so many bytes; raises as `read` does."""
        blocks: list[bytes] = []
        while size > 0:
            blocks.append(self.read(size))
            size -= len(blocks[-1])
        return b"".join(blocks)

    def read_cached(self, size: int) -> bytes | None:
        """Read the next bytes if they are in memory; None if that is not known."""
        if _NO_WAIT is None:
            return None
        buffer = bytearray(size)
        try:
            count = os.preadv(self._descriptors[0], [buffer], self.offset, _NO_WAIT)
        except OSError:
            return None  # not in memory, or a file system that cannot tell
        # Linux 5.9 and 5.10 may find no bytes in mid-file: preadv(2), Bugs.
        return self._advanced(bytes(memoryview(buffer)[:count])) if count else None

    def _advanced(self, data: bytes) -> bytes:
        if not data:
            raise RuntimeError(
                f"{self._name!r} has become shorter while it was sent: it ends before "
                f"byte {self.offset}"
            )
        self.offset += len(data)
        self.left -= len(data)
        return data


def _plain_file(filelike: Any) -> PlainFile | None:
    """Find the file of `io` that an object's ``read()`` reads."""
    kind = type(filelike)
    if kind is io.FileIO or kind is io.BufferedReader or kind is io.BufferedRandom:
        # A buffer can be put over anything, and has the descriptor of that.
        raw = getattr(filelike, "raw", filelike)
        is_plain = type(raw) is io.FileIO and not (
            _has_own_read(filelike) or _has_own_read(raw)
        )
        return filelike if is_plain else None
    # The objects of tempfile and of Django hold a file, and pass read() on to it.
    try:
        inner, own = filelike.file, filelike.read
        if kind is tempfile._TemporaryFileWrapper:
            own = own.__wrapped__ if own.__code__ in _TEMPFILE_CODE else None
        if own is None or inner is filelike or own != inner.read:
            return None
        return _plain_file(inner)
    except Exception:  # of an attribute: others do not even have them
        return None


def _has_own_read(file: object) -> bool:
    """Tell whether somebody has set what gives the bytes on this one object."""
    return not {"read", "readinto"}.isdisjoint(getattr(file, "__dict__", ()))


def _read_available(file: io.BufferedReader, size: int) -> bytes | None:
    """Read what a pipe has, where read() would wait for a whole block."""
    # Nothing is the end or, of a pipe in non-blocking mode, no bytes yet, and only
    # read() tells one from the other.
    return file.read1(size) or file.read(size)
