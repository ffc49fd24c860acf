"""Asking a server by WebSocket: a client that sends a message and waits for it.

What it sends was made before, and what comes back is compared with bytes that were
made before, so that it does little more than the system calls; any library's client
would be slower than most of the servers. All its connections are served by one thread.
"""

import select
import socket
import struct
import time

from benchmarks.client import WrongAnswer

__all__ = ["MESSAGE", "echo"]

MESSAGE = b"a message of 32 bytes, as ASCII."

_KEY = b"\x12\x34\x56\x78"
_TEXT, _CLOSE, _FINAL, _MASKED = 0x1, 0x8, 0x80, 0x80
_WITHIN_S = 10.0


def _masked(opcode: int, payload: bytes) -> bytes:
    """Make a frame as clients send them (RFC 6455 5.2)."""
    masked = bytes(byte ^ _KEY[at % 4] for at, byte in enumerate(payload))
    return bytes([_FINAL | opcode, _MASKED | len(payload)]) + _KEY + masked


_ASKED = _masked(_TEXT, MESSAGE)
_ANSWERED = bytes([_FINAL | _TEXT, len(MESSAGE)]) + MESSAGE
_NORMAL = struct.pack("!H", 1000)


class _WebSocket:
    """One connection, and when its message was sent."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _WITHIN_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.asked_at = 0.0
        self._received = b""

    def open(self, port: int, path: str) -> None:
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            more = self.socket.recv(4096)
            head += more
            if not more or not head.startswith(b"HTTP/1.1 101 "[: len(head)]):
                raise WrongAnswer(f"the handshake is answered by {head[:200]!r}")

    def ask(self) -> None:
        self.asked_at = time.perf_counter()
        self.socket.sendall(_ASKED)

    def is_answered(self) -> bool:
        """Take what has come, and say whether that is the whole message."""
        more = self.socket.recv(4096)
        self._received += more
        if self._received == _ANSWERED:
            self._received = b""
            return True
        if not more or not _ANSWERED.startswith(self._received):
            raise WrongAnswer(f"the message comes back as {self._received[:200]!r}")
        return False

    def close(self) -> None:
        """Close in order, so that the server has its threads back."""
        with self.socket:
            self.socket.sendall(_masked(_CLOSE, _NORMAL))
            while self.socket.recv(4096):
                pass


def echo(
    port: int, path: str, connections: int, seconds: float
) -> tuple[float, dict[str, float]]:
    """Exchange messages for some seconds.

    Args:
        port: Where the server listens.
        path: Where it sends back what it is sent.
        connections: How many there are, each with one message on its way.
        seconds: How long.

    Returns:
        Messages a second, and the seconds in which so many percent of them had come
        back, by percentile.

    Raises:
        WrongAnswer: What came back is something else, or the handshake failed.
        TimeoutError: Nothing came back.
    """
    clients: dict[int, _WebSocket] = {}
    try:
        for _ in range(connections):
            client = _WebSocket(port)
            clients[client.socket.fileno()] = client
            client.open(port, path)
        start = time.perf_counter()
        times = _converse(clients, start + seconds)
        elapsed = time.perf_counter() - start
        for client in clients.values():
            client.close()
    finally:
        for client in clients.values():
            client.socket.close()
    return len(times) / elapsed, _percentiles(times)


def _converse(clients: dict[int, _WebSocket], until: float) -> list[float]:
    """Exchange messages up to a time; give how long each took."""
    times: list[float] = []
    poll = select.poll()
    for number, client in clients.items():
        poll.register(number, select.POLLIN)
        client.ask()
    waiting = len(clients)
    while waiting:
        ready = poll.poll(_WITHIN_S * 1000)
        if not ready:
            raise TimeoutError("a message has not come back")
        for number, _ in ready:
            client = clients[number]
            if not client.is_answered():
                continue
            now = time.perf_counter()
            times.append(now - client.asked_at)
            if now < until:
                client.ask()
            else:
                waiting -= 1
    return times


def _percentiles(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    count = len(ordered)
    return {f"p{part}": ordered[count * part // 100] for part in (50, 90, 99)}
