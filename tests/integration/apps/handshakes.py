"""An ordinary view that anybody can ask for a WebSocket, and one that has some."""

import json
import threading
import time
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse

from wsgi_asgi import WsgiToAsgi

THREADS = 2
VIEW_S = 0.01

lock = threading.Lock()
counts = {"now": 0, "most": 0, "all": 0}


def view(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Take a while, as a query of a database does."""
    with lock:
        counts["now"] += 1
        counts["all"] += 1
        counts["most"] = max(counts["most"], counts["now"])
    time.sleep(VIEW_S)
    with lock:
        counts["now"] -= 1
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"no WebSocket is here"]


def application(
    environ: dict[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/view":
        return view(environ, start_response)
    if websocket := environ.get("wsgi.websocket"):
        for message in websocket:
            websocket.send(message)
        return []
    start_response("200 OK", [("Content-Type", "application/json")])
    stats = app.stats()
    told = {"websockets": stats.websockets, "busy": stats.busy, **counts}
    return [json.dumps(told).encode()]


app = WsgiToAsgi(application, threads=THREADS)
