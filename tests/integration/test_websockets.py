"""WebSockets on real servers, with clients and applications that are not ours."""

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import socketio
import websocket as websocket_client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from conformance.live.polling import wait_until
from conformance.live.processes import tracebacks
from conformance.live.servers import GRACE_S
from tests.integration.apps.websockets import SHUTDOWN_S
from tests.integration.websocket_site import SERVERS, Site, serving

pytestmark = pytest.mark.integration

LARGE_BYTES = 16 << 20
EXIT_S = GRACE_S + SHUTDOWN_S + 5.0


@pytest.fixture(scope="module", params=SERVERS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with serving(request.param, tmp_path_factory.mktemp("websockets")) as site:
        yield site
        site.wait_until_idle()


Exchange = Callable[[str | bytes], str | bytes]


@contextlib.contextmanager
def client_of_websockets(site: Site, path: str) -> Iterator[Exchange]:
    def exchange(message: str | bytes) -> str | bytes:
        client.send(message)
        return client.recv(10)

    with site.connect(path) as client:
        yield exchange


@contextlib.contextmanager
def client_of_websocket_client(site: Site, path: str) -> Iterator[Exchange]:
    def exchange(message: str | bytes) -> str | bytes:
        if isinstance(message, str):
            client.send(message)
        else:
            client.send_binary(message)
        return client.recv()

    client = websocket_client.create_connection(site.url(path), timeout=10)
    yield exchange
    client.close()


with_each_client = pytest.mark.parametrize(
    "connect",
    [
        pytest.param(client_of_websockets, id="websockets"),
        pytest.param(client_of_websocket_client, id="websocket-client"),
    ],
)
Connect = Callable[[Site, str], contextlib.AbstractContextManager[Exchange]]


@with_each_client
@pytest.mark.parametrize("path", ["/sock/echo", "/messages/echo", "/ping/echo"])
def test_messages_of_all_sizes_come_back(
    site: Site, path: str, connect: Connect
) -> None:
    with connect(site, path) as exchange:
        for message in ("a", b"\0", "é" * 100, b"\xff" * 125, "x" * 126):
            assert exchange(message) == message
        for size in (65535, 65536, 1_000_000):
            assert exchange(bytes(size)) == bytes(size)
    site.wait_until_idle()


@with_each_client
@pytest.mark.parametrize("path", ["/sock/echo", "/messages/echo"])
def test_empty_messages_come_back(site: Site, path: str, connect: Connect) -> None:
    if site.lacks("empty messages"):
        pytest.skip("the server drops them")
    with connect(site, path) as exchange:
        for message in ("", b""):
            assert exchange(message) == message


@pytest.mark.parametrize("path", ["/sock/echo", "/messages/echo"])
def test_messages_of_16_megabytes_come_back(site: Site, path: str) -> None:
    if site.lacks("16 MB"):
        pytest.skip("the server allows less")
    data = b"0123456789abcdef" * (LARGE_BYTES // 16)
    with site.connect(path, ping_interval=None) as client:
        client.send(data)
        assert client.recv(20) == data


def test_idle_socket_answers_its_applications_pings(site: Site) -> None:
    with site.connect("/ping/echo") as client:
        time.sleep(0.5)
        client.send("still there")
        assert client.recv(5) == "still there"


def test_fragments_and_pings_of_the_client_are_the_servers(site: Site) -> None:
    client = websocket_client.create_connection(site.url("/sock/echo"), timeout=10)
    client.ping("are you there")
    for opcode, text, final in ((1, "one ", 0), (0, "two ", 0), (0, "three", 1)):
        client.send_frame(websocket_client.ABNF(final, 0, 0, 0, opcode, 1, text))
    answers = [client.recv_data(control_frame=True) for _ in range(2)]
    assert sorted(answers) == [(1, b"one two three"), (10, b"are you there")]
    client.close()


def test_subprotocol_is_the_applications_choice(site: Site) -> None:
    offered = ["chat.v1", "chat.v2"]
    with site.connect("/sock/subprotocol", subprotocols=offered) as client:
        assert client.subprotocol == client.recv(5) == "chat.v1"
    with site.connect("/messages/101", subprotocols=offered) as client:
        assert client.subprotocol == "chat.v2"
        assert client.response
        if not site.lacks("headers"):
            assert client.response.headers["x-node"] == "7"


def closed_by_server(client: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        client.recv(5)
    assert caught.value.rcvd
    return caught.value.rcvd.code, caught.value.rcvd.reason


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param("/sock/bye", (4001, "bye"), id="closed by the view"),
        pytest.param("/sock/fail", (1011, ""), id="view failed"),
    ],
)
def test_close_code_of_the_application_reaches_the_client(
    site: Site, path: str, code: tuple[int, str]
) -> None:
    with site.connect(path) as client:
        expected = (code[0], "") if site.lacks("reasons") else code
        assert closed_by_server(client) == expected


@pytest.mark.parametrize("path", ["/sock/bye", "/messages/bye"])
def test_client_that_is_still_sending_learns_why_it_was_closed(
    site: Site, path: str
) -> None:
    if site.lacks("patience"):
        pytest.skip("the server ends the connection, whatever the client has to say")
    client = websocket_client.create_connection(site.url(path), timeout=10)
    assert client.sock
    with contextlib.closing(client.sock):
        site.wait_until_idle()
        for _ in range(3):
            client.send("a message on its way")
            site.get("/")  # a reset would have come by then
        opcode, data = client.recv_data()
    code = 4001 if "sock" in path else 4003
    assert (opcode, data[:2]) == (8, struct.pack("!H", code))


def test_messages_before_the_close_arrive(site: Site) -> None:
    with site.connect("/sock/count") as client:
        assert [client.recv(5) for _ in range(100)] == list(map(str, range(100)))
        assert closed_by_server(client)[0] == 1000


def test_close_code_of_the_client_reaches_the_application(site: Site) -> None:
    with site.connect("/messages/code") as client:
        client.send("hello")
        client.close(4002, "enough")
    site.wait_until_idle()
    expected = (4002, "" if site.lacks("the client's reason") else "enough")
    if site.lacks("the client's close code"):
        expected = (1006, "")
    assert site.get("/last-close") == repr([expected]).encode()


@pytest.mark.parametrize("path", ["/sock/echo", "/messages/echo", "/ping/echo"])
def test_client_that_is_lost_frees_the_thread(site: Site, path: str) -> None:
    client = websocket_client.create_connection(site.url(path), timeout=10)
    client.send("hello")
    assert client.recv() == "hello"
    reset = struct.pack("ii", 1, 0)
    assert client.sock
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    client.shutdown()  # type: ignore[no-untyped-call]
    site.wait_until_idle()


def test_application_that_floods_waits_for_the_client(site: Site) -> None:
    if site.lacks("back-pressure"):
        pytest.skip("the server holds all that it is given")
    client = websocket_client.create_connection(site.url("/messages/flood"))
    time.sleep(0.7)
    before = int(site.get("/flooded"))
    time.sleep(0.2)
    sent = int(site.get("/flooded"))
    client.shutdown()  # type: ignore[no-untyped-call]
    site.wait_until_idle()
    assert (sent - before) < 65536 * 10
    assert sent < 1000 * 65536


def test_slow_acceptance_is_waited_for(site: Site) -> None:
    with site.connect("/messages/nap") as client:
        assert client.recv(5) == "awake"


def test_client_that_leaves_before_it_is_accepted_is_no_error(site: Site) -> None:
    size = site.server.log_size()
    with pytest.raises(TimeoutError), site.connect("/messages/nap", open_timeout=0.1):
        pass
    site.wait_until_idle()
    assert not tracebacks(site.server.log(size))


def test_async_to_sync_runs_on_the_servers_loop(site: Site) -> None:
    with site.connect("/messages/loop") as client:
        name = client.recv(5)
    assert isinstance(name, str)
    assert not name.startswith("wsgi")


@pytest.mark.parametrize(("path", "status"), [("/none", 404), ("/sock/forbidden", 451)])
def test_refusal_is_the_applications_answer(site: Site, path: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as caught:
        site.connect(path).__enter__()
    if site.lacks("denials"):
        assert caught.value.response.status_code == 403
    else:
        assert caught.value.response.status_code == status
        assert b"<title>" in (caught.value.response.body or b"")


def test_more_websockets_than_allowed_are_refused(site: Site) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(site.connect("/messages/echo"))
        assert site.stat("websockets") == 20
        # This request, which they do not keep waiting. The last one may take a moment.
        wait_until(lambda: site.stat("busy") == 1, "no WebSocket counts as a request")
        with pytest.raises(InvalidStatus) as caught:
            stack.enter_context(site.connect("/messages/echo"))
    status = 403 if site.lacks("denials") else 503
    assert caught.value.response.status_code == status
    site.wait_until_idle()


TRANSPORTS = {
    "websocket": ["websocket"],
    "polling": ["polling"],
    "upgrade": ["polling", "websocket"],
}
# Where Flask-SocketIO is, and where python-socketio without it.
SOCKETIO_PATHS = ("socket.io", "plain.io")


@contextlib.contextmanager
def socketio_client(
    site: Site, path: str, transport: str
) -> Iterator[socketio.SimpleClient]:
    """Connect by a transport, and wait for its upgrade if it has one."""
    client = socketio.SimpleClient()
    client.connect(
        site.server.url,
        transports=TRANSPORTS[transport],
        socketio_path=path,
        wait_timeout=10,
    )
    try:
        if transport == "upgrade":
            wait_until(lambda: client.transport == "websocket", "it is upgraded")
        yield client
    finally:
        client.disconnect()


@pytest.mark.parametrize("path", SOCKETIO_PATHS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_socketio_is_spoken_to(site: Site, path: str, transport: str) -> None:
    gone = site.stat("departures")
    with socketio_client(site, path, transport) as client:
        spoken = "polling" if transport == "polling" else "websocket"
        assert client.call("shout", "hey", timeout=10) == f"{spoken}: hey"
        assert client.receive(timeout=10) == ["heard", "HEY"]
        data = bytes(range(256)) * 500
        assert client.call("blob", data, timeout=10) == data[::-1]
        assert client.transport == spoken
    wait_until(lambda: site.stat("departures") == gone + 1, "the server is told")


@pytest.mark.parametrize("path", SOCKETIO_PATHS)
def test_socketio_tells_clients_of_all_transports(site: Site, path: str) -> None:
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socketio_client(site, path, transport))
            for transport in TRANSPORTS
        ]
        for number, speaker in enumerate(clients):
            speaker.emit("tell all", f"news {number}")
            for client in clients:
                assert client.receive(timeout=10) == ["told", f"news {number}"]


@pytest.fixture(params=SERVERS)
def ending(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with serving(request.param, tmp_path) as site:
        yield site


def test_server_with_open_websockets_ends(ending: Site) -> None:
    paths = ["/sock/echo", "/ping/echo", "/messages/echo", "/messages/never"]
    paths.append("/socket.io/?EIO=4&transport=websocket")
    clients = [
        websocket_client.create_connection(ending.url(path), timeout=10)
        for path in paths
    ]
    for client in clients[:3]:
        client.send("hello")
        assert client.recv() == "hello"
    assert clients[3].recv() == "ready"
    assert str(clients[4].recv()).startswith("0{")

    ending.server.terminate()
    wait_until(ending.server.is_gone, "all processes ended", within=EXIT_S)
    assert not ending.faults()
    for client in clients:
        client.shutdown()  # type: ignore[no-untyped-call]
