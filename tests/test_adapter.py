"""The adapter: its arguments, its numbers, the loops and processes that it lives in."""

import asyncio
import functools
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from types import ModuleType, SimpleNamespace
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.apps import (
    Body,
    Stream,
    answering,
    echo,
    endless,
    hello,
    never_called,
    start,
)
from tests.drivers import (
    WAIT_S,
    Gate,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    on_each_loop,
    piece,
    posting,
    run,
    serve,
    serve_all,
    until,
    uploading,
)
from wsgi_asgi import Stats, WsgiToAsgi

# A thread looks twice a second whether its loop is still there.
NOTICED_S = 2.0

# Arguments.


async def asgi_application(scope: object, receive: object, send: object) -> None:
    """Be what needs no adapter."""


class AsgiApplication:
    async def __call__(self, scope: object, receive: object, send: object) -> None:
        """Be what needs no adapter."""


@pytest.mark.parametrize(
    ("application", "message"),
    [
        pytest.param(None, "callable of environ and start_response", id="none"),
        pytest.param("module:app", "callable of environ", id="import string"),
        pytest.param(5, "callable of environ", id="number"),
        pytest.param(asgi_application, "ASGI application already", id="coroutine"),
        pytest.param(AsgiApplication(), "ASGI application already", id="asgi object"),
        pytest.param(
            functools.partial(asgi_application), "ASGI application", id="partial of it"
        ),
    ],
)
def test_application_of_another_kind_is_refused(application: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        WsgiToAsgi(application)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        pytest.param("workers", r"'workers'.*threads=", id="workers"),
        pytest.param(
            "send_queue_size",
            r"'send_queue_size'.*Limits\(buffer=.*bytes and not chunks",
            id="send queue size",
        ),
        pytest.param("max_body_size", r"'max_body_size'.*Limits\(body=", id="body"),
        pytest.param("thread", "'thread'$", id="nobody's"),
    ],
)
def test_argument_of_another_adapter_is_refused_with_the_word_used_here(
    word: str, message: str
) -> None:
    arguments: dict[str, Any] = {word: 10}
    with pytest.raises(TypeError, match=message):
        WsgiToAsgi(hello, **arguments)


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_below_one_are_refused(threads: int) -> None:
    with pytest.raises(ValueError, match="at least one thread"):
        WsgiToAsgi(hello, threads=threads)


def test_executor_for_a_thread_sensitive_application_is_refused(
    adapter: MakeAdapter,
) -> None:
    executor = adapter(hello).executor
    with pytest.raises(TypeError, match="exclude each other"):
        WsgiToAsgi(hello, executor=executor, thread_sensitive=True)


class InterpreterPoolExecutor(ThreadPoolExecutor):
    """As the one of Python 3.14 is."""


class OwnExecutor(InterpreterPoolExecutor):
    """One that somebody has made of it."""


@pytest.mark.parametrize(
    ("make", "name"),
    [
        pytest.param(ProcessPoolExecutor, "ProcessPoolExecutor", id="processes"),
        pytest.param(
            InterpreterPoolExecutor, "InterpreterPoolExecutor", id="interpreters"
        ),
        pytest.param(OwnExecutor, "InterpreterPoolExecutor", id="subclass"),
        pytest.param(
            type("MPIPoolExecutor", (Executor,), {}), "MPIPoolExecutor", id="mpi"
        ),
    ],
)
def test_executor_without_threads_is_refused_by_its_name(
    make: Callable[[], Executor], name: str
) -> None:
    text = f"is a {name}, .* with threads"
    with make() as executor, pytest.raises(TypeError, match=text):
        WsgiToAsgi(hello, executor=executor)


@pytest.mark.parametrize(
    "value",
    [ThreadPoolExecutor, "threads", 4, True, object(), SimpleNamespace(submit=None)],
    ids=["class", "word", "number", "bool", "object", "without a method"],
)
def test_executor_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="is no executor, as it has no submit"):
        WsgiToAsgi(hello, executor=value)


@pytest.mark.parametrize("value", [True, False])
def test_multiprocess_is_what_the_application_finds(
    adapter: MakeAdapter, value: bool
) -> None:
    found: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        found.append(environ["wsgi.multiprocess"])
        return hello(environ, start_response)

    serve(adapter(app, multiprocess=value), HttpServer())
    assert found == [value]


