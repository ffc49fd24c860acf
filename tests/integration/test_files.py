"""Files from real frameworks through real servers, and clients that stall and leave."""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.live import reasons
from conformance.live.clients import Connection, CutError, read_body
from conformance.live.http1 import Http1Connection
from conformance.live.polling import wait_until
from conformance.live.processes import Server, running, tracebacks
from conformance.live.servers import GRACE_S
from tests.integration.apps import payload
from tests.integration.site import Site, peers_except

pytestmark = pytest.mark.integration

ENDING = "tests.integration.apps.files:ending"
STALLED = 40
THREADS = 8
# It is to be a quarter of a second; more is for a machine that is busy otherwise.
PATIENCE_S = 2.0
EXIT_S = GRACE_S + 7.0

# The one that is given paths: see `_path()` in the exchange for why not on HTTP/2.
SENDS_PATHS = "granian-http1"

NAME = payload.FILE_NAME
ROUTES = {
    "flask send_file": ("flask-files", f"/send_file/{NAME}"),
    "flask send_from_directory": ("flask-files", f"/send_from_directory/{NAME}"),
    "bottle static_file": ("bottle-files", f"/{NAME}"),
    "pyramid FileResponse": ("pyramid-files", f"/{NAME}"),
    "whitenoise": ("whitenoise-files", f"/{NAME}"),
    "django FileResponse": ("django", f"/opened/{NAME}"),
    "django storage": ("django", f"/stored/{NAME}"),
}
# Django leaves ranges to other servers.
WITH_RANGES = {
    name: route for name, route in ROUTES.items() if not name.startswith("django")
}

each_route = pytest.mark.parametrize(("app", "path"), ROUTES.values(), ids=list(ROUTES))
each_range = pytest.mark.parametrize(
    ("app", "path"), WITH_RANGES.values(), ids=list(WITH_RANGES)
)


@pytest.fixture(scope="module")
def content() -> bytes:
    return b"".join(payload.blocks(payload.FILE_BYTES))


def assert_is_file(body: bytes) -> None:
    assert len(body) == payload.FILE_BYTES
    assert hashlib.sha256(body).hexdigest() == payload.digest(payload.FILE_BYTES)


# What the frameworks send.


@each_route
def test_file_arrives_whole(site: Site, app: str, path: str) -> None:
    response = site.get(app, f"{path}?key={site.key}")

    assert response.status_code == 200
    assert response.headers["content-length"] == str(payload.FILE_BYTES)
    assert_is_file(response.content)
    assert ("pathsend" in site.journal()) is (site.peer.name == SENDS_PATHS)
    site.wait_until_idle(app)


@each_range
def test_range_of_a_file_arrives(
    site: Site, app: str, path: str, content: bytes
) -> None:
    first, last = 3_000_000, 3_500_000
    with site.client(app, {"range": f"bytes={first}-{last}"}) as client:
        response = client.get(path)

    assert response.status_code == 206
    assert response.content == content[first : last + 1]
    site.wait_until_idle(app)


@each_route
def test_head_of_a_file_has_its_length_and_no_body(
    site: Site, app: str, path: str
) -> None:
    with site.client(app) as client:
        response = client.head(path)

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == str(payload.FILE_BYTES)


@each_range
def test_file_that_the_client_has_is_not_sent_again(
    site: Site, app: str, path: str
) -> None:
    with site.client(app) as client:
        modified = client.head(path).headers["last-modified"]
        response = client.get(path, headers={"if-modified-since": modified})

    assert (response.status_code, response.content) == (304, b"")


def test_connection_is_kept_after_a_file(site: Site) -> None:
    with site.connect() as connection:
        for method, path in [("GET", "/whole"), ("HEAD", "/whole"), ("GET", "/")]:
            connection.start(method, path, [("x-app", "files")])
            assert connection.read_head().status == 200
            body = read_body(connection)
            assert len(body) == {"GET /whole": payload.FILE_BYTES, "GET /": 1}.get(
                f"{method} {path}", 0
            )


@pytest.mark.parametrize("path", ["opened", "stored"])
def test_django_has_finished_once_with_the_file_closed(site: Site, path: str) -> None:
    """On the thread of the view, which is where the handler finds the key."""
    response = site.get("django", f"/{path}/{NAME}?key={site.key}")

    assert_is_file(response.content)
    site.wait_for_event("request_finished")
    assert site.journal().count("request_finished") == 1
    assert site.journal().count("file closed") == 1


def test_django_temporary_upload_is_sent_back(site: Site, content: bytes) -> None:
    with site.client("django") as client:
        response = client.post(
            f"/return-upload/?key={site.key}", files={"file": content}
        )

    assert_is_file(response.content)
    assert "pathsend" not in site.journal()
    assert site.journal().count("file closed") == 1


