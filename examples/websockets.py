"""A WebSocket of Flask's. Run: uvicorn examples.websockets:app"""

from flask import Flask
from flask_sock import Sock
from simple_websocket import Server

from wsgi_asgi import WsgiToAsgi

flask_app = Flask(__name__)
sock = Sock(flask_app)


@flask_app.get("/")
def page() -> str:
    return "Connect to /echo\n"


def echo(ws: Server) -> None:
    while True:
        ws.send(ws.receive())


sock.route("/echo")(echo)

app = WsgiToAsgi(flask_app)
