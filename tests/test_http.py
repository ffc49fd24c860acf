"""Whole exchanges: messages, scopes, applications of every kind, several at once."""

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
from asgiref.compatibility import is_double_callable

from tests.apps import (
    Body,
    answer_413_unread,
    answering,
    echo,
    hello,
    hello_by_write,
    hello_in_pieces,
    start,
)
from tests.drivers import (
    WAIT_S,
    Gate,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    make_scope,
    on_each_loop,
    piece,
    posting,
    run,
    serve,
    serve_all,
)
from wsgi_asgi import Limits

TOO_MANY = 1000
EXTENSIONS: dict[str, dict[str, Any]] = {
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.push": {},
    "http.response.trailers": {},
    "http.response.zerocopysend": {},
    "http.response.debug": {},
    "x-unknown": {},
}


@on_each_loop
@pytest.mark.parametrize("validate", [False, True], ids=["bare", "validated"])
@pytest.mark.parametrize(
    "app",
    [
        pytest.param(hello, id="list"),
        pytest.param(answering((b"Hello",)), id="tuple"),
        pytest.param(answering([b"Hel", b"", b"lo"]), id="list of several"),
        pytest.param(hello_in_pieces, id="generator"),
        pytest.param(hello_by_write, id="write"),
    ],
)
def test_request_answered_is_a_whole_response(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    app: WSGIApplication,
    validate: bool,
) -> None:
    server = HttpServer()
    serve(adapter(app, validate=validate), server, loop_factory)
    assert (server.status, server.body) == (200, b"Hello")
    assert server.header(b"content-type") == b"text/plain"
    assert [message["more_body"] for message in server.messages[1:-1]] == [
        True for _ in server.messages[2:]
    ]
    assert server.messages[-1]["more_body"] is False


