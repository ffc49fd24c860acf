"""Messages, the end of a connection from either side, lifespan, extensions."""

import functools
import inspect
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from conformance.apps import Body, answering, begin, endless, hello, reading
from conformance.bench import Bench, Served
from conformance.checking import NotOffered, check, expect, expect_equal, fail
from conformance.checks.iterable import (
    CONTENT,
    file_wrapper,
    real_file,
    wrapping,
)
from conformance.exchanges import (
    STREAMED,
    HttpExchange,
    LifespanExchange,
)
from conformance.gate import Gate
from conformance.server import PAUSE, Exchange, Message, Script
from conformance.timing import HAPPENS_S, PATIENCE, REST_S

Chunks = Iterable[bytes]


class Planned(Exception):
    """What checks have servers and applications raise."""


def mixed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Read and answer in turns, with empty chunks in between."""
    begin(start_response, ("x-a", "1"))
    yield b""
    yield environ["wsgi.input"].read(3)
    yield b""
    yield environ["wsgi.input"].read()
    yield b"end"


@check("ASGI-MAIN-messages-03")
def messages_are_well_formed(bench: Bench) -> None:
    """In a mixed exchange, every message is well-formed and in its place."""
    body: Script = [b"ab", PAUSE, b"", PAUSE, b"cd", PAUSE, b"ef"]
    exchange = bench.request(mixed, body=body, framing=STREAMED)
    expect_equal(exchange.body, b"abcdefend", "the response")


@check("ASGI-MAIN-application-01")
def returns_after_the_response(bench: Bench) -> None:
    """The adapter returns after the last message, although receive() gives nothing."""
    for app in (hello, mixed):
        bench.request(app, body=b"abcdef", tells_end=False)


@check("PRACTICE-tasks-01")
def no_task_is_left(bench: Bench) -> None:
    """The adapter leaves no task behind when it returns."""
    for app in (hello, mixed):
        exchange = bench.request(app, body=[b"ab", PAUSE, b"cdef"], framing=STREAMED)
        tasks = bench.strays(exchange)
        expect(not tasks, f"left behind: {', '.join(tasks)}")


# The client leaves.


@check("ASGI-HTTP-send-01")
def send_raises_os_error(bench: Bench) -> None:
    """An endless response ends when send() raises OSError."""
    body = Body(endless())
    exchange = HttpExchange()
    exchange.fail_sends(3, OSError("the client has left"))
    bench.attempt(answering(body), exchange)
    taken = body.taken
    bench.settle()
    expect(body.taken - taken < 2, "the body was taken from on and on")


@check("ASGI-HTTP-send-02")
def os_error_stays_what_it_is(bench: Bench) -> None:
    """An OSError of send() comes out of the adapter as it is, or not at all."""
    for body in ([b"a"], iter([b"a"] * 100)):
        exchange = HttpExchange()
        exchange.fail_sends(2, OSError("the client has left"))
        bench.attempt(answering(body), exchange)
        error = exchange.error
        good = error is None or isinstance(error, OSError)
        expect(good, f"the adapter raised {error!r}")


@check("ASGI-MAIN-messages-04")
def send_raises_another_error(bench: Bench) -> None:
    """Any other error of send() comes out of the adapter, and the body is closed."""
    body = Body([b"a"] * 100)
    exchange = HttpExchange()
    exchange.fail_sends(2, Planned("send() failed"))
    bench.attempt(answering(body), exchange)
    expect(exchange.error is not None, "the adapter returned as if nothing had been")
    expect(body.closed.wait(), "close() was not called")


@check("ASGI-HTTP-disconnect-07")
def client_leaves_in_the_response(bench: Bench) -> None:
    """A client whose leaving only receive() tells ends an endless response."""
    _expect_end_of_stream(bench, HttpExchange())


@check("ASGI-HTTP-disconnect-07")
def client_leaves_in_a_send(bench: Bench) -> None:
    """A client that leaves ends a response whose send() waits for it, too."""
    exchange = HttpExchange()
    exchange.stall_send(3, for_good=True)
    _expect_end_of_stream(bench, exchange)


@check("ASGI-HTTP-disconnect-08")
def client_leaves_while_nothing_is_sent(bench: Bench) -> None:
    """A stream whose client left while it was idle is not asked for more than once."""
    idle, over = Gate(), Gate()

    def chunks() -> Iterator[bytes]:
        yield b"first"
        idle.open()
        over.wait()
        yield from endless()

    body = Body(chunks())
    exchange = HttpExchange()
    served = bench.serve(answering(body))
    served.start(exchange)
    expect(idle.wait(), f"the stream did not begin; {exchange.progress()}")
    exchange.left.open()
    bench.settle()
    over.open()
    _expect_end(served, exchange, body)
    expect(body.taken <= 2, f"{body.taken - 1} chunks were taken after the client left")


def _expect_end_of_stream(bench: Bench, exchange: HttpExchange) -> None:
    body = Body(endless())
    served = bench.serve(answering(body))
    served.start(exchange)
    started = exchange.sent(3).wait()
    expect(started, f"the stream did not begin; {exchange.progress()}")
    exchange.left.open()
    _expect_end(served, exchange, body)


def _expect_end(served: Served, exchange: Exchange, body: Body) -> None:
    closed = body.closed.wait()
    if not closed:
        before = body.taken
        Gate().wait(0.01)
        goes_on = "is still being made" if body.taken > before else "was not closed"
        exchange.fail_sends(1, OSError("the check is over"))
        fail(f"1 s after http.disconnect the body {goes_on}")
    served.finish(exchange)
    expect(body.closes == 1, f"close() was called {body.closes} times")


@check("PRACTICE-cancel-01")
def cancelled_in_the_response(bench: Bench) -> None:
    """Cancelling the adapter stops the body and closes it."""
    body = Body(endless())
    exchange = HttpExchange()
    served = bench.serve(answering(body))
    served.start(exchange)
    exchange.sent(3).wait()
    exchange.cancel()
    served.finish(exchange)
    error = exchange.error
    expect(
        bench.loop.loop.is_cancellation(error),
        f"the cancelled adapter ended with {error!r}",
    )
    expect(body.closed.wait(), "close() was not called within 1 s")
    expect(body.closes == 1, f"close() was called {body.closes} times")


@check("PRACTICE-cancel-01")
def cancelled_and_closed(bench: Bench) -> None:
    """A cancelled adapter does not return before a body that is soon closed is."""
    early: list[bool] = []

    def on_close() -> None:
        # After this the server may end, and its process with it.
        early.append(exchange.returned.wait(REST_S))

    exchange = HttpExchange()
    served = bench.serve(answering(Body(endless(), on_close=on_close)))
    served.start(exchange)
    exchange.sent(3).wait()
    exchange.cancel()
    served.finish(exchange)
    expect(early == [False], "it returned while close() was to be called or running")


@check("PRACTICE-cancel-02")
def cancelled_while_reading(bench: Bench) -> None:
    """Cancelling the adapter frees a thread that waits for the body."""
    reading_now, freed = Gate(), Gate()
    results: list[object] = []

    def use(environ: WSGIEnvironment) -> None:
        stream = environ["wsgi.input"]
        stream.read(1)
        reading_now.open()
        try:
            results.append(stream.read())
        except BaseException as error:
            results.append(error)
            raise
        finally:
            freed.open()

    exchange = HttpExchange(body=[b"abc", Gate(), b"d"], framing=STREAMED)
    served = bench.serve_streaming(reading(use))
    served.start(exchange)
    began = reading_now.wait()
    bench.settle()
    exchange.cancel()
    served.finish(exchange)
    if not began:
        return  # it receives the whole body first, so no thread waits for it
    expect(freed.wait(), "the thread was still reading 1 s later")
    expect(isinstance(results[0], BaseException), f"read() gave {results[0]!r}")


@check("PRACTICE-disconnected-01")
def client_can_be_asked_after(bench: Bench) -> None:
    """waitress.client_disconnected, if there, tells whether the client has left."""
    gone = Gate()
    told: list[object] = []
    missing: list[bool] = []
    exchange = HttpExchange()

    def use(environ: WSGIEnvironment) -> None:
        ask = environ.get("waitress.client_disconnected")
        missing.append(ask is None)
        if ask is None:
            return
        told.append(ask())
        exchange.left.open()
        for _ in range(int(HAPPENS_S / 0.005)):
            if ask() or gone.wait(0.005):
                break
        told.append(ask())

    bench.attempt(reading(use), exchange)
    if missing[0]:
        raise NotOffered("there is no waitress.client_disconnected")
    expect_equal(told, [False, True], "the answer before and after the client left")


# Lifespan.


def lifespan(bench: Bench, app: WSGIApplication = hello) -> tuple[Served, Any]:
    """Start a lifespan, and see that the adapter takes part in it."""
    served = bench.serve(app)
    exchange = served.start(LifespanExchange())
    answered = exchange.when(lambda: exchange.messages or exchange.returned.is_open)
    answered.wait()
    if exchange.returned.is_open and not exchange.messages:
        how = f"refused with {exchange.error!r}" if exchange.error else "not answered"
        raise NotOffered(f"lifespan is {how}")
    expect_equal(exchange.answers, ["lifespan.startup.complete"], "the answer at start")
    return served, exchange


@check("ASGI-LIFESPAN-scope-01")
def lifespan_is_not_ignored(bench: Bench) -> None:
    """A lifespan is refused by raising, or carried through."""
    served = bench.serve(hello)
    exchange = served.start(LifespanExchange())
    exchange.when(lambda: exchange.messages or exchange.returned.is_open).wait()
    if exchange.returned.is_open:
        expect(exchange.error is not None, "the adapter returned without an answer")
        expect(not exchange.messages, f"it raised after {exchange.answers}")
        return
    exchange.stopping.open()
    served.finish(exchange)
    expect_equal(len(exchange.answers), 2, "the count of answers")


@check("ASGI-LIFESPAN-startup-01")
def lifespan_is_answered(bench: Bench) -> None:
    """Start and stop are acknowledged."""
    served = bench.serve(hello)
    exchange = served.start(LifespanExchange())
    exchange.when(lambda: exchange.messages or exchange.returned.is_open).wait()
    exchange.stopping.open()
    served.finish(exchange)
    wanted = ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    if exchange.error is not None:
        fail(f"the adapter raised {exchange.error!r}")
    expect_equal(exchange.answers, wanted, "the list of answers")


@check("PRACTICE-lifespan-01")
def one_of_two_lifespans_ends(bench: Bench) -> None:
    """Of two servers on one loop one stops, and the other is served on."""
    served, first = lifespan(bench)
    second = served.start(LifespanExchange())
    second.sent(1).wait()
    wanted = ["lifespan.startup.complete"]
    expect_equal(second.answers, wanted, "the answer at the second start")
    for state in ("both servers run", "one of them has stopped"):
        exchange = served.request()
        expect_equal(exchange.status, 200, f"the status while {state}")
        first.stopping.open()
        served.finish(first)
    second.stopping.open()
    served.finish(second)


# Within this, an adapter that does not wait for requests has acknowledged a shutdown.
_EARLY_S = 0.3 * PATIENCE


class _Shutdown:
    """A shutdown that comes while a request is in the application."""

    def __init__(self, bench: Bench) -> None:
        self.over = Gate()
        inside = Gate()

        def use(environ: WSGIEnvironment) -> None:
            inside.open()
            if environ["PATH_INFO"] == "/running":
                self.over.wait()

        self.served, self.exchange = lifespan(bench, reading(use))
        self.running = self.served.start(HttpExchange(path="/running"))
        inside.wait()
        self.exchange.stopping.open()
        self.exchange.sent(2).wait(_EARLY_S)

    def end(self) -> None:
        """Let the request end, and with it the shutdown."""
        self.over.open()
        self.served.finish(self.running)
        self.served.finish(self.exchange)


@check("PRACTICE-shutdown-01")
def shutdown_waits_for_requests(bench: Bench) -> None:
    """A shutdown is acknowledged when requests that still run have ended."""
    shutdown = _Shutdown(bench)
    early = shutdown.exchange.answers[1:]
    shutdown.end()
    expect(not early, f"{early} was sent while a request was in the application")
    expect_equal(shutdown.running.body, b"hello", "the answer to that request")
    wanted = ["lifespan.shutdown.complete"]
    expect_equal(shutdown.exchange.answers[1:], wanted, "the answer afterwards")


@check("PRACTICE-shutdown-02")
def request_during_a_shutdown(bench: Bench) -> None:
    """A request that comes during the shutdown is answered 503."""
    shutdown = _Shutdown(bench)
    if shutdown.exchange.answers[1:]:
        shutdown.end()
        raise NotOffered("a shutdown does not take long")
    late = shutdown.served.start(HttpExchange())
    answered = late.returned.wait()
    shutdown.end()
    expect(answered, "it was left waiting")
    if late.status == 200:
        raise NotOffered("it is served like any other")
    expect_equal(late.status, 503, f"the status ({late.outcome()})")


# Scopes.


@check("ASGI-MAIN-protocol-01")
def unknown_scope(bench: Bench) -> None:
    """A scope of an unknown type is refused with an exception."""
    served = bench.serve(hello)
    exchange = served.start(HttpExchange(type="smtp"))
    served.finish(exchange)
    error = exchange.error
    good = error is not None and not exchange.messages
    expect(good, f"there was {exchange.outcome()}, expected an exception")


@check("ASGI-MAIN-extensions-01")
def unknown_extensions(bench: Bench) -> None:
    """Keys and extensions that the adapter does not know are ignored."""
    scopes: list[dict[str, Any]] = [
        {"x.key": object(), "extensions": {"x.y": {}, "http.response.x": None}},
        {"extensions": None},
        {"extensions": {}},
    ]
    for scope in scopes:
        exchange = bench.request(hello, **scope)
        expect_equal(exchange.body, b"hello", f"the response for {scope}")


@check("ASGI-MAIN-extensions-02")
def extensions_that_are_not_offered(bench: Bench) -> None:
    """No extension's message is sent unless the server offers the extension."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        if "wsgi.early_hints" in environ:
            environ["wsgi.early_hints"]([("link", "</a.css>; rel=preload")])
        begin(start_response)
        if "wsgi.file_wrapper" in environ:
            wrapped: Chunks = environ["wsgi.file_wrapper"](real_file())
            return wrapped
        return [CONTENT]

    exchange = bench.request(app)
    kinds = {message["type"] for message in exchange.messages}
    extra = kinds - {"http.response.start", "http.response.body"}
    expect(not extra, f"sent without being offered: {sorted(extra)}")
    expect(exchange.body == CONTENT, "the body is another")


