"""What a test client asks and gets, by way of ASGI."""

import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from tests.apps import (
    Body,
    Stream,
    answering,
    echo,
    endless,
    hello,
    hello_by_write,
    hello_in_pieces,
    never_called,
    raising,
    start,
)
from tests.drivers import Gate
from wsgi_asgi import Limits, WsgiToAsgi, testing
from wsgi_asgi.testing import django_client, through_asgi

on_each_thread = pytest.mark.parametrize(
    "stream", [False, True], ids=["in the test's thread", "in another thread"]
)


class Answer:
    """What a client is given for one environ."""

    status = ""

    def __init__(self, app: WSGIApplication, environ: WSGIEnvironment) -> None:
        self.headers: dict[str, str] = {}
        self.chunks: Any = app(environ, self._start_response)
        self.iterator: Iterator[bytes] = iter(self.chunks)

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        self.status = status
        self.headers = dict(headers)
        return never_written

    def read(self) -> bytes:
        try:
            return b"".join(self.iterator)
        finally:
            self.chunks.close()


def never_written(data: bytes) -> None:
    raise AssertionError("write() was called")


def make_environ(body: bytes = b"", **changes: Any) -> WSGIEnvironment:
    environ: WSGIEnvironment = {"wsgi.input": io.BytesIO(body)}
    if body:
        environ |= {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(body))}
    environ |= {"QUERY_STRING": "", "SERVER_PROTOCOL": "HTTP/1.1"} | changes
    setup_testing_defaults(environ)
    return environ


def ask(
    app: WSGIApplication,
    environ: WSGIEnvironment | None = None,
    *,
    validate: bool = True,
    **options: Any,
) -> tuple[Answer, bytes]:
    """Ask once; wsgiref's validator looks on both sides of the adapter."""
    if validate:
        app = validator(through_asgi(validator(app), **options))
    else:
        app = through_asgi(app, **options)
    answer = Answer(app, environ or make_environ())
    return answer, answer.read()


def seen_environ(environ: WSGIEnvironment, **options: Any) -> WSGIEnvironment:
    """Give the environ that an application sees."""
    seen: list[WSGIEnvironment] = []

    def look(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        seen.append(environ)
        return hello(environ, start_response)

    ask(look, environ, **options)
    return seen[0]


@on_each_thread
@pytest.mark.parametrize(
    "app",
    [hello, hello_in_pieces, hello_by_write],
    ids=["a list", "a generator", "write()"],
)
def test_response_arrives(app: WSGIApplication, stream: bool) -> None:
    answer, body = ask(app, stream=stream)

    assert (answer.status, body) == ("200 OK", b"Hello")
    assert answer.headers["Content-Type"] == "text/plain"


@on_each_thread
@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 200_000])
def test_request_body_arrives_whole(size: int, stream: bool) -> None:
    body = os.urandom(size)

    assert ask(echo, make_environ(body), stream=stream)[1] == body


@pytest.mark.parametrize(
    "changes",
    [{"wsgi.input_terminated": True}, {"HTTP_TRANSFER_ENCODING": "chunked"}],
    ids=["input_terminated", "Transfer-Encoding"],
)
def test_request_body_without_a_length_arrives_whole(changes: dict[str, Any]) -> None:
    environ = make_environ(b"x" * 5000, **changes)
    del environ["CONTENT_LENGTH"]

    assert ask(echo, environ)[1] == b"x" * 5000


def test_input_that_nothing_announces_is_left_alone() -> None:
    environ = make_environ(b"not read")
    del environ["CONTENT_LENGTH"]

    assert ask(echo, environ, validate=False)[1] == b""
    assert environ["wsgi.input"].tell() == 0


def test_request_body_shorter_than_its_length_fails_to_be_read() -> None:
    with pytest.raises(OSError, match="ended 2 bytes short"):
        ask(echo, make_environ(b"abc", CONTENT_LENGTH="5"))


def test_length_that_is_none_is_refused_by_the_adapter() -> None:
    answer, body = ask(
        never_called, make_environ(b"abc", CONTENT_LENGTH="3x"), validate=False
    )

    assert answer.status == "400 Bad Request"
    assert b"Content-Length" in body


