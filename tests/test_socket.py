"""WebSockets for applications that write and read frames on a socket."""

import asyncio
import contextlib
import gc
import os
import select
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
import simple_websocket

from tests.drivers import (
    Gate,
    MakeAdapter,
    WebSocketServer,
    assert_ends,
    connect,
    incoming,
    leaving,
    run,
    serve,
    until,
)
from wsgi_asgi import Limits, WebSocketError, WsgiToAsgi
from wsgi_asgi._socket import _Beacon

Body = Iterable[bytes]
Talk = Callable[[Any], object]

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
UPGRADE = HEAD + b"\r\n"
CLOSE_1000 = bytes.fromhex("880203e8")
# What a client writes in the same place.
ZERO_KEY = bytes(4)


def talking(talk: Talk) -> WSGIApplication:
    """Make an application that does something with its socket, and returns."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        talk(environ["werkzeug.socket"])
        return []

    return application


@pytest.fixture
def raw(adapter: MakeAdapter) -> MakeAdapter:
    """Make adapters without wsgiref's validator, which wants a start_response()."""

    def make(app: WSGIApplication, **options: Any) -> WsgiToAsgi:
        return adapter(app, validate=False, **options)

    return make


def read(sock: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


# Writing.


@pytest.mark.parametrize("by_byte", [False, True], ids=["whole", "one byte at a time"])
def test_socket_head_and_frames_become_messages(
    raw: MakeAdapter, by_byte: bool
) -> None:
    head = HEAD + b"Sec-WebSocket-Protocol: chat\r\nX-Node: 7\r\n\r\n"
    data = head + b"\x81\x02Hi" + b"\x02\x01a\x80\x01b" + CLOSE_1000

    def talk(sock: Any) -> None:
        for piece in (
            [data[at : at + 1] for at in range(len(data))] if by_byte else [data]
        ):
            assert sock.send(piece) == len(piece)

    server = WebSocketServer(subprotocols=["chat"])
    serve(raw(talking(talk)), server)
    assert server.messages[0]["subprotocol"] == "chat"
    assert server.messages[0]["headers"] == [(b"x-node", b"7")]
    assert server.data == ["Hi", b"ab"]
    assert server.close_code == 1000


def test_socket_close_frame_closes_with_its_code(raw: MakeAdapter) -> None:
    server = WebSocketServer()
    data = UPGRADE + bytes.fromhex("88050fa1627965") + b"\x81\x01x"
    serve(raw(talking(lambda sock: sock.sendall(data))), server)
    assert (server.close_code, server.messages[-1]["reason"]) == (4001, "bye")


def test_socket_close_frame_without_a_code_closes_with_1000(raw: MakeAdapter) -> None:
    server = WebSocketServer()
    serve(raw(talking(lambda sock: sock.sendall(UPGRADE + b"\x88\0"))), server)
    assert server.close_code == 1000


def test_socket_response_other_than_101_is_the_refusal(raw: MakeAdapter) -> None:
    def talk(sock: Any) -> None:
        sock.sendall(b"HTTP/1.1 426 Upgrade Required\r\nX-Why: old\r\n\r\nplease ")
        sock.sendall(b"upgrade")
        sock.close()

    server = WebSocketServer()
    serve(raw(talking(talk)), server)
    status, headers, body = server.denial
    assert (status, headers[b"x-why"], body) == (426, b"old", b"please upgrade")


@pytest.mark.parametrize(
    "data",
    [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"x" * 65537],
    ids=["no HTTP", "no status", "endless"],
)
def test_socket_head_that_is_none_is_refused(raw: MakeAdapter, data: bytes) -> None:
    server = WebSocketServer()
    with pytest.raises(WebSocketError, match="101 response"):
        serve(raw(talking(lambda sock: sock.sendall(data))), server)
    assert server.denial[0] == 500


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (b"\x83\0", 1002, "unknown opcode 0x3"),
        (b"\x81\x81\0\0\0\0x", 1002, "masked"),
        (b"\x81\x01\xff", 1007, "no UTF-8"),
    ],
    ids=["opcode", "masked", "no UTF-8"],
)
def test_socket_frame_that_breaks_the_protocol_ends_both_sides(
    raw: MakeAdapter, data: bytes, code: int, text: str
) -> None:
    def talk(sock: Any) -> None:
        with pytest.raises(WebSocketError, match=text):
            sock.sendall(UPGRADE + data)
        frame = b"\x88\x82" + ZERO_KEY + code.to_bytes(2)
        assert read(sock, len(frame)) == frame
        assert sock.recv(10) == b""

    server = WebSocketServer()
    serve(raw(talking(talk)), server)
    assert server.close_code == 1011


