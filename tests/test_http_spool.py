"""Request bodies that are received whole before the application runs."""

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.apps import Body, echo, hello, never_called, read_blocks, start
from tests.drivers import (
    CHUNKED,
    Gate,
    Header,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    Scope,
    Split,
    Step,
    assert_ends,
    disconnect,
    in_each_buffer,
    in_each_split,
    length,
    on_each_loop,
    piece,
    pieces,
    posting,
    run,
    serve,
    until,
    uploading,
)
from wsgi_asgi import Limits, WsgiToAsgi
from wsgi_asgi._bridge import MAX_ITEMS
from wsgi_asgi._spool import Storage

TEXT = b"one\ntwo\n three and a half"
EXPECT = (b"expect", b"100-continue")

# Why a body of a known length is received whole.
in_each_whole_way = pytest.mark.parametrize(
    "make_options",
    [
        pytest.param(lambda: {"spool": "all"}, id="all are"),
        pytest.param(lambda: {"spool": lambda scope: "all"}, id="a callable says so"),
        pytest.param(lambda: {"limits": {"uploads": 0}}, id="no place is free"),
        pytest.param(lambda: {"threads": 1}, id="one thread"),
        pytest.param(lambda: {"executor": ThreadPoolExecutor(2)}, id="executor given"),
        pytest.param(lambda: {"thread_sensitive": True}, id="asgiref's thread"),
    ],
)
MakeOptions = Callable[[], dict[str, Any]]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[IO[bytes]]:
    """List the temporary files that are made."""
    files: list[IO[bytes]] = []
    make = tempfile.TemporaryFile

    def record(**options: Any) -> IO[bytes]:
        files.append(make(**options))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", record)
    return files


def make_whole(
    adapter: MakeAdapter,
    app: Any,
    make_options: MakeOptions,
    *,
    validate: bool = True,
    **limits: Any,
) -> WsgiToAsgi:
    """Make an adapter by one of `in_each_whole_way`, with a small buffer."""
    options = make_options()
    all_limits = Limits(**{"buffer": 3} | limits | options.pop("limits", {}))
    return adapter(app, validate=validate, limits=all_limits, **options)


def nothing_is_kept(app: WsgiToAsgi, disk: list[IO[bytes]]) -> bool:
    intake = app._http.intake
    return (
        intake.storage._used == intake.uploads.taken == 0
        and all(file.closed for file in disk)
        and not app.stats().busy
    )


