"""start_response() and write().

The central rule: nothing is committed before the first chunk that is not empty, or
the first write().
"""

import gc
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from conformance.apps import TEXT, NoWrite, answering, begin, begin_writing
from conformance.bench import Bench
from conformance.checking import NotOffered, check, expect, expect_equal, fail
from conformance.exchanges import HttpExchange
from conformance.timing import PATIENCE

Chunks = Iterable[bytes]


def refusal(
    bench: Bench, status: object, headers: object
) -> tuple[Exception | None, HttpExchange]:
    """Have an application call start_response, and give what that raises."""
    raised: list[Exception] = []

    def app(environ: WSGIEnvironment, start_response: Any) -> Chunks:
        try:
            start_response(status, headers)
        except Exception as error:
            raised.append(error)
            raise
        return [b"x"]

    exchange = bench.attempt(app)
    return (raised[0] if raised else None), exchange


def expect_refused(bench: Bench, *calls: tuple[object, object]) -> None:
    """Expect start_response itself to raise for each status and headers."""
    for status, headers in calls:
        error, exchange = refusal(bench, status, headers)
        if error is None:
            fail(
                f"start_response({status!r}, {headers!r}) did not raise; there was "
                f"{exchange.outcome()}"
            )


def _headers(*pairs: tuple[object, object]) -> list[tuple[str, list[object]]]:
    return [("200 OK", [TEXT, pair]) for pair in pairs]


@check("PEP3333-start-response-01")
def returns_write(bench: Bench) -> None:
    """start_response() returns a callable."""
    returned: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        returned.append(begin(start_response))
        return [b"x"]

    bench.request(app)
    expect(callable(returned[0]), f"start_response() returned {returned[0]!r}")


@check("PEP3333-start-response-02")
def status(bench: Bench) -> None:
    """The number in the status line is the status of the message."""
    for line in ("200 OK", "404 Not Found", "599 Tr\xe8s bien"):
        exchange = bench.request(answering([b"x"], status=line))
        expect_equal(exchange.status, int(line[:3]), f"the status for {line!r}")


@check("PRACTICE-status-01")
def status_without_reason(bench: Bench) -> None:
    """A status without a reason is accepted."""
    for line in ("200", "200 ", "404"):
        exchange = bench.request(answering([b"x"], status=line))
        expect_equal(exchange.status, int(line[:3]), f"the status for {line!r}")


@check("PEP3333-start-response-03")
def status_malformed(bench: Bench) -> None:
    """A status that does not begin with three digits is refused."""
    lines = ("OK", "", "20 OK", "2000 OK", " 200 OK", "-20 OK", "2_0 OK", "٢٠٠ OK")
    expect_refused(bench, *((line, [TEXT]) for line in lines))


@check("PEP3333-start-response-04")
def status_of_another_type(bench: Bench) -> None:
    """A status that is not str is refused."""
    expect_refused(bench, *((status, [TEXT]) for status in (200, b"200 OK", None)))


@check("PEP3333-start-response-05")
def status_with_control_characters(bench: Bench) -> None:
    """A status with a line break or NUL is refused."""
    lines = ("200 OK\r\nX-Evil: 1", "200 OK\n", "200\r", "200 O\0K")
    expect_refused(bench, *((line, [TEXT]) for line in lines))


@check("RFC9110-informational-01")
def status_informational(bench: Bench) -> None:
    """A status of 1xx is not sent as the response."""
    for line in ("100 Continue", "103 Early Hints", "199 Odd"):
        exchange = bench.attempt(answering([b"x"], status=line))
        expect(
            exchange.failed and exchange.status != int(line[:3]),
            f"status {line!r} brought {exchange.outcome()}",
        )


@check("ASGI-HTTP-start-01")
def headers_in_order(bench: Bench) -> None:
    """Headers keep their order, and repeated ones stay apart."""
    pairs = [("set-cookie", "a=1"), ("x-b", "2"), ("set-cookie", "c=3")]
    exchange = bench.request(answering([b"x"], *pairs))
    wanted = [(name.encode(), value.encode()) for name, value in pairs]
    names = {name for name, _ in wanted}
    seen = [(name, value) for name, value in exchange.headers if name in names]
    expect_equal(seen, wanted, "the list of headers")