_ALL_EXTENSIONS: dict[str, dict[str, Any]] = {
    "http.response.debug": {},
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.push": {},
    "http.response.trailers": {},
    "http.response.zerocopysend": {},
}


@check("ASGI-EXT-others-01")
def extensions_that_nobody_asked_for(bench: Bench) -> None:
    """Push, trailers and debug messages are not sent by themselves."""
    for app in (hello, mixed):
        exchange = bench.request(app, body=b"abcdef", extensions=_ALL_EXTENSIONS)
        kinds = {message["type"] for message in exchange.messages}
        extra = kinds - {"http.response.start", "http.response.body"}
        expect(not extra, f"sent: {sorted(extra)}")
        expect(exchange.start, "there is no start message")


LINK = "</style.css>; rel=preload; as=style"


def _hinting(hints: list[tuple[str, str]], missing: list[bool]) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        give = environ.get("wsgi.early_hints")
        missing.append(give is None)
        if give:
            try:
                give(hints)
            except ValueError:
                begin(start_response, status="500 Oops")
                yield b"refused"
                return
        begin(start_response)
        yield b"some"
        if give:
            give([("Link", LINK)])
        yield b"more"

    return app


HINTS: dict[str, dict[str, Any]] = {"http.response.early_hint": {}}


def _hints(
    bench: Bench, *hints: tuple[str, str], http_version: str = "2"
) -> list[Message]:
    missing: list[bool] = []
    exchange = bench.request(
        _hinting(list(hints), missing), extensions=HINTS, http_version=http_version
    )
    if missing[0]:
        raise NotOffered("there is no wsgi.early_hints")
    return [m for m in exchange.messages if m["type"] == "http.response.early_hint"]


