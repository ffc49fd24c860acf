"""The server's end of one ASGI scope: a fake server that is strict.

An exchange is a script of what ``receive()`` gives, and a record of what ``send()``
was given. It notes as a violation whatever no server should have to put up with, and
raises out of ``send()`` for a message that is wrong, as the ASGI specification asks
of servers. Its own methods may be called by any thread.
"""

import threading
from collections import deque
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Sequence,
)
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from conformance.gate import Gate, Hold
from conformance.judges import Judge
from conformance.loops import Loop

__all__ = [
    "PAUSE",
    "AsgiApp",
    "Exchange",
    "InvalidMessage",
    "Message",
    "Scope",
    "Script",
    "Step",
]

T = TypeVar("T")

Message = dict[str, Any]
Scope = dict[str, Any]
AsgiApp = Callable[[Any, Any, Any], Awaitable[object]]


class _Pause:
    """See `PAUSE`."""


# Lets receive() wait for a moment, so that what comes next comes later.
PAUSE = _Pause()
_PAUSE_S = 0.001

# A message is returned, an exception is raised, all else is waited for.
Step = Message | BaseException | Gate | Hold | _Pause
# Bytes stand for messages of a request body.
Script = Sequence[bytes | Step]


class InvalidMessage(Exception):
    """Raised out of send() for a message that a server cannot accept."""


