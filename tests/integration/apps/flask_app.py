"""A Flask application, as a project would write it."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from flask import (
    Flask,
    Response,
    g,
    jsonify,
    make_response,
    request,
    session,
    stream_with_context,
    url_for,
)
from flask import send_file as flask_send_file
from werkzeug.wrappers import Response as AnyResponse

from tests.integration.apps import context, journal, payload, plain
from wsgi_asgi import WsgiToAsgi

DIRECTORY = Path(os.environ.get("INTEGRATION_DIRECTORY", "."))

flask = Flask(__name__)
flask.secret_key = "only for tests"


@flask.before_request
def keep_key() -> None:
    g.key = request.args.get("key", "")


@flask.teardown_request
def note_teardown(error: BaseException | None) -> None:
    journal.note(g.get("key", ""), "teardown")


@flask.get("/where/<name>")
def where(name: str) -> AnyResponse:
    return jsonify(
        path=request.path,
        root=request.script_root,
        link=url_for("where", name=name),
        external=url_for("where", name=name, _external=True),
    )


@flask.post("/form")
def form() -> AnyResponse:
    return jsonify(request.form.to_dict(flat=False))


@flask.post("/upload")
def upload() -> AnyResponse:
    """Store the file of a form, then answer with its checksum."""
    file = request.files["file"]
    path = DIRECTORY / f"flask-{g.key}"
    file.save(path)
    journal.note(g.key, "stored")
    content = path.read_bytes()
    path.unlink()
    sha256 = hashlib.sha256(content).hexdigest()
    return jsonify(sha256=sha256, bytes=len(content), name=file.filename)


@flask.post("/raw")
def raw() -> AnyResponse:
    content = request.get_data()
    return jsonify(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


@flask.get("/stream")
def stream() -> Response:
    return Response(payload.blocks(request.args.get("bytes", type=int, default=0)))


@flask.get("/file")
def file() -> Response:
    return flask_send_file(DIRECTORY / "download.bin")


@flask.get("/events")
def events() -> Response:
    """Send events until the client leaves."""
    key = g.key

    def ticks() -> Iterator[str]:
        try:
            while True:
                yield f"data: {request.path}\n\n"
                plain.pause()
        finally:
            journal.note(key, "closed")

    return Response(stream_with_context(ticks()), mimetype="text/event-stream")


@flask.get("/cookies")
def cookies() -> Response:
    return jsonify(request.cookies.to_dict())


@flask.get("/set-cookies")
def set_cookies() -> Response:
    response = make_response("set")
    response.set_cookie("one", "1", max_age=60)
    response.set_cookie("two", "2")
    session["visits"] = session.get("visits", 0) + 1
    return response


@flask.get("/session")
def show_session() -> Response:
    return jsonify(visits=session.get("visits", 0))


@flask.get("/context")
async def show_context() -> Response:
    return jsonify(await context.seen_in_async_code())


app = WsgiToAsgi(flask)
streaming = WsgiToAsgi(flask, spool=False)
narrow = WsgiToAsgi(flask, threads=4)
