"""Who takes part: this adapter, its peers, and two limits.

Each adapter is made with its defaults, as its documentation shows it, threads
included; `threads` says how many those are. The one exception is Hypercorn's bound
on bodies of 64 KiB, which anyone who uploads files would raise.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.applications import Application
from benchmarks.limits import Limit

__all__ = [
    "ADAPTERS",
    "CONTENDERS",
    "LIMITS",
    "OURS",
    "PEERS",
    "Contender",
    "find_contender",
    "installed_version",
    "make_app",
]

OURS = "wsgi-asgi"
LIMITS = ("bare hop", "no hop")
GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to answer.

    Attributes:
        name: Short name.
        target: Where the adapter is, as ``module:Class``; none for a limit.
        distribution: What it comes from, for its version.
        threads: How many run applications, in words.
        options: Further arguments than the application.
    """

    name: str
    target: str = ""
    distribution: str = ""
    threads: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


ADAPTERS = (
    Contender(
        name=OURS,
        target="wsgi_asgi:WsgiToAsgi",
        distribution="wsgi-asgi",
        threads="up to 40",
    ),
    Contender(
        name="asgiref",
        target="asgiref.wsgi:WsgiToAsgi",
        distribution="asgiref",
        threads="1",
    ),
    Contender(
        name="a2wsgi",
        target="a2wsgi:WSGIMiddleware",
        distribution="a2wsgi",
        threads="10",
    ),
    # Its own, which it uses where a2wsgi is not installed.
    Contender(
        name="uvicorn",
        target="uvicorn.middleware.wsgi:_WSGIMiddleware",
        distribution="uvicorn",
        threads="10",
    ),
    Contender(
        name="starlette",
        target="starlette.middleware.wsgi:WSGIMiddleware",
        distribution="starlette",
        threads="40",
    ),
    Contender(
        name="hypercorn",
        target="hypercorn.middleware.wsgi:AsyncioWSGIMiddleware",
        distribution="hypercorn",
        threads="the loop's: processors + 4",
        options={"max_body_size": 2 * GIB},
    ),
)
CONTENDERS = (
    *ADAPTERS,
    Contender(name="bare hop", threads="the loop's: processors + 4"),
    Contender(name="no hop", threads="none"),
)
PEERS = tuple(one.name for one in ADAPTERS if one.name != OURS)


def find_contender(name: str) -> Contender:
    """Find a contender by its name, or make one of an adapter's ``module:Class``."""
    for contender in CONTENDERS:
        if contender.name == name:
            return contender
    if ":" not in name:
        raise LookupError(f"there is no contender {name!r}")
    return Contender(name=name, target=name, threads="its default")


def installed_version(distribution: str) -> str:
    """Say which version is installed; empty if none is."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def make_app(contender: Contender, application: Application) -> Callable[..., Any]:
    """Make the contender's ASGI application; what it warns of is known."""
    if not contender.target:
        return Limit(application, hop=contender.name == "bare hop")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, _, name = contender.target.partition(":")
        adapter: Callable[..., Callable[..., Any]] = getattr(
            import_module(module), name
        )
        return adapter(application.load(), **contender.options)
