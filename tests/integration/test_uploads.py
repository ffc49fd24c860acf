import contextlib
import json

import pytest

from conformance.live import reasons
from conformance.live.clients import read_body
from conformance.live.http1 import Http1Connection
from conformance.live.polling import wait_until
from tests.integration.apps import payload
from tests.integration.site import Site, peers_except

pytestmark = pytest.mark.integration

UPLOAD_BYTES = 20 * payload.MIB
BOUNDARY = "boundary-of-the-form"
MULTIPART = ("content-type", f"multipart/form-data; boundary={BOUNDARY}")
FORM_START = (
    f"--{BOUNDARY}\r\n"
    'Content-Disposition: form-data; name="file"; filename="cut.bin"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
).encode()

BOTH_FRAMEWORKS = pytest.mark.parametrize(
    ("app", "path"),
    [("flask", "/upload"), ("django", "/upload/")],
    ids=["flask", "django"],
)


def framing(site: Site, length: int | None) -> list[tuple[str, str]]:
    """Give the headers of a body, of no known length with None."""
    if length is not None:
        return [("content-length", str(length))]
    return [] if site.peer.http2 else [("transfer-encoding", "chunked")]


def streaming(site: Site, length: int | None) -> tuple[str, list[tuple[str, str]]]:
    """Name an application that a body streams to, and give the body's headers."""
    return "plain" if length else "plain-streaming", framing(site, length)


def test_form_reaches_flask(site: Site) -> None:
    with site.client("flask") as client:
        response = client.post("/form", data={"name": ["a", "b"], "word": "café"})

    assert response.json() == {"name": ["a", "b"], "word": ["café"]}


@BOTH_FRAMEWORKS
def test_large_file_in_a_form_reaches_the_framework(
    site: Site, app: str, path: str
) -> None:
    content = b"".join(payload.blocks(UPLOAD_BYTES))
    with site.client(app) as client:
        files = {"file": ("large.bin", content)}
        response = client.post(f"{path}?key={site.key}", files=files)

    assert response.json() == {
        "sha256": payload.digest(UPLOAD_BYTES),
        "bytes": UPLOAD_BYTES,
        "name": "large.bin",
    }


@pytest.mark.parametrize(
    ("app", "path"),
    [
        ("plain", "/digest"),
        ("plain-streaming", "/digest"),
        ("flask", "/raw"),
        ("django", "/raw/"),
    ],
    ids=["plain", "plain-streaming", "flask", "django"],
)
@pytest.mark.parametrize("total", [0, 1, 100_000, 5 * payload.MIB])
def test_body_of_undeclared_length_reaches_the_app_whole(
    site: Site, app: str, path: str, total: int
) -> None:
    with site.client(app) as client:
        response = client.post(path, content=payload.blocks(total))

    assert response.json() == {"sha256": payload.digest(total), "bytes": total}


@pytest.mark.parametrize(
    ("app", "path"),
    [("plain", "/digest"), ("flask", "/raw"), ("django", "/raw/")],
    ids=["plain", "flask", "django"],
)
def test_body_sent_byte_by_byte_reaches_the_app_whole(
    site: Site, app: str, path: str
) -> None:
    with site.connect() as connection:
        site.start(connection, app, path, ("content-length", "100"), end=False)
        for number in range(100):
            connection.send(b"x", end=number == 99)

        assert connection.read_head().status == 200
        assert json.loads(read_body(connection))["bytes"] == 100


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
@peers_except(reasons.BUFFERS_UPLOADS)
def test_body_reaches_the_app_before_its_last_byte_is_sent(
    site: Site, declared: bool
) -> None:
    total = 4 * payload.MIB
    pieces = list(payload.blocks(total))
    with site.connect() as connection:
        app, headers = streaming(site, total if declared else None)
        site.start(connection, app, "/digest?x=1", *headers, end=False)
        for piece in pieces[:8]:
            connection.send(piece)
        site.wait_for_event("reading")
        for piece in pieces[8:-1]:
            connection.send(piece)
        connection.send(pieces[-1], end=True)

        assert connection.read_head().status == 200
        assert payload.digest(total).encode() in read_body(connection)


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
@peers_except(reasons.BUFFERS_UPLOADS)
def test_client_that_leaves_in_mid_upload_is_an_os_error_in_the_app(
    site: Site, declared: bool
) -> None:
    app, headers = streaming(site, 1_000_000 if declared else None)
    with site.connect() as connection:
        site.start(connection, app, "/digest?x=1", *headers, end=False)
        connection.send(bytes(100_000))
        site.wait_for_event("reading")
        connection.leave()

    site.wait_for_event("OSError")
    site.wait_until_idle(app)
    assert "read" not in site.journal()
    site.assert_no_complaint()


