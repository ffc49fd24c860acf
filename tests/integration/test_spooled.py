"""Bodies without Content-Length reach applications that know none such."""

import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from conformance.live import reasons
from conformance.live.clients import Connection, read_body
from conformance.live.polling import wait_until
from tests.integration.apps import payload, plain
from tests.integration.site import Site, only_peers, peers_except

pytestmark = pytest.mark.integration

# A chunked body, and one whose end HTTP/2 marks.
on_both_protocols = only_peers("uvicorn-h11", "hypercorn-http2")
on_http_1 = only_peers("uvicorn-h11", "granian-http1")

FRAMEWORKS = ("django", "flask", "bottle", "pyramid", "falcon", "cherrypy")
STREAMING = ("flask-streaming", "cherrypy-streaming")
FILE_BYTES = 300_000


def post(site: Site, app: str, path: str, **fields: Any) -> httpx.Response:
    """Send what httpx makes of the fields, and do not say how long it is."""
    path += f"/?key={site.key}" if app == "django" else f"?key={site.key}"
    with site.client(app) as client:
        request = client.build_request("POST", path, **fields)
        body = request.read()
        blocks = (body[at : at + 10_000] for at in range(0, len(body), 10_000))
        headers = {
            name: value
            for name, value in request.headers.items()
            if name == "content-type"
        }
        response = client.post(path, content=blocks, headers=headers)
        assert "content-length" not in response.request.headers
        return response


def assert_all_kinds_arrive(site: Site, app: str) -> None:
    content = b"".join(payload.blocks(FILE_BYTES))
    answer = {"sha256": payload.digest(FILE_BYTES), "bytes": FILE_BYTES}

    assert post(site, app, "/form", data={"word": "héllo"}).json() == {
        "word": ["héllo"]
    }
    file = {"file": ("some.bin", content)}
    assert post(site, app, "/upload", files=file).json() == answer | {
        "name": "some.bin"
    }
    assert post(site, app, "/raw", content=content).json() == answer
    site.wait_until_idle(app)
    site.assert_no_complaint()


@on_both_protocols
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_body_without_a_length_reaches_the_framework(
    site: Site, framework: str
) -> None:
    assert_all_kinds_arrive(site, framework)


@on_http_1
@pytest.mark.parametrize("framework", STREAMING)
def test_chunked_body_that_streams_reaches_the_framework(
    site: Site, framework: str
) -> None:
    assert_all_kinds_arrive(site, framework)


@on_both_protocols
@pytest.mark.parametrize("size", [0, 1, FILE_BYTES])
def test_file_put_without_a_length_is_stored_by_webdav(site: Site, size: int) -> None:
    with site.client("wsgidav") as client:
        path = f"/{site.key}.bin"
        response = client.put(path, content=payload.blocks(size))
        assert response.status_code == 201
        assert client.get(path).content == b"".join(payload.blocks(size))
        assert client.delete(path).status_code == 204
    site.assert_no_complaint()


