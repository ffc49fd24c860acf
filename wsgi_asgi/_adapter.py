"""The ASGI application that is made from a WSGI application."""

import inspect
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any, Never
from wsgiref.types import WSGIApplication

from wsgi_asgi._body import Intake, check_spool
from wsgi_asgi._bridge import Bridge, Places
from wsgi_asgi._files import FileWrapper
from wsgi_asgi._http import HttpExchange, HttpSettings
from wsgi_asgi._lifespan import Hook, run_lifespan
from wsgi_asgi._limits import Limits, Stats
from wsgi_asgi._pool import ThreadPool
from wsgi_asgi._spool import Storage
from wsgi_asgi._types import ASGIApp, Receive, Scope, Send
from wsgi_asgi._websocket import (
    WebSocketExchange,
    WebSocketSettings,
    refuse_websocket,
)

__all__ = ["WsgiToAsgi"]

# Words of other adapters, for people who come from there.
_RENAMED = {
    "workers": "threads=",
    "send_queue_size": "limits=Limits(buffer=...), which counts bytes and not chunks",
    "max_body_size": "limits=Limits(body=...)",
}


_SERIAL = (
    "a WebSocket was refused, as it would run beside requests that are to run one "
    "after the other; websockets=False refuses them without saying so"
)


class WsgiToAsgi:
    """An ASGI application that runs a WSGI application.

    It may be made anywhere, outside any event loop, and serves one loop or
    several. Each request runs in one thread from the call of the application to
    the end of ``close()``.

    Args:
        wsgi_application: The WSGI application: any callable of environ and
            start_response.
        duplicate_header_limit: How often a request may repeat one header,
            cookies excepted, before it is answered 431. None for any number.
        threads: The most requests that run at a time. Threads are started as
            requests wait for one, and are the adapter's own. A response that
            streams stops counting as soon as its first chunk is out. With 1,
            requests run strictly one after the other, streams too.
        executor: Runs requests here instead, for example in another adapter's
            `executor`. `threads` is then not used.
        thread_sensitive: Run requests in the one thread that asgiref keeps for
            synchronous code, for applications that are bound to one.
        spool: Receive a body that comes without Content-Length whole before the
            application runs, into memory and then a temporary file, and set
            CONTENT_LENGTH: Django, Bottle and others read nothing without it.
            False streams such a body; the application must then read to the end of
            ``wsgi.input``. "all" receives every body whole. Or a callable of the
            ASGI scope, called on the event loop, that gives one of these.
        websockets: Run WebSockets as well, each in a thread of its own for as
            long as it lasts; what they find in the environ, the documentation
            says. False refuses them with status 403, and an ASGI application
            gets them instead. Where requests run strictly one after the other,
            they are refused too, since they would run beside.
        limits: Bounds on bytes, streams, WebSockets and time.
        on_startup: Called without arguments, in a thread, one after the other,
            before the server takes requests.
        on_shutdown: The same, after the last request.

    Raises:
        TypeError: An argument is of the wrong kind or has another name here.
        ValueError: An argument is out of its range.

    >>> def hello(environ, start_response):
    ...     start_response("200 OK", [("Content-Type", "text/plain")])
    ...     return [b"Hello"]
    >>> app = WsgiToAsgi(hello, threads=10)
    >>> app.stats().busy
    0
    """

    def __init__(
        self,
        wsgi_application: WSGIApplication,
        duplicate_header_limit: int | None = 100,
        *,
        threads: int = 40,
        executor: Executor | None = None,
        thread_sensitive: bool = False,
        spool: bool | str | Callable[[Scope], bool | str] = True,
        websockets: bool | ASGIApp = True,
        limits: Limits | None = None,
        on_startup: Iterable[Hook] = (),
        on_shutdown: Iterable[Hook] = (),
        **unknown: Never,
    ) -> None:
        for word in unknown:
            hint = f"; here it is {_RENAMED[word]}" if word in _RENAMED else ""
            raise TypeError(f"WsgiToAsgi() has no argument {word!r}{hint}")
        _check_application(wsgi_application)
        if threads < 1:
            raise ValueError(f"threads={threads!r}: at least one thread is needed")
        if executor is not None and thread_sensitive:
            raise TypeError("executor and thread_sensitive exclude each other")
        if not callable(spool):
            check_spool(spool)
        self._limits = limits = limits or Limits()
        # A stream beside the one thread would be a second one at that time.
        streams = limits.streams if threads > 1 else 0
        self._bridge = Bridge(
            ThreadPool(threads, streams) if executor is None else executor,
            owned=executor is None,
            thread_sensitive=thread_sensitive,
            apart=limits.websockets,
            windows=limits.windows,
        )
        serial = self._bridge.is_serial
        self._on_startup = tuple(on_startup)
        self._on_shutdown = tuple(on_shutdown)
        base_environ = {
            "SERVER_SOFTWARE": "wsgi-asgi",
            "wsgi.version": (1, 0),
            "wsgi.multithread": not serial,
            # Whether the server has other processes is not known.
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
        }
        self._http = HttpSettings(
            application=wsgi_application,
            name=_name(wsgi_application),
            base_environ=base_environ,
            bridge=self._bridge,
            limits=limits,
            duplicate_header_limit=duplicate_header_limit,
            intake=Intake(
                limits=limits,
                storage=Storage(self._bridge, limits.buffer, limits.spool_total),
                uploads=Places(limits.uploads),
                spool=spool,
                is_always_whole=serial or self._bridge.pool is None,
            ),
        )
        self._websockets = WebSocketSettings(
            application=wsgi_application,
            name=self._http.name,
            base_environ=base_environ,
            bridge=self._bridge,
            limits=limits,
            duplicate_header_limit=self._http.duplicate_header_limit,
        )
        self._serve_websocket = self._choose_websockets(websockets, serial)

    @property
    def executor(self) -> Executor:
        """Where requests run; give it to another adapter to share the threads."""
        return self._bridge.executor

    def stats(self) -> Stats:
        """Say what the adapter is doing now; any thread."""
        crossings = [one for one in self._bridge.crossings() if not one.apart]
        busy = sum(crossing.running for crossing in crossings)
        return Stats(
            threads=self._bridge.pool.threads if self._bridge.pool else 0,
            busy=busy,
            queued=sum(
                not (crossing.running or crossing.ended) for crossing in crossings
            ),
            streams=sum(crossing.streaming for crossing in crossings),
            websockets=self._bridge.apart.running,
            completed=self._http.completed,
            rejected=self._http.rejected + self._websockets.rejected,
            disconnected=self._http.disconnected,
            dropped=self._http.dropped,
        )

    def _choose_websockets(self, websockets: object, serial: bool) -> ASGIApp:
        if callable(websockets):
            return websockets
        if not isinstance(websockets, bool):
            raise TypeError(
                f"websockets is True, False or an ASGI application, not {websockets!r}"
            )
        if not websockets:
            return refuse_websocket
        return self._refuse_beside if serial else self._run_websocket

    async def _run_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await WebSocketExchange(self._websockets, scope, receive, send).run()

    async def _refuse_beside(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._http.warn_once("websockets", _SERIAL)
        await refuse_websocket(scope, receive, send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope: a request, a WebSocket or a lifespan.

        Raises:
            Exception: What the application raised, for the server to log.
            ValueError: The scope's type is unknown.
        """
        kind = scope["type"]
        if kind == "http":
            await HttpExchange(self._http, scope, receive, send).run()
        elif kind == "lifespan":
            await run_lifespan(
                self._bridge,
                scope,
                receive,
                send,
                on_startup=self._on_startup,
                on_shutdown=self._on_shutdown,
                shutdown_timeout=self._limits.shutdown_timeout,
            )
        elif kind == "websocket":
            await self._serve_websocket(scope, receive, send)
        else:
            raise ValueError(
                f"WsgiToAsgi serves http, websocket and lifespan, not {kind!r}"
            )


def _check_application(application: Any) -> None:
    if not callable(application):
        raise TypeError(
            f"a WSGI application is a callable of environ and start_response, "
            f"not {application!r}"
        )
    if inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(
        getattr(application, "__call__", None)  # noqa: B004  # wanted is its kind, not whether it exists
    ):
        raise TypeError(
            f"{application!r} is a coroutine function, so an ASGI application "
            f"already; give it to the server as it is"
        )


def _name(application: Any) -> str:
    named = application if hasattr(application, "__qualname__") else type(application)
    return f"{named.__module__}.{named.__qualname__}"
