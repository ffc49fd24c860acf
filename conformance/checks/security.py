"""What must not get through, in either direction."""

from collections.abc import Iterable, Mapping
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from conformance.apps import TEXT, answering, begin, hello, raising
from conformance.bench import Bench
from conformance.checking import NotOffered, check, expect, expect_equal, fail
from conformance.checks.environ import expect_absent, expect_variable
from conformance.checks.start_response import refusal
from conformance.exchanges import CHUNKED, HttpExchange, request_part

Chunks = Iterable[bytes]

_VALUE_INJECTIONS = (
    "a\r\nX-Evil: 1",
    "a\nX-Evil: 1",
    "a\rX-Evil: 1",
    "a\r\n\r\n<html>",
    "a\0b",
    "a\r\n",
)
_NAME_INJECTIONS = ("x\r\nevil", "x:evil", "x evil", "x\0evil", ":status")


# Request headers.


@check("PRACTICE-httpoxy-01")
def proxy_header(bench: Bench) -> None:
    """A Proxy header of the request does not become HTTP_PROXY."""
    environ = bench.environ_or_refusal(headers=[(b"proxy", b"http://evil.example")])
    if environ is not None:
        expect_absent(environ, "HTTP_PROXY")


@check("RFC9110-underscore-01")
def underscore_twin(bench: Bench) -> None:
    """A header spelt with underscores does not change its twin with hyphens."""
    good, evil = (b"x-auth-user", b"good"), (b"x_auth_user", b"evil")
    for headers in ([good, evil], [evil, good]):
        environ = bench.environ_or_refusal(headers=headers)
        if environ is not None:
            expect_variable(environ, "HTTP_X_AUTH_USER", "good")


@check("PRACTICE-underscore-01")
def underscore_alone(bench: Bench) -> None:
    """A header spelt with underscores yields no variable of one with hyphens."""
    environ = bench.environ_or_refusal(headers=[(b"x_auth_user", b"evil")])
    if environ is not None:
        expect_absent(environ, "HTTP_X_AUTH_USER")


@check("RFC9110-underscore-02")
def underscore_content(bench: Bench) -> None:
    """content_length and content_type, spelt with underscores, yield no variable."""
    # One by one, since a request with two lengths may be refused for that.
    for header in ((b"content_length", b"99"), (b"content_type", b"text/evil")):
        environ = bench.environ_or_refusal(body=b"hi", headers=[header])
        if environ is not None:
            expect_variable(environ, "CONTENT_LENGTH", "2")
            expect_variable({"CONTENT_TYPE": "", **environ}, "CONTENT_TYPE", "")
            expect_absent(environ, "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE")


@check("RFC9110-fields-03")
def names_that_are_no_tokens(bench: Bench) -> None:
    """Header names that are no tokens yield no variable."""
    usual = bench.environ().keys()
    for name in (b"x foo", b"", b"x:y", b"x\nfoo", b"(x)", b"x\0y"):
        environ = bench.environ_or_refusal(headers=[(name, b"evil")])
        if environ is not None:
            more = [key for key in environ.keys() - usual if key.startswith("HTTP_")]
            expect(not more, f"the name {name!r} yielded {more!r}")


@check("PEP3333-unicode-04")
def names_beyond_ascii(bench: Bench) -> None:
    """Upper-casing a header's name does not leave Latin-1."""
    headers = [(b"x-\xff", b"1"), (b"x-\xb5", b"1")]
    environ = bench.environ_or_refusal(headers=headers)
    if environ is not None:
        wrong = [key for key in environ if not all(char <= "\xff" for char in key)]
        expect(not wrong, f"keys beyond Latin-1: {wrong!r}")


