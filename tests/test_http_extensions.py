"""Early hints and trailers in whole exchanges."""

import io
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from tests.apps import Body, Stream, echo, hello, start
from tests.drivers import (
    WAIT_S,
    Gate,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    MakeOptions,
    WebSocketServer,
    assert_left,
    connect,
    disconnect,
    in_each_executor,
    leave,
    length,
    on_each_loop,
    piece,
    posting,
    run,
    serve,
    uploading,
)
from wsgi_asgi import Limits
from wsgi_asgi._response import Response

HINT, TRAILERS = "http.response.early_hint", "http.response.trailers"
BOTH: dict[str, dict[str, Any]] = {HINT: {}, TRAILERS: {}}
HINTS_KEY = "wsgi.early_hints"
TRAILERS_KEYS = ("wsgi_asgi.send_trailers", "gunicorn.http2.send_trailers")
STYLE = ("Link", "</a.css>; rel=preload; as=style")
RAW_STYLE = STYLE[1].encode()
SUM, RAW_SUM = ("X-Sum", "1"), (b"x-sum", b"1")
BODY = b"0123456789" * 1000
SMALL_BUFFER = Limits(buffer=1000)


def offering(*steps: Any, **scope: Any) -> HttpServer:
    """Make a server as those are that offer both: one that speaks HTTP/2."""
    usual = {"http_version": "2", "extensions": BOTH}
    return HttpServer(*steps, **usual | scope)


def hint(environ: WSGIEnvironment, *headers: Any) -> None:
    environ[HINTS_KEY](list(headers or [STYLE]))


def send_trailers(environ: WSGIEnvironment, *headers: Any) -> None:
    environ[TRAILERS_KEYS[0]](list(headers))


# What is there.


