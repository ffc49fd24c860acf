"""The client of the in-process part: plays the server for any ASGI application.

It is the same code for all contenders, and as little as can check every answer. It
keeps the promises of a server: `receive()` gives the body in messages of 64 KiB,
then waits, and tells of the client's leaving once the response is complete; `send()`
takes nothing after that.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.bodies import matches, pieces
from benchmarks.cases import Case, expected_body, make_scope

__all__ = ["Client", "WrongAnswer", "run_round"]


class WrongAnswer(Exception):
    """The contender's response is not what the application answered."""


class _Exchange:
    """One request: what the contender receives from and sends to."""

    __slots__ = (
        "_body",
        "_expected",
        "_left",
        "_next",
        "_started",
        "complete",
        "pieces",
        "size",
    )

    def __init__(self, upload: int | None, expected: bytes | None) -> None:
        self._body: Iterator[bytes] | None = pieces(upload) if upload else None
        self._next: bytes | None = next(self._body) if self._body else b""
        self._expected = expected
        self._left: asyncio.Event | None = None
        self._started = False
        self.complete = False
        self.pieces: list[bytes] = []
        self.size = 0

    async def receive(self) -> dict[str, Any]:
        if self._next is not None:
            body = self._next
            self._next = next(self._body, None) if self._body else None
            more = self._next is not None
            return {"type": "http.request", "body": body, "more_body": more}
        if not self.complete:
            self._left = self._left or asyncio.Event()
            await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            self._take(message)
        elif message["type"] != "http.response.start" or self._started:
            raise WrongAnswer(f"{message['type']} at the wrong time")
        elif message["status"] != 200:
            raise WrongAnswer(f"status {message['status']}")
        else:
            self._started = True

    def _take(self, message: dict[str, Any]) -> None:
        if not self._started or self.complete:
            raise WrongAnswer("a body message at the wrong time")
        body = message.get("body", b"")
        if self._expected is not None:
            self.pieces.append(body)
        elif not matches(self.size, body):
            raise WrongAnswer(f"the body differs after {self.size:,} bytes")
        self.size += len(body)
        if not message.get("more_body"):
            self.complete = True
            if self._left:
                self._left.set()


class Client:
    """Asks one application for one case, and checks what it answers.

    Args:
        app: The contender's ASGI application.
        case: What to ask.
    """

    def __init__(self, app: Callable[..., Any], case: Case) -> None:
        self._app = app
        self._upload = case.upload
        self._expected = expected_body(case)
        self._size = case.download if self._expected is None else len(self._expected)
        self._scope = make_scope(case)

    async def request(self) -> None:
        """Have one request served.

        Raises:
            WrongAnswer: The response is wrong, or not complete.
            Exception: What the contender raises.
        """
        exchange = _Exchange(self._upload, self._expected)
        await self._app(dict(self._scope), exchange.receive, exchange.send)
        if not exchange.complete:
            raise WrongAnswer("the response is not complete")
        if exchange.size != self._size:
            raise WrongAnswer(f"{exchange.size:,} bytes instead of {self._size:,}")
        if self._expected is not None and b"".join(exchange.pieces) != self._expected:
            raise WrongAnswer(f"the body is {b''.join(exchange.pieces)[:60]!r}")

    async def requests(self, until: float) -> int:
        """Ask one request after another, at least one, until a time."""
        count = 0
        while not count or time.perf_counter() < until:
            await self.request()
            count += 1
        return count


async def run_round(
    client: Client, at_a_time: int, seconds: float
) -> tuple[int, float]:
    """Ask for some seconds, so many at a time.

    Returns:
        How many requests were served, and the seconds from the first one's begin
        to the last one's end.
    """
    start = time.perf_counter()
    until = start + seconds
    if at_a_time == 1:
        count = await client.requests(until)
    else:
        count = sum(
            await asyncio.gather(*(client.requests(until) for _ in range(at_a_time)))
        )
    return count, time.perf_counter() - start
