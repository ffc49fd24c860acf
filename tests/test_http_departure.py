"""The application asks whether its client has left."""

import threading
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.apps import Body, Stream, hello, start
from tests.drivers import (
    CHUNKED,
    QUIET_S,
    WAIT_S,
    Gate,
    HttpServer,
    LoopFactory,
    MakeAdapter,
    MakeOptions,
    assert_left,
    in_each_executor,
    leave,
    length,
    on_each_loop,
    piece,
    run,
    serve,
    uploading,
)
from wsgi_asgi import ClientDisconnected, Limits
from wsgi_asgi._bridge import Crossing
from wsgi_asgi._departure import Departure

KEY = "wsgi_asgi.client_disconnected"


def departure_of(environ: WSGIEnvironment) -> Departure:
    departure: Departure = environ[KEY]
    return departure


def test_departure_is_there_by_both_names(adapter: MakeAdapter) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert environ["waitress.client_disconnected"] is environ[KEY]
        return hello(environ, start_response)

    serve(adapter(app), server := HttpServer())
    assert server.status == 200


@on_each_loop
@in_each_executor
@pytest.mark.parametrize("asks", [True, False], ids=["asks", "waits"])
def test_departure_without_a_response_is_noticed(
    adapter: MakeAdapter,
    loop_factory: LoopFactory,
    make_options: MakeOptions,
    asks: bool,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        departure = departure_of(environ)
        assert not departure()
        begun.open()
        if asks:
            while not departure():
                pass
        assert departure.wait()
        assert departure()
        return hello(environ, start_response)

    begun = Gate("the application runs")
    served = adapter(app, **make_options())
    server = HttpServer()
    run(leave(served, server, begun), loop_factory)
    assert not server.messages
    assert_left(served)


@pytest.mark.parametrize("body", [[], [b"late"], iter([b"late"])])
def test_application_that_knows_may_return_without_a_response(
    adapter: MakeAdapter, body: Body
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        server.left.open()
        assert departure_of(environ).wait(WAIT_S)
        return body

    served = adapter(app, validate=False)
    server = HttpServer()
    serve(served, server)
    assert_left(served)


def test_departure_before_the_first_question_is_its_answer(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may take longer than the first question waits.
    monkeypatch.setattr("wsgi_asgi._departure.FIRST_LOOK_S", WAIT_S)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        server.left.open()
        answers.append(departure_of(environ)())
        return hello(environ, start_response)

    answers: list[bool] = []
    server = HttpServer()
    serve(adapter(app), server)
    assert answers == [True]


def test_departure_during_a_response_is_noticed_by_all_threads(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        def wait() -> None:
            answers.append(departure_of(environ).wait(WAIT_S))

        others = [threading.Thread(target=wait) for _ in range(3)]
        for other in others:
            other.start()
        start(start_response)
        yield b"begun"
        for other in others:
            other.join()

    answers: list[bool] = []
    served = adapter(app)
    server = HttpServer()
    run(leave(served, server, server.sent(2)))
    assert answers == [True] * 3
    assert_left(served)


@on_each_loop
def test_client_that_stays_has_not_left(
    adapter: MakeAdapter, loop_factory: LoopFactory
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        departure = departure_of(environ)
        assert not departure()
        assert not departure.wait(0.01)
        assert not departure.wait(0)
        departures.append(departure)
        other = threading.Thread(target=lambda: answers.append(departure.wait()))
        others.append(other)
        other.start()
        start(start_response)
        yield b"a"
        assert not departure()
        yield b"b"

    departures: list[Departure] = []
    answers: list[bool] = []
    others: list[threading.Thread] = []
    served = adapter(app)
    server = HttpServer()
    serve(served, server, loop_factory)
    assert server.body == b"ab"
    # A response that is complete ends all waiting, and the server's telling of that by
    # a disconnect is none.
    others[0].join(WAIT_S)
    assert answers == [False]
    assert not departures[0]()
    assert served.stats().completed == 1


def test_departure_during_an_upload_is_noticed_once_it_was_read(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        departure = departure_of(environ)
        assert environ["wsgi.input"].read(200_000) == bytes(200_000)
        begun.open()
        assert departure.wait(WAIT_S)
        with pytest.raises(ConnectionResetError):
            environ["wsgi.input"].read(1)
        return hello(environ, start_response)

    begun = Gate("the application has read what there is")
    served = adapter(app, spool=False)
    server = uploading(piece(bytes(200_000)), header=length(300_000))
    run(leave(served, server, begun))
    assert_left(served)


def test_request_given_up_by_the_server_counts_as_a_departure(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        departure = departure_of(environ)
        begun.open()
        answers.append(departure.wait(WAIT_S))
        return hello(environ, start_response)

    answers: list[bool] = []
    begun = Gate("the application runs")
    server = HttpServer()
    served = adapter(app)

    async def main() -> None:
        import asyncio

        task = asyncio.create_task(server.run(served))
        await begun.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert answers == [True]


def test_departure_of_a_loop_that_is_gone_is_noticed(
    adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Crossing, "check_alive", lambda self: self.abandon())

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        answers.append(departure_of(environ).wait())
        return hello(environ, start_response)

    answers: list[bool] = []
    serve(adapter(app), HttpServer())
    assert answers == [True]


def test_body_that_goes_on_beyond_its_length_and_the_limit_harms_nobody(
    adapter: MakeAdapter,
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        assert environ["wsgi.input"].read(5) == b"abcde"
        assert not departure_of(environ)()
        server.received(3).wait()
        start(start_response)
        return [b"read"]

    server = uploading(piece(b"abcde"), piece(b"too much"), header=length(5))
    serve(adapter(app, limits=Limits(body=6), spool=False), server)
    assert server.body == b"read"


@pytest.mark.parametrize(
    ("steps", "headers"),
    [
        pytest.param([], [], id="none announced"),
        pytest.param([piece(b"a")], [CHUNKED], id="unread"),
    ],
)
def test_body_first_read_after_the_client_was_heard_to_leave_does_not_wait(
    adapter: MakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[Any],
    headers: list[Any],
) -> None:
    monkeypatch.setattr("wsgi_asgi._http.LAST_SEND_S", 0.01)
    results: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        def read() -> None:
            # The server has said that it is over, and nobody listens any more.
            server.told.wait()
            listening.wait(QUIET_S)
            with pytest.raises(ClientDisconnected):
                results.append(environ["wsgi.input"].read(2))
            results.append("raised")

        start(start_response)
        return Stream([b"a", b"b"], at_close=read)

    listening = threading.Event()
    server = HttpServer(*steps, Gate("more comes"), method="POST", headers=headers)
    serve(adapter(app, validate=False, spool=False), server)
    assert server.body == b"ab"
    assert results == ["raised"]
