"""What arrives at either end: answers, and what the application is told."""

import json
from http import HTTPStatus

from conformance.checking import Failed, expect, expect_equal, fail
from conformance.live import reasons
from conformance.live.applications import COOKIES
from conformance.live.clients import Connection, CutError, Head, read_body
from conformance.live.http1 import Http1Connection
from conformance.live.http2 import Http2Connection
from conformance.live.promising import NotPossible, promise
from conformance.live.site import Site


@promise("PRACTICE-servers-01")
def get_is_answered(site: Site) -> None:
    """A GET is answered with the application's status, headers and body."""
    with site.connect() as connection:
        site.start(connection, "/hello")
        head = connection.read_head()
        site.expect_status(head, 200, "GET /hello")
        expect_equal(head.get("content-type"), "text/plain", "the Content-Type")
        expect_equal(head.get("content-length"), "5", "the Content-Length")
        expect_equal(read_body(connection), b"hello", "the body")


@promise("ASGI-HTTP-environ-03", "ASGI-HTTP-environ-05", "RFC3875-protocol-01")
def request_is_described(site: Site) -> None:
    """The environ names the client's address and the protocol that was spoken."""
    with site.connect() as connection:
        environ = json.loads(site.get(connection, "/environ?a=%E9"))
    expect_equal(environ.get("REMOTE_ADDR"), "127.0.0.1", "REMOTE_ADDR")
    expect_equal(environ.get("SERVER_PORT"), str(site.server.port), "SERVER_PORT")
    expect_equal(environ.get("QUERY_STRING"), "a=%E9", "QUERY_STRING")
    wanted = "HTTP/2.0" if site.peer.http2 else "HTTP/1.1"
    expect_equal(environ.get("SERVER_PROTOCOL"), wanted, "SERVER_PROTOCOL")


def _expect_path(site: Site, quoted: str, wanted: bytes) -> None:
    with site.connect() as connection:
        environ = json.loads(site.get(connection, f"/environ/{quoted}"))
    path = environ["PATH_INFO"].removeprefix("/environ/").encode("latin-1", "replace")
    expect_equal(path, wanted, f"the path that was sent as {quoted}")


@promise("ASGI-HTTP-path-02")
def path_in_utf8_arrives(site: Site) -> None:
    """A path in UTF-8 reaches the application as its bytes."""
    _expect_path(site, "caf%C3%A9/%E4%B8%AD", "café/中".encode())


@promise("ASGI-HTTP-path-03")
def path_of_other_bytes_arrives(site: Site) -> None:
    """Percent-encoded bytes that are no UTF-8 reach the application as they are."""
    _expect_path(site, "caf%E9/%FF", b"caf\xe9/\xff")


@promise("RFC9113-cookie-01")
def split_cookies_are_joined(site: Site) -> None:
    """Cookies in several fields, as HTTP/2 clients send them, are joined with "; "."""
    with site.connect() as connection:
        fields = [("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")]
        environ = json.loads(site.get(connection, "/environ", *fields))
    expect_equal(environ.get("HTTP_COOKIE"), "a=1; b=2; c=3; d=4", "HTTP_COOKIE")


@promise("ASGI-HTTP-start-01")
def set_cookies_stay_apart(site: Site) -> None:
    """Each Set-Cookie of the application arrives as a field of its own, in order."""
    with site.connect() as connection:
        site.start(connection, "/set-cookies")
        head = connection.read_head()
        read_body(connection)
    expect_equal(head.get_all("set-cookie"), list(COOKIES), "Set-Cookie")


def _expect_no_body(site: Site, connection: Connection, method: str, path: str) -> Head:
    """Expect an answer without a body, and that nothing of one is in the next."""
    site.start(connection, path, method=method)
    head = connection.read_head()
    what = f"{method} {path}"
    expect_equal(read_body(connection), b"", f"the body after {what}")
    if head.get("connection") == "close":
        if isinstance(connection, Http1Connection):
            expect_equal(connection.read_stray(), b"", f"what follows {what}")
        return head
    try:
        answer = site.get(connection, "/hello")
    except (CutError, Failed) as error:
        fail(f"after {what} the next request of the connection failed: {error}")
    expect_equal(answer, b"hello", f"the next answer of the connection after {what}")
    return head


