import contextlib
import hashlib

import pytest

from conformance.live.clients import read_body
from conformance.live.http2 import Http2Connection
from conformance.live.polling import wait_until
from tests.integration.apps import payload
from tests.integration.site import Site, only_peers

pytestmark = pytest.mark.integration

CLOSE_S = 1.0


@pytest.mark.parametrize(
    ("app", "path"),
    [
        ("plain", "/download"),
        ("flask", "/stream"),
        ("django", "/stream/"),
        ("flask", "/file"),
        ("django", "/file/"),
    ],
    ids=["plain", "flask-stream", "django-stream", "flask-file", "django-file"],
)
def test_large_download_arrives_whole(site: Site, app: str, path: str) -> None:
    checksum, total = hashlib.sha256(), 0
    target = f"{path}?bytes={payload.DOWNLOAD_BYTES}&key={site.key}"
    with site.client(app) as client, client.stream("GET", target) as response:
        assert response.status_code == 200
        for piece in response.iter_raw():
            checksum.update(piece)
            total += len(piece)

    assert total == payload.DOWNLOAD_BYTES
    assert checksum.hexdigest() == payload.digest(payload.DOWNLOAD_BYTES)
    site.wait_until_idle(app)


def test_range_of_a_file_arrives(site: Site) -> None:
    start = 3 * payload.BLOCK_BYTES
    with site.client("flask") as client:
        headers = {"range": f"bytes={start}-{start + payload.BLOCK_BYTES - 1}"}
        response = client.get("/file", headers=headers)

    assert response.status_code == 206
    assert response.content == list(payload.blocks(start + payload.BLOCK_BYTES))[-1]


def test_head_of_a_file_has_its_length_and_no_body(site: Site) -> None:
    with site.client("flask") as client:
        response = client.head("/file")

    assert response.headers["content-length"] == str(payload.DOWNLOAD_BYTES)
    assert response.content == b""


STREAMS = pytest.mark.parametrize(
    ("app", "path"),
    [("plain", "/tick"), ("flask", "/events"), ("django", "/events/")],
    ids=["plain", "flask", "django"],
)


def assert_closed_soon(site: Site, app: str) -> None:
    wait_until(
        lambda: "closed" in site.journal(), "the iterable is closed", within=CLOSE_S
    )
    site.wait_until_idle(app, within=CLOSE_S)
    assert site.journal().count("closed") == 1
    site.assert_no_complaint()


@STREAMS
def test_client_that_leaves_in_mid_stream_closes_the_iterable_within_a_second(
    site: Site, app: str, path: str
) -> None:
    with site.connect() as connection:
        site.start(connection, app, path)
        assert connection.read_head().status == 200
        assert connection.read_some()
        assert site.stat(app, "streams") == 1
        connection.leave()

        assert_closed_soon(site, app)


def test_client_that_crashes_in_mid_stream_closes_the_iterable_within_a_second(
    site: Site,
) -> None:
    with site.connect() as connection:
        site.start(connection, "plain", "/tick")
        assert connection.read_head().status == 200
        assert connection.read_some()
        connection.reset()

        assert_closed_soon(site, "plain")


@only_peers("hypercorn-http2", "granian-http2")
def test_stream_that_is_reset_closes_the_iterable_within_a_second(site: Site) -> None:
    with site.connect() as connection:
        assert isinstance(connection, Http2Connection)
        site.start(connection, "plain", "/tick")
        assert connection.read_head().status == 200
        assert connection.read_some()
        connection.reset_stream()

        assert_closed_soon(site, "plain")
        site.start(connection, "plain", "/hello")
        assert connection.read_head().status == 200
        assert read_body(connection) == b"hello"


def test_client_that_leaves_without_having_read_closes_the_iterable(
    site: Site,
) -> None:
    """The application is held back by a client that does not read, then leaves."""
    with site.connect() as connection:
        site.start(connection, "plain", "/flood")
        assert connection.read_head().status == 200
        wait_until(lambda: site.stat("plain", "streams") == 1, "it streams")
        connection.leave()

        assert_closed_soon(site, "plain")


@STREAMS
def test_stream_reaches_the_client_while_the_app_makes_the_rest(
    site: Site, app: str, path: str
) -> None:
    with site.connect() as connection:
        site.start(connection, app, path)
        assert connection.read_head().status == 200
        for _ in range(5):
            assert connection.read_some()
        connection.leave()

        site.wait_until_idle(app)


@pytest.mark.parametrize(
    ("app", "path", "quick"),
    [
        ("plain-narrow", "/tick", "/hello"),
        ("flask-narrow", "/events", "/where/here"),
    ],
    ids=["plain", "flask"],
)
def test_many_event_streams_do_not_hold_up_a_quick_request(
    site: Site, app: str, path: str, quick: str
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            connection = stack.enter_context(site.connect())
            site.start(connection, app, path)
            assert connection.read_head().status == 200
            assert connection.read_some()

        assert site.stat(app, "streams") == 12
        assert site.get(app, quick).status_code == 200

    wait_until(lambda: site.journal().count("closed") == 12, "all are closed")
    site.wait_until_idle(app)
    site.assert_no_complaint()


def test_many_clients_that_left_leave_all_threads_free(site: Site) -> None:
    for _ in range(12):
        with site.connect() as connection:
            site.start(connection, "plain-narrow", "/tick")
            assert connection.read_head().status == 200
            connection.leave()

    wait_until(lambda: site.journal().count("closed") == 12, "all are closed")
    site.wait_until_idle("plain-narrow")
    assert site.get("plain-narrow", "/hello").text == "hello"
