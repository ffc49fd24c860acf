"""The response body that the application returns.

The central rule is close(): once, always, on the object that was returned.
"""

import io
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from conformance.apps import (
    Body,
    NoWrite,
    answering,
    begin,
    begin_writing,
    endless,
)
from conformance.bench import Bench
from conformance.checking import NotOffered, check, expect, expect_equal, fail
from conformance.exchanges import HttpExchange
from conformance.gate import Gate, come_to_rest
from conformance.timing import HAPPENS_S

Chunks = Iterable[bytes]


def returning(make_body: Callable[[], Any], *headers: tuple[str, str]) -> Any:
    """Make an application that returns what a function gives."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        begin(start_response, *headers)
        return make_body()

    return app


def expect_closed_once(body: Body) -> None:
    """Expect close() to have been called, and once."""
    expect(body.closed.wait(), "close() was not called")
    expect(body.closes == 1, f"close() was called {body.closes} times")


@check("ASGI-HTTP-body-01")
def one_chunk(bench: Bench) -> None:
    """A list of one chunk gives one start message and its body."""
    exchange = bench.request(answering([b"hello"]))
    starts = [m for m in exchange.messages if m["type"] == "http.response.start"]
    expect_equal(len(starts), 1, "the count of start messages")
    expect_equal(exchange.status, 200, "the status")
    expect_equal(exchange.body, b"hello", "the body")


@check("PEP3333-iterable-04")
def binary_chunks(bench: Bench) -> None:
    """Chunks are sent unchanged and in order."""
    # Adapters may join what is small and pass on what is large.
    large = b"large" * 20_000
    chunks = [bytes(range(256)), b"\r\n", large, b"\n\r", b"\r", large, b"end"]
    for body in (chunks, iter(chunks)):
        exchange = bench.request(answering(body))
        expect_equal(exchange.body, b"".join(chunks), "the body")


class _OldSequence:
    def __getitem__(self, index: int) -> bytes:
        return [b"a", b"b", b"c"][index]


class _Custom:
    def __iter__(self) -> Iterator[bytes]:
        yield from (b"a", b"b", b"c")


@check("PEP3333-iterable-05")
def iterables_of_any_kind(bench: Bench) -> None:
    """Tuples, iterators, generators, old sequences and other iterables work."""
    kinds: dict[str, Callable[[], Any]] = {
        "tuple": lambda: (b"a", b"b", b"c"),
        "iterator": lambda: iter([b"a", b"b", b"c"]),
        "generator": lambda: (chunk for chunk in (b"a", b"b", b"c")),
        "object with __getitem__": _OldSequence,
        "object with __iter__": _Custom,
        "dict": lambda: {b"a": 1, b"b": 2, b"c": 3},
    }
    for kind, make_body in kinds.items():
        exchange = bench.attempt(returning(make_body))
        expect(
            exchange.complete and exchange.body == b"abc",
            f"for a {kind} there was {exchange.outcome()}, expected b'abc'",
        )


@check("PEP3333-iterable-06")
def empty_list(bench: Bench) -> None:
    """An empty list gives a whole response without a body."""
    exchange = bench.request(answering([], status="201 Created"))
    expect_equal(exchange.status, 201, "the status")
    expect_equal(exchange.body, b"", "the body")


@check("PEP3333-iterable-07")
def generator_that_yields_nothing(bench: Bench) -> None:
    """A generator that yields nothing gives a whole response."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        begin(start_response, ("location", "/"), status="302 Found")
        yield from ()

    exchange = bench.request(app)
    expect_equal(exchange.status, 302, "the status")
    expect_equal(exchange.header(b"location"), b"/", "the header")


@check("PEP3333-iterable-08")
def empty_chunk_in_the_middle(bench: Bench) -> None:
    """An empty chunk does not end the response."""
    exchange = bench.request(answering(iter([b"a", b"", b"b"])))
    expect_equal(exchange.body, b"ab", "the body")


