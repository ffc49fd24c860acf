"""Applications that import gevent-websocket, as they are, on servers without gevent."""

import socket
from collections.abc import Iterator

import pytest
from websockets.sync.client import ClientConnection

from conformance.live.polling import wait_until
from conformance.live.processes import tracebacks
from tests.integration.websocket_site import SERVERS, Site, serving

pytestmark = pytest.mark.integration

APP = "tests.integration.apps.gevent_websockets:app"


@pytest.fixture(scope="module", params=SERVERS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("gevent")
    with serving(request.param, directory, APP) as site:
        yield site
    assert not tracebacks(site.server.log())


def events(site: Site) -> list[str]:
    return site.get("/resource/events").decode().split(", ")


def wait_for_one_more(event: str, before: list[str], site: Site) -> None:
    count = before.count(event)
    wait_until(lambda: events(site).count(event) > count, event)


def exchange(client: ClientConnection, message: str | bytes) -> str | bytes:
    client.send(message)
    return client.recv(10)


def test_loop_of_bottles_documentation_answers(site: Site) -> None:
    with site.connect("/bottle") as client:
        assert exchange(client, "hello") == "Your message was: hello"
        assert exchange(client, "é") == "Your message was: é"


def test_loop_without_a_framework_echoes_and_ends(site: Site) -> None:
    before = events(site)
    with site.connect("/plain") as client:
        assert exchange(client, "text") == "text"
        assert exchange(client, b"\0\xff") == b"\0\xff"
        large = bytes(300_000)
        assert exchange(client, large) == large
    wait_for_one_more("plain is over", before, site)


def test_loop_whose_client_is_lost_ends(site: Site) -> None:
    before = events(site)
    with site.connect("/plain") as client:
        assert exchange(client, "text") == "text"
        client.socket.shutdown(socket.SHUT_RDWR)
    wait_for_one_more("plain is over", before, site)


def test_application_of_a_resource_echoes(site: Site) -> None:
    with site.connect("/resource/echo") as client:
        assert exchange(client, "text") == "text"
        assert exchange(client, b"\0\xff") == b"\0\xff"
    assert "echo is open" in events(site)


def test_application_of_a_resource_is_told_of_both_ends(site: Site) -> None:
    before = events(site)
    with site.connect("/resource/chat") as client:
        assert client.recv(10) == "welcome"
        assert exchange(client, "hello") == "/resource/chat: hello"
    wait_for_one_more("chat is over", before, site)
