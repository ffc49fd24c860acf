"""What the servers serve: all applications behind one, by path, and its adapter.

The choice by path costs one look-up, the same for all.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse

from benchmarks.applications import Application, application
from benchmarks.contenders import find_contender, make_app

__all__ = ["CONTENDER_VARIABLE", "make_asgi", "make_wsgi"]

# The environment variable that names the adapter.
CONTENDER_VARIABLE = "BENCHMARK_CONTENDER"


def make_wsgi() -> Callable[[dict[str, Any], StartResponse], Iterable[bytes]]:
    """Make the WSGI application of all paths."""
    flask = application("flask").load()
    routes = {"/": application("trivial").load(), "/file": flask}
    for name in ("sleeping", "flask", "django", "messages", "flask-sock"):
        one = application(name)
        routes[one.path] = flask if name == "flask" else one.load()

    def site(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        # Flask says 404 to what is nowhere.
        return routes.get(environ["PATH_INFO"], flask)(environ, start_response)

    return site


def make_asgi() -> Callable[..., Any]:
    """Make the ASGI application of the contender that the environment names.

    All of them have the same frameworks in memory, also a limit, which uses none: to
    look through them for garbage is a part of what a request costs.
    """
    contender = find_contender(os.environ[CONTENDER_VARIABLE])
    site = make_wsgi()
    trivial = application("trivial")
    return make_app(contender, Application(trivial.path, lambda: site, trivial.answer))