@on_each_loop
def test_request_answered_leaves_the_adapter_idle(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    app = adapter(hello)

    async def main() -> None:
        await HttpServer().run(app)
        stats = app.stats()
        assert (stats.busy, stats.queued, stats.streams) == (0, 0, 0)
        assert (stats.completed, stats.rejected, stats.disconnected) == (1, 0, 0)

    run(main(), loop_factory)


@pytest.mark.parametrize("app", [hello, hello_in_pieces], ids=["list", "generator"])
def test_response_complete_is_not_followed_by_receiving(
    adapter: MakeAdapter, app: WSGIApplication
) -> None:
    server = HttpServer(tells_end=False)
    serve(adapter(app), server)
    assert server.complete.is_open


def test_fast_response_receives_nothing(adapter: MakeAdapter) -> None:
    server = HttpServer()
    serve(adapter(hello, validate=False), server)
    assert server.receives == 0


@pytest.mark.parametrize(
    ("changes", "removed"),
    [
        pytest.param({}, ["asgi"], id="no asgi key"),
        pytest.param({"asgi": {}}, [], id="empty asgi key"),
        pytest.param({"asgi": {"version": "2.0"}}, [], id="asgi 2.0"),
        pytest.param({"asgi": {"version": "2.1"}}, [], id="asgi 2.1"),
        pytest.param({"asgi": {"version": "3.0"}}, [], id="asgi 3.0"),
        pytest.param({"extensions": None}, [], id="extensions are none"),
        pytest.param({"extensions": {}}, [], id="no extensions"),
        pytest.param({"x-unknown": [1]}, [], id="unknown key"),
        pytest.param(
            {},
            ["asgi", "scheme", "raw_path", "root_path", "client", "server"],
            id="mandatory keys only",
        ),
    ],
)
def test_scope_of_any_version_is_served(
    adapter: MakeAdapter, changes: dict[str, Any], removed: list[str]
) -> None:
    server = HttpServer(**changes)
    for key in removed:
        del server.scope[key]
    serve(adapter(hello), server)
    assert (server.status, server.body) == (200, b"Hello")


@pytest.mark.parametrize("app", [hello, hello_in_pieces], ids=["list", "generator"])
def test_extensions_offered_are_not_used_unasked(
    adapter: MakeAdapter, app: WSGIApplication
) -> None:
    server = HttpServer(extensions=EXTENSIONS)
    serve(adapter(app), server)
    assert {message["type"] for message in server.messages} == {
        "http.response.start",
        "http.response.body",
    }


class Greeter:
    """An application as a class, as an instance, and as a method."""

    def __init__(self, environ: object = None, start_response: Any = None) -> None:
        self._start_response = start_response

    def __iter__(self) -> Any:
        self._start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"Hello"

    def __call__(self, environ: object, start_response: Any) -> Body:
        start(start_response)
        return [b"Hello"]

    def method(self, environ: object, start_response: Any) -> Body:
        return self(environ, start_response)


def _hello_with(text: bytes, environ: object, start_response: Any) -> Body:
    start(start_response)
    return [text]


def _hello_positional(
    environ: WSGIEnvironment, start_response: StartResponse, /
) -> Body:
    return hello(environ, start_response)


@pytest.mark.parametrize("validate", [False, True], ids=["bare", "validated"])
@pytest.mark.parametrize(
    "app",
    [
        pytest.param(Greeter, id="class"),
        pytest.param(Greeter(), id="instance"),
        pytest.param(Greeter().method, id="method"),
        pytest.param(functools.partial(_hello_with, b"Hello"), id="partial"),
        pytest.param(_hello_positional, id="positional only"),
        pytest.param(lambda e, s: hello(e, s), id="lambda with other names"),
    ],
)
def test_application_of_any_kind_is_called(
    adapter: MakeAdapter, app: WSGIApplication, validate: bool
) -> None:
    server = HttpServer()
    serve(adapter(app, validate=validate), server)
    assert (server.status, server.body) == (200, b"Hello")


class OldSequence:
    """Iterable by ``__getitem__`` alone, as before iterators."""

    def __getitem__(self, index: int) -> bytes:
        return [b"a", b"b", b"c"][index]


class LengthUnknown(list[bytes]):
    """A list whose len() fails."""

    def __len__(self) -> int:
        raise TypeError("no length")


class OwnIterable:
    def __iter__(self) -> Any:
        return iter([b"a", b"b", b"c"])


@pytest.mark.parametrize(
    "make_body",
    [
        pytest.param(lambda: [b"abc"], id="list"),
        pytest.param(lambda: [b"", b"a", b"", b"bc", b""], id="list with empty chunks"),
        pytest.param(lambda: (b"a", b"b", b"c"), id="tuple"),
        pytest.param(lambda: iter([b"a", b"b", b"c"]), id="iterator"),
        pytest.param(lambda: (c for c in (b"a", b"", b"bc")), id="generator"),
        pytest.param(lambda: {b"a": 1, b"b": 2, b"c": 3}, id="dict"),
        pytest.param(OwnIterable, id="iterable of its own"),
        pytest.param(OldSequence, id="old sequence"),
        pytest.param(lambda: LengthUnknown([b"a", b"bc"]), id="list without len"),
        pytest.param(lambda: map(bytes, ([97], [98, 99])), id="map"),
    ],
)
def test_body_of_any_iterable_is_sent(
    adapter: MakeAdapter, make_body: Callable[[], Iterable[bytes]]
) -> None:
    server = HttpServer()
    serve(adapter(answering(make_body()), validate=False), server)
    assert server.body == b"abc"
    assert server.complete.is_open


@pytest.mark.parametrize(
    "make_body",
    [
        pytest.param(list, id="empty list"),
        pytest.param(tuple, id="empty tuple"),
        pytest.param(lambda: [b"", b""], id="list of empty chunks"),
        pytest.param(lambda: iter([]), id="empty iterator"),
        pytest.param(lambda: iter([b"", b""]), id="iterator of empty chunks"),
    ],
)
def test_body_of_nothing_is_a_whole_response(
    adapter: MakeAdapter, make_body: Callable[[], Iterable[bytes]]
) -> None:
    server = HttpServer()
    app = answering(make_body(), ("X-A", "1"), status="302 Found")
    serve(adapter(app, validate=False), server)
    assert (server.status, server.header(b"x-a")) == (302, b"1")
    assert server.complete.is_open
    assert server.body == b""


@pytest.mark.parametrize(
    "body",
    [
        pytest.param([bytes(range(256)), b"\r\n0\r\n\r\n"], id="all bytes"),
        pytest.param([bytes(8_000_000)], id="8 MB in one chunk"),
        pytest.param([b"x" * size for size in range(1, 900)], id="chunks of each size"),
    ],
)
@pytest.mark.parametrize("validate", [False, True], ids=["list", "iterator"])
def test_body_arrives_unchanged(
    adapter: MakeAdapter, body: list[bytes], validate: bool
) -> None:
    server = HttpServer()
    serve(adapter(answering(body), validate=validate), server)
    assert server.body == b"".join(body)


def test_body_of_one_known_chunk_has_its_length(adapter: MakeAdapter) -> None:
    server = HttpServer()
    serve(adapter(hello, validate=False), server)
    assert server.header(b"content-length") == b"5"
    assert len(server.messages) == 2


@pytest.mark.parametrize(
    ("buffer", "length", "count"),
    [pytest.param(5, b"5", 2, id="buffer"), pytest.param(4, None, 3, id="more")],
)
def test_body_of_several_known_chunks_has_its_length_up_to_the_buffer(
    adapter: MakeAdapter, buffer: int, length: bytes | None, count: int
) -> None:
    server = HttpServer()
    limits = Limits(buffer=buffer)
    app = adapter(answering([b"Hel", b"lo"]), validate=False, limits=limits)
    serve(app, server)
    assert server.body == b"Hello"
    assert server.header(b"content-length") == length
    assert len(server.messages) == count


@on_each_loop
def test_body_of_very_many_known_chunks_is_sent_in_few_messages(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    lines = [b"%d;line\n" % number for number in range(100_000)]
    server = HttpServer()
    serve(adapter(answering(lines), validate=False), server, loop_factory)
    assert server.body == b"".join(lines)
    assert len(server.messages) < 100


def _write_and_return(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    start(start_response)(b"Hel")
    return [b"lo"]


@pytest.mark.parametrize(
    "app",
    [
        pytest.param(answering([b"Hel", b"lo"]), id="two chunks"),
        pytest.param(answering([b"", b"Hello"]), id="empty chunk first"),
        pytest.param(hello_in_pieces, id="generator"),
        pytest.param(_write_and_return, id="write and a list"),
    ],
)
def test_body_of_several_chunks_has_no_wrong_length(
    adapter: MakeAdapter, app: WSGIApplication
) -> None:
    server = HttpServer()
    serve(adapter(app, validate=False), server)
    assert server.body == b"Hello"
    assert server.header(b"content-length") in {None, b"5"}


@pytest.mark.parametrize("validate", [False, True], ids=["list", "iterator"])
@pytest.mark.parametrize(
    ("method", "status", "headers", "body", "expected_length"),
    [
        pytest.param(
            "HEAD",
            "200 OK",
            [("Content-Type", "text/plain"), ("Content-Length", "100")],
            [],
            b"100",
            id="head with length and no body",
        ),
        pytest.param(
            "HEAD",
            "200 OK",
            [("Content-Type", "text/plain")],
            [b"", b""],
            None,
            id="head without length and body",
        ),
        pytest.param(
            "HEAD",
            "200 OK",
            [("Content-Type", "text/plain"), ("Content-Length", "2")],
            [b"ab"],
            b"2",
            id="head with body",
        ),
        pytest.param(
            "GET", "204 No Content", [], [b""], None, id="no content, no body"
        ),
        pytest.param(
            "GET", "204 No Content", [], [b"ab"], None, id="no content with body"
        ),
        pytest.param(
            "GET", "304 Not Modified", [], [b"ab"], None, id="not modified with body"
        ),
        pytest.param(
            "GET",
            "304 Not Modified",
            [("Content-Length", "1234")],
            [],
            b"1234",
            id="not modified with length",
        ),
    ],
)
def test_response_without_body_is_complete(
    adapter: MakeAdapter,
    method: str,
    status: str,
    headers: list[tuple[str, str]],
    body: list[bytes],
    expected_length: bytes | None,
    validate: bool,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start_response(status, headers)
        return body

    server = HttpServer(method=method)
    serve(adapter(app, validate=validate), server)
    assert server.complete.is_open
    assert server.body == b""
    assert server.header(b"content-length") == expected_length


def test_status_without_reason_is_sent(adapter: MakeAdapter) -> None:
    server = HttpServer()
    serve(adapter(answering([b"x"], status="404"), validate=False), server)
    assert server.status == 404


@on_each_loop
def test_requests_at_once_get_their_own_answers(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    everyone = threading.Barrier(25)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        everyone.wait(WAIT_S)
        return echo(environ, start_response)

    bodies = [f"body {number}".encode() for number in range(25)]
    servers = [posting(body[:3], body[3:]) for body in bodies]
    run(serve_all(adapter(app), servers), loop_factory)
    assert [server.body for server in servers] == bodies


def test_requests_of_many_kinds_are_served_by_one_adapter(
    adapter: MakeAdapter,
) -> None:
    apps: list[WSGIApplication] = [
        hello,
        hello_in_pieces,
        hello_by_write,
        echo,
        answer_413_unread,
    ]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        number = int(environ["QUERY_STRING"])
        return apps[number](environ, start_response)

    served = adapter(app)

    async def main() -> list[HttpServer]:
        servers = []
        for _ in range(3):
            for number in range(len(apps)):
                query = b"%d" % number
                servers.append(HttpServer(query_string=query))
                servers.append(posting(b"ab", b"c", query_string=query))
                servers.append(HttpServer(method="HEAD", query_string=query))
        await serve_all(served, servers)
        return servers

    servers = run(main())
    assert all(server.complete.is_open for server in servers)
    assert served.stats().completed == len(servers)


def test_environ_changed_by_one_request_is_whole_in_the_next(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        method = environ["REQUEST_METHOD"].encode()
        environ.clear()
        return [method]

    served = adapter(app, validate=False)
    for _ in range(2):
        server = HttpServer()
        serve(served, server)
        assert server.body == b"GET"


def test_headers_that_can_be_read_but_once_are_seen_whole(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        body = environ["wsgi.input"].read(3)
        return [environ["HTTP_HOST"].encode(), b" ", body]

    class Once:
        def __init__(self, *headers: tuple[bytes, bytes]) -> None:
            self._headers = iter(headers)

        def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
            return self._headers

        def __copy__(self) -> "Once":
            return self

    server = HttpServer(piece(b"abc", more=False), method="POST")
    server.scope["headers"] = Once((b"content-length", b"3"), (b"host", b"a.example"))
    serve(adapter(app), server)
    assert server.body == b"a.example abc"


def test_adapter_looks_like_a_single_callable_to_servers(adapter: MakeAdapter) -> None:
    app = adapter(hello)
    assert inspect.iscoroutinefunction(app.__call__)
    assert not is_double_callable(app)  # type: ignore[no-untyped-call]  # asgiref's


def test_receive_that_repeats_the_body_does_not_hold_up_the_loop(
    adapter: MakeAdapter,
) -> None:
    # Middleware that has read the body often hands it on like this.
    streaming = Gate("the response streams")
    calls = 0
    messages: list[Any] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield environ["wsgi.input"].read(3)
        streaming.wait()
        yield b"def"

    async def receive() -> Any:
        nonlocal calls
        calls += 1
        if calls == TOO_MANY:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"abc", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)
        # The task that receives has had its turns when these are over.
        for _ in range(10):
            await asyncio.sleep(0)
        streaming.open()

    headers = [(b"content-length", b"3")]
    run(adapter(app)(make_scope(method="POST", headers=headers), receive, send))
    assert b"".join(message.get("body", b"") for message in messages) == b"abcdef"
    assert messages[-1]["more_body"] is False
    assert calls < TOO_MANY