@check("ASGI-HTTP-start-02")
def header_names_in_lower_case(bench: Bench) -> None:
    """Header names are sent in lower case, as bytes."""
    exchange = bench.request(answering([b"x"], ("X-FOO", "1"), ("Last-Modified", "2")))
    expect_equal(exchange.header(b"x-foo"), b"1", "the header x-foo")
    expect_equal(exchange.header(b"last-modified"), b"2", "the header last-modified")


@check("PEP3333-unicode-05")
def header_values_of_latin_1(bench: Bench) -> None:
    """Header values are sent as their Latin-1 bytes."""
    exchange = bench.request(answering([b"x"], ("x-a", "caf\xe9\xff")))
    expect_equal(exchange.header(b"x-a"), b"caf\xe9\xff", "the header")


@check("PEP3333-unicode-06")
def headers_beyond_latin_1(bench: Bench) -> None:
    """Text in a header that Latin-1 does not have is refused."""
    expect_refused(bench, *_headers(("x-a", "中"), ("x-中", "a")))


@check("PEP3333-start-response-06")
def header_names_that_are_no_tokens(bench: Bench) -> None:
    """A header name that is no token is refused."""
    names = ("", "a b", "a:b", "caf\xe9", "a\tb", "a\x7f", "a,b", "(a)")
    expect_refused(bench, *_headers(*((name, "1") for name in names)))


@check("PEP3333-start-response-07")
def header_values_with_control_characters(bench: Bench) -> None:
    """A header value with a control character, tab excepted, is refused."""
    values = ("a\x01b", "a\x1bb", "a\x7fb", "a\x0bb")
    expect_refused(bench, *_headers(*(("x-a", value) for value in values)))


@check("PEP3333-start-response-08")
def headers_of_another_type(bench: Bench) -> None:
    """Header names and values that are not str are refused."""
    pairs: list[Any] = [(b"x-a", "1"), ("x-a", b"1"), ("x-a", 1), ("x-a", None)]
    expect_refused(bench, *_headers(*pairs), ("200 OK", [TEXT, ("x-a",)]))


@check("PRACTICE-headers-01")
def headers_as_lists(bench: Bench) -> None:
    """Headers may be lists of two, as much code has them."""
    app: Any = answering([b"x"], ["x-a", "1"])  # type: ignore[arg-type]  # that is the point
    exchange = bench.request(app)
    expect_equal(exchange.header(b"x-a"), b"1", "the header")


