"""Many WebSockets that wait, and a view beside them."""

import json
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse

from wsgi_asgi import Limits, WsgiToAsgi

MOST = 500


def application(
    environ: dict[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    if websocket := environ.get("wsgi.websocket"):
        for message in websocket:
            websocket.send(message)
        return []
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"websockets": app.stats().websockets}).encode()]


app = WsgiToAsgi(application, limits=Limits(websockets=MOST))