def show(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    """Say what the environ says of the body, and how long that is."""
    body = b"".join(read_blocks(environ))
    names = ("CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING")
    start(start_response)
    said = [f"{name}={environ[name]}" for name in names if name in environ]
    return [" ".join([*said, str(len(body))]).encode()]


# What the application sees.


@pytest.mark.parametrize(
    ("version", "method", "headers", "said"),
    [
        pytest.param("1.1", "POST", [CHUNKED], b"CONTENT_LENGTH=25 25", id="chunked"),
        pytest.param("1.1", "GET", [CHUNKED], b"CONTENT_LENGTH=25 25", id="in a get"),
        pytest.param(
            "1.1",
            "POST",
            [CHUNKED, length(3)],
            b"CONTENT_LENGTH=25 25",
            id="chunked with a length",
        ),
        pytest.param(
            "1.1", "POST", [], b"CONTENT_LENGTH=25 25", id="unannounced over http 1.1"
        ),
        pytest.param(
            "1.1", "PROPFIND", [], b"CONTENT_LENGTH=25 25", id="of a method unheard of"
        ),
        pytest.param("1.1", "DELETE", [], b"25", id="unannounced in a delete"),
        pytest.param(
            "2", "POST", [], b"CONTENT_LENGTH=25 25", id="unannounced over http 2"
        ),
        pytest.param("2", "DELETE", [], b"25", id="of a delete over http 2"),
        pytest.param("2", "POST", [length(25)], b"CONTENT_LENGTH=25 25", id="known"),
    ],
)
@in_each_buffer
@in_each_split
def test_body_has_a_length_and_no_coding(
    adapter: MakeAdapter,
    split: Split,
    buffer: int,
    version: str,
    method: str,
    headers: list[Header],
    said: bytes,
) -> None:
    app = adapter(show, validate=False, limits=Limits(buffer=buffer))
    server = HttpServer(
        *pieces(*split(TEXT)), method=method, headers=headers, http_version=version
    )
    serve(app, server)
    assert server.body == said


@pytest.mark.parametrize(
    ("version", "method", "headers", "said"),
    [
        pytest.param("1.1", "POST", [], b"0", id="nothing was announced"),
        pytest.param("1.1", "GET", [], b"0", id="nothing was announced in a get"),
        pytest.param("2", "GET", [], b"0", id="nothing was announced over http 2"),
        pytest.param(
            "1.1", "POST", [CHUNKED], b"CONTENT_LENGTH=0 0", id="a body was announced"
        ),
        pytest.param(
            "1.1", "POST", [length(0)], b"CONTENT_LENGTH=0 0", id="none was announced"
        ),
    ],
)
@pytest.mark.parametrize("threads", [40, 1])
def test_length_is_made_up_only_for_a_body(
    adapter: MakeAdapter,
    version: str,
    method: str,
    headers: list[Header],
    said: bytes,
    threads: int,
) -> None:
    server = HttpServer(method=method, headers=headers, http_version=version)
    serve(adapter(show, validate=False, threads=threads), server)
    assert server.body == said


@in_each_split
def test_body_that_streams_keeps_its_coding_and_has_no_length(
    adapter: MakeAdapter, split: Split
) -> None:
    server = uploading(*map(piece, split(TEXT)))
    server.will_receive(piece(b"", more=False))
    serve(adapter(show, validate=False, spool=False), server)
    assert server.body == b"HTTP_TRANSFER_ENCODING=chunked 25"


@on_each_loop
@in_each_whole_way
@in_each_split
def test_body_of_known_length_is_whole_when_the_application_runs(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    make_options: MakeOptions,
    disk: list[IO[bytes]],
    split: Split,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert server.receives == len(bodies)
        assert environ["CONTENT_LENGTH"] == str(len(TEXT))
        return echo(environ, start_response)

    bodies = split(TEXT)
    if not bodies[-1]:
        bodies.pop()  # its end is known
    server = posting(*bodies)
    served = make_whole(adapter, app, make_options)
    serve(served, server, loop_factory)
    assert server.body == TEXT
    assert len(disk) == 1
    until(lambda: nothing_is_kept(served, disk), "nothing is kept")


@in_each_whole_way
@pytest.mark.parametrize("size", [2, 25], ids=["short", "long"])
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_body_that_the_client_asks_leave_for_is_received_first(
    adapter: MakeAdapter, make_options: MakeOptions, size: int, declared: bool
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert server.receives == 1
        return echo(environ, start_response)

    server = posting(TEXT[:size], declared=declared, headers=[EXPECT])
    serve(make_whole(adapter, app, make_options), server)
    assert server.body == TEXT[:size]


@in_each_whole_way
@in_each_split
@pytest.mark.parametrize("size", [2, 25], ids=["short", "long"])
def test_body_beyond_its_length_is_cut(
    adapter: MakeAdapter, make_options: MakeOptions, split: Split, size: int
) -> None:
    server = uploading(*pieces(*split(TEXT + b"more")), header=length(size))
    serve(make_whole(adapter, echo, make_options), server)
    assert server.body == TEXT[:size]


@in_each_whole_way
@in_each_split
@pytest.mark.parametrize("size", [2, 25], ids=["short", "long"])
def test_body_short_of_its_length_is_an_error_where_it_ends(
    adapter: MakeAdapter, make_options: MakeOptions, split: Split, size: int
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        stream = environ["wsgi.input"]
        assert stream.read(size) == TEXT[:size]
        with pytest.raises(OSError, match=f"1 bytes short of the {size + 1}"):
            stream.read(1)
        start(start_response, status="400 Bad Request")
        return [b"too short"]

    server = uploading(*pieces(*split(TEXT[:size])), header=length(size + 1))
    serve(make_whole(adapter, app, make_options, validate=False), server)
    assert (server.status, server.body) == (400, b"too short")


@in_each_whole_way
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "not declared"])
def test_body_over_http_2_is_whole_when_its_end_is_marked(
    adapter: MakeAdapter, make_options: MakeOptions, declared: bool
) -> None:
    marked = Gate("the end of the body is marked")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert marked.is_open
        return echo(environ, start_response)

    server = HttpServer(
        piece(TEXT),
        marked,
        piece(b"", more=False),
        method="POST",
        http_version="2",
        headers=[length(len(TEXT))] if declared else [],
    )
    served = make_whole(adapter, app, make_options)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.received(2).reached()
            await server.sent(1).stays_shut()
            marked.open()

    run(main())
    assert server.body == TEXT


class Piece(bytes):
    """Bytes that are counted as long as they are there."""

    there = 0
    most = 0

    def __new__(cls, value: bytes) -> "Piece":
        Piece.there += 1
        Piece.most = max(Piece.most, Piece.there)
        return super().__new__(cls, value)

    def __del__(self) -> None:
        Piece.there -= 1


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
@pytest.mark.parametrize("body", [b"", b"x"], ids=["nothing", "one byte"])
def test_body_in_many_pieces_is_not_kept_piece_by_piece(
    adapter: MakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
    declared: bool,
    body: bytes,
) -> None:
    class Source(HttpServer):
        async def _receive(self) -> dict[str, Any]:
            message = await super()._receive()
            return message | {"body": Piece(message["body"])}

    monkeypatch.setattr(Piece, "most", 0)
    count = 3 * MAX_ITEMS
    header = length(count * len(body) + 1) if declared else CHUNKED
    server = Source(
        *[piece(body)] * count,
        piece(b"!", more=False),
        method="POST",
        headers=[header],
    )
    serve(adapter(echo), server)
    assert server.body == body * count + b"!"
    assert Piece.most <= MAX_ITEMS + 2


# What is received whole.


@pytest.mark.parametrize(
    ("policy", "declared", "is_whole"),
    [
        ("all", True, True),
        ("all", False, True),
        (True, True, False),
        (True, False, True),
        (False, True, False),
        (False, False, False),
    ],
)
@pytest.mark.parametrize("is_asked", [True, False], ids=["by a callable", "for all"])
def test_policy_decides_which_bodies_are_received_whole(
    adapter: MakeAdapter,
    policy: bool | str,
    declared: bool,
    is_whole: bool,
    is_asked: bool,
) -> None:
    begun = Gate("the application runs")
    asked: list[tuple[Scope, int]] = []

    def choose(scope: Scope) -> bool | str:
        asked.append((scope, threading.get_ident()))
        return policy

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert not is_whole or server.receives == 2
        begun.open()
        return echo(environ, start_response)

    steps: list[Step] = [*pieces(TEXT[:9], TEXT[9:])]
    if not is_whole:
        steps.insert(1, begun)
    header = length(len(TEXT)) if declared else CHUNKED
    server = HttpServer(*steps, method="POST", headers=[header])
    served = adapter(app, spool=choose if is_asked else policy, limits=Limits(buffer=3))
    serve(served, server)
    assert server.body == TEXT
    # On the event loop, and once.
    assert asked == ([(server.scope, threading.get_ident())] if is_asked else [])


@pytest.mark.parametrize("policy", [1, None, "yes", "ALL", ["all"]])
def test_policy_that_is_none_is_refused_at_construction(policy: Any) -> None:
    with pytest.raises(TypeError, match='spool is True, False, "all" or a callable'):
        WsgiToAsgi(hello, spool=policy)


@pytest.mark.parametrize("policy", [1, None, "yes"])
def test_callable_that_gives_no_policy_is_an_error_of_the_request(
    adapter: MakeAdapter, policy: Any
) -> None:
    app = adapter(never_called, spool=lambda scope: policy)
    server = posting(b"a", declared=False)
    with pytest.raises(TypeError, match=f"a callable .*, not {policy!r}"):
        serve(app, server)
    assert not server.messages
    assert app.stats().busy == app.stats().queued == 0


def test_callable_that_fails_is_an_error_of_the_request(adapter: MakeAdapter) -> None:
    def fail(scope: Scope) -> bool:
        raise LookupError("the policy fails")

    with pytest.raises(LookupError, match="the policy fails"):
        serve(adapter(never_called, spool=fail), posting(b"a", declared=False))


# Bounds.


@pytest.mark.parametrize(
    ("size", "status"), [(25, 200), (26, 413)], ids=["just as long", "longer"]
)
@in_each_split
def test_body_longer_than_may_be_spooled_is_answered_413(
    adapter: MakeAdapter,
    disk: list[IO[bytes]],
    split: Split,
    size: int,
    status: int,
) -> None:
    app = adapter(show, validate=False, limits=Limits(spool=25, buffer=3))
    server = posting(*split(b"x" * size), declared=False)
    serve(app, server)
    assert server.status == status
    if status == 413:
        assert server.body == b"The request body is longer than 25 bytes.\n"
        assert app.stats().rejected == 1
    until(lambda: nothing_is_kept(app, disk), "nothing is kept")


@pytest.mark.parametrize(
    ("options", "status"),
    [
        pytest.param({"spool": "all"}, 413, id="all are"),
        pytest.param({"threads": 1}, 413, id="one thread"),
        pytest.param({}, 200, id="it streams"),
    ],
)
@pytest.mark.parametrize("buffer", [3, 65536], ids=["in a file", "in memory"])
def test_body_announced_longer_than_may_be_spooled_is_refused_unreceived(
    adapter: MakeAdapter, options: dict[str, Any], status: int, buffer: int
) -> None:
    app = adapter(
        hello, validate=False, limits=Limits(spool=24, buffer=buffer), **options
    )
    server = posting(TEXT)
    serve(app, server)
    assert server.status == status
    if status == 413:
        assert server.receives == 0


def test_body_that_may_stream_later_is_answered_503_where_no_place_is_free(
    adapter: MakeAdapter,
) -> None:
    app = adapter(echo, limits=Limits(spool=24, buffer=3, uploads=0))
    server = posting(TEXT)
    serve(app, server)
    assert server.status == 503
    assert server.header(b"retry-after") == b"10"
    assert server.receives == 0


def test_bound_of_a_body_goes_before_that_of_a_spool(adapter: MakeAdapter) -> None:
    app = adapter(never_called, limits=Limits(body=10, spool=10, spool_total=0))
    server = posting(TEXT, declared=False)
    serve(app, server)
    assert server.status == 413


def test_body_beyond_the_room_of_all_is_answered_503_until_there_is_room(
    adapter: MakeAdapter, disk: list[IO[bytes]]
) -> None:
    running, go_on = Gate("the first request runs"), Gate("it may end")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        if environ["PATH_INFO"] == "/first":
            running.open()
            go_on.wait()
        return echo(environ, start_response)

    served = adapter(app, limits=Limits(buffer=3, spool_total=30))
    first = posting(TEXT, declared=False, path="/first")
    second, third = (posting(TEXT, declared=False) for _ in range(2))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(first.run(served))
            await running.reached()
            await second.run(served)
            go_on.open()
        await third.run(served)

    run(main())
    assert (second.status, second.header(b"retry-after")) == (503, b"10")
    assert (first.body, third.body) == (TEXT, TEXT)
    until(lambda: nothing_is_kept(served, disk), "nothing is kept")


def test_body_on_a_full_disk_is_answered_503(
    adapter: MakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(**_: Any) -> IO[bytes]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    app = adapter(never_called, limits=Limits(buffer=3))
    server = posting(TEXT, declared=False)
    serve(app, server)
    assert server.status == 503
    assert app.stats().rejected == 1
    [record] = caplog.records
    assert "No space left on device" in record.getMessage()
    caplog.clear()


# Whatever happens, no file stays open.


@on_each_loop
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([piece(TEXT), disconnect()], id="the client leaves"),
        pytest.param([piece(TEXT), RuntimeError("it fails")], id="receive() fails"),
        pytest.param([piece(TEXT), {"type": "http.bogus"}], id="a bogus message"),
    ],
)
@pytest.mark.parametrize("header", [CHUNKED, length(100)], ids=["chunked", "declared"])
def test_body_that_breaks_off_leaves_nothing(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    disk: list[IO[bytes]],
    steps: list[Step],
    header: Header,
) -> None:
    app = adapter(never_called, spool="all", limits=Limits(buffer=3))
    with contextlib.suppress(RuntimeError):
        serve(app, uploading(*steps, header=header), loop_factory)
    assert len(disk) == 1
    until(lambda: nothing_is_kept(app, disk), "nothing is kept")


@on_each_loop
def test_body_whose_task_is_cancelled_leaves_nothing(
    adapter: MakeAdapter, loop_factory: LoopFactory, disk: list[IO[bytes]]
) -> None:
    app = adapter(never_called, limits=Limits(buffer=3))
    server = uploading(piece(TEXT), Gate("more comes"))

    async def main() -> None:
        task = asyncio.create_task(server.run(app))
        await server.received(2).reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main(), loop_factory)
    assert len(disk) == 1
    until(lambda: nothing_is_kept(app, disk), "nothing is kept")


