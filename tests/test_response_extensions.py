"""Early hints and trailers, by tables of calls and messages."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_response import (
    APPLICATION,
    CALLS,
    END,
    METHODS,
    PROFILE,
    Call,
    Failure,
    Step,
    announce,
    cases,
    check_protocol,
    chunk,
    head,
    last,
    outcome,
    part,
    perform,
    reached,
    respond,
    rest,
    restart,
    says,
    sized,
    start,
)
from wsgi_asgi._response import Response, State
from wsgi_asgi._types import Message

STYLE = "</a.css>; rel=preload; as=style"
RAW_STYLE = STYLE.encode()


def trailers(*fields: Any) -> Call:
    return Call("send_trailers", (list(fields),))


OFFER = Call("offer_trailers")
SUM = ("X-Sum", "1")
RAW_SUM = (b"x-sum", b"1")
NAMED = (b"trailer", b"x-sum")


def announcing(status: int, *headers: tuple[bytes, bytes]) -> Message:
    return {**head(status, *headers), "trailers": True}


def sent(*fields: tuple[bytes, bytes]) -> Message:
    return {
        "type": "http.response.trailers",
        "headers": list(fields),
        "more_trailers": False,
    }


def check_offered(method: str, steps: list[Step]) -> None:
    response = Response(APPLICATION, method)
    response.offer_trailers()
    assert [(call, outcome(response, call)) for call, _ in steps] == steps


# Fields, of both.


@pytest.mark.parametrize(
    ("field", "raw"),
    cases(
        {
            "text": (("Link", "a"), b"a"),
            "bytes": ((b"Link", b"a"), b"a"),
            "text and bytes": (("LINK", b"a"), b"a"),
            "bytes and text": ((b"link", "a"), b"a"),
            "a list": (["Link", "a"], b"a"),
            "blanks around": (("Link", " a\t"), b"a"),
            "tab inside": (("Link", "a\tb"), b"a\tb"),
            "text of latin-1": (("Link", "caf\xe9"), b"caf\xe9"),
            "bytes beyond ascii": ((b"Link", b"caf\xc3\xa9"), b"caf\xc3\xa9"),
            "empty": (("Link", ""), b""),
        }
    ),
)
def test_field_that_is_good_is_sent(field: Any, raw: bytes) -> None:
    assert Response(APPLICATION, "GET").early_hint([field]) == [
        {"type": "http.response.early_hint", "links": [raw]}
    ]
    response = Response(APPLICATION, "GET")
    response.offer_trailers()
    response.send_trailers([field])
    response.start("200 OK", [])
    assert response.end()[-1] == sent((b"link", raw))


BAD_FIELDS = cases(
    {
        # One break in the value would end the section, and two the response.
        "line break": (("Link", "a\r\nSet-Cookie: b"), ValueError, "control"),
        "carriage return": (("Link", "a\rb"), ValueError, "control"),
        "line feed": (("Link", "a\nb"), ValueError, "control"),
        "line feed at the end": (("Link", "a\n"), ValueError, "control"),
        "line break in bytes": ((b"Link", b"a\r\nb"), ValueError, "control"),
        "nul": (("Link", "a\0b"), ValueError, "control"),
        "escape": (("Link", "a\x1bb"), ValueError, "control"),
        "delete": ((b"Link", b"a\x7fb"), ValueError, "control"),
        "outside latin-1": (("Link", "\u4e2d"), ValueError, "Latin-1"),
        "name of two lines": (("Link\r\nX", "a"), ValueError, "token"),
        "name with colon": ((b"Link:", b"a"), ValueError, "token"),
        "pseudo-header": ((":status", "200"), ValueError, "token"),
        "no name": (("", "a"), ValueError, "token"),
        "name outside ascii": ((b"\xe9", b"a"), ValueError, "token"),
        "number": (("Link", 1), TypeError, "str or bytes"),
        "none": (("Link", None), TypeError, "str or bytes"),
        "bytearray": ((b"Link", bytearray(b"a")), TypeError, "str or bytes"),
        "name no text": ((1, "a"), TypeError, "str or bytes"),
        "one part": (("Link",), TypeError, "pair"),
        "three parts": (("Link", "a", "b"), TypeError, "pair"),
        "text": ("Link: a", TypeError, "pair"),
    }
)


@pytest.mark.parametrize("after", [False, True], ids=["before output", "after output"])
@pytest.mark.parametrize(("field", "error", "rule"), BAD_FIELDS)
def test_early_hint_of_a_bad_field_is_refused_in_the_call(
    field: Any, error: type[Exception], rule: str, after: bool
) -> None:
    response = reached(State.OPEN if after else State.NEW)
    with pytest.raises(error, match=says("early hints", rule)):
        response.early_hint([("Link", "a"), field])


@pytest.mark.parametrize(("field", "error", "rule"), BAD_FIELDS)
def test_trailers_of_a_bad_field_are_refused_in_the_call(
    field: Any, error: type[Exception], rule: str
) -> None:
    response = Response(APPLICATION, "GET")
    response.offer_trailers()
    with pytest.raises(error, match=says("trailers", rule)):
        response.send_trailers([SUM, field])
    response.start("200 OK", [])
    assert response.end() == [head(200, sized(0)), last()]


@pytest.mark.parametrize("fields", [None, 1, "Link", b"Link", {"Link": "a"}])
@pytest.mark.parametrize("method", ["early_hint", "send_trailers"])
def test_fields_that_are_no_list_of_pairs_are_refused(method: str, fields: Any) -> None:
    response = Response(APPLICATION, "GET")
    response.offer_trailers()
    with pytest.raises(TypeError, match=says("list|pair")):
        getattr(response, method)(fields)


def test_field_that_is_bad_is_not_shown_whole() -> None:
    response = Response(APPLICATION, "GET")
    with pytest.raises(ValueError, match="control") as caught:
        response.early_hint([("Link", "secret\n")])
    assert "secret" not in str(caught.value)


# Early hints: RFC 8297, and the extension's text.


@pytest.mark.parametrize(
    ("fields", "links"),
    cases(
        {
            "one": ([("Link", STYLE)], [RAW_STYLE]),
            "two": ([("Link", "a"), (b"LINK", b"b")], [b"a", b"b"]),
            "others are dropped": (
                [("X-A", "1"), ("Link", "a"), ("Content-Security-Policy", "b")],
                [b"a"],
            ),
            "a generator": ((field for field in [("Link", "a")]), [b"a"]),
            "names that begin alike": ([("Links", "b"), ("Link", "a")], [b"a"]),
        }
    ),
)
def test_early_hint_sends_the_links(fields: Any, links: list[bytes]) -> None:
    hint = {"type": "http.response.early_hint", "links": links}
    assert Response(APPLICATION, "GET").early_hint(fields) == [hint]


@pytest.mark.parametrize("fields", [[], [("X-A", "1")]], ids=["none", "no link"])
def test_early_hint_without_links_sends_nothing(fields: Any) -> None:
    assert Response(APPLICATION, "GET").early_hint(fields) == []


@pytest.mark.parametrize("state", State, ids=[state.name.lower() for state in State])
def test_early_hint_is_sent_until_something_is_out(state: State) -> None:
    response = reached(state)
    is_out = state in (State.OPEN, State.TRAILING, State.ENDED)
    for _ in range(2):
        assert bool(response.early_hint([("Link", STYLE)])) is not is_out
    assert response.state is state


# Trailers: the extension's text, and RFC 9110 6.5.


@pytest.mark.parametrize(
    "steps",
    cases(
        {
            "known before": [
                (trailers(SUM), []),
                (start("200 OK", ("X-A", "1")), []),
                (
                    chunk(b"x"),
                    [announcing(200, (b"x-a", b"1"), NAMED), part(b"x")],
                ),
                (END, [last(), sent(RAW_SUM)]),
            ],
            "announced after start_response": [
                (start(), []),
                (trailers(SUM), []),
                (chunk(b"x"), [announcing(200, NAMED), part(b"x")]),
                (END, [last(), sent(RAW_SUM)]),
            ],
            "known at the end": [
                (trailers(), []),
                (start(), []),
                (chunk(b"x"), [announcing(200), part(b"x")]),
                (chunk(b"y"), [part(b"y")]),
                (trailers(SUM), []),
                (END, [last(), sent(RAW_SUM)]),
            ],
            "in several calls, in order": [
                (trailers(("X-A", "1"), ("X-B", "2")), []),
                (start(), []),
                (
                    chunk(b"x"),
                    [announcing(200, (b"trailer", b"x-a, x-b")), part(b"x")],
                ),
                (trailers((b"X-A", b"3")), []),
                (trailers(("X-C", "4")), []),
                (
                    END,
                    [
                        last(),
                        sent(
                            (b"x-a", b"1"),
                            (b"x-b", b"2"),
                            (b"x-a", b"3"),
                            (b"x-c", b"4"),
                        ),
                    ],
                ),
            ],
            "announced and none given": [
                (trailers(), []),
                (start(), []),
                (END, [announcing(200), last(), sent()]),
            ],
            "no body but its end": [
                (trailers(SUM), []),
                (start(), []),
                (END, [announcing(200, NAMED), last(), sent(RAW_SUM)]),
            ],
            "never wanted": [
                (start(), []),
                (chunk(b"x"), [head(200), part(b"x")]),
                (END, [last()]),
            ],
            "wanted too late": [
                (start(), []),
                (chunk(b"x"), [head(200), part(b"x")]),
                (trailers(SUM), RuntimeError),
                (END, [last()]),
                (trailers(SUM), RuntimeError),
            ],
            "given too late": [
                (trailers(), []),
                (start(), []),
                (END, [announcing(200), last(), sent()]),
                (trailers(SUM), RuntimeError),
                (END, []),
            ],
            "wanted before a response that is replaced": [
                (trailers(SUM), []),
                (start("200 OK", ("X-A", "1")), []),
                (restart("500 Error", ("X-B", "2")), []),
                (
                    chunk(b"x"),
                    [announcing(500, (b"x-b", b"2"), NAMED), part(b"x")],
                ),
                (END, [last(), sent(RAW_SUM)]),
            ],
        }
    ),
)
def test_trailers_are_announced_and_follow_the_body(steps: list[Step]) -> None:
    check_offered("GET", steps)


FIVE = ("Content-Length", "5")


@pytest.mark.parametrize(
    "steps",
    cases(
        {
            "given after the last byte": [
                (trailers(), []),
                (start("200 OK", FIVE), []),
                (chunk(b"abc"), [announcing(200, sized(5)), part(b"abc")]),
                (chunk(b"de"), [last(b"de")]),
                (trailers(SUM), []),
                (END, [sent(RAW_SUM)]),
                (trailers(SUM), RuntimeError),
            ],
            "one chunk": [
                (trailers(SUM), []),
                (start("200 OK", FIVE), []),
                (announce(5), []),
                (chunk(b"abcde"), [announcing(200, sized(5), NAMED), last(b"abcde")]),
                (END, [sent(RAW_SUM)]),
            ],
            "empty chunk at the end": [
                (trailers(SUM), []),
                (start("200 OK", FIVE), []),
                (chunk(b"abcde"), [announcing(200, sized(5), NAMED), last(b"abcde")]),
                (chunk(b""), []),
                (END, [sent(RAW_SUM)]),
            ],
            # PEP 3333, Handling the Content-Length Header: stop iterating then.
            "a chunk too much": [
                (trailers(SUM), []),
                (start("200 OK", FIVE), []),
                (chunk(b"abcde"), [announcing(200, sized(5), NAMED), last(b"abcde")]),
                (chunk(b"f"), [sent(RAW_SUM)]),
                (trailers(SUM), RuntimeError),
                (chunk(b"g"), []),
                (END, []),
            ],
            "a chunk too long": [
                (trailers(SUM), []),
                (start("200 OK", FIVE), []),
                (
                    chunk(b"abcdef"),
                    [announcing(200, sized(5), NAMED), last(b"abcde"), sent(RAW_SUM)],
                ),
                (END, []),
            ],
            "length zero": [
                (trailers(SUM), []),
                (start("200 OK", ("Content-Length", "0")), []),
                (END, [announcing(200, sized(0), NAMED), last(), sent(RAW_SUM)]),
            ],
            # The response must stay visibly incomplete.
            "body too short": [
                (trailers(SUM), []),
                (start("200 OK", FIVE), []),
                (chunk(b"abcd"), [announcing(200, sized(5), NAMED), part(b"abcd")]),
                (END, RuntimeError),
            ],
            # HTTP/1.1 has trailers in chunked coding only, so no length is added.
            "length known to the adapter": [
                (trailers(SUM), []),
                (start(), []),
                (announce(5), []),
                (chunk(b"abcde"), [announcing(200, NAMED), part(b"abcde")]),
                (END, [last(), sent(RAW_SUM)]),
            ],
        }
    ),
)
def test_trailers_of_a_body_with_a_length_follow_it(steps: list[Step]) -> None:
    check_offered("GET", steps)


@pytest.mark.parametrize(
    "steps",
    cases(
        {
            "without a length": [
                (trailers(SUM), []),
                (start(), []),
                (rest(5), ([announcing(200, NAMED)], 5)),
                (END, [sent(RAW_SUM)]),
            ],
            "with its length": [
                (trailers(SUM), []),
                (start("200 OK", FIVE), []),
                (rest(5), ([announcing(200, sized(5), NAMED)], 5)),
                (END, [sent(RAW_SUM)]),
            ],
            "after a chunk": [
                (trailers(SUM), []),
                (start(), []),
                (chunk(b"x"), [announcing(200, NAMED), part(b"x")]),
                (rest(5), ([], 5)),
                (END, [sent(RAW_SUM)]),
            ],
            "empty": [
                (trailers(SUM), []),
                (start(), []),
                (rest(0), ([announcing(200, NAMED), last(), sent(RAW_SUM)], 0)),
                (END, []),
            ],
            "after all of the length": [
                (trailers(SUM), []),
                (start("200 OK", FIVE), []),
                (chunk(b"abcde"), [announcing(200, sized(5), NAMED), last(b"abcde")]),
                (rest(5), ([sent(RAW_SUM)], 0)),
                (END, []),
            ],
            "longer than its length": [
                (trailers(SUM), []),
                (start("200 OK", FIVE), []),
                (rest(6), ([announcing(200, sized(5), NAMED)], 5)),
                (END, [sent(RAW_SUM)]),
            ],
            "too short": [
                (trailers(SUM), []),
                (start("200 OK", FIVE), []),
                (rest(4), RuntimeError),
            ],
        }
    ),
)
def test_trailers_of_a_file_are_what_the_end_gives(steps: Any) -> None:
    response = Response(APPLICATION, "GET")
    response.offer_trailers()
    for call, expected in steps:
        assert outcome(response, call) == expected


@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", 200), ("GET", 204), ("GET", 205), ("GET", 304), ("HEAD", 304)],
)
@pytest.mark.parametrize("data", [b"x", b""], ids=["a chunk", "none"])
def test_trailers_of_a_response_without_content_are_dropped(
    method: str, status: int, data: bytes
) -> None:
    # RFC 9112 6.3: it ends with its headers. RFC 9110 15.3.5 and 15.4.5 say so of
    # trailers.
    early, late = trailers(SUM), trailers(("X-B", "2"))
    steps = [OFFER, early, start(f"{status} Status"), chunk(data), late, END, late]
    (first, end) = respond(*steps, method=method)
    assert first.keys() == {"type", "status", "headers"}
    assert b"trailer" not in dict(first["headers"])
    assert end == last()


@pytest.mark.parametrize(
    ("headers", "call", "named"),
    cases(
        {
            "the application's own": ([("Trailer", "X-Sum")], trailers(), b"X-Sum"),
            "the application's, beside a value": (
                [("Trailer", "X-Sum, X-B")],
                trailers(("X-B", "2")),
                b"X-Sum, X-B",
            ),
            "two of the application's": (
                [("Trailer", "X-Sum"), ("trailer", "X-B")],
                trailers(),
                b"X-Sum, X-B",
            ),
            "those that are known": (
                [],
                trailers(("X-B", "1"), SUM, ("x-b", "2")),
                b"x-b, x-sum",
            ),
            "none is known": ([], trailers(), None),
        }
    ),
)
@pytest.mark.parametrize("first", ["trailers", "start"])
def test_trailers_are_named_in_the_headers(
    headers: Any, call: Call, named: bytes | None, first: str
) -> None:
    # The extension leaves that header to the application, RFC 9110 6.6.2 advises it.
    calls = [call, start("200 OK", *headers)]
    response = Response(APPLICATION, "GET")
    response.offer_trailers()
    for one in calls if first == "trailers" else reversed(calls):
        perform(response, one)
    assert response.dropped == ()
    assert dict(response.end()[0]["headers"]).get(b"trailer") == named


def test_trailer_header_of_a_replaced_response_is_forgotten() -> None:
    steps = [OFFER, trailers(), start("200 OK", ("Trailer", "X-Sum")), restart(), END]
    assert respond(*steps)[0] == announcing(500)


def test_trailer_header_without_trailers_is_not_sent() -> None:
    assert respond(OFFER, start("200 OK", ("Trailer", "X-Sum")), END)[0] == head(
        200, sized(0)
    )


@pytest.mark.parametrize(
    "name",
    # RFC 9110 6.5.1: framing, routing, authentication, request modifiers, response
    # controls and content format; and what speaks of the connection.
    ["Content-Length", "Transfer-Encoding", "Trailer", "Host", "Authorization"]
    + ["WWW-Authenticate", "Set-Cookie", "Cache-Control", "Location", "Date", "Vary"]
    + ["Content-Type", "Content-Encoding", "Content-Range", "TE", "Connection"],
)
def test_trailers_that_belong_to_the_headers_are_refused(name: str) -> None:
    response = Response(APPLICATION, "GET")
    response.offer_trailers()
    with pytest.raises(ValueError, match=says("trailers", name.lower(), "headers")):
        response.send_trailers([SUM, (name, "1")])
    response.start("200 OK", [])
    assert response.end() == [head(200, sized(0)), last()]


@pytest.mark.parametrize(
    "name", ["Server-Timing", "ETag", "Repr-Digest", "grpc-status", "Signature"]
)
def test_trailers_that_are_known_as_such_are_sent(name: str) -> None:
    end = respond(OFFER, trailers((name, "1")), start(), END)[-1]
    assert end == sent((name.lower().encode(), b"1"))


@pytest.mark.parametrize(
    ("calls", "rule"),
    cases(
        {
            "unannounced": ([start(), chunk(b"x")], "before the first chunk.*empty"),
            "unannounced and over": ([start(), END], "before the first chunk.*empty"),
            "over": ([trailers(), start(), END], "ended.*exhausted"),
        }
    ),
)
def test_trailers_too_late_say_what_to_do(calls: list[Call], rule: str) -> None:
    response = Response(APPLICATION, "GET")
    response.offer_trailers()
    for call in calls:
        perform(response, call)
    with pytest.raises(RuntimeError, match=says("trailers", rule)):
        response.send_trailers([SUM])


@pytest.mark.parametrize(
    ("calls", "error"),
    cases(
        {
            "no start": ([trailers(SUM), END], RuntimeError),
            "a bad start": ([trailers(SUM), start("x")], ValueError),
            "an error page too late": (
                [trailers(SUM), start(), chunk(b"x"), restart()],
                Failure,
            ),
            "an error page after the body": (
                [trailers(SUM), start("200 OK", FIVE), chunk(b"abcde"), restart()],
                Failure,
            ),
        }
    ),
)
def test_trailers_of_an_application_that_fails_are_not_sent(
    calls: list[Call], error: type[Exception]
) -> None:
    response = Response(APPLICATION, "GET")
    response.offer_trailers()
    *before, failing = calls
    messages = [message for call in before for message in perform(response, call)]
    assert outcome(response, failing) is error
    assert sent(RAW_SUM) not in messages


def test_trailers_wanted_while_the_head_goes_out_break_nothing() -> None:
    """Another thread is told that it is early enough, and is too late."""
    response = Response(APPLICATION, "GET")
    response.offer_trailers()
    response.start("200 OK", [])

    def fields() -> Iterator[tuple[str, str]]:
        yield SUM

    messages = response.chunk(b"x")
    response.state = State.READY  # as the other thread has seen it before
    response.send_trailers(fields())
    response.state = State.OPEN
    assert [*messages, *response.end()] == [head(200), part(b"x"), last()]


def test_trailers_given_on_after_the_end_do_not_change_what_was_sent() -> None:
    response = Response(APPLICATION, "GET")
    response.offer_trailers()
    given = [SUM]
    response.send_trailers(given)
    given.append(("X-B", "2"))
    response.start("200 OK", [])
    messages = response.end()
    response.state = State.TRAILING  # as another thread may have seen it before
    response.send_trailers([("X-C", "3")])
    assert messages[-1] == sent(RAW_SUM)


ANY_TRAILERS = st.lists(
    st.sampled_from([SUM, ("X-B", "2"), ("Content-Length", "1")]), max_size=2
).map(lambda fields: trailers(*fields))


@PROFILE
@given(
    method=METHODS,
    calls=st.lists(CALLS, min_size=1, max_size=2),
    wanted=st.lists(ANY_TRAILERS, min_size=1, max_size=3),
    order=st.randoms(use_true_random=False),
)
def test_response_any_calls_with_trailers_keep_the_protocol(
    method: str, calls: list[list[Call]], wanted: list[Call], order: Any
) -> None:
    response = Response(APPLICATION, method)
    response.offer_trailers()
    mixed = [call for some in calls for call in some]
    for call in wanted:
        mixed.insert(order.randrange(len(mixed) + 1), call)
    messages: list[Message] = []
    for call in mixed:
        came = outcome(response, call)
        messages += came if isinstance(came, list) else []
    if not messages:
        return
    announced = messages[0].pop("trailers", False)
    headers = messages[0]["headers"]
    messages[0]["headers"] = [pair for pair in headers if pair[0] != b"trailer"]
    kinds = [message["type"].removeprefix("http.response.") for message in messages]
    if kinds[-1] == "trailers":
        assert announced
        end = messages.pop()
        assert end.keys() == {"type", "headers", "more_trailers"}
        assert {name for name, _ in end["headers"]} <= {b"x-sum", b"x-b"}
        assert not messages[-1]["more_body"]
    elif response.state is State.ENDED:
        assert not announced
    assert "trailers" not in kinds[:-1]
    check_protocol(method, messages)
