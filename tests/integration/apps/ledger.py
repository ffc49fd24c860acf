"""A Flask application as people test them: made by a factory, bound to a thread."""

import sqlite3
from collections.abc import Iterator

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    flash,
    g,
    get_flashed_messages,
    jsonify,
    redirect,
    render_template_string,
    request,
    session,
    stream_with_context,
    url_for,
)
from flask.typing import ResponseReturnValue

pages = Blueprint("pages", __name__)

FORM = """
{{ get_flashed_messages()|join(", ") }}
<form method="post" action="{{ url_for('.entries') }}"><input name="text"></form>
{% for text in texts %}<p>{{ text }}</p>{% endfor %}
"""


def make_app(database: sqlite3.Connection, **config: object) -> Flask:
    """Make the application; sqlite3 refuses the connection in other threads."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY="only for tests", TESTING=True, **config)
    app.extensions["database"] = database
    app.register_blueprint(pages)
    app.register_blueprint(pages, url_prefix="/api", name="api")
    return app


def texts() -> list[str]:
    rows = current_app.extensions["database"].execute("SELECT text FROM entry")
    return [text for (text,) in rows]


@pages.route("/entries", methods=["GET", "POST"])
def entries() -> ResponseReturnValue:
    if request.method == "GET":
        return render_template_string(FORM, texts=texts())
    g.text = text = request.form["text"]
    current_app.extensions["database"].execute("INSERT INTO entry VALUES (?)", [text])
    flash(f"{text} is stored")
    return redirect(url_for(".entries"), 303)


@pages.post("/login")
def log_in() -> ResponseReturnValue:
    session["user"] = request.form["user"]
    response = redirect(url_for(".me"))
    response.set_cookie("seen", "yes", max_age=60, httponly=True)
    return response


@pages.get("/me")
def me() -> ResponseReturnValue:
    if "user" not in session:
        abort(401)
    return jsonify(user=session["user"], cookies=sorted(request.cookies))


@pages.get("/messages")
def messages() -> ResponseReturnValue:
    return jsonify(get_flashed_messages())


@pages.get("/environ")
def environ() -> ResponseReturnValue:
    names = request.args.getlist("name")
    return jsonify({name: request.environ.get(name) for name in names})


@pages.put("/echo")
def echo() -> ResponseReturnValue:
    return jsonify(got=request.get_json(), method=request.method)


@pages.get("/fail")
def fail() -> ResponseReturnValue:
    raise LookupError("the view fails")


@pages.get("/teapot")
def teapot() -> ResponseReturnValue:
    return Response("tea", "418 Tea Only", {"X-Tea": "yes"})


@pages.get("/numbers")
def numbers() -> ResponseReturnValue:
    """Count, up to a number or for ever, and note how it ends."""
    end = request.args.get("end", type=int)
    closed: list[str] = current_app.extensions.setdefault("closed", [])

    def count() -> Iterator[str]:
        number = 0
        try:
            while number != end:
                number += 1
                yield f"{request.path} {number}\n"
            if "fail" in request.args:
                raise LookupError("the stream fails")
        finally:
            closed.append(request.path)

    return Response(stream_with_context(count()), mimetype="text/plain")
