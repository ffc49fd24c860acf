"""What users may import, and what they may rely on."""

import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import FrozenInstanceError
from importlib.resources import files
from typing import Any

import pytest
from asgiref.typing import ASGIApplication
from asgiref.wsgi import WsgiToAsgi as AsgirefsWsgiToAsgi

import wsgi_asgi
from tests.apps import hello
from wsgi_asgi import ClientDisconnected, Limits, Stats, WsgiToAsgi


def test_public_names_are_these() -> None:
    assert sorted(wsgi_asgi.__all__) == [
        "ClientDisconnected",
        "Limits",
        "Stats",
        "WebSocketError",
        "WsgiToAsgi",
    ]
    for name in wsgi_asgi.__all__:
        assert inspect.getdoc(getattr(wsgi_asgi, name))


def test_package_is_marked_as_typed() -> None:
    assert files("wsgi_asgi").joinpath("py.typed").is_file()


def test_adapter_takes_the_arguments_of_asgirefs() -> None:
    theirs = inspect.signature(AsgirefsWsgiToAsgi).parameters.values()
    ours = list(inspect.signature(WsgiToAsgi).parameters.values())
    for number, parameter in enumerate(theirs):
        assert ours[number].name == parameter.name
        assert ours[number].kind is parameter.kind
        assert ours[number].default == parameter.default


def test_adapter_takes_its_own_arguments_by_keyword_only() -> None:
    parameters = inspect.signature(WsgiToAsgi).parameters.values()
    own = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert own == [
        "threads",
        "executor",
        "thread_sensitive",
        "spool",
        "websockets",
        "multiprocess",
        "limits",
        "on_startup",
        "on_shutdown",
    ]


def test_adapter_fits_where_servers_and_frameworks_take_an_application() -> None:
    # mypy checks these; servers and frameworks type applications in these ways.
    adapter = WsgiToAsgi(hello)
    as_asgirefs: ASGIApplication = adapter  # type: ignore[assignment]  # its TypedDicts fit nobody else's scopes
    as_starlettes: Callable[[Any, Any, Any], Awaitable[None]] = adapter
    executor: Executor = adapter.executor
    assert as_asgirefs is as_starlettes
    executor.shutdown()


def test_client_disconnected_is_what_applications_catch_for_sockets() -> None:
    assert issubclass(ClientDisconnected, ConnectionResetError)


@pytest.mark.parametrize("value", [Limits(), WsgiToAsgi(hello).stats()])
def test_values_cannot_be_changed(value: Limits | Stats) -> None:
    name = next(iter(type(value).__dataclass_fields__))
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, 1)
