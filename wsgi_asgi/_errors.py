"""What can go wrong between a client and an application, as exceptions."""

import sys

__all__ = [
    "ClientDisconnected",
    "IncompleteBody",
    "RequestRefused",
    "WebSocketError",
    "raisable",
    "stems_from",
    "websocket_error",
]


class ClientDisconnected(ConnectionResetError):
    """The client has left, so nothing can be read from it or written to it.

    Raised in the application's thread by the methods of ``wsgi.input`` when the
    body broke off, and by ``write()``. It is an `OSError`, so what frameworks
    already do for a lost socket applies: Django, for one, raises its
    ``UnreadablePostError`` from it. Left uncaught it ends the request without an
    error in the server's log, since none has happened.
    """


class WebSocketError(OSError):
    """A WebSocket cannot do what it was asked for.

    Either it is closed, by whichever side, or the application has asked for what the
    protocol does not allow; the text says which. Left uncaught the former ends the
    WebSocket without an error in the server's log, and the latter with one.
    """


def websocket_error(text: str) -> WebSocketError:
    """Make a WebSocketError that applications written for gevent-websocket catch.

    They name that package's own class, which can only be if they have loaded it.
    """
    theirs = getattr(sys.modules.get("geventwebsocket"), "WebSocketError", None)
    if theirs is None:
        return WebSocketError(text)
    both = type("WebSocketError", (WebSocketError, theirs), {})
    error: WebSocketError = both(text)
    return error


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