@check("RFC9112-length-01")
def length_beside_transfer_encoding(bench: Bench) -> None:
    """Beside Transfer-Encoding, a Content-Length is not believed."""
    seen: list[tuple[Any, bytes]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        length = environ.get("CONTENT_LENGTH") or None
        seen.append((length, environ["wsgi.input"].read()))
        return hello(environ, start_response)

    headers = [(b"content-length", b"3")]
    exchange = bench.attempt(app, body=b"hello", framing=CHUNKED, headers=headers)
    if not seen:
        expect(exchange.refused, f"there was {exchange.outcome()}")
        return
    length, body = seen[0]
    expect(length in (None, "5"), f"CONTENT_LENGTH is {length!r} beside chunked")
    expect_equal(body, b"hello", "the body")


@check("RFC9112-length-02")
def contradictory_lengths(bench: Bench) -> None:
    """A request with two different Content-Length values is refused."""
    several: list[list[bytes]] = [[b"5", b"6"], [b"5, 6"]]
    for lengths in several:
        called: list[object] = []

        def app(
            environ: WSGIEnvironment,
            start_response: StartResponse,
            called: list[object] = called,
        ) -> Chunks:
            called.append(environ.get("CONTENT_LENGTH"))
            return hello(environ, start_response)

        headers = [(b"content-length", length) for length in lengths]
        steps = [request_part(b"hello", more=False)]
        exchange = bench.attempt(app, steps=steps, method="POST", headers=headers)
        if called:
            fail(f"for {lengths!r} the application got CONTENT_LENGTH {called[0]!r}")
        good = exchange.refused or exchange.error is not None
        expect(good, f"for {lengths!r} there was {exchange.outcome()}")


@check("RFC9110-length-02")
def invalid_length(bench: Bench) -> None:
    """A Content-Length that is no number neither crashes nor hangs the adapter."""
    values = (b"abc", b"-5", b"+5", b"5_0", b"", b"0x5", b"9" * 5000)
    for value in values:
        exchange = bench.attempt(
            hello,
            steps=[request_part(b"hello", more=False)],
            method="POST",
            headers=[(b"content-length", value)],
        )
        good = exchange.complete and (exchange.status or 0) < 500
        expect(good, f"for {value[:20]!r} there was {exchange.outcome()}")


@check("RFC9110-limits-01")
def many_repeats_of_a_header(bench: Bench) -> None:
    """50,000 repeats of one header take no quadratic time."""
    headers = [(b"x-a", b"v" * 40)] * 50_000
    exchange = bench.attempt(hello, headers=headers)
    expect(exchange.complete, f"there was {exchange.outcome()}")


@check("PRACTICE-limits-01")
def limit_of_repeats(bench: Bench) -> None:
    """The repeats of a header are limited."""
    exchange = bench.attempt(hello, headers=[(b"x-a", b"v")] * 1000)
    if exchange.status == 200:
        raise NotOffered("1,000 repeats of a header are accepted")
    expect(exchange.refused, f"there was {exchange.outcome()}")


@check("PRACTICE-limits-02")
def cookies_are_no_repeats(bench: Bench) -> None:
    """A browser that sends 200 cookies in a field each is served."""
    headers = [(b"cookie", b"c%d=v" % number) for number in range(200)]
    environ = bench.environ(http_version="2", headers=headers)
    wanted = "; ".join(f"c{number}=v" for number in range(200))
    # How they are joined is for another check.
    seen = environ.get("HTTP_COOKIE", "").replace(",", "; ").replace(";  ", "; ")
    expect_equal(seen, wanted, "HTTP_COOKIE")


@check("RFC9110-values-01")
def line_breaks_in_request_values(bench: Bench) -> None:
    """CR, LF or NUL in a request header is replaced, or the request is refused."""
    for value in (b"a\r\nx-evil: 1", b"a\nb", b"a\0b"):
        environ = bench.environ_or_refusal(headers=[(b"x-a", value)])
        seen = (environ or {}).get("HTTP_X_A", "")
        bad = any(char in seen for char in "\r\n\0")
        expect(not bad, f"the value {value!r} reached the application as {seen!r}")


@check("RFC9112-host-01")
def two_host_headers(bench: Bench) -> None:
    """Two Host headers are not joined."""
    headers = [(b"host", b"good.example"), (b"host", b"evil.example")]
    environ = bench.environ_or_refusal(headers=headers)
    if environ is not None:
        expect_variable(environ, "HTTP_HOST", "good.example", "evil.example")


# Response headers.


def _expect_nothing_injected(bench: Bench, name: str, value: str) -> None:
    exchange = bench.attempt(answering([b"x"], (name, value)))
    if exchange.violations:
        fail(exchange.violations[0])
    raw = [part for pair in exchange.headers for part in pair]
    bad = [part for part in raw if any(char in part for char in b"\r\n\0")]
    expect(not bad, f"the header {name!r}: {value!r} was sent as {bad!r}")


@check("RFC9110-values-02")
def injection_by_value(bench: Bench) -> None:
    """CR, LF or NUL in a response header's value is never sent."""
    for value in _VALUE_INJECTIONS:
        _expect_nothing_injected(bench, "x-a", value)


@check("PEP3333-start-response-22")
def injection_by_name(bench: Bench) -> None:
    """CR, LF, NUL, colon or space in a response header's name is never sent."""
    for name in _NAME_INJECTIONS:
        _expect_nothing_injected(bench, name, "1")


@check("PEP3333-start-response-23")
def injection_is_refused(bench: Bench) -> None:
    """start_response() itself refuses what would inject a header."""
    pairs = [("x-a", value) for value in _VALUE_INJECTIONS]
    for pair in [*pairs, *((name, "1") for name in _NAME_INJECTIONS)]:
        error, exchange = refusal(bench, "200 OK", [TEXT, pair])
        if error is None:
            fail(f"{pair!r} was accepted; there was {exchange.outcome()}")


@check("RFC9110-length-03")
def invalid_response_length(bench: Bench) -> None:
    """A Content-Length of the application that is not digits is not sent."""
    for value in ("abc", "-1", "+5", "1_0", " 5 5", "5, 5", "", "٥"):
        exchange = bench.attempt(answering(iter([b"hello"]), ("content-length", value)))
        seen = exchange.header(b"content-length")
        good = seen is None or seen.isdigit()
        expect(good, f"the length {value!r} was sent as {seen!r}")


@check("RFC9112-length-03")
def contradictory_response_lengths(bench: Bench) -> None:
    """Two different Content-Length headers of the application are not sent."""
    lengths = ("content-length", "5"), ("content-length", "6")
    exchange = bench.attempt(answering(iter([b"hello"]), *lengths))
    seen = exchange.header(b"content-length")
    good = seen in (None, b"5", b"6")
    expect(good, f"Content-Length was sent as {seen!r}")


@check("RFC9110-values-03")
def blanks_around_values(bench: Bench) -> None:
    """Blanks around a response header's value are not sent."""
    exchange = bench.attempt(answering([b"x"], ("x-a", " v\t")))
    seen = exchange.header(b"x-a")
    if seen == b" v\t":
        raise NotOffered("they are left to the server")
    expect_equal(seen, b"v", "the value that was sent")


@check("RFC9110-disclosure-01")
def text_of_errors(bench: Bench) -> None:
    """What an exception says does not reach the client."""

    def after_start(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin(start_response)
        raise ValueError("s3cret-detail")

    def in_body(environ: WSGIEnvironment, start_response: StartResponse) -> Chunks:
        begin(start_response)
        yield b"some"
        raise ValueError("s3cret-detail")

    for app in (raising(ValueError("s3cret-detail")), after_start, in_body):
        exchange: HttpExchange = bench.attempt(app)
        told = "s3cret-detail" in repr(exchange.messages)
        expect(not told, "the client gets the exception's text")


@check("PRACTICE-disclosure-01")
def scope_when_printed(bench: Bench) -> None:
    """A scope in the environ does not show its headers when it is printed."""
    headers = [(b"cookie", b"session=s3cret"), (b"authorization", b"Basic s3cret")]
    environ = bench.environ(headers=headers)
    scopes = [
        key
        for key, value in environ.items()
        if isinstance(value, Mapping) and value.get("type") == "http"
    ]
    if not scopes:
        raise NotOffered("the environ does not hold the scope")
    told = "s3cret" in repr(environ[scopes[0]])
    expect(not told, f"repr() of environ[{scopes[0]!r}] shows the cookie")