@check("ASGI-EXT-early-hint-01")
def early_hints(bench: Bench) -> None:
    """wsgi.early_hints sends Link fields before the response, and nothing after."""
    hints = _hints(bench, ("x-a", "1"), ("Link", LINK))
    expect_equal(len(hints), 1, "the count of early_hint messages")
    links = [bytes(link) for link in hints[0].get("links", ())]
    expect_equal(links, [LINK.encode()], "the links")


@check("ASGI-EXT-early-hint-02")
def early_hints_at_once(bench: Bench) -> None:
    """Each early hint is with the server while the application goes on."""
    arrived: list[bool] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        give = environ.get("wsgi.early_hints")
        if give:
            # More than one, since an adapter may look around by itself, once.
            for number in (1, 2, 3):
                give([("Link", LINK)])
                arrived.append(exchange.sent(number).wait(HAPPENS_S / 2))
        begin(start_response)
        return [b"some"]

    exchange = HttpExchange(extensions=HINTS, http_version="2")
    bench.request(app, exchange)
    if not arrived:
        raise NotOffered("there is no wsgi.early_hints")
    expect(all(arrived), "a hint was held back until the application went on")


@check("RFC9110-informational-02")
def early_hints_over_http_1_0(bench: Bench) -> None:
    """wsgi.early_hints sends nothing to a client of HTTP/1.0."""
    hints = _hints(bench, ("Link", LINK), http_version="1.0")
    expect(not hints, f"sent: {hints}")