# Files that are gone when they are sent, or change meanwhile.


@pytest.mark.parametrize(
    "path", ["/removed", "/temporary", "/temporary-with-a-name", "/spooled"]
)
def test_file_that_goes_with_its_close_arrives_whole(site: Site, path: str) -> None:
    response = site.get("files", f"{path}?key={site.key}")

    assert response.status_code == 200
    assert_is_file(response.content)
    assert "pathsend" not in site.journal()


def open_descriptors(site: Site, change: str = "") -> int:
    return int(site.get("files", f"/?key={site.key}{change}").text)


def test_file_that_grows_and_is_removed_while_it_is_sent_arrives_as_it_was(
    site: Site,
) -> None:
    with site.connect() as connection:
        site.start(connection, "files", "/made")
        assert connection.read_head().status == 200
        open_descriptors(site, "&change=more")

        assert read_body(connection) == bytes(payload.CHANGED_BYTES)
    wait_until(lambda: not open_descriptors(site), "the file is closed")
    site.assert_no_complaint()


@peers_except(reasons.KEEPS_THE_CUT_OPEN | reasons.DOES_NOT_HOLD_BACK)
def test_file_that_shrinks_while_it_is_sent_is_cut(site: Site) -> None:
    with site.connect() as connection:
        site.start(connection, "files", "/made")
        assert connection.read_head().status == 200
        open_descriptors(site, "&change=shrink")

        with pytest.raises(CutError):
            read_body(connection)
    wait_until(lambda: not open_descriptors(site), "the file is closed")
    if site.peer.name != SENDS_PATHS:
        site.wait_for_log("has become shorter while it was sent")
        (trace,) = (one for one in tracebacks(site.log()) if site.key in one)
        assert trace.splitlines()[-1].startswith("RuntimeError: ")


# Clients that leave, and clients that stall.


@pytest.mark.parametrize("crash", [False, True], ids=["closes", "resets"])
def test_client_that_leaves_in_mid_file_is_noticed(site: Site, crash: bool) -> None:
    before = site.stat("files", "disconnected")
    with site.connect() as connection:
        site.start(connection, "files", "/made")
        assert connection.read_head().status == 200
        assert connection.read_some()
        (connection.reset if crash else connection.leave)()

        wait_until(lambda: not open_descriptors(site), "the file is closed")
    # The others have, or take, all of it although nobody reads.
    if site.peer.name not in {SENDS_PATHS, *reasons.DOES_NOT_HOLD_BACK}:
        wait_until(
            lambda: site.stat("files", "disconnected") == before + 1,
            "the client's leaving is counted",
        )
    site.wait_until_idle("files")
    site.assert_no_complaint()


@contextlib.contextmanager
def stalled(site: Site, count: int) -> Iterator[list[Connection]]:
    """Start downloads that are not read."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(site.connect()) for _ in range(count)]
        for connection in connections:
            site.start(connection, "files", "/whole")
        for connection in connections:
            assert connection.read_head().status == 200
        yield connections


def test_stalled_downloads_hold_up_no_quick_request(site: Site) -> None:
    with stalled(site, STALLED):
        assert site.stat("files", "busy") == 0
        with site.client("files") as client:
            for _ in range(3):
                began = time.monotonic()
                assert client.get(f"/?key={site.key}").status_code == 200
                assert time.monotonic() - began < PATIENCE_S
        assert site.stat("files", "threads") <= THREADS
    site.wait_until_idle("files")
    site.assert_no_complaint()


def test_stalled_download_goes_on_where_it_was(site: Site) -> None:
    with stalled(site, 3) as connections:
        for connection in connections:
            assert_is_file(read_body(connection))
    assert open_descriptors(site) == 0


# The server ends.


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[Server]:
    environ = {"INTEGRATION_DIRECTORY": str(tmp_path)}
    with running("uvicorn-h11", ENDING, tmp_path, environ=environ) as server:
        yield server


def test_server_that_ends_in_mid_file_leaves_it_cut(ending: Server) -> None:
    with Http1Connection(ending.port) as connection:
        connection.start("GET", "/made?key=ending")
        assert connection.read_head().status == 200
        ending.terminate()
        wait_until(ending.is_gone, "all processes ended", within=EXIT_S)
        with pytest.raises(CutError):
            read_body(connection)
    log = ending.log()
    # uvicorn reports the tasks that it cancels itself as errors.
    assert [one for one in tracebacks(log) if "CancelledError" not in one] == [], log
