"""Files of every kind through real servers: how they are sent, and closed.

What is asked for is seen from outside: the bytes at the client, what the server's
process has open, and the journal of what the application was called for.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conformance.live import reasons
from conformance.live.clients import Connection, CutError, read_body
from conformance.live.http1 import Http1Connection
from conformance.live.http2 import Http2Connection
from conformance.live.polling import wait_until
from conformance.live.processes import Server, running, tracebacks
from conformance.live.servers import GRACE_S
from tests.integration.apps import payload
from tests.integration.apps.leaving import THREADS as CROWD_THREADS
from tests.integration.site import Site, only_peers, peers_except
from tests.integration.test_files import assert_is_file
from tests.test_files import made_up_files

pytestmark = pytest.mark.integration

ENDING = "tests.integration.apps.files:ending"
STALLED = 40
THREADS = 8
QUICK_S = 0.25
# For a machine that is busy otherwise; one in so many answers is to be quick.
PATIENCE_S = 5.0
TRIES = 20
DOWNLOADERS = 6
DOWNLOADS = 30
EXIT_S = GRACE_S + 7.0
# Of the wrapper's blocks, in which what has no descriptor is read.
BLOCK_BYTES = 262144

# What is sent by a descriptor, and what by the application's thread.
BY_DESCRIPTOR = {
    "file": "/whole",
    "temporary": "/temporary",
    "temporary with a name": "/temporary-with-a-name",
    "deleted by its close": "/written?at_close=delete",
    "moved by its close": "/written?at_close=rename",
    "replaced by its close": "/written?at_close=replace",
    "appended to by its close": "/written?at_close=append",
}
BY_THREAD = {
    "spooled": "/spooled",
    "in memory": "/memory",
    "zip member": "/zip-member",
    "tar member": "/tar-member",
    "in a database": "/stored",
    "pipe with a name": "/fifo",
}
KINDS = BY_DESCRIPTOR | BY_THREAD

each_kind = pytest.mark.parametrize("path", KINDS.values(), ids=list(KINDS))
# One by each of the ways.
each_way = pytest.mark.parametrize(
    "path", ["/whole", "/stored"], ids=["descriptor", "thread"]
)


@pytest.fixture(scope="module")
def content() -> bytes:
    return b"".join(payload.blocks(payload.FILE_BYTES))


def fetch(site: Site, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Ask for a file under the test's key."""
    separator = "&" if "?" in path else "?"
    with site.client("files") as client:
        response = client.request(method, f"{path}{separator}key={site.key}")
    return response.status_code, response.content


def open_descriptors(site: Site) -> int:
    """Count the descriptors of this test's file, whatever has become of it."""
    return int(site.get("files", f"/?key={site.key}").text)


def change(site: Site, how: str) -> None:
    assert site.get("files", f"/?key={site.key}&change={how}").status_code == 200


def assert_closed_once(site: Site) -> None:
    site.wait_for_event("closed")
    site.wait_until_idle("files")
    assert site.journal().count("closed") == 1
    wait_until(lambda: not open_descriptors(site), "no descriptor is left")


# Each kind.


@each_kind
def test_file_of_any_kind_arrives_whole_and_is_closed_once(
    site: Site, path: str
) -> None:
    status, body = fetch(site, path)

    assert status == 200
    assert_is_file(body)
    assert_closed_once(site)
    site.assert_no_complaint()


@each_kind
def test_head_of_a_file_of_any_kind_has_no_body_and_closes_it_once(
    site: Site, path: str
) -> None:
    assert fetch(site, path, "HEAD") == (200, b"")
    assert_closed_once(site)
    site.assert_no_complaint()


@each_way
def test_post_is_answered_with_a_file(site: Site, path: str) -> None:
    with site.client("files") as client:
        response = client.post(f"{path}?key={site.key}", content=b"unread" * 1000)

    assert_is_file(response.content)
    assert_closed_once(site)


