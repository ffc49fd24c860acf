"""Clients that leave before their answer: what middleware and logs see of it."""

import contextlib
import socket

import pytest

from conformance.live import reasons
from conformance.live.clients import Connection, CutError, read_body
from conformance.live.http1 import Http1Connection
from conformance.live.http2 import Http2Connection
from conformance.live.polling import NotInTimeError, wait_until
from tests.integration.site import Site, only_peers, peers_except

WRITES_TO_CLIENTS_THAT_LEFT = dict.fromkeys(
    ("hypercorn-http1", "hypercorn-trio-http1"),
    "hypercorn tells that a client has left when that has closed but its side, and "
    "writes on; so the adapter gives it nothing more to write",
)

pytestmark = pytest.mark.integration

# More than the adapter takes to listen for a client's leaving, and to answer it.
NOTICED_S = 1.0
LONG_BODY_BYTES = 200_000

below_each_middleware = pytest.mark.parametrize(
    "app", ["left-http", "left-asgi"], ids=["http middleware", "asgi middleware"]
)


def recorded(site: Site, path: str) -> list[str]:
    """Give what was sent for a request, as middleware saw it."""
    events = [event.split(" ", 1) for event in site.journal() if " " in event]
    return [what for where, what in events if where == path]


def assert_answered_nobody(site: Site, path: str, status: int = 499) -> None:
    expected = [f"start {status}", "body 0 last"]
    wait_until(lambda: len(recorded(site, path)) >= 2, "middleware saw an answer")
    assert recorded(site, path) == expected
    site.assert_no_complaint()


def post(
    site: Site, connection: Connection, app: str, path: str, body: bytes, length: int
) -> None:
    headers = ("content-length", str(length)) if length else ("x-unsized", "yes")
    if not length and isinstance(connection, Http1Connection):
        headers = ("transfer-encoding", "chunked")
    site.start(connection, app, path, headers, end=False)
    connection.send(body, end=len(body) == length)


@peers_except(WRITES_TO_CLIENTS_THAT_LEFT)
@below_each_middleware
@pytest.mark.parametrize("path", ["/wait", "/empty"])
@pytest.mark.parametrize("resets", [False, True], ids=["closes", "resets"])
def test_client_that_leaves_a_get_is_answered_499_for_middleware(
    site: Site, app: str, path: str, resets: bool
) -> None:
    with site.connect() as connection:
        site.start(connection, app, path)
        site.wait_for_event(f"called {path}")
        (connection.reset if resets else connection.leave)()

        assert_answered_nobody(site, path)
    site.wait_until_idle("left")


@peers_except(WRITES_TO_CLIENTS_THAT_LEFT)
@below_each_middleware
def test_client_that_leaves_a_post_has_it_finished_and_its_status_recorded(
    site: Site, app: str
) -> None:
    with site.connect() as connection:
        post(site, connection, app, "/wait", b"abc", 3)
        site.wait_for_event("called /wait")
        connection.leave()

        assert_answered_nobody(site, "/wait", 201)


@peers_except(reasons.BUFFERS_UPLOADS)
@below_each_middleware
@pytest.mark.parametrize(
    "length", [10, LONG_BODY_BYTES, 0], ids=["short", "long", "chunked"]
)
def test_client_that_leaves_in_its_body_is_answered_499_for_middleware(
    site: Site, app: str, length: int
) -> None:
    with site.connect() as connection:
        post(site, connection, app, "/read", bytes(max(length // 2, 5)), length)
        is_read = length == LONG_BODY_BYTES
        site.wait_for_event("called /read" if is_read else "arrived")
        connection.leave()

        assert_answered_nobody(site, "/read")
    assert is_read or "called /read" not in site.journal()


@peers_except(WRITES_TO_CLIENTS_THAT_LEFT)
@below_each_middleware
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_client_that_leaves_the_queue_is_answered_499_for_middleware(
    site: Site, app: str, method: str
) -> None:
    narrow = f"{app}-narrow"
    with contextlib.ExitStack() as stack:
        holding = [stack.enter_context(site.connect()) for _ in range(2)]
        for connection in holding:
            site.start(connection, narrow, "/hold")
        site.wait_for_event("called /hold", 2)
        connection = stack.enter_context(site.connect())
        if method == "GET":
            site.start(connection, narrow, "/wait")
        else:
            post(site, connection, narrow, "/wait", b"abc", 3)
        wait_until(lambda: site.stat("left-narrow", "queued") == 1, "it is queued")
        connection.leave()

        wait_until(lambda: len(recorded(site, "/wait")) == 2, "it is answered")
        assert recorded(site, "/wait") == ["start 499", "body 0 last"]
        site.open_gate()
        for connection in holding:
            assert connection.read_head().status == 200
            assert read_body(connection) == b"held"
    assert "called /wait" not in site.journal()
    site.assert_no_complaint()


# Clients that are there.


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_client_that_closes_but_its_side_gets_its_own_answer_or_no_byte(
    site: Site, method: str
) -> None:
    with site.connect() as connection:
        if method == "GET":
            site.start(connection, "left-asgi", "/hold")
        else:
            post(site, connection, "left-asgi", "/hold", b"abc", 3)
        site.wait_for_event("called /hold")
        connection.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(NotInTimeError):
            wait_until(lambda: recorded(site, "/hold"), "noticed", within=NOTICED_S)
        site.open_gate()
        with contextlib.suppress(CutError, OSError):
            assert connection.read_head().status == 200
            assert read_body(connection) == b"held"
    site.wait_until_idle("left")


@below_each_middleware
def test_client_that_stays_gets_its_answers_and_nothing_else(
    site: Site, app: str
) -> None:
    with site.client(app) as client:
        for _ in range(3):
            response = client.get("/last")
            assert (response.status_code, response.content) == (200, b"lasted")
        response = client.post("/last", content=b"abc")
        assert (response.status_code, response.content) == (200, b"lasted")

    starts = [event for event in recorded(site, "/last") if "start" in event]
    assert starts == ["start 200"] * 4
    site.assert_no_complaint()


@only_peers("hypercorn-http2", "hypercorn-trio-http2", "granian-http2")
@below_each_middleware
@pytest.mark.parametrize("path", ["/wait", "/empty"])
def test_stream_that_is_reset_is_answered_499_and_another_is_intact(
    site: Site, app: str, path: str
) -> None:
    with site.connect() as connection:
        assert isinstance(connection, Http2Connection)
        site.start(connection, app, "/hold")
        other = connection.stream
        site.wait_for_event("called /hold")
        site.start(connection, app, path)
        site.wait_for_event(f"called {path}")
        connection.reset_stream()

        assert_answered_nobody(site, path)
        connection.stream = other
        site.open_gate()
        assert connection.read_head().status == 200
        assert read_body(connection) == b"held"
    site.assert_no_complaint()
