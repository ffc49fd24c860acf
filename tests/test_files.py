"""Wrapped files: what they give, which have a descriptor to trust, and its bytes."""

# ruff: noqa: SIM115  # how files are opened, and closed later, is what is tested

import bz2
import errno
import functools
import gzip
import io
import lzma
import mmap
import os
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from django.core.files.base import ContentFile, File

from tests.test_adapter_process import ROOT, run_process
from wsgi_asgi._files import BLOCK_BYTES, MAX_BLOCK_BYTES, FilePart, FileWrapper

CONTENT = b"0123456789"
# Several blocks, no two of which are the same, and no whole number of them.
LONG = b"".join(number.to_bytes(4, "big") for number in range(200_000))
PROC = Path("/proc/self/fd")

needs_proc = pytest.mark.skipif(
    not PROC.is_dir(), reason="open descriptors are counted in /proc"
)
needs_pread = pytest.mark.skipif(
    not hasattr(os, "pread"), reason="nothing is read beside a file's position"
)


def descriptors(folder: Path) -> list[str]:
    """List the files in a folder that are open, one for each descriptor."""
    links = []
    for entry in os.listdir(PROC):
        with suppress(FileNotFoundError):  # the one by which the folder was listed
            links.append(os.readlink(PROC / entry))
    return [link for link in links if link.startswith(f"{folder}{os.sep}")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    return path


class ReadOnly:
    """Has read(), and nothing else that PEP 3333 does not ask for."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self._file = io.BytesIO(content)
        self.sizes: list[int] = []

    def read(self, size: int) -> bytes:
        self.sizes.append(size)
        return self._file.read(size)


# The wrapper.


@pytest.mark.parametrize("asked", [1, 4096, BLOCK_BYTES], ids=["1", "4096", "a block"])
def test_wrapper_short_blocks_asked_for_are_larger(asked: int) -> None:
    file = ReadOnly(LONG)
    blocks = list(FileWrapper(file, asked))
    assert b"".join(blocks) == LONG
    assert set(file.sizes) == {BLOCK_BYTES}


@pytest.mark.parametrize("asked", [0, -1, -(1 << 40)], ids=["0", "-1", "-1 TiB"])
def test_wrapper_blocks_asked_for_that_are_none_are_blocks(asked: int) -> None:
    # read(-1) would be the whole file, and read(0) the end of it.
    file = ReadOnly(LONG)
    assert b"".join(FileWrapper(file, asked)) == LONG
    assert set(file.sizes) == {BLOCK_BYTES}


def test_wrapper_long_blocks_asked_for_are_as_long() -> None:
    file = ReadOnly(LONG)
    assert len(next(FileWrapper(file, 300_000))) == 300_000


def test_wrapper_endless_blocks_asked_for_are_bounded(path: Path) -> None:
    # A buffered file takes the memory for all of a block before it reads.
    file = ReadOnly(LONG)
    assert b"".join(FileWrapper(file, 1 << 60)) == LONG
    assert set(file.sizes) == {MAX_BLOCK_BYTES}
    with path.open("rb") as opened:
        assert list(FileWrapper(opened, 1 << 60)) == [CONTENT]


def test_wrapper_plain_file_is_read_in_blocks(path: Path) -> None:
    path.write_bytes(LONG)
    with path.open("rb") as file:
        blocks = list(FileWrapper(file, 4096))
    assert b"".join(blocks) == LONG
    assert {len(block) for block in blocks[:-1]} == {BLOCK_BYTES}


def test_wrapper_pipe_gives_what_it_has() -> None:
    ours, theirs = os.pipe()
    with open(ours, "rb") as file, open(theirs, "wb", buffering=0) as pipe:
        wrapper = FileWrapper(file)
        pipe.write(b"first")
        assert next(wrapper) == b"first"
        pipe.write(b"second")
        assert next(wrapper) == b"second"
        pipe.close()
        assert list(wrapper) == []


@pytest.mark.parametrize("buffering", [-1, 0], ids=["buffered", "unbuffered"])
def test_wrapper_pipe_that_has_nothing_yet_is_no_end(buffering: int) -> None:
    # One in non-blocking mode: its read() then gives None, and its read1() b"".
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    with open(ours, "rb", buffering) as file, open(theirs, "wb", 0) as pipe:
        wrapper = FileWrapper(file)
        pipe.write(b"first")
        assert next(wrapper) == b"first"
        with pytest.raises(BlockingIOError, match="non-blocking"):
            next(wrapper)
        pipe.write(b"second")
        assert next(wrapper) == b"second"
        pipe.close()
        assert list(wrapper) == []


def test_wrapper_none_at_the_end_of_an_object_is_its_end() -> None:
    # As in all servers' wrappers: there are objects that just return there.
    class Sloppy(ReadOnly):
        def read(self, size: int) -> bytes:
            return super().read(size) or None  # type: ignore[return-value]

    assert list(FileWrapper(Sloppy())) == [CONTENT]


def test_wrapper_read_set_on_a_file_is_called(path: Path) -> None:
    with path.open("rb") as file:
        inner = file.read
        file.read = lambda size=-1: inner(size).swapcase()  # type: ignore[method-assign]
        path.write_bytes(b"abc")
        assert list(FileWrapper(file)) == [b"ABC"]


def test_wrapper_close_is_that_of_its_file(path: Path) -> None:
    file = path.open("rb")
    FileWrapper(file).close()
    assert file.closed


def test_wrapper_of_a_file_without_close_has_none() -> None:
    assert not hasattr(FileWrapper(ReadOnly()), "close")


class Seekable(ReadOnly):
    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class Sequential(Seekable):
    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("make_file", "expected"),
    [
        pytest.param(lambda: io.BytesIO(CONTENT), True, id="says so"),
        pytest.param(Seekable, True, id="has seek"),
        pytest.param(Sequential, False, id="says no"),
        pytest.param(ReadOnly, False, id="has no seek"),
    ],
)
def test_wrapper_is_seekable_as_its_file(
    make_file: Callable[[], Any], expected: bool
) -> None:
    assert FileWrapper(make_file()).seekable() is expected


@pytest.mark.parametrize("make_file", [lambda: io.BytesIO(CONTENT), Seekable])
def test_wrapper_seeks_and_tells_as_its_file(make_file: Callable[[], Any]) -> None:
    wrapper = FileWrapper(make_file())
    assert (wrapper.seek(3), wrapper.tell()) == (3, 3)
    assert wrapper.seek(-2, os.SEEK_END) == 8
    assert list(wrapper) == [b"89"]


# Which files have a descriptor to trust.


def _rotated(byte: int) -> int:
    return (byte + 1) % 256


class Rotating:
    """Keeps a file as `file`, and gives other bytes than that."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        return bytes(map(_rotated, self.file.read(size)))


class RotatingByName:
    """The same, made to look like the read() that it calls."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        read = file.read

        @functools.wraps(read)
        def rotate(size: int = -1) -> bytes:
            return bytes(map(_rotated, read(size)))

        self.read = rotate


class RotatingFile(File):  # type: ignore[type-arg]
    def read(self, size: int = -1) -> bytes:
        assert self.file
        return bytes(map(_rotated, self.file.read(size)))


class RotatingFileIO(io.FileIO):
    def read(self, size: int | None = -1) -> bytes:
        return bytes(map(_rotated, super().read(size) or b""))

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        view = memoryview(buffer)[:count]
        view[:] = bytes(map(_rotated, view))
        return count


class RotatingReader(io.BufferedReader):
    def read(self, size: int | None = -1) -> bytes:
        return bytes(map(_rotated, super().read(size)))


class OwnFile(ReadOnly):
    """Is what it keeps."""

    @property
    def file(self) -> "OwnFile":
        return self


def _patched(path: Path) -> BinaryIO:
    file = path.open("rb")
    read = file.read
    file.read = lambda size=-1: bytes(map(_rotated, read(size)))  # type: ignore[method-assign]
    return file


def _patched_below(path: Path) -> BinaryIO:
    """Have a buffer read what its plain file does not give."""
    raw: Any = io.FileIO(path)
    readinto = raw.readinto

    def rotate(buffer: Any) -> int:
        count: int = readinto(buffer)
        view = memoryview(buffer)[:count]
        view[:] = bytes(map(_rotated, view))
        return count

    raw.readinto = rotate
    return io.BufferedReader(raw)


def _patched_temporary() -> Any:
    """Set a read() that is made to look like the one that it calls."""
    file: Any = _written(tempfile.NamedTemporaryFile())
    file.read = RotatingByName(file.file).read
    return file


def _written(file: Any) -> Any:
    file.write(CONTENT)
    file.seek(0)
    return file


def _read_and_write(path: Path) -> Any:
    return _written(path.open("w+b"))


def _emptied(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def _open_to_append(name: str, flags: int) -> int:
    return os.open(name, os.O_RDWR | os.O_APPEND)


TRUSTED: dict[str, Callable[[Path], Any]] = {
    "buffered": lambda path: path.open("rb"),
    "unbuffered": lambda path: path.open("rb", buffering=0),
    "read and write": lambda path: path.open("r+b"),
    "written and not flushed": _read_and_write,
    "appended to and read": lambda path: _written(_emptied(path).open("a+b")),
    "opened to append": lambda path: open(path, "rb", opener=_open_to_append),
    "by descriptor": lambda path: open(os.open(path, os.O_RDONLY), "rb"),
    "temporary": lambda path: _written(tempfile.TemporaryFile()),
    "temporary with a name": lambda path: _written(tempfile.NamedTemporaryFile()),
    "Django's": lambda path: File(path.open("rb")),
    "Django's in Django's": lambda path: File(File(path.open("rb"))),
    "Django's, temporary": lambda path: _written(File(tempfile.NamedTemporaryFile())),
}


@needs_pread
@pytest.mark.parametrize("make_file", TRUSTED.values(), ids=list(TRUSTED))
def test_part_of_a_plain_file_has_its_bytes(
    path: Path, make_file: Callable[[Path], Any]
) -> None:
    with make_file(path) as file:
        part = FilePart.of(file)
        assert part
        assert (part.offset, part.left) == (0, len(CONTENT))
    assert part.read_all(len(CONTENT)) == CONTENT


def _zip_member(path: Path) -> Any:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("member", CONTENT)
    return zipfile.ZipFile(path).open("member")


def _tar_member(path: Path) -> Any:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("member")
        info.size = len(CONTENT)
        archive.addfile(info, io.BytesIO(CONTENT))
    return tarfile.open(fileobj=io.BytesIO(path.read_bytes())).extractfile("member")


def _compressed(compress: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(compress(CONTENT))
        return path

    return write


def _pipe(path: Path, **options: Any) -> Any:
    ours, theirs = os.pipe()
    os.write(theirs, CONTENT)
    os.close(theirs)
    return open(ours, "rb", **options)


def _socket(path: Path) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(CONTENT)
        return ours.makefile("rb")


def _mapped(path: Path) -> Any:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _spooled(path: Path, max_size: int = 0) -> Any:
    return _written(tempfile.SpooledTemporaryFile(max_size))


def _gzipped(path: Path) -> Any:
    return gzip.open(_compressed(gzip.compress)(path))


UNTRUSTED: dict[str, Callable[[Path], Any]] = {
    "in memory": lambda path: io.BytesIO(CONTENT),
    "Django's in memory": lambda path: ContentFile(CONTENT),
    "spooled in memory": lambda path: _spooled(path, 100),
    "spooled on disk": lambda path: _spooled(path, 1),
    "memory map": _mapped,
    "gzip": _gzipped,
    "gzip, buffered": lambda path: io.BufferedReader(_gzipped(path)),
    "gzip in Django's": lambda path: File(_gzipped(path)),
    "bzip2": lambda path: bz2.open(_compressed(bz2.compress)(path)),
    "lzma": lambda path: lzma.open(_compressed(lzma.compress)(path)),
    "zip member": _zip_member,
    "tar member": _tar_member,
    "pipe": _pipe,
    "pipe, unbuffered": lambda path: _pipe(path, buffering=0),
    "socket": _socket,
    "only read()": lambda path: ReadOnly(),
    "its own file": lambda path: OwnFile(),
    "closed at its end": lambda path: path.open("ab+"),
}
ROTATING: dict[str, Callable[[Path], Any]] = {
    "keeps a file": lambda path: Rotating(path.open("rb")),
    "keeps a file and wraps its read()": lambda path: RotatingByName(path.open("rb")),
    "Django's, with its own read()": lambda path: RotatingFile(path.open("rb")),
    "raw file of its own kind": lambda path: RotatingFileIO(path),
    "reader of its own kind": lambda path: RotatingReader(io.FileIO(path)),
    "buffer over its own kind": lambda path: io.BufferedReader(RotatingFileIO(path)),
    "read() set on the file": _patched,
    "readinto() set on the file below": _patched_below,
    "temporary, with its own read()": lambda path: _patched_temporary(),
}


def _close(file: Any) -> None:
    for closable in (file, getattr(file, "file", None)):
        if closable is not file or not isinstance(file, OwnFile):
            getattr(closable, "close", int)()


@pytest.mark.parametrize("make_file", UNTRUSTED.values(), ids=list(UNTRUSTED))
def test_part_of_any_other_file_is_none_and_iterating_gives_its_bytes(
    path: Path, make_file: Callable[[Path], Any]
) -> None:
    file = make_file(path)
    assert FilePart.of(file) is None
    assert b"".join(FileWrapper(file)) in (CONTENT, b"")
    _close(file)


@pytest.mark.parametrize("make_file", ROTATING.values(), ids=list(ROTATING))
def test_part_of_a_file_that_changes_bytes_is_none(
    path: Path, make_file: Callable[[Path], Any]
) -> None:
    file = make_file(path)
    assert FilePart.of(file) is None
    assert b"".join(FileWrapper(file)) == bytes(map(_rotated, CONTENT))
    _close(file)


def test_part_of_a_closed_file_is_none(path: Path) -> None:
    with path.open("rb") as file:
        pass
    assert FilePart.of(file) is None


def test_part_of_a_file_for_writing_is_none(path: Path) -> None:
    with path.open("wb") as file:
        assert FilePart.of(file) is None
    with path.open("wb", buffering=0) as raw:
        assert FilePart.of(raw) is None


def test_part_of_a_text_file_is_none(path: Path) -> None:
    with path.open() as file:
        assert FilePart.of(file) is None


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no /dev/zero")
def test_part_of_a_device_is_none() -> None:
    with open("/dev/zero", "rb") as file:
        assert FilePart.of(file) is None


@needs_proc
def test_part_of_a_file_that_hides_its_size_is_none() -> None:
    # What the system makes up as it is read is said to have no bytes.
    with open("/proc/self/status", "rb") as file:
        assert FilePart.of(file) is None
        assert list(FileWrapper(file))


def made_up_files(folder: Path) -> Iterator[Path]:
    """Find files that have some bytes, and not as many as they say."""
    for found in sorted(folder.glob("*")):
        with suppress(OSError):
            status = found.stat()
            if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
                content = found.read_bytes()
                if content and len(content) != status.st_size:
                    yield found


def test_part_of_a_file_that_is_shorter_than_it_says_is_none() -> None:
    # What Linux makes up in /sys is said to have a page.
    path = next(made_up_files(Path("/sys/kernel")), None)
    if path is None:
        pytest.skip("the system makes up no such files")
    with path.open("rb") as file:
        assert FilePart.of(file) is None
        assert b"".join(FileWrapper(file)) == path.read_bytes()


@needs_pread
def test_part_of_a_file_of_holes_has_its_zeros(path: Path) -> None:
    # No more of a disk is taken by it than by those.
    path.write_bytes(b"")
    os.truncate(path, 100_000)
    with path.open("rb") as file:
        part = FilePart.of(file)
    assert part
    assert part.read_all(100_000) == bytes(100_000)


class Elsewhere(ReadOnly):
    """Has a `file` that is not there to be looked at."""

    @property
    def file(self) -> BinaryIO:
        raise ConnectionError("the other machine does not answer")


def test_part_of_an_object_that_cannot_be_looked_into_is_none() -> None:
    assert FilePart.of(Elsewhere()) is None


def test_part_without_a_descriptor_to_be_had_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", refuse)
    with path.open("rb") as file:
        assert FilePart.of(file) is None


@needs_pread
def test_part_of_a_file_that_cannot_be_flushed_is_none(path: Path) -> None:
    with path.open("r+b") as file, path.open("rb") as other:
        file.write(b"ab")
        writable = os.dup(file.fileno())
        os.dup2(other.fileno(), file.fileno())  # which fails as a full disk does
        assert FilePart.of(file) is None
        os.dup2(writable, file.fileno())
        os.close(writable)


def test_part_on_a_system_without_pread_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pread", raising=False)
    with path.open("rb") as file:
        assert FilePart.of(file) is None


# Its bytes.


@pytest.fixture
def opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        yield file


@pytest.fixture
def part(opened: BinaryIO) -> FilePart:
    part = FilePart.of(opened)
    assert part
    return part


@needs_pread
def test_part_begins_at_the_position_of_the_file(opened: BinaryIO) -> None:
    opened.read(2)
    opened.seek(1, os.SEEK_CUR)
    part = FilePart.of(opened)
    assert part
    assert (part.offset, part.left) == (3, 7)
    assert part.read_all(7) == CONTENT[3:]


@needs_pread
def test_part_and_file_do_not_move_each_other(opened: BinaryIO, part: FilePart) -> None:
    opened.seek(0, os.SEEK_END)
    assert part.read(4) == b"0123"
    assert opened.tell() == 10
    assert part.read(100) == b"456789"
    assert part.left == 0


@needs_pread
def test_part_has_what_was_written_and_is_still_in_a_buffer(path: Path) -> None:
    with path.open("r+b") as file:
        file.read(1)
        file.seek(0)
        file.write(b"ab")
        file.seek(0)  # within the buffer, which writes nothing
        part = FilePart.of(file)
        assert part
        assert part.read_all(10) == b"ab23456789"


@needs_pread
def test_part_outlives_its_file(opened: BinaryIO, part: FilePart, path: Path) -> None:
    opened.close()
    path.unlink()
    path.write_bytes(b"something else")
    assert part.read_all(10) == CONTENT


@needs_pread
def test_part_of_a_file_that_has_grown_is_as_long_as_before(
    part: FilePart, path: Path
) -> None:
    with path.open("ab") as file:
        file.write(b"more")
    assert part.read_all(part.left) == CONTENT


@needs_pread
def test_part_of_a_file_that_has_shrunk_says_so(part: FilePart, path: Path) -> None:
    os.truncate(path, 4)
    assert part.read(10) == b"0123"
    with pytest.raises(RuntimeError, match=r"file\.bin.*shorter.*before byte 4"):
        part.read(6)
    with pytest.raises(RuntimeError, match="shorter"):
        part.read_all(6)


@needs_proc
def test_part_closed_twice_closes_its_descriptor_once(
    opened: BinaryIO, part: FilePart, tmp_path: Path
) -> None:
    assert len(descriptors(tmp_path)) == 2
    part.close()
    assert len(descriptors(tmp_path)) == 1
    with open(os.devnull, "rb") as other:  # which takes the same number
        part.close()
        assert other.read() == b""


@needs_pread
def test_part_closed_cannot_be_read(part: FilePart) -> None:
    part.close()
    with pytest.raises(ValueError, match="closed"):
        part.read(1)


@needs_proc
@pytest.mark.parametrize("fails", [False, True], ids=["it is read", "it fails"])
def test_part_closed_while_a_thread_reads_is_open_until_it_has(
    part: FilePart,
    opened: BinaryIO,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: bool,
) -> None:
    read = os.pread

    def read_and_close(descriptor: int, size: int, offset: int) -> bytes:
        part.close()  # as another thread would
        assert len(descriptors(tmp_path)) == 2
        if fails:
            raise OSError(errno.EIO, "Input/output error")
        return read(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", read_and_close)
    if fails:
        with pytest.raises(OSError, match="Input/output error"):
            part.read(4)
    else:
        assert part.read(4) == b"0123"
    assert len(descriptors(tmp_path)) == 1


@needs_proc
def test_part_forgotten_closes_its_descriptor(opened: BinaryIO, tmp_path: Path) -> None:
    part = FilePart.of(opened)
    assert len(descriptors(tmp_path)) == 2
    del part
    assert len(descriptors(tmp_path)) == 1


@needs_proc
def test_part_is_not_passed_on_to_programs_that_are_started(
    part: FilePart, path: Path
) -> None:
    # Else one that goes on for long would keep a file open that was deleted.
    script = f"""
from pathlib import Path
from tests.test_files import descriptors

assert descriptors(Path({str(path.parent)!r})) == []
"""
    subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, close_fds=False, check=True
    )
    assert part.read_all(10) == CONTENT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_part_in_a_forked_process_is_read_apart(path: Path) -> None:
    # In a process of its own, since this one may have threads.
    script = f"""
import os
from wsgi_asgi._files import FilePart

with open({str(path)!r}, "rb") as file:
    part = FilePart.of(file)
part.read(2)
child = os.fork()
if not child:
    right = part.read(3) == b"234"
    part.close()
    os._exit(not right)
_, status = os.waitpid(child, 0)
assert status == 0
assert part.read_all(part.left) == b"23456789"
"""
    run_process(script)


@needs_proc
def test_part_refused_closes_its_descriptor(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"")
    with path.open("rb") as file:
        assert FilePart.of(file) is None
        assert len(descriptors(tmp_path)) == 1


# Bytes in memory.


def test_read_cached_gives_the_bytes_or_none(part: FilePart) -> None:
    block = part.read_cached(4)
    # A file system need not be able to tell.
    assert block in (b"0123", None)
    assert part.offset == len(block or b"")


def _fake_cache(monkeypatch: pytest.MonkeyPatch, *answers: bytes | OSError) -> None:
    """Have the system answer a reader that does not want to wait."""
    script = iter(answers)

    def read(descriptor: int, buffers: list[bytearray], offset: int, flag: int) -> int:
        answer = next(script)
        if isinstance(answer, OSError):
            raise answer
        buffers[0][: len(answer)] = answer
        return len(answer)

    monkeypatch.setattr("wsgi_asgi._files._NO_WAIT", 8)
    monkeypatch.setattr(os, "preadv", read, raising=False)


def test_read_cached_part_of_a_block_gives_that(
    part: FilePart, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_cache(monkeypatch, b"01", b"23")
    assert (part.read_cached(10), part.read_cached(10)) == (b"01", b"23")
    assert (part.offset, part.left) == (4, 6)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(BlockingIOError(errno.EAGAIN, "not in memory"), id="on disk"),
        pytest.param(OSError(errno.EOPNOTSUPP, "cannot tell"), id="not supported"),
        # Linux 5.9 and 5.10 say so in the middle of a file: preadv(2), Bugs.
        pytest.param(b"", id="end of the file"),
    ],
)
def test_read_cached_not_known_to_be_in_memory_gives_none(
    part: FilePart, monkeypatch: pytest.MonkeyPatch, answer: bytes | OSError
) -> None:
    _fake_cache(monkeypatch, answer)
    assert part.read_cached(10) is None
    assert part.read(10) == CONTENT


def test_read_cached_on_a_system_that_always_waits_gives_none(
    part: FilePart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsgi_asgi._files._NO_WAIT", None)
    assert part.read_cached(10) is None
