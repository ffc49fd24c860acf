"""A Flask application that shows what its adapter carries. Run: make run"""

import sys

from examples.showcase.site import flask_app
from wsgi_asgi import WsgiToAsgi


def announce() -> None:
    sys.stderr.write("Showcase: open the address that the server prints below.\n")


app = WsgiToAsgi(flask_app, on_startup=[announce])
flask_app.extensions["adapter"] = app