@check("ASGI-HTTP-body-02")
def one_final_message(bench: Bench) -> None:
    """Exactly one message ends the body, and it is the last."""
    for chunks in ([], [b"a"], [b"a", b"b"]):
        exchange = bench.request(answering(iter(chunks)))
        bodies = [m for m in exchange.messages if m["type"] == "http.response.body"]
        ends = [not message.get("more_body", False) for message in bodies]
        wanted = [False] * (len(ends) - 1) + [True]
        expect_equal(ends, wanted, f"which messages end the body of {chunks!r}")
    _expect_one_end_after_write(bench)


def _expect_one_end_after_write(bench: Bench) -> None:
    """Expect one end where write() has given all that Content-Length promised."""
    for chunks in ([], [b"", b""]):
        exchange = HttpExchange()
        written = exchange.sent(2)

        def app(
            environ: WSGIEnvironment,
            start_response: StartResponse,
            chunks: Chunks = tuple(chunks),
            written: Gate = written,
        ) -> Chunks:
            begin_writing(start_response, ("content-length", "4"))(b"full")
            written.wait()  # else two ends might be joined to one
            return iter(chunks)

        bench.attempt(app, exchange)
        if isinstance(exchange.error, NoWrite):
            return  # there is a check for that
        good = exchange.complete and exchange.error is None and exchange.body == b"full"
        said = f"for a body that was written, and {chunks!r}, there was"
        expect(good, f"{said} {exchange.outcome()}")


@check("PEP3333-length-01")
def length_of_one_chunk(bench: Bench) -> None:
    """A body of one chunk gets its Content-Length."""
    exchange = bench.request(answering([b"hello"]))
    expect_equal(exchange.header(b"content-length"), b"5", "Content-Length")


