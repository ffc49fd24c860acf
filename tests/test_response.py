"""The response: its transitions, tables of calls and messages, and any calls at all.

A case is a list of steps. A step is one call, as the application makes it, and
what comes of it: the messages that may go out now, or the type of the error.
"""

import copy
import gc
import re
import string
import sys
import weakref
from array import array
from collections import UserString
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsgi_asgi import _fields
from wsgi_asgi._chunks import JOINED_BYTES
from wsgi_asgi._response import TRANSITIONS, Event, Response, State, plain_text
from wsgi_asgi._types import ExcInfo, Message

APPLICATION = "shop.wsgi.application"

BUFFER = 65536

# No clock and no chance: the same examples in each run.
PROFILE = settings(derandomize=True, deadline=None, max_examples=500)


class Failure(Exception):
    """What an application reports with exc_info."""


def caught(error: Exception) -> ExcInfo:
    try:
        raise error
    except Exception:
        return sys.exc_info()


class Call(NamedTuple):
    method: str
    arguments: tuple[Any, ...] = ()


def start(status: Any = "200 OK", *headers: Any) -> Call:
    return Call("start", (status, list(headers)))


def restart(status: Any = "500 Error", *headers: Any) -> Call:
    return Call("start", (status, list(headers), caught(Failure())))


def announce(length: int) -> Call:
    return Call("announce", (length,))


def chunk(data: Any) -> Call:
    return Call("chunk", (data,))


def rest(size: int) -> Call:
    return Call("rest", (size,))


END = Call("end")