# Reading.


def test_socket_gives_messages_as_masked_frames(raw: MakeAdapter) -> None:
    long = bytes(70_000)
    frames = b"".join(
        [
            b"\x81\x82" + ZERO_KEY + b"Hi",
            b"\x82\xff" + (70_000).to_bytes(8) + ZERO_KEY + long,
            b"\x88\x85" + ZERO_KEY + b"\x0f\xa1bye",
        ]
    )

    def talk(sock: Any) -> None:
        sock.sendall(UPGRADE)
        assert sock.recv(0) == b""
        assert sock.recv(1) == b"\x81"
        assert read(sock, len(frames) - 1) == frames[1:]
        assert sock.recv(10) == sock.recv(10) == b""

    messages = [incoming("Hi"), incoming(long), leaving(4001, "bye")]
    serve(raw(talking(talk)), WebSocketServer(connect(), *messages))


@pytest.mark.parametrize(
    ("code", "frame"),
    [(1006, b""), (1005, b"\x88\x80" + ZERO_KEY), (77, b"")],
    ids=["lost", "no code", "no such code"],
)
def test_socket_of_a_client_that_left_without_a_code_ends(
    raw: MakeAdapter, code: int, frame: bytes
) -> None:
    def talk(sock: Any) -> None:
        sock.sendall(UPGRADE)
        assert sock.recv(100) == frame
        assert sock.recv(100) == b""
        with pytest.raises(WebSocketError):
            sock.sendall(b"\x81\x01x")
        with pytest.raises(WebSocketError):
            sock.sendall(b"\x89\0")

    serve(raw(talking(talk)), WebSocketServer(connect(), leaving(code)))


def test_socket_whose_task_is_cancelled_ends(raw: MakeAdapter) -> None:
    read_all = Gate("the end was read")

    def talk(sock: Any) -> None:
        sock.sendall(UPGRADE)
        assert sock.recv(1) == b""
        read_all.open()

    server, app = WebSocketServer(), raw(talking(talk))

    async def main() -> None:
        task = asyncio.create_task(server.run(app))
        await server.received(2).reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert read_all.is_open

    run(main())


def test_socket_answers_pings_and_ignores_pongs(raw: MakeAdapter) -> None:
    def talk(sock: Any) -> None:
        sock.sendall(UPGRADE + b"\x8a\0\x89\x01?")
        assert read(sock, 7) == b"\x8a\x81" + ZERO_KEY + b"?"

    server = WebSocketServer()
    serve(raw(talking(talk)), server)
    assert server.kinds == ["accept", "close"]


def test_socket_answers_pings_while_the_loop_is_busy(raw: MakeAdapter) -> None:
    busy, answered = Gate("the loop is busy"), Gate("the pong is read")

    def hold_up() -> None:
        busy.open()
        answered.wait()

    def talk(sock: Any) -> None:
        sock.sendall(UPGRADE)
        sock._channel._crossing.port.post(hold_up)
        busy.wait()
        sock.sendall(b"\x89\x01?")
        assert read(sock, 7) == b"\x8a\x81" + ZERO_KEY + b"?"
        answered.open()

    serve(raw(talking(talk)), WebSocketServer())


def test_socket_echoes_the_applications_close(raw: MakeAdapter) -> None:
    def talk(sock: Any) -> None:
        sock.sendall(UPGRADE + CLOSE_1000)
        assert read(sock, 8) == b"\x88\x82" + ZERO_KEY + b"\x03\xe8"
        assert sock.recv(1) == b""

    serve(raw(talking(talk)), WebSocketServer())


def test_socket_read_from_before_it_is_accepted_says_so(raw: MakeAdapter) -> None:
    with pytest.raises(WebSocketError, match="before a 101 response"):
        serve(raw(talking(lambda sock: sock.recv(1))), WebSocketServer())


