"""The lifespan exchange: hooks at the start, draining at the end."""

import logging
from collections.abc import Callable, Iterable

from wsgi_asgi._bridge import Bridge
from wsgi_asgi._types import Receive, Send

__all__ = ["Hook", "run_lifespan"]

Hook = Callable[[], object]

logger = logging.getLogger("wsgi_asgi")


async def run_lifespan(
    bridge: Bridge,
    receive: Receive,
    send: Send,
    *,
    on_startup: Iterable[Hook],
    on_shutdown: Iterable[Hook],
    shutdown_timeout: float,
) -> None:
    """Answer a server's lifespan messages, for as long as it runs.

    Both are always answered: servers log a refusal as a fault, or do not start.

    Args:
        bridge: Whose threads run the hooks and whose requests are drained.
        receive: The server's.
        send: The server's.
        on_startup: Called one after the other, in a thread, before the server
            takes requests. If one raises, the server is told and does not
            start.
        on_shutdown: The same, after the last request. If one raises, the
            others run all the same and the server is told.
        shutdown_timeout: Seconds that running requests get to end. What runs
            on after that is let go: its next read, write or chunk fails.
    """
    message = await receive()
    while message["type"] != "lifespan.startup":
        message = await receive()
    bridge.port().draining = False
    for hook in on_startup:
        try:
            await bridge.call(hook)
        except Exception as error:
            logger.exception("startup hook %r failed", hook)
            text = f"startup hook {hook!r} failed: {error!r}"
            await send({"type": "lifespan.startup.failed", "message": text})
            return
    await send({"type": "lifespan.startup.complete"})

    while message["type"] != "lifespan.shutdown":
        message = await receive()
    bridge.port().draining = True
    await bridge.port().drain(shutdown_timeout)
    failed = []
    for hook in on_shutdown:
        try:
            await bridge.call(hook)
        except Exception as error:
            logger.exception("shutdown hook %r failed", hook)
            failed.append(f"shutdown hook {hook!r} failed: {error!r}")
    bridge.release()
    if failed:
        text = "; ".join(failed)
        await send({"type": "lifespan.shutdown.failed", "message": text})
    else:
        await send({"type": "lifespan.shutdown.complete"})
