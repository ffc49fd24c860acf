"""Values that ASGI middleware sets and the synchronous application reads."""

import asyncio
from contextvars import ContextVar

from asgiref.local import Local
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

variable: ContextVar[str | None] = ContextVar("variable", default=None)
local = Local()
loop_id: ContextVar[int | None] = ContextVar("loop_id", default=None)

# The application's own, which the middleware never sets: they must not outlive
# their request.
own_variable: ContextVar[str | None] = ContextVar("own_variable", default=None)
own_local = Local()


class ContextMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tag = Headers(scope=scope).get("x-tag")
        variable.set(tag)
        local.value = tag
        loop_id.set(running_loop())
        await self.app(scope, receive, send)


def running_loop() -> int | None:
    """Tell asyncio's loops apart; trio's has none."""
    try:
        return id(asyncio.get_running_loop())
    except RuntimeError:
        return None


def seen() -> dict[str, object]:
    """Read all values where the application runs."""
    return {
        "variable": variable.get(),
        "local": getattr(local, "value", None),
        "loop": loop_id.get(),
    }


async def seen_in_async_code() -> dict[str, object]:
    await asyncio.sleep(0)
    return {**seen(), "running_loop": running_loop()}
