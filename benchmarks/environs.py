"""Building the environ alone, by the functions that the adapters have for it."""

import io
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.client import WrongAnswer
from benchmarks.contenders import OURS

__all__ = ["BUILDERS", "check_environ", "count_environs", "make_builder"]

Scope = dict[str, Any]
Builder = Callable[[Scope], dict[str, Any]]


def _ours() -> Builder:
    from wsgi_asgi import WsgiToAsgi
    from wsgi_asgi._environ import build_environ

    # What the adapter itself gives as the variables of every request.
    base = WsgiToAsgi(lambda environ, start_response: [])._http.base_environ
    return lambda scope: build_environ(scope, base, 100)


def _asgiref() -> Builder:
    from asgiref.wsgi import WsgiToAsgiInstance

    body = io.BytesIO()

    def build(scope: Scope) -> dict[str, Any]:
        instance: Any = WsgiToAsgiInstance(None)  # type: ignore[no-untyped-call]  # asgiref has no types here
        instance.scope = scope  # where it reads the headers from
        environ: dict[str, Any] = instance.build_environ(scope, body)
        return environ

    return build


def _function(target: str, *streams: Any) -> Callable[[], Builder]:
    def make() -> Builder:
        module, _, name = target.partition(":")
        build = getattr(import_module(module), name)
        return lambda scope: build(scope, *streams)

    return make


BUILDERS: dict[str, Callable[[], Builder]] = {
    OURS: _ours,
    "asgiref": _asgiref,
    "a2wsgi": _function("a2wsgi.wsgi:build_environ", io.BytesIO()),
    "uvicorn": _function("uvicorn.middleware.wsgi:build_environ", {}, io.BytesIO()),
    "starlette": _function("starlette.middleware.wsgi:build_environ", b""),
    "hypercorn": _function("hypercorn.app_wrappers:_build_environ", b""),
}


def make_builder(contender: str) -> Builder:
    """Give the contender's function, of a scope and nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BUILDERS[contender]()


def check_environ(environ: dict[str, Any], scope: Scope) -> None:
    """See that an environ is this request's.

    Raises:
        WrongAnswer: It is not.
    """
    expected = {
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": scope["path"],
        "QUERY_STRING": scope["query_string"].decode(),
    }
    for name, value in scope["headers"]:
        expected[f"HTTP_{name.decode().upper().replace('-', '_')}"] = value.decode()
    for key, value in expected.items():
        if environ.get(key) != value:
            raise WrongAnswer(f"{key} is {environ.get(key)!r}")


def count_environs(build: Builder, scope: Scope, seconds: float) -> tuple[int, float]:
    """Build environs for some seconds; give how many, and the seconds."""
    count = 0
    start = time.perf_counter()
    until = start + seconds
    while not count or time.perf_counter() < until:
        for _ in range(20):
            environ = build(scope)
        count += 20
    elapsed = time.perf_counter() - start
    check_environ(environ, scope)
    return count, elapsed
