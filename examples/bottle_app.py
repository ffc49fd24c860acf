"""A Bottle application. Run: uvicorn examples.bottle_app:app"""

from bottle import Bottle  # type: ignore[import-untyped]  # Bottle has no types

from wsgi_asgi import WsgiToAsgi


def hello(name: str) -> str:
    return f"Hello from Bottle, {name}\n"


bottle_app = Bottle()
bottle_app.route("/hello/<name>", callback=hello)

app = WsgiToAsgi(bottle_app)