def test_socket_timeouts_are_those_of_sockets(raw: MakeAdapter) -> None:
    def talk(sock: Any) -> None:
        sock.sendall(UPGRADE)
        assert sock.gettimeout() is None
        sock.settimeout(0.01)
        assert sock.gettimeout() == 0.01
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        sock.setblocking(True)
        assert sock.gettimeout() is None

    serve(raw(talking(talk)), WebSocketServer())


@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_socket_closed_without_a_close_frame_closes_with_1011(
    raw: MakeAdapter, how: str
) -> None:
    def talk(sock: Any) -> None:
        sock.sendall(UPGRADE)
        sock.shutdown(socket.SHUT_RD)
        assert sock.send(b"\x81\x01x") == 3
        if how == "shutdown":
            sock.shutdown(socket.SHUT_RDWR)
        else:
            sock.close()
            assert sock.fileno() == -1
        with pytest.raises(WebSocketError):
            sock.send(b"\x81\x01x")

    server = WebSocketServer()
    serve(raw(talking(talk)), server)
    assert server.data == ["x"]
    assert server.close_code == 1011


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda sock: sock.sendall(CLOSE_1000), id="a close frame"),
        pytest.param(lambda sock: sock.sendall(b"\x83\0"), id="a frame that is none"),
        pytest.param(lambda sock: sock.shutdown(socket.SHUT_RDWR), id="shutdown()"),
        pytest.param(lambda sock: sock.close(), id="close()"),
    ],
)
def test_socket_ends_while_another_thread_writes_to_a_client_that_takes_nothing(
    raw: MakeAdapter, end: Talk
) -> None:
    ended = Gate("the writer and the reader have ended")
    read_bytes: list[bytes] = []

    def talk(sock: Any) -> None:
        def write() -> None:
            with contextlib.suppress(WebSocketError):
                while True:
                    sock.sendall(b"\x82\x7e" + (2000).to_bytes(2) + bytes(2000))

        sock.sendall(UPGRADE)
        writer = threading.Thread(target=write)
        reader = threading.Thread(target=lambda: read_bytes.append(sock.recv(100)))
        for thread in (writer, reader):
            thread.start()
        server.sent(4).wait()
        until(lambda: sock._channel._crossing._stalled, "the writer waits")
        until(lambda: sock._reading.locked(), "the reader waits")
        # Pings are answered meanwhile, and selectors are told when there is more.
        sock.sendall(b"\x89\x01?")
        until(lambda: read_bytes, "the pong is read")
        assert read_bytes.pop() == b"\x8a\x81" + ZERO_KEY + b"?"
        reader = threading.Thread(target=lambda: read_bytes.append(sock.recv(1)))
        reader.start()
        until(lambda: sock._reading.locked(), "the reader waits again")
        assert not is_readable(sock)
        with contextlib.suppress(WebSocketError):
            end(sock)
        for thread in (writer, reader):
            thread.join(10)
            assert not thread.is_alive()
        assert read_bytes == [b"\x88"]
        if sock.fileno() >= 0:
            assert is_readable(sock)
        ended.open()

    server = WebSocketServer()
    stall = server.stall_at(4)
    app = raw(talking(talk), limits=Limits(buffer=5000))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(app))
            await ended.reached()
            stall.open()

    run(main())
    assert server.kinds[-1] == "close"


# Selecting.


def is_readable(sock: Any, within: float = 0) -> bool:
    return bool(select.select([sock], [], [], within)[0])


def test_socket_is_readable_when_something_is_there(raw: MakeAdapter) -> None:
    more = Gate("there is more")

    def talk(sock: Any) -> None:
        sock.sendall(UPGRADE)
        assert sock.fileno() == sock.fileno() >= 0
        assert not is_readable(sock)
        more.open()
        assert is_readable(sock, 10)
        assert sock.recv(1) == b"\x81"
        assert is_readable(sock)
        assert read(sock, 6) == b"\x81" + ZERO_KEY + b"x"
        until(lambda: is_readable(sock), "the end can be read")
        read(sock, 8)
        assert is_readable(sock)
        assert sock.recv(1) == b""
        assert is_readable(sock)
        sock.close()

    server = WebSocketServer(connect(), more, incoming("x"))
    server.will_receive(leaving())
    serve(raw(talking(talk)), server)