def test_response_of_the_adapter_itself_has_a_standard_reason() -> None:
    answer, _ = ask(never_called, make_environ(b"abc"), limits=Limits(body=2))

    assert answer.status.startswith("413 ")


def test_status_and_names_are_spelled_as_by_the_application() -> None:
    app = answering([b"tea"], ("X-TEA-Kind", "green"), status="418 Tea Only")
    answer, _ = ask(app, validate=False)

    assert answer.status == "418 Tea Only"
    assert answer.headers["X-TEA-Kind"] == "green"
    assert answer.headers["content-length"] == "3"  # the adapter's


def test_response_that_replaces_another_is_the_one_that_arrives() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start_response("200 Fine", [("Content-Type", "text/plain"), ("X-First", "")])
        try:
            raise LookupError
        except LookupError:
            start_response("500 Sorry", [("Content-Type", "text/html")], sys.exc_info())
        return [b"sorry"]

    answer, body = ask(app, validate=False)

    assert (answer.status, body) == ("500 Sorry", b"sorry")
    assert answer.headers == {"Content-Type": "text/html", "content-length": "5"}


@pytest.mark.parametrize(
    ("script_name", "path_info", "asked", "expected"),
    [
        pytest.param("", "/", "", "/", id="root"),
        pytest.param("", "", "", "/", id="nothing"),
        pytest.param("/app", "", "", "/app", id="the mount alone"),
        pytest.param("/app", "/app/x", "", "/app/app/x", id="a mount that repeats"),
        pytest.param("/app", "/a b", "/a%20b", "/app/a%20b", id="below a mount"),
        pytest.param("", "/a/b", "/a%2Fb?q", "/a%2Fb", id="a slash that was escaped"),
        pytest.param("", "/caf\xc3\xa9", "", "/caf%C3%A9", id="UTF-8"),
        pytest.param("/\xff", "/\xfe", "", "/%FF/%FE", id="no UTF-8"),
    ],
)
def test_path_arrives(
    script_name: str, path_info: str, asked: str, expected: str
) -> None:
    environ = make_environ(
        SCRIPT_NAME=script_name, PATH_INFO=path_info, REQUEST_URI=asked
    )
    seen = seen_environ(environ, validate=bool(path_info or script_name))

    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == (script_name, path_info)
    if path_info or script_name:
        assert seen["REQUEST_URI"] == expected


def test_environ_of_the_client_arrives() -> None:
    errors = io.StringIO()
    sent: dict[str, Any] = {
        "REQUEST_METHOD": "PATCH",
        "QUERY_STRING": "a=%20",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "8443",
        "wsgi.url_scheme": "https",
        "wsgi.errors": errors,
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "1234",
        "REMOTE_USER": "ada",
        "HTTP_COOKIE": "a=1",
        "HTTP_X_SOME_TAG": "ü",
        "CONTENT_TYPE": "text/plain",
        "some.function": print,
    }
    seen = seen_environ(make_environ(**sent))

    assert {key: seen[key] for key in sent if key != "wsgi.errors"} == {
        key: value for key, value in sent.items() if key != "wsgi.errors"
    }
    seen["wsgi.errors"].write("to the client's")
    assert errors.getvalue() == "to the client's"


def test_environ_has_the_adapters_word_on_what_the_server_decides() -> None:
    environ = make_environ(
        CONTENT_TYPE="", CONTENT_LENGTH="", HTTP_PROXY="evil", SERVER_SOFTWARE="a test"
    )
    seen = seen_environ(environ)

    assert not {"CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_PROXY"} & seen.keys()
    assert seen["SERVER_SOFTWARE"] == "wsgi-asgi"
    assert seen["asgi.scope"]["client"] is None


def test_environ_of_the_client_is_not_changed() -> None:
    environ = make_environ()
    before = dict(environ)
    seen_environ(environ, validate=False)

    assert environ == before


