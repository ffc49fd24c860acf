"""The server's end of an ASGI scope, in process, strict about all it is told.

A test builds a server from a script of what the client does, has it serve an
adapter, and then looks at what came out. What no real server lets pass, such as a
second receive() while one is awaited, is a fault here even where a real one would
go on.
"""

import asyncio
import re
import sys
import threading
import time
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from copy import copy
from typing import Any, Generic, Protocol, TypeVar
from wsgiref.types import WSGIApplication

import pytest

from wsgi_asgi import WsgiToAsgi

T = TypeVar("T")

Message = dict[str, Any]
Scope = dict[str, Any]
Header = tuple[bytes, bytes]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

# For what must happen. Long, since only a test that fails waits for it.
WAIT_S = 10.0
# For one whole test's work on a loop.
RUN_S = 20.0
# For what must not happen: what does is expected to within far less.
QUIET_S = 0.25
# The adapter looks after exchanges that take long within this.
WATCHED_S = 0.4
# Turns of the loop after which a task that has nothing to do sleeps.
IDLE_TURNS = 10
# How long a callback may hold the loop up before asyncio logs it.
BLOCKED_S = 5.0

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_CONNECTION_HEADERS = frozenset(
    {b"connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"}
)

LOOPS = [pytest.param(asyncio.new_event_loop, id="asyncio")]
if sys.platform != "win32":
    import uvloop

    LOOPS.append(pytest.param(uvloop.new_event_loop, id="uvloop"))

on_each_loop = pytest.mark.parametrize("loop_factory", LOOPS)


MakeOptions = Callable[[], dict[str, Any]]

# The three kinds of threads in which an adapter can run requests.
in_each_executor = pytest.mark.parametrize(
    "make_options",
    [
        pytest.param(dict, id="own pool"),
        pytest.param(lambda: {"executor": ThreadPoolExecutor(4)}, id="executor given"),
        pytest.param(lambda: {"thread_sensitive": True}, id="asgiref's thread"),
    ],
)


class MakeAdapter(Protocol):
    """The `adapter` fixture: an adapter that is checked and ended with the test."""

    def __call__(
        self, app: WSGIApplication, *, validate: bool = True, **options: Any
    ) -> WsgiToAsgi: ...


class Clock:
    """Stands in for the module `time`, and goes on only as a test has it."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Gate:
    """Opens once. Threads and coroutines may open it, and wait for it.

    Args:
        what: What has happened when it is open, for the message of a failure.
    """

    def __init__(self, what: str = "the gate opens") -> None:
        self._what = what
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []

    @property
    def is_open(self) -> bool:
        return self._event.is_set()

    def open(self) -> None:
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def on_open(self, callback: Callable[[], object]) -> None:
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def wait(self, within: float = WAIT_S) -> None:
        """Block the calling thread until the gate is open."""
        assert self._event.wait(within), f"not within {within} s: {self._what}"

    async def reached(self, within: float = WAIT_S) -> None:
        """Let the calling task wait until the gate is open."""
        try:
            async with asyncio.timeout(within):
                await first_open(self)
        except TimeoutError:
            raise AssertionError(f"not within {within} s: {self._what}") from None

    async def stays_shut(self, for_s: float = QUIET_S) -> None:
        """See that what must not happen does not, for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                await first_open(self)
        assert not self.is_open, f"not expected: {self._what}"


async def first_open(*gates: Gate) -> None:
    """Wait until one of several gates is open."""
    loop = asyncio.get_running_loop()
    reached = loop.create_future()

    def settle() -> None:
        if not reached.done():
            reached.set_result(None)

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has been closed since
            loop.call_soon_threadsafe(settle)

    for gate in gates:
        gate.on_open(wake)
    await reached


def until(
    condition: Callable[[], object], what: str, *, within: float = WAIT_S
) -> None:
    """Wait in a thread for what gives no sign of its own."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.001)


class _Awaitable(Generic[T]):
    """What granian's receive() and send() give: awaitable, but no coroutine."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()


