"""WSGI applications of any behaviour, as values: what they are, and how they behave.

A `RandomApp` says what an application does, action by action, and `Performance` is
the application that does it. `tests.pep3333` says what must come of it.
"""

import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from typing import IO, Any, Literal
from wsgiref.types import StartResponse, WSGIEnvironment

from hypothesis import strategies as st

from tests.apps import Body
from wsgi_asgi import ClientDisconnected

__all__ = [
    "Ask",
    "Chunk",
    "Oops",
    "Pause",
    "Performance",
    "Raise",
    "RandomApp",
    "Read",
    "Start",
    "Text",
    "Write",
    "data_of",
    "random_apps",
    "request_body",
]


class Oops(Exception):
    """What goes wrong in an application, with the action that it came of."""


class _Brief:
    """A value that shows what is not as usual."""

    def __repr__(self) -> str:
        usual = type(self)()
        shown = [
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if value != getattr(usual, name)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, repr=False)
class Start(_Brief):
    """Call start_response().

    Args:
        mark: Value of a header, by which the call can be told from others.
        status: Status line.
        length: Content-Length, if there is to be one.
        reports: An error is under way, and the call gets it as exc_info.
        swallows: The application goes on if the call raises that error.
    """

    mark: int = 0
    status: str = "200 OK"
    length: int | None = None
    reports: bool = False
    swallows: bool = False


@dataclass(frozen=True)
class Write:
    """Call what start_response() has returned.

    Args:
        letter: What the data consists of.
        size: How often.
        times: How often it is called.
    """

    letter: str
    size: int
    times: int = 1


@dataclass(frozen=True)
class Chunk:
    """Give a chunk of the iterable; see `Write`."""

    letter: str
    size: int
    times: int = 1


@dataclass(frozen=True)
class Text:
    """Give a chunk of str, which is an error."""


@dataclass(frozen=True)
class Pause:
    """Wait until the loop has nothing to do, so that the request's task sleeps."""


@dataclass(frozen=True)
class Ask:
    """Ask whether the client has left, which makes the adapter listen."""


@dataclass(frozen=True)
class Read:
    """Read a part of the request body."""

    size: int


@dataclass(frozen=True)
class Raise:
    """Fail."""

    mark: int = 0


Action = Start | Write | Chunk | Text | Pause | Ask | Read | Raise
Kind = Literal[
    "list",
    "tuple",
    "list with close()",
    "list's iterator",
    "generator",
    "the application is a generator",
    "iterable with close()",
    "sequence by __getitem__",
    "file",
    "named temporary file",
    "BytesIO",
]
Pace = Literal["at once", "in some turns", "in a while"]

LISTS: tuple[Kind, ...] = ("list", "tuple", "list with close()", "list's iterator")
WHOLE: tuple[Kind, ...] = ("list", "tuple", "list with close()")
FILES: tuple[Kind, ...] = ("file", "named temporary file", "BytesIO")
COUNTS_CLOSES: tuple[Kind, ...] = ("list with close()", "iterable with close()")


@dataclass(frozen=True, repr=False)
class RandomApp(_Brief):
    """An application, the request that it gets, and the pace of its client.

    Args:
        method: The request's.
        call: What the application does before it returns.
        kind: What it returns.
        result: What that does, or the chunks that it consists of. Of a file it is one
            chunk.
        close: What its close() does, if it has one.
        version: The request's version of HTTP.
        body: Sizes of the pieces in which the request's body comes.
        chunked: The request does not say how long its body is.
        spool: The adapter's option of that name.
        receives: How long receive() takes.
        sends: How long send() takes.
        buffer: The adapter's limit of that name.
        leaves: The client leaves as soon as so many messages have been sent.
    """

    call: tuple[Action, ...] = ()
    kind: Kind = "list"
    result: tuple[Action, ...] = ()
    close: tuple[Action, ...] = ()
    method: str = "GET"
    version: str = "1.1"
    body: tuple[int, ...] = ()
    chunked: bool = False
    spool: bool = True
    receives: Pace = "at once"
    sends: Pace = "at once"
    buffer: int = 65536
    leaves: int | None = None


