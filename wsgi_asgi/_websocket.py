"""What a WebSocket client gets: a polite refusal."""

from wsgi_asgi._types import Receive, Send

__all__ = ["refuse_websocket"]


async def refuse_websocket(receive: Receive, send: Send) -> None:
    """Close a WebSocket before it is accepted, which servers answer with 403.

    Raising instead would log a traceback for each stray client that tries a
    WebSocket first.
    """
    message = await receive()
    if message["type"] == "websocket.connect":
        await send({"type": "websocket.close", "code": 1000, "reason": ""})
