"""Clients leave while their view runs asynchronous code."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.live.polling import wait_until
from conformance.live.processes import running
from conformance.live.servers import PEERS, Peer
from tests.integration.site import EVERY, Site

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

# Seconds after which a server cancels a request whose client has left, if it does.
CANCELLED_AFTER_S = {"daphne": 11.0, "gunicorn": 4.0}

each_view = pytest.mark.parametrize("path", ["/async", "/sync"])


def leave(site: Site, method: str, path: str) -> None:
    """Have a client leave in mid-view, and wait until all there is to know is known."""
    with site.connect() as connection:
        if method == "GET":
            site.start(connection, "async-views", path)
        else:
            length = ("content-length", "3")
            site.start(connection, "async-views", path, length, end=False)
            connection.send(b"abc", end=True)
        site.wait_for_event("begun")
        connection.leave()
        site.wait_for_event("told")


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def own_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A server of the test's own, as some complain of what takes long here."""
    environ = {"INTEGRATION_DIRECTORY": str(tmp_path)}
    peer: Peer = request.param
    with running(peer.server, EVERY, tmp_path, environ=environ) as server:
        yield Site(peer, server)


@each_view
def test_client_that_leaves_a_post_has_its_asynchronous_code_run_to_the_end(
    own_site: Site, path: str
) -> None:
    site = own_site
    leave(site, "POST", path)
    if seconds := CANCELLED_AFTER_S.get(site.peer.distribution):
        wait_until(
            lambda: "request cancelled" in site.journal(),
            "the server has cancelled the request",
            within=seconds + 4,
        )
    assert "ended" not in site.journal()
    site.open_gate()

    site.wait_for_event("after" if path == "/sync" else "ended")
    site.wait_until_idle("async-views")
    assert "broken off" not in site.journal()
    site.assert_no_complaint()


@each_view
def test_client_that_leaves_a_get_has_its_asynchronous_code_broken_off(
    site: Site, path: str
) -> None:
    leave(site, "GET", path)

    site.wait_for_event("broken off")
    site.wait_until_idle("async-views")
    assert "after" not in site.journal()
    assert "ended" not in site.journal()
    site.assert_no_complaint()