def data_of(chunk: Write | Chunk) -> bytes:
    """Give the bytes of a chunk."""
    return chunk.letter.encode() * chunk.size


def request_body(app: RandomApp) -> list[bytes]:
    """Give the pieces of the request's body."""
    return [b"%d" % (number % 10) * size for number, size in enumerate(app.body)]


class _Closing:
    """Has its close() do what the application says, and counts."""

    _performance: "Performance"

    def close(self) -> None:
        self._performance.close()


class _ListWithClose(list[Any], _Closing):
    def __init__(self, chunks: Sequence[Any], performance: "Performance") -> None:
        super().__init__(chunks)
        self._performance = performance


class _IterableWithClose(_Closing):
    def __init__(self, chunks: Iterator[Any], performance: "Performance") -> None:
        self._chunks = chunks
        self._performance = performance

    def __iter__(self) -> Iterator[Any]:
        return self._chunks


class _BySubscript:
    def __init__(self, chunks: Iterator[Any]) -> None:
        self._chunks = chunks

    def __getitem__(self, index: int) -> Any:
        try:
            return next(self._chunks)
        except StopIteration:
            raise IndexError(index) from None


class Performance:
    """A random application at work, once.

    Args:
        app: What it does.
        pause: Returns when the loop has nothing more to do.
        sent: Says how many bytes of the response the server has been given.

    Attributes:
        has_returned: There is an iterable, which must be closed.
        closes: For each close() how many bytes the server had by then.
        taken: Chunks that the iterable was asked for, where that `counts_chunks`.
        is_late: The iterable was asked for a chunk after close().
        is_broken_off: The request body was, since the client had left or had its
            whole response.
        misread: A part of the request body was not what it should be.
        file: What the result wraps, if it is a file.
    """

    def __init__(
        self, app: RandomApp, pause: Callable[[], object], sent: Callable[[], int]
    ) -> None:
        self._app = app
        self._pause = pause
        self._sent = sent
        self._unread = b"".join(request_body(app))
        self._write: Callable[[bytes], object]
        self._environ: WSGIEnvironment
        self._start_response: StartResponse
        self.has_returned = False
        self.closes: list[int] = []
        self.taken = 0
        self.is_late = False
        self.is_broken_off = False
        self.misread: str | None = None
        self.file: IO[bytes] | None = None

    @property
    def counts_chunks(self) -> bool:
        return self._app.kind not in LISTS + FILES

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        self._environ = environ
        self._start_response = start_response
        for action in self._app.call:
            self._do(action)
        result: Body = self._make_result()
        self.has_returned = True
        return result

    def close(self) -> None:
        self.closes.append(self._sent())
        for action in self._app.close:
            self._do(action)

    def _make_result(self) -> Any:
        app = self._app
        if app.kind in FILES:
            (chunk,) = app.result
            assert isinstance(chunk, Chunk)
            self.file = _open(app.kind, data_of(chunk))
            return self._environ["wsgi.file_wrapper"](self.file)
        if app.kind in LISTS:
            chunks = [item for action in app.result for item in _items(action)]
            return {
                "list": chunks,
                "tuple": tuple(chunks),
                "list with close()": _ListWithClose(chunks, self),
                "list's iterator": iter(chunks),
            }[app.kind]
        steps = self._steps()
        if app.kind == "iterable with close()":
            return _IterableWithClose(steps, self)
        return _BySubscript(steps) if app.kind == "sequence by __getitem__" else steps

    def _steps(self) -> Iterator[Any]:
        for action in self._app.result:
            if isinstance(action, Chunk | Text):
                for item in _items(action):
                    self.taken += 1
                    yield item
                    self.is_late = self.is_late or bool(self.closes)
            else:
                self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case Start():
                self._start(action)
            case Write():
                for _ in range(action.times):
                    self._write(data_of(action))
            case Pause():
                self._pause()
            case Ask():
                self._environ["wsgi_asgi.client_disconnected"]()
            case Read(size):
                self._read(size)
            case Raise(mark):
                raise Oops(mark)
            case _:
                raise AssertionError(action)

    def _start(self, action: Start) -> None:
        headers = [("Content-Type", "text/plain"), ("X-Mark", str(action.mark))]
        if action.length is not None:
            headers.append(("Content-Length", str(action.length)))
        if not action.reports:
            self._write = self._start_response(action.status, headers)
            return
        with suppress(*[Oops] * action.swallows):
            try:
                raise Oops(action.mark)
            except Oops:
                self._write = self._start_response(
                    action.status, headers, sys.exc_info()
                )

    def _read(self, size: int) -> None:
        try:
            data = self._environ["wsgi.input"].read(size)
        except ClientDisconnected:
            self.is_broken_off = True
            return
        size = size if size >= 0 else len(self._unread)
        expected, self._unread = self._unread[:size], self._unread[size:]
        if data != expected:
            self.misread = f"{data!r} was read and not {expected!r}"