def assert_ends(work: Callable[[], object]) -> None:
    """Do something in a thread, and see that it does not wait for itself there."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(1)
    assert not thread.is_alive()


Step = Message | Gate | BaseException


class Server:
    """The server's end of one scope.

    Args:
        scope: The scope. The application must leave it as it is.
        steps: What receive() does, one after the other: it returns a message,
            raises an exception, or waits for a gate to open and goes on. After
            the last it waits for the end of the exchange.

    Attributes:
        messages: What has been sent.
        dropped: What was sent after the client had left.
        receives: How often receive() was called.
        left: Open it to have the client leave at once.
        told: Open when receive() has reported the end, and the task that
            called it has acted on that.
    """

    ends_with: str

    def __init__(self, scope: Scope, *steps: Step) -> None:
        self.scope = scope
        self.messages: list[Message] = []
        self.dropped: list[Message] = []
        self.receives = 0
        self._has_told = False
        self.left = Gate("the client has left")
        self.told = Gate("receive() has reported the end")
        self._steps = deque(steps)
        self._ends = [self.left]
        self._faults: list[str] = []
        self._awaited: set[str] = set()
        self._sent: dict[int, Gate] = {}
        self._received: dict[int, Gate] = {}
        self._stalls: dict[int, Gate] = {}
        self._failure: tuple[int, BaseException] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._returned = False

    # For the test.

    def will_receive(self, *steps: Step) -> None:
        """Add to the script."""
        self._steps.extend(steps)

    def sent(self, count: int) -> Gate:
        """Give a gate that opens when so many messages have been sent."""
        gate = self._sent.setdefault(count, Gate(f"{count} messages have been sent"))
        if len(self.messages) >= count:
            gate.open()
        return gate

    def received(self, count: int) -> Gate:
        """Give a gate that opens when receive() has been called so often."""
        gate = self._received.setdefault(
            count, Gate(f"receive() has been called {count} times")
        )
        if self.receives >= count:
            gate.open()
        return gate

    def stall_at(self, number: int) -> Gate:
        """Have send() take its n-th message and then wait for the gate given."""
        return self._stalls.setdefault(number, Gate("the client reads on"))

    def fail_at(self, number: int, error: BaseException) -> None:
        """Have send() raise instead of taking its n-th message, and ever after."""
        self._failure = (number, error)

    def is_idle(self) -> Gate:
        """Give a gate that opens once the loop has run all that is ready; any thread.

        The task of the exchange then sleeps, if nothing has been put out for it.
        """
        gate = Gate("the loop is idle")
        loop = self._loop
        assert loop

        def count_turns(left: int) -> None:
            if left:
                loop.call_soon(count_turns, left - 1)
            else:
                gate.open()

        loop.call_soon_threadsafe(count_turns, IDLE_TURNS)
        return gate

    async def run(self, app: ASGIApp) -> None:
        """Have an application serve the scope; raises what that raises."""
        self._loop = asyncio.get_running_loop()
        before = {key: copy(value) for key, value in self.scope.items()}
        try:
            await app(self.scope, self.receive, self.send)
        finally:
            self._returned = True
            assert not self._faults
            if self.scope["type"] == "lifespan":
                # There it may add to what the server passes on, and no more.
                assert (before["state"] or {}).items() <= (
                    self.scope["state"] or {}
                ).items()
                before["state"] = self.scope["state"]
            assert self.scope == before

    # For the application.

    def receive(self) -> Awaitable[Message]:
        return _Awaitable(self._receive())

    def send(self, message: Message) -> Awaitable[None]:
        return _Awaitable(self._send(message))

    async def _receive(self) -> Message:
        with self._alone("receive"):
            self.receives += 1
            self.received(self.receives).open()
            while self._steps and not self._is_over():
                step = self._steps[0]
                if isinstance(step, Gate) and not step.is_open:
                    await first_open(step, *self._ends)
                    continue
                self._steps.popleft()
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, dict):
                    if step["type"] == self.ends_with:
                        self._tell()
                    return dict(step)
            if not self.told.is_open:
                await first_open(*self._ends)
                self._tell()
            return {"type": self.ends_with}

    def _tell(self) -> None:
        self._has_told = True
        # Once the task that receives has come to rest.
        asyncio.get_running_loop().call_soon(self.told.open)

    def _is_over(self) -> bool:
        return any(end.is_open for end in self._ends)

    async def _send(self, message: Message) -> None:
        with self._alone("send"):
            self._check(message)
            number = len(self.messages) + 1
            if self._failure and number >= self._failure[0]:
                raise self._failure[1]
            if self.left.is_open or (self._has_told and self._drops_all()):
                # Most servers report a client that has left here to nobody.
                self.dropped.append(dict(message))
                return
            self.messages.append(dict(message))
            self._after_send(message)
            self.sent(number).open()
            if number in self._stalls:
                await first_open(self._stalls[number], self.left)

    def _drops_all(self) -> bool:
        """Tell whether a client that has left gets nothing that is sent from now on."""
        return False

    def _check(self, message: Message) -> None:
        raise NotImplementedError

    def _after_send(self, message: Message) -> None:
        """React to a message that was sent."""

    def _expect(self, condition: object, fault: str) -> None:
        if not condition:
            self._faults.append(fault)
            raise AssertionError(fault)

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        self._expect(
            asyncio.get_running_loop() is self._loop, f"{what}() on another loop"
        )
        self._expect(not self._returned, f"{what}() after the adapter had returned")
        self._expect(what not in self._awaited, f"{what}() while another is awaited")
        self._awaited.add(what)
        try:
            yield
        finally:
            self._awaited.discard(what)


def make_scope(**changes: Any) -> Scope:
    """Make the scope of ``GET /``, with changes.

    Args:
        changes: Keys and values; headers come after the Host header.
    """
    headers = [(b"host", b"example.org"), *changes.pop("headers", ())]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("192.0.2.7", 4321),
        "server": ("203.0.113.5", 8000),
    } | changes


def piece(body: bytes, *, more: bool = True) -> Message:
    """Make one message of a request body."""
    return {"type": "http.request", "body": body, "more_body": more}


def pieces(*bodies: bytes) -> list[Message]:
    """Make the messages of a whole request body."""
    last = len(bodies) - 1
    return [piece(body, more=number < last) for number, body in enumerate(bodies)]


def disconnect() -> Message:
    """Make the message that says that the client has left."""
    return {"type": "http.disconnect"}


CHUNKED = (b"transfer-encoding", b"chunked")


def length(size: int) -> Header:
    """Make a Content-Length header."""
    return (b"content-length", b"%d" % size)


class HttpServer(Server):
    """The server's end of one request.

    Args:
        steps: As for `Server`; without any the request has no body.
        scope: Changes to `make_scope`.

    Attributes:
        complete: Open when the last message of the response has been sent. From
            then on receive() reports a disconnect, unless `tells_end` is false.
        tells_end: See `complete`.
    """

    ends_with = "http.disconnect"

    def __init__(self, *steps: Step, tells_end: bool = True, **scope: Any) -> None:
        super().__init__(make_scope(**scope), *(steps or pieces(b"")))
        self.complete = Gate("the response is complete")
        if tells_end:
            self._ends.append(self.complete)
        self._started = False
        self._has_trailers = False
        self._in_trailers = False
        self._ended = False
        self._bodiless = False
        self._declared: int | None = None
        self._size = 0

    def _drops_all(self) -> bool:
        return not self.messages

    def of_type(self, kind: str) -> list[Message]:
        """Give what was sent of one type, less the common beginning of its name."""
        return [m for m in self.messages if m["type"] == f"http.response.{kind}"]

    @property
    def status(self) -> int | None:
        return next((message["status"] for message in self.of_type("start")), None)

    @property
    def headers(self) -> list[Header]:
        return list(self.of_type("start")[0]["headers"])

    def header(self, name: bytes) -> bytes | None:
        """Give the value of a response header that is not repeated."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2
        return values[0] if values else None

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.of_type("body"))

    @property
    def links(self) -> list[list[bytes]]:
        """The early hints."""
        return [message["links"] for message in self.of_type("early_hint")]

    @property
    def trailers(self) -> list[Header] | None:
        return next((message["headers"] for message in self.of_type("trailers")), None)

    def _check(self, message: Message) -> None:
        self._expect(type(message) is dict, f"{message!r} is no dict")
        self._expect(not self._ended, f"{message!r} after the last message")
        kind = message["type"]
        if kind == "http.response.start":
            self._check_start(message)
        elif kind == "http.response.body":
            self._check_body(message)
        elif kind == "http.response.early_hint":
            self._check_early_hint(message)
        elif kind == "http.response.trailers":
            self._check_trailers(message)
        else:
            self._expect(False, f"{kind} was not offered")

    def _offers(self, extension: str) -> bool:
        return extension in (self.scope.get("extensions") or ())

    def _check_start(self, message: Message) -> None:
        self._expect(not self._started, "a second start")
        keys = {"type", "status", "headers"}
        if "trailers" in message:
            self._expect(message["trailers"] is True, repr(message))
            self._expect(self._offers("http.response.trailers"), "trailers not offered")
            self._has_trailers = True
            keys.add("trailers")
        self._expect(message.keys() == keys, repr(message))
        status = message["status"]
        self._expect(type(status) is int and 200 <= status <= 599, repr(status))
        names = self._check_fields(message["headers"])
        for name, value in message["headers"]:
            if name == b"content-length":
                self._declared = int(value)
        self._expect(names.count(b"content-length") < 2, "two lengths")
        self._expect(not _CONNECTION_HEADERS & set(names), repr(names))
        self._bodiless = self.scope["method"] == "HEAD" or status in {204, 205, 304}
        self._expect(not (self._bodiless and self._has_trailers), repr(message))
        self._started = True

    def _check_fields(self, fields: list[Header]) -> list[bytes]:
        for name, value in fields:
            self._expect(type(name) is bytes and _TOKEN.fullmatch(name), repr(name))
            self._check_value(value)
        return [name for name, _ in fields]

    def _check_value(self, value: bytes) -> None:
        self._expect(
            type(value) is bytes
            and value == value.strip()
            and not re.search(rb"[\r\n\0]", value),
            repr(value),
        )

    def _check_early_hint(self, message: Message) -> None:
        self._expect(self._offers(message["type"]), "hints were not offered")
        self._expect(not self._started, "a hint after the start")
        self._expect(message.keys() == {"type", "links"}, repr(message))
        self._expect(message["links"], repr(message))
        for link in message["links"]:
            self._check_value(link)

    def _check_trailers(self, message: Message) -> None:
        self._expect(self._in_trailers, "trailers that do not follow the body")
        self._expect(
            message.keys() == {"type", "headers", "more_trailers"}, repr(message)
        )
        self._expect(message["more_trailers"] is False, repr(message))
        self._check_fields(message["headers"])
        self._ended = True

    def _check_body(self, message: Message) -> None:
        self._expect(self._started, "a body before the start")
        self._expect(not self._in_trailers, "a body after its end")
        self._expect(message.keys() == {"type", "body", "more_body"}, repr(message))
        body, more = message["body"], message["more_body"]
        self._expect(type(body) is bytes, f"a body of {type(body)}")
        self._expect(type(more) is bool, f"more_body is {more!r}")
        self._size += len(body)
        if self._bodiless:
            self._expect(not body, "a body where there can be none")
        elif self._declared is not None:
            self._expect(self._size <= self._declared, "a body beyond its length")
            self._expect(more or self._size == self._declared, "a body too short")
        self._in_trailers = not more and self._has_trailers
        self._ended = not more and not self._has_trailers

    def _after_send(self, message: Message) -> None:
        if self._ended:
            self.complete.open()