def head(status: int, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def part(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


def last(body: bytes = b"") -> Message:
    return {"type": "http.response.body", "body": body, "more_body": False}


def sized(length: int) -> tuple[bytes, bytes]:
    return (b"content-length", b"%d" % length)


Outcome = list[Message] | type[Exception]
Step = tuple[Call, Outcome]


def perform(response: Any, call: Call) -> list[Message]:
    return getattr(response, call.method)(*call.arguments) or []


def outcome(response: Any, call: Call) -> Outcome:
    try:
        return perform(response, call)
    except Exception as error:
        return type(error)


def respond(*calls: Call, method: str = "GET") -> list[Message]:
    """Make a whole response and give its messages."""
    response = Response(APPLICATION, method)
    return [message for call in calls for message in perform(response, call)]


def check_steps(method: str, steps: list[Step]) -> None:
    response = Response(APPLICATION, method)
    assert [(call, outcome(response, call)) for call, _ in steps] == steps


def cases(table: Mapping[str, Any]) -> list[Any]:
    """Make parametrised cases of rows by their ids."""
    return [
        pytest.param(*(row if isinstance(row, tuple) else (row,)), id=name)
        for name, row in table.items()
    ]


def says(*rules: str) -> str:
    """Match an error that names the application and then each of the rules."""
    return rf"(?s)^{re.escape(APPLICATION)}: " + "".join(f".*{rule}" for rule in rules)


# Transitions.

PATHS: dict[State, list[Call]] = {
    State.NEW: [],
    State.REFUSED: [start("not a status")],
    State.READY: [start()],
    State.OPEN: [start(), chunk(b"x")],
    State.TRAILING: [
        Call("offer_trailers"),
        Call("send_trailers", ([],)),
        start("200 OK", ("Content-Length", "1")),
        chunk(b"x"),
    ],
    State.ENDED: [start(), END],
}
EVENTS: dict[Event, Call] = {
    Event.START: start("201 Created"),
    Event.REPLACE: restart(),
    Event.CHUNK: chunk(b"x"),
    Event.END: END,
}
# The next state, or the error after which the state is the same as before.
TABLE: dict[State, tuple[State | type[Exception], ...]] = {
    # START, REPLACE, CHUNK, END
    State.NEW: (State.READY, State.READY, RuntimeError, RuntimeError),
    State.REFUSED: (RuntimeError, State.READY, RuntimeError, RuntimeError),
    State.READY: (RuntimeError, State.READY, State.OPEN, State.ENDED),
    State.OPEN: (RuntimeError, Failure, State.OPEN, State.ENDED),
    State.TRAILING: (RuntimeError, Failure, State.ENDED, State.ENDED),
    State.ENDED: (RuntimeError, Failure, State.ENDED, State.ENDED),
}
PAIRS = [(state, event) for state in State for event in Event]


def reached(state: State) -> Response:
    response = Response(APPLICATION, "GET")
    for call in PATHS[state]:
        with suppress(ValueError):
            perform(response, call)
    assert response.state is state
    return response


@pytest.mark.parametrize(
    ("state", "event"),
    PAIRS,
    ids=[f"{state.name} {event.name}".lower() for state, event in PAIRS],
)
def test_transition_each_pair_gives_state_or_error(state: State, event: Event) -> None:
    response = reached(state)
    expected = dict(zip(EVENTS, TABLE[state], strict=True))[event]
    came = outcome(response, EVENTS[event])
    if isinstance(expected, State):
        assert isinstance(came, list)
        assert response.state is expected
    else:
        assert came is expected
        assert response.state is state


def test_transition_declared_table_is_the_same() -> None:
    declared = {
        state: tuple(row.get(event) for event in EVENTS)
        for state, row in TRANSITIONS.items()
    }
    assert declared == {
        state: tuple(to if isinstance(to, State) else None for to in row)
        for state, row in TABLE.items()
    }


@pytest.mark.parametrize("state", State, ids=[state.name.lower() for state in State])
def test_is_out_each_state_tells_whether_something_was_sent(state: State) -> None:
    sent = respond(*PATHS[state]) if state is not State.REFUSED else []
    assert reached(state).is_out is bool(sent)


def test_response_new_has_no_status() -> None:
    response = Response(APPLICATION, "GET")
    assert (response.status, response.dropped) == (0, ())


# The status line.


@pytest.mark.parametrize(
    ("status", "code"),
    cases(
        {
            "usual": ("200 OK", 200),
            "two words": ("404 Not Found", 404),
            "words of one's own": ("299 Custom Thing", 299),
            "latin-1": ("599 Tr\xe8s bien", 599),
            "no reason": ("200", 200),
            "empty reason": ("200 ", 200),
        }
    ),
)
def test_start_status_line_becomes_its_number(status: str, code: int) -> None:
    response = Response(APPLICATION, "GET")
    response.start(status, [])
    assert response.status == code
    assert response.end()[0]["status"] == code


@pytest.mark.parametrize(
    ("status", "error", "rule"),
    cases(
        {
            "no number": ("OK", ValueError, "three digits"),
            "letters": ("abc", ValueError, "three digits"),
            "empty": ("", ValueError, "three digits"),
            "two digits": ("20 OK", ValueError, "three digits"),
            "two digits, none missing": ("99 X", ValueError, "three digits"),
            "four digits": ("2000 OK", ValueError, "three digits"),
            "blank before": (" 200 OK", ValueError, "three digits"),
            "sign": ("-20 OK", ValueError, "three digits"),
            "underscore": ("2_0 OK", ValueError, "three digits"),
            "fullwidth digits": ("\uff12\uff10\uff10 OK", ValueError, "three digits"),
            "arabic digits": ("\u0662\u0660\u0660 OK", ValueError, "three digits"),
            "no blank": ("200OK", ValueError, "space"),
            "tab for a blank": ("200\tOK", ValueError, "space"),
            "line break at the end": ("200 OK\n", ValueError, "status"),
            "line break after number": ("200\r\n", ValueError, "status"),
            "injection": ("200 OK\r\nEvil: 1", ValueError, "status"),
            "carriage return": ("200 O\rK", ValueError, "status"),
            "nul": ("200 O\0K", ValueError, "status"),
            "del": ("200 O\x7fK", ValueError, "status"),
            "tab": ("200 O\tK", ValueError, "status"),
            "outside latin-1": ("200 \u4e2d", ValueError, "status"),
            "number below any": ("000 Nothing", ValueError, "status"),
            "continue": ("100 Continue", ValueError, "informational"),
            "early hints": ("103 Early Hints", ValueError, "informational"),
            "last informational": ("199", ValueError, "informational"),
            "first beyond http": ("600 Odd", ValueError, "last one is 599"),
            "last of three digits": ("999", ValueError, "last one is 599"),
            "int": (200, TypeError, "status is int"),
            "bytes": (b"299 Bytes", TypeError, "status is bytes"),
            "none": (None, TypeError, "status is NoneType"),
            "list": (["200 OK"], TypeError, "status is list"),
        }
    ),
)
def test_start_bad_status_is_refused_in_the_call(
    status: Any, error: type[Exception], rule: str
) -> None:
    response = Response(APPLICATION, "GET")
    with pytest.raises(error, match=says(rule)):
        response.start(status, [])
    assert response.state is State.REFUSED


# Headers.


@pytest.mark.parametrize(
    ("given_headers", "sent"),
    cases(
        {
            "order and repeats": (
                [("Set-Cookie", "a=1"), ("X-B", "2"), ("Set-Cookie", "c=3")],
                [(b"set-cookie", b"a=1"), (b"x-b", b"2"), (b"set-cookie", b"c=3")],
            ),
            "names in lower case": (
                [("Content-Type", "text/plain"), ("X-FOO", "BAR")],
                [(b"content-type", b"text/plain"), (b"x-foo", b"BAR")],
            ),
            "every character of a token": (
                [("!#$%&'*+-.^_`|~09AZaz", "1")],
                [(b"!#$%&'*+-.^_`|~09azaz", b"1")],
            ),
            "latin-1": ([("X-A", "caf\xe9\xff")], [(b"x-a", b"caf\xe9\xff")]),
            # The UTF-8 bytes of a name, as PEP 3333, Unicode Issues, has them.
            "utf-8 as latin-1": ([("X-A", "\xc3\x89")], [(b"x-a", b"\xc3\x89")]),
            "tab inside": ([("X-A", "a\tb")], [(b"x-a", b"a\tb")]),
            "blanks before": ([("X-A", " \tv")], [(b"x-a", b"v")]),
            "blanks after": ([("X-A", "v\t ")], [(b"x-a", b"v")]),
            "blanks inside": ([("X-A", "a  b")], [(b"x-a", b"a  b")]),
            "empty value": ([("X-A", "")], [(b"x-a", b"")]),
            "blank value": ([("X-A", " \t ")], [(b"x-a", b"")]),
            "lists for pairs": ([["X-A", "1"]], [(b"x-a", b"1")]),
            "no list but an iterable": ({"X-A": "1"}.items(), [(b"x-a", b"1")]),
            "a very long name": ([("X" * 5000, "1")], [(b"x" * 5000, b"1")]),
        }
    ),
)
def test_start_good_headers_are_sent(
    given_headers: Iterable[Any], sent: list[tuple[bytes, bytes]]
) -> None:
    # 304 and not 200, so that no length is added.
    call = Call("start", ("304 Not Modified", given_headers))
    assert respond(call, END) == [head(304, *sent), last()]


TOKEN = (ValueError, "header name.*token")
CONTROL = (ValueError, "(X-A|TE).*control character")
LATIN = (ValueError, "X-A.*Latin-1.*(\u4e2d|udce9)")
PAIR = (TypeError, "header.*pair")
TEXT = (TypeError, "header name and value must be str")


@pytest.mark.parametrize(
    ("header", "error", "rule"),
    cases(
        {
            "empty name": (("", "1"), *TOKEN),
            "name with blank inside": (("a b", "1"), *TOKEN),
            "name with blank before": ((" X-A", "1"), *TOKEN),
            "name with blank after": (("X-A ", "1"), *TOKEN),
            "name with tab": (("X\tA", "1"), *TOKEN),
            "name with colon": (("a:b", "1"), *TOKEN),
            "name of pseudo-header": ((":status", "200"), *TOKEN),
            "name with comma": (("a,b", "1"), *TOKEN),
            "name with parentheses": (("(a)", "1"), *TOKEN),
            "name with del": (("a\x7f", "1"), *TOKEN),
            "name with nul": (("a\0", "1"), *TOKEN),
            "name with line break at its end": (("X-A\n", "1"), *TOKEN),
            "name with injection": (("X-A: 1\r\nEvil", "1"), *TOKEN),
            "name in latin-1": (("caf\xe9", "1"), *TOKEN),
            # The Kelvin sign, of which lower() makes an ASCII letter.
            "name that lower case makes ascii": (("\u212a", "1"), *TOKEN),
            "name outside latin-1": (("\u4e2d", "1"), *TOKEN),
            "value with injection": (("X-A", "1\r\nEvil: 1"), *CONTROL),
            "value with line feed": (("X-A", "1\nEvil: 1"), *CONTROL),
            "value with carriage return": (("X-A", "1\rEvil: 1"), *CONTROL),
            "value with nul": (("X-A", "1\0"), *CONTROL),
            "value with line break before": (("X-A", "\r\n1"), *CONTROL),
            "value with line break after": (("X-A", "1\n"), *CONTROL),
            "value folded": (("X-A", "1\r\n 2"), *CONTROL),
            "value with first control": (("X-A", "\x01"), *CONTROL),
            "value with escape": (("X-A", "\x1b[1m"), *CONTROL),
            "value with del": (("X-A", "1\x7f2"), *CONTROL),
            "value with vertical tab": (("X-A", "1\x0b2"), *CONTROL),
            "value with form feed": (("X-A", "\x0c"), *CONTROL),
            "value outside latin-1": (("X-A", "\u4e2d"), *LATIN),
            "value with lone surrogate": (("X-A", "\udce9"), *LATIN),
            "injection in a header that is dropped": (("TE", "\r\nEvil: 1"), *CONTROL),
            "name bytes": ((b"X-Bytes", "1"), *TEXT),
            "name int": ((1, "1"), *TEXT),
            "name list": (([], "1"), *TEXT),
            "value bytes": (("X-A", b"1"), *TEXT),
            "value int": (("X-A", 1), *TEXT),
            "value none": (("X-A", None), *TEXT),
            "value like str": (("X-A", UserString("1")), *TEXT),
            "one item": (("X-A",), *PAIR),
            "three items": (("X-A", "1", "2"), *PAIR),
            "none for a pair": (None, *PAIR),
            "int for a pair": (5, *PAIR),
            "two characters for a pair": ("ab", *PAIR),
            "two bytes for a pair": (b"ab", *PAIR),
        }
    ),
)
def test_start_bad_header_is_refused_in_the_call(
    header: Any, error: type[Exception], rule: str
) -> None:
    response = Response(APPLICATION, "GET")
    with pytest.raises(error, match=says(rule)):
        response.start("200 OK", [("X-Good", "1"), header])
    assert response.state is State.REFUSED


@pytest.mark.parametrize("headers", [None, 5], ids=["none", "int"])
def test_start_headers_that_are_no_list_are_refused_in_the_call(headers: Any) -> None:
    with pytest.raises(TypeError, match=says("header")):
        Response(APPLICATION, "GET").start("200 OK", headers)


@pytest.mark.parametrize(
    ("status", "name"),
    cases(
        {
            "status bytes": (b"200 OK", "X-A"),
            "status like str": (UserString("200 OK"), "X-A"),
            "name bytes": ("200 OK", b"X-A"),
            "name like str": ("200 OK", UserString("X-A")),
        }
    ),
)
def test_start_text_seen_before_must_still_be_str(status: Any, name: Any) -> None:
    respond(start("200 OK", ("X-A", "1")))
    with pytest.raises(TypeError, match=says("str")):
        respond(start(status, (name, "1")))


def failing(error: Exception) -> Iterator[tuple[str, str]]:
    yield "X-A", "1"
    raise error


@pytest.mark.parametrize(
    ("error", "arguments"),
    cases(
        {
            "key error": (KeyError, ["lost"]),
            "value error": (ValueError, ["lost"]),
            "unicode error": (UnicodeDecodeError, ["utf-8", b"\xff", 0, 1, "lost"]),
        }
    ),
)
def test_start_error_of_the_headers_themselves_is_that_error(
    error: type[Exception], arguments: list[Any]
) -> None:
    with pytest.raises(error, match="lost"):
        Response(APPLICATION, "GET").start("200 OK", failing(error(*arguments)))


class Stubborn(str):
    __slots__ = ()

    def isprintable(self) -> bool:
        raise ValueError("lost")


def test_start_value_with_a_failing_method_is_refused_or_sent() -> None:
    response = Response(APPLICATION, "GET")
    came = outcome(response, start("304", ("X-A", Stubborn("1"))))
    if came == []:
        assert response.end() == [head(304, (b"x-a", b"1")), last()]
    else:
        assert came in (TypeError, ValueError)
        assert response.state is State.REFUSED


def test_start_list_that_is_changed_later_is_sent_as_it_was() -> None:
    response = Response(APPLICATION, "GET")
    pair = ["X-A", "1"]
    headers: list[Any] = [pair, ("X-B", "2")]
    response.start("200 OK", headers)
    pair[1] = "1\r\nEvil: 1"
    headers.append(("X-C", "3"))
    del headers[1]
    sent = head(200, (b"x-a", b"1"), (b"x-b", b"2"))
    assert response.chunk(b"x") == [sent, part(b"x")]


def test_start_refused_replacement_keeps_nothing_of_it() -> None:
    response = Response(APPLICATION, "GET")
    response.start("200 OK", [("X-A", "1"), ("TE", "trailers")])
    with pytest.raises(ValueError, match=says("control")):
        response.start(
            "204 No Content",
            [("Upgrade", "h2c"), ("X-B", "\n")],
            caught(Failure()),
        )
    assert (response.status, response.dropped) == (200, (b"te",))
    response.start("500 Error", [], exc_info=caught(Failure()))
    assert response.dropped == ()
    assert response.chunk(b"sorry") == [head(500), part(b"sorry")]


@pytest.mark.parametrize(
    "name",
    ["Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer"]
    + ["Transfer-Encoding", "Upgrade", "transfer-ENCODING"],
)
def test_start_connection_header_is_dropped_and_told(name: str) -> None:
    # PEP 3333, Other HTTP Features; RFC 9110 7.6.1; RFC 9113 8.2.2.
    response = Response(APPLICATION, "GET")
    response.start("200 OK", [("X-A", "1"), (name, "chunked"), ("X-B", "2")])
    assert response.dropped == (name.lower().encode(),)
    assert response.chunk(b"x")[0] == head(200, (b"x-a", b"1"), (b"x-b", b"2"))


def test_start_connection_header_that_names_another_is_dropped_itself() -> None:
    # Whether the other goes with it is free (RFC 9110 7.6.1 speaks to proxies).
    (sent, _) = respond(
        start("200 OK", ("Connection", "X-A"), ("X-A", "1")), chunk(b"x")
    )
    assert dict(sent["headers"]).keys() <= {b"x-a"}


@pytest.mark.parametrize(
    "value",
    ["+5", "-5", "1_0", "0x5", "5.0", "five", "", " ", "5 5", "5,5", "5\t5"]
    + ["\u0665", "\uff15", "\xb2", "5" * 5000],
    ids=["plus", "minus", "underscore", "hex", "point", "word", "empty", "blank"]
    + ["two", "list", "tab", "arabic", "fullwidth", "superscript", "endless"],
)
def test_start_length_that_is_no_number_is_refused_in_the_call(value: str) -> None:
    # RFC 9110 8.6: digits and nothing else. int() takes half of these.
    with pytest.raises(ValueError, match=says("Content-Length")):
        respond(start("200 OK", ("Content-Length", value)))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_start_two_different_lengths_are_refused_in_the_call(method: str) -> None:
    call = start("200 OK", ("Content-Length", "5"), ("content-length", "6"))
    with pytest.raises(ValueError, match=says("Content-Length")):
        respond(call, method=method)


# The order of calls.

FIVE = ("Content-Length", "5")
OK_A = start("200 OK", ("X-A", "1"), ("Content-Length", "3"))
ERROR_B = restart("500 Error", ("X-B", "2"))
HEAD_B = head(500, (b"x-b", b"2"))


@pytest.mark.parametrize(
    "steps",
    cases(
        {
            "start_response sends nothing": [(start(), []), (announce(5), [])],
            "first chunk sends the head": [
                (start(), []),
                (chunk(b"a"), [head(200), part(b"a")]),
                (chunk(b"b"), [part(b"b")]),
                (END, [last()]),
            ],
            "empty chunk does not": [
                (start(), []),
                (chunk(b""), []),
                (chunk(bytearray()), []),
                (chunk(b"a"), [head(200), part(b"a")]),
                (chunk(b""), []),
                (chunk(b"b"), [part(b"b")]),
                (END, [last()]),
            ],
            "empty chunk before start_response": [
                (chunk(b""), []),
                (start(), []),
                (chunk(b"a"), [head(200), part(b"a")]),
                (END, [last()]),
            ],
            "empty chunk after refused start_response": [
                (start("bad"), ValueError),
                (chunk(b""), []),
                (restart(), []),
                (chunk(b"a"), [head(500), part(b"a")]),
            ],
            "no chunk": [
                (start("302 Found", ("Location", "/x")), []),
                (END, [head(302, (b"location", b"/x"), sized(0)), last()]),
            ],
            "empty chunks only": [
                (start(), []),
                (chunk(b""), []),
                (chunk(b""), []),
                (END, [head(200, sized(0)), last()]),
            ],
            "the end comes once": [
                (start(), []),
                (chunk(b"a"), [head(200), part(b"a")]),
                (END, [last()]),
                (END, []),
                (chunk(b"b"), []),
            ],
            "chunk before start_response": [
                (chunk(b"a"), RuntimeError),
                (start(), []),
                (chunk(b"a"), [head(200), part(b"a")]),
            ],
            "no start_response": [(END, RuntimeError)],
            "empty chunk and no start_response": [
                (chunk(b""), []),
                (END, RuntimeError),
            ],
        }
    ),
)
def test_response_order_of_calls_decides_when_the_head_goes(steps: list[Step]) -> None:
    check_steps("GET", steps)


@pytest.mark.parametrize(
    "steps",
    cases(
        {
            "none for exc_info": [
                (Call("start", ("200 OK", [], None)), []),
                (chunk(b"a"), [head(200), part(b"a")]),
            ],
            "exc_info in the first call": [
                (restart(), []),
                (chunk(b"a"), [head(500), part(b"a")]),
                (END, [last()]),
            ],
            "second call": [(start(), []), (start("404 Not Found"), RuntimeError)],
            "second call after a refused one": [
                (start("bad"), ValueError),
                (start(), RuntimeError),
                (END, RuntimeError),
                (ERROR_B, []),
                (END, [head(500, (b"x-b", b"2"), sized(0)), last()]),
            ],
            "replaced before any chunk": [
                (OK_A, []),
                (ERROR_B, []),
                (chunk(b"sorry"), [HEAD_B, part(b"sorry")]),
                (END, [last()]),
            ],
            "replaced after empty chunks": [
                (OK_A, []),
                (chunk(b""), []),
                (chunk(b""), []),
                (ERROR_B, []),
                (chunk(b"sorry"), [HEAD_B, part(b"sorry")]),
                (END, [last()]),
            ],
            "replaced twice": [
                (OK_A, []),
                (restart("502 Error", ("X-C", "3")), []),
                (ERROR_B, []),
                (chunk(b"sorry"), [HEAD_B, part(b"sorry")]),
            ],
            "replaced after a length was announced": [
                (start(), []),
                (announce(3), []),
                (ERROR_B, []),
                (chunk(b"sorry"), [HEAD_B, part(b"sorry")]),
                (END, [last()]),
            ],
            "length announced after it was replaced": [
                (OK_A, []),
                (restart(), []),
                (announce(5), []),
                (chunk(b"sorry"), [head(500, sized(5)), last(b"sorry")]),
            ],
            "no content replaced by content": [
                (start("204 No Content"), []),
                (ERROR_B, []),
                (chunk(b"sorry"), [HEAD_B, part(b"sorry")]),
            ],
            "content replaced by no content": [
                (OK_A, []),
                (restart("304 Not Modified"), []),
                (chunk(b"sorry"), [head(304), last()]),
            ],
            "refused replacement leaves nothing to send": [
                (OK_A, []),
                (restart("200\r\n"), ValueError),
                (chunk(b"a"), RuntimeError),
                (announce(3), []),
                (END, RuntimeError),
                (ERROR_B, []),
                (chunk(b"sorry"), [HEAD_B, part(b"sorry")]),
            ],
            "replaced too late": [
                (start(), []),
                (chunk(b"a"), [head(200), part(b"a")]),
                (ERROR_B, Failure),
            ],
            "replaced too late by what would be refused": [
                (start(), []),
                (chunk(b"a"), [head(200), part(b"a")]),
                (restart("bad"), Failure),
            ],
            "replaced after the end": [
                (start(), []),
                (END, [head(200, sized(0)), last()]),
                (ERROR_B, Failure),
            ],
            "replaced too late for no error": [
                (start(), []),
                (chunk(b"a"), [head(200), part(b"a")]),
                (Call("start", ("500 Error", [], (None, None, None))), RuntimeError),
            ],
        }
    ),
)
def test_start_again_replaces_or_raises(steps: list[Step]) -> None:
    check_steps("GET", steps)


def test_start_too_late_raises_the_reported_error_itself() -> None:
    response = reached(State.OPEN)
    error = Failure("s3cret")
    with pytest.raises(Failure) as raised:
        response.start("500 Error", [], caught(error))
    assert raised.value is error
    assert "caught" in [entry.name for entry in raised.traceback]


@pytest.mark.parametrize(
    ("steps", "error", "rules"),
    cases(
        {
            "second call": (
                [start(), start()],
                RuntimeError,
                ["second time without exc_info", "PEP 3333"],
            ),
            "chunk without call": ([chunk(b"a")], RuntimeError, ["never", "PEP 3333"]),
            "end without call": ([END], RuntimeError, ["never called", "PEP 3333"]),
            "bytes missing": (
                [start("200 OK", FIVE), chunk(b"ab"), END],
                RuntimeError,
                ["3 bytes short", "PEP 3333, .*Content-Length"],
            ),
            "all bytes missing": (
                [start("200 OK", FIVE), END],
                RuntimeError,
                ["5 bytes short", "PEP 3333, .*Content-Length"],
            ),
            "chunk of str": (
                [start(), chunk("text")],
                TypeError,
                ["str", "bytes", "PEP 3333"],
            ),
        }
    ),
)
def test_response_broken_rule_is_named(
    steps: list[Call], error: type[Exception], rules: list[str]
) -> None:
    with pytest.raises(error, match=says(*rules)):
        respond(*steps)


def test_response_after_refused_start_says_that_it_was_refused() -> None:
    for call in (chunk(b"a"), END):
        with pytest.raises(RuntimeError, match=says("failed", "PEP 3333")):
            perform(reached(State.REFUSED), call)


# Chunks.


class Subclass(bytes):
    pass


@pytest.mark.parametrize(
    ("data", "body"),
    cases(
        {
            "every byte": (bytes(range(256)), bytes(range(256))),
            "line breaks": (b"\r\n\n\r\r\n0\r\n\r\n", b"\r\n\n\r\r\n0\r\n\r\n"),
            "subclass": (Subclass(b"abc"), b"abc"),
            "bytearray": (bytearray(b"abc"), b"abc"),
            "memoryview": (memoryview(b"abc"), b"abc"),
            "memoryview of words": (memoryview(array("H", [7])), array("H", [7])),
            "memoryview with gaps": (memoryview(b"a-b-c")[::2], b"abc"),
        }
    ),
)
def test_chunk_bytes_are_sent_as_they_are(data: Any, body: Any) -> None:
    _, message = respond(start(), chunk(data))
    assert message == part(bytes(body))
    assert type(message["body"]) is bytes


def test_chunk_that_is_changed_later_is_sent_as_it_was() -> None:
    data = bytearray(b"abc")
    _, message = respond(start(), chunk(data))
    data[:] = b"xyz"
    assert message["body"] == b"abc"


@pytest.mark.parametrize("length", [None, 8_000_000], ids=["open end", "whole"])
def test_chunk_large_is_not_copied(length: int | None) -> None:
    data = bytes(8_000_000)
    calls = [announce(length)] if length else []
    assert respond(start(), *calls, chunk(data))[-1]["body"] is data


@pytest.mark.parametrize(
    "data",
    cases(
        {
            "str": "text",
            "empty str": "",
            "int": 5,
            "zero": 0,
            "none": None,
            "list": [b"x"],
            "array": array("B", b"x"),
        }
    ),
)
@pytest.mark.parametrize("state", State, ids=[state.name.lower() for state in State])
def test_chunk_not_bytes_is_refused_and_sends_nothing(state: State, data: Any) -> None:
    response = reached(state)
    with pytest.raises(TypeError, match=says("bytes", "PEP 3333")):
        response.chunk(data)
    assert response.state is state


# Content-Length.


@pytest.mark.parametrize(
    "steps",
    cases(
        {
            "declared and met": [
                (start("200 OK", FIVE), []),
                (chunk(b"01"), [head(200, sized(5)), part(b"01")]),
                (chunk(b"234"), [last(b"234")]),
                (END, []),
            ],
            "more in one chunk": [
                (start("200 OK", FIVE), []),
                (chunk(b"0123456789"), [head(200, sized(5)), last(b"01234")]),
                (chunk(b"x"), []),
                (END, []),
            ],
            "more in two chunks": [
                (start("200 OK", FIVE), []),
                (chunk(b"0123"), [head(200, sized(5)), part(b"0123")]),
                (chunk(b"4567"), [last(b"4")]),
                (chunk(b"8"), []),
                (END, []),
            ],
            "less": [
                (start("200 OK", FIVE), []),
                (chunk(b"0123"), [head(200, sized(5)), part(b"0123")]),
                (END, RuntimeError),
                (END, RuntimeError),
            ],
            "nothing of it": [
                (start("200 OK", FIVE), []),
                (chunk(b""), []),
                (END, RuntimeError),
            ],
            "zero, and a chunk": [
                (start("200 OK", ("Content-Length", "0")), []),
                (chunk(b"abc"), [head(200, sized(0)), last()]),
                (END, []),
            ],
            "zero, and no chunk": [
                (start("200 OK", ("Content-Length", "0")), []),
                (END, [head(200, sized(0)), last()]),
            ],
            "repeated": [
                (start("200 OK", FIVE, ("X-A", "1"), FIVE), []),
                (
                    chunk(b"01234"),
                    [head(200, sized(5), (b"x-a", b"1")), last(b"01234")],
                ),
            ],
            "with blanks around": [
                (start("200 OK", ("Content-Length", " 5\t")), []),
                (chunk(b"01234"), [head(200, sized(5)), last(b"01234")]),
            ],
            "announced": [
                (start("200 OK", ("X-A", "1")), []),
                (announce(5), []),
                (
                    chunk(b"01234"),
                    [head(200, (b"x-a", b"1"), sized(5)), last(b"01234")],
                ),
                (END, []),
            ],
            "announced and not met": [
                (start(), []),
                (announce(5), []),
                (chunk(b"0123"), [head(200, sized(5)), part(b"0123")]),
                (END, RuntimeError),
            ],
            "announced but declared": [
                (start("200 OK", ("Content-Length", "3")), []),
                (announce(5), []),
                (chunk(b"01234"), [head(200, sized(3)), last(b"012")]),
            ],
            "announced twice": [
                (start(), []),
                (announce(5), []),
                (announce(5), []),
                (chunk(b"01234"), [head(200, sized(5)), last(b"01234")]),
            ],
            "announced as empty": [
                (start(), []),
                (announce(0), []),
                (chunk(b""), []),
                (END, [head(200, sized(0)), last()]),
            ],
            "announced too early": [
                (announce(5), []),
                (start(), []),
                (chunk(b"0123456"), [head(200), part(b"0123456")]),
                (END, [last()]),
            ],
            "announced too late": [
                (start(), []),
                (chunk(b"01"), [head(200), part(b"01")]),
                (announce(5), []),
                (chunk(b"23456789"), [part(b"23456789")]),
                (END, [last()]),
            ],
            "announced after the end": [
                (start(), []),
                (END, [head(200, sized(0)), last()]),
                (announce(5), []),
            ],
        }
    ),
)
def test_response_length_is_what_is_sent(steps: list[Step]) -> None:
    check_steps("GET", steps)


@pytest.mark.parametrize("calls", [[], [chunk(b"")]], ids=["no chunk", "empty chunk"])
@pytest.mark.parametrize(
    "name", ["X-Sendfile", "X-Accel-Redirect", "X-LIGHTTPD-send-file"]
)
def test_response_that_the_proxy_sends_is_without_the_length_of_the_file(
    name: str, calls: list[Call]
) -> None:
    messages = respond(
        start("200 OK", ("X-A", "1"), FIVE, (name, "/file")), *calls, END, END
    )
    named = (name.lower().encode(), b"/file")
    assert messages == [head(200, (b"x-a", b"1"), named), last()]


@pytest.mark.parametrize("chunks", [[], [b""], [b"", b""]], ids=repr)
def test_response_that_the_proxy_sends_may_be_whole(chunks: list[bytes]) -> None:
    response = Response(APPLICATION, "GET")
    response.start("200 OK", [("Content-Length", "05"), ("X-Sendfile", "/file")])
    messages = response.whole(chunks, BUFFER)
    assert messages == [head(200, (b"x-sendfile", b"/file")), last()]


@pytest.mark.parametrize(
    ("calls", "sent"),
    cases(
        {
            "no length": ([], [sized(0)]),
            "length zero": ([("Content-Length", "0")], [sized(0)]),
        }
    ),
)
def test_response_that_the_proxy_sends_keeps_a_length_that_is_true(
    calls: list[tuple[str, str]], sent: list[tuple[bytes, bytes]]
) -> None:
    messages = respond(start("200 OK", *calls, ("X-Sendfile", "/file")), END)
    first, *_ = messages
    assert sorted(first["headers"]) == [*sent, (b"x-sendfile", b"/file")]


def test_response_that_the_proxy_sends_has_its_length_for_head() -> None:
    messages = respond(start("200 OK", FIVE, ("X-Sendfile", "/f")), END, method="HEAD")
    assert messages == [head(200, sized(5), (b"x-sendfile", b"/f")), last()]


@pytest.mark.parametrize(
    "calls", [[chunk(b"0123"), END], [rest(4)]], ids=["short chunk", "short file"]
)
def test_response_with_a_part_of_its_body_is_not_left_to_the_proxy(
    calls: list[Call],
) -> None:
    response = Response(APPLICATION, "GET")
    response.start("200 OK", [FIVE, ("X-Sendfile", "/file")])
    *before, call = calls
    for earlier in before:
        perform(response, earlier)
    with pytest.raises(RuntimeError, match="1 bytes short of its Content-Length"):
        perform(response, call)


def test_response_whose_error_page_is_left_to_nobody_is_not_completed() -> None:
    response = Response(APPLICATION, "GET")
    response.start("200 OK", [FIVE, ("X-Sendfile", "/file")])
    perform(response, restart("500 X", FIVE))
    with pytest.raises(RuntimeError, match="5 bytes short of its Content-Length"):
        response.end()


# All of a body at once.


def made(
    chunks: list[Any] | tuple[Any, ...],
    *headers: tuple[str, str],
    method: str = "GET",
    status: str = "200 OK",
    buffer: int = BUFFER,
) -> list[Message]:
    response = Response(APPLICATION, method)
    response.start(status, headers)
    return response.whole(chunks, buffer)


@pytest.mark.parametrize("make", [list, tuple])
def test_whole_of_few_bytes_is_one_message_with_their_length(make: Any) -> None:
    messages = made(make([b"he", b"", b"llo"]))
    assert messages == [head(200, sized(5)), last(b"hello")]


@pytest.mark.parametrize(
    ("chunks", "sent"),
    cases(
        {
            "just the buffer": ([b"x" * 60, b"y" * 40], [sized(100)]),
            "one byte more": ([b"x" * 60, b"y" * 41], []),
            "one chunk of more": ([b"x" * 101], [sized(101)]),
        }
    ),
)
def test_whole_has_a_length_up_to_the_buffer(
    chunks: list[bytes], sent: list[tuple[bytes, bytes]]
) -> None:
    messages = made(chunks, buffer=100)
    assert messages[0] == head(200, *sent)
    assert b"".join(message["body"] for message in messages[1:]) == b"".join(chunks)


@pytest.mark.parametrize(
    ("method", "status", "sent"),
    cases(
        {
            "head": ("HEAD", "200 OK", []),
            "no content": ("GET", "204 X", []),
            "not modified": ("GET", "304 X", []),
        }
    ),
)
def test_whole_of_several_chunks_gets_no_length_where_there_is_no_body(
    method: str, status: str, sent: list[tuple[bytes, bytes]]
) -> None:
    messages = made([b"he", b"llo"], method=method, status=status)
    assert messages == [head(int(status[:3]), *sent), last()]


def test_whole_after_written_chunks_gets_no_length() -> None:
    response = Response(APPLICATION, "GET")
    response.start("200 OK", [])
    assert response.chunk(b"he") == [head(200), part(b"he")]
    assert response.whole([b"l", b"lo"], BUFFER) == [part(b"llo"), last()]


def test_whole_that_is_longer_than_declared_is_cut() -> None:
    response = Response(APPLICATION, "GET")
    response.start("200 OK", [FIVE])
    messages = response.whole([b"0123", b"4567"], BUFFER)
    assert messages == [head(200, sized(5)), last(b"01234")]
    assert response.is_cut


def test_whole_that_is_shorter_than_declared_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="1 bytes short of its Content-Length"):
        made([b"01", b"23"], FIVE)


@pytest.mark.parametrize("count", [1, 2, 100])
@pytest.mark.parametrize("data", ["text", None, 5, [b"x"]], ids=repr)
def test_whole_with_a_chunk_that_is_not_bytes_sends_nothing(
    data: Any, count: int
) -> None:
    chunks = [b"x" * BUFFER] * (count - 1) + [data]
    with pytest.raises(TypeError, match=says("a chunk of the body is .* not bytes")):
        made(chunks)


@pytest.mark.parametrize(
    "data", [bytearray(b"he"), memoryview(b"he"), Subclass(b"he")], ids=repr
)
def test_whole_takes_chunks_that_are_like_bytes(data: Any) -> None:
    messages = made([data, b"llo"])
    assert messages == [head(200, sized(5)), last(b"hello")]
    assert type(messages[1]["body"]) is bytes


def test_whole_of_very_many_chunks_is_few_messages() -> None:
    chunks = [b"%d;line\n" % number for number in range(300_000)]
    first, *bodies = made(chunks)
    assert first == head(200)
    assert b"".join(message["body"] for message in bodies) == b"".join(chunks)
    assert len(bodies) < 100
    assert max(len(message["body"]) for message in bodies) <= JOINED_BYTES
    assert [message["more_body"] for message in bodies[-2:]] == [True, False]


def test_whole_of_large_chunks_copies_none() -> None:
    chunks = [b"x" * BUFFER, b"y" * BUFFER]
    _, *bodies = made(chunks)
    assert [message["body"] for message in bodies] == [*chunks, b""]
    assert all(
        message["body"] is chunk
        for message, chunk in zip(bodies, [*chunks, b""], strict=True)
        if chunk
    )


# Responses without content.


@pytest.mark.parametrize(
    "calls",
    cases(
        {
            "a chunk": [chunk(b"hello"), END],
            "chunks": [chunk(b""), chunk(b"he"), chunk(b"llo"), chunk(b"!"), END],
            "no chunk": [END],
            "an empty chunk": [chunk(b""), END],
        }
    ),
)
@pytest.mark.parametrize(
    ("method", "status", "declared", "sent"),
    cases(
        {
            "head": ("HEAD", 200, "5", [b"5"]),
            "head of more": ("HEAD", 200, "100", [b"100"]),
            "head without length": ("HEAD", 200, None, []),
            "head of an error": ("HEAD", 404, "5", [b"5"]),
            "no content": ("GET", 204, "5", []),
            "no content, of length zero": ("GET", 204, "0", []),
            "no content, without length": ("GET", 204, None, []),
            "no content to head": ("HEAD", 204, "5", []),
            "not modified": ("GET", 304, "1234", [b"1234"]),
            "not modified, without length": ("GET", 304, None, []),
            "not modified to head": ("HEAD", 304, "5", [b"5"]),
            "no content to post": ("POST", 204, "5", []),
        }
    ),
)
def test_response_without_content_has_its_own_length_and_no_body(
    method: str,
    status: int,
    declared: str | None,
    sent: list[bytes],
    calls: list[Call],
) -> None:
    # RFC 9110 8.6, 9.3.2, 15.3.5, 15.4.5.
    headers = [] if declared is None else [("Content-Length", declared)]
    messages = respond(start(f"{status} X", *headers), *calls, method=method)
    lengths = [(b"content-length", length) for length in sent]
    assert messages == [head(status, *lengths), last()]


@pytest.mark.parametrize(
    ("method", "status", "lengths"),
    cases(
        {
            "head": ("HEAD", 200, [sized(5)]),
            "no content": ("GET", 204, []),
            "not modified": ("GET", 304, []),
            "not modified to head": ("HEAD", 304, []),
        }
    ),
)
@pytest.mark.parametrize("data", [b"hello", b""], ids=["chunk", "empty chunk"])
def test_announce_without_content_is_for_head_alone(
    method: str, status: int, lengths: list[tuple[bytes, bytes]], data: bytes
) -> None:
    calls = [start(f"{status} X"), announce(5), chunk(data), END]
    assert respond(*calls, method=method) == [head(status, *lengths), last()]


@pytest.mark.parametrize("declared", [[], [FIVE]], ids=["no length", "length"])
def test_response_reset_content_has_no_body_and_promises_none(
    declared: list[tuple[str, str]],
) -> None:
    # RFC 9110 15.3.6. RFC 9112 6.3 does not except 205 from its framing, so a
    # length other than zero would leave the client waiting.
    sent, *bodies = respond(start("205 Reset Content", *declared), chunk(b"hello"), END)
    assert sent["headers"] in ([], [sized(0)])
    assert bodies == [last()]


@pytest.mark.parametrize(
    ("method", "call"),
    cases(
        {
            "head": ("HEAD", start()),
            "not modified": ("GET", start("304")),
            "length zero": ("GET", start("200", ("Content-Length", "0"))),
            "length reached": ("GET", start("200", ("Content-Length", "1"))),
        }
    ),
)
def test_chunk_that_leaves_no_room_ends_the_response(method: str, call: Call) -> None:
    response = Response(APPLICATION, method)
    perform(response, call)
    states = []
    for data in (b"", b"x"):
        response.chunk(data)
        states.append(response.state)
    assert states == [State.READY, State.ENDED]


# The rest, when it is no chunk.

Left = tuple[list[Message], int]


@pytest.mark.parametrize(
    ("calls", "expected"),
    cases(
        {
            "all": ([start(), rest(9)], ([head(200, sized(9))], 9)),
            "all, of none": ([start(), rest(0)], ([head(200, sized(0)), last()], 0)),
            "as long as declared": (
                [start("200 OK", FIVE), rest(5)],
                ([head(200, sized(5))], 5),
            ),
            "longer than declared": (
                [start("200 OK", FIVE), rest(9)],
                ([head(200, sized(5))], 5),
            ),
            "declared as none": (
                [start("200 OK", ("Content-Length", "0")), rest(9)],
                ([head(200, sized(0)), last()], 0),
            ),
            "after a chunk": ([start(), chunk(b"ab"), rest(9)], ([], 9)),
            "none after a chunk": ([start(), chunk(b"ab"), rest(0)], ([last()], 0)),
            "after a chunk, declared": (
                [start("200 OK", FIVE), chunk(b"ab"), rest(3)],
                ([], 3),
            ),
            "after a chunk, longer": (
                [start("200 OK", FIVE), chunk(b"ab"), rest(9)],
                ([], 3),
            ),
            "after all": ([start("200 OK", FIVE), chunk(b"01234"), rest(9)], ([], 0)),
            "after the end": ([start(), END, rest(9)], ([], 0)),
            "not modified": ([start("304 X"), rest(9)], ([head(304), last()], 0)),
            "no content": ([start("204 X"), rest(9)], ([head(204), last()], 0)),
            "error page": (
                [start("200 OK", FIVE), restart("500 X"), rest(9)],
                ([head(500, sized(9))], 9),
            ),
        }
    ),
)
def test_rest_gives_what_is_sent_before_it_and_its_length(
    calls: list[Call], expected: Left
) -> None:
    response = Response(APPLICATION, "GET")
    *before, call = calls
    for earlier in before:
        perform(response, earlier)
    assert response.rest(*call.arguments) == expected
    assert response.state is State.ENDED
    assert not response.is_cut
    # All that it may have was given.
    assert (response.chunk(b"late"), response.end()) == ([], [])


@pytest.mark.parametrize(
    ("declared", "size", "expected"),
    cases(
        {
            "of some": (None, 9, [sized(9)]),
            "of none": (None, 0, []),
            "declared": ("5", 9, [sized(5)]),
            "declared longer": ("50", 9, [sized(50)]),
        }
    ),
)
def test_rest_to_head_is_none_and_has_its_length(
    declared: str | None, size: int, expected: list[tuple[bytes, bytes]]
) -> None:
    headers = [] if declared is None else [("Content-Length", declared)]
    response = Response(APPLICATION, "HEAD")
    response.start("200 OK", headers)
    assert response.rest(size) == ([head(200, *expected), last()], 0)


@pytest.mark.parametrize(
    ("calls", "rule"),
    cases(
        {
            "not started": ([], r"a file was given, but start_response\(\) was never"),
            "refused": ([start("not a status")], r"a file was given, .* failed"),
            "shorter than declared": (
                [start("200 OK", ("Content-Length", "12"))],
                "3 bytes short of its Content-Length",
            ),
            "shorter than what is left": (
                [start("200 OK", ("Content-Length", "15")), chunk(b"abc")],
                "3 bytes short of its Content-Length",
            ),
        }
    ),
)
def test_rest_that_cannot_be_sent_is_an_error_and_ends_nothing(
    calls: list[Call], rule: str
) -> None:
    response = Response(APPLICATION, "GET")
    for call in calls:
        with suppress(ValueError):
            perform(response, call)
    state = response.state
    with pytest.raises(RuntimeError, match=says(rule, "PEP 3333")):
        response.rest(9)
    assert response.state is state


# Plain text.


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_plain_text_is_a_whole_response(method: str) -> None:
    body = "Zu groß.\n".encode()
    assert plain_text(
        "413 Content Too Large",
        "Zu groß.",
        [("Retry-After", "1")],
        head=method == "HEAD",
    ) == [
        head(
            413,
            (b"content-type", b"text/plain; charset=utf-8"),
            sized(len(body)),
            (b"retry-after", b"1"),
        ),
        last(b"" if method == "HEAD" else body),
    ]


# What is not kept.


@pytest.fixture
def without_gc() -> Iterator[None]:
    """Let only reference counts free what is dropped."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_gc")
@pytest.mark.parametrize(
    ("state", "status"),
    cases(
        {
            "first call": (State.NEW, "500 Error"),
            "replacement": (State.READY, "500 Error"),
            "refused replacement": (State.READY, "bad"),
            "too late": (State.OPEN, "500 Error"),
            "after the end": (State.ENDED, "500 Error"),
        }
    ),
)
def test_start_exc_info_is_gone_after_the_call(state: State, status: str) -> None:
    response = reached(state)
    try:
        raise Failure
    except Failure as error:
        reported = weakref.ref(error)
        with suppress(Failure, ValueError):
            response.start(status, [], sys.exc_info())
    assert reported() is None


class Text(str):
    """Text that something hangs on, as lxml's keeps its document."""

    __slots__ = ("__weakref__",)


@pytest.fixture
def caches() -> Iterator[list[dict[str, Any]]]:
    """Give the caches empty, whatever earlier tests have put in."""
    caches: list[dict[str, Any]] = [_fields.NAMES, _fields.STATUSES]
    before = [dict(cache) for cache in caches]
    for cache in caches:
        cache.clear()
    yield caches
    for cache, entries in zip(caches, before, strict=True):
        cache.clear()
        cache.update(entries)


def test_cache_of_many_texts_is_bounded(caches: list[dict[str, Any]]) -> None:
    for number in range(3000):
        sent, _ = respond(
            start(f"404 Not {number}", (f"X-{number}", "1")), announce(1), chunk(b"x")
        )
        assert sent == head(404, (b"x-%d" % number, b"1"), sized(1))
    assert all(0 < len(cache) <= _fields.CACHED_TEXTS <= 1000 for cache in caches)


def test_cache_of_huge_texts_is_empty(caches: list[dict[str, Any]]) -> None:
    for number in range(10):
        respond(start(f"404 {'x' * 5000}{number}", (f"{'x' * 5000}{number}", "1")))
    assert not any(caches)


def test_cache_of_refused_texts_is_empty(caches: list[dict[str, Any]]) -> None:
    for status, name in (("2_0 OK", "X-A"), ("200 O\nK", "X-A"), ("200 OK", "X A")):
        for _ in range(2):
            with pytest.raises(ValueError, match=says()):
                respond(start(status, (name, "1")))
    assert not caches[0]
    assert caches[1].keys() <= {"200 OK"}


@pytest.mark.usefixtures("caches", "without_gc")
def test_cache_of_subclassed_text_keeps_no_object() -> None:
    status, name, value = Text("200 OK"), Text("X-A"), Text("1")
    texts = [weakref.ref(text) for text in (status, name, value)]
    assert respond(start(status, (name, value)), chunk(b"x"))[0] == head(
        200, (b"x-a", b"1")
    )
    del status, name, value
    assert [text() for text in texts] == [None, None, None]


# Any calls.

TOKEN_CHARACTERS = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
CONNECTION_HEADERS = {"connection", "transfer-encoding", "te", "upgrade"}
WITHOUT_CONTENT = (204, 205, 304)


def checked_head(
    status: object, headers: list[object]
) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Say what goes out for a status and headers, or raise."""
    if not isinstance(status, str):
        raise TypeError
    number, blank = status[:3], status[3:4]
    if (
        len(number) != 3
        or not set(number) <= set(string.digits)
        or blank not in ("", " ")
    ):
        raise ValueError
    if any(ord(character) < 32 for character in status) or number < "200":
        raise ValueError
    sent: list[tuple[bytes, bytes]] = []
    length = None
    for pair in headers:
        if not isinstance(pair, tuple) or [type(item) for item in pair] != [str, str]:
            raise TypeError
        name, value = pair
        if not name or set(name) - set(TOKEN_CHARACTERS):
            raise ValueError
        for character in value:
            code = ord(character)
            if (code < 32 and character != "\t") or code == 127 or code > 255:
                raise ValueError
        name, value = name.lower(), value.strip(" \t")
        if name == "content-length":
            if length not in (None, value) or set(value) - set(string.digits):
                raise ValueError
            if length is not None or number in ("204", "205"):
                continue
            length = value
        if name not in CONNECTION_HEADERS:
            sent.append((name.encode(), value.encode("latin-1")))
    return int(number), sent


class Model:
    """PEP 3333 in the shortest words: what was called, what was taken, what is out."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.called = self.out = self.over = False
        self.taken: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self.sent_bytes = 0

    def start(
        self, status: object, headers: list[object], exc_info: object = None
    ) -> None:
        if exc_info and self.out:
            raise Failure
        if self.called and not exc_info:
            raise RuntimeError
        self.called, self.taken = True, None
        self.taken = checked_head(status, headers)

    def announce(self, length: int) -> None:
        if self.taken and not self.out:
            status, headers = self.taken
            if b"content-length" not in dict(headers) and status not in WITHOUT_CONTENT:
                headers.append(sized(length))

    def room(self, status: int, headers: list[tuple[bytes, bytes]]) -> float:
        if self.method == "HEAD" or status in WITHOUT_CONTENT:
            return 0
        declared = dict(headers).get(b"content-length")
        return float("inf") if declared is None else int(declared) - self.sent_bytes

    def chunk(self, data: object) -> list[Message]:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError
        if not data:
            return []
        if not self.taken:
            raise RuntimeError
        if self.over:
            return []
        room = self.room(*self.taken)
        body = bytes(data)[: int(min(room, len(data)))]
        self.sent_bytes += len(body)
        self.over = len(body) == room
        return self.messages(body)

    def end(self) -> list[Message]:
        if not self.taken:
            raise RuntimeError
        if self.over:
            return []
        if 0 < self.room(*self.taken) < float("inf"):
            raise RuntimeError
        if not self.out and self.method != "HEAD":
            self.announce(0)
        self.over = True
        return self.messages(b"")

    def messages(self, body: bytes) -> list[Message]:
        assert self.taken
        heads = [] if self.out else [head(self.taken[0], *self.taken[1])]
        self.out = True
        return [*heads, last(body) if self.over else part(body)]


def any_of(*strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Choose as one_of() does, but as often as a strategy is named."""
    return st.sampled_from(strategies).flatmap(lambda strategy: strategy)


CODES = [200, 200, 200, 404, 500, 204, 205, 304]
STATUSES = st.sampled_from(CODES).map("{} Text".format)
BAD_STATUSES = st.sampled_from(["OK", "20 OK", "100 Continue", "200 \r\n", b"299 X"])
NAMES = st.sampled_from(["X-A", "Set-Cookie", "Content-Type", "Connection", "Upgrade"])
VALUES = st.text(
    st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=6
)
ANY_TEXT = st.text(st.characters(max_codepoint=0x17F), max_size=4)
LENGTHS = st.tuples(
    st.sampled_from(["Content-Length", "content-length"]),
    st.sampled_from(["0", "1", "3", "5", " 5 "]),
)
GOOD_HEADERS = st.builds(
    lambda headers, lengths: headers + lengths,
    st.lists(st.tuples(NAMES, VALUES), max_size=2),
    any_of(st.just([]), st.lists(LENGTHS, max_size=1)),
)
BAD_HEADERS = st.lists(
    any_of(
        st.tuples(ANY_TEXT, VALUES),
        st.tuples(NAMES, ANY_TEXT),
        st.sampled_from([None, (), ("X-A",), (b"X-Bytes", "1"), ("X-A", 1)]),
    )
)
# Wrong lengths only where a length would be sent: elsewhere it may be dropped as
# well as refused.
BAD_LENGTHS = st.lists(LENGTHS, min_size=2, max_size=2) | st.sampled_from(
    [[("Content-Length", value)] for value in ("+5", "5_0", "five", "-1", "\xb2")]
)
GOOD_HEADS = st.tuples(STATUSES, GOOD_HEADERS)
HEADS = any_of(
    *[GOOD_HEADS] * 3,
    st.tuples(BAD_STATUSES, GOOD_HEADERS),
    st.tuples(STATUSES, BAD_HEADERS),
    st.tuples(st.sampled_from(["200 OK", "304"]), BAD_LENGTHS),
)
# Not st.binary(): Hypothesis compares its texts with its bytes, which -bb forbids.
BODIES = st.text(st.characters(max_codepoint=255), max_size=7).map(
    lambda text: text.encode("latin-1")
)
CHUNKS = any_of(
    *[BODIES] * 6,
    BODIES.map(bytearray),
    BODIES.map(lambda body: memoryview(body)),
    BODIES.map(Subclass),
    st.text(max_size=1),
).map(chunk)
CALLS = st.builds(
    lambda first, others: [*first, *others],
    any_of(*[GOOD_HEADS.map(lambda head: [start(head[0], *head[1])])] * 3, st.just([])),
    st.lists(
        any_of(
            HEADS.map(lambda head: start(head[0], *head[1])),
            HEADS.map(lambda head: restart(head[0], *head[1])),
            *[CHUNKS] * 4,
            *[st.integers(1, 6).map(announce)] * 2,
            *[st.just(END)] * 2,
        ),
        max_size=9,
    ),
)
METHODS = st.sampled_from(["GET", "GET", "POST", "HEAD"])


def comparable(came: Outcome) -> Outcome:
    """Leave out what is free: 205 has no length, or the length zero."""
    if isinstance(came, list) and came and came[0].get("status") == 205:
        assert dict(came[0]["headers"]).get(b"content-length", b"0") == b"0"
        headers = [pair for pair in came[0]["headers"] if pair != sized(0)]
        return [head(205, *headers), *came[1:]]
    return came


@PROFILE
@given(method=METHODS, calls=CALLS)
def test_response_any_calls_give_what_the_model_gives(
    method: str, calls: list[Call]
) -> None:
    response, model = Response(APPLICATION, method), Model(method)
    for call in calls:
        expected = comparable(outcome(model, call))
        assert comparable(outcome(response, call)) == expected, call


def sent_by(messages: list[Message]) -> tuple[list[Message], bytes, bool]:
    """Say what messages come to: the head, the body, and whether that is all."""
    heads = [message for message in messages if "status" in message]
    bodies = [message for message in messages if "body" in message]
    body = b"".join(message["body"] for message in bodies)
    return heads, body, bool(bodies) and not bodies[-1]["more_body"]


@PROFILE
@given(method=METHODS, calls=CALLS, data=BODIES)
def test_rest_after_any_calls_is_like_one_last_chunk(
    method: str, calls: list[Call], data: bytes
) -> None:
    response, model = Response(APPLICATION, method), Model(method)
    for call in calls:
        outcome(response, call)
        outcome(model, call)
    if data or method != "HEAD":  # no chunk for HEAD says nothing of GET's
        model.announce(len(data))
    try:
        expected = [*model.chunk(data), *model.end()]
    except RuntimeError:
        with pytest.raises(RuntimeError, match=says()):
            response.rest(len(data))
        return
    messages, count = response.rest(len(data))
    messages += [last(data[:count])] if count else []
    assert sent_by(comparable(messages)) == sent_by(comparable(expected))  # type: ignore[arg-type]  # no errors


@PROFILE
@given(
    method=METHODS,
    calls=CALLS,
    chunks=any_of(*[st.lists(BODIES, max_size=1)] * 3, st.lists(BODIES, max_size=3)),
    has_length=st.booleans(),
    buffer=st.sampled_from([1, 5, BUFFER]),
)
def test_whole_after_any_calls_is_like_its_chunks_and_the_end(
    method: str, calls: list[Call], chunks: list[bytes], has_length: bool, buffer: int
) -> None:
    response, model = Response(APPLICATION, method), Model(method)
    if has_length:
        calls = [start("200 OK", ("Content-Length", f"{len(b''.join(chunks))}"))]
    for call in calls:
        outcome(response, call)
        outcome(model, call)
    if len(chunks) == 1:
        if chunks[0] or method != "HEAD":
            model.announce(len(chunks[0]))
    elif method != "HEAD" and len(b"".join(chunks)) <= buffer:
        model.announce(len(b"".join(chunks)))
    try:
        expected = [message for data in chunks for message in model.chunk(data)]
        expected += model.end()
    except RuntimeError:
        with pytest.raises(RuntimeError, match=says()):
            response.whole(chunks, buffer)
        return
    messages = response.whole(chunks, buffer)
    assert sent_by(comparable(messages)) == sent_by(comparable(expected))  # type: ignore[arg-type]  # no errors
    if len(chunks) == 1:
        assert comparable(messages) == comparable(expected)
    assert response.state is State.ENDED
    assert response.end() == []


def check_protocol(method: str, messages: list[Message]) -> None:
    """Check what a strict server would, at whatever message the calls stopped."""
    first, *bodies = messages
    assert bodies
    assert first.keys() == {"type", "status", "headers"}
    assert first["type"] == "http.response.start"
    for name, value in first["headers"]:
        assert re.fullmatch(rb"[!#$%&'*+\-.^_`|~0-9a-z]+", name)
        assert re.fullmatch(rb"[\t\x20-\x7e\x80-\xff]*", value)
        assert value == value.strip(b" \t")
        assert name.decode() not in CONNECTION_HEADERS
    for message in bodies:
        assert message.keys() == {"type", "body", "more_body"}
        assert message["type"] == "http.response.body"
        assert type(message["body"]) is bytes
    for message in bodies[:-1]:
        assert message["more_body"]
        assert message["body"]
    is_over = not bodies[-1]["more_body"]
    size = sum(len(message["body"]) for message in bodies)
    lengths = [
        int(value) for name, value in first["headers"] if name == b"content-length"
    ]
    assert len(lengths) <= 1
    if method == "HEAD" or first["status"] in WITHOUT_CONTENT:
        assert is_over
        assert size == 0
        assert lengths == [] or first["status"] != 204
    elif lengths:
        assert size == lengths[0] if is_over else size < lengths[0]


@PROFILE
@given(method=METHODS, calls=CALLS)
def test_response_any_calls_keep_the_protocol(method: str, calls: list[Call]) -> None:
    response = Response(APPLICATION, method)
    messages: list[Message] = []
    came: list[Message] = []
    for call in calls:
        try:
            came = perform(response, call)
        except Failure:
            assert messages
        except Exception as error:
            if not re.match(says(), str(error)):
                raise
        else:
            # Only a chunk with something in it, or the end, sends anything.
            assert not came or call.method == "end" or len(call.arguments[0])
            assert call.method in ("chunk", "end") or not came
            messages += copy.deepcopy(came)
            if messages:
                check_protocol(method, messages)


@given(
    length=st.none() | st.integers(0, 12),
    chunks=st.lists(st.binary(max_size=5), max_size=6),
    quick=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_chunks_that_pass_as_they_are_make_the_same_response(
    length: int | None, chunks: list[bytes], quick: list[bool]
) -> None:
    headers = [] if length is None else [("Content-Length", str(length))]
    slow, fast = Response("app", "GET"), Response("app", "GET")
    bodies: list[bytes] = []
    for response in (slow, fast):
        response.start("200 OK", headers)
    for chunk, is_quick in zip(chunks, quick, strict=False):
        expected = slow.chunk(chunk)
        if is_quick and (size := fast.passes(chunk)):
            assert size == len(chunk)
            bodies.append(chunk)
            assert expected[-1]["more_body"]
        else:
            assert fast.chunk(chunk) == expected
            bodies += [message.get("body", b"") for message in expected]
        assert (fast.state, fast.is_cut) == (slow.state, slow.is_cut)
    assert b"".join(bodies) == b"".join(chunks)[:length]


@pytest.mark.parametrize("data", ["text", None, bytearray(b"ab"), 5])
def test_passes_takes_nothing_that_is_not_bytes(data: Any) -> None:
    response = Response("app", "GET")
    response.start("200 OK", [])
    response.chunk(b"ab")
    assert response.passes(data) == 0
