"""Flask beside a FastAPI interface. Run: uvicorn examples.fastapi_mount:app"""

from fastapi import FastAPI
from flask import Flask

from wsgi_asgi import WsgiToAsgi

flask_app = Flask(__name__)


@flask_app.get("/")
def hello() -> str:
    return "Hello from Flask\n"


app = FastAPI()


@app.get("/api/ping")
async def ping() -> dict[str, str]:
    return {"ping": "pong"}


# Last, since a mount at the root takes every path that no route before it took.
app.mount("/", WsgiToAsgi(flask_app))
