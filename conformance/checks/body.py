"""The request body, wsgi.input.

A body arrives in pieces of any size, with pauses between them. Each check of a method
is made with a Content-Length, and with a body that says no length, which the adapter
may receive whole, or is told to stream if that can be told.
"""

import io
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from conformance.adapters import BODY_LIMIT
from conformance.apps import begin, hello, reading
from conformance.bench import Bench, Served
from conformance.checking import check, expect, expect_equal, fail
from conformance.exchanges import (
    CHUNKED,
    LENGTH,
    SILENT,
    STREAMED,
    Header,
    HttpExchange,
    disconnect,
    request_part,
)
from conformance.gate import Gate, Hold, come_to_rest
from conformance.server import PAUSE, Script, Step
from conformance.timing import HAPPENS_S, PATIENCE

Input = Any
Make = Callable[[WSGIApplication], Served]

_FRAMINGS = (LENGTH, CHUNKED, STREAMED)

# More than adapters have threads, be they for readers of bodies.
_SLOW_CLIENTS = 200
# How long an application may take before it decides on an upload.
_THINKING_S = 0.3 * PATIENCE


def expect_reads(
    bench: Bench,
    pieces: Script,
    use: Callable[[Input], object],
    wanted: object,
    what: str,
    framings: Iterable[str] = _FRAMINGS,
) -> None:
    """Expect what an application does with its input to bring something.

    Args:
        bench: The check's.
        pieces: The body, as it arrives.
        use: What the application does.
        wanted: What that should bring.
        what: What it is, as the subject of a sentence.
        framings: How the request announces the body.
    """
    for framing in framings:
        seen = _use_input(bench, pieces, use, framing)
        if isinstance(seen, Exception):
            fail(f"{what} raised {seen!r} ({_of(framing)})")
        expect_equal(seen, wanted, f"{what} ({_of(framing)})")


def _of(framing: str) -> str:
    return {
        LENGTH: "body with Content-Length",
        CHUNKED: "body of unknown length",
        SILENT: "body that no header announces",
        STREAMED: "body of unknown length, streamed",
    }[framing]


def _use_input(
    bench: Bench, pieces: Script, use: Callable[[Input], object], framing: str
) -> Any:
    results: list[object] = []

    def attempt(environ: WSGIEnvironment) -> None:
        try:
            results.append(use(environ["wsgi.input"]))
        except Exception as error:
            results.append(error)

    exchange = bench.attempt(reading(attempt), body=pieces, framing=framing)
    if not results:
        fail(f"the application was not called: {exchange.outcome()} ({_of(framing)})")
    return results[0]


@check("PEP3333-input-01")
def read_all(bench: Bench) -> None:
    """read() without an argument gives the whole body."""
    body = b"hello\0\xff"
    framings = (LENGTH, CHUNKED, STREAMED, SILENT)
    expect_reads(bench, [body], lambda i: i.read(), body, "read()", framings)
    seen: list[bytes] = []
    app = reading(lambda environ: seen.append(environ["wsgi.input"].read()))
    # One of the methods for which a body is the exception.
    bench.request(app, body=body, framing=SILENT, method="DELETE")
    expect_equal(seen, [body], f"read() for DELETE ({_of(SILENT)})")


@check("ASGI-HTTP-request-01")
def read_pieces(bench: Bench) -> None:
    """Messages are joined, and an empty one in between is not the end."""
    pieces: Script = [b"", PAUSE, b"ab", PAUSE, b"", PAUSE, b"cd", PAUSE, b""]
    expect_reads(bench, pieces, lambda i: i.read(), b"abcd", "read()")


@check("ASGI-HTTP-request-02")
def read_messages_without_keys(bench: Bench) -> None:
    """A message may lack its body or more_body."""
    whole = {"type": "http.request", "body": b"rest"}
    for steps, wanted in (
        ([{"type": "http.request"}], b""),
        ([{"type": "http.request", "more_body": True}, whole], b"rest"),
    ):
        seen: list[bytes] = []
        app = reading(lambda env: seen.append(env["wsgi.input"].read()))  # noqa: B023  # used in this turn
        headers = [(b"transfer-encoding", b"chunked")]
        bench.request(app, steps=steps, method="POST", headers=headers)
        expect_equal(seen[0], wanted, f"what was read of {steps}")