@check("PEP3333-length-02")
def length_is_not_guessed(bench: Bench) -> None:
    """No Content-Length is made up that is wrong."""

    def writes(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin_writing(start_response)(b"abc")
        return [b"def"]

    apps: dict[str, WSGIApplication] = {
        "a generator": answering(chunk for chunk in (b"abc", b"def")),
        "two chunks": answering([b"abc", b"def"]),
        "an empty chunk and another": answering([b"", b"abcdef"]),
        "write() and a chunk": writes,
    }
    for kind, app in apps.items():
        exchange = bench.attempt(app)
        if isinstance(exchange.error, NoWrite):
            continue  # there is a check for that
        expect(exchange.complete, f"for {kind} there was {exchange.outcome()}")
        length = exchange.header(b"content-length")
        wrong = length not in (None, b"6")
        expect(
            not wrong, f"Content-Length for {kind} is {length!r}, expected 6 or none"
        )


@check("PEP3333-close-01")
def close_after_the_end(bench: Bench) -> None:
    """close() is called once after a normal response."""
    body = Body([b"a", b"b"])
    bench.request(answering(body))
    expect_closed_once(body)


@check("PEP3333-close-02")
def close_after_an_error(bench: Bench) -> None:
    """close() is called once when iteration raises."""

    def chunks() -> Iterator[bytes]:
        yield b"a"
        raise ValueError("planned")

    body = Body(chunks())
    bench.attempt(answering(body))
    expect_closed_once(body)


@check("PEP3333-close-03")
def close_after_a_failed_send(bench: Bench) -> None:
    """close() is called once when the client has left and send() raises."""
    body = Body([b"a"] * 1000)
    exchange = HttpExchange()
    exchange.fail_sends(2, OSError("the client has left"))
    bench.attempt(answering(body), exchange)
    expect_closed_once(body)


@check("PEP3333-close-04")
def close_at_content_length(bench: Bench) -> None:
    """close() is called once when iteration stops at Content-Length."""
    body = Body([b"abc", b"de", b"fgh"])
    bench.attempt(answering(body, ("content-length", "5")))
    expect_closed_once(body)


@check("PEP3333-close-05")
def close_without_start_response(bench: Bench) -> None:
    """close() is called once when start_response() never was."""
    body = Body([b"a"])
    bench.attempt(lambda environ, start_response: body)
    expect_closed_once(body)


@check("PEP3333-close-06")
def close_of_what_was_returned(bench: Bench) -> None:
    """close() is that of the returned object, not of its iterator."""

    class Outer(Body):
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a", b"b"])

    body = Outer([])
    bench.request(answering(body))
    expect_closed_once(body)


@check("PEP3333-close-07")
def close_after_the_last_chunk(bench: Bench) -> None:
    """close() is called after the server has been given the last chunk."""
    exchange = HttpExchange()
    stall = exchange.stall_send(2)
    body = Body([b"one", b"two"])
    served = bench.serve(answering(body))
    served.start(exchange)
    exchange.sent(2).wait()
    come_to_rest(lambda: body.taken + body.closes)
    early, given = body.closes, exchange.body
    stall.open()
    served.finish(exchange)
    expect(not early, f"it was called when the server had been given {given!r}")
    expect_closed_once(body)


@check("PRACTICE-close-01")
def close_after_the_final_message(bench: Bench) -> None:
    """The message that ends the response is sent before close() is called."""
    exchange = HttpExchange()
    seen: list[bool] = []
    body = Body(
        [b"a", b"b"], on_close=lambda: seen.append(exchange.completed.wait(HAPPENS_S))
    )
    bench.request(answering(body), exchange)
    expect_closed_once(body)
    expect(seen == [True], "close() was called before the response was complete")


@check("PEP3333-close-08")
def error_in_close(bench: Bench) -> None:
    """An error in close() does not spoil a response that was delivered."""

    def planned() -> None:
        raise ValueError("planned")

    body = Body([b"a", b"b"], on_close=planned)
    exchange = bench.attempt(answering(body))
    expect(exchange.complete, f"there was {exchange.outcome()}")
    expect_equal(exchange.body, b"ab", "the body")
    expect_closed_once(body)


@check("PEP3333-iterable-09")
def length_that_raises(bench: Bench) -> None:
    """An iterable whose len() raises is accepted."""

    class NoLength(Body):
        def __len__(self) -> int:
            raise ValueError("no length")

    exchange = bench.request(answering(NoLength([b"a", b"b"])))
    expect_equal(exchange.body, b"ab", "the body")


@check("PEP3333-streaming-01")
def chunk_is_sent_at_once(bench: Bench) -> None:
    """Each chunk is sent before the next is there."""
    exchange = HttpExchange()
    one, two = (exchange.when(lambda n=n: exchange.body == n) for n in (b"a", b"ab"))  # type: ignore[misc]  # no default for a lambda's argument in Callable
    seen: list[bool] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        begin(start_response)
        yield b"a"
        seen.append(one.wait())
        yield b"b"
        seen.append(two.wait())
        yield b"c"

    bench.request(app, exchange)
    expect(seen == [True, True], "a chunk was not sent before the next was made")


def _taken_by_a_stalled_client(bench: Bench, size: int, count: int) -> int:
    """Let a client stop reading at the first chunk, and count what was taken."""
    exchange = HttpExchange()
    stall = exchange.stall_send(2)
    body = Body(b"x" * size for _ in range(count))
    served = bench.serve(answering(body))
    served.start(exchange)
    exchange.sent(2).wait()
    taken = come_to_rest(lambda: body.taken)
    stall.open()
    served.finish(exchange)
    return taken


@check("PEP3333-streaming-02")
def slow_client(bench: Bench) -> None:
    """A client that does not read keeps the application from going on."""
    taken = _taken_by_a_stalled_client(bench, 1000, 2000)
    expect(taken <= 100, f"{taken} of 2000 chunks were taken while the client stalled")


@check("PRACTICE-streaming-06")
def slow_client_of_large_chunks(bench: Bench) -> None:
    """What is taken for a client that does not read is bounded in bytes."""
    taken = _taken_by_a_stalled_client(bench, 1024 * 1024, 40)
    expect(taken <= 4, f"{taken} of 40 MiB were taken while the client stalled")


@check("PEP3333-length-03")
def body_beyond_its_length(bench: Bench) -> None:
    """No more bytes are sent than Content-Length says."""
    for chunks in ([b"0123456789"], [b"012", b"3456", b"789"]):
        exchange = bench.attempt(answering(chunks, ("content-length", "5")))
        expect_equal(exchange.body, b"01234", f"the body for {chunks!r} and length 5")


@check("PEP3333-length-04")
def iteration_stops_at_the_length(bench: Bench) -> None:
    """Iteration stops once Content-Length bytes have been sent."""
    body = Body([b"abc", b"de", b"fgh", b"ijk"])
    bench.attempt(answering(body, ("content-length", "5")))
    expect(body.taken <= 2, f"{body.taken} chunks were taken, the first 2 were enough")


@check("PEP3333-length-04")
def iteration_stops_after_write(bench: Bench) -> None:
    """Once write() has given Content-Length bytes, the iterable is not exhausted."""
    body = Body(endless())

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin_writing(start_response, ("content-length", "5"))(b"01234")
        return body

    served = bench.serve(app)
    exchange = served.start(HttpExchange())
    ended = exchange.returned.wait()
    exchange.left.open()
    if isinstance(exchange.error, NoWrite):
        return  # there is a check for that
    expect(ended, f"{body.taken} chunks were taken after all had been written")
    expect_equal(exchange.body, b"01234", "the body")
    expect(body.taken <= 1, f"{body.taken} chunks were taken after all was written")


@check("PEP3333-length-05")
def write_beyond_the_length(bench: Bench) -> None:
    """write() beyond Content-Length sends nothing beyond it."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        write = begin_writing(start_response, ("content-length", "5"))
        write(b"0123")
        write(b"4567")
        return []

    exchange = bench.attempt(app)
    expect(not isinstance(exchange.error, NoWrite), str(exchange.error))
    expect(
        exchange.start and b"01234".startswith(exchange.body),
        f"the body is {exchange.body!r} for length 5, and there was "
        f"{exchange.outcome()}",
    )


@check("PEP3333-length-06")
def body_short_of_its_length(bench: Bench) -> None:
    """Fewer bytes than Content-Length says are reported, not passed off as all."""
    exchange = bench.attempt(answering([b"01234"], ("content-length", "10")))
    expect(
        exchange.error is not None or not exchange.complete,
        f"there was {exchange.outcome()} for a length of 10",
    )


@check("PEP3333-length-07")
def length_of_zero(bench: Bench) -> None:
    """With a Content-Length of 0 no body is sent."""
    exchange = bench.attempt(answering([b"x"], ("content-length", "0")))
    expect_equal(exchange.body, b"", "the body")


@check("PRACTICE-sendfile-01")
def file_that_the_proxy_sends(bench: Bench) -> None:
    """A response that leaves its file to the proxy has a length and no body."""
    bodies: dict[str, Callable[[], Chunks]] = {
        "an empty list": list,
        "an empty chunk": lambda: [b""],
        "an empty iterator": lambda: iter([]),
    }
    for header in ("x-sendfile", "x-accel-redirect", "x-lighttpd-send-file"):
        for what, make in bodies.items():
            app = answering(make(), (header, "/files/1"), ("content-length", "1000"))
            exchange = bench.attempt(app)
            said = f"with {header} and {what} there was {exchange.outcome()}"
            expect(exchange.complete and exchange.status == 200, said)
            expect_equal(exchange.header(header.encode()), b"/files/1", header)
            # A server would wait for them, or call their absence a fault.
            length = exchange.header(b"content-length")
            expect(length in (None, b"0"), f"Content-Length {length!r} of no body")


# Responses without a body.


@check("RFC9110-head-01")
def head_has_no_body(bench: Bench) -> None:
    """The response to HEAD is sent without its body, and with its headers."""
    app = answering([b"hello"], ("content-length", "5"), ("x-a", "1"))
    exchange = bench.request(app, method="HEAD")
    expect_equal(exchange.body, b"", "the body")
    expect_equal(exchange.header(b"content-length"), b"5", "Content-Length")
    expect_equal(exchange.header(b"x-a"), b"1", "the header x-a")


@check("RFC9110-head-02")
def head_with_a_length(bench: Bench) -> None:
    """A response to HEAD with a Content-Length and no body is complete."""
    app = answering([], ("content-length", "100"))
    exchange = bench.request(app, method="HEAD")
    expect_equal(exchange.header(b"content-length"), b"100", "Content-Length")


@check("RFC9110-head-03")
def head_of_an_endless_body(bench: Bench) -> None:
    """The body of a response to HEAD is not made to its end, and closed."""
    body = Body(endless())
    exchange = HttpExchange(method="HEAD")
    served = bench.serve(answering(body))
    served.start(exchange)
    ended = exchange.returned.wait(HAPPENS_S)
    exchange.fail_sends(1, OSError("the check is over"))
    expect(ended, f"the body was being made for ever; {exchange.progress()}")
    expect_closed_once(body)


@check("RFC9110-no-content-01")
def no_content(bench: Bench) -> None:
    """A 204 is sent without a body and without Content-Length."""
    app = answering([b"hello"], ("content-length", "5"), status="204 No Content")
    exchange = bench.request(app)
    expect_equal(exchange.body, b"", "the body")
    expect_equal(exchange.header(b"content-length"), None, "Content-Length")


@check("RFC9110-not-modified-01")
def not_modified(bench: Bench) -> None:
    """A 304 is sent without a body."""
    exchange = bench.request(answering([b"hello"], status="304 Not Modified"))
    expect_equal(exchange.body, b"", "the body")


@check("RFC9110-not-modified-02")
def not_modified_with_a_length(bench: Bench) -> None:
    """A 304 keeps its Content-Length, and is complete without that many bytes."""
    app = answering([], ("content-length", "1234"), status="304 Not Modified")
    exchange = bench.request(app)
    expect_equal(exchange.header(b"content-length"), b"1234", "Content-Length")


@check("RFC9110-reset-content-01")
def reset_content(bench: Bench) -> None:
    """A 205 is sent without a body."""
    exchange = bench.request(answering([b"hello"], status="205 Reset Content"))
    expect_equal(exchange.body, b"", "the body")


@check("RFC9110-no-content-02")
def no_length_is_made_up_without_content(bench: Bench) -> None:
    """No Content-Length is made up for a 204 or 304."""
    for status in ("204 No Content", "304 Not Modified"):
        exchange = bench.request(answering([b""], status=status))
        length = exchange.header(b"content-length")
        expect_equal(length, None, f"Content-Length for {status}")


@check("RFC9110-head-04")
def no_length_of_zero_is_made_up_for_head(bench: Bench) -> None:
    """No Content-Length of 0 is made up for a response to HEAD without a body."""
    for chunks in ([], [b""]):
        exchange = bench.request(answering(chunks), method="HEAD")
        length = exchange.header(b"content-length")
        expect_equal(length, None, f"Content-Length for {chunks!r}")


@check("RFC9110-head-05")
def head_that_is_refused(bench: Bench) -> None:
    """What the adapter answers by itself to HEAD has no body."""
    called: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        called.append(environ)
        begin(start_response)
        return []

    lengths = [(b"content-length", b"5"), (b"content-length", b"6")]
    exchange = bench.attempt(app, method="HEAD", headers=lengths)
    if called or not exchange.complete:
        raise NotOffered("a request with two lengths is not answered by the adapter")
    expect_equal(exchange.body, b"", "the body")


# Headers that are not the application's.


def _expect_refused_or_dropped(bench: Bench, name: str, value: str) -> None:
    exchange = bench.attempt(answering(iter([b"x", b"y"]), (name, value)))
    seen = exchange.header(name.encode())
    expect(seen is None, f"the header {name}: {value} was sent")


@check("PEP3333-http-01")
def transfer_encoding(bench: Bench) -> None:
    """Transfer-Encoding from the application is refused or dropped."""
    _expect_refused_or_dropped(bench, "transfer-encoding", "chunked")


@check("PEP3333-http-02")
def connection_headers(bench: Bench) -> None:
    """Other headers that concern the connection are refused or dropped."""
    headers = {
        "connection": "close",
        "keep-alive": "timeout=5",
        "te": "trailers",
        "upgrade": "h2c",
        "proxy-connection": "keep-alive",
    }
    for name, value in headers.items():
        _expect_refused_or_dropped(bench, name, value)


@check("RFC9110-connection-01")
def headers_named_in_connection(bench: Bench) -> None:
    """Fields that the Connection header names go the way of it."""
    app = answering([b"x"], ("connection", "x-hop"), ("x-hop", "1"))
    exchange = bench.attempt(app)
    if exchange.header(b"x-hop") is not None:
        raise NotOffered("fields named in Connection are sent on")


@check("PEP3333-http-03")
def no_other_headers(bench: Bench) -> None:
    """The adapter adds no headers but Content-Length."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        start_response("200 OK", [("x-a", "1")])
        return [b"x"]

    names = {name for name, _ in bench.request(app).headers}
    extra = names - {b"x-a", b"content-length"}
    expect(not extra, f"added: {sorted(extra)!r}")


# What is no chunk, and no iterable.


@check("PEP3333-unicode-07")
def chunk_of_another_type(bench: Bench) -> None:
    """A chunk that is not bytes is an error, and is not sent."""
    wrong: list[Any] = ["text", 5, None, [b"x"]]
    for chunk in wrong:
        exchange = bench.attempt(answering(iter([b"some", chunk, b"more"])))
        if exchange.violations:
            fail(f"for the chunk {chunk!r}: {exchange.violations[0]}")
        expect(exchange.failed, f"for the chunk {chunk!r}: {exchange.outcome()}")


@check("PRACTICE-chunks-01")
def chunk_like_bytes(bench: Bench) -> None:
    """A bytearray or memoryview is sent as bytes, or is an error."""
    kinds: list[Any] = [bytearray(b"abc"), memoryview(b"abc")]
    for chunk in kinds:
        exchange = HttpExchange()
        sent = exchange.sent(2)

        def chunks(chunk: Any = chunk, sent: Gate = sent) -> Iterator[bytes]:
            yield chunk
            sent.wait()  # else it might be joined with others, to bytes

        bench.attempt(answering(chunks()), exchange)
        for one in (exchange, bench.attempt(answering([chunk]))):
            if one.violations:
                fail(f"for {type(chunk).__name__}: {one.violations[0]}")
            good = one.failed or one.body == b"abc"
            expect(good, f"for {type(chunk).__name__} there was {one.outcome()}")


@check("PEP3333-iterable-10")
def body_that_is_no_iterable(bench: Bench) -> None:
    """To return None, or another object that is no iterable, is an error."""
    wrong: list[Any] = [None, 5]
    for body in wrong:
        exchange = bench.attempt(answering(body))
        expect(exchange.failed, f"for {body!r} there was {exchange.outcome()}")


@check("PEP3333-iterable-11")
def body_that_is_one_string(bench: Bench) -> None:
    """To return bytes or str, and not an iterable of bytes, is an error."""
    wrong: list[Any] = [b"hello", "hello"]
    for body in wrong:
        exchange = bench.attempt(answering(body))
        if exchange.violations:
            fail(f"for {body!r}: {exchange.violations[0]}")
        expect(exchange.failed, f"for {body!r} there was {exchange.outcome()}")


@check("ASGI-HTTP-body-03")
def large_chunk(bench: Bench) -> None:
    """A chunk of 8 MiB arrives as it was."""
    chunk = bytes(range(256)) * 32768
    exchange = bench.request(answering([chunk]))
    same = exchange.body == chunk
    expect(same, f"{len(exchange.body)} of {len(chunk)} bytes arrived, or others")


# wsgi.file_wrapper.


def file_wrapper(bench: Bench) -> None:
    """See that there is one."""
    if "wsgi.file_wrapper" not in bench.environ():
        raise NotOffered("there is no wsgi.file_wrapper")


def wrapping(
    make_file: Callable[[], Any],
    *headers: tuple[str, str],
    blocks: tuple[int, ...] = (),
) -> WSGIApplication:
    """Make an application that returns a wrapped file."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin(start_response, *headers)
        wrapped: Chunks = environ["wsgi.file_wrapper"](make_file(), *blocks)
        return wrapped

    return app


# A file that is on disk for good, in a place that is not for temporary ones: adapters
# may rightly take more care with those. It has over 100 kB, since they may send small
# ones like any other body.
SAMPLE = Path(typing.__file__).resolve()
CONTENT = SAMPLE.read_bytes()


def real_file(offset: int = 0) -> IO[bytes]:
    """Open a file on disk that holds `CONTENT`."""
    file = SAMPLE.open("rb")
    file.seek(offset)
    return file


def _memory_file(offset: int = 0) -> IO[bytes]:
    file = io.BytesIO(CONTENT)
    file.seek(offset)
    return file


@check("PEP3333-files-01")
def wrapped_file(bench: Bench) -> None:
    """A wrapped file is sent from its current position to its end."""
    file_wrapper(bench)
    for make_file in (real_file, _memory_file):
        end = len(CONTENT) - 100
        for offset, blocks in ((0, ()), (1000, (512,)), (7, (65536,)), (end, ())):
            app = wrapping(lambda: make_file(offset), blocks=blocks)  # noqa: B023  # used in this turn
            body = bench.request(app).body
            good = body == CONTENT[offset:]
            what = f"{make_file.__name__.strip('_')} from {offset}"
            expect(good, f"{what}: {len(body)} bytes, or others, were sent")


@check("PEP3333-files-02")
def wrapped_file_is_closed(bench: Bench) -> None:
    """A wrapped file is closed, and needs neither close() nor fileno()."""
    file_wrapper(bench)
    files: list[IO[bytes]] = [real_file(), _memory_file()]
    for file in files:
        bench.request(wrapping(lambda: file))  # noqa: B023  # used in this turn
        expect(file.closed, f"{file!r} was not closed")

    class Readable:
        def __init__(self) -> None:
            self.read = io.BytesIO(CONTENT).read

    expect_equal(bench.request(wrapping(Readable)).body, CONTENT, "a file with read()")


@check("PEP3333-files-03")
def wrapped_file_that_is_not_returned(bench: Bench) -> None:
    """A file that is wrapped but not returned is left alone."""
    file_wrapper(bench)
    file = _memory_file()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin(start_response)
        environ["wsgi.file_wrapper"](file)
        return [b"other"]

    expect_equal(bench.request(app).body, b"other", "the body")
    expect_equal((file.closed, file.tell()), (False, 0), "closed and position")


@check("PEP3333-files-04")
def wrapped_file_with_a_length(bench: Bench) -> None:
    """Of a wrapped file no more is sent than Content-Length says."""
    file_wrapper(bench)
    for make_file in (real_file, _memory_file):
        app = wrapping(lambda: make_file(5), ("content-length", "10"))  # noqa: B023  # used in this turn
        body = bench.request(app).body
        expect_equal(body, CONTENT[5:15], "10 bytes from 5")