def _items(action: Action) -> list[bytes] | list[str]:
    if isinstance(action, Text):
        return ["text"]
    assert isinstance(action, Chunk)
    return [data_of(action)] * action.times


def _open(kind: Kind, data: bytes) -> IO[bytes]:
    """Open a file that stands before some data, and has more before that."""
    if kind == "BytesIO":
        file: IO[bytes] = BytesIO()
    elif kind == "file":
        file = tempfile.TemporaryFile()  # noqa: SIM115  # the response closes it
    else:
        file = tempfile.NamedTemporaryFile()  # noqa: SIM115  # the same
    file.write(b"before" + data)
    file.flush()
    file.seek(len(b"before"))
    return file


# Around what makes a difference to somebody: nothing, what is joined with others,
# what fills a small buffer, what does not fit the usual one.
_SIZES = st.sampled_from([0, 0, 1, 1, 2, 5, 20, 5000, 70_000])
_FILE_SIZES = st.sampled_from([0, 1, 20, 5000, 70_000, 300_000])
_STATUSES = st.sampled_from(
    ["200 OK"] * 5
    + ["201 Created", "204 No Content", "205 Reset Content", "304 Not Modified"]
    + ["404 Not Found", "500 Internal Server Error"]
)
# What the Content-Length is away from the end of a chunk, if there is one.
_DEVIATIONS = st.sampled_from([None] * 4 + [0, 0, 0, 1, -1, 100])


def _starts(*, reports: bool) -> st.SearchStrategy[Start]:
    return st.builds(
        Start,
        status=_STATUSES,
        length=_DEVIATIONS,  # until the bytes are known
        reports=st.just(reports),
        swallows=st.booleans() if reports else st.just(False),
    )


def _weighted(
    *weights: tuple[int, st.SearchStrategy[Action]],
) -> st.SearchStrategy[Action]:
    strategies = [strategy for weight, strategy in weights for _ in range(weight)]
    return st.integers(0, len(strategies) - 1).flatmap(strategies.__getitem__)