@check("RFC8297-hints-01")
def early_hints_with_line_breaks(bench: Bench) -> None:
    """wsgi.early_hints refuses or drops what would inject a header."""
    hints = _hints(bench, ("Link", "</a>\r\nset-cookie: evil=1"))
    links = [bytes(link) for hint in hints for link in hint.get("links", ())]
    bad = [link for link in links if b"\r" in link or b"\n" in link]
    expect(not bad, f"sent: {bad}")


@check("ASGI-EXT-zerocopy-01")
def zero_copy_send(bench: Bench) -> None:
    """A wrapped real file may go by zerocopysend, where that is offered."""
    file_wrapper(bench)
    extensions: dict[str, Any] = {"http.response.zerocopysend": {}}
    used = False
    for offset, length in ((0, None), (100, None), (5, 10)):
        headers = () if length is None else (("content-length", str(length)),)
        sent: list[bytes] = []
        exchange = HttpExchange(extensions=extensions)

        def copy(message: Message, sent: list[bytes] = sent) -> None:
            if message["type"] == "http.response.zerocopysend":
                file = message["file"]
                if "offset" in message:
                    file.seek(message["offset"])
                sent.append(file.read(message.get("count", -1)))
            elif message["type"] == "http.response.body":
                sent.append(message.get("body", b""))

        exchange.on_send = copy
        bench.request(wrapping(lambda: real_file(offset), *headers), exchange)  # noqa: B023  # used in this turn
        used |= any("zerocopy" in message["type"] for message in exchange.messages)
        end = None if length is None else offset + length
        good = b"".join(sent) == CONTENT[offset:end]
        expect(good, f"from {offset}, length {length}: {len(b''.join(sent))} bytes")
    if not used:
        raise NotOffered("files go as body messages")


