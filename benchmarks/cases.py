"""What is asked of the contenders in process, and the series that show growth."""

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.applications import CHUNKS, HELLO, application
from benchmarks.bodies import digest, pieces

__all__ = ["CASES", "GROWTH", "HUGE", "Case", "Growth", "expected_body", "make_scope"]

MB = 1_000_000
POST_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Growth:
    """The place of a case in a series that shows how cost grows.

    Attributes:
        series: Names the series.
        size: How many units one request has, or how many are asked at a time.
        unit: What is counted; the time of one should not grow with their number.
    """

    series: str
    size: int
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that every contender is asked for.

    Attributes:
        name: Short name, unique with the loop.
        title: What it is, in words.
        application: Name of the application that answers; empty where only the
            environ is built.
        at_a_time: How many clients ask, each one request after another.
        download: Bytes of the response, where the request says that.
        upload: Bytes of the request's body; None for a GET.
        headers: How many request headers there are.
        unit: What a rate counts.
        units: How many of them one request has.
        growth: Its place in a series, if it has one.
    """

    name: str
    title: str
    application: str
    at_a_time: int = 1
    download: int | None = None
    upload: int | None = None
    headers: int = 5
    unit: str = "requests"
    units: float = 1
    growth: Growth | None = None


def _trivial(at_a_time: int, growth: Growth | None = None) -> Case:
    return Case(
        name=f"{'growth-at-a-time' if growth else 'trivial'}-{at_a_time}",
        title=f"trivial response, {at_a_time:,} at a time",
        application="trivial",
        at_a_time=at_a_time,
        growth=growth,
    )


def _down(name: str, size: int, growth: Growth | None = None) -> Case:
    return Case(
        name=name,
        title=f"{_bytes(size)} down in 64 KiB chunks",
        application="download",
        download=size,
        unit="MB",
        units=size / MB,
        growth=growth,
    )


def _up(name: str, size: int, growth: Growth | None = None) -> Case:
    return Case(
        name=name,
        title=f"{_bytes(size)} up in 64 KiB messages",
        application="upload",
        upload=size,
        unit="MB",
        units=size / MB,
        growth=growth,
    )


def _environ(headers: int, growth: Growth | None = None) -> Case:
    return Case(
        name=f"growth-headers-{headers}" if growth else "environ",
        title=f"environ alone, {headers} headers",
        application="",
        headers=headers,
        unit="environs",
        growth=growth,
    )


def _view(framework: str) -> Case:
    return Case(
        name=framework,
        title=f"{framework.capitalize()} view, 32 at a time",
        application=framework,
        at_a_time=32,
    )


def _bytes(size: int) -> str:
    for unit, name in ((1000 * MB, "GB"), (MB, "MB"), (1000, "kB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


CASES = (
    *(_trivial(at_a_time) for at_a_time in (1, 32, 256)),
    Case(
        name="post-1kb",
        title="POST of 1 kB, 32 at a time",
        application="echo",
        at_a_time=32,
        upload=POST_BYTES,
    ),
    Case(name="chunks-1000", title="1,000 chunks of 10 bytes", application="chunks"),
    _down("down-20mb", 20 * MB),
    _up("up-20mb", 20 * MB),
    _view("flask"),
    _view("django"),
    _environ(5),
)


def _grown(sizes: Iterable[int]) -> Iterable[Case]:
    for size in sizes:
        name = _bytes(size).replace(" ", "").lower()
        yield _down(f"growth-down-{name}", size, Growth("bodies down", size, "byte"))
        yield _up(f"growth-up-{name}", size, Growth("bodies up", size, "byte"))


GROWTH = (
    *(
        _trivial(n, Growth("requests at a time", n, "request"))
        for n in (1, 10, 100, 1000)
    ),
    *_grown((10, 1000, 100_000, MB, 10 * MB, 100 * MB)),
    *(_environ(n, Growth("headers", n, "header")) for n in (10, 20, 50, 100)),
)
HUGE = tuple(_grown([1000 * MB]))


_HEADERS = (
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"benchmark/1.0"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
)


def make_scope(case: Case) -> dict[str, object]:
    """Make the ASGI scope of one request, such as uvicorn would."""
    path = application(case.application).path if case.application else "/hello"
    headers = list(_HEADERS)
    if case.upload is not None:
        headers.append((b"content-type", b"application/octet-stream"))
        headers.append((b"content-length", b"%d" % case.upload))
    headers += [
        (b"x-custom-%d" % number, b"a value of usual length")
        for number in range(len(headers), case.headers)
    ]
    query = b"name=world" if case.download is None else b"%d" % case.download
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET" if case.upload is None else "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 43210),
        "server": ("127.0.0.1", 8000),
    }


def expected_body(case: Case) -> bytes | None:
    """Give the right answer; None for a body of `bodies`, of `case.download` bytes."""
    if case.application == "download":
        return None
    if case.application == "chunks":
        return b"".join(CHUNKS)
    if case.application == "echo":
        return b"".join(pieces(POST_BYTES))
    if case.application == "upload":
        return digest(pieces(case.upload or 0))
    return HELLO