def uploading(*steps: Step, header: Header = CHUNKED) -> HttpServer:
    """Make a server with a POST request whose body takes a script."""
    return HttpServer(*steps, method="POST", headers=[header])


def posting(*bodies: bytes, declared: bool = True, **scope: Any) -> HttpServer:
    """Make a server with a POST request.

    Args:
        bodies: The pieces in which the body arrives.
        declared: Whether the request says how long it is; else it is chunked.
        scope: Changes to `make_scope`.
    """
    size = sum(map(len, bodies))
    headers = [length(size) if declared else CHUNKED, *scope.pop("headers", ())]
    return HttpServer(*pieces(*bodies), method="POST", headers=headers, **scope)


def _in_one(body: bytes) -> list[bytes]:
    return [body]


def _by_byte(body: bytes) -> list[bytes]:
    return [body[at : at + 1] for at in range(len(body))]


def _with_gaps(body: bytes) -> list[bytes]:
    middle = len(body) // 2
    return [b"", body[:middle], b"", b"", body[middle:], b""]


# The three ways in which a body may arrive.
in_each_split = pytest.mark.parametrize(
    "split",
    [
        pytest.param(_in_one, id="one message"),
        pytest.param(_by_byte, id="one byte a message"),
        pytest.param(_with_gaps, id="empty messages in between"),
    ],
)
Split = Callable[[bytes], list[bytes]]


