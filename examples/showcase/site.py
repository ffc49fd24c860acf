"""The application itself: plain Flask."""

import hashlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime

from flask import Flask, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from examples.showcase.guest_book import MESSAGE_CHARACTERS, NAME_CHARACTERS, GuestBook

BLOCK_BYTES = 64 * 1024
TICK_S = 1.0

# All of the page comes from this application, and it is allowed nothing else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

flask_app = Flask(__name__)
guest_book = GuestBook()


class Meter:
    """Counts what goes on in all threads, for the live part of the page."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.open_streams = 0
        self.hashed_bytes = 0

    def stream(self, change: int) -> None:
        with self._lock:
            self.open_streams += change

    def hashed(self, size: int) -> None:
        with self._lock:
            self.hashed_bytes += size


meter = Meter()


def this_thread() -> str:
    return f"thread {threading.get_native_id()}"


def adapter_stats() -> dict[str, int]:
    return asdict(flask_app.extensions["adapter"].stats())


def render_page(error: str = "") -> str:
    return render_template(
        "page.html",
        entries=guest_book.newest_first(),
        error=error,
        name_characters=NAME_CHARACTERS,
        message_characters=MESSAGE_CHARACTERS,
        thread=this_thread(),
        scope=request.environ["asgi.scope"],
    )


@flask_app.get("/")
def page() -> str:
    return render_page()


@flask_app.post("/guest-book")
def sign_guest_book() -> ResponseReturnValue:
    try:
        guest_book.sign(request.form.get("name", ""), request.form.get("message", ""))
    except ValueError as refusal:
        return render_page(error=str(refusal)), 400
    # 303, so that reloading the page does not sign twice.
    return redirect(url_for("page", _anchor="guest-book"), code=303)


@flask_app.put("/digest")
def digest() -> dict[str, int | str]:
    """Hash the body block by block: its first bytes while the last are on the way."""
    sha256 = hashlib.sha256()
    size = 0
    while block := request.stream.read(BLOCK_BYTES):
        sha256.update(block)
        size += len(block)
        meter.hashed(len(block))
    return {"size": size, "sha256": sha256.hexdigest()}


def live_events() -> Iterator[str]:
    meter.stream(+1)
    try:
        for number in itertools.count(1):
            event = {
                "number": number,
                "time": datetime.now().strftime("%H:%M:%S"),
                "open": meter.open_streams,
                "hashed": meter.hashed_bytes,
                "thread": this_thread(),
                "stats": adapter_stats(),
            }
            yield f"data: {json.dumps(event)}\n\n"
            time.sleep(TICK_S)
    finally:
        # The adapter closes the generator when its client leaves.
        meter.stream(-1)


@flask_app.get("/ticks")
def ticks() -> Response:
    return Response(
        live_events(),
        mimetype="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


@flask_app.get("/stats")
def stats() -> dict[str, int]:
    return adapter_stats()


@flask_app.get("/environ")
def environ() -> Response:
    lines = [f"{key} = {value!r}\n" for key, value in sorted(request.environ.items())]
    return Response("".join(lines), mimetype="text/plain")


@flask_app.after_request
def add_security_headers(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
