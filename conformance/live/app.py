"""The ASGI application that a server imports: the adapter under test, and a probe.

Headers choose what a request is for, since nothing of the scope may change on the
way, and the path least of all: ``x-app`` names the application, and without it the
probe answers; ``x-key`` names the page of the journal, and ``x-open`` opens a gate.
"""

import json
import os
import signal
import threading
import time
import warnings
from contextlib import suppress
from typing import Any
from wsgiref.types import WSGIApplication

from conformance.adapters import KNOWN, OURS, TWO_THREADS, import_target
from conformance.live import journal
from conformance.live.applications import make_flask, plain
from conformance.live.environment import ADAPTER_VARIABLE, RUNNER_VARIABLE
from conformance.live.gates import open_gate

__all__ = ["app"]

# How often the process looks whether that which has started it is still there.
LOOK_S = 1.0


def _make_apps() -> dict[str, Any]:
    target = os.environ.get(ADAPTER_VARIABLE, OURS.target)
    make: Any = import_target(target)
    options = next((known.options for known in KNOWN if known.target == target), {})
    # Few threads show at once what many hide; not all adapters have a word for it.
    few = dict(options[TWO_THREADS]()) if TWO_THREADS in options else {}
    apps: dict[str, WSGIApplication] = {"plain": plain}
    with suppress(ImportError):
        apps["flask"] = make_flask()
    with warnings.catch_warnings():
        if target != OURS.target:
            warnings.simplefilter("ignore", DeprecationWarning)
        made = {name: make(wsgi) for name, wsgi in apps.items()}
        return {**made, "small": make(plain, **few)}


def _end_with(runner: int) -> None:
    """End the server, all of it, once the process that has started it is gone."""
    while True:
        time.sleep(LOOK_S)
        try:
            os.kill(runner, 0)
        except OSError:
            os.killpg(0, signal.SIGKILL)


async def _probe(key: str, send: Any) -> None:
    noted = journal.noted(key)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(noted).encode()})


_apps = _make_apps()
if RUNNER_VARIABLE in os.environ:
    _runner = int(os.environ[RUNNER_VARIABLE])
    threading.Thread(target=_end_with, args=(_runner,), daemon=True).start()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Run the probe or the adapter, and note what the adapter does."""
    headers = {bytes(k).lower(): bytes(v) for k, v in scope.get("headers", ())}
    name = headers.get(b"x-app", b"").decode()
    if scope["type"] != "http":
        await _apps["plain"](scope, receive, send)
        return
    key = headers.get(b"x-key", b"").decode()
    if not name:
        if b"x-open" in headers:
            open_gate(key)
        await _probe(key, send)
        return
    journal.note(key, "arrived")
    try:
        await _apps[name](scope, receive, send)
    except BaseException as error:
        journal.note(key, f"raised {type(error).__name__}")
        raise
    else:
        journal.note(key, "returned")
    finally:
        journal.note(key, "over")
