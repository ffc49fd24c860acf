"""Many clients that announce a body and send next to nothing of it, on real servers."""

import contextlib
import socket
from collections.abc import Iterator

import h2.config
import h2.connection
import httpx
import pytest

from conformance.live.polling import wait_until
from conformance.live.processes import Server, running, tracebacks
from conformance.live.reasons import BUFFERS_UPLOADS
from conformance.live.servers import PEERS, Peer
from tests.integration.site import NO_TLS, STRAY
from wsgi_asgi import Limits

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

APP = "tests.integration.apps.slow_uploads:app"
MANY = 500
# The system takes a second to ask again where a server has not accepted this many.
BACKLOG = 40
THREADS = 40
# The pool's injector, threads that write files, and those of the server itself.
OTHER_THREADS = 12

Headers = list[tuple[str, str]]

# What the clients say of the body, and what they send of it.
WAYS: dict[str, tuple[Headers, bytes]] = {
    "announced": ([("content-length", "70000")], b"x"),
    "chunked": ([("transfer-encoding", "chunked")], b"x"),
    "expected": ([("content-length", "5"), ("expect", "100-continue")], b""),
    "silent": ([("content-length", "70000")], b""),
}
in_each_way = pytest.mark.parametrize("way", WAYS)
# Over HTTP/2, where a request with any method may have a body that nothing announces.
WITHOUT_AN_END = "without an end"


class Site:
    def __init__(self, peer: Peer, server: Server) -> None:
        self.peer = peer
        self.server = server

    def get(self, path: str) -> dict[str, int]:
        with httpx.Client(
            http1=not self.peer.http2,
            http2=self.peer.http2,
            timeout=10,
            trust_env=False,
            verify=NO_TLS,
        ) as client:
            response = client.get(self.server.url + path)
            assert response.status_code == 200
            found: dict[str, int] = response.json()
            return found

    def stats(self, path: str) -> dict[str, int]:
        return self.get(f"/stats{path}")

    def request(self, path: str, way: str) -> bytes:
        """Give the bytes that a client of one way ever sends."""
        if way == WITHOUT_AN_END:
            return self._request_2("GET", path, [], b"")
        headers, body = WAYS[way]
        if self.peer.http2:
            return self._request_2("POST", path, headers, body)
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode()
        if way == "chunked":
            body = b"%x\r\n%b\r\n" % (len(body), body)
        return head + body

    def _request_2(
        self, method: str, path: str, headers: Headers, body: bytes
    ) -> bytes:
        state = h2.connection.H2Connection(h2.config.H2Configuration())
        state.initiate_connection()
        fields = [
            (":method", method),
            (":path", path),
            (":scheme", "http"),
            (":authority", "localhost"),
            # There every body has chunks of its own.
            *[field for field in headers if field[0] != "transfer-encoding"],
        ]
        state.send_headers(1, fields)
        if body:
            state.send_data(1, body)
        return state.data_to_send()

    def wait_until_idle(self, path: str) -> None:
        def is_idle() -> bool:
            stats = self.stats(path)
            held = ("busy", "queued", "uploads", "spooled")
            return not any(stats[name] for name in held)

        wait_until(is_idle, f"{path} holds nothing", within=20)


@pytest.fixture(scope="module", params=PEERS, ids=lambda peer: peer.name)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    peer: Peer = request.param
    with running(peer.server, APP, tmp_path_factory.mktemp(peer.name)) as server:
        site = Site(peer, server)
        yield site
    log = server.log()
    assert not STRAY.search(log), log
    assert not [one for one in tracebacks(log) if "wsgi_asgi" in one], log


@contextlib.contextmanager
def many_clients(site: Site, path: str, way: str) -> Iterator[None]:
    """Have many clients begin an upload and stop, for as long as the block takes."""
    before = site.stats(path)["arrived"]
    request = site.request(path, way)
    with contextlib.ExitStack() as stack:
        for number in range(MANY):
            if number % BACKLOG == 0:
                site.stats(path)  # by then it has accepted all that were before
            client = stack.enter_context(
                socket.create_connection(("127.0.0.1", site.server.port), timeout=20)
            )
            client.sendall(request)
        if site.peer.name not in BUFFERS_UPLOADS:
            wait_until(
                lambda: site.stats(path)["arrived"] - before >= MANY,
                "all have arrived",
                within=30,
            )
        yield


def assert_others_are_served(site: Site, path: str, way: str, most: int) -> None:
    """Have many clients upload slowly, and see that nobody is kept from running.

    Args:
        site: The server.
        path: That of the adapter.
        way: How the clients upload.
        most: How many threads may come to those that the process has anyhow.
    """
    assert site.get(path) == {"bytes": 0}
    before = site.stats(path)["process threads"]
    with many_clients(site, path, way):
        for _ in range(3):
            assert site.get(path) == {"bytes": 0}
        assert site.stats(path)["process threads"] - before <= most
    site.wait_until_idle(path)
    assert site.get(path) == {"bytes": 0}


@in_each_way
def test_slow_uploads_keep_no_quick_request_from_running(site: Site, way: str) -> None:
    most = THREADS + Limits().uploads + OTHER_THREADS
    assert_others_are_served(site, "/default", way, most)


def test_slow_uploads_that_stream_keep_no_quick_request_from_running(
    site: Site,
) -> None:
    most = THREADS + Limits().uploads + OTHER_THREADS
    assert_others_are_served(site, "/streaming", "chunked", most)


def test_requests_without_an_end_keep_no_quick_request_from_running(
    site: Site,
) -> None:
    if not site.peer.http2:
        pytest.skip("HTTP/1.1 has no body that no header announces")
    most = THREADS + Limits().uploads + OTHER_THREADS
    assert_others_are_served(site, "/default", WITHOUT_AN_END, most)
    assert_others_are_served(site, "/one-thread", WITHOUT_AN_END, OTHER_THREADS)


def only(name: str) -> pytest.MarkDecorator:
    [peer] = [peer for peer in PEERS if peer.name == name]
    return pytest.mark.parametrize("site", [peer], ids=[name], indirect=True)


@only("uvicorn-h11")
@in_each_way
@pytest.mark.parametrize(("path", "threads"), [("/one-thread", 1), ("/executor", 4)])
def test_slow_uploads_take_none_of_few_threads(
    site: Site, way: str, path: str, threads: int
) -> None:
    assert_others_are_served(site, path, way, threads + OTHER_THREADS)