def git(folder: Path, *arguments: str) -> str:
    """Have git do something, and give what it says."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        # It says what it sends, but not the body.
        "GIT_TRACE_CURL": "1",
        "GIT_TRACE_CURL_NO_DATA": "1",
        **{
            f"GIT_{who}_{what}": "somebody@localhost"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@only_peers("uvicorn-h11", "uvicorn-httptools-uvloop", "hypercorn-http1")
def test_git_pushes_3_mb_in_chunks(site: Site, tmp_path: Path) -> None:
    branch = f"branch-{site.key}"
    git(tmp_path, "init", "--quiet", "--initial-branch", branch)
    (tmp_path / "large.bin").write_bytes(os.urandom(3 * payload.MIB))
    git(tmp_path, "add", "large.bin")
    git(tmp_path, "commit", "--quiet", "--message", "Add a large file")

    remote = f"{site.server.url}/"
    header = ("-c", "http.extraHeader=x-app: dulwich")
    said = git(tmp_path, *header, "push", "--quiet", remote, branch)
    assert "transfer-encoding: chunked" in said.lower()

    clone = tmp_path / "clone"
    git(tmp_path, *header, "clone", "--quiet", "--branch", branch, remote, str(clone))
    stored = (clone / "large.bin").read_bytes()
    assert stored == (tmp_path / "large.bin").read_bytes()
    site.wait_until_idle("dulwich")
    site.assert_no_complaint()


# What is received whole, and how much.


def framing(site: Site, length: int | None) -> list[tuple[str, str]]:
    """Give the headers of a body, of no known length with None."""
    if length is not None:
        return [("content-length", str(length))]
    return [] if site.peer.http2 else [("transfer-encoding", "chunked")]


def send(connection: Connection, total: int, *, end: bool) -> None:
    """Send a body whose last byte comes alone."""
    for block in payload.blocks(total - 1):
        connection.send(block)
    connection.send(b"!", end=end)


@pytest.mark.parametrize(
    ("app", "length"),
    [
        pytest.param("plain", None, id="of no known length"),
        pytest.param("plain-whole", FILE_BYTES, id="as all are"),
        pytest.param("plain-choosing", FILE_BYTES, id="as a callable has it"),
    ],
)
@peers_except(reasons.BUFFERS_UPLOADS)
def test_body_is_whole_before_the_application_runs(
    site: Site, app: str, length: int | None
) -> None:
    with site.connect() as connection:
        headers = framing(site, length)
        site.start(connection, app, "/digest?x=1", *headers, end=False)
        connection.send(bytes(FILE_BYTES - 1))
        site.wait_for_event("arrived")
        assert "called" not in site.journal()
        assert site.stat(app, "busy") == 0
        connection.send(b"!", end=True)

        assert connection.read_head().status == 200
        assert f'"bytes": {FILE_BYTES}'.encode() in read_body(connection)
    site.wait_until_idle(app)
    site.assert_no_complaint()


@pytest.mark.parametrize("length", [FILE_BYTES, None], ids=["declared", "undeclared"])
@peers_except(reasons.BUFFERS_UPLOADS)
def test_callable_lets_a_body_be_refused_early(site: Site, length: int | None) -> None:
    with site.connect() as connection:
        headers = framing(site, length)
        site.start(connection, "plain-choosing", "/refuse", *headers, end=False)
        connection.send(b"some of it")

        assert connection.read_head().status == 413
        assert read_body(connection) == b"too large"


@pytest.mark.parametrize(
    ("app", "most"),
    [("plain-bounded", plain.SPOOL_BYTES), ("plain-limited", plain.BODY_BYTES)],
    ids=["a spool", "a body"],
)
def test_body_without_a_length_that_is_too_long_is_answered_413(
    site: Site, app: str, most: int
) -> None:
    # The first stays open meanwhile: Hypercorn on trio makes an error of a client that
    # leaves while it ends a response.
    with site.connect() as first, site.connect() as second:
        site.start(first, app, "/digest?x=1", *framing(site, None), end=False)
        send(first, most + 1, end=site.peer.name in reasons.BUFFERS_UPLOADS)

        assert first.read_head().status == 413
        assert f"longer than {most} bytes".encode() in read_body(first)
        assert "called" not in site.journal()

        site.start(second, app, "/digest?x=1", *framing(site, None), end=False)
        send(second, most, end=True)

        assert second.read_head().status == 200
        assert f'"bytes": {most}'.encode() in read_body(second)
    site.wait_until_idle(app)
    site.assert_no_complaint()


@peers_except(reasons.DROPS_LATE_DATA)
def test_body_is_answered_503_until_there_is_room_for_it(site: Site) -> None:
    app, size = "plain-bounded", plain.SPOOL_BYTES
    # There is room for all but the last byte, so nothing comes after the answer.
    beyond = plain.SPOOL_TOTAL_BYTES - size + 1
    with site.connect() as first, site.connect() as second:
        site.start(first, app, "/meet", *framing(site, None), end=False)
        send(first, size, end=True)
        wait_until(lambda: site.stat(app, "busy") == 1, "the first is there")

        site.start(second, app, "/digest?x=1", *framing(site, None), end=False)
        send(second, beyond, end=True)
        head = second.read_head()
        assert (head.status, head.get("retry-after")) == (503, "10")
        assert b"no room for the request body" in read_body(second)
        assert "called" not in site.journal()

        assert site.get(app, f"/meet?key={site.key}").text == "met"
        assert first.read_head().status == 200
    site.wait_until_idle(app)
    with site.connect() as third:
        site.start(third, app, "/digest?x=1", *framing(site, None), end=False)
        send(third, beyond, end=True)

        assert third.read_head().status == 200
        assert f'"bytes": {beyond}'.encode() in read_body(third)
    site.assert_no_complaint()
