"""An application that reads, under adapters whose threads are of each kind."""

import json
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from wsgi_asgi import WsgiToAsgi


def application(
    environ: dict[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    """Read all of the body, and say how long it is."""
    size = 0
    while block := environ["wsgi.input"].read(8192):
        size += len(block)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"bytes": size}).encode()]


ADAPTERS = {
    "/default": WsgiToAsgi(application),
    "/streaming": WsgiToAsgi(application, spool=False),
    "/one-thread": WsgiToAsgi(application, threads=1),
    "/executor": WsgiToAsgi(application, executor=ThreadPoolExecutor(4)),
}
arrived = dict.fromkeys(ADAPTERS, 0)


def threads_of_the_process() -> int:
    """Count all threads, those that Python knows nothing of included."""
    tasks = Path("/proc/self/task")
    return len([*tasks.iterdir()]) if tasks.exists() else threading.active_count()


async def tell(path: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Say how an adapter is, without any thread."""
    adapter = ADAPTERS[path]
    stats = adapter.stats()
    told = {
        "arrived": arrived[path],
        "busy": stats.busy,
        "queued": stats.queued,
        "uploads": adapter._http.intake.uploads.taken,
        "spooled": adapter._http.intake.storage._used,
        "process threads": threads_of_the_process(),
    }
    await JSONResponse(told)(scope, receive, send)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope.get("path", "")
    if path.startswith("/stats"):
        await tell(path.removeprefix("/stats"), scope, receive, send)
        return
    if path in ADAPTERS:
        arrived[path] += 1
    await ADAPTERS.get(path, ADAPTERS["/default"])(scope, receive, send)
