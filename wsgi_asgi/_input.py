"""``wsgi.input``: a request body as a Python file.

Only `BodyStream.readinto` and what it needs are written here. Lines, sizes,
iteration and look-ahead are `io.BufferedReader`'s, which has them right, but for
one thing: see `BodyReader`.
"""

import io
import sys
import threading
from collections.abc import Callable, Iterator
from operator import index
from typing import Any

from wsgi_asgi._errors import IncompleteBody

__all__ = ["BodyReader", "BodyStream", "LazyStream"]

# A read of no more takes its memory at once. Applications read in blocks of 8 to
# 256 KiB, and a larger block costs as much to make out of chunks as to fill.
BLOCK_BYTES = 262144

# Bound once, since super() costs as much as a small read.
_read = io.BufferedReader.read
_read1 = io.BufferedReader.read1


class BodyStream(io.RawIOBase):
    r"""A request body that is still arriving.

    Args:
        pull: Waits for the next bytes of the body and returns them, ``b""`` at
            its end. What it raises, the reader sees. Called by whichever
            thread reads.
        length: The declared Content-Length. The stream ends there, whatever
            else arrives, so that an application which reads to the end need
            not wait for the server to say that it has come (PEP 3333, Input
            and Error Streams).

    >>> pieces = iter([b"he", b"llo\nwor", b"ld", b""])
    >>> list(BodyReader(BodyStream(lambda: next(pieces))))
    [b'hello\n', b'world']
    """

    def __init__(self, pull: Callable[[], bytes], length: int | None = None) -> None:
        super().__init__()
        self._pull = pull
        self._length = length
        self._left = length
        self._chunk = memoryview(b"")
        # The buffer above has a lock of its own, but is passed by where much is read.
        self._reading = threading.Lock()

    def readable(self) -> bool:
        """Say that the stream can be read."""
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # typeshed: any WriteableBuffer; io passes memoryviews
        """Fill a buffer with what has arrived, waiting only if that is nothing.

        Returns:
            The number of bytes; zero at the end of the body.

        Raises:
            ClientDisconnected: The client left before the end of the body.
            IncompleteBody: The body ended before its declared length.

        Runs on:
            A thread of the application's.
        """
        with self._reading:
            chunk = self._chunk or self._next()
            count = min(len(chunk), len(buffer))
            buffer[:count] = chunk[:count]
            self._chunk = chunk[count:]
        return count

    def readall(self) -> bytes:
        """Wait for the whole rest of the body; raises as `readinto` does."""
        return self.collect(sys.maxsize)

    def collect(self, size: int, start: bytes = b"") -> bytes:
        """Wait for bytes, and take memory only for those that have come.

        Args:
            size: How many, `start` included; fewer are given at the end of the body.
            start: Bytes that are there already.

        Raises:
            OSError: As `readinto` does.
        """
        body = io.BytesIO()
        body.write(start)
        with self._reading:
            while (left := size - body.tell()) and (
                chunk := self._chunk or self._next()
            ):
                body.write(chunk[:left])
                self._chunk = chunk[left:]
        return body.getvalue()

    def _next(self) -> memoryview:
        if self._left == 0:
            return memoryview(b"")
        chunk = memoryview(self._pull())
        if self._left is not None:
            if not chunk:
                raise IncompleteBody(
                    f"the request body ended {self._left} bytes short of the "
                    f"{self._length} that its Content-Length announced"
                )
            chunk = chunk[: self._left]
            self._left -= len(chunk)
        return chunk


class BodyReader(io.BufferedReader):
    """A buffer over a `BodyStream`, in which reads take no memory in advance.

    Applications read as many bytes as CONTENT_LENGTH says (PEP 3333, Input and Error
    Streams), which is what the client says. `io.BufferedReader` takes the memory for
    all of them before the first has come, so a header alone would use up the
    machine's, or be a MemoryError.

    >>> BodyReader(BodyStream(iter([b"three", b""]).__next__)).read(9 * 10**14)
    b'three'
    """

    raw: BodyStream

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes, or all; raises as `BodyStream.readinto` does."""
        if size is None or (size := index(size)) <= BLOCK_BYTES:
            return _read(self, size)
        # All that the buffer has, which is less. The rest is below the buffer.
        start = _read(self, len(self.peek()))
        return self.raw.collect(size, start)

    def read1(self, size: int = -1, /) -> bytes:
        """Read what is there, or wait for something; raises as `read` does."""
        return _read1(self, min(index(size), BLOCK_BYTES))


class LazyStream:
    """A body that is probably empty and seldom read, opened at the first use.

    Most requests have no body, but a file costs as much to make and to dispose of
    as a third of all else that is done for them.

    Args:
        pull: As for `BodyStream`.

    >>> LazyStream(lambda: b"").read()
    b''
    """

    __slots__ = ("_file", "_pull")

    def __init__(self, pull: Callable[[], bytes]) -> None:
        self._pull = pull
        self._file: BodyReader | None = None

    def _open(self) -> BodyReader:
        if self._file is None:
            self._file = BodyReader(BodyStream(self._pull))
        return self._file

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # else copying one would look for `_file` for ever
            raise AttributeError(name)
        return getattr(self._open(), name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._open())

    def __next__(self) -> bytes:
        return next(self._open())

    def __enter__(self) -> io.BufferedReader:
        return self._open().__enter__()

    def __exit__(self, *exc_info: Any) -> None:
        self._open().__exit__(*exc_info)


io.BufferedIOBase.register(LazyStream)
