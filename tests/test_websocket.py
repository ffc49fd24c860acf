import pytest

from tests.apps import never_called
from tests.drivers import (
    LoopFactory,
    MakeAdapter,
    WebSocketServer,
    on_each_loop,
    serve,
)


@on_each_loop
def test_websocket_connecting_is_closed_before_it_is_accepted(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    server = WebSocketServer()
    serve(adapter(never_called), server, loop_factory)
    assert [message["type"] for message in server.messages] == ["websocket.close"]


@pytest.mark.parametrize("times", [1, 20])
def test_websocket_refused_leaves_the_adapter_idle(
    adapter: MakeAdapter, times: int
) -> None:
    app = adapter(never_called)
    for _ in range(times):
        serve(app, WebSocketServer())
    stats = app.stats()
    assert (stats.busy, stats.queued, stats.completed) == (0, 0, 0)


def test_websocket_that_left_before_it_connected_is_sent_nothing(
    adapter: MakeAdapter,
) -> None:
    server = WebSocketServer({"type": "websocket.disconnect", "code": 1006})
    serve(adapter(never_called), server)
    assert not server.messages