@pytest.mark.parametrize(
    ("changes", "present"),
    [
        pytest.param({}, set(), id="no extensions"),
        pytest.param({"extensions": None}, set(), id="extensions are none"),
        pytest.param({"extensions": {}}, set(), id="empty"),
        pytest.param(
            {"extensions": {"http.response.pathsend": {}, "tls": {}}},
            set(),
            id="others",
        ),
        pytest.param({"extensions": {HINT: {}}}, {HINTS_KEY}, id="hints"),
        pytest.param({"extensions": {TRAILERS: {}}}, {*TRAILERS_KEYS}, id="trailers"),
        pytest.param({"extensions": BOTH}, {HINTS_KEY, *TRAILERS_KEYS}, id="both"),
    ],
)
def test_environ_has_what_the_server_offers(
    adapter: MakeAdapter, changes: dict[str, Any], present: set[str]
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        seen.append({HINTS_KEY, *TRAILERS_KEYS} & environ.keys())
        return hello(environ, start_response)

    seen: list[set[str]] = []
    serve(adapter(app), server := HttpServer(**changes))
    assert seen == [present]
    assert (server.status, server.body) == (200, b"Hello")


def test_environ_has_one_callable_by_both_names(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert len({environ[key] for key in TRAILERS_KEYS}) == 1
        return hello(environ, start_response)

    serve(adapter(app), server := offering())
    assert server.status == 200


def test_environ_of_a_websocket_has_neither(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        seen.append({HINTS_KEY, *TRAILERS_KEYS} & environ.keys())
        start(start_response, status="403 Forbidden")
        return []

    seen: list[set[str]] = []
    serve(adapter(app), WebSocketServer(connect(), extensions=BOTH))
    assert seen == [set()]


@pytest.mark.parametrize("extensions", [None, {}, {"http.response.pathsend": {}}])
def test_request_that_is_offered_neither_makes_nothing_for_them(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch, extensions: Any
) -> None:
    def fail(*arguments: object) -> NoReturn:
        raise AssertionError("something was made")

    monkeypatch.setattr("wsgi_asgi._http.Extensions", fail)
    serve(adapter(hello), server := HttpServer(extensions=extensions))
    assert server.status == 200


# Early hints.


@on_each_loop
@in_each_executor
def test_hint_is_sent_while_the_application_works(
    adapter: MakeAdapter, loop_factory: LoopFactory, make_options: MakeOptions
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        hint(environ)
        server.sent(1).wait()
        hint(environ, (b"link", b"</b.js>"), ("X-A", "1"))
        server.sent(2).wait()
        return hello(environ, start_response)

    server = offering()
    served = adapter(app, **make_options())
    serve(served, server, loop_factory)
    assert server.links == [[RAW_STYLE], [b"</b.js>"]]
    assert (server.status, server.body) == (200, b"Hello")
    assert served.stats().completed == 1


@pytest.mark.parametrize("http_version", ["1.1", "2", "3"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_hint_and_response_at_once_go_out_in_order(
    adapter: MakeAdapter, http_version: str, method: str
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        for _ in range(3):
            hint(environ)
        return hello(environ, start_response)

    server = offering(http_version=http_version, method=method)
    serve(adapter(app, validate=False), server)
    kinds = [
        message["type"].removeprefix("http.response.") for message in server.messages
    ]
    assert kinds == ["early_hint"] * 3 + ["start", "body"]


def test_hint_of_http_1_0_is_ignored(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        hint(environ)
        with pytest.raises(ValueError, match="control character"):
            hint(environ, ("Link", "\n"))
        return hello(environ, start_response)

    serve(adapter(app), server := offering(http_version="1.0"))
    assert (server.links, server.status) == ([], 200)


def test_hint_after_output_is_ignored(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        hint(environ)  # nothing is out yet
        yield b"a"
        hint(environ)
        yield b"b"
        hint(environ)

    serve(adapter(app), server := offering())
    assert (server.links, server.body) == ([[RAW_STYLE]], b"ab")


def test_hint_after_the_exchange_is_ignored(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        environs.append(environ)
        return hello(environ, start_response)

    environs: list[WSGIEnvironment] = []
    serve(adapter(app), server := offering())
    hint(environs[0])
    assert server.links == []


def test_hint_that_cannot_be_sent_is_an_error_of_the_application(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        with pytest.raises(ValueError, match="early hints.*control character"):
            hint(environ, STYLE, ("Link", "</a>\r\nSet-Cookie: evil=1"))
        with pytest.raises(TypeError, match="early hints.*str or bytes"):
            hint(environ, ("Link", None))
        return hello(environ, start_response)

    serve(adapter(app), server := offering())
    assert (server.links, server.status) == ([], 200)


def test_hint_of_another_thread_is_sent(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        others = [threading.Thread(target=hint, args=(environ,)) for _ in range(5)]
        for other in others:
            other.start()
        server.sent(5).wait()
        for other in others:
            other.join()
        return hello(environ, start_response)

    serve(adapter(app), server := offering())
    assert (server.links, server.body) == ([[RAW_STYLE]] * 5, b"Hello")


@pytest.fixture
def always_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have hints come too late, as where another thread is overtaken just then."""
    message = {"type": HINT, "links": [RAW_STYLE]}
    monkeypatch.setattr(Response, "early_hint", lambda *_: [message])


@pytest.mark.usefixtures("always_hint")
@pytest.mark.parametrize("http_version", ["1.1", "2"])
def test_hint_that_comes_second_to_the_start_is_not_sent(
    adapter: MakeAdapter, http_version: str
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        hint(environ)
        write = start(start_response)
        write(b"a")
        hint(environ)
        server.sent(3).wait()
        hint(environ)
        return Stream([b"b"], at_close=lambda: hint(environ))

    served = adapter(app)
    server = offering(http_version=http_version)
    serve(served, server)
    assert (server.links, server.body) == ([[RAW_STYLE]], b"ab")
    stats = served.stats()
    assert (stats.completed, stats.disconnected) == (1, 0)


@pytest.mark.usefixtures("always_hint")
def test_hint_that_comes_second_to_the_end_leaves_the_response_complete(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response, ("Content-Length", "5"))

        def close() -> None:
            server.complete.wait()
            hint(environ)
            server.told.wait()

        return Stream([b"Hello"], at_close=close)

    served = adapter(app)
    serve(served, server := offering())
    assert server.links == []
    assert served.stats().completed == 1


def test_hint_to_a_client_that_has_left_is_ignored(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        assert environ["wsgi_asgi.client_disconnected"].wait(WAIT_S)
        hint(environ)
        return hello(environ, start_response)

    begun = Gate("the application runs")
    served = adapter(app)
    run(leave(served, server := offering(), begun))
    assert server.messages == []
    assert_left(served)


def test_hint_does_not_ask_for_a_body_that_waits_for_100_continue(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        hint(environ)
        server.sent(1).wait()
        received.append(server.receives)
        return echo(environ, start_response)

    received: list[int] = []
    headers = [(b"expect", b"100-continue"), length(2)]
    server = offering(piece(b"ab", more=False), method="POST", headers=headers)
    serve(adapter(app), server)
    assert (received, server.body) == ([0], b"ab")


def test_hint_before_the_body_is_read_loses_none_of_it(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        hint(environ)
        server.sent(1).wait()
        return echo(environ, start_response)

    more = [BODY[at : at + 500] for at in range(0, len(BODY), 500)]
    server = posting(*more, http_version="2", extensions=BOTH)
    serve(adapter(app, limits=SMALL_BUFFER), server)
    assert (server.links, server.body) == ([[RAW_STYLE]], BODY)


def test_hint_that_the_server_cannot_send_any_more_ends_the_exchange(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        hint(environ)
        return hello(environ, start_response)

    served = adapter(app)
    server = offering()
    server.fail_at(1, ConnectionResetError("gone"))
    serve(served, server)
    assert_left(served)


# Trailers.


def checked(
    body: Callable[[WSGIEnvironment], Iterable[bytes]], *headers: tuple[str, str]
) -> WSGIApplication:
    """Make an application that announces trailers, and answers with a body."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        send_trailers(environ)
        start(start_response, *headers)
        return body(environ)

    return app


def summed(environ: WSGIEnvironment) -> Iterable[bytes]:
    """Give all of the body, and then its trailers."""
    yield from (b"ab", b"", b"cde")
    send_trailers(environ, SUM)


@on_each_loop
@in_each_executor
@pytest.mark.parametrize(
    "headers", [[], [("Content-Length", "5")]], ids=["no length", "length"]
)
def test_trailers_known_at_the_end_follow_the_body(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    make_options: MakeOptions,
    headers: list[tuple[str, str]],
) -> None:
    served = adapter(checked(summed, *headers), **make_options())
    serve(served, server := offering(), loop_factory)
    assert server.messages[0]["trailers"] is True
    assert (server.body, server.trailers) == (b"abcde", [RAW_SUM])
    assert server.complete.is_open
    assert served.stats().completed == 1


def _known(body: Body) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        send_trailers(environ, SUM)
        start(start_response)
        return body

    return app


def _written(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    write = start(start_response)
    send_trailers(environ)
    write(b"ab")
    write(b"cde")
    send_trailers(environ, SUM)
    return []


def _all_written(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    write = start(start_response, ("Content-Length", "5"))
    send_trailers(environ)
    write(b"abcde")
    send_trailers(environ, SUM)
    return []


@pytest.mark.parametrize(
    "app",
    [
        pytest.param(_known([b"abcde"]), id="list"),
        pytest.param(_known((b"ab", b"cde")), id="tuple"),
        pytest.param(_known([b"", b"abcde", b""]), id="empty chunks"),
        pytest.param(_written, id="write"),
        pytest.param(_all_written, id="write all of the length"),
    ],
)
@pytest.mark.parametrize("http_version", ["1.1", "2"])
def test_trailers_of_any_body_are_sent(
    adapter: MakeAdapter, app: WSGIApplication, http_version: str
) -> None:
    server = offering(http_version=http_version)
    serve(adapter(app, validate=False), server)
    assert (server.body, server.trailers) == (b"abcde", [RAW_SUM])
    assert server.complete.is_open


def test_trailers_of_an_empty_body_are_sent(adapter: MakeAdapter) -> None:
    serve(adapter(_known([]), validate=False), server := offering())
    assert (server.body, server.trailers) == (b"", [RAW_SUM])


def test_trailers_that_never_come_end_the_response_all_the_same(
    adapter: MakeAdapter,
) -> None:
    serve(adapter(checked(lambda environ: [b"a"])), server := offering())
    assert (server.body, server.trailers) == (b"a", [])
    assert server.complete.is_open


def test_trailers_by_gunicorns_name_are_sent(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        environ["gunicorn.http2.send_trailers"]([SUM])
        return hello(environ, start_response)

    serve(adapter(app), server := offering())
    assert server.trailers == [RAW_SUM]


def test_trailers_of_another_thread_are_sent(adapter: MakeAdapter) -> None:
    def body(environ: WSGIEnvironment) -> Iterable[bytes]:
        yield b"a"
        other = threading.Thread(target=send_trailers, args=(environ, SUM))
        other.start()
        other.join()

    serve(adapter(checked(body)), server := offering())
    assert server.trailers == [RAW_SUM]


@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")],
)
@pytest.mark.parametrize(
    "body", [[], [b"x"], iter([b"x", b"y"])], ids=["none", "list", "iterator"]
)
def test_trailers_of_a_response_without_content_are_dropped(
    adapter: MakeAdapter, method: str, status: str, body: Body
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        send_trailers(environ, SUM)
        start_response(status, [])
        yield from body
        send_trailers(environ, SUM)

    server = offering(method=method)
    serve(adapter(app, validate=False), server)
    assert (server.body, server.trailers) == (b"", None)
    assert server.complete.is_open


def test_trailers_not_announced_say_so_to_the_application(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield b"a"
        with pytest.raises(RuntimeError, match="before the first chunk"):
            send_trailers(environ, SUM)
        yield b"b"

    serve(adapter(app), server := offering())
    assert (server.body, server.trailers) == (b"ab", None)


def test_trailers_given_in_close_are_an_error(adapter: MakeAdapter) -> None:
    def body(environ: WSGIEnvironment) -> Iterable[bytes]:
        return Stream([b"a"], at_close=lambda: send_trailers(environ, SUM))

    server = offering()
    with pytest.raises(RuntimeError, match="after the response had ended"):
        serve(adapter(checked(body)), server)
    assert (server.body, server.trailers) == (b"a", [])


def test_iterable_longer_than_its_length_is_left_there(
    adapter: MakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    """PEP 3333, Handling the Content-Length Header."""
    chunks = Stream(iter(lambda: b"abcde", None))
    app = checked(lambda environ: chunks, ("Content-Length", "5"))
    served = adapter(app, validate=False)
    serve(served, server := offering())
    assert (server.body, server.trailers) == (b"abcde", [])
    assert (chunks.taken, chunks.closes) == (2, 1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Content-Length" in caplog.text
    caplog.clear()


# Trailers of files.


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(BODY)
    return path


def _of_file(path: Path, *headers: tuple[str, str]) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        send_trailers(environ, SUM)
        start(start_response, *headers)
        wrapped: Body = environ["wsgi.file_wrapper"](path.open("rb"))
        return wrapped

    return app


@pytest.mark.parametrize(
    "headers",
    [[], [("Content-Length", str(len(BODY)))], [("Content-Length", "5000")]],
    ids=["no length", "length", "less"],
)
@pytest.mark.parametrize("buffer", [65536, 1000], ids=["short file", "long file"])
@pytest.mark.parametrize("http_version", ["1.1", "2"])
def test_trailers_of_a_file_follow_it(
    adapter: MakeAdapter,
    file: Path,
    headers: list[tuple[str, str]],
    buffer: int,
    http_version: str,
) -> None:
    app = _of_file(file, *headers)
    served = adapter(app, validate=False, limits=Limits(buffer=buffer))
    extensions = {**BOTH, "http.response.pathsend": {}}
    server = offering(http_version=http_version, extensions=extensions)
    serve(served, server)
    expected = BODY[: int(dict(headers).get("Content-Length", len(BODY)))]
    assert (server.body, server.trailers) == (expected, [RAW_SUM])
    assert served.stats().completed == 1


def test_trailers_of_an_empty_file_follow_it(
    adapter: MakeAdapter, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    app = _of_file(tmp_path / "empty")
    serve(adapter(app, validate=False), server := offering())
    assert (server.body, server.trailers) == (b"", [RAW_SUM])


def test_trailers_of_what_is_no_plain_file_follow_it(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        send_trailers(environ, SUM)
        start(start_response)
        wrapped: Body = environ["wsgi.file_wrapper"](io.BytesIO(BODY))
        return wrapped

    serve(adapter(app, validate=False), server := offering())
    assert (server.body, server.trailers) == (BODY, [RAW_SUM])


def test_trailers_of_a_file_that_becomes_shorter_are_not_sent(
    adapter: MakeAdapter, file: Path
) -> None:
    served = adapter(_of_file(file), validate=False, limits=SMALL_BUFFER)
    server = offering()
    go_on = server.stall_at(1)

    def cut() -> None:
        file.write_bytes(b"")
        go_on.open()

    server.sent(1).on_open(cut)
    with pytest.raises(RuntimeError, match="become shorter"):
        serve(served, server)
    assert server.trailers is None
    assert not server.complete.is_open


# Trailers of what fails, and for who leaves.


def fail_at_the_end(environ: WSGIEnvironment) -> Iterable[bytes]:
    yield b"ab"
    yield b"cde"
    send_trailers(environ, SUM)
    raise LookupError("no sum")


@pytest.mark.parametrize(
    "headers", [[], [("Content-Length", "5")]], ids=["no length", "all of its length"]
)
def test_response_that_fails_after_the_announcement_stays_unfinished(
    adapter: MakeAdapter, headers: list[tuple[str, str]]
) -> None:
    server = offering()
    with pytest.raises(LookupError, match="no sum"):
        serve(adapter(checked(fail_at_the_end, *headers)), server)
    assert (server.body, server.trailers) == (b"abcde", None)
    assert not server.complete.is_open


def test_response_that_fails_before_its_start_sends_nothing(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        send_trailers(environ, SUM)
        raise LookupError("lost")

    server = offering()
    with pytest.raises(LookupError, match="lost"):
        serve(adapter(app), server)
    assert server.messages == []


def test_response_of_the_adapter_itself_has_no_trailers(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        send_trailers(environ, SUM)
        return echo(environ, start_response)

    server = uploading(piece(b"abc", more=True), piece(b"def", more=False))
    server.scope |= {"extensions": BOTH}
    serve(adapter(app, limits=Limits(body=5), spool=False), server)
    assert (server.status, server.trailers) == (413, None)
    assert server.complete.is_open


WHOLE = ("Content-Length", "1")


def test_client_that_leaves_before_the_trailers_is_noticed(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsgi_asgi._http.LAST_SEND_S", 0.01)

    def body(environ: WSGIEnvironment) -> Iterable[bytes]:
        yield b"a"
        assert environ["wsgi_asgi.client_disconnected"].wait(WAIT_S)
        send_trailers(environ, SUM)

    served = adapter(checked(body, WHOLE))
    server = offering()
    run(leave(served, server, server.sent(2)))
    assert server.trailers is None
    assert_left(served)


def test_server_that_takes_the_body_for_the_end_gets_the_trailers(
    adapter: MakeAdapter,
) -> None:
    """As gunicorn's, which says so to whoever receives between the two."""

    def body(environ: WSGIEnvironment) -> Iterable[bytes]:
        yield b"a"
        server.told.wait()
        send_trailers(environ, SUM)

    served = adapter(checked(body, WHOLE))
    server = offering(piece(b"", more=False))
    server.will_receive(server.sent(2), disconnect())
    serve(served, server)
    assert server.trailers == [RAW_SUM]
    assert served.stats().completed == 1


def test_server_that_cannot_send_the_trailers_ends_the_exchange(
    adapter: MakeAdapter,
) -> None:
    served = adapter(_known([b"a"]), validate=False)
    server = offering()
    server.fail_at(4, ConnectionResetError("gone"))
    serve(served, server)
    assert server.trailers is None
    assert_left(served)
