"""WebSockets that are closed while their clients take nothing."""

import json
import threading
import time
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse

from wsgi_asgi import WebSocketError, WsgiToAsgi, _websocket

# What a client has before it is given up. By default it is longer than a test may take.
_websocket.CLOSING_S = 0.5
# For so long no message was taken when nothing more can be on its way.
STILL_S = 0.3
BLOCK_BYTES = 65536

closes: list[float] = []
errors: list[str] = []
returned: list[str] = []
go_on = threading.Event()


def hang_up(websocket: Any, sent: list[int]) -> None:
    """Close as soon as the client takes nothing any more."""
    before = -1
    while before != len(sent):
        before = len(sent)
        time.sleep(STILL_S)
    start = time.monotonic()
    websocket.close(1013, "too slow")
    closes.append(time.monotonic() - start)


def send_without_end(websocket: Any) -> None:
    sent: list[int] = []
    websocket.accept()
    threading.Thread(target=hang_up, args=(websocket, sent), daemon=True).start()
    try:
        while True:
            websocket.send(bytes(BLOCK_BYTES))
            sent.append(BLOCK_BYTES)
    except WebSocketError as error:
        errors.append(str(error))


def application(
    environ: dict[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    if websocket := environ.get("wsgi.websocket"):
        send_without_end(websocket)
        if environ["PATH_INFO"] == "/goes-on":
            go_on.wait(30)
        return []
    if environ["PATH_INFO"] == "/go-on":
        go_on.set()
    start_response("200 OK", [("Content-Type", "application/json")])
    websockets = adapter.stats().websockets
    state = {
        "closes": closes,
        "errors": errors,
        "returned": returned,
        "websockets": websockets,
    }
    return [json.dumps(state).encode()]


adapter = WsgiToAsgi(application)


async def app(scope: Any, receive: Any, send: Any) -> None:
    await adapter(scope, receive, send)
    if scope["type"] == "websocket":
        returned.append(scope["path"])
