"""As many WebSockets as an adapter allows, all of which wait."""

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket as websocket_client

from conformance.live.polling import wait_until
from tests.integration.apps.idle_websockets import MOST
from tests.integration.websocket_site import Site, serving

pytestmark = pytest.mark.integration

APP = "tests.integration.apps.idle_websockets:app"
QUICK_S = 1.0


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Let this process and the server, which inherits it, open a file for each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def threads(site: Site) -> int:
    status = Path(f"/proc/{site.server.process.pid}/status").read_text()
    return int(status.partition("Threads:")[2].split()[0])


@pytest.mark.usefixtures("descriptors")
def test_idle_websockets_hold_a_thread_each_and_nothing_up(tmp_path: Path) -> None:
    with (
        serving("uvicorn-sansio", tmp_path, APP) as site,
        contextlib.ExitStack() as stack,
    ):
        site.get("/stats")
        before = threads(site)
        clients = []
        for _ in range(MOST):
            client = websocket_client.create_connection(site.url("/"), timeout=10)
            stack.callback(client.shutdown)
            clients.append(client)
        assert site.stat("websockets") == MOST
        assert threads(site) == before + MOST

        start = time.monotonic()
        site.get("/stats")
        assert time.monotonic() - start < QUICK_S
        for client in (clients[0], clients[-1]):
            client.send("still there")
            assert client.recv() == "still there"
        with pytest.raises(websocket_client.WebSocketBadStatusException) as caught:
            websocket_client.create_connection(site.url("/"), timeout=10)
        assert caught.value.status_code == 503

        for client in clients:
            client.close()
        site.wait_until_idle()
        wait_until(lambda: threads(site) == before, "their threads have ended")
