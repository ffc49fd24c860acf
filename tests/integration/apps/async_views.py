"""Views of Flask that run asynchronous code, and what becomes of their requests."""

import asyncio

from asgiref.sync import async_to_sync
from flask import Flask, request
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from tests.integration.apps import journal, leaving
from wsgi_asgi import WsgiToAsgi

PAUSE_S = 0.02

flask_site = Flask(__name__)


async def work(key: str) -> None:
    """Write an order and, once the gate is open, reduce the stock."""
    journal.note(key, "begun")
    try:
        while not leaving.gates[key].is_set():  # noqa: ASYNC110  # a thread opens it
            await asyncio.sleep(PAUSE_S)
    except asyncio.CancelledError:
        journal.note(key, "broken off")
        raise
    journal.note(key, "ended")


@flask_site.route("/async", methods=["GET", "POST"])
async def asynchronous() -> str:
    await work(request.headers["x-key"])
    return "done"


@flask_site.route("/sync", methods=["GET", "POST"])
def synchronous() -> str:
    key = request.headers["x-key"]
    async_to_sync(work)(key)
    journal.note(key, "after")
    return "done"


adapter = WsgiToAsgi(flask_site)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    key = Headers(scope=scope)["x-key"]

    async def listen() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            journal.note(key, "told")
        return message

    try:
        await adapter(scope, listen, send)
    except asyncio.CancelledError:
        journal.note(key, "request cancelled")
        raise
