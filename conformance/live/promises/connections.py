"""Connections that are kept: nothing of one request is seen by another."""

import json
from collections.abc import Mapping, Sequence

from conformance.checking import expect, expect_equal, fail
from conformance.live import reasons
from conformance.live.clients import CutError, read_body
from conformance.live.http1 import Http1Connection
from conformance.live.promising import promise
from conformance.live.site import Site

REQUESTS = 220
PIPELINE = 5
NOTHING = {"variable": None, "local": None}


def _expect_nothing_seen(seen: Mapping[str, object], number: int) -> None:
    for name, what in (
        ("variable", "a context variable"),
        ("local", "a value of asgiref's Local"),
    ):
        if seen[name] is not None:
            fail(
                f"request {number} of a connection saw {what} that an earlier one "
                f"has set, {seen[name]!r}"
            )


@promise("PRACTICE-context-03", "PRACTICE-context-04", "PEP3333-environ-19")
def nothing_leaks_to_the_next_request(site: Site) -> None:
    """Of 220 requests of one connection none sees a value that another has set."""
    ports = set()
    with site.connect() as connection:
        for number in range(1, REQUESTS + 1):
            value = f"?value={number}" if number % 2 else ""
            seen = json.loads(site.get(connection, f"/remember{value}"))
            ports.add(seen["port"])
            _expect_nothing_seen(seen, number)
    expect(len(ports) == 1, f"the requests came from {len(ports)} client ports")


def _answers(connection: Http1Connection, paths: Sequence[str]) -> list[bytes]:
    try:
        return list(connection.pipeline(paths, [("x-app", "plain")]))
    except CutError as error:
        fail(f"{len(paths)} requests that were sent at once were not answered: {error}")


@promise("PRACTICE-context-04", impossible=reasons.NO_PIPELINE)
def nothing_leaks_in_a_pipeline(site: Site) -> None:
    """Of pipelined requests none sees a value that one before it has set."""
    for _ in range(REQUESTS // PIPELINE // 2):
        with site.connect() as connection:
            assert isinstance(connection, Http1Connection)
            paths = [f"/remember?value={number}" for number in range(PIPELINE)]
            for number, body in enumerate(_answers(connection, paths), 1):
                _expect_nothing_seen(json.loads(body), number)


@promise("ASGI-MAIN-application-04", impossible=reasons.NO_PIPELINE)
def pipeline_is_answered_in_order(site: Site) -> None:
    """Pipelined requests are all answered, in their order."""
    with site.connect() as connection:
        assert isinstance(connection, Http1Connection)
        paths = [f"/environ/{number}" for number in range(PIPELINE)]
        bodies = _answers(connection, paths)
    answered = [json.loads(body)["PATH_INFO"] for body in bodies]
    expect_equal(answered, paths, "the paths that were answered")


@promise("PRACTICE-survival-04")
def failures_do_not_add_up(site: Site) -> None:
    """After many requests that failed, before and in their answers, all is well."""
    for number in range(6):
        for path in ("/fail", "/fail-late"):
            with site.connect() as connection:
                site.start(connection, path, app="small")
                try:
                    connection.read_head()
                    # Some servers leave a cut answer open, so no more is read.
                except CutError as error:
                    fail(f"request {number} to {path} got no answer: {error}")
    site.expect_quick_answer("after 12 requests that failed")


@promise("RFC9110-early-response-01")
def unread_body_is_no_request(site: Site) -> None:
    """A body that the application does not read is not taken for the next request."""
    hidden = b"GET /set-cookies HTTP/1.1\r\nhost: x\r\nx-app: plain\r\n\r\n"
    with site.connect() as connection:
        length = ("content-length", str(len(hidden)))
        site.start(connection, "/hello", length, method="POST", end=False)
        connection.send(hidden, end=True)
        site.expect_status(connection.read_head(), 200, "POST /hello")
        expect_equal(read_body(connection), b"hello", "the body")
        try:
            answer = site.get(connection, "/environ")
        except (CutError, OSError):
            return  # the server has closed it, which is as safe
    expect(b"PATH_INFO" in answer, f"the next answer of the connection is {answer!r}")
