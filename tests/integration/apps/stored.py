"""A file that is no file of the system, for all frameworks."""

import io
from collections.abc import Iterator

from typing_extensions import override

from tests.integration.apps import journal, payload


class Stored(io.IOBase):
    """A file in a database, as GridFS has them: in pieces, and without a descriptor.

    It notes how much is read at once.
    """

    def __init__(self, key: str, size: int) -> None:
        self._key = key
        self._pieces: Iterator[bytes] = payload.blocks(size)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        journal.note(self._key, f"read {size}")
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    @override
    def readable(self) -> bool:
        return True
