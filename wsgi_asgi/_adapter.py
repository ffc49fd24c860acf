"""The ASGI application that is made from a WSGI application."""

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextvars import ContextVar
from typing import Any, Never
from wsgiref.types import WSGIApplication

from wsgi_asgi._body import Intake, check_spool
from wsgi_asgi._bridge import Bridge
from wsgi_asgi._files import FileWrapper
from wsgi_asgi._http import HttpExchange, HttpSettings
from wsgi_asgi._lifespan import Hook, run_lifespan
from wsgi_asgi._limits import Limits, Stats
from wsgi_asgi._pool import Places, ThreadPool
from wsgi_asgi._spool import Storage
from wsgi_asgi._types import ASGIApp, Receive, Scope, Send
from wsgi_asgi._websocket import (
    HANDSHAKES,
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

# Executors that need work to be pickled, by the names of their classes and without
# loading these: those of concurrent.futures and loky, pebble's, mpi4py's and Dask's.
_WITHOUT_THREADS = frozenset(
    {
        "ClientExecutor",
        "InterpreterPoolExecutor",
        "MPICommExecutor",
        "MPIPoolExecutor",
        "ProcessPool",
        "ProcessPoolExecutor",
    }
)

# The arguments of an adapter are being tried, see `_check_pickling`.
_is_checking = ContextVar("_is_checking", default=False)

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
            streams stops counting as soon as its first chunk is out, and a read
            that waits for the client's body does not count while it waits. With 1,
            requests run strictly one after the other, streams too, and each body
            is received whole before.
        executor: Runs requests here instead, for example in another adapter's
            `executor`. `threads` is then not used. One that is no adapter's gets
            a request when its body has been received whole.
        thread_sensitive: Run requests in the one thread that asgiref keeps for
            synchronous code, for applications that are bound to one.
        spool: Receive a body that comes without Content-Length whole before the
            application runs, into memory and then a temporary file, and set
            CONTENT_LENGTH: Django, Bottle and others read nothing without it.
            False streams such a body; the application must then read to the end of
            ``wsgi.input``. "all" receives every body whole. Or a callable of the
            ASGI scope, called on the event loop, that gives one of these.
        websockets: Run WebSockets as well. Until it is accepted, each is a
            request like any other; from then on its thread is its own, for as
            long as it lasts, and counts no more against `threads`. What they
            find in the environ, the documentation says. False refuses them with
            status 403, and an ASGI application gets them instead. Where
            requests run strictly one after the other, they are refused too,
            since they would run beside.
        multiprocess: What applications find as ``wsgi.multiprocess``: whether the
            server has other processes with the same application. The adapter cannot
            know. False lets debuggers and toolbars work that keep to one process.
        limits: Bounds on bytes, streams, WebSockets and time.
        on_startup: Called without arguments, one after the other, before the
            server takes requests. Each runs in a thread of its own, or with
            `thread_sensitive` in asgiref's.
        on_shutdown: The same, after the last request.

    Raises:
        RuntimeError: gevent or eventlet has patched threads.
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
        multiprocess: bool = True,
        limits: Limits | None = None,
        on_startup: Iterable[Hook] = (),
        on_shutdown: Iterable[Hook] = (),
        **unknown: Never,
    ) -> None:
        on_startup, on_shutdown = tuple(on_startup), tuple(on_shutdown)
        self._arguments = _Arguments(locals())  # while they are all that has a name
        for word in unknown:
            hint = f"; here it is {_RENAMED[word]}" if word in _RENAMED else ""
            raise TypeError(f"WsgiToAsgi() has no argument {word!r}{hint}")
        _check_application(wsgi_application)
        if executor is not None:
            _check_executor(executor)
        if threads < 1:
            raise ValueError(f"threads={threads!r}: at least one thread is needed")
        if executor is not None and thread_sensitive:
            raise TypeError("executor and thread_sensitive exclude each other")
        if not callable(spool):
            check_spool(spool)
        if not isinstance(multiprocess, bool):
            raise TypeError(
                f"multiprocess is True or False, not {multiprocess!r}: whether the "
                f"server has other processes"
            )
        self._limits = limits = limits or Limits()
        # A stream beside the one thread would be a second one at that time.
        streams = limits.streams if threads > 1 else 0
        self._bridge = Bridge(
            ThreadPool(threads, streams) if executor is None else executor,
            owned=executor is None,
            thread_sensitive=thread_sensitive,
            apart=limits.websockets,
            dedicated=HANDSHAKES,
            windows=limits.windows,
        )
        serial = self._bridge.is_serial
        self._on_startup = on_startup
        self._on_shutdown = on_shutdown
        base_environ = {
            "SERVER_SOFTWARE": "wsgi-asgi",
            "wsgi.version": (1, 0),
            "wsgi.multithread": not serial,
            "wsgi.multiprocess": multiprocess,
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
        self._bridge.warn_once = self._http.warn_once
        self._websockets = WebSocketSettings(
            application=wsgi_application,
            name=self._http.name,
            base_environ=base_environ,
            bridge=self._bridge,
            limits=limits,
            duplicate_header_limit=self._http.duplicate_header_limit,
            warn_once=self._http.warn_once,
        )
        self._serve_websocket = self._choose_websockets(websockets, serial)

    def __getstate__(self) -> dict[str, Any]:
        """Give the adapter's configuration, and what a subclass has added.

        A copy is an adapter of its own: it has the same application, hooks and
        executor, and its own threads where no executor was given.

        Raises:
            pickle.PicklingError: The application, a hook or another argument cannot
                be pickled. Raised by the pickler; a copy is not pickled.
        """
        state: Any = super().__getstate__()
        # With slots of a subclass it is a pair, else all that is there.
        parts = state if isinstance(state, tuple) else (state,)
        ours = vars(WsgiToAsgi(**self._arguments))
        added = {k: v for part in parts for k, v in part.items() if k not in ours}
        # They come first, as whatever else refers to what is in them then shares it.
        return {"_arguments": self._arguments, **added}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Make an adapter of what `__getstate__` gave."""
        WsgiToAsgi.__init__(self, **state["_arguments"])
        for name, value in state.items():
            if name != "_arguments":
                setattr(self, name, value)

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
            websockets=self._bridge.apart.taken,
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


class _Arguments(dict[str, Any]):
    """What an adapter was made of.

    Args:
        names: All names in its constructor, before that has added any.
    """

    def __init__(self, names: Mapping[str, Any]) -> None:
        super().__init__(names)
        self.pop("self", None)
        self.pop("unknown", None)

    def __deepcopy__(self, memo: dict[int, object]) -> "_Arguments":
        # Shared, the application above all, by what a subclass has added as well.
        memo.update({id(value): value for value in self.values()})
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Not while an argument is tried that leads to an adapter once more, as an
        # application does that keeps its own: there would be no end of it.
        if not _is_checking.get():
            token = _is_checking.set(True)
            try:
                for name, value in self.items():
                    _check_pickling(name, value)
            finally:
                _is_checking.reset(token)
        return _Arguments, (dict(self),)


def _check_pickling(name: str, value: object) -> None:
    """Say which argument cannot be pickled, as picklers do not say where it is from."""
    import pickle  # seldom needed, and not loaded by anything else

    error = None
    for dumps in _picklers():
        try:
            dumps(value)
        except Exception as raised:
            error = error or raised
        else:
            return
    raise pickle.PicklingError(
        f"WsgiToAsgi({name}={value!r}) cannot be pickled, since its {name} cannot: "
        f"{error}; make the adapter in the process that serves it"
    ) from error


def _picklers() -> Iterator[Callable[[object], object]]:
    """Find all that might be at work: some take more than others do."""
    import pickle

    yield pickle.dumps
    for name, module in [*sys.modules.items()]:
        if name == "multiprocessing.reduction":
            yield module.ForkingPickler.dumps
        elif name.rpartition(".")[2] in ("cloudpickle", "dill") and (
            dumps := getattr(module, "dumps", None)
        ):
            yield dumps  # theirs, or that of somebody's copy


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


def _check_executor(executor: object) -> None:
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise TypeError(
            f"executor={executor!r} is no executor, as it has no submit(); give an "
            f"object such as ThreadPoolExecutor() makes, or leave it out"
        )
    for kind in type(executor).__mro__:
        if kind.__name__ in _WITHOUT_THREADS:
            raise TypeError(
                f"executor={executor!r} is a {kind.__name__}, whose work runs in other "
                f"processes or interpreters, and no request can be sent there; give "
                f"one with threads, such as ThreadPoolExecutor(), or leave it out"
            )


def _name(application: Any) -> str:
    named = application if hasattr(application, "__qualname__") else type(application)
    return f"{named.__module__}.{named.__qualname__}"
