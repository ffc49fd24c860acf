"""What can go wrong between a client and an application, as exceptions."""

import sys

__all__ = [
    "ClientDisconnected",
    "IncompleteBody",
    "RequestRefused",
    "WebSocketError",
    "raisable",
    "shutting_down",
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
