"""Copies of an adapter, pickled or not: each is an adapter with the same settings."""

import copy
import multiprocessing.reduction
import pickle
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.apps import Body, hello, nothing
from tests.drivers import HttpServer, MakeAdapter, WebSocketServer, serve
from wsgi_asgi import Limits, WsgiToAsgi

Copy = Callable[[WsgiToAsgi], Any]


def pickled(app: object) -> Any:
    return pickle.loads(pickle.dumps(app))


def pickled_for_a_process(app: object) -> Any:
    return pickle.loads(multiprocessing.reduction.ForkingPickler.dumps(app))


COPIES = [copy.copy, copy.deepcopy, pickled, pickled_for_a_process]


class Counting:
    """An application that is an object, and can be copied and pickled."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        self.calls += 1
        return hello(environ, start_response)


class Named(WsgiToAsgi):
    """A subclass with arguments, attributes and a slot of its own."""

    __slots__ = ("slot",)

    def __init__(self, name: str) -> None:
        self.early = name
        self.application = Counting()
        super().__init__(self.application, threads=3)
        self.late = [name]
        self.slot = name


class Registered(WsgiToAsgi):
    """A subclass that has more to say of its state."""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "note": "copied"}


class Mounted(Counting):
    """An application that keeps its adapters."""

    def __init__(self) -> None:
        super().__init__()
        self.adapters = [WsgiToAsgi(self) for _ in range(3)]


@pytest.fixture
def copied(adapter: MakeAdapter) -> Callable[..., Any]:
    """Copy an adapter made of arguments; both are ended with the test."""

    def make(how: Copy, app: Any = hello, **options: Any) -> Any:
        return how(adapter(app, validate=False, **options))

    return make


@pytest.mark.parametrize("how", COPIES)
def test_copy_serves_requests_and_websockets(
    copied: Callable[..., Any], how: Copy
) -> None:
    app = copied(how)
    server, websocket = HttpServer(), WebSocketServer()
    serve(app, server)
    serve(app, websocket)
    assert server.body == b"Hello"
    assert websocket.denial[2] == b"Hello"
    assert app.stats().completed == 1
    app.executor.shutdown()


@pytest.mark.parametrize("how", COPIES)
def test_copy_has_the_arguments_of_its_original(
    copied: Callable[..., Any], how: Copy
) -> None:
    limits = Limits(body=5)
    hooks = {"on_startup": iter([nothing]), "on_shutdown": [nothing, nothing]}
    app = copied(how, threads=7, multiprocess=False, limits=limits, **hooks)
    assert app.executor.max_threads == 7
    first, again = app.__getstate__(), how(app).__getstate__()
    assert first == again
    arguments = first["_arguments"]
    assert arguments["limits"] == limits
    assert arguments["multiprocess"] is False
    assert arguments["on_startup"] == (nothing,)
    assert arguments["on_shutdown"] == (nothing, nothing)


@pytest.mark.parametrize("how", COPIES)
def test_copy_has_threads_of_its_own(copied: Callable[..., Any], how: Copy) -> None:
    app = WsgiToAsgi(hello)
    assert how(app).executor is not app.executor


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_copy_that_is_not_pickled_shares_application_hooks_and_executor(
    copied: Callable[..., Any], how: Copy
) -> None:
    application = Counting()
    hook = threading.Lock().acquire
    with ThreadPoolExecutor() as executor:
        app = how(WsgiToAsgi(application, executor=executor, on_startup=[hook]))
        serve(app, HttpServer())
    assert application.calls == 1
    assert app.executor is executor
    assert app.__getstate__()["_arguments"]["on_startup"] == (hook,)


@pytest.mark.parametrize("how", COPIES)
def test_copy_of_a_subclass_keeps_what_that_has_added(how: Copy) -> None:
    original = Named("name")
    app: Any = how(original)
    seen = type(app), app.early, app.late, app.slot
    assert seen == (Named, "name", ["name"], "name")
    assert app.executor.max_threads == 3
    # In the copy as in the original it is one object.
    server = HttpServer()
    serve(app, server)
    assert app.application.calls == 1
    app.executor.shutdown()


def test_deepcopy_of_a_subclass_shares_nothing_but_the_arguments() -> None:
    original = Named("name")
    app = copy.deepcopy(original)
    assert app.late is not original.late
    assert app.application is original.application


@pytest.mark.parametrize("how", COPIES)
def test_copy_of_a_subclass_with_a_state_of_its_own_has_that(how: Copy) -> None:
    app = how(Registered(hello))
    assert (type(app), app.note) == (Registered, "copied")


@pytest.mark.parametrize("how", [pickled, pickled_for_a_process])
@pytest.mark.parametrize("keeps", [True, False], ids=["the application", "an adapter"])
def test_copy_of_an_application_that_keeps_its_adapters_keeps_its_own(
    how: Callable[[object], Any], keeps: bool
) -> None:
    original = Mounted()
    if keeps:
        copied: Mounted = how(original)
    else:
        arguments = how(original.adapters[0]).__getstate__()["_arguments"]
        copied = arguments["wsgi_application"]
    for app in copied.adapters:
        assert app.__getstate__()["_arguments"]["wsgi_application"] is copied
    serve(copied.adapters[2], HttpServer())
    assert (copied.calls, original.calls) == (1, 0)
    copied.adapters[2].executor.shutdown()


def test_arguments_of_the_constructor_are_all_kept() -> None:
    parameters = set(WsgiToAsgi.__init__.__annotations__) - {"unknown", "return"}
    assert WsgiToAsgi(hello).__getstate__()["_arguments"].keys() == parameters


# What cannot be pickled.

LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        pytest.param({"wsgi_application": lambda environ, start: []}, "", id="lambda"),
        pytest.param({"executor": WsgiToAsgi(hello).executor}, "", id="executor"),
        pytest.param({"on_startup": [LOCK.acquire]}, "acquire", id="startup hook"),
        pytest.param({"on_shutdown": [nothing, LOCK.acquire]}, "acquire", id="hook"),
        pytest.param({"websockets": lambda scope, *calls: None}, "", id="websockets"),
    ],
)
def test_argument_that_cannot_be_pickled_is_named(
    arguments: dict[str, Any], name: str
) -> None:
    word = [*arguments][0]
    app = WsgiToAsgi(**{"wsgi_application": hello} | arguments)
    text = rf"WsgiToAsgi\({word}=.*{name}.*its {word} cannot: .*make the adapter in"
    with pytest.raises(pickle.PicklingError, match=text) as caught:
        pickle.dumps(app)
    assert isinstance(caught.value.__cause__, Exception)


@pytest.mark.parametrize("module", ["cloudpickle", "somebody.dill"])
def test_argument_that_some_pickler_takes_is_left_to_the_one_at_work(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    tried: list[object] = []
    other = ModuleType(module)
    other.dumps = tried.append  # type: ignore[attr-defined]  # all that is looked for
    monkeypatch.setitem(sys.modules, module, other)
    monkeypatch.setitem(sys.modules, f"{module}.cloudpickle", ModuleType("empty"))

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        return []

    arguments = WsgiToAsgi(application).__getstate__()["_arguments"]
    assert arguments.__reduce__()[1] == (arguments,)
    assert tried == [application]
