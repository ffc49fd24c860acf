"""Applications of any behaviour, against a model of what must come of them.

Nothing of the adapter comes by the clock here: what would be done only by one of its
looks at what takes long, is never done. So whatever comes late elsewhere hangs here,
and a hang is a failure.

The same applications are tried each time. ``RANDOM_APPS=10000`` in the environment
tries so many, of which nobody has seen most.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings

from tests.drivers import (
    CHUNKED,
    Gate,
    HttpServer,
    MakeOptions,
    Message,
    in_each_executor,
    length,
    pieces,
    until,
)
from tests.pep3333 import Expected, permitted
from tests.random_apps import (
    Oops,
    Pace,
    Performance,
    RandomApp,
    Start,
    random_apps,
    request_body,
)
from wsgi_asgi import Limits, WsgiToAsgi, _departure, _port
from wsgi_asgi._bridge import Crossing
from wsgi_asgi._pool import Bell

# What one application may take. It takes some milliseconds.
HANG_S = 4.0
# The same while Hypothesis looks for the smallest that fails, and what that may take.
SHRINKING_HANG_S = 0.5
SHRINKING_S = 15.0
# The clock by which nothing comes.
NEVER_S = 3600.0
# Calls that a slow client takes its time for. There may be thousands.
SLOW_CALLS = 20
# What anything that a task does between two sleeps takes of the loop's turns.
TURNS = 40

COUNT = int(os.environ.get("RANDOM_APPS", "0"))
PROFILE = settings(
    derandomize=not COUNT,
    database=None,
    deadline=None,
    max_examples=COUNT or 400,
    report_multiple_bugs=False,
)


class PacedServer(HttpServer):
    """A server and its client that take their time."""

    def __init__(self, app: RandomApp) -> None:
        body = request_body(app)
        size = length(sum(map(len, body)))
        headers = [CHUNKED if app.chunked else size] if app.method == "POST" else []
        super().__init__(
            *pieces(*body or [b""]),
            method=app.method,
            http_version=app.version,
            headers=headers,
        )
        self._receives = app.receives
        self._sends = app.sends
        self._delays = 0
        if app.leaves is not None:
            self.sent(app.leaves).on_open(self.left.open)

    async def _receive(self) -> Message:
        await self._take_time(self._receives)
        return await super()._receive()

    async def _send(self, message: Message) -> None:
        await super()._send(message)
        await self._take_time(self._sends)

    async def _take_time(self, pace: Pace) -> None:
        self._delays += 1
        if self._delays > SLOW_CALLS:
            return
        if pace == "in some turns":
            for _ in range(3):
                await asyncio.sleep(0)
        elif pace == "in a while":
            await asyncio.sleep(0.001)


def until_idle(loop: asyncio.AbstractEventLoop) -> None:
    """Wait in a thread until all tasks of a loop sleep."""
    idle = Gate("all tasks sleep")

    def turn(left: int) -> None:
        if left:
            loop.call_soon(turn, left - 1)
        else:
            idle.open()

    loop.call_soon_threadsafe(turn, TURNS)
    idle.wait()


class Stage:
    """Where applications are tried, one after the other, on one loop.

    Args:
        options: The adapter's.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._adapters: dict[tuple[int, bool], WsgiToAsgi] = {}
        self._performance: Performance
        self._runner = asyncio.Runner()
        self._failures: dict[RandomApp, str] = {}
        self._failed_at = 0.0

    def adapter(self, app: RandomApp) -> WsgiToAsgi:
        key = app.buffer, app.spool
        if key not in self._adapters:
            self._adapters[key] = WsgiToAsgi(
                lambda *arguments: self._performance(*arguments),
                limits=Limits(buffer=app.buffer),
                spool=app.spool,
                **self._options,
            )
        return self._adapters[key]

    def close(self) -> None:
        self._runner.close()
        for adapter in self._adapters.values():
            until(lambda: not adapter.stats().busy, "all threads are free")  # noqa: B023  # called at once
            adapter.executor.shutdown()

    def check(self, app: RandomApp) -> None:
        """Try an application.

        Hypothesis asks for the same again, and each that hangs takes its time. So what
        has failed is known, and after a while all others pass.
        """
        failure = self._failures.get(app)
        if failure is None and not (
            self._failures and time.monotonic() - self._failed_at > SHRINKING_S
        ):
            failure = self._runner.run(self._try(app))
            if failure:
                self._failed_at = self._failed_at or time.monotonic()
                self._failures[app] = failure
        assert not failure, f"{app}: {failure}"

    async def _try(self, app: RandomApp) -> str | None:
        loop = asyncio.get_running_loop()
        server = PacedServer(app)
        performance = self._performance = Performance(
            app, lambda: until_idle(loop), lambda: len(server.body)
        )
        error: BaseException | None = None
        try:
            async with asyncio.timeout(SHRINKING_HANG_S if self._failures else HANG_S):
                await server.run(self.adapter(app))
        except TimeoutError:
            return f"it hangs; sent so far: {server.messages!r:.500}"
        except Exception as caught:
            error = caught
        if stray := asyncio.all_tasks() - {asyncio.current_task()}:
            return f"it left tasks behind: {stray}"
        return find_fault(app, server, performance, error)


