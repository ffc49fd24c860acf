"""Clients that leave: their responses end, and their threads serve others."""

from contextlib import ExitStack

from conformance.checking import expect, expect_equal, fail
from conformance.live import reasons
from conformance.live.clients import Connection
from conformance.live.http2 import Http2Connection
from conformance.live.promising import promise
from conformance.live.site import SOON_S, TIMEOUT_S, Site

# More than the threads of the application called "small".
CLIENTS = 12
# Between two chunks of a stream that is mostly silent.
SILENCE_S = 0.4


def _expect_closed(
    site: Site, how: str, count: int = 1, within: float = SOON_S
) -> None:
    """Expect that close() was called, once for each client, and the request ended."""
    site.happens("closed", count, within=within)
    closed = site.count("closed")
    if count == 1:
        expect(closed, f"close() was not called within {within:g} s after {how}")
    expect_equal(closed, count, f"the count of calls of close() after {how}")
    expect(
        site.happens("over", count, within=within),
        f"the adapter did not return within {within:g} s after {how}",
    )


@promise("ASGI-HTTP-disconnect-07", "PEP3333-close-03")
def in_mid_stream(site: Site) -> None:
    """A client that leaves in mid-stream ends it: close() is called within a second."""
    with site.connect() as connection:
        site.open_stream(connection)
        connection.leave()
    _expect_closed(site, "the client has left")


@promise("ASGI-HTTP-disconnect-07", "PEP3333-close-03")
def with_a_reset(site: Site) -> None:
    """A client that crashes, which resets its connection, ends its stream as well."""
    with site.connect() as connection:
        site.open_stream(connection)
        connection.reset()
    _expect_closed(site, "the client has reset its connection")


@promise("ASGI-HTTP-disconnect-07", "PEP3333-close-03", impossible=reasons.NO_STREAMS)
def with_a_stream_reset(site: Site) -> None:
    """A client that resets its HTTP/2 stream ends it, and the connection goes on."""
    with site.connect() as connection:
        assert isinstance(connection, Http2Connection)
        site.open_stream(connection)
        connection.reset_stream()
        _expect_closed(site, "the client has reset its stream")
        answer = site.get(connection, "/hello")
        expect_equal(answer, b"hello", "the next answer of the connection")


@promise(
    "ASGI-HTTP-disconnect-07",
    "PEP3333-close-03",
    impossible=reasons.DOES_NOT_HOLD_BACK,
)
def without_reading(site: Site) -> None:
    """A stream that was held back by its client ends when that leaves."""
    with site.connect() as connection:
        site.start(connection, "/flood")
        site.expect_status(connection.read_head(), 200, "GET /flood")
        site.wait_for_rest("bytes")
        connection.leave()
    _expect_closed(site, "the client that did not read has left")


@promise("ASGI-HTTP-disconnect-08")
def between_chunks(site: Site) -> None:
    """A client that leaves a silent stream ends it before another chunk is made."""
    with site.connect() as connection:
        site.open_stream(connection, f"/tick?pause={SILENCE_S}")
        made = site.count("chunks")
        connection.leave()
    _expect_closed(site, "the client has left", within=SILENCE_S + SOON_S)
    more = site.count("chunks") - made
    expect(more <= 1, f"{more} more chunks were made after the client had left")


def _leave_before_the_answer(site: Site) -> bool:
    """Leave while the application makes the answer; True if the request ends."""
    with site.connect() as connection:
        site.start(connection, "/wait")
        expect(site.happens("called", within=TIMEOUT_S), "no call of the application")
        connection.leave()
    site.open_gate()
    # Long, since there are servers that let an adapter wait in its last send().
    return site.happens("over", within=2 * TIMEOUT_S)


@promise("ASGI-MAIN-application-01")
def before_the_answer(site: Site) -> None:
    """A client that leaves before its answer is there leaves no request behind."""
    expect(
        _leave_before_the_answer(site),
        f"the adapter had not returned {2 * TIMEOUT_S:g} s after the application had",
    )


@promise("ASGI-HTTP-disconnect-04")
def before_the_answer_is_no_error(site: Site) -> None:
    """A client that leaves before its answer is there is not reported as an error."""
    _leave_before_the_answer(site)
    _expect_no_complaint(site, "before its answer")


def _expect_no_complaint(site: Site, how: str) -> None:
    ended = site.happens("over")  # and whether it does is not the question here
    site.count("over")  # one more answer, for the log to be written
    site.expect_no_complaint(f"a client that left {how}")
    if not ended:
        site.server.kill()  # the next promise must not find what goes on there


@promise("ASGI-HTTP-disconnect-04")
def is_no_error(site: Site) -> None:
    """A client that leaves in mid-stream is not reported as an error."""
    with site.connect() as connection:
        site.open_stream(connection)
        connection.leave()
    _expect_no_complaint(site, "in mid-stream")


@promise("ASGI-HTTP-disconnect-04")
def with_a_reset_is_no_error(site: Site) -> None:
    """A client that resets its connection is not reported as an error."""
    with site.connect() as connection:
        site.open_stream(connection)
        connection.reset()
    _expect_no_complaint(site, "with a reset")


@promise("PRACTICE-survival-01", "PRACTICE-survival-02", "PRACTICE-survival-03")
def one_after_the_other(site: Site) -> None:
    """After 12 clients that left, more than there are threads, requests are served."""
    for number in range(1, CLIENTS + 1):
        with site.connect() as connection:
            try:
                site.open_stream(connection, app="small")
            except TimeoutError:
                fail(f"client {number} got no answer after those before it had left")
            connection.leave()
    _expect_closed(site, f"{CLIENTS} clients have left", CLIENTS)
    site.expect_quick_answer(f"after {CLIENTS} clients have left their streams")


def _open_streams(site: Site, stack: ExitStack, count: int) -> list[Connection]:
    connections = []
    for number in range(1, count + 1):
        connection = stack.enter_context(site.connect())
        try:
            site.open_stream(connection, app="small")
        except TimeoutError:
            fail(f"stream {number} got no answer while those before it were open")
        connections.append(connection)
    return connections


@promise("PRACTICE-load-03", "PRACTICE-survival-01")
def all_at_once(site: Site) -> None:
    """12 streams are open at once on two threads, and end when all clients leave."""
    with ExitStack() as stack:
        for connection in _open_streams(site, stack, CLIENTS):
            connection.leave()
    _expect_closed(site, f"{CLIENTS} clients left at once", CLIENTS)
    site.expect_quick_answer(f"after {CLIENTS} clients have left at once")
