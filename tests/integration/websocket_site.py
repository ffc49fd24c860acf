"""What a test sees of a server of WebSockets: a `Site`."""

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from conformance.live.polling import wait_until
from conformance.live.processes import Server, running, tracebacks

APP = "tests.integration.apps.websockets:app"

# What a server is started as, and with what in its environment.
SERVERS = {
    "uvicorn-websockets": ("uvicorn-h11", {"UVICORN_WS": "websockets"}),
    "uvicorn-sansio": ("uvicorn-httptools-uvloop", {"UVICORN_WS": "websockets-sansio"}),
    "uvicorn-wsproto": ("uvicorn-h11", {"UVICORN_WS": "wsproto"}),
    "hypercorn": ("hypercorn", {}),
    "hypercorn-trio": ("hypercorn-trio", {}),
    "granian": ("granian", {}),
    "daphne": ("daphne", {}),
    "gunicorn": ("gunicorn", {}),
}
# What a server itself does not pass on.
LACKS = {
    "hypercorn": {"the client's close code"},
    "hypercorn-trio": {"the client's close code"},
    "granian": {"headers", "the client's reason", "patience"},
    "daphne": {
        *("headers", "denials", "empty messages", "16 MB", "back-pressure"),
        *("reasons", "the client's reason"),
    },
    "gunicorn": {"denials", "the client's reason"},
}


class Site:
    """A server, and how to speak to it.

    Args:
        name: One of `SERVERS`.
        server: The server.
    """

    def __init__(self, name: str, server: Server) -> None:
        self.name = name
        self.server = server

    def lacks(self, what: str) -> bool:
        return what in LACKS.get(self.name, ())

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.server.port}{path}"

    def connect(
        self, path: str, **options: Any
    ) -> contextlib.AbstractContextManager[ClientConnection]:
        connection: contextlib.AbstractContextManager[ClientConnection] = connect(
            self.url(path), max_size=None, compression=None, proxy=None, **options
        )
        return connection

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.server.url}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body

    def stat(self, name: str) -> int:
        value: int = json.loads(self.get("/stats"))[name]
        return value

    def faults(self) -> list[str]:
        """Give the tracebacks that are ours, but for those of cancelled tasks."""
        own = [one for one in tracebacks(self.server.log()) if "wsgi_asgi" in one]
        return [one for one in own if "CancelledError" not in one]

    def wait_until_idle(self) -> None:
        wait_until(lambda: self.stat("websockets") == 0, "no WebSocket holds a thread")


@contextlib.contextmanager
def serving(name: str, directory: Path, app: str = APP) -> Iterator[Site]:
    """Run a server of WebSockets for as long as the block takes."""
    server, environ = SERVERS[name]
    with running(server, app, directory, environ=environ) as started:
        yield Site(name, started)
