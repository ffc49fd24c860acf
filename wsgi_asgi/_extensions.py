"""Early hints and trailers: what an application can send beside its response.

They are there where the server offers them, which it says for each request.
"""

from collections.abc import Iterable
from typing import Any

from wsgi_asgi._bridge import Crossing
from wsgi_asgi._response import EARLY_HINT, TRAILERS, Response
from wsgi_asgi._types import Message, Scope

__all__ = ["Extensions"]


class Extensions:
    """The two extensions of one exchange; made only where one is offered.

    Args:
        response: The exchange's.
        crossing: The exchange's.

    Attributes:
        trailers_follow: The response that is being sent is not complete without its
            trailers.
    """

    __slots__ = ("_crossing", "_has_started", "_response", "trailers_follow")

    def __init__(self, response: Response, crossing: Crossing) -> None:
        self.trailers_follow = False
        self._has_started = False
        self._response = response
        self._crossing = crossing

    def add_to(self, environ: dict[str, Any], scope: Scope) -> None:
        """Add what the server offers, by the names that applications know."""
        extensions = scope["extensions"]
        if EARLY_HINT in extensions:
            # HTTP/1.0 has no interim responses (RFC 9110 15.2).
            is_old = scope["http_version"] == "1.0"
            environ["wsgi.early_hints"] = self.ignore_hints if is_old else self.hint
        if TRAILERS in extensions:
            self._response.offer_trailers()
            send_trailers = self._response.send_trailers
            environ["wsgi_asgi.send_trailers"] = send_trailers
            environ["gunicorn.http2.send_trailers"] = send_trailers

    # On the event loop.

    def admits(self, message: Message) -> bool:
        """Take notice of a message that is about to be sent; False if it must not be.

        Another thread of the application may put out a hint while the application's
        own begins the response, and come second. Servers refuse such a hint.
        """
        kind = message["type"]
        if kind == "http.response.start":
            self._has_started = True
            self.trailers_follow = "trailers" in message
        elif kind == TRAILERS:
            self.trailers_follow = False
        return kind != EARLY_HINT or not self._has_started

    # In the application's thread, or another of its own.

    def hint(self, headers: Iterable[object]) -> None:
        """Send early hints: ``environ["wsgi.early_hints"]``.

        They go out at once, in an interim response 103, and may be sent any number of
        times. Only fields named Link can be, and others are dropped. Nothing is sent
        once a part of the response is out, nor when the client has left.

        Runs on:
            Any thread, also of the application's own.

        Args:
            headers: Pairs of name and value, str or bytes.

        Raises:
            TypeError: The fields are no list of pairs.
            ValueError: A field cannot be sent, for one because it holds a line
                break. None of this call are.
        """
        for message in self._response.early_hint(headers):
            self._crossing.interject(message)

    def ignore_hints(self, headers: Iterable[object]) -> None:
        """Look at early hints as `hint` does, and send none."""
        self._response.early_hint(headers)