_QUIET: tuple[tuple[int, st.SearchStrategy[Action]], ...] = (
    (12, st.just(Pause())),
    (3, st.just(Ask())),
    (3, st.builds(Read, st.sampled_from([1, 4, -1]))),
    (1, st.builds(Raise)),
    (2, _starts(reports=True)),
    (1, _starts(reports=False)),
)
_WRITES = (18, st.builds(Write, st.just(""), _SIZES))
_CHUNKS = (20, st.builds(Chunk, st.just(""), _SIZES))
# More than may wait, for their number alone.
_TINY = st.sampled_from([0, 1, 2])
_MANY_WRITES = (1, st.builds(Write, st.just(""), _TINY, st.just(2500)))
_MANY_CHUNKS = (1, st.builds(Chunk, st.just(""), _TINY, st.just(2500)))
_TEXTS = (1, st.builds(Text))
_CALLS = st.lists(_weighted(_WRITES, _MANY_WRITES, *_QUIET), max_size=5)
_RESULTS = st.lists(
    _weighted(_CHUNKS, _MANY_CHUNKS, _WRITES, _MANY_WRITES, _TEXTS, *_QUIET),
    max_size=6,
)
_LISTS = st.lists(_weighted(_CHUNKS, _MANY_CHUNKS, _TEXTS), max_size=4)
_PACES: st.SearchStrategy[Pace] = st.sampled_from(
    ["at once", "at once", "in some turns", "in a while"]
)
_CLOSES: st.SearchStrategy[tuple[Action, ...]] = st.sampled_from(
    [(), (), (Pause(),), (Raise(),), (Pause(), Raise())]
)
_BODIES = st.lists(st.sampled_from([0, 1, 3, 70_000]), max_size=4)
_KINDS: st.SearchStrategy[Kind] = st.sampled_from(
    ["list", "tuple", *LISTS, "generator", "generator"]
    + ["the application is a generator", "iterable with close()"] * 2
    + ["sequence by __getitem__", *FILES]
)


@st.composite
def random_apps(draw: st.DrawFn) -> RandomApp:
    """Make any application."""
    kind = draw(_KINDS)
    if kind in FILES:
        result: list[Action] = [Chunk("", draw(_FILE_SIZES))]
    elif kind in LISTS:
        result = draw(_LISTS)
    else:
        result = draw(_RESULTS)
    call = draw(_CALLS)
    # Most applications start at the beginning, and one that does not fails.
    is_first = draw(st.integers(0, 9)) > 0
    head = draw(_starts(reports=False))
    if kind == "the application is a generator":
        result = [head, *call, *result]
        call = []
    elif is_first or kind in LISTS + FILES:
        call.insert(0, head)
    else:
        call = [action for action in call if not isinstance(action, Write)]
        result.insert(0, head)
    method = draw(st.sampled_from(["GET", "GET", "GET", "HEAD", "POST"]))
    return _complete(
        draw,
        RandomApp(
            call=tuple(call),
            kind=kind,
            result=tuple(result),
            close=draw(_CLOSES) if kind in COUNTS_CLOSES else (),
            method=method,
            version=draw(st.sampled_from(["1.1", "1.1", "1.0", "2"])),
            body=tuple(draw(_BODIES)) if method == "POST" else (),
            chunked=method == "POST" and draw(st.booleans()),
            spool=draw(st.booleans()),
            receives=draw(_PACES),
            sends=draw(_PACES),
            buffer=draw(st.sampled_from([65536, 65536, 8])),
            leaves=draw(st.sampled_from([None] * 7 + [0, 1, 2])),
        ),
    )


def _complete(draw: st.DrawFn, app: RandomApp) -> RandomApp:
    """Tell the chunks and calls apart, and declare lengths for what there is."""
    sizes = [
        one.size * one.times
        for one in app.call + app.result
        if isinstance(one, Write | Chunk)
    ]
    total = sum(sizes)
    ends = st.sampled_from([total, total, *itertools.accumulate(sizes)])
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    marks = iter(range(1, 99))

    def complete(action: Action) -> Action:
        match action:
            case Write() | Chunk():
                return replace(action, letter=next(letters))
            case Start(length=None) | Raise():
                return replace(action, mark=next(marks))
            case Start(length=deviation):
                assert deviation is not None
                length = max(0, draw(ends) + deviation)
                return replace(action, mark=next(marks), length=length)
        return action

    return replace(
        app,
        call=tuple(complete(action) for action in app.call),
        result=tuple(complete(action) for action in app.result),
        close=tuple(complete(action) for action in app.close),
    )
