"""The smaller frameworks: one route with GET and POST in each."""

import bottle  # type: ignore[import-untyped]
import falcon
from pyramid.config import Configurator  # type: ignore[import-untyped]
from webob import Request

from wsgi_asgi import WsgiToAsgi


def bottle_get(name: str) -> dict[str, str]:
    return {"framework": "bottle", "name": name}


def bottle_post(name: str) -> dict[str, str]:
    return {"framework": "bottle", "name": name, "word": bottle.request.forms.word}


bottle_site = bottle.Bottle()
bottle_site.route("/greet/<name>", "GET", bottle_get)
bottle_site.route("/greet/<name>", "POST", bottle_post)


def pyramid_view(request: Request) -> dict[str, str]:
    answer = {"framework": "pyramid", "name": request.matchdict["name"]}
    if request.method == "POST":
        answer["word"] = str(request.params["word"])
    return answer


with Configurator() as configurator:
    configurator.add_route("greet", "/greet/{name}")
    configurator.add_view(pyramid_view, route_name="greet", renderer="json")
    pyramid_site = configurator.make_wsgi_app()


class Greeting:
    def on_get(self, _: falcon.Request, response: falcon.Response, name: str) -> None:
        response.media = {"framework": "falcon", "name": name}

    def on_post(
        self, request: falcon.Request, response: falcon.Response, name: str
    ) -> None:
        word = request.get_media()["word"]
        response.media = {"framework": "falcon", "name": name, "word": word}


falcon_site: falcon.App[falcon.Request, falcon.Response] = falcon.App()
falcon_site.add_route("/greet/{name}", Greeting())

bottle_app = WsgiToAsgi(bottle_site)
pyramid_app = WsgiToAsgi(pyramid_site)
falcon_app = WsgiToAsgi(falcon_site)
