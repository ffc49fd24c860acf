"""Files: one as each framework sends it, and plain ones that do not stay as they are.

Each server has its own folder of them, where a plain request makes one by its key.
"""

import io
import itertools
import os
import tarfile
import tempfile
import threading
import zipfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import bottle  # type: ignore[import-untyped]
import flask
from pyramid.config import Configurator  # type: ignore[import-untyped]
from pyramid.response import FileResponse  # type: ignore[import-untyped]
from webob import Request
from whitenoise import WhiteNoise  # type: ignore[import-untyped]

from tests.integration.apps import journal, payload
from tests.integration.apps.stored import Stored
from wsgi_asgi import Limits, WsgiToAsgi

FILES = Path(os.environ.get("INTEGRATION_DIRECTORY", ".")).resolve() / "files"
THREADS = 8
SHUTDOWN_S = 1.0
WAIT_S = 20.0

_gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)
_versions = itertools.count()


def make_files() -> None:
    FILES.mkdir(exist_ok=True)
    path = FILES / payload.FILE_NAME
    write(path, payload.FILE_BYTES)
    write(FILES / payload.LARGE_NAME, payload.CHANGED_BYTES)
    with zipfile.ZipFile(
        FILES / "members.zip", "w", zipfile.ZIP_DEFLATED, True, 1
    ) as a:
        a.write(path, payload.FILE_NAME)
    with tarfile.open(FILES / "members.tar", "w") as b:
        b.add(path, payload.FILE_NAME)