declared_or_not = pytest.mark.parametrize(
    "declared", [True, False], ids=["declared", "chunked"]
)
in_each_buffer = pytest.mark.parametrize(
    "buffer", [65536, 3], ids=["body fits the buffer", "body larger than the buffer"]
)


class LifespanServer(Server):
    """The server's end of one lifespan.

    Attributes:
        started: Open when start-up was answered.
        stopping: Open it to have the server shut down.
    """

    ends_with = "lifespan.shutdown"

    def __init__(self, *before: Step, state: dict[str, Any] | None = None) -> None:
        asgi = {"version": "3.0", "spec_version": "2.0"}
        scope = {"type": "lifespan", "asgi": asgi, "state": state or {}}
        self.stopping = Gate("the server stops")
        startup, shutdown = {"type": "lifespan.startup"}, {"type": self.ends_with}
        super().__init__(scope, *before, startup, self.stopping, shutdown)
        self.started = self.sent(1)

    def _check(self, message: Message) -> None:
        phase = "shutdown" if self.messages else "startup"
        self._expect(len(self.messages) < 2, f"{message!r} after the last message")
        keys = {
            f"lifespan.{phase}.complete": {"type"},
            f"lifespan.{phase}.failed": {"type", "message"},
        }
        self._expect(message.keys() == keys.get(message["type"]), repr(message))
        self._expect(type(message.get("message", "")) is str, repr(message))

    @property
    def answers(self) -> list[str]:
        return [message["type"] for message in self.messages]


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[LifespanServer]:
    """Have an application live as long as the block."""
    server = LifespanServer()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run(app))
        await server.started.reached()
        yield server
        server.stopping.open()


