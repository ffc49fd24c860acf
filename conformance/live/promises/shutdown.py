"""The end of the process: a server that is asked to end does so.

Each of these promises has a server of its own.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from conformance.checking import expect, fail
from conformance.live import reasons
from conformance.live.clients import Connection, CutError, read_body
from conformance.live.polling import NotInTimeError, wait_until
from conformance.live.processes import tracebacks
from conformance.live.promising import promise
from conformance.live.servers import GRACE_S
from conformance.live.site import TIMEOUT_S, Site
from conformance.timing import PATIENCE

# Beyond the grace time, for a server that has nothing to wait for.
EXIT_S = GRACE_S + 5.0 * PATIENCE
# For an adapter that gives applications some time to end. Supervisors lose patience
# after 30 seconds.
LAST_EXIT_S = GRACE_S + 14.0 * PATIENCE


def _expect_end(site: Site, situation: str, within: float = EXIT_S) -> None:
    site.server.terminate()
    try:
        wait_until(site.server.is_gone, "the end", within=within)
    except NotInTimeError:
        fail(f"the server had not ended {within:g} s after SIGTERM, {situation}")


@contextmanager
def _reading(connection: Connection) -> Iterator[None]:
    """Read on beside the promise, until the answer ends or is cut."""

    def read_on() -> None:
        with suppress(CutError, OSError, ValueError):
            read_body(connection)

    reader = threading.Thread(target=read_on, daemon=True)
    reader.start()
    try:
        yield
    finally:
        connection.socket.close()
        reader.join(TIMEOUT_S)


@promise("PRACTICE-exit-01", "ASGI-LIFESPAN-scope-01", own_server=True)
def idle(site: Site) -> None:
    """A server that has served requests ends upon SIGTERM, without a traceback."""
    for _ in range(5):
        site.expect_quick_answer("before the end", app="plain")
    _expect_end(site, "with nothing to do")
    found = [one for one in tracebacks(site.log()) if "CancelledError" not in one]
    if found:
        fail(f"it said at its end: {found[0].splitlines()[-1]}")


@promise("PRACTICE-exit-02", own_server=True)
def with_a_stream(site: Site) -> None:
    """A server with a stream that is being read ends upon SIGTERM."""
    with site.connect() as connection:
        site.open_stream(connection)
        with _reading(connection):
            _expect_end(site, "with a stream that was being read")


@promise(
    "PRACTICE-exit-02",
    "PRACTICE-cancel-01",
    own_server=True,
    impossible=reasons.KILLS_WORKERS,
)
def stream_is_closed(site: Site) -> None:
    """The iterable of a stream that ends with the server is closed."""
    with site.connect() as connection:
        site.open_stream(connection)
        with _reading(connection):
            _expect_end(site, "with a stream that was being read")
    expect(
        f"closed {site.key}" in site.log(),
        "close() was not called before the process ended",
    )


@promise("PRACTICE-exit-02", own_server=True, impossible=reasons.WAITS_FOR_READERS)
def with_a_stalled_reader(site: Site) -> None:
    """A server with a stream that nobody reads ends upon SIGTERM."""
    with site.connect() as connection:
        site.start(connection, "/flood")
        site.expect_status(connection.read_head(), 200, "GET /flood")
        site.wait_for_rest("bytes")
        _expect_end(site, "with a stream that nobody reads")


@promise(
    "PRACTICE-exit-03",
    own_server=True,
    impossible=reasons.GOES_ON_AFTER_A_CANCEL,
)
def with_a_request_that_waits(site: Site) -> None:
    """A server with a request that waits in the application ends upon SIGTERM."""
    with site.connect() as connection:
        site.start(connection, "/wait")
        expect(site.happens("called", within=TIMEOUT_S), "no call of the application")
        _expect_end(site, "with a request that waits in the application", LAST_EXIT_S)


@promise(
    "PRACTICE-exit-03",
    own_server=True,
    impossible=reasons.GOES_ON_AFTER_A_CANCEL,
)
def with_an_upload(site: Site) -> None:
    """A server with an upload under way ends upon SIGTERM."""
    with site.connect() as connection:
        length = ("content-length", "1000000")
        site.start(connection, "/digest", length, method="POST", end=False)
        connection.send(bytes(100_000))
        if site.peer.name not in reasons.BUFFERS_UPLOADS:
            site.happens("reading", within=TIMEOUT_S)
        _expect_end(site, "with an upload under way")
