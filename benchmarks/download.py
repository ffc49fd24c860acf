"""Downloading a file: a client that reads to the end and does nothing else.

It checks the status, the length and the first bytes of whatever it receives at a
time, which is some ten thousand places of a large file. More would make it the
slowest part, since it shares the machine with the server.
"""

import socket
import time
from pathlib import Path

from benchmarks.bodies import matches, pieces
from benchmarks.client import WrongAnswer

__all__ = ["download", "write_file"]

BUFFER_BYTES = 1 << 18
CHECKED_BYTES = 64


def write_file(path: Path, size: int) -> None:
    """Write the file that is to be downloaded."""
    with path.open("wb") as file:
        file.writelines(pieces(size))


def download(port: int, path: str, size: int, within: float) -> float:
    """Download the file once.

    Args:
        port: Where the server listens.
        path: What is asked for.
        size: How many bytes it has.
        within: Seconds that it may take.

    Returns:
        Seconds from the request to the last byte.

    Raises:
        WrongAnswer: It is not the file.
        TimeoutError: It is not there in time.
    """
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), within) as connection:
        start = time.perf_counter()
        connection.sendall(request.encode())
        received = _read_body(connection, start + within, size)
        elapsed = time.perf_counter() - start
    if received != size:
        raise WrongAnswer(f"{received:,} bytes instead of {size:,}")
    return elapsed


def _read_body(connection: socket.socket, deadline: float, size: int) -> int:
    buffer = bytearray(BUFFER_BYTES)
    received = _read_head(connection)
    while received < size:
        count = connection.recv_into(buffer)
        if not count:
            break
        if not matches(received, bytes(buffer[: min(count, CHECKED_BYTES)])):
            raise WrongAnswer(f"the body differs after {received:,} bytes")
        received += count
        if time.perf_counter() > deadline:
            raise TimeoutError(f"only {received:,} bytes in time")
    return received


def _read_head(connection: socket.socket) -> int:
    """Read the headers; give how many bytes of the body came with them."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(4096)
        if not more:
            raise WrongAnswer(f"the connection ended after {data[:200]!r}")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise WrongAnswer(f"the response is {head[:200]!r}")
    if not matches(0, body):
        raise WrongAnswer("the body differs at its beginning")
    return len(body)