@check("PEP3333-input-02")
def read_sizes(bench: Bench) -> None:
    """read(size) waits until it has so many bytes, or the end has come."""
    pieces: Script = [b"ab", PAUSE, b"cd", PAUSE, b"ef"]
    expect_reads(
        bench,
        pieces,
        lambda i: [i.read(3), i.read(1), i.read(10), i.read(3)],
        [b"abc", b"d", b"ef", b""],
        "read(3), read(1), read(10), read(3)",
    )


@check("PEP3333-input-03")
def read_nothing(bench: Bench) -> None:
    """read(0) gives nothing and takes nothing."""
    expect_reads(
        bench,
        [b"ab", PAUSE, b"cd"],
        lambda i: [i.read(0), i.read()],
        [b"", b"abcd"],
        "read(0), read()",
    )


@check("PEP3333-input-04")
def read_with_no_size(bench: Bench) -> None:
    """read(-1) and read(None) give the whole body."""
    pieces: Script = [b"ab", PAUSE, b"cd"]
    expect_reads(bench, pieces, lambda i: i.read(-1), b"abcd", "read(-1)")
    expect_reads(bench, pieces, lambda i: i.read(None), b"abcd", "read(None)")


def _read_every_way(i: Input) -> list[object]:
    return [i.read(), i.read(5), i.readline(), i.readlines(), list(i), i.read()]


@check("PEP3333-input-05")
def read_after_the_end(bench: Bench) -> None:
    """After the end each method gives something empty, again and again."""
    expect_reads(
        bench,
        [b"ab\n", PAUSE, b"cd"],
        lambda i: [i.read(), *_read_every_way(i)],
        [b"ab\ncd", b"", b"", b"", [], [], b""],
        "read(), read(), read(5), readline(), readlines(), list(), read()",
    )


@check("PEP3333-input-06")
def read_no_body(bench: Bench) -> None:
    """Each method finds a request without a body empty."""
    seen: list[object] = []
    methods: dict[str, tuple[Callable[[Input], object], object]] = {
        "read()": (lambda i: i.read(), b""),
        "read(5)": (lambda i: i.read(5), b""),
        "readline()": (lambda i: i.readline(), b""),
        "readlines()": (lambda i: i.readlines(), []),
        "list()": (list, []),
    }
    for name, (use, wanted) in methods.items():
        app = reading(lambda env: seen.append(use(env["wsgi.input"])))  # noqa: B023  # used in this turn
        bench.request(app)
        expect_equal(seen.pop(), wanted, name)


@check("PEP3333-input-07")
def readline(bench: Bench) -> None:
    """Lines are read with their newlines, and then nothing."""
    expect_reads(
        bench,
        [b"one\n\ntwo\nthree"],
        lambda i: [i.readline() for _ in range(5)],
        [b"one\n", b"\n", b"two\n", b"three", b""],
        "readline() five times",
    )


@check("ASGI-HTTP-request-03")
def readline_across_messages(bench: Bench) -> None:
    """A line may be spread over several messages."""
    expect_reads(
        bench,
        [b"he", PAUSE, b"llo\nwor", PAUSE, b"", PAUSE, b"ld"],
        lambda i: [i.readline(), i.readline(), i.readline()],
        [b"hello\n", b"world", b""],
        "readline() three times",
    )


@check("PEP3333-input-08")
def readline_size(bench: Bench) -> None:
    """readline(size) gives at most so many bytes and leaves the rest."""
    expect_reads(
        bench,
        [b"he", PAUSE, b"llo\nw", PAUSE, b"orl", PAUSE, b"d"],
        lambda i: [i.readline(3), i.readline(100), i.readline(2), i.readline()],
        [b"hel", b"lo\n", b"wo", b"rld"],
        "readline(3), readline(100), readline(2), readline()",
    )


@check("PEP3333-input-09")
def readline_with_no_size(bench: Bench) -> None:
    """readline(0) gives b"", readline(-1) and readline(None) a whole line."""
    expect_reads(
        bench,
        [b"on", PAUSE, b"e\ntw", PAUSE, b"o\n"],
        lambda i: [i.readline(0), i.readline(-1), i.readline(None)],
        [b"", b"one\n", b"two\n"],
        "readline(0), readline(-1), readline(None)",
    )