def test_application_runs_in_the_thread_of_the_test() -> None:
    body = Stream([b"a", b"b"])
    ask(answering(body))

    assert body.threads == {threading.get_ident()}


def test_application_runs_in_one_other_thread_where_it_streams() -> None:
    body = Stream([b"a", b"b"])
    ask(answering(body), stream=True)

    assert len(body.threads) == 1
    assert body.threads != {threading.get_ident()}


@on_each_thread
def test_context_variables_of_the_test_are_seen(stream: bool) -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("of the test")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        return [variable.get().encode()]

    assert ask(app, stream=stream)[1] == b"of the test"


def test_options_reach_the_adapter() -> None:
    environ = make_environ(b"abc", HTTP_TRANSFER_ENCODING="chunked")
    del environ["CONTENT_LENGTH"]

    assert seen_environ(environ, spool=True)["CONTENT_LENGTH"] == "3"


def test_options_on_threads_are_decided_already() -> None:
    body = Stream([b"a"])
    with ThreadPoolExecutor(1) as executor:
        ask(answering(body), threads=1, executor=executor)
    ask(answering(body), thread_sensitive=True)

    assert body.threads == {threading.get_ident()}


@pytest.mark.parametrize(
    ("app", "options", "message"),
    [
        pytest.param(hello, {"workers": 3}, "threads=", id="an unknown option"),
        pytest.param(WsgiToAsgi(hello), {}, "ASGI application", id="an adapter"),
        pytest.param("hello", {}, "callable", id="no callable"),
    ],
)
def test_what_the_adapter_does_not_take_is_refused_at_once(
    app: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        through_asgi(app, **options)


def test_warnings_name_the_application(caplog: pytest.LogCaptureFixture) -> None:
    class Named:
        def __call__(
            self, environ: WSGIEnvironment, start_response: StartResponse
        ) -> Body:
            start(start_response, ("Keep-Alive", "no"))
            return []

    app = through_asgi(Named())
    for _ in range(2):
        Answer(app, make_environ()).read()

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{Named.__module__}.{Named.__qualname__}" in caplog.text


@on_each_thread
@pytest.mark.parametrize(
    "error",
    [LookupError("x"), KeyboardInterrupt(), SystemExit(3), pytest.fail.Exception("x")],
    ids=["an error", "an interrupt", "an exit", "a failure of the test"],
)
def test_what_the_application_raises_the_client_sees(
    error: BaseException, stream: bool
) -> None:
    with pytest.raises(type(error)) as caught:
        ask(raising(error), validate=False, stream=stream)

    assert caught.value is error


def test_error_with_a_cause_stays_what_it_is() -> None:
    error = RuntimeError("with a cause")
    error.__cause__ = LookupError("the cause")
    with pytest.raises(RuntimeError, match="with a cause"):
        ask(raising(error), validate=False)


@on_each_thread
def test_error_after_a_chunk_is_raised_after_that_chunk(stream: bool) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield b"first"
        raise LookupError("in mid-stream")

    answer = Answer(through_asgi(app, stream=stream), make_environ())

    assert next(answer.iterator) == b"first"
    with pytest.raises(LookupError, match="in mid-stream"):
        next(answer.iterator)


@on_each_thread
def test_error_of_close_is_raised(stream: bool) -> None:
    def fail() -> None:
        raise LookupError("in close()")

    with pytest.raises(LookupError, match=r"in close\(\)"):
        ask(answering(Stream([b"a"], at_close=fail)), validate=False, stream=stream)


def test_response_that_nobody_reads_leaves_nothing_behind() -> None:
    body = Stream([b"a", b"b"])
    answer = Answer(through_asgi(answering(body)), make_environ())
    del answer

    assert body.closes == 1


def test_stream_without_end_is_given_as_it_comes_and_closed() -> None:
    body = Stream(endless(b"x" * 50_000))
    answer = Answer(through_asgi(answering(body), stream=True), make_environ())

    assert len(next(answer.iterator)) == 50_000
    answer.chunks.close()
    assert body.closes == 1
    assert body.taken < 20  # what buffers hold


def test_stream_that_waits_is_given_what_it_has() -> None:
    gate = Gate("the client has the first chunk")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield b"first"
        gate.wait()
        yield b"second"

    answer = Answer(through_asgi(app, stream=True), make_environ())

    assert next(answer.iterator) == b"first"
    gate.open()
    assert answer.read() == b"second"


def test_stream_that_does_not_notice_the_client_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(testing, "LEAVE_S", 0.05)
    gate = Gate("the test is over")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        yield b"first"
        gate.wait()

    answer = Answer(through_asgi(app, stream=True), make_environ())
    next(answer.iterator)
    try:
        with pytest.raises(RuntimeError, match="the client has left"):
            answer.chunks.close()
    finally:
        gate.open()


def test_requests_may_be_made_by_applications() -> None:
    inner = through_asgi(hello)

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        return [b"<", Answer(inner, make_environ()).read(), b">"]

    assert ask(outer)[1] == b"<Hello>"


def test_requests_may_be_made_in_several_threads() -> None:
    app = through_asgi(echo)

    def post(number: int) -> bytes:
        return Answer(app, make_environ(b"%d" % number)).read()

    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(post, range(40))) == [b"%d" % n for n in range(40)]


