"""Wrapped files as bodies: who sends them, from where to where, and what is held."""

# ruff: noqa: SIM115  # the applications open files, and the adapter closes them

import asyncio
import errno
import gzip
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
from flask import Flask, Response, send_file
from typing_extensions import override

from tests.apps import Body, start
from tests.drivers import (
    WATCHED_S,
    Gate,
    Header,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    MakeOptions,
    assert_left,
    disconnect,
    in_each_executor,
    leave,
    length,
    lifespan,
    on_each_loop,
    others_end,
    piece,
    run,
    serve,
    serve_all,
    until,
    uploading,
)
from tests.test_files import LONG, ReadOnly, descriptors, needs_pread, needs_proc
from wsgi_asgi import Limits
from wsgi_asgi._files import BLOCK_BYTES, FilePart, FileWrapper
from wsgi_asgi._http import SENT_BYTES

pytestmark = needs_pread

SHORT = b"0123456789"
# At once is read what is in memory, or what threads read.
BLOCKS = SENT_BYTES, BLOCK_BYTES
FIRST_BLOCKS = [LONG[:size] for size in BLOCKS]
# The messages of LONG: the start, and its blocks.
MESSAGES = 1 + -(-len(LONG) // BLOCK_BYTES)

MakeFile = Callable[[Path], Any]


def wrapping(
    make_file: Callable[[], Any],
    *headers: tuple[str, str],
    status: str = "200 OK",
    head: bytes = b"",
) -> WSGIApplication:
    """Make an application that returns a wrapped file as it is.

    Args:
        make_file: Opens it.
        headers: More headers.
        status: The status line.
        head: What is written before it.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        write = start(start_response, *headers, status=status)
        if head:
            write(head)
        wrapper: Body = environ["wsgi.file_wrapper"](make_file(), 4096)
        return wrapper

    return answer


class Opener:
    """Opens a file, and notes when and where it is closed.

    Attributes:
        threads: Those in which its close() was called, as often as it was.
        closed: Open when it has been.
    """

    def __init__(self, path: Path, at_close: Callable[[], object] = int) -> None:
        self._path = path
        self._at_close = at_close
        self.threads: list[int] = []
        self.closed = Gate("the file is closed")

    def __call__(self) -> BinaryIO:
        file = self._path.open("rb")
        close = file.close

        def note() -> None:
            self.threads.append(threading.get_ident())
            close()
            self.closed.open()
            self._at_close()

        file.close = note  # type: ignore[method-assign]  # as Django does
        return file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "long.bin"
    path.write_bytes(LONG)
    return path


@pytest.fixture
def short(tmp_path: Path) -> Path:
    path = tmp_path / "short.bin"
    path.write_bytes(SHORT)
    return path


@pytest.fixture(autouse=True)
def no_descriptor_is_left(adapter: MakeAdapter, tmp_path: Path) -> Iterator[None]:
    """See that each file is closed, before anything else has it collected."""
    yield
    if os.path.isdir("/proc/self/fd"):
        until(lambda: not descriptors(tmp_path), "all descriptors are closed")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a folder for temporary files that is not the one of the test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(params=["in memory", "on disk"])
def anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the files be in memory, or have it unknown whether they are."""
    if request.param == "on disk":
        monkeypatch.setattr("wsgi_asgi._files._NO_WAIT", None)


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsgi_asgi._files._NO_WAIT", None)


def never_read(*arguments: object) -> int:
    raise AssertionError("the file was read")


# A short file.


def test_wrapper_is_in_the_environ(adapter: MakeAdapter) -> None:
    wrappers = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        wrappers.append(environ["wsgi.file_wrapper"])
        start(start_response)
        return []

    serve(adapter(app), HttpServer())
    assert wrappers == [FileWrapper]


@on_each_loop
@in_each_executor
def test_short_file_is_sent_in_one_piece(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    make_options: MakeOptions,
    short: Path,
) -> None:
    opener = Opener(short)
    server = HttpServer()
    serve(
        adapter(wrapping(opener), validate=False, **make_options()),
        server,
        loop_factory,
    )
    assert [message.get("body") for message in server.messages] == [None, SHORT]
    assert server.header(b"content-length") == b"10"
    assert len(opener.threads) == 1
    assert server.receives == 0


@pytest.mark.parametrize(
    ("size", "is_short"),
    [(1000, True), (1001, False)],
    ids=["the buffer", "a byte more"],
)
def test_file_as_long_as_the_buffer_is_read_by_the_thread_of_the_request(
    adapter: MakeAdapter,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    is_short: bool,
) -> None:
    read = FilePart.read_all
    read_at_once: list[int] = []

    def note_and_read(part: FilePart, size: int) -> bytes:
        read_at_once.append(size)
        return read(part, size)

    monkeypatch.setattr(FilePart, "read_all", note_and_read)
    path.write_bytes(LONG[:size])
    server = HttpServer()
    app = wrapping(lambda: path.open("rb"))
    serve(adapter(app, validate=False, limits=Limits(buffer=1000)), server)
    assert server.body == LONG[:size]
    assert read_at_once == [size] * is_short


def test_empty_file_is_an_empty_body(adapter: MakeAdapter, path: Path) -> None:
    path.write_bytes(b"")
    opener = Opener(path)
    server = HttpServer()
    serve(adapter(wrapping(opener), validate=False), server)
    assert (server.body, server.header(b"content-length")) == (b"", b"0")
    assert len(opener.threads) == 1


@needs_proc
def test_file_that_hides_its_size_is_sent(adapter: MakeAdapter) -> None:
    server = HttpServer()
    app = wrapping(lambda: open("/proc/self/status", "rb"))
    serve(adapter(app, validate=False), server)
    assert b"Pid:" in server.body


# A long file.


@pytest.mark.usefixtures("anywhere")
@on_each_loop
@in_each_executor
def test_long_file_is_sent_with_no_thread_held(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    make_options: MakeOptions,
    path: Path,
) -> None:
    callers: list[int] = []
    opener = Opener(path)
    wrap = wrapping(opener)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        callers.append(threading.get_ident())
        return wrap(environ, start_response)

    served = adapter(app, validate=False, **make_options())
    server = HttpServer()
    go_on = server.stall_at(2)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.sent(2).reached()
            assert opener.threads == callers
            assert served.stats().busy == 0
            go_on.open()

    run(main(), loop_factory)
    sizes = [len(message["body"]) for message in server.messages[1:]]
    size = sizes[0]
    assert size in BLOCKS
    assert sizes[:-1] == [size] * (len(LONG) // size)
    assert server.body == LONG
    assert server.header(b"content-length") == b"%d" % len(LONG)
    assert len(opener.threads) == 1
    assert served.stats().completed == 1


@pytest.mark.usefixtures("anywhere")
@on_each_loop
def test_many_long_files_are_sent_at_once_by_one_thread(
    adapter: MakeAdapter, loop_factory: LoopFactory, path: Path
) -> None:
    served = adapter(wrapping(lambda: path.open("rb")), validate=False, threads=1)
    servers = [HttpServer() for _ in range(20)]
    run(serve_all(served, servers), loop_factory)
    assert all(server.body == LONG for server in servers)
    assert served.stats().threads == 1


def test_stalled_long_files_leave_the_one_thread_to_others(
    adapter: MakeAdapter, path: Path
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        if environ["PATH_INFO"] == "/long":
            return wrapping(lambda: path.open("rb"))(environ, start_response)
        start(start_response)
        return [b"quick"]

    served = adapter(app, validate=False, threads=1)
    slow = [HttpServer(path="/long") for _ in range(10)]
    stalls = [server.stall_at(2) for server in slow]

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for server in slow:
                tasks.create_task(server.run(served))
            for server in slow:
                await server.sent(2).reached()
            quick = HttpServer()
            await quick.run(served)
            assert quick.body == b"quick"
            for go_on in stalls:
                go_on.open()

    run(main())
    assert all(server.body == LONG for server in slow)


@on_each_loop
def test_two_loops_are_served_long_files_at_the_same_time(
    adapter: MakeAdapter, loop_factory: LoopFactory, path: Path
) -> None:
    served = adapter(wrapping(lambda: path.open("rb")), validate=False)
    servers = [HttpServer() for _ in range(4)]
    threads = [
        threading.Thread(target=serve, args=(served, server, loop_factory))
        for server in servers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(server.body == LONG for server in servers)


def test_long_file_in_memory_leaves_other_tasks_their_turn(
    adapter: MakeAdapter, path: Path
) -> None:
    served = adapter(wrapping(lambda: path.open("rb")), validate=False)
    server = HttpServer()
    seen: set[int] = set()

    async def look() -> None:
        while not server.complete.is_open:
            seen.add(len(server.messages))
            await asyncio.sleep(0)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(look())
            tasks.create_task(server.run(served))

    run(main())
    assert seen >= set(range(2, MESSAGES))


def test_long_file_from_its_middle_is_sent_from_there(
    adapter: MakeAdapter, path: Path
) -> None:
    def from_middle() -> BinaryIO:
        file = path.open("rb")
        file.seek(1_000)
        file.read(3)  # by way of a buffer that is further on
        return file

    server = HttpServer()
    serve(adapter(wrapping(from_middle), validate=False), server)
    assert server.body == LONG[1_003:]


@pytest.mark.parametrize("head", [b"head", b"h" * 100_000], ids=["short", "long"])
def test_write_precedes_the_file(adapter: MakeAdapter, path: Path, head: bytes) -> None:
    server = HttpServer()
    opener = Opener(path, at_close=lambda: server.sent(2).wait(0))
    serve(adapter(wrapping(opener, head=head), validate=False), server)
    assert server.body == head + LONG
    assert server.header(b"content-length") is None
    assert len(opener.threads) == 1


def test_write_and_file_within_their_declared_length_are_sent(
    adapter: MakeAdapter, path: Path
) -> None:
    size = ("Content-Length", str(4 + len(LONG)))
    server = HttpServer()
    app = wrapping(lambda: path.open("rb"), size, head=b"head")
    serve(adapter(app, validate=False), server)
    assert server.body == b"head" + LONG


def test_write_of_all_that_was_declared_leaves_the_file_out(
    adapter: MakeAdapter, path: Path
) -> None:
    server = HttpServer()
    app = wrapping(lambda: path.open("rb"), ("Content-Length", "4"), head=b"head")
    serve(adapter(app, validate=False), server)
    assert server.body == b"head"


# Files that are read by the application's thread.


class Closable(ReadOnly):
    """Has no descriptor, and notes the threads that read and close it."""

    def __init__(self, content: bytes = LONG) -> None:
        super().__init__(content)
        self.threads: set[int] = set()
        self.closes = 0

    @override
    def read(self, size: int) -> bytes:
        self.threads.add(threading.get_ident())
        return super().read(size)

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closes += 1


@on_each_loop
@in_each_executor
def test_file_without_a_descriptor_is_read_by_one_thread(
    adapter: MakeAdapter, loop_factory: LoopFactory, make_options: MakeOptions
) -> None:
    file = Closable()
    server = HttpServer()
    served = adapter(wrapping(lambda: file), validate=False, **make_options())
    serve(served, server, loop_factory)
    assert server.body == LONG
    assert (len(file.threads), file.closes) == (1, 1)
    assert set(file.sizes) == {BLOCK_BYTES}


@pytest.mark.parametrize(
    "make_file",
    [
        pytest.param(lambda path: io.BytesIO(LONG), id="in memory"),
        pytest.param(lambda path: ReadOnly(LONG), id="only read()"),
        pytest.param(lambda path: gzip.open(_gzipped(path)), id="gzip"),
        pytest.param(
            lambda path: io.BufferedReader(gzip.open(_gzipped(path))),
            id="buffer over gzip",
        ),
        pytest.param(lambda path: _spooled(), id="spooled"),
    ],
)
def test_any_file_arrives_whole(
    adapter: MakeAdapter, path: Path, make_file: MakeFile
) -> None:
    server = HttpServer()
    serve(adapter(wrapping(lambda: make_file(path)), validate=False), server)
    assert server.body == LONG


def _gzipped(path: Path) -> Path:
    path.write_bytes(gzip.compress(LONG, 1))
    return path


def _spooled() -> Any:
    file = tempfile.SpooledTemporaryFile(1000)
    file.write(LONG)
    file.seek(0)
    return file


def test_pipe_is_sent_as_it_is_filled(adapter: MakeAdapter) -> None:
    ours, theirs = os.pipe()
    server = HttpServer()
    served = adapter(wrapping(lambda: open(ours, "rb")), validate=False)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            os.write(theirs, b"first")
            await server.sent(2).reached()
            os.write(theirs, b"second")
            await server.sent(3).reached()
            os.close(theirs)

    run(main())
    assert [message["body"] for message in server.messages[1:3]] == [
        b"first",
        b"second",
    ]


def test_text_file_is_refused(adapter: MakeAdapter, short: Path) -> None:
    server = HttpServer()
    with pytest.raises(TypeError, match="str and not bytes"):
        serve(adapter(wrapping(lambda: short.open()), validate=False), server)
    assert not server.messages


def test_closed_file_is_an_error(adapter: MakeAdapter, short: Path) -> None:
    def closed() -> BinaryIO:
        with short.open("rb") as file:
            return file

    server = HttpServer()
    with pytest.raises(ValueError, match="closed file"):
        serve(adapter(wrapping(closed), validate=False), server)
    assert not server.messages


@on_each_loop
def test_no_descriptor_to_be_had_file_is_read_by_the_thread(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(descriptor: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", refuse)
    opener = Opener(path)
    server = HttpServer()
    serve(adapter(wrapping(opener), validate=False), server, loop_factory)
    assert server.body == LONG
    assert len(opener.threads) == 1


def _shouting(app: WSGIApplication) -> WSGIApplication:
    """Make middleware that changes bodies, and passes close() on."""

    def shout(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        body = app(environ, start_response)
        try:
            for chunk in body:
                yield chunk.swapcase()
        finally:
            body.close()  # type: ignore[attr-defined]  # a wrapped file's

    return shout


@pytest.mark.parametrize(
    "wrap", [_shouting, lambda app: app], ids=["changes it", "validates it"]
)
def test_middleware_iterates_over_the_wrapper(
    adapter: MakeAdapter, path: Path, wrap: Callable[[WSGIApplication], WSGIApplication]
) -> None:
    opener = Opener(path)
    server = HttpServer()
    serve(adapter(wrap(wrapping(opener))), server)
    assert server.body == (LONG.swapcase() if wrap is _shouting else LONG)
    assert len(opener.threads) == 1


def test_wrapper_that_was_begun_is_sent_from_there(
    adapter: MakeAdapter, path: Path
) -> None:
    wrap = wrapping(lambda: path.open("rb"))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        wrapper: Any = wrap(environ, start_response)
        assert next(wrapper) == LONG[:BLOCK_BYTES]
        body: Body = wrapper
        return body

    server = HttpServer()
    serve(adapter(app, validate=False), server)
    assert server.body == LONG[BLOCK_BYTES:]


# The file is changed before it is sent, by its own close() at the latest.


def _at_close(change: Callable[[Path], object]) -> Callable[[Path], Any]:
    return lambda path: Opener(path, at_close=lambda: change(path))()


def _move(path: Path) -> None:
    path.rename(path.with_name("moved"))


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"something else")
    other.replace(path)


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _open_temporary(path: Path) -> Any:
    file = tempfile.NamedTemporaryFile()
    file.write(LONG)
    file.seek(0)
    return file


CHANGED: dict[str, MakeFile] = {
    "not at all": _open,
    "removed": _at_close(os.unlink),
    "moved": _at_close(_move),
    "replaced": _at_close(_replace),
    "appended to": _at_close(_append),
    "temporary": _open_temporary,
}


@pytest.mark.parametrize("make_file", CHANGED.values(), ids=list(CHANGED))
@pytest.mark.parametrize("content", [SHORT, LONG], ids=["short", "long"])
def test_file_is_sent_as_it_was_opened_to_a_server_that_would_open_it_later(
    adapter: MakeAdapter, path: Path, make_file: MakeFile, content: bytes
) -> None:
    path.write_bytes(content)
    server = HttpServer(extensions={"http.response.pathsend": {}})
    opened = make_file(path)
    serve(adapter(wrapping(lambda: opened), validate=False), server)
    assert server.body == (LONG if make_file is _open_temporary else content)
    assert server.header(b"content-length") == b"%d" % len(server.body)


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize(
    ("http_version", "most"), [("1.1", SENT_BYTES), ("2", BLOCK_BYTES)]
)
def test_file_goes_in_small_parts_to_a_server_that_counts_messages(
    adapter: MakeAdapter, path: Path, http_version: str, most: int
) -> None:
    extensions: dict[str, Any] = {"http.response.pathsend": {}}
    server = HttpServer(extensions=extensions, http_version=http_version)
    serve(adapter(wrapping(lambda: path.open("rb")), validate=False), server)
    assert server.body == LONG
    assert max(len(message["body"]) for message in server.of_type("body")) == most


# Responses without a body.


@pytest.mark.parametrize(
    ("method", "status", "size"),
    [
        pytest.param("HEAD", "200 OK", b"%d" % len(LONG), id="head"),
        pytest.param("GET", "304 Not Modified", None, id="not modified"),
        pytest.param("GET", "204 No Content", None, id="no content"),
    ],
)
def test_response_without_a_body_reads_nothing_and_closes(
    adapter: MakeAdapter,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    status: str,
    size: bytes | None,
) -> None:
    monkeypatch.setattr(os, "pread", never_read)
    monkeypatch.setattr(os, "preadv", never_read, raising=False)
    opener = Opener(path)
    server = HttpServer(method=method)
    serve(adapter(wrapping(opener, status=status), validate=False), server)
    assert (server.body, server.header(b"content-length")) == (b"", size)
    assert server.complete.is_open
    assert len(opener.threads) == 1


# Lengths.


@pytest.mark.parametrize("content", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("in_memory", [False, True], ids=["file", "in memory"])
def test_file_longer_than_declared_is_sent_as_far_as_that(
    adapter: MakeAdapter, path: Path, content: bytes, in_memory: bool
) -> None:
    path.write_bytes(content)
    size = len(content) - 1
    make_file = (lambda: io.BytesIO(content)) if in_memory else Opener(path)
    app = wrapping(make_file, ("Content-Length", str(size)))
    server = HttpServer()
    serve(adapter(app, validate=False), server)
    assert server.body == content[:size]
    assert server.complete.is_open


@pytest.mark.parametrize("content", [SHORT, LONG], ids=["short", "long"])
def test_file_shorter_than_declared_is_an_error_before_anything_is_sent(
    adapter: MakeAdapter, path: Path, content: bytes
) -> None:
    path.write_bytes(content)
    opener = Opener(path)
    app = wrapping(opener, ("Content-Length", str(len(content) + 3)))
    server = HttpServer()
    with pytest.raises(RuntimeError, match="3 bytes short of its Content-Length"):
        serve(adapter(app, validate=False), server)
    assert not server.messages
    assert len(opener.threads) == 1


def test_file_without_start_response_is_an_error_and_closed(
    adapter: MakeAdapter, path: Path
) -> None:
    opener = Opener(path)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        wrapper: Body = environ["wsgi.file_wrapper"](opener())
        return wrapper

    server = HttpServer()
    with pytest.raises(RuntimeError, match=r"a file was given, but start_response\(\)"):
        serve(adapter(app, validate=False), server)
    assert not server.messages
    assert len(opener.threads) == 1


# The file changes while it is sent.


def _while_sent(
    app: WSGIApplication, server: HttpServer, adapter: MakeAdapter
) -> Callable[[Callable[[], object]], None]:
    """Serve a file, and do something to it when its first block is out."""
    go_on = server.stall_at(2)
    served = adapter(app, validate=False)

    def serve_and(change: Callable[[], object]) -> None:
        async def main() -> None:
            task = asyncio.create_task(server.run(served))
            await server.sent(2).reached()
            change()
            go_on.open()
            await task

        run(main())

    return serve_and


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_move, id="moved"),
        pytest.param(os.unlink, id="deleted"),
        pytest.param(_replace, id="replaced"),
        pytest.param(_append, id="grown"),
    ],
)
def test_file_changed_while_it_is_sent_arrives_as_it_was(
    adapter: MakeAdapter, path: Path, change: Callable[[Path], object]
) -> None:
    server = HttpServer()
    app = wrapping(lambda: path.open("rb"))
    _while_sent(app, server, adapter)(lambda: change(path))
    assert server.body == LONG
    assert server.complete.is_open


@pytest.mark.usefixtures("anywhere")
def test_file_that_shrinks_while_it_is_sent_is_an_error_and_unfinished(
    adapter: MakeAdapter, path: Path
) -> None:
    server = HttpServer()
    app = wrapping(lambda: path.open("rb"))
    with pytest.raises(RuntimeError, match=r"long\.bin' has become shorter"):
        _while_sent(app, server, adapter)(lambda: os.truncate(path, 300_000))
    assert server.body == LONG[:300_000]
    assert not server.complete.is_open


@pytest.mark.usefixtures("anywhere")
def test_file_that_shrinks_at_close_is_an_error_and_unfinished(
    adapter: MakeAdapter, path: Path
) -> None:
    # A server that is given the path sends what there is, and says nothing.
    server = HttpServer()
    app = wrapping(Opener(path, at_close=lambda: os.truncate(path, 300_000)))
    with pytest.raises(RuntimeError, match=r"long\.bin' has become shorter"):
        serve(adapter(app, validate=False), server)
    assert server.body == LONG[:300_000]
    assert not server.complete.is_open


def test_short_file_that_shrinks_at_close_is_an_error_before_anything_is_sent(
    adapter: MakeAdapter, short: Path
) -> None:
    server = HttpServer()
    app = wrapping(Opener(short, at_close=lambda: os.truncate(short, 4)))
    with pytest.raises(RuntimeError, match=r"short\.bin' has become shorter"):
        serve(adapter(app, validate=False), server)
    assert not server.messages


# The disk.


@pytest.mark.usefixtures("on_disk")
@on_each_loop
@in_each_executor
def test_slow_disk_is_waited_for_in_another_thread(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    make_options: MakeOptions,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, ready = os.pread, Gate("the disk has turned")
    threads: set[int] = set()

    def read_slowly(descriptor: int, size: int, offset: int) -> bytes:
        ready.wait()
        threads.add(threading.get_ident())
        return read(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", read_slowly)
    served = adapter(
        wrapping(lambda: path.open("rb")), validate=False, **make_options()
    )
    server = HttpServer()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.sent(1).reached()
            await server.sent(2).stays_shut(WATCHED_S)
            ready.open()

    run(main(), loop_factory)
    assert server.body == LONG
    assert threading.get_ident() not in threads


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("content", [SHORT, LONG], ids=["short", "long"])
def test_disk_that_fails_is_an_error_and_unfinished(
    adapter: MakeAdapter,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
) -> None:
    def fail(descriptor: int, size: int, offset: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    path.write_bytes(content)
    monkeypatch.setattr(os, "pread", fail)
    opener = Opener(path)
    server = HttpServer()
    with pytest.raises(OSError, match="Input/output error"):
        serve(adapter(wrapping(opener), validate=False), server)
    assert not server.complete.is_open
    assert len(server.messages) == (content is LONG)
    assert len(opener.threads) == 1


# close().


@pytest.mark.parametrize("content", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize(
    "error", [KeyError("in close"), SystemExit(3)], ids=["exception", "exit"]
)
def test_close_that_fails_leaves_the_response_complete(
    adapter: MakeAdapter, path: Path, content: bytes, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    path.write_bytes(content)
    opener = Opener(path, at_close=fail)
    server = HttpServer()
    with pytest.raises((KeyError, RuntimeError)) as caught:
        serve(adapter(wrapping(opener), validate=False), server)
    assert error in (caught.value, caught.value.__cause__)
    assert server.body == content
    assert server.complete.is_open
    assert len(opener.threads) == 1


def test_close_runs_before_anything_of_the_file_is_sent(
    adapter: MakeAdapter, path: Path
) -> None:
    sent: list[int] = []
    server = HttpServer()
    opener = Opener(path, at_close=lambda: sent.append(len(server.messages)))
    serve(adapter(wrapping(opener), validate=False), server)
    assert sent == [0]


# The same, when the application keeps the request, and so all that belongs to it.


def keeping(path: Path, kept: list[object]) -> WSGIApplication:
    """Make an application that keeps write(), which refers to the exchange."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        kept.append(start(start_response))
        wrapper: Body = environ["wsgi.file_wrapper"](path.open("rb"))
        return wrapper

    return answer


@needs_proc
def test_request_that_is_kept_keeps_no_descriptor(
    adapter: MakeAdapter, path: Path, tmp_path: Path
) -> None:
    kept: list[object] = []
    serve(adapter(keeping(path, kept), validate=False), HttpServer())
    assert descriptors(tmp_path) == []
    assert kept


@needs_proc
def test_request_that_is_kept_and_given_up_keeps_no_descriptor(
    adapter: MakeAdapter, path: Path, tmp_path: Path
) -> None:
    kept: list[object] = []
    leaves = Gate("the client has left")
    server = HttpServer(leaves, disconnect())
    server.stall_at(2)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.sent(2).reached()
            leaves.open()

    served = adapter(keeping(path, kept), validate=False)
    run(main())
    assert descriptors(tmp_path) == []
    assert kept


@needs_proc
def test_request_that_is_kept_and_cancelled_in_the_call_keeps_no_descriptor(
    adapter: MakeAdapter,
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wsgi_asgi._bridge.LINGER_S", 0.01)
    kept: list[object] = []
    keep = keeping(path, kept)
    called, go_on = Gate("the application is called"), Gate()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        called.open()
        go_on.wait()
        return keep(environ, start_response)

    served = adapter(app, validate=False)

    async def main() -> None:
        task = asyncio.create_task(HttpServer().run(served))
        await called.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.open()

    run(main())
    until(lambda: not served.stats().busy, "the thread is free")
    assert descriptors(tmp_path) == []
    assert kept


# The client leaves, or the server does.


@pytest.mark.usefixtures("anywhere")
@on_each_loop
@in_each_executor
def test_client_leaves_while_it_stalls_file_is_given_up(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    make_options: MakeOptions,
    path: Path,
) -> None:
    leaves = Gate("receive() tells, while send() still waits")
    served = adapter(
        wrapping(lambda: path.open("rb")), validate=False, **make_options()
    )
    server = HttpServer(leaves, disconnect())
    server.stall_at(2)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.sent(2).reached()
            leaves.open()

    run(main(), loop_factory)
    assert server.body in FIRST_BLOCKS
    assert_left(served)


@pytest.mark.usefixtures("anywhere")
@on_each_loop
def test_client_leaves_and_send_does_not_tell_file_is_given_up(
    adapter: MakeAdapter, loop_factory: LoopFactory, path: Path
) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 33)
    served = adapter(wrapping(lambda: path.open("rb")), validate=False)
    server = HttpServer()
    run(leave(served, server, server.sent(3)), loop_factory)
    assert_left(served)


@pytest.mark.parametrize("at", [1, 2, 3], ids=["start", "first block", "second"])
def test_send_that_fails_as_the_client_has_left_ends_the_file(
    adapter: MakeAdapter, path: Path, at: int
) -> None:
    served = adapter(wrapping(lambda: path.open("rb")), validate=False)
    server = HttpServer()
    server.fail_at(at, ConnectionResetError("gone"))
    serve(served, server)
    assert len(server.messages) == at - 1
    assert_left(served)


def test_send_that_fails_otherwise_is_an_error(
    adapter: MakeAdapter, path: Path
) -> None:
    server = HttpServer()
    server.fail_at(3, KeyError("a fault of the server"))
    with pytest.raises(KeyError):
        serve(adapter(wrapping(lambda: path.open("rb")), validate=False), server)


@pytest.mark.parametrize("content", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("head", [b"", b"head"], ids=["file", "write and file"])
def test_client_that_left_during_the_call_gets_no_file(
    adapter: MakeAdapter, path: Path, content: bytes, head: bytes
) -> None:
    path.write_bytes(content)
    opener = Opener(path)
    wrap = wrapping(opener, head=head)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        called.open()
        server.told.wait()
        return wrap(environ, start_response)

    called = Gate("the application is called")
    server = uploading(piece(b"ab"), called, disconnect(), header=length(100_000))
    served = adapter(app, validate=False, spool=False)
    serve(served, server)
    assert not server.messages
    assert len(opener.threads) == (not head)
    assert_left(served)


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("headers", [[length(100_000)], []], ids=["unread", "none"])
@on_each_loop
def test_client_leaves_with_its_body_unread_is_noticed(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    path: Path,
    headers: list[Header],
) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 33)
    served = adapter(wrapping(lambda: path.open("rb")), validate=False, spool=False)
    never = Gate("more of the body comes")
    server = HttpServer(piece(b"ab"), never, method="POST", headers=headers)
    run(leave(served, server, server.sent(3)), loop_factory)
    assert_left(served)


def test_client_leaves_with_a_large_body_unread_is_noticed(
    adapter: MakeAdapter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsgi_asgi._body.UNREAD_S", 0.01)
    served = adapter(
        wrapping(lambda: path.open("rb")),
        validate=False,
        limits=Limits(buffer=10),
        spool=False,
    )
    server = uploading(*[piece(b"x" * 10)] * 50, header=length(1000))
    server.stall_at(2)
    run(leave(served, server, server.received(51)))
    assert_left(served)


@pytest.mark.usefixtures("anywhere")
@on_each_loop
@in_each_executor
def test_request_cancelled_in_mid_file_ends_at_once(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    make_options: MakeOptions,
    path: Path,
) -> None:
    served = adapter(
        wrapping(lambda: path.open("rb")), validate=False, **make_options()
    )
    server = HttpServer()
    server.stall_at(2)

    async def main() -> None:
        task = asyncio.create_task(server.run(served))
        await server.sent(2).reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await others_end()

    run(main(), loop_factory)
    assert_left(served)


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("by", ["server", "client"])
@on_each_loop
@in_each_executor
def test_request_that_ends_while_the_disk_turns_does_not_wait_for_it(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    make_options: MakeOptions,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    read, turning, ready = os.pread, Gate("the disk turns"), Gate()

    def read_slowly(descriptor: int, size: int, offset: int) -> bytes:
        turning.open()
        ready.wait()
        return read(descriptor, size, offset)  # a descriptor that is still open

    monkeypatch.setattr(os, "pread", read_slowly)
    served = adapter(
        wrapping(lambda: path.open("rb")), validate=False, **make_options()
    )
    leaves = Gate("the client has left")
    server = HttpServer(leaves, disconnect())

    async def main() -> None:
        task = asyncio.create_task(server.run(served))
        await turning.reached()
        if by == "server":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            leaves.open()
            await task
        ready.open()
        await others_end()

    run(main(), loop_factory)
    until(lambda: not served.stats().busy, "the thread is free")
    assert_left(served)
    assert len(server.messages) == 1


def test_shutdown_waits_for_a_file(adapter: MakeAdapter, path: Path) -> None:
    served = adapter(wrapping(lambda: path.open("rb")), validate=False)
    server = HttpServer()
    go_on = server.stall_at(2)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks, lifespan(served) as life:
            tasks.create_task(server.run(served))
            await server.sent(2).reached()
            life.stopping.open()
            await life.sent(2).stays_shut()
            go_on.open()
            await server.complete.reached()

    run(main())
    assert server.body == LONG


@pytest.mark.usefixtures("on_disk")
def test_shutdown_that_closes_a_file_under_its_reader_is_no_error(
    adapter: MakeAdapter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(part: FilePart, size: int) -> bytes:
        # What the thread of the request does, if a shutdown has given it up.
        (crossing,) = served._bridge.crossings()
        crossing.abandoned = True
        part.close()
        return whole_read(part, size)

    whole_read = FilePart.read
    monkeypatch.setattr(FilePart, "read", read)
    served = adapter(wrapping(lambda: path.open("rb")), validate=False)
    server = HttpServer()
    serve(served, server)
    assert server.body == b""
    assert_left(served)


def test_shutdown_gives_up_on_a_file(adapter: MakeAdapter, path: Path) -> None:
    served = adapter(
        wrapping(lambda: path.open("rb")),
        validate=False,
        limits=Limits(shutdown_timeout=0.01),
    )
    server = HttpServer()
    go_on = server.stall_at(2)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            async with lifespan(served):
                tasks.create_task(server.run(served))
                await server.sent(2).reached()
            go_on.open()

    run(main())
    assert server.body in FIRST_BLOCKS
    assert_left(served)


@pytest.mark.usefixtures("on_disk")
def test_file_is_sent_while_all_threads_are_busy(
    adapter: MakeAdapter, path: Path
) -> None:
    wrap = wrapping(lambda: path.open("rb"))
    blocked, go_on = Gate("the only thread is blocked"), Gate()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        if environ["PATH_INFO"] == "/long":
            return wrap(environ, start_response)
        blocked.open()
        go_on.wait()
        start(start_response)
        return [b""]

    served = adapter(app, validate=False, threads=1)
    server = HttpServer(path="/long")
    read_on = server.stall_at(2)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.sent(2).reached()
            tasks.create_task(HttpServer().run(served))
            await blocked.reached()
            read_on.open()
            await server.complete.reached()
            go_on.open()

    run(main())
    assert server.body == LONG


# Flask, which answers range and conditional requests itself.


@pytest.fixture
def flask_app(path: Path) -> Flask:
    app = Flask("files")

    @app.get("/")
    def send() -> Response:
        return send_file(path)

    return app


@pytest.mark.parametrize(
    ("range_", "expected"),
    [
        pytest.param("bytes=0-9", slice(0, 10), id="first bytes"),
        pytest.param("bytes=300000-700000", slice(300_000, 700_001), id="middle"),
        pytest.param("bytes=799990-", slice(799_990, None), id="to the end"),
        pytest.param("bytes=-5", slice(-5, None), id="last bytes"),
    ],
)
def test_flask_range_gives_those_bytes(
    adapter: MakeAdapter, flask_app: Flask, range_: str, expected: slice
) -> None:
    server = HttpServer(headers=[(b"range", range_.encode())])
    serve(adapter(flask_app.wsgi_app), server)
    assert (server.status, server.body) == (206, LONG[expected])


def test_flask_file_is_sent_with_no_thread_held(
    adapter: MakeAdapter, flask_app: Flask
) -> None:
    served = adapter(flask_app.wsgi_app, validate=False)
    server = HttpServer()
    go_on = server.stall_at(2)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(served))
            await server.sent(2).reached()
            assert served.stats().busy == 0
            go_on.open()

    run(main())
    assert server.body == LONG


def test_flask_file_that_the_client_has_is_not_sent(
    adapter: MakeAdapter, flask_app: Flask
) -> None:
    served = adapter(flask_app.wsgi_app, validate=False)
    server = HttpServer(method="HEAD")
    serve(served, server)
    assert server.header(b"content-length") == b"%d" % len(LONG)
    etag = server.header(b"etag")
    assert etag
    server = HttpServer(headers=[(b"if-none-match", etag)])
    serve(served, server)
    assert (server.status, server.body) == (304, b"")
