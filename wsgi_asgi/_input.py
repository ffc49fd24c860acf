"""``wsgi.input``: a request body as a Python file.

Only `BodyStream.readinto` and what it needs are written here. Lines, sizes,
iteration and look-ahead are `io.BufferedReader`'s, which has them right.
"""

import io
from collections.abc import Callable, Iterator
from typing import Any

from wsgi_asgi._errors import IncompleteBody

__all__ = ["BodyStream", "LazyStream"]


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
    >>> list(io.BufferedReader(BodyStream(lambda: next(pieces))))
    [b'hello\n', b'world']
    """

    def __init__(self, pull: Callable[[], bytes], length: int | None = None) -> None:
        super().__init__()
        self._pull = pull
        self._length = length
        self._left = length
        self._chunk = memoryview(b"")

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
        chunk = self._chunk or self._next()
        count = min(len(chunk), len(buffer))
        buffer[:count] = chunk[:count]
        self._chunk = chunk[count:]
        return count

    def readall(self) -> bytes:
        """Wait for the whole rest of the body; raises as `readinto` does."""
        chunks = [self._chunk]
        self._chunk = memoryview(b"")
        while chunk := self._next():
            chunks.append(chunk)
        return b"".join(chunks)

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
        self._file: io.BufferedReader | None = None

    def _open(self) -> io.BufferedReader:
        if self._file is None:
            self._file = io.BufferedReader(BodyStream(self._pull))
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