TRAILERS_KEYS = ("wsgi_asgi.send_trailers", "gunicorn.http2.send_trailers")


def _give_trailers(environ: WSGIEnvironment, *fields: tuple[str, str]) -> None:
    for key in TRAILERS_KEYS:
        if key in environ:
            environ[key](list(fields))
            return


def _offering_trailers(method: str = "GET") -> HttpExchange:
    return HttpExchange(
        method=method,
        http_version="2",
        headers=[(b"te", b"trailers")],
        extensions={"http.response.trailers": {}},
    )


def _needs_trailers(bench: Bench) -> None:
    environ = bench.environ(http_version="2", extensions={"http.response.trailers": {}})
    if not environ.keys() & set(TRAILERS_KEYS):
        raise NotOffered(f"there is neither {' nor '.join(TRAILERS_KEYS)}")


def _trailers(exchange: HttpExchange) -> list[tuple[bytes, ...]]:
    sent = [m for m in exchange.messages if m["type"] == "http.response.trailers"]
    return [tuple(pair) for message in sent for pair in message["headers"]]


@check("ASGI-EXT-trailers-01")
def trailers(bench: Bench) -> None:
    """Trailers can be sent after the body, where they are offered."""
    _needs_trailers(bench)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        _give_trailers(environ, ("x-checksum", "1"))
        begin(start_response)
        yield b"some"
        yield b"more"

    exchange = bench.request(app, _offering_trailers())
    expect_equal(_trailers(exchange), [(b"x-checksum", b"1")], "the trailers")
    expect_equal(exchange.body, b"somemore", "the body")


