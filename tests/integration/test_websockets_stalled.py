"""WebSockets whose clients take nothing, on real servers that wait for them."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.live.polling import wait_until
from tests.integration.websocket_site import SERVERS, Site, serving

pytestmark = pytest.mark.integration

APP = "tests.integration.apps.stalled_websockets:app"
# Daphne has no back-pressure, and Hypercorn on trio lets nothing interrupt its writing.
WAITING_SERVERS = [name for name in SERVERS if name not in ("daphne", "hypercorn-trio")]

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n"
)


@contextlib.contextmanager
def client_that_takes_nothing(site: Site, path: str) -> Iterator[socket.socket]:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", site.server.port))
        client.sendall(HANDSHAKE.format(path=path).encode())
        client.settimeout(10)
        yield client


def state(site: Site, path: str = "/") -> dict[str, Any]:
    told: dict[str, Any] = json.loads(site.get(path))
    return told


def read_to_the_end(client: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        while client.recv(65536):
            pass


@pytest.mark.parametrize("name", WAITING_SERVERS)
def test_websocket_closed_while_its_client_takes_nothing_is_over(
    name: str, tmp_path: Path
) -> None:
    with serving(name, tmp_path, APP) as site:
        with client_that_takes_nothing(site, "/ends") as client:
            wait_until(lambda: state(site)["returned"] == ["/ends"], "it is given up")
            assert state(site)["websockets"] == 0
            read_to_the_end(client)
        with client_that_takes_nothing(site, "/goes-on") as client:
            wait_until(lambda: len(state(site)["returned"]) == 2, "it is given up")
            assert state(site)["websockets"] == 1
            read_to_the_end(client)
            state(site, "/go-on")
        wait_until(lambda: state(site)["websockets"] == 0, "no thread is held")
        told = state(site)
        assert max(told["closes"]) < 0.3
        assert told["errors"] == ["the application has closed the WebSocket"] * 2
        assert not site.faults()
