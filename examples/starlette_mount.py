"""Flask below /old of a Starlette site. Run: uvicorn examples.starlette_mount:app"""

from flask import Flask, url_for
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from wsgi_asgi import WsgiToAsgi

flask_app = Flask(__name__)


@flask_app.get("/hello")
def hello() -> str:
    return f"This page is {url_for('hello')}\n"


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("Hello from Starlette\n")


app = Starlette(routes=[Route("/", home), Mount("/old", WsgiToAsgi(flask_app))])