def test_multiprocess_is_true_where_nothing_is_said(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        return [repr(environ["wsgi.multiprocess"]).encode()]

    server = HttpServer()
    serve(adapter(app), server)
    assert server.body == b"True"


@pytest.mark.parametrize("value", [1, 4, "False", None], ids=repr)
def test_multiprocess_that_is_no_bool_is_refused(value: Any) -> None:
    with pytest.raises(
        TypeError, match=f"multiprocess is True or False, not {value!r}"
    ):
        WsgiToAsgi(hello, multiprocess=value)


def test_adapter_made_starts_no_thread(adapter: MakeAdapter) -> None:
    before = threading.active_count()
    app = adapter(hello)
    assert threading.active_count() == before
    assert app.stats() == Stats(
        threads=0,
        busy=0,
        queued=0,
        streams=0,
        websockets=0,
        completed=0,
        rejected=0,
        disconnected=0,
        dropped=0,
    )


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_header_repeated_beyond_the_limit_is_answered_431(
    adapter: MakeAdapter, method: str
) -> None:
    app = adapter(never_called, duplicate_header_limit=2)
    server = HttpServer(method=method, headers=[(b"x-a", b"1")] * 3)
    serve(app, server)
    assert server.status == 431
    assert (method == "HEAD") is (server.body == b"")
    assert app.stats().rejected == 1


@pytest.mark.parametrize(
    ("limit", "count"), [(None, 5000), (100, 100), (3, 3)], ids=["none", "100", "3"]
)
def test_header_repeated_within_the_limit_is_served(
    adapter: MakeAdapter, limit: int | None, count: int
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start(start_response)
        return [environ["HTTP_X_A"].encode()]

    served = WsgiToAsgi(app, limit)
    server = HttpServer(headers=[(b"x-a", b"1")] * count)
    serve(served, server)
    served.executor.shutdown()
    assert server.body.count(b"1") == count


def test_scope_of_unknown_type_is_refused(adapter: MakeAdapter) -> None:
    server = HttpServer()
    server.scope["type"] = "smtp"
    with pytest.raises(ValueError, match="not 'smtp'"):
        serve(adapter(never_called), server)
    assert (server.receives, server.messages) == (0, [])


# What the application finds in its environ from the adapter.


def test_errors_stream_is_that_of_the_moment(
    adapter: MakeAdapter, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        errors = environ["wsgi.errors"]
        errors.write("one é 中\n")
        errors.writelines(["two\n", "three\n"])
        errors.flush()
        return hello(environ, start_response)

    serve(adapter(app), HttpServer())
    captured = capsys.readouterr()
    assert captured.err == "one é 中\ntwo\nthree\n"
    assert captured.out == ""


def test_errors_stream_of_a_process_without_one_takes_text(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        environ["wsgi.errors"].write("nobody reads this")
        return hello(environ, start_response)

    served = adapter(app)
    monkeypatch.setattr(sys, "stderr", None)
    server = HttpServer()
    serve(served, server)
    assert server.body == b"Hello"


def test_response_headers_of_the_connection_are_dropped_with_one_warning(
    adapter: MakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    app = adapter(answering([b"x"], ("Connection", "close"), ("X-A", "1")))
    for _ in range(3):
        server = HttpServer()
        serve(app, server)
        assert (server.header(b"connection"), server.header(b"x-a")) == (None, b"1")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "connection" in caplog.text
    caplog.clear()


def test_adapter_whose_threads_are_patched_away_says_so_to_each_request(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = adapter(hello)
    module = ModuleType("gevent.monkey")
    module.is_module_patched = {"threading"}.__contains__  # type: ignore[attr-defined]  # all that is asked
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "gevent.monkey", module)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="gevent has patched threading"):
                serve(app, HttpServer())
        with pytest.raises(RuntimeError, match="gevent has patched threading"):
            WsgiToAsgi(hello)
    server = HttpServer()
    serve(app, server)
    assert server.body == b"Hello"


# Loops.


@on_each_loop
def test_adapter_made_outside_a_loop_serves_one_loop_after_another(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    app = adapter(echo, spool=False)
    for number in range(3):
        server = posting(b"%d" % number, declared=False)
        serve(app, server, loop_factory)
        assert server.body == b"%d" % number
    assert app.stats().completed == 3


@on_each_loop
@pytest.mark.parametrize(
    "options", [{}, {"thread_sensitive": True}], ids=["pool", "asgiref's"]
)
def test_adapter_serves_two_loops_at_once(
    adapter: MakeAdapter, loop_factory: LoopFactory, options: dict[str, Any]
) -> None:
    both = threading.Barrier(2)
    failures: list[BaseException] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        if not options:
            both.wait(WAIT_S)
        return echo(environ, start_response)

    served = adapter(app, **options)
    servers = [[posting(b"%d" % number) for number in range(20)] for _ in range(2)]

    def one_loop(own: list[HttpServer]) -> None:
        try:
            run(serve_all(served, own), loop_factory)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one_loop, args=(own,)) for own in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for own in servers:
        assert [server.body for server in own] == [b"%d" % n for n in range(20)]
    assert served.stats().completed == 40


@on_each_loop
@pytest.mark.parametrize("phase", ["read", "chunk", "write"])
def test_thread_whose_loop_is_gone_ends(
    adapter: MakeAdapter, loop_factory: LoopFactory, phase: str
) -> None:
    stream = Stream(endless(b"x" * 50_000))
    begun, ended = Gate("the application runs"), Gate("the thread is free")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        try:
            if phase == "read":
                environ["wsgi.input"].read(10)
            write = start(start_response)
            for chunk in stream:
                if phase == "write":
                    write(chunk)
                else:
                    yield chunk
        finally:
            ended.open()

    served = adapter(app, spool=False)
    server = uploading(piece(b"ab"), Gate("more of the body comes"))
    go_on = server.stall_at(2)
    loop = loop_factory()
    task = loop.create_task(server.run(served))
    when = begun if phase == "read" else server.sent(2)
    loop.run_until_complete(when.reached())
    # The loop stands still, as that of a server which was stopped.
    ended.wait(NOTICED_S)
    go_on.open()
    loop.run_until_complete(task)
    loop.close()
    assert served.stats().disconnected == 1


def test_thread_that_outlives_its_loop_ends_in_silence(adapter: MakeAdapter) -> None:
    begun, go_on = Gate("the application runs"), Gate()
    stream = Stream([b"late", b"later"])

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        begun.open()
        go_on.wait()
        start(start_response)
        return stream

    async def main() -> None:
        task = asyncio.create_task(HttpServer().run(served))
        await begun.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    served = adapter(app)
    run(main())
    go_on.open()
    stream.closed.wait()
    # The next loop is served, and forgets what was left of the last one.
    second = HttpServer()
    serve(served, second)
    assert second.body == b"latelater"
    assert (served.stats().busy, served.stats().queued) == (0, 0)


def test_loop_that_is_closed_is_forgotten(adapter: MakeAdapter) -> None:
    app = adapter(hello)
    serve(app, HttpServer())
    loop = asyncio.new_event_loop()
    reference = weakref.ref(loop)
    server = HttpServer()
    loop.run_until_complete(server.run(app))
    loop.close()
    del loop, server
    serve(app, HttpServer())
    gc.collect()
    assert reference() is None


# What stays behind.


class Token:
    """Something of a request that must not outlive it."""


def _returns(token: Token, environ: WSGIEnvironment, start: StartResponse) -> Body:
    return hello(environ, start)


def _streams(token: Token, environ: WSGIEnvironment, begin: StartResponse) -> Body:
    start(begin)
    yield b"a"
    del token
    yield b"b"


def _fails(token: Token, environ: WSGIEnvironment, start: StartResponse) -> Body:
    raise KeyError("on purpose")


@pytest.mark.parametrize(
    "options", [{}, {"thread_sensitive": True}], ids=["pool", "asgiref's"]
)
@pytest.mark.parametrize(
    "answer", [_returns, _streams, _fails], ids=["list", "stream", "error"]
)
def test_request_that_is_over_is_forgotten(
    adapter: MakeAdapter, answer: Callable[..., Body], options: dict[str, Any]
) -> None:
    references: list[weakref.ref[Any]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        token = environ["token"] = Token()
        references.append(weakref.ref(token))
        body = Stream(answer(token, environ, start_response))
        references.append(weakref.ref(body))
        return body

    def request() -> None:
        with suppress(KeyError):
            serve(served, posting(b"ab"))

    served = adapter(app, validate=False, **options)
    request()
    assert references

    def forgotten() -> bool:
        gc.collect()
        return not any(reference() for reference in references)

    until(forgotten, "nothing holds the request")