def find_fault(
    app: RandomApp,
    server: HttpServer,
    performance: Performance,
    error: BaseException | None,
) -> str | None:
    """Compare what has come of an application with what may."""
    if performance.misread:
        return performance.misread
    if performance.is_broken_off and not (
        server.left.is_open or server.complete.is_open
    ):
        return "the request body broke off"
    if performance.is_late:
        return "a chunk was asked for after close()"
    if performance.file and not performance.file.closed:
        return "the file was not closed"
    faults = [
        compare_left(expected, server, performance)
        if server.left.is_open and not server.complete.is_open
        else compare(expected, server, performance, error)
        for expected in permitted(app)
    ]
    return None if None in faults else faults[0]


def compare(
    expected: Expected,
    server: HttpServer,
    performance: Performance,
    error: BaseException | None,
) -> str | None:
    what = error.args[0] if isinstance(error, Oops) else error and "a rule"
    wanted = "a rule" if isinstance(expected.error, str) else expected.error
    if what != wanted and not (server.left.is_open and what is None):
        return f"{error!r} and not {expected.error!r} was raised"
    if server.complete.is_open != expected.is_complete:
        return f"complete: {server.complete.is_open}; sent {server.messages!r:.500}"
    if fault := compare_sent(expected, server):
        return fault
    if len(server.body) < (expected.least or 0):
        return f"{len(server.body)} bytes and not {expected.least} were sent"
    if expected.least is not None and not server.messages:
        return "nothing was sent"
    if performance.counts_chunks and performance.taken != expected.taken:
        return f"{performance.taken} chunks and not {expected.taken} were taken"
    if len(performance.closes) != expected.closes:
        return f"close() was called {len(performance.closes)} times"
    if expected.error is None and expected.is_in_parts:
        for sent in performance.closes:
            if sent < len(expected.body):
                return f"close() was called when {sent} bytes had been sent"
    return None


def compare_left(
    expected: Expected, server: HttpServer, performance: Performance
) -> str | None:
    """Compare where the client has left."""
    closes = len(performance.closes)
    if closes > 1 or (performance.has_returned and closes < expected.closes):
        return f"close() was called {closes} times"
    return compare_sent(expected, server)


def compare_sent(expected: Expected, server: HttpServer) -> str | None:
    """Compare what was sent, be it all or less."""
    if not server.messages:
        return None
    start = expected.start
    if start is None:
        return f"{server.messages!r:.500} was sent"
    if (server.status, server.header(b"x-mark")) != (
        int(start.status[:3]),
        b"%d" % start.mark,
    ):
        return f"{server.messages[0]} was sent"
    if not expected.body.startswith(server.body):
        return f"{server.body!r:.500} was sent"
    return compare_length(expected, start, server)


def compare_length(expected: Expected, start: Start, server: HttpServer) -> str | None:
    """Compare the Content-Length, which a server may add where it is known."""
    sent = server.header(b"content-length")
    if server.status in (204, 205):
        return f"Content-Length {sent!r} was sent" if sent else None
    if start.length is not None:
        return None if sent == b"%d" % start.length else f"Content-Length {sent!r}"
    if sent is None or server.scope["method"] == "HEAD" or server.status == 304:
        return None
    is_right = expected.is_complete and int(sent) == len(expected.body)
    return None if is_right else f"Content-Length {sent!r} was made up"


@contextmanager
def stage(options: dict[str, Any]) -> Iterator[Stage]:
    made = Stage(options)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def without_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be done because the time for it has come."""

    def wait_bell(self: Crossing, bell: Bell, patience: float = 0) -> None:
        bell.wait()

    monkeypatch.setattr(_port, "TICK_S", NEVER_S)
    monkeypatch.setattr(_departure, "LIVENESS_S", NEVER_S)
    monkeypatch.setattr(Crossing, "wait_bell", wait_bell)


@in_each_executor
@pytest.mark.usefixtures("without_clock")
def test_any_application_has_the_response_that_the_specification_says(
    make_options: MakeOptions,
) -> None:
    with stage(make_options()) as trial:

        @PROFILE
        @given(random_apps())
        def check(app: RandomApp) -> None:
            trial.check(app)

        check()
