"""Native ASGI applications with the same answers: what no adapter can be below.

`no hop` answers on the event loop, so it shows what the client itself costs. `bare
hop` makes its answer in a thread, by one `run_in_executor` for a request, and sends
it from the loop. An adapter does more than that, but can wake the loop less often.

Both send back what comes by WebSocket, whatever the path.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.applications import Application

__all__ = ["Limit"]


class Limit:
    """An ASGI application that answers as an application would.

    Args:
        application: The application; its `answer` is used.
        hop: Whether the answer is made in a thread.
    """

    def __init__(self, application: Application, *, hop: bool) -> None:
        if application.answer is None:
            raise ValueError("this application's answer cannot be had without it")
        self._answer = application.answer
        self._hop = hop

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self._echo(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError("neither http nor websocket")
        body = await _read(receive)
        query = scope["query_string"]
        chunks: Iterable[bytes]
        if self._hop:
            loop = asyncio.get_running_loop()
            chunks = await loop.run_in_executor(None, self._answer, query, body)
        else:
            chunks = self._answer(query, body)
        await _send(send, chunks)

    async def _echo(self, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            text = message["text"]
            if self._hop:
                text = await loop.run_in_executor(None, str, text)
            await send({"type": "websocket.send", "text": text})


async def _read(receive: Any) -> list[bytes]:
    body = []
    while True:
        message = await receive()
        if message["body"]:
            body.append(message["body"])
        if not message.get("more_body"):
            return body


def _message(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _send(send: Any, chunks: Iterable[bytes]) -> None:
    headers = [(b"content-type", b"text/plain")]
    if isinstance(chunks, list) and len(chunks) == 1:
        headers.append((b"content-length", b"%d" % len(chunks[0])))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    rest: Iterator[bytes] = iter(chunks)
    chunk = next(rest, b"")
    for following in rest:
        await send(_message(chunk, True))
        chunk = following
    await send(_message(chunk, False))
