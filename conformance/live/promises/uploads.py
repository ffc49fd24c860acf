"""Request bodies on their way: whole, in time, and never half of one for all."""

import hashlib
import json
from contextlib import suppress
from importlib.util import find_spec

from conformance.checking import expect, expect_equal
from conformance.live import reasons
from conformance.live.clients import Connection, read_body
from conformance.live.http1 import Http1Connection
from conformance.live.promising import NotPossible, promise
from conformance.live.site import SOON_S, TIMEOUT_S, Site

MIB = 1024 * 1024
BLOCK_BYTES = 65536
# More than what adapters and servers hold for one request.
LARGE_BYTES = 4 * MIB
DECLARED_BYTES = 1_000_000
SENT_BYTES = 200_000
# More than the threads of the application called "small".
CLIENTS = 12
# For what must not happen any more.
REST_S = 0.3


def _start(
    site: Site, connection: Connection, length: int | None, *, app: str = "plain"
) -> None:
    """Start an upload, whose length is not told if that is None."""
    fields = [] if length is None else [("content-length", str(length))]
    if length is None and isinstance(connection, Http1Connection):
        fields = [("transfer-encoding", "chunked")]
    site.start(connection, "/digest", *fields, app=app, method="POST", end=False)


def _expect_whole(site: Site, app: str, size: int, length: int | None) -> None:
    content = b"".join(bytes([n % 251]) * 997 for n in range(size // 997 + 1))[:size]
    with site.connect() as connection:
        _start(site, connection, length, app=app)
        for start in range(0, size, BLOCK_BYTES):
            connection.send(content[start : start + BLOCK_BYTES])
        connection.send(b"", end=True)
        site.expect_status(connection.read_head(), 200, f"POST /digest to {app}")
        seen = json.loads(read_body(connection))
    expect_equal(seen["bytes"], size, "the bytes that the application has read")
    wanted = hashlib.sha256(content).hexdigest()
    expect_equal(seen["sha256"], wanted, "the checksum of what it has read")


@promise("ASGI-HTTP-request-04")
def large_body_arrives_whole(site: Site) -> None:
    """A large body of declared length reaches the application as it was."""
    _expect_whole(site, "plain", LARGE_BYTES, LARGE_BYTES)


@promise("PRACTICE-input-01", "ASGI-HTTP-request-01")
def chunked_body_arrives_whole(site: Site) -> None:
    """A body without a length reaches the application whole, empty ones too."""
    for size in (0, 1, 100_000):
        _expect_whole(site, "plain", size, None)


@promise("PRACTICE-input-01")
def chunked_body_reaches_flask(site: Site) -> None:
    """A body without a length reaches Flask whole."""
    if not find_spec("flask"):
        raise NotPossible("Flask is not installed")
    _expect_whole(site, "flask", 100_000, None)


@promise("PRACTICE-streaming-01", impossible=reasons.BUFFERS_UPLOADS)
def body_arrives_as_it_is_sent(site: Site) -> None:
    """A large body reaches the application before its last byte is sent."""
    with site.connect() as connection:
        _start(site, connection, LARGE_BYTES)
        connection.send(bytes(SENT_BYTES))
        early = site.happens("reading")
        connection.send(bytes(LARGE_BYTES - SENT_BYTES), end=True)
        site.expect_status(connection.read_head(), 200, "POST /digest")
    expect(early, f"the application read nothing while {SENT_BYTES} bytes were there")


def _expect_os_error(site: Site, length: int | None, *, may_wait: bool) -> None:
    """Leave in mid-upload; an adapter that `may_wait` need not have called by then."""
    with site.connect() as connection:
        _start(site, connection, length)
        connection.send(bytes(SENT_BYTES))
        is_read = site.happens("reading", within=REST_S if may_wait else TIMEOUT_S)
        expect(
            is_read or may_wait,
            f"the application read nothing while {SENT_BYTES} bytes were there",
        )
        connection.leave()
    over = site.happens("over")
    is_read = is_read or site.count("reading") > 0
    ended = site.happens("met OSError") if is_read else True
    met = [event for event in site.noted() if event.startswith("met ")]
    expect(not site.count("read to the end"), "the half of a body was taken for all")
    if met and not ended:
        expect_equal(met, ["met OSError"], "what reading has raised")
    expect(ended, f"the application still read {SOON_S:g} s after the client had left")
    expect(over, f"the adapter did not return within {SOON_S:g} s")
    site.expect_no_complaint("a client that left in mid-upload")


@promise(
    "ASGI-HTTP-disconnect-02",
    "ASGI-HTTP-disconnect-03",
    "ASGI-HTTP-disconnect-04",
    impossible=reasons.BUFFERS_UPLOADS,
)
def leaving_is_an_os_error(site: Site) -> None:
    """A client that leaves in mid-upload is an OSError for the application."""
    _expect_os_error(site, DECLARED_BYTES, may_wait=False)


@promise(
    "ASGI-HTTP-disconnect-03",
    "PEP3333-input-18",
    impossible=reasons.BUFFERS_UPLOADS,
)
def leaving_a_chunked_body_is_an_os_error(site: Site) -> None:
    """The same holds for a body without a length, if it is not received whole first."""
    _expect_os_error(site, None, may_wait=True)


@promise("ASGI-HTTP-disconnect-01")
def half_a_body_is_never_whole(site: Site) -> None:
    """A body that breaks off is never taken for a complete one, however short it is."""
    for length in (DECLARED_BYTES, 1000, None):
        for leave in (Connection.leave, Connection.reset):
            with site.connect() as connection:
                _start(site, connection, length)
                connection.send(b"a beginning")
                site.happens("arrived", within=REST_S)
                leave(connection)
    site.happens("read to the end", within=REST_S)
    taken = site.count("read to the end")
    expect(not taken, f"{taken} of 6 bodies that broke off were taken for complete")


@promise("PRACTICE-survival-01", "ASGI-HTTP-disconnect-02")
def many_that_leave_free_their_threads(site: Site) -> None:
    """After 12 uploads that broke off, more than there are threads, all is well."""
    for _ in range(CLIENTS):
        with site.connect() as connection:
            _start(site, connection, DECLARED_BYTES, app="small")
            connection.send(bytes(SENT_BYTES))
            connection.leave()
    arrived = site.count("arrived")  # on some servers none of them does
    site.happens("over", arrived)
    left = arrived - site.count("over")
    expect(not left, f"{left} of {arrived} requests go on, whose clients have left")
    site.expect_quick_answer(f"after {CLIENTS} clients have left their uploads")


@promise("PEP3333-continue-01", impossible=reasons.NO_EXPECT)
def body_that_is_read_is_continued(site: Site) -> None:
    """A client that expects 100 Continue gets it when the application reads."""
    with site.connect() as connection:
        assert isinstance(connection, Http1Connection)
        fields = [("content-length", "5"), ("expect", "100-continue")]
        site.start(connection, "/digest", *fields, method="POST", end=False)
        connection.read_continue()
        connection.send(b"hello", end=True)
        site.expect_status(connection.read_head(), 200, "POST /digest")
        seen = json.loads(read_body(connection))
    expect_equal(seen["bytes"], 5, "the bytes that the application has read")


@promise("PEP3333-continue-01", impossible=reasons.CONTINUES_BY_ITSELF)
def refused_body_is_not_continued(site: Site) -> None:
    """An application that refuses a body without reading it spares the client that."""
    with site.connect() as connection:
        fields = [("content-length", str(LARGE_BYTES)), ("expect", "100-continue")]
        site.start(connection, "/refuse", *fields, method="POST", end=False)
        head = connection.read_head()
    site.expect_status(head, 413, "POST /refuse")
    expect_equal(head.interim, [], "the interim answers before a refusal")


@promise(
    "RFC9110-early-response-01",
    impossible=reasons.BUFFERS_UPLOADS | reasons.DROPS_LATE_DATA,
)
def refusal_reaches_a_sender(site: Site) -> None:
    """A refusal reaches a client that goes on sending until it is answered."""
    with site.connect() as connection:
        length = ("content-length", str(4 * LARGE_BYTES))
        site.start(connection, "/refuse", length, method="POST", end=False)
        with suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(4 * LARGE_BYTES // BLOCK_BYTES):
                if connection.has_answer():
                    break
                connection.send(bytes(BLOCK_BYTES))
        site.expect_status(connection.read_head(), 413, "POST /refuse")
        expect_equal(read_body(connection), b"too large", "the body of the refusal")
