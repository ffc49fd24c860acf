"""One WebSocket exchange: environ, application and bridge, joined.

The application is called as for a GET that asks for an upgrade. In the environ it
finds two objects to speak with the client by, `WebSocket` and `FrameSocket`; the first
use of either accepts. If it returns without having used them, what it has answered is
the refusal.

Until it is accepted, a WebSocket is a request like any other, since anybody can ask any
view for it: it waits for one of the threads that requests run in, and takes its turn.
With the acceptance the thread becomes its own, for as long as it lasts.

The task sends what the thread puts out. A second task beside it, the pump, calls
``receive()`` once there is something to hear: from the acceptance to the close. In
between it rests while the application has not taken what has come.

No ``receive()`` is awaited while an answer to the handshake or a close is sent:
Granian's close waits for it, and the client would learn of neither.

Once the application has closed, nobody waits in a thread any more for a client that
takes nothing, and so the task must not wait for ever. It gives the client up, and the
server ends the connection.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from wsgiref.types import WSGIApplication

from wsgi_asgi._bridge import Bridge, Crossing
from wsgi_asgi._channel import Channel, Incoming, State, WebSocket, byte_size
from wsgi_asgi._errors import (
    ClientDisconnected,
    RequestRefused,
    WebSocketError,
    raisable,
    shutting_down,
)
from wsgi_asgi._fields import warning_of_dropped
from wsgi_asgi._frames import Close
from wsgi_asgi._handshake import (
    DENIAL,
    Answer,
    build_denial,
    build_refusal,
    build_websocket_environ,
    divide_upgrade,
)
from wsgi_asgi._limits import Limits
from wsgi_asgi._mailbox import Mailbox
from wsgi_asgi._port import Timer
from wsgi_asgi._socket import FrameSocket
from wsgi_asgi._types import ExcInfo, Message, Receive, Scope, Send

__all__ = [
    "HANDSHAKES",
    "WebSocketExchange",
    "WebSocketSettings",
    "refuse_websocket",
]

logger = logging.getLogger("wsgi_asgi")

# How many may be asked for and not yet accepted where the requests run in an executor
# that lets no thread go, and each WebSocket has a thread of its own from the beginning.
HANDSHAKES = 40

# How long a server may take to say that the client has left, if it has.
LAST_RECEIVE_S = 0.2

# How long a client may take nothing of what is left to be sent when the application has
# closed, and then how long to answer the close, see `_await_answer`.
CLOSING_S = 10.0

# Close codes (RFC 6455 7.4.1). Two of them stand for what was not sent.
NORMAL = 1000
NO_CODE = 1005
LOST = 1006
INTERNAL_ERROR = 1011

_FAILED = RequestRefused(
    "500 Internal Server Error", "The application has failed; try again later."
)


@dataclass(slots=True, kw_only=True)
class WebSocketSettings:
    """What all WebSockets of one adapter share.

    Attributes:
        application: The WSGI application.
        name: What messages call it.
        base_environ: Variables that are the same for each request.
        warn_once: Logs a warning for the application, unless it has done so by the
            same key.
        rejected: Handshakes that were answered without the application.
    """

    application: WSGIApplication
    name: str
    base_environ: Mapping[str, Any]
    bridge: Bridge
    limits: Limits
    duplicate_header_limit: int | None
    warn_once: Callable[[str, str], object]
    rejected: int = 0


# Made anew each time: what is raised again and again collects tracebacks.


def _full() -> RequestRefused:
    return RequestRefused(
        "503 Service Unavailable",
        "Too many WebSockets are open; try again later.",
        (("Retry-After", "10"),),
    )


def _crowded() -> RequestRefused:
    return RequestRefused(
        "503 Service Unavailable",
        "Too many WebSockets are asked for; try again.",
        (("Retry-After", "1"),),
    )


async def refuse_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """Close a WebSocket before it is accepted, which servers answer with 403.

    Raising instead would log a traceback for each stray client that tries a
    WebSocket first.
    """
    message = await receive()
    if message["type"] == "websocket.connect":
        await send({"type": "websocket.close", "code": NORMAL, "reason": ""})


class WebSocketExchange:
    """One WebSocket.

    Args:
        settings: What it shares with others.
        scope: The ASGI scope.
        receive: The server's.
        send: The server's.
    """

    # Of the task.
    _listening = False  # the pump is needed
    _turn: Message | None = None  # to be sent while nothing is being received
    _over = False  # nothing is to be sent any more
    _told = False  # the server has said that the client left
    _done = False  # the thread has ended, and all that it put out is sent
    _send_error: Exception | None = None
    # Of the task, once the application has closed, see `_begin_to_close`.
    _patience: Timer | None = None
    _has_taken = False  # the client has taken something since the timer was set
    _given_up = False
    _cut: Callable[[], object]
    # Of the thread.
    _status = 0  # answered after it was accepted

    def __init__(
        self, settings: WebSocketSettings, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._settings = settings
        self._scope = scope
        self._receive = receive
        self._send = send
        self._pending: deque[tuple[Message, int]] = deque()

    # On the event loop.

    async def run(self) -> None:
        """Serve the WebSocket, from the handshake to the end of the application.

        Raises:
            Exception: What the application raised. The client was told by then.
        """
        if (await self._receive())["type"] != "websocket.connect":
            return
        settings = self._settings
        bridge = settings.bridge
        crossing = self._crossing = Crossing(
            bridge, bridge.port(), self._work, buffer=settings.limits.buffer
        )
        try:
            crossing.term = bridge.term_of(self._scope)
            if crossing.port.drains(crossing.term):
                raise shutting_down()
            self._prepare()
            if bridge.apart.full:
                raise _full()
            if not crossing.start_movable():
                raise _crowded()
        except RequestRefused as refusal:
            await self._refuse(refusal)
            return
        try:
            async with crossing.port.interruptible() as self._cut:
                await self._converse()
            if self._given_up:
                # As long as something holds these two, Granian keeps the connection.
                del self._receive, self._send
                if not crossing.ended:
                    crossing.desert(self._log_lost_error)
                    return
            crossing.leave()
            if self._channel.state is State.CONNECTING:
                # Its turn never came: the client has left, or a shutdown did not wait.
                await self._refuse(shutting_down())
                return
        except BaseException as error:
            await self._give_up(error)
            raise
        await self._conclude(crossing.take_error())

    async def _refuse(self, refusal: RequestRefused) -> None:
        """Answer without the application, unless the client has left."""
        if not self._over:
            self._settings.rejected += 1
            for message in build_denial(self._scope, build_refusal(refusal)):
                await self._send_one(message)

    def _prepare(self) -> None:
        settings, scope = self._settings, self._scope
        environ = self._environ = build_websocket_environ(
            scope, settings.base_environ, settings.duplicate_header_limit
        )
        self._answer = Answer(settings.name, settings.limits.buffer)
        self._inbox = Mailbox[Incoming](self._crossing, settings.limits.buffer)
        channel = self._channel = Channel(
            self._crossing,
            self._inbox,
            scope.get("subprotocols") or (),
            settings.warn_once,
            self._find_place,
            self._begin_to_close,
        )
        environ["wsgi.websocket"] = WebSocket(channel, environ)
        environ["wsgi.websocket_version"] = "13"
        self._socket = environ["werkzeug.socket"] = FrameSocket(channel)

    async def _converse(self) -> None:
        while not self._done:
            if self._listening:
                await self._crossing.port.beside(self._pump, self._deliver)
            else:
                await self._deliver()
            if message := self._turn:
                self._turn = None
                await self._take_turn(message)

    async def _deliver(self) -> None:
        """Send messages, until it is a turn's time, or the pump's, or the end."""
        crossing, pending = self._crossing, self._pending
        while True:
            while pending:
                message, size = pending.popleft()
                if message["type"] != "websocket.send":
                    self._turn = message
                    return
                try:
                    await self._send_one(message)
                finally:
                    crossing.taken(size)
            if crossing.has_more:
                # Sending need not have waited for anything, and the other tasks,
                # among them the pump, must have their turn.
                await crossing.port.pause(0)
            ended = crossing.ended  # read first: after it nothing is put out
            if items := crossing.take():
                pending.extend(items)
            elif ended:
                self._done = True
                return
            elif crossing.nudged:
                crossing.nudged = False
                if not (self._listening or self._over):
                    # It takes its time. The client may leave before it is answered.
                    self._listening = True
                    return
            else:
                await crossing.wait()

    async def _take_turn(self, message: Message) -> None:
        await self._send_one(message)
        if message["type"] == "websocket.accept":
            self._listening = not self._over
        elif message["type"] != f"{DENIAL}.start":
            self._end(message.get("code", NORMAL), message.get("reason", ""))

    async def _send_one(self, message: Message) -> None:
        if self._over:
            return
        try:
            await self._send(message)
        except Exception as error:
            self._send_error = error
            self._end(LOST, "")
        else:
            self._has_taken = True

    def _begin_to_close(self) -> None:
        """Give the client some time for what is left: the application has closed."""
        if not self._over:
            self._has_taken = False
            port = self._crossing.port
            self._patience = port.call_later(CLOSING_S, self._look_at_client)

    def _count_refusal(self) -> None:
        self._settings.rejected += 1

    def _look_at_client(self) -> None:
        """Give the client up if it has taken nothing since the last look."""
        if self._has_taken:
            self._begin_to_close()
        else:
            self._given_up = True
            self._end(LOST, "")
            self._cut()

    async def _pump(self) -> bool:
        """Receive as the application takes it, until the client leaves."""
        inbox = self._inbox
        try:
            while True:
                if not inbox.complete:
                    await inbox.room()
                message = await self._receive()
                if message["type"] != "websocket.receive":
                    break
                text = message.get("text")
                data = text if text is not None else message.get("bytes") or b""
                if not inbox.complete:
                    inbox.deliver(data, byte_size(data))
        except Exception:
            logger.debug("receive() failed", exc_info=True)
            message = {"code": LOST}
        self._told = True
        self._end(message.get("code", NO_CODE), message.get("reason") or "")
        if not self._crossing.has_begun:
            self._crossing.abandon()
        return True

    def _end(self, code: int, reason: str) -> None:
        """Send nothing more, and tell whoever reads that nothing more will come."""
        self._over = True
        self._listening = False
        if self._patience:
            self._patience.cancel()
        self._channel.end(Close(code, reason))

    async def _give_up(self, error: BaseException) -> None:
        """Let the thread go, since the task was cancelled."""
        crossing = self._crossing
        crossing.abandon()
        self._end(LOST, "")
        try:
            if not isinstance(error, GeneratorExit):
                await crossing.linger()
        finally:
            crossing.desert(self._log_lost_error)

    async def _conclude(self, error: BaseException | None) -> None:
        """Raise what the server should log."""
        try:
            await self._await_answer()
        except BaseException:
            if error is not None:
                self._log_lost_error(error)
            raise
        if error is not None:
            raise raisable(error, self._settings.name)
        if self._send_error and not isinstance(self._send_error, OSError):
            # Servers differ in what they say to those who send to a client that has
            # left. If it has not, they were given something that they do not take:
            # Daphne knows few close codes. But all take a refusal, and Granian never
            # tells that the client has left before it.
            if not self._told and self._channel.accepted:
                await self._hear(LAST_RECEIVE_S)
                if not self._told:
                    raise self._send_error
            logger.debug("send() failed", exc_info=self._send_error)

    async def _await_answer(self) -> None:
        """Wait for the client's part of the close, as RFC 6455 7.1.1 wants of servers.

        Some leave it to the application, by ending the connection when this task
        ends, or reading nothing unless `receive` is called. What then comes from the
        client is answered by a reset, and the client never learns why it was closed.
        Over HTTP/2 it ends the connection with all its other streams (Hypercorn 0.18).
        """
        lost = self._told or self._send_error or self._given_up
        if self._channel.accepted and not lost:
            await self._hear(CLOSING_S)

    async def _hear(self, seconds: float) -> None:
        """Receive until the client has left, for so many seconds."""
        port = self._crossing.port
        await port.beside(self._pump, partial(port.pause, seconds))

    def _log_lost_error(self, error: BaseException) -> None:
        logger.error(
            "%s: failed after the client had left", self._settings.name, exc_info=error
        )

    # In the application's thread.

    def _work(self) -> None:
        """Call the application, and end the WebSocket when it returns."""
        try:
            self._call_and_end()
        finally:
            self._crossing.end_apart()

    def _call_and_end(self) -> None:
        channel = self._channel
        try:
            self._call()
            self._finish()
        except BaseException as error:
            if self._is_an_end(error):
                channel.finish(NORMAL)
                return
            if channel.accepted:
                channel.finish(INTERNAL_ERROR)
            else:
                self._deny(build_refusal(_FAILED), INTERNAL_ERROR)
            raise

    def _find_place(self) -> list[Message]:
        """Move the thread apart; give the refusal if too many are already."""
        if self._crossing.move_apart():
            return []
        self._crossing.port.post(self._count_refusal)
        return build_denial(self._scope, build_refusal(_full()))

    def _call(self) -> None:
        iterable = self._settings.application(self._environ, self._start_response)
        try:
            for chunk in iterable or ():
                if self._is_enough(chunk):
                    break
        finally:
            if close := getattr(iterable, "close", None):
                close()

    def _is_enough(self, chunk: bytes) -> bool:
        """Take a chunk of the answer, and say whether to stop."""
        channel = self._channel
        room = channel.accepted or self._answer.add(chunk)
        return not room or (channel.has_left and self._inbox.is_empty)

    def _finish(self) -> None:
        channel = self._channel
        if channel.accepted:
            channel.finish(INTERNAL_ERROR if self._status >= 500 else NORMAL)
        elif channel.has_left:
            channel.finish(NORMAL)
        else:
            if refusal := self._socket.refusal:
                status, headers, body = refusal
                self._start_answer(status, headers)
                self._answer.add(body)
            self._deny(self._answer.build(), NORMAL)

    def _deny(self, response: list[Message], code: int) -> None:
        """Refuse it, or close it if another thread has accepted it in between."""
        self._channel.refuse(build_denial(self._scope, response))
        self._channel.finish(code)

    def _is_an_end(self, error: BaseException) -> bool:
        """Tell whether an error is but a way to say that the WebSocket is over."""
        channel = self._channel
        # flask-sock and engineio raise these two to keep servers from answering.
        if channel.accepted and type(error) in (StopIteration, ConnectionError):
            return True
        lost = (error, error.__cause__)
        return channel.has_left and any(
            isinstance(one, WebSocketError | ClientDisconnected) for one in lost
        )

    def _start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> Callable[[bytes], None]:
        try:
            if self._channel.accepted:
                # flask-sock has its framework answer 200 at the end, and where its
                # view has failed, the framework answers 500.
                self._status = int(status[:3])
            elif status[:3] == "101":
                self._channel.accept(*divide_upgrade(headers))
            else:
                self._start_answer(status, headers, exc_info)
        finally:
            exc_info = None  # else its traceback would hold itself, by this frame
        return self._write

    def _start_answer(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> None:
        answer = self._answer
        try:
            answer.start(status, headers, exc_info)
        finally:
            exc_info = None  # as above
        if answer.dropped:
            self._settings.warn_once(*warning_of_dropped(answer.dropped))

    def _write(self, data: bytes) -> None:
        if not self._channel.accepted:
            self._answer.add(data)