def write(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.writelines(payload.blocks(size))


# The frameworks.

flask_site = flask.Flask(__name__)


@flask_site.get("/send_file/<name>")
def send_file(name: str) -> flask.Response:
    return flask.send_file(FILES / name)


@flask_site.get("/send_from_directory/<name>")
def send_from_directory(name: str) -> flask.Response:
    return flask.send_from_directory(FILES, name)


@flask_site.get("/send_temporary")
def send_temporary() -> flask.Response:
    file = temporary_with_a_name(FILES, 0)
    return flask.send_file(file, mimetype="application/octet-stream")


bottle_site = bottle.Bottle()


@bottle_site.get("/<name>")  # type: ignore[untyped-decorator]
def send_static_file(name: str) -> Any:
    return bottle.static_file(name, root=FILES)


def pyramid_view(request: Request) -> Any:
    return FileResponse(FILES / request.matchdict["name"], request=request)


with Configurator() as configurator:
    configurator.add_route("file", "/{name}")
    configurator.add_view(pyramid_view, route_name="file")
    pyramid_site = configurator.make_wsgi_app()


# Without a framework.


def whole(path: Path, size: int) -> Any:
    return (FILES / payload.FILE_NAME).open("rb")


def large(path: Path, size: int) -> Any:
    return (FILES / payload.LARGE_NAME).open("rb")


def made(path: Path, size: int) -> Any:
    """Open a file that this request makes, all zeros, for others to change."""
    with path.open("wb") as file:
        file.truncate(size)
    return path.open("rb")


def written(path: Path, size: int) -> Any:
    """The same with bytes that differ."""
    write(path, size)
    return path.open("rb")


def replaced(path: Path, size: int) -> Any:
    """Open a file that each such request replaces by its next version."""
    version = next(_versions)
    other = path.with_suffix(f".{version}")
    other.write_bytes(payload.version(version))
    other.replace(FILES / "replaced")
    return (FILES / "replaced").open("rb")


def filled(file: Any) -> Any:
    file.writelines(payload.blocks(payload.FILE_BYTES))
    file.seek(0)
    return file


def in_memory(path: Path, size: int) -> Any:
    return filled(io.BytesIO())


def temporary(path: Path, size: int) -> Any:
    return filled(tempfile.TemporaryFile())


def temporary_with_a_name(path: Path, size: int) -> Any:
    return filled(tempfile.NamedTemporaryFile())


def spooled(path: Path, size: int) -> Any:
    return filled(tempfile.SpooledTemporaryFile(1000))


def zip_member(path: Path, size: int) -> Any:
    return zipfile.ZipFile(FILES / "members.zip").open(payload.FILE_NAME)


def tar_member(path: Path, size: int) -> Any:
    return tarfile.open(FILES / "members.tar").extractfile(payload.FILE_NAME)


def fifo(path: Path, size: int) -> Any:
    """Open a pipe with a name, which a thread fills."""

    def fill() -> None:
        with suppress(BrokenPipeError):
            write(path, size)

    os.mkfifo(path)
    threading.Thread(target=fill).start()
    file = path.open("rb")
    path.unlink()
    return file


def stored(path: Path, size: int) -> Any:
    return Stored(path.name, size)


OPENERS: dict[str, Callable[[Path, int], Any]] = {
    "/whole": whole,
    "/large": large,
    "/made": made,
    "/written": written,
    "/replaced": replaced,
    "/temporary": temporary,
    "/temporary-with-a-name": temporary_with_a_name,
    "/spooled": spooled,
    "/memory": in_memory,
    "/zip-member": zip_member,
    "/tar-member": tar_member,
    "/stored": stored,
    "/fifo": fifo,
}


def replace(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(b"something else")
    other.replace(path)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def fail(path: Path) -> None:
    raise OSError(f"{path.name} would not close")


# What can be done to a file as it is closed, or while it is sent.
CHANGES: dict[str, Callable[[Path], object]] = {
    "rename": lambda path: path.rename(path.with_suffix(".moved")),
    "delete": os.unlink,
    "replace": replace,
    "append": append,
    "shrink": lambda path: os.truncate(path, 1000),
    "fail": fail,
    "go on": lambda path: _gates[path.name].set(),
}


def note_close(file: Any, path: Path, at_close: str) -> None:
    close = file.close

    def note_and_close() -> None:
        journal.note(path.name, "closed")
        close()
        if at_close:
            CHANGES[at_close](path)

    file.close = note_and_close  # as Django does


def descriptors(path: Path) -> int:
    """Count how often this process has a file open, whatever has become of it."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(entry))
        except FileNotFoundError:
            continue
    return sum(link.startswith(str(path)) for link in links)


def send(
    file: Any, path: Path, query: dict[str, str], environ: Any, start_response: Any
) -> Any:
    """Answer with a file, from where, as far as and with what the query says."""
    note_close(file, path, query.get("at_close", ""))
    if after := query.get("after"):
        file.read(int(after))
    headers = [("Content-Type", "application/octet-stream")]
    if length := query.get("length"):
        headers.append(("Content-Length", length))
    head = query.get("head", "").encode()
    journal.note(path.name, "called")
    if "waits" in query:
        _gates[path.name].wait(WAIT_S)
    write = start_response("200 OK", headers)
    if head:
        write(head)
    return environ["wsgi.file_wrapper"](file, 4096)


def plain_site(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    path = FILES / query.get("key", "none")
    if name := query.get("system"):
        return send(open(name, "rb"), path, query, environ, start_response)
    if opener := OPENERS.get(environ["PATH_INFO"]):
        file = opener(path, int(query.get("bytes", payload.FILE_BYTES)))
        return send(file, path, query, environ, start_response)
    if how := query.get("change"):
        CHANGES[how](path)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % descriptors(path)]


def not_found(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"not found"]


make_files()
whitenoise_site: WSGIApplication = WhiteNoise(not_found, root=FILES)

flask_app = WsgiToAsgi(flask_site)
bottle_app = WsgiToAsgi(bottle_site)
pyramid_app = WsgiToAsgi(pyramid_site)
whitenoise_app = WsgiToAsgi(whitenoise_site)
plain_app = WsgiToAsgi(plain_site, threads=THREADS)
ending = WsgiToAsgi(plain_site, limits=Limits(shutdown_timeout=SHUTDOWN_S))