def test_requests_leave_no_descriptor_behind() -> None:
    app = through_asgi(hello)
    Answer(app, make_environ()).read()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        Answer(app, make_environ()).read()

    assert len(os.listdir("/proc/self/fd")) == before


def test_head_has_no_body() -> None:
    answer, body = ask(hello, make_environ(REQUEST_METHOD="HEAD"), validate=False)

    assert (answer.headers["content-length"], body) == ("5", b"")


def test_file_larger_than_the_buffer_arrives(tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 50_000)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start(start_response)
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](path.open("rb"))
        return wrapped

    assert ask(app, validate=False)[1] == path.read_bytes()


# Of Django's client here only what is on the way; a project's tests are run elsewhere.


@pytest.fixture(scope="module")
def django() -> Any:
    """Django's test client, with whatever settings the process has."""
    import django.test
    from django.conf import settings

    if not settings.configured:
        settings.configure(SECRET_KEY="only for tests", ROOT_URLCONF="mysite.urls")
    django.setup()
    return django.test


@pytest.fixture
def client(django: Any) -> Iterator[Any]:
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    def show(request: Any) -> HttpResponse:
        response = HttpResponse("shown", headers={"X-Shown": request.method})
        response.set_cookie("seen", "yes")
        return response

    def stream(request: Any) -> StreamingHttpResponse:
        return StreamingHttpResponse([b"a", b"b"])

    with django.override_settings(
        ROOT_URLCONF=(path("show", show), path("stream", stream)),
        ALLOWED_HOSTS=["testserver"],
        MIDDLEWARE=[],
    ):
        yield django_client(django.Client, limits=Limits(body=10))()


def test_django_response_has_what_came_through(client: Any) -> None:
    response = client.get("/show")

    assert (response.status_code, response.content) == (200, b"shown")
    assert dict(response.headers) == {
        "Content-Type": "text/html; charset=utf-8",
        "X-Shown": "GET",
        "content-length": "5",
    }
    assert client.cookies["seen"].value == "yes"
    assert response.wsgi_request.META["SERVER_SOFTWARE"] == "wsgi-asgi"


def test_django_stream_has_what_came_through(client: Any) -> None:
    response = client.get("/stream")

    assert response.streaming
    assert b"".join(response.streaming_content) == b"ab"


def test_django_request_that_the_adapter_refuses_has_a_response(client: Any) -> None:
    response = client.post("/show", b"x" * 11, content_type="text/plain")

    assert response.status_code == 413
    assert b"longer than 10 bytes" in response.content
    assert response.wsgi_request.path == "/show"


def test_django_client_class_stays_what_it_was(django: Any) -> None:
    adapted = django_client(django.Client)

    assert issubclass(adapted, django.Client)
    assert adapted(enforce_csrf_checks=True).handler.enforce_csrf_checks
