"""Bytes that both ends can make, so that neither has to keep or to send a copy."""

import hashlib
from collections.abc import Iterator

BLOCK_BYTES = 65536
MIB = 1024 * 1024
DOWNLOAD_BYTES = 50 * MIB
FILE_BYTES = 5 * MIB + 1
FILE_NAME = "some.bin"
# More than the buffers of the kernel take.
CHANGED_BYTES = 16 * MIB
LARGE_NAME = "large.bin"
# More than goes out, or is thrown away, before a server tells that a client has left.
ENDLESS_BYTES = 1024 * MIB
VERSIONS = 20
SHARED_MEMORY = "/dev/shm"
SHARED_BYTES = 32 * MIB


def blocks(total: int) -> Iterator[bytes]:
    """Yield `total` bytes in which every block differs from the others."""
    for number in range(0, total, BLOCK_BYTES):
        block = number.to_bytes(8, "big") * (BLOCK_BYTES // 8)
        yield block[: min(BLOCK_BYTES, total - number)]


def digest(total: int) -> str:
    checksum = hashlib.sha256()
    for block in blocks(total):
        checksum.update(block)
    return checksum.hexdigest()


def version(number: int) -> bytes:
    """Make a version of a file; no two have the same bytes or the same length."""
    number %= VERSIONS
    return bytes([number]) * (300_000 + 10_000 * number)