@promise("RFC9110-head-01", "RFC9110-head-02")
def head_has_no_body(site: Site) -> None:
    """HEAD is answered without a body, and with the length that the GET has."""
    with site.connect() as connection:
        head = _expect_no_body(site, connection, "HEAD", "/hello")
    site.expect_status(head, 200, "HEAD /hello")
    expect_equal(head.get("content-length"), "5", "the Content-Length")


@promise("RFC9110-no-content-01")
def no_content_has_no_body(site: Site) -> None:
    """A 204 has no body on the wire, though the application gives one."""
    with site.connect() as connection:
        head = _expect_no_body(site, connection, "GET", "/stray?status=204")
    site.expect_status(head, 204, "GET /stray?status=204")
    expect_equal(head.get("content-length"), None, "the Content-Length of a 204")


@promise("RFC9110-not-modified-01")
def not_modified_has_no_body(site: Site) -> None:
    """A 304 has no body on the wire, though the application gives one."""
    with site.connect() as connection:
        head = _expect_no_body(site, connection, "GET", "/stray?status=304")
    site.expect_status(head, 304, "GET /stray?status=304")


@promise("PEP3333-errors-02", "RFC9110-disclosure-01")
def early_error_is_a_500(site: Site) -> None:
    """An error before the response is answered 500, without what it says."""
    with site.connect() as connection:
        site.start(connection, "/fail")
        head = connection.read_head()
        site.expect_status(head, 500, "a request whose application fails")
        expect(
            b"deliberate" not in read_body(connection),
            "the client was told the text of the application's exception",
        )


def _expect_cut(site: Site, path: str, after: str) -> None:
    with site.connect() as connection:
        site.start(connection, path)
        try:
            if connection.read_head().status >= 500:
                return  # it was seen early enough to say so
            body = read_body(connection)
        except CutError:
            return
        except TimeoutError:
            # Possible there only where the error is seen before any output.
            if reason := reasons.KEEPS_THE_CUT_OPEN.get(site.peer.name):
                raise NotPossible(reason) from None
            fail(f"the answer was neither ended nor cut after {after}")
    fail(f"the client got {body!r} as a complete answer after {after}")


@promise("PEP3333-errors-05", impossible=reasons.KEEPS_THE_CUT_OPEN)
def late_error_cuts_the_answer(site: Site) -> None:
    """An error in mid-response leaves the client with an answer that is visibly cut."""
    _expect_cut(site, "/fail-late", "an error of the application")


@promise("PEP3333-length-06")
def short_body_is_cut(site: Site) -> None:
    """A body that is shorter than its Content-Length is visibly cut, or a 500."""
    _expect_cut(site, "/fall-short", "5 of the 10 bytes that Content-Length announced")


@promise("PEP3333-streaming-01")
def stream_arrives_as_it_is_made(site: Site) -> None:
    """A chunk reaches the client while the application has yet to make the next."""
    with site.connect() as connection:
        site.start(connection, "/turns")
        try:
            connection.read_head()
            expect_equal(connection.read_some(), b"first", "the first piece")
        except TimeoutError:
            fail("the first chunk did not arrive before the second was made")
        finally:
            site.open_gate()
        expect_equal(read_body(connection), b"second", "the rest of the body")


def _expect_met(site: Site, head: Head) -> None:
    if head.status == HTTPStatus.CONFLICT:
        fail("the second request was not run while the first was in the application")
    site.expect_status(head, 200, "one of two requests that wait for each other")


@promise("PRACTICE-threads-02", "ASGI-MAIN-application-04")
def two_requests_run_at_once(site: Site) -> None:
    """Two requests run in the application at the same time."""
    with site.connect() as one, site.connect() as other:
        for connection in (one, other):
            site.start(connection, "/meet")
        for connection in (one, other):
            _expect_met(site, connection.read_head())


@promise("PRACTICE-threads-02", impossible=reasons.NO_STREAMS)
def two_streams_run_at_once(site: Site) -> None:
    """Two requests of one HTTP/2 connection run in the application at once."""
    with site.connect() as connection:
        assert isinstance(connection, Http2Connection)
        site.start(connection, "/meet")
        site.start(connection, "/meet")
        _expect_met(site, connection.read_head())