@BOTH_FRAMEWORKS
@peers_except(reasons.BUFFERS_UPLOADS)
def test_client_that_leaves_in_mid_upload_leaves_no_stored_file(
    site: Site, app: str, path: str
) -> None:
    disconnected = site.stat(app, "disconnected")
    with site.connect() as connection:
        fields = [("content-length", "1000000"), MULTIPART]
        site.start(connection, app, path, *fields, end=False)
        connection.send(FORM_START + bytes(200_000))
        wait_until(lambda: site.stat(app, "busy") == 1, f"{app} reads")
        connection.leave()

    wait_until(
        lambda: site.stat(app, "disconnected") > disconnected, "the request is over"
    )
    site.wait_until_idle(app)
    assert "stored" not in site.journal()
    site.assert_no_complaint()


@peers_except(reasons.BUFFERS_UPLOADS)
def test_client_that_leaves_in_a_small_upload_never_reaches_the_app(
    site: Site,
) -> None:
    disconnected = site.stat("plain", "disconnected")
    with site.connect() as connection:
        length = ("content-length", "1000")
        site.start(connection, "plain", "/digest?x=1", length, end=False)
        connection.send(b"a beginning")
        site.wait_for_event("arrived")
        connection.leave()

    wait_until(
        lambda: site.stat("plain", "disconnected") > disconnected,
        "the request is over",
    )
    assert "called" not in site.journal()
    site.assert_no_complaint()


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
@peers_except(reasons.CONTINUES_BY_ITSELF)
def test_refusal_of_an_expected_body_comes_without_a_continue(
    site: Site, declared: bool
) -> None:
    app, headers = streaming(site, UPLOAD_BYTES if declared else None)
    with site.connect() as connection:
        expect = ("expect", "100-continue")
        site.start(connection, app, "/refuse", *headers, expect, end=False)

        head = connection.read_head()

    assert (head.status, head.interim) == (413, [])


@pytest.mark.parametrize("app", ["plain", "plain-streaming", "plain-whole"])
@pytest.mark.parametrize("length", [5, None], ids=["declared", "undeclared"])
@peers_except(reasons.NO_EXPECT)
def test_body_that_was_expected_and_is_read_is_continued(
    site: Site, app: str, length: int | None
) -> None:
    with site.connect() as connection:
        assert isinstance(connection, Http1Connection)
        fields = [*framing(site, length), ("expect", "100-continue")]
        site.start(connection, app, "/digest?x=1", *fields, end=False)
        connection.read_continue()
        connection.send(b"hello", end=True)

        assert connection.read_head().status == 200
        assert b'"bytes": 5' in read_body(connection)


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
@peers_except(reasons.BUFFERS_UPLOADS)
def test_refusal_reaches_a_client_that_has_more_to_send(
    site: Site, declared: bool
) -> None:
    app, headers = streaming(site, UPLOAD_BYTES if declared else None)
    with site.connect() as connection:
        site.start(connection, app, "/refuse", *headers, end=False)
        connection.send(bytes(1000))

        assert connection.read_head().status == 413
        assert read_body(connection) == b"too large"
    site.wait_until_idle(app)
    site.assert_no_complaint()


@peers_except(reasons.BUFFERS_UPLOADS | reasons.DROPS_LATE_DATA)
def test_refusal_reaches_a_client_that_sends_until_it_is_answered(site: Site) -> None:
    with site.connect() as connection:
        length = ("content-length", str(UPLOAD_BYTES))
        site.start(connection, "plain", "/refuse", length, end=False)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for block in payload.blocks(UPLOAD_BYTES):
                if connection.has_answer():
                    break
                connection.send(block)

        assert connection.read_head().status == 413
        assert read_body(connection) == b"too large"
    site.wait_until_idle("plain")
    site.assert_no_complaint()


def test_slow_senders_do_not_hold_up_a_quick_request(site: Site) -> None:
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(site.connect()) for _ in range(12)]
        length = ("content-length", "1000")
        for connection in connections:
            site.start(connection, "plain-narrow", "/digest?x=1", length, end=False)
        if site.peer.name != "daphne":  # which holds them back itself
            site.wait_for_event("arrived", 12)

        assert site.get("plain-narrow", "/hello").text == "hello"

        for connection in connections:
            connection.send(bytes(1000), end=True)
        for connection in connections:
            assert connection.read_head().status == 200
            assert b'"bytes": 1000' in read_body(connection)
