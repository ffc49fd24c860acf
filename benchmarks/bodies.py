"""Bodies of any length, of which each piece can be checked where it arrives.

A body repeats a MiB of fixed random bytes, so it takes no memory, and a piece that
is lost, doubled or out of order is no longer what belongs at its place.
"""

import random
import zlib
from collections.abc import Iterable, Iterator

__all__ = ["PIECE_BYTES", "digest", "matches", "pieces"]

PIECE_BYTES = 65536
_CYCLE = random.Random(1).randbytes(16 * PIECE_BYTES)
_PIECES = [
    _CYCLE[start : start + PIECE_BYTES] for start in range(0, len(_CYCLE), PIECE_BYTES)
]


def pieces(size: int) -> Iterator[bytes]:
    """Give a body of so many bytes, in pieces of 64 KiB and one of the rest."""
    whole, rest = divmod(size, PIECE_BYTES)
    for index in range(whole):
        yield _PIECES[index % 16]
    if rest:
        yield _PIECES[whole % 16][:rest]


def matches(offset: int, piece: bytes) -> bool:
    """Say whether these bytes are what belongs at that place of a body.

    A piece that was handed through as it is costs nothing to compare, since it is
    the same object; a copy costs what comparing 64 KiB does, some microseconds.
    """
    if len(piece) == PIECE_BYTES and not offset % PIECE_BYTES:
        return piece == _PIECES[offset // PIECE_BYTES % 16]
    while piece:
        start = offset % len(_CYCLE)
        part = _CYCLE[start : start + len(piece)]
        if piece[: len(part)] != part:
            return False
        offset += len(part)
        piece = piece[len(part) :]
    return True


def digest(received: Iterable[bytes]) -> bytes:
    """Tell a body by its length and the beginnings of its pieces of 64 KiB.

    The beginnings are enough, as no two pieces that follow each other have the
    same, and take no time beside that of moving the body.
    """
    length = checksum = 0
    for piece in received:
        for start in range(-length % PIECE_BYTES, len(piece), PIECE_BYTES):
            checksum = zlib.crc32(piece[start : start + 8], checksum)
        length += len(piece)
    return b"%d %08x\n" % (length, checksum)