@check("PEP3333-start-response-09")
def headers_changed_later(bench: Bench) -> None:
    """Headers that are changed after the call do not change the response."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        headers = [TEXT, ("x-a", "1")]
        start_response("200 OK", headers)
        headers[1] = ("x-a", "2")
        headers.append(("x-b", "3"))
        yield b"x"

    exchange = bench.request(app)
    expect_equal(exchange.header(b"x-a"), b"1", "the header that was replaced later")
    expect_equal(exchange.header(b"x-b"), None, "the header that was added later")


@check("PEP3333-start-response-10")
def second_call(bench: Bench) -> None:
    """A second call without exc_info raises."""
    raised: list[Exception] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin(start_response)
        try:
            begin(start_response, status="201 Created")
        except Exception as error:
            raised.append(error)
        return [b"x"]

    bench.attempt(app)
    expect(raised, "the second call did not raise")


@check("PEP3333-start-response-11")
def second_call_after_a_failed_one(bench: Bench) -> None:
    """After a call that failed, only one with exc_info is accepted."""
    raised: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        try:
            start_response("200 OK", [("x-a", "中")])
        except Exception:
            raised.append("first")
            exc_info = sys.exc_info()
            try:
                begin(start_response)
            except Exception:
                raised.append("second")
            start_response("500 Oops", [TEXT], exc_info)
        return [b"sorry"]

    exchange = bench.attempt(app)
    expect("first" in raised, "the first call, with a header of no Latin-1, was fine")
    expect("second" in raised, "the second call, without exc_info, did not raise")
    expect_equal(exchange.status, 500, "the status given with exc_info")
    expect_equal(exchange.body, b"sorry", "the body")


def _failing(start_response: StartResponse, error: Exception, *headers: Any) -> Any:
    """Call start_response from an error handler."""
    try:
        raise error
    except Exception:
        return start_response("500 Oops", [TEXT, *headers], sys.exc_info())


@check("PEP3333-start-response-12")
def replacement(bench: Bench) -> None:
    """With exc_info, before any output, status and all headers are replaced."""

    def whole(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin(start_response, ("x-a", "1"), ("content-length", "3"))
        _failing(start_response, ValueError("planned"), ("x-b", "2"))
        return [b"an error page"]

    def in_pieces(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        yield from whole(environ, start_response)

    for app in (whole, in_pieces):
        exchange = bench.attempt(app)
        expect_equal(exchange.status, 500, "the status")
        expect_equal(exchange.header(b"x-a"), None, "the first call's header")
        expect_equal(exchange.header(b"x-b"), b"2", "the second call's header")
        expect_equal(exchange.body, b"an error page", "the body")
        expect(exchange.complete, f"there was {exchange.outcome()}")


def _late_replacement(
    error: Exception, raised: list[BaseException], write: bool
) -> Any:
    def start(start_response: StartResponse) -> None:
        try:
            _failing(start_response, error)
        except BaseException as seen:
            raised.append(seen)
            raise

    def by_iteration(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterator[bytes]:
        begin(start_response)
        yield b"some"
        start(start_response)
        yield b"an error page"

    def by_write(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin_writing(start_response)(b"some")
        start(start_response)
        return [b"an error page"]

    return by_write if write else by_iteration


@check("PEP3333-start-response-13")
def late_replacement(bench: Bench) -> None:
    """With exc_info, after output, the call raises; the response stays unfinished."""
    raised: list[BaseException] = []
    app = _late_replacement(ValueError("planned"), raised, write=False)
    exchange = bench.attempt(app)
    expect(raised, "the call with exc_info after a chunk did not raise")
    expect_equal(exchange.status, 200, "the status")
    expect_equal(exchange.body, b"some", "the body")
    expect(not exchange.complete, "the response was completed as if nothing had been")


@check("PEP3333-start-response-14")
def late_replacement_raises_the_original(bench: Bench) -> None:
    """What a late call with exc_info raises is the error that it was given."""
    for write in (False, True):
        error = ValueError("planned")
        raised: list[BaseException] = []
        exchange = bench.attempt(_late_replacement(error, raised, write))
        expect(not isinstance(exchange.error, NoWrite), str(exchange.error))
        seen = raised[0] if raised else None
        where = "after write()" if write else "after a chunk"
        expect(seen is error, f"{where} it raised {seen!r}, expected {error!r}")


@check("PEP3333-start-response-15")
def exc_info_in_the_first_call(bench: Bench) -> None:
    """A first call with exc_info is a call like any other."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        _failing(start_response, ValueError("planned"))
        return [b"sorry"]

    exchange = bench.attempt(app)
    expect_equal(exchange.status, 500, "the status")
    expect_equal(exchange.body, b"sorry", "the body")
    expect(exchange.complete, f"there was {exchange.outcome()}")


