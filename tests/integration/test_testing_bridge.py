"""Test suites of real applications give the same with and without the adapter."""

import hashlib
import io
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from wsgiref.types import WSGIApplication

import pytest
from flask import Flask, g, request, session
from flask import testing as flask_testing
from werkzeug.test import Client

from conformance.live.processes import ROOT
from tests.integration.apps import flask_app, ledger, payload
from wsgi_asgi.testing import through_asgi

SETTINGS = "tests.integration.apps.django_project.settings"

Wrap = Callable[[WSGIApplication], WSGIApplication]


def streaming(application: WSGIApplication) -> WSGIApplication:
    return through_asgi(application, stream=True)


def plain(application: WSGIApplication) -> WSGIApplication:
    return application


@pytest.fixture(params=[plain, through_asgi], ids=["plain", "through ASGI"])
def wrap(request: pytest.FixtureRequest) -> Wrap:
    return request.param  # type: ignore[no-any-return]  # pytest's is Any


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE entry (text)")
        yield database


@pytest.fixture
def app(wrap: Wrap, database: sqlite3.Connection) -> Flask:
    app = ledger.make_app(database)
    app.wsgi_app = wrap(app.wsgi_app)  # type: ignore[assignment,method-assign]  # as Flask's docs have it
    return app


@pytest.fixture
def client(app: Flask) -> flask_testing.FlaskClient:
    return app.test_client()


@pytest.fixture
def site(wrap: Wrap) -> Client:
    """The application of the tests on servers, with Werkzeug's own client."""
    return Client(wrap(flask_app.flask))


def test_flask_form_is_stored_by_the_connection_of_the_test(
    client: flask_testing.FlaskClient, database: sqlite3.Connection
) -> None:
    database.execute("INSERT INTO entry VALUES ('by the test')")
    response = client.post("/entries", data={"text": "café"}, follow_redirects=True)

    assert (response.status, response.request.path) == ("200 OK", "/entries")
    assert [entry.status for entry in response.history] == ["303 SEE OTHER"]
    assert "café is stored" in response.text
    assert "<p>by the test</p><p>café</p>" in response.text.replace("\n", "")
    assert database.in_transaction


def test_flask_session_can_be_set_and_is_kept(
    client: flask_testing.FlaskClient,
) -> None:
    assert client.get("/me").status_code == 401
    with client.session_transaction() as transaction:
        transaction["user"] = "ada"
    assert client.get("/me").json == {"user": "ada", "cookies": ["session"]}

    response = client.post("/login", data={"user": "grace"}, follow_redirects=True)
    assert response.json == {"user": "grace", "cookies": ["seen", "session"]}
    with client.session_transaction() as transaction:
        assert transaction["user"] == "grace"


def test_flask_cookies_keep_their_attributes(
    client: flask_testing.FlaskClient,
) -> None:
    response = client.post("/login", data={"user": "ada"})

    assert len(response.headers.getlist("Set-Cookie")) == 2
    cookie = client.get_cookie("seen")
    assert cookie
    assert (cookie.value, cookie.max_age, cookie.http_only) == ("yes", 60, True)


def test_flask_context_is_preserved_in_a_block(
    client: flask_testing.FlaskClient,
) -> None:
    with client:
        client.post("/entries", data={"text": "kept"})
        assert g.text == "kept"
        assert request.path == "/entries"
        assert session["_flashes"]
        client.get("/messages")
        assert "text" not in g
    with pytest.raises(RuntimeError, match="request context"):
        request.path  # noqa: B018  # a look is enough


def test_flask_application_context_of_the_test_is_shared(
    app: Flask, client: flask_testing.FlaskClient
) -> None:
    with app.app_context():
        client.post("/entries", data={"text": "shared"})
        assert g.text == "shared"


def test_flask_request_context_is_not_affected(app: Flask) -> None:
    with app.test_request_context("/entries?a=1", method="POST"):
        assert (request.method, request.args["a"]) == ("POST", "1")
        assert app.preprocess_request() is None


def test_flask_error_of_a_view_is_raised(client: flask_testing.FlaskClient) -> None:
    with pytest.raises(LookupError, match="the view fails"):
        client.get("/fail")


