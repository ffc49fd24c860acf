"""Each example, on a real uvicorn, is asked what its own page promises."""

import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from conformance.live.clients import read_body
from conformance.live.http2 import Http2Connection

ROOT = Path(__file__).parent.parent
MANY_BYTES = 3_000_000


@contextmanager
def serving(module: str, *options: str) -> Iterator[httpx.Client]:
    """Run an example on a free port; check that it ends cleanly and in silence."""
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", f"examples.{module}:app"]
        + ["--host", "127.0.0.1", "--port", "0", "--lifespan", "on"]
        + ["--timeout-graceful-shutdown", "5", "--no-access-log", *options],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr
    log = []
    try:
        for line in server.stderr:
            log.append(line)
            address = re.search(r"running on (http://[0-9.:]+)", line)
            if address:
                break
        else:
            pytest.fail("".join(log))
        with httpx.Client(base_url=address[1], timeout=20) as client:
            yield client
        # SIGINT, because after SIGTERM uvicorn ends itself by that signal.
        server.send_signal(signal.SIGINT)
        log += server.communicate(timeout=20)[1].splitlines(keepends=True)
        assert server.returncode == 0, "".join(log)
        assert not re.search("ERROR|Traceback|Warning", "".join(log)), "".join(log)
    finally:
        server.kill()
        server.communicate()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("module", "path", "answer"),
    [
        pytest.param("flask_app", "/", "Hello from Flask, 127.0.0.1\n", id="flask"),
        pytest.param(
            "starlette_mount",
            "/old/hello",
            "This page is /old/hello\n",
            id="flask below starlette",
        ),
        pytest.param(
            "fastapi_mount", "/", "Hello from Flask\n", id="flask beside fastapi"
        ),
        pytest.param(
            "bottle_app", "/hello/you", "Hello from Bottle, you\n", id="bottle"
        ),
        pytest.param(
            "pyramid_app", "/hello/you", "Hello from Pyramid, you\n", id="pyramid"
        ),
        pytest.param(
            "falcon_app", "/", '{"hello": "Falcon", "path": "/"}', id="falcon"
        ),
        pytest.param(
            "shared_threads", "/admin/", "One pool: True\n", id="shared threads"
        ),
        pytest.param(
            "hints_and_trailers", "/", "0,0\n1,1\n2,4\n", id="trailers, unoffered"
        ),
    ],
)
def test_example_get_answers(module: str, path: str, answer: str) -> None:
    with serving(module) as client:
        response = client.get(path)
    assert (response.status_code, response.text) == (200, answer)


@pytest.mark.integration
def test_websocket_example_echoes() -> None:
    with serving("websockets") as client:
        url = client.base_url.copy_with(scheme="ws", path="/echo")
        with connect(str(url), proxy=None) as websocket:
            websocket.send("Hello")
            assert websocket.recv(10) == "Hello"


@pytest.mark.integration
def test_hints_and_trailers_example_sends_both_over_http2() -> None:
    with serving("hints_and_trailers", "--http", "zttp", "--http2") as client:
        port = client.base_url.port
        assert port
        with Http2Connection(port) as connection:
            connection.start("GET", "/", [("te", "trailers")])
            links = connection.read_interim().get_all("link")
            assert links == ["</report.css>; rel=preload; as=style"]
            assert connection.read_head().status == 200
            checksum = hashlib.sha256(read_body(connection)).hexdigest()
            assert connection.trailers == [("x-checksum", checksum)]


@pytest.mark.integration
def test_django_example_body_without_length_is_read() -> None:
    with serving("django_app") as client:
        # An iterator makes httpx send the body in chunked coding.
        response = client.post("/", content=iter([b"abc", b"de"]))
    assert response.text == "Django read 5 bytes\n"


@pytest.mark.integration
def test_lifespan_example_folder_lives_as_long_as_the_server() -> None:
    with serving("lifespan_hooks") as client:
        folder = Path(client.get("/").text)
        assert folder.is_dir()
    assert not folder.exists()


@pytest.mark.integration
def test_showcase_page_holds_all_that_it_needs() -> None:
    with serving("showcase") as client:
        page = client.get("/")
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        links = re.findall(r'(?:href|src)="([^"]+)"', page.text)
        assert links
        # The stream never ends by itself; it has a test of its own.
        for link in set(links) - {"/ticks"}:
            assert link.startswith("/")
            assert client.get(link).status_code == 200
        # The page's script writes each count where it belongs.
        tiles = re.findall(r'id="stats-(\w+)"', page.text)
        assert sorted(tiles) == sorted(client.get("/stats").json())


@pytest.mark.integration
def test_showcase_guest_book_shows_what_was_written_escaped() -> None:
    with serving("showcase") as client:
        entry = {"name": "Ada", "message": "<script>1 < 2</script>"}
        redirect = client.post("/guest-book", data=entry)
        assert redirect.status_code == 303
        assert redirect.headers["location"] == "/#guest-book"
        page = client.get("/").text
        assert "&lt;script&gt;1 &lt; 2&lt;/script&gt;" in page
        assert "<script>1" not in page


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("", "Hello", id="no name"),
        pytest.param("Ada", "  ", id="blank message"),
        pytest.param("Ada", "x" * 281, id="message too long"),
    ],
)
def test_showcase_guest_book_bad_entry_is_refused(name: str, message: str) -> None:
    with serving("showcase") as client:
        response = client.post("/guest-book", data={"name": name, "message": message})
    assert response.status_code == 400
    assert 'role="alert"' in response.text


@pytest.mark.integration
@pytest.mark.parametrize("declared", [True, False], ids=["with length", "chunked"])
def test_showcase_upload_answers_size_and_digest(declared: bool) -> None:
    body = bytes(range(250)) * (MANY_BYTES // 250)
    pieces = (body[start : start + 10_000] for start in range(0, len(body), 10_000))
    with serving("showcase") as client:
        response = client.put("/digest", content=body if declared else pieces)
    assert response.json() == {
        "size": MANY_BYTES,
        "sha256": hashlib.sha256(body).hexdigest(),
    }


@pytest.mark.integration
def test_showcase_upload_broken_off_is_counted_and_not_logged() -> None:
    with serving("showcase") as client:
        url = client.base_url
        with socket.create_connection((url.host, url.port)) as connection:
            head = f"PUT /digest HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: 900000"
            connection.sendall(f"{head}\r\n\r\n".encode() + bytes(100_000))
        # The answer to this comes when the server has had a look at its sockets.
        while not client.get("/stats").json()["disconnected"]:
            pass


@pytest.mark.integration
def test_showcase_stream_ticks_and_ends_with_its_reader() -> None:
    def events(response: httpx.Response) -> Iterator[dict[str, object]]:
        for line in response.iter_lines():
            if line:
                yield json.loads(line.removeprefix("data: "))

    with (
        serving("showcase") as client,
        client.stream("GET", "/ticks") as other,
        client.stream("GET", "/ticks") as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        other_ticks, ticks = events(other), events(response)
        assert next(other_ticks)["number"] == 1
        assert [next(ticks)["number"], next(ticks)["number"]] == [1, 2]
        assert next(ticks)["open"] == 2
        other.close()
        # The generator that lost its reader sleeps for up to one tick more.
        assert any(tick["open"] == 1 for tick in islice(ticks, 5))
        response.close()