class _Awaitable(Generic[T]):
    """An awaitable that is no coroutine."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()


class Exchange:
    """The server's end of one scope.

    Args:
        scope: Given to the adapter as it is.
        steps: What receive() gives, one after the other.
        judge: Judges what is sent.
        ends_with: What receive() gives after all steps, once the exchange is
            complete or the client has left.
        tells_end: Whether receive() reports the completion at all.
        coroutines: Whether receive() and send() give coroutines; else they give
            other awaitables, as granian's do.

    Attributes:
        messages: What was sent and accepted, in order.
        violations: What no server should have to put up with, in words.
        receives: How often receive() was called.
        taken: How many steps receive() has finished.
        ignored: Messages that were sent after the client had left.
        error: What the adapter raised.
        left: Open it to have the client leave.
        completed: The last message has been accepted.
        returned: The adapter has returned or raised.
        left_tasks: Tasks of the loop that were not there when the adapter was called,
            and were not over when it returned.
        awaited_on: Thread and loop of each call of receive() and send().
    """

    def __init__(
        self,
        scope: Scope,
        steps: list[Step],
        judge: Judge,
        *,
        ends_with: Message,
        tells_end: bool = True,
        coroutines: bool = True,
    ) -> None:
        self.scope = scope
        self.messages: list[Message] = []
        self.violations: list[str] = []
        self.receives = 0
        self.taken = 0
        self.ignored = 0
        self.error: BaseException | None = None
        self.left = Gate()
        self.completed = Gate()
        self.returned = Gate()
        self.left_tasks: set[Any] = set()
        self.awaited_on: set[tuple[int, int]] = set()
        self.on_send: Callable[[Message], object] | None = None
        self._judge = judge
        self._steps = deque(steps)
        self._ends_with = ends_with
        self._ends = [self.left, self.completed] if tells_end else [self.left]
        # A lifespan ends with a message too, but nobody has left then.
        self._gone = Gate() if ends_with["type"] == "lifespan.shutdown" else self.left
        self._coroutines = coroutines
        self._sends = 0
        self._failure: tuple[int, BaseException] | None = None
        self._stalls: dict[int, list[Gate]] = {}
        self._awaited: set[str] = set()
        self._watched: list[tuple[Callable[[], object], Gate]] = []
        self._watch_lock = threading.Lock()
        self._home: tuple[int, int] | None = None
        self._cancel: Callable[[], object] | None = None

    # What a check prepares.

    def fail_sends(self, number: int, error: BaseException) -> None:
        """Have send() raise at its n-th call, and ever after."""
        self._failure = (number, error)

    def stall_send(self, number: int, *, for_good: bool = False) -> Gate:
        """Have the n-th send() accept its message and then wait for the gate given.

        Args:
            number: Which.
            for_good: Wait for it also when the client has left, as servers do that
                wait for a client to read.
        """
        gate = Gate()
        self._stalls[number] = [gate] if for_good else [gate, self.left]
        return gate

    def when(self, condition: Callable[[], object]) -> Gate:
        """Give a gate that opens once something is true of this exchange."""
        gate = Gate()
        with self._watch_lock:
            self._watched.append((condition, gate))
        self._look()
        return gate

    def sent(self, count: int) -> Gate:
        """Give a gate that opens when so many messages have been sent."""
        return self.when(lambda: len(self.messages) >= count)

    def _look(self) -> None:
        with self._watch_lock:
            watched, self._watched = self._watched, []
            for condition, gate in watched:
                if condition():
                    gate.open()
                else:
                    self._watched.append((condition, gate))

    # The adapter's run.

    async def run(self, adapter: AsgiApp, loop: Loop) -> None:
        """Have an adapter serve the scope; what it raises is kept in `error`.

        Args:
            adapter: Which.
            loop: That of the calling task.
        """
        self._loop = loop
        self._home = loop.here()
        before = loop.tasks()
        with loop.cancellable() as self._cancel:
            try:
                await adapter(self.scope, self.receive, self.send)
            except BaseException as error:
                self.error = error
            finally:
                self.left_tasks = loop.tasks() - before
                self.returned.open()
                self._look()

    def cancel(self) -> None:
        """Cancel the adapter, as a server does that shuts down; any thread."""
        if self._cancel:
            self._loop.call_soon(self._cancel)

    # For the adapter.

    def receive(self) -> Awaitable[Message]:
        """ASGI's receive."""
        return self._as_awaitable(self._receive())

    def send(self, message: Message) -> Awaitable[None]:
        """ASGI's send."""
        return self._as_awaitable(self._send(message))

    def _as_awaitable(self, coroutine: Coroutine[Any, Any, T]) -> Awaitable[T]:
        return coroutine if self._coroutines else _Awaitable(coroutine)

    async def _receive(self) -> Message:
        with self._alone("receive"):
            self.receives += 1
            self._look()
            message = await self._next_message()
        self._look()
        return message

    async def _next_message(self) -> Message:
        while self._steps and not self._is_over():
            # Kept until it is over: an adapter may cancel its receive() and come back.
            step = self._steps[0]
            if isinstance(step, Gate):
                await self._loop.first_open(step, *self._ends)
            elif isinstance(step, Hold):
                await self._hold(step)
            elif isinstance(step, _Pause):
                await self._loop.pause(_PAUSE_S)
            else:
                self._steps.popleft()
                self.taken += 1
                if isinstance(step, BaseException):
                    raise step
                if step["type"] == self._ends_with["type"]:
                    self._gone.open()
                return dict(step)
            if self._steps and self._steps[0] is step:
                self._steps.popleft()
        if not self._is_over():
            await self._loop.first_open(*self._ends)
        return dict(self._ends_with)

    async def _hold(self, hold: Hold) -> None:
        hold.missed = not await self._loop.first_open(
            hold.gate, *self._ends, within=hold.within
        )

    def _is_over(self) -> bool:
        return any(end.is_open for end in self._ends)

    async def _send(self, message: Message) -> None:
        with self._alone("send"):
            self._sends += 1
            number = self._sends
            if self._failure and number >= self._failure[0]:
                raise self._failure[1]
            if self.left.is_open:
                self.ignored += 1
                # Servers that ignore what they are sent give others a turn too.
                await self._loop.pause()
                return
            self._accept(message)
            if number in self._stalls:
                await self._loop.first_open(*self._stalls[number])

    def _accept(self, message: Message) -> None:
        if isinstance(message, dict) and "headers" in message:
            # They may be an iterator, and are looked at more than once.
            with suppress(TypeError):
                message = {**message, "headers": list(message["headers"])}
        faults = self._judge.judge(message)
        if faults:
            self.violations += faults
            raise InvalidMessage(faults[0])
        self.messages.append(message)
        if self._judge.complete:
            self.completed.open()
        if self.on_send:
            self.on_send(message)
        self._look()

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        here = self._loop.here()
        self.awaited_on.add(here)
        if self.returned.is_open:
            self.violations.append(f"{what}() was called after the adapter returned")
        if here != self._home:
            self.violations.append(f"{what}() was awaited in another thread or loop")
        if what in self._awaited:
            self.violations.append(f"{what}() was called while another was awaited")
        self._awaited.add(what)
        try:
            yield
        finally:
            self._awaited.discard(what)

    def progress(self) -> str:
        """Say in words how far the exchange has come."""
        if not self.messages:
            return "nothing had been sent"
        kinds = [message["type"] for message in self.messages]
        shown = ", ".join(kinds[:3]) + (", …" if len(kinds) > 3 else "")
        end = "" if self.completed.is_open else ", not complete"
        count = "1 message" if len(kinds) == 1 else f"{len(kinds)} messages"
        return f"{count} had been sent ({shown}){end}"