@check("PEP3333-input-10")
def lines_end_with_newline_only(bench: Bench) -> None:
    """Only a newline ends a line."""
    body = b"a\rb\x0bc\x0cd\x85e\r\nf"
    lines = [b"a\rb\x0bc\x0cd\x85e\r\n", b"f"]
    expect_reads(bench, [body], lambda i: i.readlines(), lines, "readlines()")


@check("PEP3333-input-11")
def readlines(bench: Bench) -> None:
    """All lines can be read at once."""
    expect_reads(
        bench,
        [b"on", PAUSE, b"e\ntwo\nth", PAUSE, b"ree"],
        lambda i: i.readlines(),
        [b"one\n", b"two\n", b"three"],
        "readlines()",
    )


@check("PEP3333-input-12")
def readlines_hint(bench: Bench) -> None:
    """readlines(hint) gives whole lines, and loses none."""
    lines = [b"a1\n", b"b2\n", b"c3\n", b"d4\n", b"e5\n"]
    body = b"".join(lines)
    for framing in _FRAMINGS:
        seen = _use_input(bench, [body], lambda i: (i.readlines(6), i.read()), framing)
        if isinstance(seen, Exception):
            fail(f"readlines(6) raised {seen!r}")
        taken, rest = seen
        whole = lines[: len(taken)]
        expect_equal(taken, whole, "readlines(6) of five lines of 3 bytes")
        expect_equal(b"".join(taken) + rest, body, "readlines(6) and the rest")
        expect(len(taken) >= 2, f"readlines(6) gave {taken!r}, less than the hint")


@check("PEP3333-input-13")
def iteration(bench: Bench) -> None:
    """Iterating over the input gives its lines."""
    expect_reads(
        bench,
        [b"on", PAUSE, b"e\ntwo\n", PAUSE, b"three"],
        list,
        [b"one\n", b"two\n", b"three"],
        "list()",
    )


@check("PEP3333-input-14")
def methods_mixed(bench: Bench) -> None:
    """Methods may be used in turn, without losing or repeating a byte."""

    def use(i: Input) -> list[object]:
        first = i.read(2)
        second = i.readline()
        third = next(iter(i))
        fourth = i.read(1)
        return [first, second, third, fourth, b"".join(i.readlines(1)) + i.read()]

    expect_reads(
        bench,
        [b"o", PAUSE, b"ne\ntw", PAUSE, b"o\nthree\nfo", PAUSE, b"ur\nfive"],
        use,
        [b"on", b"e\n", b"two\n", b"t", b"hree\nfour\nfive"],
        "read(2), readline(), next(), read(1) and the rest",
    )
    # Files have buffers, which a message may not fit into.
    large = b"x" * 100_000
    expect_reads(
        bench,
        [b"one\n" + large, PAUSE, b"end"],
        lambda i: [i.readline(), i.read(2), i.read() == large[2:] + b"end"],
        [b"one\n", b"xx", True],
        "readline(), read(2), read() of 100,007 bytes in two messages",
    )


@check("ASGI-HTTP-request-04")
def large_body(bench: Bench) -> None:
    """A body of 6 MB in 128 messages arrives as it was."""
    block = bytes(range(256)) * 192
    pieces = [b"%04d" % number + block[4:] for number in range(128)]

    def use(i: Input) -> bytes:
        return b"".join(iter(lambda: i.read(8192), b""))

    whole = b"".join(pieces)
    for framing in _FRAMINGS:
        seen = _use_input(bench, pieces, use, framing)
        if isinstance(seen, Exception):
            fail(f"reading raised {seen!r}")
        expect(seen == whole, f"read {len(seen)} of {len(whole)} bytes, or others")