@check("ASGI-EXT-trailers-02")
def trailers_known_at_the_end(bench: Bench) -> None:
    """Announced trailers are sent, whenever they are known, and if they never are."""
    _needs_trailers(bench)
    for length in ((), (("content-length", "8"),)):
        for fields in ((), (("x-checksum", "1"),)):

            def app(
                environ: WSGIEnvironment,
                start_response: StartResponse,
                headers: tuple[tuple[str, str], ...] = length,
                fields: tuple[tuple[str, str], ...] = fields,
            ) -> Iterator[bytes]:
                _give_trailers(environ)
                begin(start_response, *headers)
                yield b"some"
                yield b"more"
                _give_trailers(environ, *fields)

            exchange = bench.request(app, _offering_trailers())
            wanted = [(name.encode(), value.encode()) for name, value in fields]
            kind = "with" if length else "without"
            what = f"for a body {kind} a length, the trailers are"
            expect(_trailers(exchange) == wanted, f"{what} {_trailers(exchange)}")
            expect_equal(exchange.body, b"somemore", "the body")


@check("ASGI-EXT-trailers-03")
def trailers_without_content(bench: Bench) -> None:
    """A response that can have no content announces no trailers."""
    _needs_trailers(bench)
    for method, status in (
        ("HEAD", "200 OK"),
        ("GET", "204 No Content"),
        ("GET", "304 Not Modified"),
    ):

        def app(
            environ: WSGIEnvironment,
            start_response: StartResponse,
            status: str = status,
        ) -> Chunks:
            _give_trailers(environ, ("x-checksum", "1"))
            start_response(status, [])
            return []

        exchange = bench.request(app, _offering_trailers(method))
        kinds = {message["type"] for message in exchange.messages}
        announced = "http.response.trailers" in kinds or (
            exchange.start and exchange.start.get("trailers")
        )
        expect(not announced, f"{method} answered {status} has trailers")


@check("ASGI-EXT-trailers-04")
def trailers_of_an_error(bench: Bench) -> None:
    """After an error no trailers are sent, and the response is not completed."""
    _needs_trailers(bench)
    for headers in ((), (("content-length", "4"),)):

        def app(
            environ: WSGIEnvironment,
            start_response: StartResponse,
            headers: tuple[tuple[str, str], ...] = headers,
        ) -> Iterator[bytes]:
            _give_trailers(environ, ("x-checksum", "1"))
            begin(start_response, *headers)
            yield b"some"
            raise Planned("no more")

        exchange = bench.attempt(app, _offering_trailers())
        expect_equal(exchange.body, b"some", "the body before the error")
        sent = any("trailers" in message["type"] for message in exchange.messages)
        expect(not sent, "trailers were sent")
        expect(not exchange.complete, "the response is complete")


@check("RFC9110-trailers-01")
def trailers_that_must_be_headers(bench: Bench) -> None:
    """Trailers that frame the message, or break a line, are refused or dropped."""
    _needs_trailers(bench)
    bad = (
        ("content-length", "3"),
        ("transfer-encoding", "chunked"),
        ("content-type", "text/html"),
        ("x-checksum", "1\r\nset-cookie: evil=1"),
        (":status", "500"),
    )
    for field in bad:

        def app(
            environ: WSGIEnvironment,
            start_response: StartResponse,
            field: tuple[str, str] = field,
        ) -> Chunks:
            with suppress(ValueError):
                _give_trailers(environ, field)
            begin(start_response)
            return [b"some"]

        exchange = bench.request(app, _offering_trailers())
        names = [name for name, *_ in _trailers(exchange)]
        expect(field[0].encode() not in names, f"sent: {field[0]}")


# Calls.


@check("ASGI-MAIN-application-02")
def awaited_on_the_loop(bench: Bench) -> None:
    """receive() and send() are awaited on the loop and in the thread of the call."""
    body: Script = [b"ab", PAUSE, b"cd", PAUSE, b"ef"]
    exchange = bench.request(mixed, body=body, framing=STREAMED)
    count = len(exchange.awaited_on)
    expect_equal(count, 1, "the count of threads and loops that awaited them")


@check("PRACTICE-receive-01")
def one_receive_at_a_time(bench: Bench) -> None:
    """receive() is not called while another call of it is awaited."""
    body: Script = [PAUSE, b"ab", PAUSE, b"cd", PAUSE, b"ef"]
    exchange = HttpExchange(body=body, framing=STREAMED)
    bench.request(mixed, exchange)
    expect(exchange.receives > 0, "receive() was not called at all")


@check("PRACTICE-send-01")
def one_send_at_a_time(bench: Bench) -> None:
    """send() is not called while another call of it is awaited."""
    exchange = HttpExchange()
    stalls = [exchange.stall_send(number) for number in (1, 2, 3)]
    served = bench.serve(answering(iter([b"a", b"b", b"c", b"d"])))
    served.start(exchange)
    for number, stall in enumerate(stalls, 1):
        exchange.sent(number).wait()
        bench.settle()
        stall.open()
    served.finish(exchange)
    expect_equal(exchange.body, b"abcd", "the body")