def test_socket_asked_late_for_its_descriptor_is_readable_at_once(
    raw: MakeAdapter,
) -> None:
    def talk(sock: Any) -> None:
        sock.sendall(UPGRADE)
        assert sock.recv(1) == b"\x81"
        assert is_readable(sock)
        assert read(sock, 6) == b"\x81" + ZERO_KEY + b"x"

    serve(raw(talking(talk)), WebSocketServer(connect(), incoming("x")))


def test_socket_with_much_to_read_stays_readable_to_the_end(raw: MakeAdapter) -> None:
    count = 100_000

    def talk(sock: Any) -> None:
        sock.sendall(UPGRADE)
        sock.fileno()
        # More signs than the descriptor holds.
        for _ in range(count // 10):
            sock._beacon.ring()
        assert is_readable(sock)
        frames = 0
        while data := sock.recv(1000):
            assert is_readable(sock, 10)
            frames += data == b"\x82\x80" + ZERO_KEY
        assert frames == 50

    messages = [incoming(b"")] * 50
    serve(raw(talking(talk)), WebSocketServer(connect(), *messages, leaving(1006)))


def test_socket_closed_while_the_loop_signals_is_no_error(raw: MakeAdapter) -> None:
    closed = Gate("the socket is closed")

    def talk(sock: Any) -> None:
        sock.sendall(UPGRADE)
        sock.fileno()
        beacon = sock._beacon
        sock.close()
        beacon.clear()
        beacon.ring()
        closed.open()

    serve(raw(talking(talk)), WebSocketServer(connect(), closed, incoming("x")))


def test_socket_left_open_leaves_no_descriptor(raw: MakeAdapter) -> None:
    descriptors: list[int] = []

    def talk(sock: Any) -> None:
        sock.sendall(UPGRADE)
        sock.itself = sock  # in a cycle
        descriptors.append(sock.fileno())

    serve(raw(talking(talk)), WebSocketServer())
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptors[0])


# The applications that it is for.


@pytest.mark.parametrize("ping_interval", [None, 0.05], ids=["no pings", "pings"])
def test_simple_websocket_talks_on_it(
    raw: MakeAdapter, ping_interval: float | None
) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        ws = simple_websocket.Server(
            environ, subprotocols=["b", "a"], ping_interval=ping_interval
        )
        try:
            while True:
                ws.send(ws.receive())
        except simple_websocket.ConnectionClosed as error:
            codes.append(error.reason)
        ws.thread.join()
        start_response("200 OK", [])
        return []

    codes: list[int] = []
    idle = Gate("a few pings have gone")
    server = WebSocketServer(connect(), incoming("a"), idle, subprotocols=["a", "b"])
    server.will_receive(incoming(b"\xff"), server.sent(3), leaving(4001))
    app = raw(application)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(app))
            await server.sent(2).reached()
            await asyncio.sleep(0.2)
            idle.open()

    run(main())
    assert server.messages[0]["subprotocol"] == "a"
    assert server.data == ["a", b"\xff"]
    assert codes == [4001]


def test_simple_websocket_thread_ends_with_the_application(raw: MakeAdapter) -> None:
    threads: list[threading.Thread] = []

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        ws = simple_websocket.Server(environ)
        threads.append(ws.thread)
        ws.send("bye")
        return []

    server = WebSocketServer()
    serve(raw(application), server)
    threads[0].join(10)
    assert not threads[0].is_alive()
    assert server.close_code == 1000


def test_simple_websocket_send_waits_for_a_slow_client(raw: MakeAdapter) -> None:
    sent: list[int] = []

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        ws = simple_websocket.Server(environ)
        for number in range(5):
            ws.send(bytes(2000))
            sent.append(number)
        ws.close()
        return []

    server = WebSocketServer()
    stall = server.stall_at(3)
    app = raw(application, limits=Limits(buffer=1000))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(app))
            await server.sent(4).stays_shut()
            assert len(sent) < 3  # one waits to be sent, and one for room
            stall.open()

    run(main())
    assert len(server.data) == 5


def test_descriptor_is_made_readable_by_the_thread_that_clears_it() -> None:
    # It may have to collect garbage, which may be the coroutine of the WebSocket.
    beacon = _Beacon()

    def clear_and_ring() -> None:
        with beacon._lock:
            beacon.ring()

    assert_ends(clear_and_ring)
    assert select.select([beacon.fileno()], [], [], 0)[0]
    beacon.close()