def test_file_without_a_descriptor_is_read_in_large_blocks(site: Site) -> None:
    fetch(site, "/stored")

    reads = [event for event in site.journal() if event.startswith("read ")]
    assert reads == [f"read {BLOCK_BYTES}"] * (payload.FILE_BYTES // BLOCK_BYTES + 2)


@pytest.mark.parametrize("path", KINDS.values(), ids=list(KINDS))
@pytest.mark.parametrize("after", [1, 1_000_003], ids=["a byte", "more"])
def test_file_that_was_read_from_is_sent_from_there(
    site: Site, path: str, after: int, content: bytes
) -> None:
    separator = "&" if "?" in path else "?"
    assert fetch(site, f"{path}{separator}after={after}") == (200, content[after:])
    assert_closed_once(site)


@each_way
def test_write_precedes_a_file(site: Site, path: str, content: bytes) -> None:
    assert fetch(site, f"{path}?head=written-first,") == (
        200,
        b"written-first," + content,
    )
    assert_closed_once(site)


def test_connection_is_kept_after_a_file(site: Site) -> None:
    with site.connect() as connection:
        for method, path in [("GET", "/whole"), ("HEAD", "/whole"), ("GET", "/")]:
            connection.start(method, path, [("x-app", "files")])
            assert connection.read_head().status == 200
            body = read_body(connection)
            assert len(body) == {"GET /whole": payload.FILE_BYTES, "GET /": 1}.get(
                f"{method} {path}", 0
            )


# Lengths.


@each_way
@pytest.mark.parametrize(
    "length", [10, 1_000_000, payload.FILE_BYTES - 1], ids=["few", "many", "all but 1"]
)
def test_file_longer_than_its_length_is_sent_as_far_as_that(
    site: Site, path: str, length: int, content: bytes
) -> None:
    with site.connect() as connection:
        site.start(connection, "files", f"{path}?length={length}")
        head = connection.read_head()
        assert (head.status, head.get("content-length")) == (200, str(length))
        assert read_body(connection) == content[:length]

        # What came after that is not in the way of the next answer.
        site.start(connection, "files", "/")
        assert connection.read_head().status == 200
        assert len(read_body(connection)) == 1
    assert_closed_once(site)
    site.assert_no_complaint()


def test_file_shorter_than_its_length_is_an_error(site: Site) -> None:
    status, _ = fetch(site, f"/whole?length={payload.FILE_BYTES + 3}")

    assert status == 500
    assert_closed_once(site)
    site.wait_for_log("3 bytes short of its Content-Length")


# Files that change while they are sent, or that the system makes up.


@pytest.mark.parametrize("how", ["rename", "delete", "replace", "append"])
def test_file_changed_while_it_is_sent_arrives_as_it_was(site: Site, how: str) -> None:
    size = payload.CHANGED_BYTES
    with site.connect() as connection:
        site.start(connection, "files", f"/written?bytes={size}")
        assert connection.read_head().status == 200
        change(site, how)

        body = read_body(connection)
    assert len(body) == size
    assert hashlib.sha256(body).hexdigest() == payload.digest(size)
    assert_closed_once(site)
    site.assert_no_complaint()


def test_file_that_others_replace_arrives_as_one_of_its_versions(site: Site) -> None:
    versions = {payload.version(number) for number in range(payload.VERSIONS)}

    def download(client: int) -> list[bytes]:
        with site.client("files") as connection:
            url = f"/replaced?key={site.key}-{client}"
            return [connection.get(url).content for _ in range(DOWNLOADS)]

    with ThreadPoolExecutor(DOWNLOADERS) as pool:
        for bodies in pool.map(download, range(DOWNLOADERS)):
            assert not [len(body) for body in bodies if body not in versions]
    site.assert_no_complaint()


@peers_except(reasons.KEEPS_THE_CUT_OPEN | reasons.DOES_NOT_HOLD_BACK)
def test_file_that_shrinks_while_it_is_sent_is_cut(site: Site) -> None:
    with site.connect() as connection:
        site.start(connection, "files", f"/made?bytes={payload.CHANGED_BYTES}")
        assert connection.read_head().status == 200
        change(site, "shrink")

        with pytest.raises(CutError):
            read_body(connection)
    assert_closed_once(site)
    assert_shrinking_is_logged(site)


@peers_except(reasons.KEEPS_THE_CUT_OPEN)
def test_file_that_shrinks_as_it_is_closed_is_cut(site: Site) -> None:
    with site.connect() as connection:
        site.start(connection, "files", "/written?at_close=shrink")
        with pytest.raises(CutError):
            read_all(connection)
    assert_closed_once(site)
    assert_shrinking_is_logged(site)


def read_all(connection: Connection) -> bytes:
    """Read an answer; one that is cut at once may have lost its head."""
    assert connection.read_head().status == 200
    return read_body(connection)


def assert_shrinking_is_logged(site: Site) -> None:
    site.wait_for_log("has become shorter while it was sent")
    (trace,) = (one for one in tracebacks(site.log()) if site.key in one)
    assert trace.splitlines()[-1].startswith("RuntimeError: ")


@each_way
def test_close_that_fails_leaves_the_file_whole(site: Site, path: str) -> None:
    status, body = fetch(site, f"{path}?at_close=fail")

    assert status == 200
    assert_is_file(body)
    assert_closed_once(site)
    if site.peer.name != "gunicorn":  # it logs no error of a complete response
        site.wait_for_log(f"{site.key} would not close")


@only_peers("uvicorn-h11", "granian-http1")
@pytest.mark.parametrize("folder", ["/proc/sys/kernel", "/sys/kernel"])
def test_file_that_the_system_makes_up_arrives(site: Site, folder: str) -> None:
    name = next(made_up_files(Path(folder)), None)
    if name is None:
        pytest.skip(f"the system makes up no files in {folder}")
    status, body = fetch(site, f"/?system={name}")

    assert (status, body) == (200, name.read_bytes())
    assert_closed_once(site)
    site.assert_no_complaint()


# Clients that leave.


def more_than_goes_out(site: Site) -> int:
    """Give a size at which no client gets all although it has left."""
    if site.peer.name in reasons.DOES_NOT_HOLD_BACK:
        return payload.CHANGED_BYTES  # which it takes and keeps, whatever it is
    return payload.ENDLESS_BYTES


each_endless = pytest.mark.parametrize(
    "path", ["/made", "/stored"], ids=["descriptor", "thread"]
)


@each_endless
def test_client_that_leaves_before_there_is_a_file_leaves_none_open(
    site: Site, path: str
) -> None:
    with site.connect() as connection:
        site.start(connection, "files", f"{path}?waits=1&bytes={payload.FILE_BYTES}")
        site.wait_for_event("called")
        connection.leave()
    change(site, "go on")

    assert_closed_once(site)
    site.assert_no_complaint()


@each_endless
@pytest.mark.parametrize("reads", [False, True], ids=["at the head", "in mid-file"])
@pytest.mark.parametrize("crash", [False, True], ids=["closes", "resets"])
def test_client_that_leaves_with_more_to_come_leaves_none_open(
    site: Site, path: str, reads: bool, crash: bool
) -> None:
    before = site.stat("files", "disconnected")
    with site.connect() as connection:
        site.start(connection, "files", f"{path}?bytes={more_than_goes_out(site)}")
        assert connection.read_head().status == 200
        if reads:
            assert connection.read_some()
        (connection.reset if crash else connection.leave)()

        assert_closed_once(site)
    # The others have, or take, all of it although nobody reads.
    if site.peer.name not in reasons.DOES_NOT_HOLD_BACK:
        wait_until(
            lambda: site.stat("files", "disconnected") == before + 1,
            "the client's leaving is counted",
        )
    site.assert_no_complaint()


@only_peers(*reasons.NO_EXPECT)
@each_endless
def test_stream_that_is_reset_leaves_no_file_open(site: Site, path: str) -> None:
    with site.connect() as connection:
        assert isinstance(connection, Http2Connection)
        site.start(connection, "files", f"{path}?bytes={more_than_goes_out(site)}")
        assert connection.read_head().status == 200
        connection.reset_stream()
        assert_closed_once(site)

        site.start(connection, "files", "/")
        assert connection.read_head().status == 200
    site.assert_no_complaint()


# Clients that stall.


@contextlib.contextmanager
def stalled(site: Site, path: str, count: int) -> Iterator[list[Connection]]:
    """Start downloads that are not read."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(site.connect()) for _ in range(count)]
        for connection in connections:
            site.start(connection, "files", path)
        for connection in connections:
            assert connection.read_head().status == 200
        yield connections


def large_files_open(site: Site) -> int:
    return int(site.get("files", f"/?key={payload.LARGE_NAME}").text)


def assert_answers_quickly(site: Site) -> None:
    """See that a small answer can be had quickly, and always within patience."""
    quickest = PATIENCE_S
    with site.client("files") as client:
        for _ in range(TRIES):
            began = time.monotonic()
            assert client.get(f"/?key={site.key}").status_code == 200
            quickest = min(quickest, time.monotonic() - began)
            if quickest < QUICK_S:
                return
    raise AssertionError(f"the quickest of {TRIES} answers took {quickest:.3f} s")


@peers_except(reasons.DOES_NOT_HOLD_BACK)
def test_stalled_downloads_hold_no_thread_and_no_quick_request_up(site: Site) -> None:
    with stalled(site, "/large", STALLED):
        wait_until(lambda: large_files_open(site) == STALLED, "all are under way")
        assert_answers_quickly(site)
        assert large_files_open(site) == STALLED  # and still are
        assert site.stat("files", "busy") == 0
        assert site.stat("files", "threads") <= THREADS
    wait_until(lambda: not large_files_open(site), "all are closed")
    site.wait_until_idle("files")
    site.assert_no_complaint()


@peers_except(reasons.DOES_NOT_HOLD_BACK)
def test_stalled_downloads_by_threads_hold_no_quick_request_up(site: Site) -> None:
    with stalled(site, f"/stored?bytes={payload.CHANGED_BYTES}", STALLED):
        assert site.stat("files", "streams") == STALLED
        assert_answers_quickly(site)
        assert site.stat("files", "streams") == STALLED
    site.wait_for_event("closed", STALLED)
    site.wait_until_idle("files")
    assert site.journal().count("closed") == STALLED
    site.assert_no_complaint()


@only_peers(*reasons.DOES_NOT_HOLD_BACK)
@each_way
def test_downloads_that_the_server_keeps_hold_no_quick_request_up(
    site: Site, path: str
) -> None:
    """The client stalls here as well, but the server takes and keeps it all."""
    with stalled(site, path, STALLED):
        assert_answers_quickly(site)
    site.wait_for_event("closed", STALLED)
    site.wait_until_idle("files")
    site.assert_no_complaint()


def test_stalled_download_goes_on_where_it_was(site: Site) -> None:
    with stalled(site, "/large", 3) as connections:
        for connection in connections:
            body = read_body(connection)
            assert len(body) == payload.CHANGED_BYTES
            digest = hashlib.sha256(body).hexdigest()
            assert digest == payload.digest(payload.CHANGED_BYTES)
    wait_until(lambda: not large_files_open(site), "all are closed")


# The server ends.


@pytest.mark.skipif(
    not Path(payload.SHARED_MEMORY).is_dir(), reason="there is no such file system"
)
def test_download_goes_on_while_all_threads_are_stuck(site: Site) -> None:
    with contextlib.ExitStack() as stack:
        download = stack.enter_context(site.connect())
        site.start(download, "crowded", "/shared-memory")
        assert download.read_head().status == 200
        for number in range(1, CROWD_THREADS + 1):
            connection = stack.enter_context(site.connect())
            site.start(connection, "crowded", "/hold")
            site.wait_for_event("called /hold", number)
        checksum = hashlib.sha256()
        while piece := download.read_some():
            checksum.update(piece)

        assert checksum.hexdigest() == payload.digest(payload.SHARED_BYTES)
        assert site.stat("crowded", "busy") == CROWD_THREADS
        site.open_gate()
    site.wait_until_idle("crowded")
    site.assert_no_complaint()


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[Server]:
    environ = {"INTEGRATION_DIRECTORY": str(tmp_path)}
    with running("uvicorn-h11", ENDING, tmp_path, environ=environ) as server:
        yield server


def test_server_that_ends_in_mid_file_leaves_it_cut(ending: Server) -> None:
    with Http1Connection(ending.port) as connection:
        connection.start("GET", "/large?key=ending")
        assert connection.read_head().status == 200
        ending.terminate()
        wait_until(ending.is_gone, "all processes ended", within=EXIT_S)
        with pytest.raises(CutError):
            read_body(connection)
    log = ending.log()
    # uvicorn reports the tasks that it cancels itself as errors.
    assert [one for one in tracebacks(log) if "CancelledError" not in one] == [], log