@check("ASGI-MAIN-application-03")
def any_awaitable(bench: Bench) -> None:
    """receive() and send() may return awaitables that are no coroutines."""
    body: Script = [b"ab", PAUSE, b"cd", PAUSE, b"ef"]
    exchange = bench.request(mixed, body=body, framing=STREAMED, coroutines=False)
    expect_equal(exchange.body, b"abcdefend", "the response")


@check("ASGI-MAIN-application-04")
def many_requests_at_once(bench: Bench) -> None:
    """One adapter serves 25 requests at once, and each gets its own answer."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        body = environ["wsgi.input"].read()
        begin(start_response, ("x-path", environ["PATH_INFO"]))
        yield body[:1]
        yield body[1:]

    served = bench.serve_streaming(app)
    exchanges = [
        HttpExchange(
            path=f"/{number}", body=[b"body ", PAUSE, b"%d" % number], framing=STREAMED
        )
        for number in range(25)
    ]
    for exchange in exchanges:
        served.start(exchange)
    for number, exchange in enumerate(exchanges):
        served.finish(exchange)
        expect_equal(exchange.body, b"body %d" % number, f"the answer to {number}")
        path = exchange.header(b"x-path")
        expect_equal(path, b"/%d" % number, f"the path of {number}")


class _ClassApp:
    def __init__(self, env: WSGIEnvironment, start: StartResponse, /) -> None:
        self._start = start

    def __iter__(self) -> Iterator[bytes]:
        begin(self._start)
        yield b"hello"


class _CallableObject:
    def __call__(self, env: WSGIEnvironment, start: StartResponse, /) -> Chunks:
        return hello(env, start)

    def method(self, env: WSGIEnvironment, start: StartResponse, /) -> Chunks:
        return hello(env, start)


@check("PEP3333-application-01")
def applications_of_any_kind(bench: Bench) -> None:
    """The application may be any callable of two positional arguments."""

    def with_one_more(extra: object, env: Any, start: Any, /) -> Chunks:
        return hello(env, start)

    apps: dict[str, Any] = {
        "a class": _ClassApp,
        "an object": _CallableObject(),
        "a method": _CallableObject().method,
        "a partial": functools.partial(with_one_more, None),
        "a lambda": lambda *args: hello(*args),
    }
    for kind, app in apps.items():
        exchange = bench.attempt(app)
        good = exchange.complete and exchange.body == b"hello"
        expect(good, f"{kind} brought {exchange.outcome()}")


@check("PRACTICE-loops-01")
def one_loop_after_another(bench: Bench) -> None:
    """An adapter made outside any loop serves one loop after another."""
    served = bench.serve(hello)
    for _ in range(3):
        expect_equal(served.request().body, b"hello", "the body")
        bench.renew_loop()


@check("ASGI-MAIN-application-05")
def single_callable(bench: Bench) -> None:
    """The adapter looks like an ASGI 3 application to those who inspect it."""
    adapter = bench.serve(hello).adapter
    kind = inspect.iscoroutinefunction(adapter) or inspect.iscoroutinefunction(
        getattr(adapter, "__call__", None)  # noqa: B004  # wanted is its kind
    )
    expect(kind, "neither it nor its __call__ is a coroutine function")


@check("ASGI-MAIN-version-01")
def older_versions(bench: Bench) -> None:
    """Scopes without the key asgi, or with an older version, are served."""
    versions: list[Any] = [
        ...,
        {},
        {"version": "2.0"},
        {"version": "3.0", "spec_version": "2.1"},
        {"version": "3.0", "spec_version": "2.0"},
    ]
    for asgi in versions:
        exchange = bench.request(hello, asgi=asgi)
        expect_equal(exchange.body, b"hello", f"the response with asgi {asgi}")


@check("ASGI-HTTP-request-05")
def disconnect_after_the_response(bench: Bench) -> None:
    """A disconnect that comes after the response is none of the application's."""
    exchange = HttpExchange()

    def on_close() -> None:
        # By now the server reports the end to whoever asks it.
        exchange.completed.wait()
        bench.settle()

    bench.request(answering(Body([b"a", b"b"], on_close=on_close)), exchange)
    expect_equal(exchange.body, b"ab", "the body")
