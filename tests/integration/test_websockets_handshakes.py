"""Many clients that ask for a WebSocket at a time, on real servers."""

import contextlib
import socket
from pathlib import Path

import pytest

from conformance.live.polling import wait_until
from tests.integration.apps.handshakes import THREADS
from tests.integration.websocket_site import SERVERS, Site, serving

pytestmark = pytest.mark.integration

APP = "tests.integration.apps.handshakes:app"
MANY = 100
HANDSHAKE = (
    b"GET /view HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


def ask_at_once(site: Site, count: int) -> list[bytes]:
    """Have so many clients ask the ordinary view, and give the statuses they get."""
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", site.server.port), timeout=20)
            )
            for _ in range(count)
        ]
        for client in clients:
            client.sendall(HANDSHAKE)
        return [client.recv(65536)[9:12] for client in clients]


@pytest.mark.parametrize("name", SERVERS)
def test_handshakes_run_no_more_views_at_a_time_than_threads(
    name: str, tmp_path: Path
) -> None:
    with serving(name, tmp_path, APP) as site:
        status = b"403" if site.lacks("denials") else b"404"
        assert ask_at_once(site, MANY) == [status] * MANY
        assert site.stat("all") == MANY
        assert site.stat("most") <= THREADS
        # Those that are accepted keep nobody from running.
        with contextlib.ExitStack() as stack:
            for _ in range(2 * THREADS):
                client = stack.enter_context(site.connect("/"))
                client.send("hello")
                assert client.recv(5) == "hello"
            assert site.stat("websockets") == 2 * THREADS
            assert ask_at_once(site, 10) == [status] * 10
            wait_until(lambda: site.stat("busy") == 1, "no WebSocket counts as one")
        site.wait_until_idle()
        assert not site.faults()