@check("PEP3333-input-15")
def bytes_beyond_the_length(bench: Bench) -> None:
    """The input ends at the declared length, whatever else arrives."""
    for body in (b"hello", b"x" * 100_000):
        seen: list[bytes] = []
        half = len(body) // 2
        bench.attempt(
            reading(lambda env: seen.append(env["wsgi.input"].read())),  # noqa: B023  # used in this turn
            steps=[
                request_part(body[:half], more=True),
                request_part(body[half:] + b"XYZ", more=False),
            ],
            method="POST",
            headers=[(b"content-length", b"%d" % len(body))],
        )
        what = f"what was read of a body of {len(body):,} bytes"
        expect_equal(seen, [body], what)


@check("PRACTICE-streaming-01")
def body_streams(bench: Bench) -> None:
    """The first bytes of a long upload can be read while others are on their way."""
    large = b"x" * 100_000
    for framing, first in ((STREAMED, b"abc"), (LENGTH, large)):
        began = Gate()
        hold = Hold(began)

        def use(i: Input, began: Gate = began) -> bytes:
            start: bytes = i.read(3)
            began.open()
            rest: bytes = i.read()
            return start + rest

        seen = _use_input(bench, [first, hold, large], use, framing)
        expect(
            not hold.missed,
            f"nothing could be read before the whole body had come ({_of(framing)})",
        )
        expect_equal(seen, first + large, f"the body ({_of(framing)})")


@check("PEP3333-input-16")
def end_without_another_message(bench: Bench) -> None:
    """The end of a body of known length needs no further message."""
    for body in (b"hello", b"x" * 100_000):
        seen: list[bytes] = []
        half = len(body) // 2
        bench.request(
            reading(lambda env: seen.append(env["wsgi.input"].read())),  # noqa: B023  # used in this turn
            steps=[
                request_part(body[:half], more=True),
                request_part(body[half:], more=True),
                Gate(),
            ],
            method="POST",
            headers=[(b"content-length", b"%d" % len(body))],
        )
        what = f"what was read of a body of {len(body):,} bytes"
        expect_equal(seen, [body], what)


@check("RFC9110-early-response-01")
def answer_without_reading(bench: Bench) -> None:
    """An application that ignores the body can answer while it is still arriving."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        begin(start_response, status="413 Content Too Large")
        return [b"too large"]

    headers = [(b"content-length", b"1000000")]
    steps: list[Step] = [request_part(b"x" * 1000, more=True), Gate()]
    exchange = bench.request(app, steps=steps, method="POST", headers=headers)
    expect_equal(exchange.status, 413, "the status")


def _broken_off(bench: Bench, framing: str, use: Callable[[Input], object]) -> Any:
    """Have an upload break off, and give the exchange and what reading brought."""
    results: list[object] = []

    def attempt(environ: WSGIEnvironment) -> None:
        try:
            results.append(use(environ["wsgi.input"]))
        except BaseException as error:
            results.append(error)
            raise

    exchange = bench.attempt(
        reading(attempt), body=[b"ab", PAUSE, disconnect(), b"cd"], framing=framing
    )
    return exchange, results


@check("ASGI-HTTP-disconnect-01")
def truncated_body(bench: Bench) -> None:
    """An upload that breaks off is never handed over as if it were whole."""
    for framing in _FRAMINGS:
        _, results = _broken_off(bench, framing, lambda i: i.read())
        for result in results:  # none if the application was not called
            expect(
                isinstance(result, BaseException),
                f"read() gave {result!r} although the client had left before the end "
                f"({_of(framing)})",
            )


@check("ASGI-HTTP-disconnect-02")
def disconnect_in_the_body(bench: Bench) -> None:
    """The adapter returns after the client has left in the middle of the body."""
    for framing in _FRAMINGS:
        _broken_off(bench, framing, lambda i: i.read())


@check("ASGI-HTTP-disconnect-03")
def truncated_body_raises_os_error(bench: Bench) -> None:
    """Reading an upload that broke off raises an OSError, as a lost socket does."""
    _, results = _broken_off(bench, STREAMED, lambda i: i.read())
    for result in results:
        expect(isinstance(result, OSError), f"read() brought {result!r}")


@check("ASGI-HTTP-disconnect-04")
def disconnect_is_no_fault(bench: Bench) -> None:
    """A client that left in the middle of the body is no error of the application."""
    for framing in _FRAMINGS:
        exchange, _ = _broken_off(bench, framing, lambda i: i.read())
        error = exchange.error
        expect(
            error is None or isinstance(error, OSError),
            f"the adapter raised {error!r}, expected nothing or an OSError",
        )


@check("ASGI-HTTP-disconnect-05")
def disconnect_before_the_body(bench: Bench) -> None:
    """The adapter returns if the client leaves before the first message."""
    for framing in _FRAMINGS:
        bench.attempt(hello, body=[disconnect(), b"hello"], framing=framing)


@check("PEP3333-input-17")
def read_while_answering(bench: Bench) -> None:
    """The body can be read by the response's generator, after output."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        begin(start_response)
        yield b"first-"
        yield environ["wsgi.input"].read()
        yield b"."

    for framing in _FRAMINGS:
        exchange = bench.request(app, body=[b"he", PAUSE, b"llo"], framing=framing)
        expect_equal(exchange.body, b"first-hello.", f"the response ({_of(framing)})")


