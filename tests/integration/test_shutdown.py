import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.live import reasons, servers
from conformance.live.clients import Connection, CutError
from conformance.live.http1 import Http1Connection
from conformance.live.polling import wait_until
from conformance.live.processes import Server, running, tracebacks
from conformance.live.servers import GRACE_S, SERVERS
from tests.integration.apps.plain import SHUTDOWN_S

pytestmark = pytest.mark.integration

ENDING = "tests.integration.apps.plain:ending"
STUCK = "tests.integration.apps.plain:stuck"
STUCK_GRACE_S = 4
# A few seconds more: hypercorn needs more than one to end when it is idle.
EXIT_S = GRACE_S + SHUTDOWN_S + 5.0


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with running(request.param, ENDING, tmp_path) as server:
        yield server


@pytest.fixture
def stuck_server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    # gunicorn takes a second of it before it says that it stops.
    monkeypatch.setattr(servers, "GRACE_S", STUCK_GRACE_S)
    with running(request.param, STUCK, tmp_path) as server:
        yield server


def servers_except(reasons: dict[str, str]) -> pytest.MarkDecorator:
    """Parametrise over all servers; skip those that cannot keep the promise."""
    return pytest.mark.parametrize(
        "server",
        [
            pytest.param(name, marks=pytest.mark.skip(reasons[name]))
            if name in reasons
            else name
            for name in SERVERS
        ],
        indirect=True,
    )


def assert_ends_well(server: Server) -> None:
    server.terminate()
    wait_until(server.is_gone, "all processes ended", within=EXIT_S)
    log = server.log()
    # uvicorn reports the tasks that it cancels itself as errors.
    own = [trace for trace in tracebacks(log) if "CancelledError" not in trace]
    assert own == [], log


@contextlib.contextmanager
def reading(connection: Connection) -> Iterator[None]:
    """Read on beside the test, until the answer is cut."""

    def read_on() -> None:
        with contextlib.suppress(CutError, OSError):
            while connection.read_some():
                pass

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        yield
    finally:
        reader.join()


def test_idle_server_ends(server: Server) -> None:
    assert_ends_well(server)


@servers_except(dict.fromkeys(("granian", "gunicorn"), reasons.KILLED))
def test_stream_that_ends_with_the_server_is_closed(server: Server) -> None:
    with Http1Connection(server.port) as connection:
        connection.start("GET", "/tick?key=tick")
        assert connection.read_head().status == 200
        with reading(connection):
            assert_ends_well(server)
    assert "closed tick" in server.log()


def test_server_with_a_stream_whose_client_reads_ends(server: Server) -> None:
    with Http1Connection(server.port) as connection:
        connection.start("GET", "/tick")
        assert connection.read_head().status == 200
        with reading(connection):
            assert_ends_well(server)


@servers_except(dict.fromkeys(("hypercorn", "hypercorn-trio"), reasons.UNREAD))
def test_server_with_a_stream_whose_client_does_not_read_ends(
    server: Server,
) -> None:
    with Http1Connection(server.port) as connection:
        connection.start("GET", "/flood")
        assert connection.read_head().status == 200

        assert_ends_well(server)


def test_server_with_a_stream_whose_client_left_ends(server: Server) -> None:
    with Http1Connection(server.port) as connection:
        connection.start("GET", "/tick?key=tick")
        assert connection.read_head().status == 200
        connection.leave()

    wait_until(lambda: "closed tick" in server.log(), "the stream is closed")
    assert_ends_well(server)


def test_server_with_an_app_that_never_returns_ends(server: Server) -> None:
    with Http1Connection(server.port) as present, Http1Connection(server.port) as left:
        for connection in (present, left):
            connection.start("GET", "/hold")
            assert connection.read_head().status == 200
        left.leave()

        assert_ends_well(server)


def test_server_with_an_upload_under_way_ends(server: Server) -> None:
    with Http1Connection(server.port) as connection:
        connection.start("POST", "/digest", [("content-length", "1000000")], end=False)
        connection.send(bytes(100_000))

        assert_ends_well(server)


# Granian and gunicorn never say that they stop while a client waits, and then kill.
@pytest.mark.parametrize(
    "stuck_server",
    [name for name in SERVERS if name not in {"daphne", "granian", "gunicorn"}],
    indirect=True,
)
def test_server_with_all_threads_stuck_runs_the_hooks_and_ends(
    stuck_server: Server,
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(Http1Connection(stuck_server.port))
            connection.start("GET", "/stick")
        assert_runs_the_hooks_and_ends(stuck_server)


@pytest.mark.parametrize(
    "stuck_server", [name for name in SERVERS if name != "daphne"], indirect=True
)
def test_server_with_all_threads_stuck_for_clients_that_left_runs_the_hooks_and_ends(
    stuck_server: Server,
) -> None:
    for _ in range(4):
        with Http1Connection(stuck_server.port) as connection:
            connection.start("GET", "/stick")
            connection.leave()
    assert_runs_the_hooks_and_ends(stuck_server)


def assert_runs_the_hooks_and_ends(server: Server) -> None:
    wait_until(lambda: server.log().count("stuck") == 2, "all threads are stuck")
    server.terminate()
    wait_until(server.is_gone, "all processes ended", within=EXIT_S + STUCK_GRACE_S)
    assert "the hook has run" in server.log()
