"""Clients that leave, and requests that are cancelled, on a loop of trio's."""

from collections.abc import Callable, MutableMapping
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import trio

from tests.apps import Body, hello, never_called
from tests.drivers import WAIT_S, Gate, MakeAdapter, make_scope
from wsgi_asgi import Limits, WsgiToAsgi


class Client:
    """A client of one request, and what its server is sent.

    Args:
        scope: Changes to the scope of a GET.

    Attributes:
        listened: Set when the adapter waits to hear that the client leaves.
        left: Set it to have the client leave.
        stalls: send() does not return.
        sent: The types of what was sent, and the status.
    """

    def __init__(self, *, stalls: bool = False, **scope: Any) -> None:
        self.scope = make_scope(**scope)
        self.listened, self.left = trio.Event(), trio.Event()
        self.stalls = stalls
        self.sent: list[Any] = []
        self._has_body = self.scope["method"] == "POST"

    async def receive(self) -> MutableMapping[str, Any]:
        if self._has_body:
            self._has_body = False
            return {"type": "http.request", "body": b"ab", "more_body": False}
        self.listened.set()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(message.get("status", message["type"]))
        if self.stalls:
            await trio.sleep_forever()

    async def run(self, app: WsgiToAsgi) -> None:
        await app(self.scope, self.receive, self.send)


async def opened(gate: Gate) -> None:
    while not gate.is_open:  # noqa: ASYNC110  # it is asyncio's
        await trio.sleep(0.001)


def on_trio(main: Callable[[], Any]) -> None:
    async def bounded() -> None:
        with trio.fail_after(WAIT_S):
            await main()

    trio.run(bounded, strict_exception_groups=True)


@pytest.fixture
def go_on() -> Gate:
    return Gate("the application goes on")


@pytest.fixture
def begun() -> Gate:
    return Gate("the application runs")


@pytest.fixture
def holding(adapter: MakeAdapter, begun: Gate, go_on: Gate) -> WsgiToAsgi:
    """An adapter whose one thread is held until the gate opens."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        go_on.wait()
        return hello(environ, start_response)

    return adapter(app, threads=1, limits=Limits(abandoned_timeout=0.01))


def test_client_that_left_is_answered_499(
    holding: WsgiToAsgi, begun: Gate, go_on: Gate
) -> None:
    async def main() -> None:
        client = Client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run, holding)
            await client.listened.wait()
            client.left.set()
            await trio.sleep(0.01)
            go_on.open()
        assert client.sent == [499, "http.response.body"]

    on_trio(main)
    assert holding.stats().disconnected == 1


def test_client_that_left_to_a_server_that_never_returns_is_given_up(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsgi_asgi._http.UNHEARD_SEND_S", 0.01)
    served = adapter(never_called)

    async def main() -> None:
        client = Client(stalls=True, headers=[(b"content-length", b"5")])
        client.left.set()
        await client.run(served)
        assert client.sent == [499]

    on_trio(main)


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "left"])
def test_cancelled_request_sends_nothing(
    holding: WsgiToAsgi, begun: Gate, go_on: Gate, leaves: bool
) -> None:
    async def main() -> None:
        client = Client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run, holding)
            await client.listened.wait()
            if leaves:
                client.left.set()
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
            trio.lowlevel.current_trio_token().run_sync_soon(go_on.open)
        assert client.sent == []

    on_trio(main)
    assert holding.stats().disconnected == 1


def test_cancelled_while_nobody_is_answered_ends_as_cancelled(
    adapter: MakeAdapter,
) -> None:
    served = adapter(never_called)
    ended: list[bool] = []

    async def main() -> None:
        client = Client(stalls=True, headers=[(b"content-length", b"5")])
        client.left.set()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.run, served)
                while not client.sent:  # noqa: ASYNC110  # it tells nobody
                    await trio.sleep(0.001)
                scope.cancel()
            ended.append(True)
        assert scope.cancelled_caught
        assert client.sent == [499]

    on_trio(main)
    assert ended == []
    assert served.stats().disconnected == 1


@pytest.mark.parametrize("cancels", [False, True], ids=["waits", "is cancelled"])
def test_post_whose_client_left_the_queue_is_dropped_in_time(
    holding: WsgiToAsgi,
    begun: Gate,
    go_on: Gate,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    cancels: bool,
) -> None:
    monkeypatch.setattr("wsgi_asgi._bridge.LINGER_S", 0.001)
    monkeypatch.setattr("wsgi_asgi._http.DROPPED_LOG_S", 0.01)

    async def main() -> None:
        first = Client()
        second = Client(method="POST", headers=[(b"content-length", b"2")])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.run, holding)
            await opened(begun)
            async with trio.open_nursery() as inner:
                inner.start_soon(second.run, holding)
                await second.listened.wait()
                second.left.set()
                if cancels:
                    await trio.sleep(0.001)
                    inner.cancel_scope.cancel()
            while not caplog.records:  # noqa: ASYNC110  # it tells nobody
                await trio.sleep(0.001)
            go_on.open()
        assert second.sent == ([] if cancels else [499, "http.response.body"])

    on_trio(main)
    assert "dropped 1 request(s)" in caplog.text
    caplog.clear()
    stats = holding.stats()
    assert (stats.disconnected, stats.dropped, stats.queued) == (1, 1, 0)


def test_shutdown_answers_503_to_what_waits_and_runs_the_hooks(
    adapter: MakeAdapter, begun: Gate, go_on: Gate
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        go_on.wait()
        return hello(environ, start_response)

    ran: list[bool] = []
    served = adapter(
        app,
        threads=1,
        limits=Limits(shutdown_timeout=0.01),
        on_shutdown=[lambda: ran.append(True)],
    )
    answers: list[str] = []

    async def main() -> None:
        stops = trio.Event()
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> MutableMapping[str, Any]:
            if answers:
                await stops.wait()
            return {"type": next(messages)}

        async def send(message: MutableMapping[str, Any]) -> None:
            answers.append(message["type"])

        first, second = Client(), Client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served, {"type": "lifespan"}, receive, send)
            while not answers:  # noqa: ASYNC110  # it tells nobody
                await trio.sleep(0.001)
            nursery.start_soon(first.run, served)
            await opened(begun)
            nursery.start_soon(second.run, served)
            await second.listened.wait()
            stops.set()
            while len(answers) < 2:  # noqa: ASYNC110  # it tells nobody
                await trio.sleep(0.001)
            go_on.open()
        assert second.sent[0] == 503

    on_trio(main)
    assert answers[1] == "lifespan.shutdown.complete"
    assert ran == [True]
