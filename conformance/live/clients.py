"""One request at a time, with every byte in the caller's hand.

Ordinary clients hide what is looked at here: when the head and each piece of the body
are sent, interim answers, whether the answer was cut, and how the client leaves.
"""

import select
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

__all__ = [
    "READ_BYTES",
    "TIMEOUT_S",
    "Connection",
    "CutError",
    "Head",
    "Headers",
    "is_readable",
    "read_body",
]

TIMEOUT_S = 15.0
READ_BYTES = 65536

Headers = Sequence[tuple[str, str]]


class CutError(Exception):
    """The answer ended before it was complete."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer.

    Attributes:
        status: The status code.
        headers: Names, in lower case, and values, in order.
        interim: The status codes of the interim answers before it.
    """

    status: int
    headers: list[tuple[str, str]]
    interim: list[int] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """Give the first value of a header."""
        values = self.get_all(name)
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        """Give all values of a header."""
        return [value for key, value in self.headers if key == name]


class Connection(ABC):
    """A connection to a server on this machine.

    Args:
        port: The server's.
        timeout: Seconds after which any wait for it is a `TimeoutError`.
    """

    def __init__(self, port: int, timeout: float = TIMEOUT_S) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    @abstractmethod
    def start(
        self, method: str, path: str, headers: Headers = (), *, end: bool = True
    ) -> None:
        """Send the head of a request, and with `end` that no body follows."""

    @abstractmethod
    def send(self, data: bytes, *, end: bool = False) -> None:
        """Send some of the body, and with `end` that it is the last."""

    @abstractmethod
    def has_answer(self) -> bool:
        """Say whether anything of an answer has come, without waiting."""

    @abstractmethod
    def read_head(self) -> Head:
        """Wait for the head of the answer.

        Raises:
            CutError: There will be none.
        """

    @abstractmethod
    def read_some(self) -> bytes:
        """Wait for some of the body; nothing means its end.

        Raises:
            CutError: It ended before it was complete.
        """

    def leave(self) -> None:
        """Go away without a word: no clean end of anything that is under way."""
        self.socket.close()

    def reset(self) -> None:
        """Leave with a TCP reset, as a crashed client does."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


def read_body(connection: Connection) -> bytes:
    """Wait for all of the body.

    Raises:
        CutError: It ended before it was complete.
    """
    pieces: list[bytes] = []
    while piece := connection.read_some():
        pieces.append(piece)
    return b"".join(pieces)


def is_readable(sock: socket.socket) -> bool:
    """Say whether something has come, without waiting."""
    readable, _, _ = select.select([sock], [], [], 0)
    return bool(readable)