def connect() -> Message:
    """Make the message by which a client asks for a WebSocket."""
    return {"type": "websocket.connect"}


def incoming(data: str | bytes) -> Message:
    """Make the message of a client's message."""
    key = "text" if isinstance(data, str) else "bytes"
    return {"type": "websocket.receive", key: data}


def leaving(code: int = 1000, reason: str = "") -> Message:
    """Make the message that says that the client has closed."""
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


# Which messages an application may send, and what may come after that.
_WEBSOCKET_STATES = {
    "connecting": {
        "websocket.accept": "open",
        "websocket.close": "over",
        "websocket.http.response.start": "denied",
    },
    "open": {"websocket.send": "open", "websocket.close": "over"},
    "denied": {"websocket.http.response.body": "over"},
    "over": {},
}


class WebSocketServer(Server):
    """The server's end of one WebSocket.

    Args:
        steps: As for `Server`; without any the client connects and stays.
        denial: Whether the server offers to send any response for a refusal.
        scope: Changes to `make_scope`.

    Attributes:
        accepted: Open when the application has accepted.
        over: Open when nothing more can be sent. From then on receive() reports a
            disconnect, unless `tells_end` is false.
        tells_end: See `over`.
    """

    ends_with = "websocket.disconnect"

    def __init__(
        self, *steps: Step, denial: bool = True, tells_end: bool = True, **scope: Any
    ) -> None:
        extensions: Scope = {"websocket.http.response": {}} if denial else {}
        usual = {"scheme": "ws", "subprotocols": [], "extensions": extensions}
        made = make_scope(type="websocket", **usual | scope)
        del made["method"]
        super().__init__(made, *(steps or [connect()]))
        self.accepted = Gate("the WebSocket is accepted")
        self.over = Gate("the WebSocket is closed or refused")
        if tells_end:
            self._ends.append(self.over)
        self._state = "connecting"

    @property
    def kinds(self) -> list[str]:
        return [message["type"].removeprefix("websocket.") for message in self.messages]

    @property
    def data(self) -> list[str | bytes]:
        """What the client has been sent."""
        return [
            message["text"] if "text" in message else message["bytes"]
            for message in self.messages
            if message["type"] == "websocket.send"
        ]

    @property
    def close_code(self) -> int | None:
        code: int | None = self.messages[-1].get("code")
        return code

    @property
    def denial(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, headers and body of the response that was sent instead."""
        start, body = self.messages
        return start["status"], dict(start["headers"]), body["body"]

    def _check(self, message: Message) -> None:
        kind = message["type"]
        state = _WEBSOCKET_STATES[self._state].get(kind)
        self._expect(state, f"{message!r} while {self._state}")
        assert state
        self._state = state
        # Granian's close waits for a receive() that waits.
        alone = kind == "websocket.send" or "receive" not in self._awaited
        self._expect(alone, f"{kind} while a receive() is awaited")
        getattr(self, f"_check_{kind.removeprefix('websocket.').replace('.', '_')}")(
            message
        )

    def _check_accept(self, message: Message) -> None:
        self._expect(
            message.keys() == {"type", "subprotocol", "headers"}, repr(message)
        )
        offered = [None, *self.scope.get("subprotocols", ())]
        self._expect(message["subprotocol"] in offered, repr(message))
        for name, value in message["headers"]:
            self._expect(_TOKEN.fullmatch(name) and type(value) is bytes, repr(message))
            self._expect(not name.startswith(b"sec-websocket-"), repr(message))
            self._expect(name not in _CONNECTION_HEADERS, repr(message))
            self._expect(name != b"content-length", repr(message))

    def _check_send(self, message: Message) -> None:
        keys = message.keys() - {"type"}
        self._expect(keys in ({"text"}, {"bytes"}), repr(message))
        kind = str if "text" in message else bytes
        self._expect(type(message[keys.pop()]) is kind, repr(message))

    def _check_close(self, message: Message) -> None:
        self._expect(message.keys() == {"type", "code", "reason"}, repr(message))
        self._expect(type(message["code"]) is int, repr(message))
        self._expect(type(message["reason"]) is str, repr(message))
        self._expect(len(message["reason"].encode()) <= 123, repr(message))

    def _check_http_response_start(self, message: Message) -> None:
        offered = "websocket.http.response" in self.scope.get("extensions", ())
        self._expect(offered, f"{message!r} was not offered")
        names = [name for name, _ in message["headers"]]
        self._expect(names.count(b"content-length") == 1, repr(message))
        self._expect(not _CONNECTION_HEADERS & set(names), repr(message))
        self._declared = int(dict(message["headers"])[b"content-length"])

    def _check_http_response_body(self, message: Message) -> None:
        self._expect(not message["more_body"], repr(message))
        self._expect(len(message["body"]) == self._declared, repr(message))

    def _after_send(self, message: Message) -> None:
        if message["type"] == "websocket.accept":
            self.accepted.open()
        if self._state == "over":
            self.over.open()


def run(
    coroutine: Coroutine[Any, Any, T], loop_factory: LoopFactory | None = None
) -> T:
    """Run a test's coroutine on a new loop; it must leave no task behind."""

    async def bounded() -> T:
        own = asyncio.current_task()
        try:
            async with asyncio.timeout(RUN_S):
                return await coroutine
        finally:
            stray = [task for task in asyncio.all_tasks() if task is not own]
            assert not stray, stray

    with asyncio.Runner(debug=True, loop_factory=loop_factory) as runner:
        runner.get_loop().slow_callback_duration = BLOCKED_S
        return runner.run(bounded())


async def others_end() -> None:
    """Wait for all other tasks, where an adapter may leave some for a while."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=WAIT_S)


async def most_sent_in_a_turn(server: Server, app: Any) -> int:
    """Serve, and say how many messages were sent while no other task could run."""
    task = asyncio.create_task(server.run(app))
    most = before = 0
    while not task.done():
        await asyncio.sleep(0)
        most = max(most, len(server.messages) - before)
        before = len(server.messages)
    await task
    return most


def serve(
    app: ASGIApp, server: Server, loop_factory: LoopFactory | None = None
) -> None:
    """Have an application serve one scope on a new loop."""
    run(server.run(app), loop_factory)


async def serve_all(app: ASGIApp, servers: Iterable[Server]) -> None:
    """Have an application serve several scopes at once."""
    async with asyncio.TaskGroup() as tasks:
        for server in servers:
            tasks.create_task(server.run(app))


async def leave(app: ASGIApp, server: HttpServer, when: Gate) -> None:
    """Have the client leave; send() does not tell, so receive() must be asked."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run(app))
        await when.reached()
        server.left.open()


def assert_left(app: WsgiToAsgi) -> None:
    stats = app.stats()
    assert (stats.disconnected, stats.completed, stats.busy) == (1, 0, 0)
