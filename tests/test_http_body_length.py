"""Request bodies whose length is unknown, announced in its own way, or too large."""

import asyncio
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from tests.apps import (
    Body,
    answer_413_unread,
    echo,
    hello,
    never_called,
    start,
)
from tests.drivers import (
    CHUNKED,
    WATCHED_S,
    Gate,
    Header,
    HttpServer,
    MakeAdapter,
    Split,
    declared_or_not,
    disconnect,
    in_each_buffer,
    in_each_split,
    length,
    piece,
    pieces,
    posting,
    run,
    serve,
    uploading,
)
from wsgi_asgi import Limits

TEXT = b"one\ntwo\n three and a half"
EXPECT = (b"expect", b"100-continue")


@pytest.mark.parametrize(
    "header", [CHUNKED, length(5), length(100_000)], ids=["chunked", "short", "long"]
)
def test_expect_continue_unread_is_never_received(
    adapter: MakeAdapter, header: Header
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        # Longer than the adapter waits before it looks after a request.
        with pytest.raises(AssertionError):
            server.received(1).wait(WATCHED_S)
        return answer_413_unread(environ, start_response)

    server = HttpServer(*pieces(b"hello"), method="PUT", headers=[header, EXPECT])
    serve(adapter(app, validate=False, spool=False), server)
    assert server.receives == 0
    assert (server.status, server.body) == (413, b"too much")


@in_each_buffer
@declared_or_not
@in_each_split
def test_expect_continue_read_is_received(
    adapter: MakeAdapter, split: Split, declared: bool, buffer: int
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert server.receives == 0
        return echo(environ, start_response)

    server = posting(*split(b"hello"), declared=declared, headers=[EXPECT])
    serve(adapter(app, limits=Limits(buffer=buffer), spool=False), server)
    assert server.body == b"hello"


@pytest.mark.parametrize(
    ("method", "version"),
    [
        pytest.param("POST", "1.1", id="post over http 1.1"),
        pytest.param("GET", "1.1", id="get over http 1.1"),
        pytest.param("DELETE", "2", id="delete over http 2"),
    ],
)
@in_each_split
def test_body_unannounced_is_received_when_it_is_read(
    adapter: MakeAdapter, split: Split, method: str, version: str
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert server.receives == 0
        return echo(environ, start_response)

    server = HttpServer(*pieces(*split(b"abc")), method=method, http_version=version)
    serve(adapter(app, spool=False), server)
    assert server.body == b"abc"


@in_each_split
def test_body_announced_in_other_letters_is_received_when_it_is_read(
    adapter: MakeAdapter, split: Split
) -> None:
    # Servers have to give names in lower case, but clients in process may not.
    headers = [(b"Content-Length", b"3"), (b"Expect", b"100-continue")]
    server = HttpServer(*pieces(*split(b"abc")), method="POST", headers=headers)
    serve(adapter(echo), server)
    assert server.body == b"abc"


def test_body_unannounced_and_unread_is_not_received(adapter: MakeAdapter) -> None:
    server = HttpServer(*pieces(b"abc"), method="POST")
    serve(adapter(hello, validate=False, spool=False), server)
    assert server.receives == 0


def test_body_received_while_the_client_was_watched_is_not_lost(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        server.received(2).wait()
        return echo(environ, start_response)

    server = HttpServer(*pieces(b"ab", b"c"), method="POST")
    serve(adapter(app), server)
    assert server.body == b"abc"


@pytest.mark.parametrize("version", ["2", "3"], ids=["http 2", "http 3"])
@in_each_split
def test_body_over_http_2_without_length_is_read_whole(
    adapter: MakeAdapter, split: Split, version: str
) -> None:
    server = HttpServer(*pieces(*split(TEXT)), method="POST", http_version=version)
    serve(adapter(echo), server)
    assert server.body == TEXT


def _echo_declared(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    """Read as Django does: not at all without a length."""
    start(start_response)
    return [environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))]


@pytest.mark.parametrize(
    ("header", "version"),
    [
        pytest.param(CHUNKED, "1.1", id="chunked"),
        pytest.param((b"x-a", b"1"), "2", id="http 2"),
    ],
)
def test_body_whole_in_its_first_message_has_a_length(
    adapter: MakeAdapter, header: Header, version: str
) -> None:
    server = HttpServer(
        *pieces(b"hello"), method="POST", http_version=version, headers=[header]
    )
    serve(adapter(_echo_declared), server)
    assert server.body == b"hello"


def test_silent_uploads_do_not_starve_other_requests(adapter: MakeAdapter) -> None:
    app = adapter(echo, threads=2, spool=False)
    never = Gate("the body comes")
    silent = [uploading(never, header=length(5)) for _ in range(3)]
    silent += [uploading(never) for _ in range(3)]

    async def main() -> None:
        tasks = [asyncio.create_task(server.run(app)) for server in silent]
        for server in silent:
            await server.received(1).reached()
        quick = HttpServer()
        await quick.run(app)
        assert quick.status == 200
        for server in silent:
            server.left.open()
        await asyncio.gather(*tasks)

    run(main())
    assert not any(server.messages for server in silent)


# Limits on bodies.


@pytest.mark.parametrize(
    ("method", "text"),
    [
        pytest.param("POST", b"The request body is longer than 4 bytes.\n", id="post"),
        pytest.param("HEAD", b"", id="head"),
    ],
)
def test_body_declared_over_the_limit_is_refused_unreceived(
    adapter: MakeAdapter, method: str, text: bytes
) -> None:
    app = adapter(never_called, limits=Limits(body=4))
    server = HttpServer(*pieces(b"hello"), method=method, headers=[length(5)])
    serve(app, server)
    assert (server.status, server.body) == (413, text)
    assert server.header(b"content-type") == b"text/plain; charset=utf-8"
    assert server.receives == 0
    assert app.stats().rejected == 1


@in_each_split
@declared_or_not
def test_body_of_just_the_limit_is_read(
    adapter: MakeAdapter, split: Split, declared: bool
) -> None:
    server = posting(*split(b"hello"), declared=declared)
    serve(adapter(echo, limits=Limits(body=5)), server)
    assert server.body == b"hello"


@pytest.mark.parametrize("spool", [False, True], ids=["streamed", "spooled"])
@in_each_split
def test_body_chunked_that_passes_the_limit_is_answered_413(
    adapter: MakeAdapter, split: Split, spool: bool
) -> None:
    app = adapter(echo, limits=Limits(body=4), spool=spool)
    server = posting(*split(b"hello"), declared=False)
    serve(app, server)
    assert server.status == 413
    assert b"longer than 4 bytes" in server.body
    assert (app.stats().rejected, app.stats().completed) == (1, 0)


def test_body_unannounced_that_passes_the_limit_is_answered_413(
    adapter: MakeAdapter,
) -> None:
    server = HttpServer(*pieces(b"hel", b"lo"), method="POST")
    serve(adapter(echo, limits=Limits(body=4)), server)
    assert server.status == 413


def test_body_over_the_limit_can_be_answered_by_the_application(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        with pytest.raises(OSError, match="longer than 4 bytes"):
            environ["wsgi.input"].read(10)
        start(start_response, status="400 Bad Request")
        return [b"my own words"]

    server = posting(b"hel", b"lo", declared=False)
    serve(adapter(app, limits=Limits(body=4), spool=False), server)
    assert (server.status, server.body) == (400, b"my own words")


def test_body_over_the_limit_taken_for_a_failure_is_answered_413(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        try:
            return echo(environ, start_response)
        except OSError:
            start(start_response, status="500 Internal Server Error")
            return [b"something went wrong"]

    server = uploading(*pieces(b"hel", b"lo"))
    serve(adapter(app, limits=Limits(body=4), spool=False), server)
    assert server.status == 413


def test_body_over_the_limit_after_output_leaves_the_response_unfinished(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield b"first"
        yield environ["wsgi.input"].read(10)

    server = posting(b"hel", b"lo", declared=False)
    served = adapter(app, limits=Limits(body=4), spool=False)
    serve(served, server)  # nothing is raised, for it is no error of the application's
    assert server.body == b"first"
    assert not server.complete.is_open
    assert (served.stats().rejected, served.stats().completed) == (1, 0)


# Bodies of unknown length, for applications that need one.


@pytest.mark.parametrize("buffer", [65536, 3], ids=["in memory", "in a file"])
@in_each_split
def test_spooled_body_has_a_length(
    adapter: MakeAdapter, split: Split, buffer: int
) -> None:
    app = adapter(_echo_declared, spool=True, limits=Limits(buffer=buffer))
    server = posting(*split(TEXT), declared=False)
    serve(app, server)
    assert server.body == TEXT


def test_spooled_body_that_breaks_off_never_reaches_the_application(
    adapter: MakeAdapter,
) -> None:
    app = adapter(never_called, spool=True)
    server = uploading(piece(b"ab"), piece(b"c"), disconnect())
    serve(app, server)
    assert not server.messages
    assert app.stats().disconnected == 1


def test_spooled_body_in_a_file_is_closed_with_the_request(
    adapter: MakeAdapter,
) -> None:
    streams = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        streams.append(environ["wsgi.input"])
        start(start_response)
        yield environ["wsgi.input"].read(3)

    served = adapter(app, validate=False, spool=True, limits=Limits(buffer=2))
    server = posting(b"ab", b"c", declared=False)
    serve(served, server)
    assert server.body == b"abc"
    assert streams[0].closed


def test_body_of_unknown_length_unread_is_warned_of_once(
    adapter: MakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    app = adapter(hello, spool=False)
    for _ in range(2):
        serve(app, posting(b"ab", b"c", declared=False))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "leave out spool=False" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("app", "bodies", "declared"),
    [
        pytest.param(answer_413_unread, [b"a", b"b"], False, id="refused"),
        pytest.param(echo, [b"a", b"b"], False, id="read"),
        pytest.param(hello, [b"a", b"b"], True, id="declared"),
        pytest.param(hello, [b"ab"], False, id="whole when the application runs"),
    ],
)
def test_body_that_can_be_read_is_not_warned_of(
    adapter: MakeAdapter, app: WSGIApplication, bodies: list[bytes], declared: bool
) -> None:
    server = posting(*bodies, declared=declared)
    serve(adapter(app), server)  # the fixture fails the test for a warning
    assert server.complete.is_open
