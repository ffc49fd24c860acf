"""Files: one as each framework sends it, and plain ones that do not stay as they are.

Each server has its own folder of them, where a plain request makes one by its key.
"""

import os
import tempfile
from collections.abc import Callable
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

from tests.integration.apps import payload
from wsgi_asgi import Limits, WsgiToAsgi

FILES = Path(os.environ.get("INTEGRATION_DIRECTORY", ".")).resolve() / "files"
THREADS = 8
SHUTDOWN_S = 1.0


def make_file() -> None:
    FILES.mkdir(exist_ok=True)
    with (FILES / payload.FILE_NAME).open("wb") as file:
        file.writelines(payload.blocks(payload.FILE_BYTES))


# The frameworks.

flask_site = flask.Flask(__name__)


@flask_site.get("/send_file/<name>")
def send_file(name: str) -> flask.Response:
    return flask.send_file(FILES / name)


@flask_site.get("/send_from_directory/<name>")
def send_from_directory(name: str) -> flask.Response:
    return flask.send_from_directory(FILES, name)


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


def made(path: Path, size: int) -> Any:
    """Open a file that this request makes, all zeros, for others to change."""
    with path.open("wb") as file:
        file.truncate(size)
    return path.open("rb")


def removed(path: Path, size: int) -> Any:
    """Open a file that is removed as soon as it is closed."""
    path.hardlink_to(FILES / payload.FILE_NAME)
    file = path.open("rb")
    close = file.close

    def remove() -> None:
        close()
        path.unlink()

    file.close = remove  # type: ignore[method-assign]  # as Django does
    return file


def filled(file: Any) -> Any:
    for block in payload.blocks(payload.FILE_BYTES):
        file.write(block)
    file.seek(0)
    return file


def temporary(path: Path, size: int) -> Any:
    return filled(tempfile.TemporaryFile())


def temporary_with_a_name(path: Path, size: int) -> Any:
    return filled(tempfile.NamedTemporaryFile())


def spooled(path: Path, size: int) -> Any:
    return filled(tempfile.SpooledTemporaryFile(1000))


OPENERS: dict[str, Callable[[Path, int], Any]] = {
    "/whole": whole,
    "/made": made,
    "/removed": removed,
    "/temporary": temporary,
    "/temporary-with-a-name": temporary_with_a_name,
    "/spooled": spooled,
}


def change(path: Path, how: str) -> None:
    """Do something to a file that is being sent."""
    if how == "shrink":
        os.truncate(path, 1000)
    else:
        with path.open("ab") as file:
            file.write(b"more")
        path.rename(path.with_suffix(".moved"))
        path.with_suffix(".moved").unlink()


def descriptors(path: Path) -> int:
    """Count how often this process has a file open, whatever has become of it."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(entry))
        except FileNotFoundError:
            continue
    return sum(link.startswith(str(path)) for link in links)


def plain_site(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    path = FILES / query.get("key", "none")
    if opener := OPENERS.get(environ["PATH_INFO"]):
        file = opener(path, int(query.get("bytes", payload.CHANGED_BYTES)))
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return environ["wsgi.file_wrapper"](file)
    if how := query.get("change"):
        change(path, how)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % descriptors(path)]


def not_found(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"not found"]


make_file()
whitenoise_site: WSGIApplication = WhiteNoise(not_found, root=FILES)

flask_app = WsgiToAsgi(flask_site)
bottle_app = WsgiToAsgi(bottle_site)
pyramid_app = WsgiToAsgi(pyramid_site)
whitenoise_app = WsgiToAsgi(whitenoise_site)
plain_app = WsgiToAsgi(plain_site, threads=THREADS)
ending = WsgiToAsgi(plain_site, limits=Limits(shutdown_timeout=SHUTDOWN_S))
