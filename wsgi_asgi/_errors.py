"""What can go wrong between a client and an application, as exceptions."""

import sys
from functools import lru_cache
from typing import Any, TypeVar

__all__ = [
    "ClientDisconnected",
    "IncompleteBody",
    "RequestRefused",
    "WebSocketError",
    "disconnect_error",
    "raisable",
    "shutting_down",
    "stems_from",
    "websocket_error",
]


E = TypeVar("E", bound=Exception)


class ClientDisconnected(ConnectionResetError):
    """The client has left, so nothing can be read from it or written to it.

    Raised in the application's thread by the methods of ``wsgi.input`` when the
    body broke off, and by ``write()``. It is an `OSError`, so what frameworks
    already do for a lost socket applies: Django, for one, raises its
    ``UnreadablePostError`` from it. Where Werkzeug is loaded, it is that package's
    ``ClientDisconnected`` too, which Flask answers with a quiet 400. Left uncaught it
    ends the request without an error in the server's log, since none has happened.
    """


class WebSocketError(OSError):
    """A WebSocket cannot do what it was asked for.

    Either it is closed, by whichever side, or the application has asked for what the
    protocol does not allow; the text says which. Left uncaught it ends the WebSocket:
    one that is closed without an error in the server's log, else with one.
    """


def disconnect_error(text: str) -> ClientDisconnected:
    """Make a ClientDisconnected that Werkzeug and Flask take for their own."""
    return _kind(ClientDisconnected, "werkzeug.exceptions")(text)


def websocket_error(text: str) -> WebSocketError:
    """Make a WebSocketError that applications written for gevent-websocket catch."""
    return _kind(WebSocketError, "geventwebsocket")(text)


def _kind(ours: type[E], module: str) -> type[E]:
    """Give a class of ours that is also the one of this name in a module.

    Applications that name the module's own can only do so if they have loaded it.
    """
    theirs = getattr(sys.modules.get(module), ours.__name__, None)
    if not isinstance(theirs, type):
        return ours
    both: type[E] = _both(ours, theirs)  # type: ignore[arg-type]  # mypy doubts that a class with a variable is hashable
    return both


@lru_cache(8)
def _both(ours: Any, theirs: type) -> Any:
    def reduce(error: Exception) -> tuple[Any, ...]:
        return ours, error.args  # for pickle, which finds classes by their names

    return type(
        ours.__name__,
        (ours, theirs),
        {
            "__doc__": ours.__doc__,
            "__module__": ours.__module__,
            "__reduce__": reduce,
            # What Werkzeug's __init__ would set, which that of OSError hides.
            "response": None,
        },
    )


class IncompleteBody(OSError):
    """The request body ended before the bytes that its Content-Length promised.

    Raised in the application's thread by the methods of ``wsgi.input``.
    """


class RequestRefused(OSError):
    """The adapter answers this request itself, for the application's protection.

    An `OSError`, since it can reach the application as a failed read of
    ``wsgi.input``. What the client sees is ``status`` and, as plain text, the
    reason.

    Args:
        status: Status line of the answer, such as ``"400 Bad Request"``.
        reason: One sentence for the client: what was wrong and what to do.
        headers: Response headers besides those of the text itself.
    """

    def __init__(
        self, status: str, reason: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason
        self.headers = headers


def shutting_down() -> RequestRefused:
    """Make the refusal of a request that comes while the server stops.

    It is made anew each time: what is raised again and again collects tracebacks.
    """
    return RequestRefused(
        "503 Service Unavailable",
        "The server is shutting down; try again.",
        (("Retry-After", "1"),),
    )


def raisable(error: BaseException, who: str) -> Exception:
    """Give an error that a coroutine can raise for another thread's sake.

    StopIteration would become something else there. SystemExit and its like would
    end the loop, although only one request has failed.

    Args:
        error: What was raised in the thread.
        who: Who raised it.

    Returns:
        The error itself, or a RuntimeError that it is the cause of.
    """
    if isinstance(error, Exception) and not isinstance(
        error, StopIteration | StopAsyncIteration
    ):
        return error
    wrapped = RuntimeError(f"{who} raised {error!r}")
    wrapped.__cause__ = error
    return wrapped


def stems_from(error: BaseException, kind: type[BaseException]) -> bool:
    """Tell whether an error is of a kind, or was raised for one or beside one.

    A group of errors is of a kind if each error in it is.

    Args:
        error: What was raised. It may be its own cause, or the cause of its cause:
            applications raise an error once more by ``raise error from error``.
        kind: Which.

    >>> error = KeyError()
    >>> error.__cause__ = ConnectionResetError()
    >>> stems_from(error, OSError), stems_from(error, ValueError)
    (True, False)
    """
    known: dict[int, bool] = {}

    def walk(one: BaseException | None) -> bool:
        passed: list[int] = []
        found = False
        while one is not None and id(one) not in known:
            known[id(one)] = False  # for whoever comes round to it meanwhile
            passed.append(id(one))
            found = isinstance(one, kind) or (
                isinstance(one, BaseExceptionGroup) and all(map(walk, one.exceptions))
            )
            if found:
                break
            one = one.__context__ if one.__cause__ is None else one.__cause__
        else:
            found = one is not None and known[id(one)]
        known.update(dict.fromkeys(passed, found))
        return found

    return walk(error)
