"""WebSockets over HTTP/2 (RFC 8441), which Hypercorn speaks."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from wsproto.events import CloseConnection, Pong

from conformance.live.polling import wait_until
from conformance.live.processes import tracebacks
from conformance.live.servers import GRACE_S
from tests.integration.apps.websockets import SHUTDOWN_S
from tests.integration.http2_websockets import (
    Http2Connection,
    StreamLost,
    WebSocketStream,
)
from tests.integration.websocket_site import Site, serving

pytestmark = pytest.mark.integration

# Of windows of 64 KiB, which is what h2 begins with (RFC 9113 6.9.2).
LARGE_BYTES = 4 << 20
SERVERS = ("hypercorn", "hypercorn-trio")
ECHOES = ("/sock/echo", "/messages/echo", "/ping/echo")


@pytest.fixture(scope="module", params=SERVERS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with serving(request.param, tmp_path_factory.mktemp("http2")) as site:
        yield site
        site.wait_until_idle()
        traces = tracebacks(site.server.log())
        assert not [trace for trace in traces if "the view has failed" not in trace]


@pytest.fixture
def connection(site: Site) -> Iterator[Http2Connection]:
    with Http2Connection(site.server.port) as connection:
        yield connection


def closed_by_server(client: WebSocketStream) -> tuple[int, str | None]:
    """Wait for the close, answer it, and see the stream end."""
    close = client.receive()
    assert isinstance(close, CloseConnection)
    client.answer_close(close)
    assert client.stream.read() == b""
    return close.code, close.reason


@pytest.mark.parametrize("path", ECHOES)
def test_messages_of_all_sizes_come_back(
    connection: Http2Connection, path: str
) -> None:
    client = connection.websocket(path).accepted()
    for message in ("", b"", "a", b"\0", "é" * 100, b"\xff" * 125, "x" * 126):
        client.send(message)
        assert client.receive() == message
    for size in (65535, 65536, 1_000_000):
        client.send(bytes(size))
        assert client.receive() == bytes(size)
    client.close(1000)
    assert client.receive() == CloseConnection(1000, "")


@pytest.mark.parametrize("path", ["/sock/echo", "/messages/echo"])
def test_message_of_many_windows_comes_back(
    connection: Http2Connection, path: str
) -> None:
    client = connection.websocket(path).accepted()
    data = b"0123456789abcdef" * (LARGE_BYTES // 16)
    client.send(data, fragments=7)
    assert client.receive() == data
    client.close(1000)
    assert client.receive() == CloseConnection(1000, "")


def test_fragments_and_pings_of_the_client_are_the_servers(
    connection: Http2Connection,
) -> None:
    client = connection.websocket("/sock/echo").accepted()
    client.ping(b"are you there")
    assert client.receive() == Pong(b"are you there")
    client.send("one two three", fragments=3)
    assert client.receive() == "one two three"
    client.close(1000)


def test_subprotocol_is_the_applications_choice(connection: Http2Connection) -> None:
    client = connection.websocket("/sock/subprotocol", "chat.v1", "chat.v2").accepted()
    assert client.subprotocol == client.receive() == "chat.v1"
    assert closed_by_server(client) == (1000, "")

    client = connection.websocket("/messages/101", "chat.v1", "chat.v2").accepted()
    assert client.subprotocol == "chat.v2"
    assert client.stream.headers["x-node"] == "7"


def test_headers_of_the_upgrade_are_the_adapters_alone(
    connection: Http2Connection,
) -> None:
    # RFC 8441 5: neither side sends what HTTP/1.1 upgrades by.
    client = connection.websocket("/messages/101", "chat").accepted()
    assert not {"upgrade", "connection"} & client.stream.headers.keys()
    assert "sec-websocket-accept" not in client.stream.headers
    key = client.receive()
    assert isinstance(key, str)
    assert len(key) == 24  # RFC 6455 4.1: 16 bytes in base 64


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param("/sock/bye", (4001, "bye"), id="closed by the view"),
        pytest.param("/sock/fail", (1011, ""), id="view failed"),
    ],
)
def test_close_code_of_the_application_reaches_the_client(
    connection: Http2Connection, path: str, code: tuple[int, str]
) -> None:
    client = connection.websocket(path).accepted()
    assert closed_by_server(client) == code


def test_messages_before_the_close_arrive(connection: Http2Connection) -> None:
    client = connection.websocket("/sock/count").accepted()
    assert [client.receive() for _ in range(100)] == list(map(str, range(100)))
    assert closed_by_server(client) == (1000, "")


def test_close_of_the_client_reaches_the_application(
    site: Site, connection: Http2Connection
) -> None:
    client = connection.websocket("/messages/code").accepted()
    client.send("hello")
    client.close(4002, "enough")
    assert client.receive() == CloseConnection(4002, "enough")
    site.wait_until_idle()
    # Hypercorn keeps the code to itself.
    assert site.get("/last-close") == repr([(1006, "")]).encode()


@pytest.mark.parametrize(
    ("path", "status"),
    [("/none", 404), ("/sock/forbidden", 451), ("/stats", 400), ("/flooded", 403)],
    ids=["not found", "forbidden", "no WebSocket", "200, which would be acceptance"],
)
def test_refusal_is_the_applications_answer(
    connection: Http2Connection, path: str, status: int
) -> None:
    client = connection.websocket(path)
    assert client.stream.wait_for_head() == status
    assert (b"<title>" in client.stream.read_all()) is (status != 403)


def test_slow_acceptance_is_waited_for(connection: Http2Connection) -> None:
    client = connection.websocket("/messages/nap").accepted()
    assert client.receive() == "awake"


@pytest.mark.parametrize("path", ECHOES)
def test_stream_that_is_reset_frees_the_thread(
    site: Site, connection: Http2Connection, path: str
) -> None:
    client = connection.websocket(path).accepted()
    client.send("hello")
    assert client.receive() == "hello"
    client.stream.reset()
    site.wait_until_idle()
    answer = connection.request("/stats")
    assert answer.wait_for_head() == 200
    assert json.loads(answer.read_all())["websockets"] == 0


def test_stream_that_is_reset_before_it_is_accepted_frees_the_thread(
    site: Site, connection: Http2Connection
) -> None:
    client = connection.websocket("/messages/nap")
    wait_until(lambda: site.stat("busy") == 2, "the application runs")
    client.stream.reset()
    wait_until(lambda: site.stat("busy") == 1, "no request but this holds a thread")
    site.wait_until_idle()


@pytest.mark.parametrize("leave", ["reset", "end"])
def test_connection_that_is_lost_frees_all_its_threads(site: Site, leave: str) -> None:
    with Http2Connection(site.server.port) as connection:
        clients = [connection.websocket(path).accepted() for path in ECHOES]
        for client in clients:
            client.send("hello")
            assert client.receive() == "hello"
        assert site.stat("websockets") == len(ECHOES)
        if leave == "reset":
            connection.reset()
    site.wait_until_idle()


def test_many_websockets_on_one_connection_are_apart(
    site: Site, connection: Http2Connection
) -> None:
    clients = [
        connection.websocket(ECHOES[number % 2]).accepted() for number in range(16)
    ]
    assert site.stat("websockets") == 16
    for turn in range(5):
        for number, client in enumerate(clients):
            client.send(f"{turn} to {number}")
        for number, client in reversed(list(enumerate(clients))):
            assert client.receive() == f"{turn} to {number}"
    answer = connection.request("/")
    assert answer.wait_for_head() == 200
    assert answer.read_all() == b"Here are WebSockets\n"
    for client in clients:
        client.close(1000)
        assert client.receive() == CloseConnection(1000, "")


@pytest.mark.parametrize("path", ["/sock/bye", "/sock/fail"])
def test_websocket_that_the_application_closes_leaves_others_alone(
    connection: Http2Connection, path: str
) -> None:
    other = connection.websocket("/sock/echo").accepted()
    closed_by_server(connection.websocket(path).accepted())
    other.send("still there")
    assert other.receive() == "still there"
    other.close(1000)


def test_more_websockets_than_allowed_are_refused(
    site: Site, connection: Http2Connection
) -> None:
    clients = [connection.websocket("/messages/echo").accepted() for _ in range(20)]
    assert connection.websocket("/messages/echo").stream.wait_for_head() == 503
    for client in clients:
        client.stream.reset()
    site.wait_until_idle()


@pytest.mark.parametrize("server", SERVERS)
def test_server_with_open_websockets_ends(server: str, tmp_path: Path) -> None:
    with (
        serving(server, tmp_path) as site,
        Http2Connection(site.server.port) as connection,
    ):
        for path in (*ECHOES, "/messages/never"):
            connection.websocket(path).accepted()
        site.server.terminate()
        with contextlib.suppress(StreamLost):
            while True:
                connection.receive()
        within = GRACE_S + SHUTDOWN_S + 5.0
        wait_until(site.server.is_gone, "all processes ended", within=within)
        assert not site.faults()