@check("PEP3333-start-response-16")
def exc_info_of_none(bench: Bench) -> None:
    """exc_info may be given as None."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        start_response("200 OK", [TEXT], None)
        return [b"x"]

    expect_equal(bench.request(app).body, b"x", "the body")


@check("PRACTICE-start-response-01")
def exc_info_by_keyword(bench: Bench) -> None:
    """exc_info may be given by keyword."""

    def app(environ: WSGIEnvironment, start_response: Any) -> Chunks:
        try:
            raise ValueError("planned")
        except ValueError:
            start_response("500 Oops", [TEXT], exc_info=sys.exc_info())
        return [b"sorry"]

    exchange = bench.attempt(app)
    if isinstance(exchange.error, TypeError):
        raise NotOffered(f"start_response() raises {exchange.error!r}")
    expect_equal(exchange.status, 500, "the status")
    expect_equal(exchange.body, b"sorry", "the body")


@check("PEP3333-errors-01")
def error_that_was_reported(bench: Bench) -> None:
    """An error that the application has answered with exc_info is not raised again."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin(start_response)
        _failing(start_response, ValueError("planned"))
        return [b"sorry"]

    exchange = bench.attempt(app)
    expect(exchange.error is None, f"the adapter raised {exchange.error!r}")


@check("PEP3333-start-response-17")
def exc_info_is_not_kept(bench: Bench) -> None:
    """start_response() keeps no reference to exc_info."""
    kept: list[bool] = []

    class Planned(Exception):
        pass

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        def attempt() -> weakref.ref[Planned]:
            try:
                raise Planned
            except Planned as error:
                start_response("500 Oops", [TEXT], sys.exc_info())
                return weakref.ref(error)

        kept.append(attempt()() is not None)
        return [b"sorry"]

    # What the collector would find later, the application pays for until then.
    gc.disable()
    try:
        bench.attempt(app)
    finally:
        gc.enable()
    expect(kept == [False], "the error was alive after the call, with all its frames")


@check("PEP3333-write-01")
def write_comes_first(bench: Bench) -> None:
    """What was written goes before what the iterable gives."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        write = begin_writing(start_response)
        write(b"ab")
        write(b"cd")
        return [b"ef"]

    expect_equal(bench.request(app).body, b"abcdef", "the body")


@check("PEP3333-write-02")
def write_is_sent_at_once(bench: Bench) -> None:
    """What was written is sent while the application runs on."""
    exchange = HttpExchange()
    written = exchange.when(lambda: exchange.body == b"one")
    seen: list[bool] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin_writing(start_response)(b"one")
        seen.append(written.wait())
        return [b"two"]

    bench.request(app, exchange)
    expect(seen == [True], "it was not sent while the application ran on")


# What an adapter takes from what ends a response to its end, if it does so at once and
# not at the next turn of a clock of its own.
_AT_ONCE_S = 0.08 * PATIENCE
_ATTEMPTS = 3


@check("PEP3333-write-04")
def response_ends_at_once_after_write(bench: Bench) -> None:
    """What is returned after write() ends the response at once, a list or tuple too."""
    results: dict[str, Callable[[], Chunks]] = {
        "an empty list": list,
        "a list of one chunk": lambda: [b" and more"],
        "an empty tuple": tuple,
        "a tuple of two chunks": lambda: (b" and", b" more"),
        "an empty iterator": lambda: iter([]),
    }
    for what, make in results.items():
        latest = min(_time_after_write(bench, make, what) for _ in range(_ATTEMPTS))
        late = f"the end came {latest * 1000:.0f} ms after {what} had been returned"
        expect(latest < _AT_ONCE_S, late)


def _time_after_write(bench: Bench, make: Callable[[], Chunks], what: str) -> float:
    """Have a page written and something returned, and give how long the end takes."""
    exchange = HttpExchange()
    written = exchange.when(lambda: exchange.body == b"page")
    times: list[float] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        write = begin_writing(start_response)
        write(b"page")
        written.wait()
        bench.settle()  # so that whoever sends sleeps
        times.append(time.monotonic())
        return make()

    exchange.completed.on_open(lambda: times.append(time.monotonic()))
    served = bench.serve(app)
    served.start(exchange)
    if not exchange.returned.wait():
        fail(f"no end of the response within 1 s of write() and {what}")
    expect(not isinstance(exchange.error, NoWrite), str(exchange.error))
    expect(exchange.complete, f"for {what} there was {exchange.outcome()}")
    wanted = b"page" + b"".join(make())
    expect_equal(exchange.body, wanted, f"the body with {what}")
    return times[1] - times[0]


@check("PEP3333-write-03")
def write_takes_bytes_only(bench: Bench) -> None:
    """write() refuses what is not bytes."""
    raised: list[Exception] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        write: Any = begin_writing(start_response)
        try:
            write("text")
        except Exception as error:
            raised.append(error)
            raise
        return []

    exchange = bench.attempt(app)
    expect(not isinstance(exchange.error, NoWrite), str(exchange.error))
    expect(raised, f"write('text') did not raise; there was {exchange.outcome()}")


@check("PEP3333-start-response-18")
def empty_chunks_commit_nothing(bench: Bench) -> None:
    """After empty chunks, status and headers can still be replaced."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        begin(start_response)
        yield b""
        yield b""
        _failing(start_response, ValueError("planned"))
        yield b"sorry"

    exchange = bench.attempt(app)
    expect_equal(exchange.status, 500, "the status")
    expect_equal(exchange.body, b"sorry", "the body")