@in_each_whole_way
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_request_dropped_from_the_queue_leaves_nothing(
    adapter: MakeAdapter,
    make_options: MakeOptions,
    disk: list[IO[bytes]],
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    options = make_options()
    if "executor" in options:
        options["executor"] = ThreadPoolExecutor(1)
    elif not options.get("thread_sensitive"):
        options |= {"threads": 1}
    running, go_on = Gate("the thread is taken"), Gate("it is free")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert environ["PATH_INFO"] == "/first"
        running.open()
        go_on.wait()
        return hello(environ, start_response)

    served = make_whole(adapter, app, lambda: options, abandoned_timeout=0)
    server = HttpServer(
        *pieces(TEXT[:9], TEXT[9:]), method=method, headers=[length(len(TEXT))]
    )

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(HttpServer(path="/first").run(served))
            await running.reached()
            task = tasks.create_task(server.run(served))
            await server.received(3).reached()  # it listens for the client
            assert not nothing_is_kept(served, disk)
            server.left.open()
            await task
            assert all(file.closed for file in disk)
            assert not served._http.intake.storage._used
            go_on.open()

    run(main())
    assert len(disk) == 1
    assert served.stats().dropped == (method == "POST")
    until(lambda: nothing_is_kept(served, disk), "nothing is kept")
    caplog.clear()


def test_request_that_no_executor_takes_leaves_nothing(
    adapter: MakeAdapter, disk: list[IO[bytes]]
) -> None:
    executor = ThreadPoolExecutor(1)
    app = adapter(never_called, executor=executor, limits=Limits(buffer=3))
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        serve(app, posting(TEXT, declared=False))
    assert len(disk) == 1
    until(lambda: nothing_is_kept(app, disk), "nothing is kept")


def test_application_that_fails_leaves_nothing(
    adapter: MakeAdapter, disk: list[IO[bytes]]
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        raise LookupError("the application fails")

    served = adapter(app, limits=Limits(buffer=3))
    with pytest.raises(LookupError):
        serve(served, posting(TEXT, declared=False))
    assert len(disk) == 1
    until(lambda: nothing_is_kept(served, disk), "nothing is kept")


class Interrupted(Storage):
    """Has room given back by the thread that is just taking some."""

    def _most(self) -> int:
        self.give_back(5)
        return super()._most()


def test_room_is_given_back_by_the_thread_that_takes_some(adapter: MakeAdapter) -> None:
    # It may have to collect garbage, which may be a request that was thrown away.
    storage = Interrupted(adapter(hello)._bridge, memory=1, total=8)
    storage._used = 5
    assert_ends(lambda: storage.take(3))
    assert storage._used == 3