@check("PRACTICE-streaming-02")
def echo(bench: Bench) -> None:
    """Request and response can be streamed in turns."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        begin(start_response)
        while byte := environ["wsgi.input"].read(1):
            yield byte

    echoed = [Gate(), Gate()]
    holds = [Hold(gate) for gate in echoed]
    exchange = HttpExchange(
        body=[b"a", holds[0], b"b", holds[1], b"c"], framing=STREAMED
    )
    for gate, part in zip(echoed, (b"a", b"ab"), strict=True):
        exchange.when(lambda part=part: exchange.body == part).on_open(gate.open)  # type: ignore[misc]  # no default for a lambda's argument in Callable
    bench.request(app, exchange)
    expect(
        not any(hold.missed for hold in holds),
        "the response did not begin before the request was complete",
    )
    expect_equal(exchange.body, b"abc", "the response")


@check("PRACTICE-streaming-03")
def reading_ahead_is_bounded(bench: Bench) -> None:
    """An upload that is not read is not received without end."""
    taken: list[int] = []
    exchange = HttpExchange(body=[b"x" * 16384] * 300, framing=STREAMED)

    def use(environ: WSGIEnvironment) -> None:
        environ["wsgi.input"].read(10)
        taken.append(come_to_rest(lambda: exchange.taken))

    bench.attempt(reading(use), exchange)
    expect(taken, f"the application was not called: {exchange.outcome()}")
    expect(
        taken[0] <= 64,
        f"{taken[0]} of 300 messages were received while 10 bytes were read",
    )


@check("PRACTICE-streaming-04")
def memory_stays_flat(bench: Bench) -> None:
    """An upload that is read in pieces is not kept in memory."""
    size, block = 32 * 1024 * 1024, 65536
    read: list[int] = []

    def use(environ: WSGIEnvironment) -> None:
        total = 0
        while piece := environ["wsgi.input"].read(block):
            total += len(piece)
        read.append(total)

    # One object over and over, so that what is measured is the adapter's.
    pieces = [b"x" * block] * (size // block)
    for framing in (CHUNKED, STREAMED):
        tracemalloc.start()
        try:
            bench.request(reading(use), body=pieces, framing=framing)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        expect_equal(read, [size], "the bytes that were read")
        read.clear()
        used = f"{peak / 1048576:.0f} MiB were in use for 32 MiB ({_of(framing)})"
        expect(peak < 4 * 1024 * 1024, used)


@check("PRACTICE-input-04")
def memory_for_what_is_announced(bench: Bench) -> None:
    """A client that announces 64 MiB and sends three bytes takes no memory."""
    size = 64 * 1024 * 1024

    def use(environ: WSGIEnvironment) -> None:
        with suppress(OSError):  # the body breaks off
            environ["wsgi.input"].read(size)

    tracemalloc.start()
    try:
        bench.attempt(
            reading(use),
            steps=[request_part(b"abc", more=True), disconnect()],
            method="POST",
            headers=[(b"content-length", b"%d" % size)],
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    expect(peak < size / 8, f"{peak / 1048576:.0f} MiB were in use for three bytes")


@check("ASGI-MAIN-messages-01")
def unknown_message(bench: Bench) -> None:
    """An unknown message in the middle of the body is an error and not the end."""
    results: list[object] = []

    def use(environ: WSGIEnvironment) -> None:
        try:
            results.append(environ["wsgi.input"].read())
        except Exception as error:
            results.append(error)

    body: Script = [b"ab", {"type": "http.bogus"}, b"cd"]
    exchange = bench.attempt(reading(use), body=body, framing=STREAMED)
    told = isinstance(results[0], Exception) if results else exchange.failed
    expect(told, f"read() gave {results}, and there was {exchange.outcome()}")


@check("ASGI-MAIN-messages-02")
def unknown_keys(bench: Bench) -> None:
    """Keys that the adapter does not know are ignored."""
    steps: list[Step] = [
        {**request_part(b"ab", more=True), "x": 1},
        {**request_part(b"cd", more=False), "server": object()},
    ]
    seen: list[bytes] = []
    bench.request(
        reading(lambda env: seen.append(env["wsgi.input"].read())),
        steps=steps,
        method="POST",
        headers=[(b"transfer-encoding", b"chunked")],
    )
    expect_equal(seen, [b"abcd"], "what was read")


@check("PEP3333-input-18")
def body_shorter_than_its_length(bench: Bench) -> None:
    """A body that ends before its declared length does not hang the reader."""
    results: list[object] = []

    def use(environ: WSGIEnvironment) -> None:
        try:
            results.append(environ["wsgi.input"].read(10))
        except Exception as error:
            results.append(error)

    bench.attempt(
        reading(use),
        steps=[request_part(b"hello", more=False), Gate()],
        method="POST",
        headers=[(b"content-length", b"10")],
    )
    for result in results:
        good = result == b"hello" or isinstance(result, OSError)
        expect(good, f"read(10) brought {result!r}, expected b'hello' or an OSError")


@check("PEP3333-continue-01")
def expectation_of_100_continue(bench: Bench) -> None:
    """Nothing is received before the first read if the client expects 100 Continue."""
    receives: list[int] = []
    exchange = HttpExchange(body=b"hello", headers=[(b"expect", b"100-continue")])

    def use(environ: WSGIEnvironment) -> None:
        bench.settle()
        # Nor if the application takes its time.
        Gate().wait(_THINKING_S)
        receives.append(exchange.receives)

    bench.request(reading(use), exchange)
    expect(receives == [0], f"receive() was called {receives} times before a read")


@check("ASGI-HTTP-disconnect-06")
def whole_body_and_disconnect(bench: Bench) -> None:
    """A body that has arrived whole is readable, even if the client has left."""
    results: list[object] = []
    called = Gate()
    body: Script = [b"ab", b"cd", called, disconnect()]
    exchange = HttpExchange(body=body, framing=STREAMED)

    def use(environ: WSGIEnvironment) -> None:
        called.open()
        come_to_rest(lambda: exchange.taken)
        try:
            results.append(environ["wsgi.input"].read())
        except Exception as error:
            results.append(error)

    bench.attempt(reading(use), exchange)
    expect_equal(results, [b"abcd"], "what was read")


@check("PRACTICE-input-02")
def read_in_another_thread(bench: Bench) -> None:
    """A thread that the application has started can read the body."""
    results: list[object] = []

    def use(environ: WSGIEnvironment) -> None:
        def read() -> None:
            try:
                results.append(environ["wsgi.input"].read())
            except Exception as error:
                results.append(error)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        thread.join(HAPPENS_S)

    bench.attempt(reading(use), body=[b"ab", PAUSE, b"cd"], framing=STREAMED)
    expect_equal(results, [b"abcd"], "what the thread read")


@check("PRACTICE-input-03")
def input_is_a_file(bench: Bench) -> None:
    """The input can be wrapped as Python wraps binary files."""
    expect_reads(
        bench,
        ["zwölf\n".encode(), PAUSE, b"drei"],
        lambda i: list(io.TextIOWrapper(i, "utf-8")),
        ["zwölf\n", "drei"],
        "list(io.TextIOWrapper(wsgi.input))",
        (LENGTH, CHUNKED, STREAMED, SILENT),
    )


@check("RFC9110-too-large-01")
def limit_of_bodies(bench: Bench) -> None:
    """A limit can be set beyond which a body is refused with 413."""
    called: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        called.append(environ["wsgi.input"].read())
        return hello(environ, start_response)

    for framing in (LENGTH, CHUNKED):
        served = bench.serve(app, BODY_LIMIT)
        exchange = served.attempt(body=b"x" * 1000, framing=framing)
        what = f"a body at the limit ({framing}) brought {exchange.outcome()}"
        expect(called == [b"x" * 1000], what)
        called.clear()
        exchange = served.attempt(body=[b"x" * 600] * 20, framing=framing)
        expect_equal(exchange.status, 413, f"the status of a longer one ({framing})")
        expect(not called, "the application was given a body that is too long")


@check("PRACTICE-length-02")
def body_of_unknown_length(bench: Bench) -> None:
    """A body of unknown length reaches an application that reads CONTENT_LENGTH."""
    body = b"hello " * 20_000
    half = len(body) // 2
    pieces: Script = [body[:half], PAUSE, body[half:], PAUSE, b""]
    for framing, version in ((CHUNKED, "1.1"), (SILENT, "2")):
        seen: list[tuple[object, bytes]] = []

        def use(
            environ: WSGIEnvironment, seen: list[tuple[object, bytes]] = seen
        ) -> None:
            size = int(environ.get("CONTENT_LENGTH") or 0)
            coding = environ.get("HTTP_TRANSFER_ENCODING")
            seen.append((coding, environ["wsgi.input"].read(size)))

        exchange = bench.attempt(
            reading(use), body=pieces, framing=framing, http_version=version
        )
        where = f"HTTP/{version}, {_of(framing)}"
        if not seen:
            fail(f"the application was not called: {exchange.outcome()} ({where})")
        coding, read = seen[0]
        expect_equal(read, body, f"what was read of CONTENT_LENGTH bytes ({where})")
        # Else some undo a coding that the server has undone.
        expect_equal(coding, None, f"HTTP_TRANSFER_ENCODING ({where})")


@check("PRACTICE-streaming-07")
def slow_uploads_leave_threads(bench: Bench) -> None:
    """Clients that begin a long upload and do not go on keep nobody else waiting."""
    begun: list[Step] = [request_part(b"x", more=True), Gate()]
    length = (b"content-length", b"70000")
    chunked = (b"transfer-encoding", b"chunked")
    kinds: dict[str, tuple[list[Step], list[Header], Make]] = {
        "70,000 bytes, of which 1 came": (begun, [length], bench.serve),
        "unknown length": (begun, [chunked], bench.serve),
        "unknown length, streamed": (begun, [chunked], bench.serve_streaming),
        "a body after 100 Continue": (
            [Gate()],
            [length, (b"expect", b"100-continue")],
            bench.serve,
        ),
    }
    for kind, (steps, headers, serve) in kinds.items():
        served = serve(reading(lambda environ: environ["wsgi.input"].read()))
        slow = [
            served.start(HttpExchange(steps=steps, method="POST", headers=headers))
            for _ in range(_SLOW_CLIENTS)
        ]
        bench.settle()
        quick = served.start(HttpExchange())
        answered = quick.returned.wait(HAPPENS_S)
        for exchange in slow:
            exchange.left.open()
        late = f"with {_SLOW_CLIENTS} uploads of {kind}, a GET was not answered in 1 s"
        expect(answered, late)
        for exchange in slow:
            served.finish(exchange)


@check("PRACTICE-streaming-05")
def slow_senders_hold_no_thread(bench: Bench) -> None:
    """Clients that announce a body and do not send it keep nobody else waiting."""
    served = bench.serve(reading(lambda environ: environ["wsgi.input"].read()))
    silent = [
        HttpExchange(
            steps=[Gate()], method="POST", headers=[(b"content-length", b"100")]
        )
        for _ in range(_SLOW_CLIENTS)
    ]
    for exchange in silent:
        served.start(exchange)
    bench.settle()
    quick = served.start(HttpExchange())
    answered = quick.returned.wait(HAPPENS_S)
    for exchange in silent:
        exchange.left.open()
    expect(
        answered,
        f"with {_SLOW_CLIENTS} slow uploads, a GET was not answered within 1 s",
    )
