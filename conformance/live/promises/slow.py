"""Clients that are slow: they wait for themselves, and nobody else for them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from conformance.checking import expect, expect_equal, fail
from conformance.live import reasons
from conformance.live.applications import FLOOD_BYTES
from conformance.live.clients import Connection, read_body
from conformance.live.promising import promise
from conformance.live.site import TIMEOUT_S, Site

# More than the threads of the application called "small".
CLIENTS = 12
# Fewer, since each of these fills the buffers of the kernel.
STALLED = 4
# What may be made for a client that does not read; most of it is in the kernel.
AHEAD_BYTES = FLOOD_BYTES // 2
BODY_BYTES = 1000
MIB = 1024 * 1024


@contextmanager
def _stalled(site: Site, count: int, app: str) -> Iterator[list[Connection]]:
    """Start responses that are not read."""
    with ExitStack() as stack:
        connections = [stack.enter_context(site.connect()) for _ in range(count)]
        for number, connection in enumerate(connections, 1):
            site.start(connection, "/flood", app=app)
            try:
                site.expect_status(connection.read_head(), 200, "GET /flood")
            except TimeoutError:
                fail(
                    f"client {number} got no answer while those before it did not read"
                )
        yield connections


@promise(
    "PEP3333-streaming-02",
    "PRACTICE-streaming-06",
    impossible=reasons.DOES_NOT_HOLD_BACK,
)
def stalled_reader_is_waited_for(site: Site) -> None:
    """For a client that does not read, the application makes no more than fits."""
    with _stalled(site, 1, "plain"):
        made = site.wait_for_rest("bytes")
        expect(
            made < AHEAD_BYTES,
            f"{made / MIB:.0f} MiB were made for a client that does not read",
        )


@promise("PEP3333-iterable-04", "PEP3333-streaming-02")
def reader_that_pauses_gets_all(site: Site) -> None:
    """A client that pauses and then reads on gets all of the response."""
    with _stalled(site, 1, "plain") as (connection,):
        site.wait_for_rest("bytes")
        received = len(read_body(connection))
    expect_equal(received, FLOOD_BYTES, "the size of the body")


@promise("PRACTICE-load-03", impossible=reasons.DOES_NOT_HOLD_BACK)
def stalled_readers_starve_nobody(site: Site) -> None:
    """Readers that have stalled, more than there are threads, hold up no request."""
    with _stalled(site, STALLED, "small"):
        site.wait_for_rest("bytes")
        site.expect_quick_answer(f"while {STALLED} clients do not read their answers")


@promise("PRACTICE-load-03")
def idle_streams_starve_nobody(site: Site) -> None:
    """Streams that are open, more than there are threads, hold up no request."""
    with ExitStack() as stack:
        for number in range(1, CLIENTS + 1):
            connection = stack.enter_context(site.connect())
            try:
                site.open_stream(connection, "/tick?pause=0.3", app="small")
            except TimeoutError:
                fail(f"stream {number} got no answer while those before it were open")
        site.expect_quick_answer(f"while {CLIENTS} streams are open")


@promise("PRACTICE-streaming-05")
def slow_senders_starve_nobody(site: Site) -> None:
    """Clients that send short bodies slowly hold up no request, and are answered."""
    length = ("content-length", str(BODY_BYTES))
    with ExitStack() as stack:
        connections = [stack.enter_context(site.connect()) for _ in range(CLIENTS)]
        for connection in connections:
            site.start(
                connection, "/digest", length, app="small", method="POST", end=False
            )
            connection.send(b"x")
        if site.peer.name not in reasons.BUFFERS_UPLOADS:
            site.happens("arrived", CLIENTS, within=TIMEOUT_S)
        site.expect_quick_answer(f"while {CLIENTS} clients send slowly")
        for connection in connections:
            connection.send(b"x" * (BODY_BYTES - 1), end=True)
        for connection in connections:
            site.expect_status(connection.read_head(), 200, "a slow POST /digest")
            expect(
                b'"bytes": 1000' in read_body(connection),
                "not all of a slow body arrived",
            )
