"""Open at the start, close at the end. Run: uvicorn examples.lifespan_hooks:app"""

import tempfile

from flask import Flask

from wsgi_asgi import WsgiToAsgi

flask_app = Flask(__name__)


def make_folder() -> None:
    flask_app.extensions["folder"] = tempfile.TemporaryDirectory()


def remove_folder() -> None:
    flask_app.extensions["folder"].cleanup()


@flask_app.get("/")
def show_folder() -> str:
    return str(flask_app.extensions["folder"].name)


app = WsgiToAsgi(flask_app, on_startup=[make_folder], on_shutdown=[remove_folder])
