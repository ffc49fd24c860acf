"""A Pyramid application. Run: uvicorn examples.pyramid_app:app"""

from pyramid.config import Configurator  # type: ignore[import-untyped]  # has no types
from pyramid.request import Request  # type: ignore[import-untyped]  # has no types
from pyramid.response import Response  # type: ignore[import-untyped]  # has no types

from wsgi_asgi import WsgiToAsgi


def hello(request: Request) -> Response:
    return Response(f"Hello from Pyramid, {request.matchdict['name']}\n")


with Configurator() as config:
    config.add_route("hello", "/hello/{name}")
    config.add_view(hello, route_name="hello")

app = WsgiToAsgi(config.make_wsgi_app())
