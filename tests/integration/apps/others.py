"""The smaller frameworks: in each one route with GET and POST, and three for uploads.

These are the fields of a form, the file of a form, and a body of any other kind.
"""

import hashlib
from typing import Any

import bottle  # type: ignore[import-untyped]
import cherrypy  # type: ignore[import-untyped]
import falcon
from falcon.media.multipart import MultipartForm
from pyramid.config import Configurator  # type: ignore[import-untyped]
from webob import Request

from wsgi_asgi import WsgiToAsgi


def told(content: bytes, name: str | None = None) -> dict[str, object]:
    """Say what was uploaded."""
    sha256 = hashlib.sha256(content).hexdigest()
    answer: dict[str, object] = {"sha256": sha256, "bytes": len(content)}
    return answer if name is None else answer | {"name": name}


def bottle_get(name: str) -> dict[str, str]:
    return {"framework": "bottle", "name": name}


def bottle_post(name: str) -> dict[str, str]:
    return {"framework": "bottle", "name": name, "word": bottle.request.forms.word}


def bottle_form() -> dict[str, object]:
    return {"word": [bottle.request.forms.word]}


def bottle_upload() -> dict[str, object]:
    upload = bottle.request.files["file"]
    return told(upload.file.read(), upload.raw_filename)


def bottle_raw() -> dict[str, object]:
    return told(bottle.request.body.read())


bottle_site = bottle.Bottle()
bottle_site.route("/greet/<name>", "GET", bottle_get)
bottle_site.route("/greet/<name>", "POST", bottle_post)
bottle_site.route("/form", "POST", bottle_form)
bottle_site.route("/upload", "POST", bottle_upload)
bottle_site.route("/raw", "POST", bottle_raw)


def pyramid_view(request: Request) -> dict[str, str]:
    answer = {"framework": "pyramid", "name": request.matchdict["name"]}
    if request.method == "POST":
        answer["word"] = str(request.params["word"])
    return answer


def pyramid_form(request: Request) -> dict[str, object]:
    fields: Any = request.POST
    return {"word": fields.getall("word")}


def pyramid_upload(request: Request) -> dict[str, object]:
    fields: Any = request.POST
    upload = fields["file"]
    return told(upload.file.read(), upload.filename)


def pyramid_raw(request: Request) -> dict[str, object]:
    return told(request.body)


with Configurator() as configurator:
    for route, path, view in (
        ("greet", "/greet/{name}", pyramid_view),
        ("form", "/form", pyramid_form),
        ("upload", "/upload", pyramid_upload),
        ("raw", "/raw", pyramid_raw),
    ):
        configurator.add_route(route, path)
        configurator.add_view(view, route_name=route, renderer="json")
    pyramid_site = configurator.make_wsgi_app()


class Greeting:
    def on_get(self, _: falcon.Request, response: falcon.Response, name: str) -> None:
        response.media = {"framework": "falcon", "name": name}

    def on_post(
        self, request: falcon.Request, response: falcon.Response, name: str
    ) -> None:
        word = request.get_media()["word"]
        response.media = {"framework": "falcon", "name": name, "word": word}


class FalconUploads:
    def on_post_form(self, request: falcon.Request, response: falcon.Response) -> None:
        response.media = {"word": [request.get_media()["word"]]}

    def on_post_upload(
        self, request: falcon.Request, response: falcon.Response
    ) -> None:
        form: MultipartForm = request.get_media()
        for part in form:
            response.media = told(part.stream.read(), part.filename)

    def on_post_raw(self, request: falcon.Request, response: falcon.Response) -> None:
        # Not `stream`, which is the server's own.
        response.media = told(request.bounded_stream.read())


falcon_site: falcon.App[falcon.Request, falcon.Response] = falcon.App()
falcon_site.add_route("/greet/{name}", Greeting())
falcon_uploads = FalconUploads()
for suffix in ("form", "upload", "raw"):
    falcon_site.add_route(f"/{suffix}", falcon_uploads, suffix=suffix)


class CherryPyUploads:
    @cherrypy.expose
    @cherrypy.tools.json_out()
    def form(self, word: str, key: str) -> dict[str, object]:
        return {"word": [word]}

    @cherrypy.expose
    @cherrypy.tools.json_out()
    def upload(self, file: Any, key: str) -> dict[str, object]:
        return told(file.file.read(), file.filename)

    @cherrypy.expose
    @cherrypy.tools.json_out()
    def raw(self, key: str) -> dict[str, object]:
        return told(cherrypy.request.body.read())


cherrypy.config.update({"environment": "embedded", "log.screen": False})
cherrypy_site = cherrypy.Application(CherryPyUploads(), "")

bottle_app = WsgiToAsgi(bottle_site)
pyramid_app = WsgiToAsgi(pyramid_site)
falcon_app = WsgiToAsgi(falcon_site)
cherrypy_app = WsgiToAsgi(cherrypy_site)
cherrypy_streaming = WsgiToAsgi(cherrypy_site, spool=False)
