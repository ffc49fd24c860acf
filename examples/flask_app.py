"""A Flask application. Run: uvicorn examples.flask_app:app"""

from flask import Flask, request

from wsgi_asgi import WsgiToAsgi

flask_app = Flask(__name__)


@flask_app.get("/")
def hello() -> str:
    return f"Hello from Flask, {request.remote_addr}\n"


app = WsgiToAsgi(flask_app)