def test_flask_error_page_is_given_where_errors_are_not_propagated(
    app: Flask, client: flask_testing.FlaskClient
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    response = client.get("/fail")

    assert response.status == "500 INTERNAL SERVER ERROR"
    assert "<h1>Internal Server Error</h1>" in response.text


def test_flask_missing_page_is_404(client: flask_testing.FlaskClient) -> None:
    response = client.get("/missing")

    assert response.status == "404 NOT FOUND"
    assert "<h1>Not Found</h1>" in response.text


def test_flask_status_and_headers_are_spelled_as_by_the_view(
    client: flask_testing.FlaskClient,
) -> None:
    response = client.get("/teapot")

    assert response.status == "418 Tea Only"
    assert sorted(response.headers) == [
        ("Content-Length", "3"),
        ("Content-Type", "text/html; charset=utf-8"),
        ("X-Tea", "yes"),
    ]


def test_flask_json_makes_the_round(client: flask_testing.FlaskClient) -> None:
    response = client.put("/echo", json={"a": [1, "é", None]})

    assert response.json == {"got": {"a": [1, "é", None]}, "method": "PUT"}


def test_flask_head_has_headers_and_no_body(
    client: flask_testing.FlaskClient,
) -> None:
    response = client.head("/teapot")

    assert (response.data, response.content_length) == (b"", 3)


def test_flask_method_that_is_not_allowed_is_405(
    client: flask_testing.FlaskClient,
) -> None:
    response = client.delete("/echo")

    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == {"PUT", "OPTIONS"}


def test_flask_environ_of_the_client_arrives(
    client: flask_testing.FlaskClient,
) -> None:
    names = ["REMOTE_USER", "REMOTE_ADDR", "HTTP_X_TAG", "wsgi.url_scheme"]
    response = client.get(
        "/environ",
        query_string={"name": names},
        headers={"X-Tag": "a"},
        base_url="https://shop.example/root",
        environ_overrides={"REMOTE_USER": "ada", "REMOTE_ADDR": "192.0.2.1"},
    )

    assert response.json == dict(zip(names, ["ada", "192.0.2.1", "a", "https"]))  # noqa: B905  # as many


def test_flask_stream_is_given_whole(
    app: Flask, client: flask_testing.FlaskClient
) -> None:
    response = client.get("/numbers?end=3")

    assert response.is_streamed
    assert response.text == "/numbers 1\n/numbers 2\n/numbers 3\n"
    assert app.extensions["closed"] == ["/numbers"]


def test_flask_error_in_a_stream_is_raised_where_it_is_read(
    client: flask_testing.FlaskClient,
) -> None:
    chunks = iter(client.get("/numbers?end=1&fail").response)

    assert next(chunks) == b"/numbers 1\n"
    with pytest.raises(LookupError, match="the stream fails"):
        next(chunks)


@pytest.mark.parametrize("wrap", [plain, streaming], ids=["plain", "through ASGI"])
def test_flask_stream_without_end_is_closed_by_the_client(
    app: Flask, client: flask_testing.FlaskClient
) -> None:
    with client.get("/numbers") as response:
        text = ""
        for chunk in response.iter_encoded():
            text += chunk.decode()
            if len(text) > 100:
                break
        assert text.startswith("/numbers 1\n/numbers 2\n/numbers 3\n")
    assert app.extensions["closed"] == ["/numbers"]


def test_werkzeug_client_finds_the_application_below_a_path(site: Client) -> None:
    response = site.get("/where/caf%C3%A9", base_url="http://example.org/sub/")

    assert response.json == {
        "path": "/where/café",
        "root": "/sub",
        "link": "/sub/where/caf%C3%A9",
        "external": "http://example.org/sub/where/caf%C3%A9",
    }


def test_werkzeug_client_sends_fields_that_repeat(site: Client) -> None:
    response = site.post("/form", data={"a": ["1", "2"], "b": "ü"})

    assert response.json == {"a": ["1", "2"], "b": ["ü"]}


def test_werkzeug_client_uploads_a_file(
    site: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flask_app, "DIRECTORY", tmp_path)
    content = b"0123456789" * 20_000
    response = site.post(
        "/upload?key=up", data={"file": (io.BytesIO(content), "big.bin")}
    )

    assert response.json == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "name": "big.bin",
    }
    response.request.close()


def test_werkzeug_client_sends_raw_bytes(site: Client) -> None:
    response = site.post("/raw", input_stream=io.BytesIO(b"abc" * 50_000))

    assert response.json
    assert response.json["bytes"] == 150_000


def test_werkzeug_client_receives_a_long_stream_and_a_file(
    site: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flask_app, "DIRECTORY", tmp_path)
    (tmp_path / "download.bin").write_bytes(b"".join(payload.blocks(300_000)))

    for path in ("/stream?bytes=300000", "/file"):
        response = site.get(path)
        assert hashlib.sha256(response.data).hexdigest() == payload.digest(300_000)
        response.close()
    partial = site.get("/file", headers={"Range": "bytes=10-19"})
    assert partial.status_code == 206
    assert partial.data == b"".join(payload.blocks(20))[10:]
    partial.close()


def test_werkzeug_client_gets_304_without_a_body(
    site: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flask_app, "DIRECTORY", tmp_path)
    (tmp_path / "download.bin").write_bytes(b"content")
    with site.get("/file") as response:
        tag = response.headers["ETag"]
    with site.get("/file", headers={"If-None-Match": tag}) as again:
        assert (again.status, again.data) == ("304 NOT MODIFIED", b"")


def test_asynchronous_view_is_run(site: Client) -> None:
    assert site.get("/context").status_code == 200


@pytest.mark.filterwarnings("ignore:'cgi' is deprecated")  # WebOb before Python 3.13
def test_webtest_app_fills_in_forms(app: Flask) -> None:
    webtest = pytest.importorskip("webtest")
    browser = webtest.TestApp(app)
    form = browser.get("/entries").form
    form["text"] = "café"
    stored = form.submit().follow()

    assert stored.status == "200 OK"
    assert "<p>café</p>" in stored
    assert (
        browser.post_json("/echo", {"a": 1}, status=405).status
        == "405 METHOD NOT ALLOWED"
    )
    assert browser.put_json("/echo", {"a": 1}).json["got"] == {"a": 1}


@pytest.mark.integration
def test_django_project_passes_its_tests_both_ways(tmp_path: Path) -> None:
    environ = os.environ | {
        "INTEGRATION_DIRECTORY": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "PYTHONPATH": str(ROOT),
    }
    tests = "tests.integration.apps.django_project.visits.tests"
    done = subprocess.run(
        [sys.executable, "-bb", "-W", "error", "-m", "django", "test", tests],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Ran 5" in done.stderr
