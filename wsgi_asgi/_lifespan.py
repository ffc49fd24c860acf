"""The lifespan exchange: hooks at the start, draining at the end."""

import logging
import time
from collections.abc import Callable, Iterable

from wsgi_asgi._bridge import Bridge
from wsgi_asgi._port import Port, Term
from wsgi_asgi._types import Receive, Scope, Send

__all__ = ["Hook", "run_lifespan"]

Hook = Callable[[], object]

logger = logging.getLogger("wsgi_asgi")

# What a hook gets to find a thread where nothing is left of the time for a shutdown.
LEAST_PATIENCE_S = 0.1


async def run_lifespan(
    bridge: Bridge,
    scope: Scope,
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
        bridge: Whose requests are drained.
        scope: The ASGI scope. Its ``state``, which the server copies into each of
            its requests' scopes, gets a mark, so that they can be told from those of
            another server on the same loop.
        receive: The server's.
        send: The server's.
        on_startup: Called one after the other, in a thread of its own, before the
            server takes requests. If one raises, the server is told and does not
            start.
        on_shutdown: The same, after the last request. If one raises, the
            others run all the same and the server is told.
        shutdown_timeout: Seconds that running requests get to end. What runs
            on after that is let go: its next read, write or chunk fails.
    """
    port = bridge.port()
    term = Term()
    message = await receive()
    while message["type"] != "lifespan.startup":
        message = await receive()
    port.terms.add(term)
    state = scope.get("state")
    if isinstance(state, dict):
        state[bridge.marker] = term
    try:
        if not await _start(bridge, send, on_startup):
            return
        while message["type"] != "lifespan.shutdown":
            message = await receive()
        term.is_ending = True
        failed = await _stop(bridge, port, term, on_shutdown, shutdown_timeout)
    finally:
        # From now on requests are served again: tests send some after the lifespan.
        port.retire(term)
    bridge.release()
    if failed:
        text = "; ".join(failed)
        await send({"type": "lifespan.shutdown.failed", "message": text})
    else:
        await send({"type": "lifespan.shutdown.complete"})


async def _start(bridge: Bridge, send: Send, on_startup: Iterable[Hook]) -> bool:
    """Run the hooks of the start and answer; False if the server must not start."""
    for hook in on_startup:
        try:
            await bridge.call_hook(hook)
        except Exception as error:
            logger.exception("startup hook %r failed", hook)
            text = f"startup hook {hook!r} failed: {error!r}"
            await send({"type": "lifespan.startup.failed", "message": text})
            return False
    await send({"type": "lifespan.startup.complete"})
    return True


async def _stop(
    bridge: Bridge,
    port: Port,
    term: Term,
    on_shutdown: Iterable[Hook],
    shutdown_timeout: float,
) -> list[str]:
    """Drain the requests and run the hooks of the end; gives what has failed."""
    deadline = time.monotonic() + shutdown_timeout
    await port.drain(term, shutdown_timeout)
    failed = []
    for hook in on_shutdown:
        try:
            left = deadline - time.monotonic()
            await bridge.call_hook(hook, max(left, LEAST_PATIENCE_S))
        except Exception as error:
            logger.exception("shutdown hook %r failed", hook)
            failed.append(f"shutdown hook {hook!r} failed: {error!r}")
    return failed
