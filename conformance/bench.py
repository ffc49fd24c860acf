"""What a check gets: it makes adapters, and plays the server for them."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from conformance.adapters import STREAMED_BODIES
from conformance.checking import NotOffered, fail
from conformance.exchanges import STREAMED, HttpExchange
from conformance.loops import ASYNCIO, LoopThread
from conformance.server import AsgiApp, Exchange
from conformance.timing import EXCHANGE_S

__all__ = ["Bench", "Served"]

E = TypeVar("E", bound=Exchange)


class Served:
    """One adapter, made for one WSGI application, and the server in front of it."""

    def __init__(self, bench: "Bench", adapter: AsgiApp) -> None:
        self.adapter = adapter
        self._bench = bench

    def start(self, exchange: E) -> E:
        """Begin an exchange, and let it go on by itself."""
        self._bench.exchanges.append(exchange)
        loop = self._bench.loop
        loop.spawn(exchange.run(self.adapter, loop.loop))
        return exchange

    def finish(self, exchange: Exchange, within: float = EXCHANGE_S) -> None:
        """Wait until the adapter has returned; failing that, the check fails."""
        if exchange.returned.wait(within):
            self._bench.raise_death()
            return
        self._bench.raise_death()
        progress = exchange.progress()
        exchange.cancel()
        exchange.left.open()
        fail(f"the adapter had not returned after {within:g} s; {progress}")

    def attempt(
        self,
        exchange: HttpExchange | None = None,
        /,
        within: float = EXCHANGE_S,
        **options: Any,
    ) -> HttpExchange:
        """Have one request served, whatever comes of it.

        Args:
            exchange: The request; without it one is made of the options.
            within: Seconds that the adapter gets.
            options: Arguments of `HttpExchange`.
        """
        exchange = exchange or HttpExchange(**options)
        self.start(exchange)
        self.finish(exchange, within)
        return exchange

    def request(
        self,
        exchange: HttpExchange | None = None,
        /,
        within: float = EXCHANGE_S,
        **options: Any,
    ) -> HttpExchange:
        """Have one request served; a response that is not complete fails the check."""
        exchange = self.attempt(exchange, within, **options)
        # First, since the server raises for most of them too.
        if exchange.violations:
            fail(exchange.violations[0])
        if exchange.error is not None:
            fail(f"the adapter raised {exchange.error!r}; {exchange.progress()}")
        if not exchange.complete:
            fail(f"the adapter returned, but {exchange.progress()}")
        return exchange


class Bench:
    """What a check works with.

    Args:
        make_adapter: Makes the adapter under test of a WSGI application.
        options: For each capability that needs an argument at the making, the
            arguments that this adapter wants for it.

    Attributes:
        loop: The running loop.
        exchanges: All that were started.
        target: How the adapter can be named on a command line.
        loop: The kind of loop that it runs on.
    """

    def __init__(
        self,
        make_adapter: Callable[..., AsgiApp],
        options: Mapping[str, Callable[[], Mapping[str, Any]]] | None = None,
        target: str = "",
        loop: str = ASYNCIO,
    ) -> None:
        self.loop = LoopThread(loop)
        self.exchanges: list[Exchange] = []
        self.target = target
        self._make_adapter = make_adapter
        self._options = options or {}

    def serve(self, app: WSGIApplication, capability: str | None = None) -> Served:
        """Make an adapter.

        Args:
            app: What it adapts.
            capability: What it must be able to do besides, by the name that
                `conformance.adapters` has for it.

        Raises:
            NotOffered: It is not known to be able to do that.
        """
        if capability is None:
            return Served(self, self._make_adapter(app))
        if capability not in self._options:
            raise NotOffered(f"no constructor argument is known for: {capability}")
        return Served(self, self._make_adapter(app, **self._options[capability]()))

    def serve_streaming(self, app: WSGIApplication) -> Served:
        """Make an adapter that streams bodies of unknown length, if it can be told."""
        known = STREAMED_BODIES in self._options
        return self.serve(app, STREAMED_BODIES if known else None)

    def request(
        self, app: WSGIApplication, exchange: HttpExchange | None = None, **options: Any
    ) -> HttpExchange:
        """Have a new adapter serve one request; see `Served.request`."""
        return self._serve_for(app, exchange, options).request(exchange, **options)

    def attempt(
        self, app: WSGIApplication, exchange: HttpExchange | None = None, **options: Any
    ) -> HttpExchange:
        """Have a new adapter serve one request; see `Served.attempt`."""
        return self._serve_for(app, exchange, options).attempt(exchange, **options)

    def _serve_for(
        self,
        app: WSGIApplication,
        exchange: HttpExchange | None,
        options: Mapping[str, Any],
    ) -> Served:
        framing = options.get("framing")
        is_streamed = exchange.is_streamed if exchange else framing == STREAMED
        return self.serve_streaming(app) if is_streamed else self.serve(app)

    def environ(self, **options: Any) -> dict[str, Any]:
        """Give the environ that an application gets for a request."""
        environ, exchange = self._see_environ(**options)
        if environ is None:
            fail(f"the application was not called: {exchange.outcome()}")
        return environ

    def environ_or_refusal(self, **options: Any) -> dict[str, Any] | None:
        """Give the environ for a request, or None if it was answered with a 4xx."""
        environ, exchange = self._see_environ(**options)
        if environ is None and not exchange.refused:
            fail(
                f"the request was neither served nor refused: {exchange.outcome()}, "
                f"expected a 4xx if the application is not called"
            )
        return environ

    def _see_environ(
        self, **options: Any
    ) -> tuple[dict[str, Any] | None, HttpExchange]:
        seen: list[dict[str, Any]] = []

        def show(
            environ: WSGIEnvironment, start_response: StartResponse
        ) -> list[bytes]:
            seen.append(environ)
            start_response("200 OK", [("content-type", "text/plain")])
            return [b"seen"]

        exchange = self.attempt(show, **options)
        return (seen[0] if seen else None), exchange

    def settle(self) -> None:
        """Let all that is ready on the loop happen."""
        self.loop.settle()

    def renew_loop(self) -> None:
        """Stop the loop, as at the end of a server, and start another."""
        self.loop.stop()
        self.loop = LoopThread(self.loop.kind)

    def strays(self, exchange: Exchange) -> list[str]:
        """Name the tasks that an adapter has left behind at the end of an exchange."""
        return self.loop.run(self.loop.loop.strays(exchange.left_tasks))

    def raise_death(self) -> None:
        """Fail the check if the loop has died."""
        death = self.loop.death
        if death is not None:
            fail(f"{death!r} got out into the event loop, which ends the server")

    def close(self) -> tuple[str | None, bool]:
        """End all that goes on.

        Returns:
            What fails the check although the check itself has not seen it, and
            whether nothing was left behind.
        """
        violations = [v for exchange in self.exchanges for v in exchange.violations]
        for exchange in self.exchanges:
            exchange.left.open()
        clean = self.loop.stop()
        if self.loop.death is not None:
            violations.append(f"{self.loop.death!r} got out into the event loop")
        return (violations[0] if violations else None), clean