@check("PEP3333-start-response-19")
def nothing_is_sent_by_the_call(bench: Bench) -> None:
    """start_response() itself sends nothing."""
    exchange = HttpExchange()
    sent: list[int] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin(start_response)
        bench.settle()
        sent.append(len(exchange.messages))
        return [b"x"]

    bench.request(app, exchange)
    expect(sent == [0], f"when it returned, {exchange.messages[:1]} had been sent")


@check("RFC9110-status-01")
def status_beyond_http(bench: Bench) -> None:
    """A status that HTTP does not have is not sent."""
    for status in ("600 Beyond", "999 Denied"):
        error, exchange = refusal(bench, status, [TEXT])
        if exchange.violations:
            fail(exchange.violations[0])
        told = error is not None or exchange.failed
        expect(told, f"with the status {status!r} there was {exchange.outcome()}")


@check("PEP3333-iterable-01")
def only_empty_chunks(bench: Bench) -> None:
    """An iterable of empty chunks gives a whole response without a body."""
    exchange = bench.request(answering([b"", b""], status="201 Created"))
    expect_equal(exchange.status, 201, "the status")
    expect_equal(exchange.body, b"", "the body")


@check("PEP3333-iterable-02")
def call_in_the_first_step(bench: Bench) -> None:
    """start_response() may be called by the first step of the iterable."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        begin(start_response, status="201 Created")
        yield b"made"

    exchange = bench.request(app)
    expect_equal(exchange.status, 201, "the status")
    expect_equal(exchange.body, b"made", "the body")


@check("PEP3333-start-response-20")
def never_called(bench: Bench) -> None:
    """To never call start_response() is an error that the server sees."""
    bodies: list[list[bytes]] = [[b"x"], []]
    for body in bodies:
        exchange = bench.attempt(lambda environ, start_response: body)  # noqa: B023  # used in this turn
        expect(exchange.failed, f"for {body!r} there was {exchange.outcome()}")


@check("PEP3333-start-response-21")
def called_too_late(bench: Bench) -> None:
    """A chunk before start_response() is an error that the server sees."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        yield b"early"
        begin(start_response)
        yield b"late"

    exchange = bench.attempt(app)
    expect(exchange.failed, f"there was {exchange.outcome()}")


@check("PEP3333-iterable-03")
def empty_chunk_before_the_call(bench: Bench) -> None:
    """An empty chunk may come before start_response()."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        yield b""
        begin(start_response)
        yield b"x"

    exchange = bench.request(app)
    expect_equal(exchange.status, 200, "the status")
    expect_equal(exchange.body, b"x", "the body")


@check("PRACTICE-write-01")
def write_after_the_end(bench: Bench) -> None:
    """write() after the response has ended raises and sends nothing."""
    kept: list[Any] = []
    raised: list[Exception] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        kept.append(begin_writing(start_response))
        return [b"x"]

    bench.request(app)
    try:
        kept[0](b"late")
    except Exception as error:
        raised.append(error)
    bench.settle()
    expect(raised, "write() did not raise after the adapter had returned")
