"""The adapters that the suite knows by name, and how any other is found."""

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from typing import Any

from conformance.loops import ASYNCIO, LOOPS

__all__ = [
    "KNOWN",
    "OURS",
    "Adapter",
    "UnknownAdapter",
    "find_adapter",
    "import_target",
]

# What must be asked for when an adapter is made: each adapter has other words for it,
# so checks ask for it by these names.
SERIAL = "one request at a time"
TWO_THREADS = "at most two requests at a time"
BODY_LIMIT = "request bodies of at most 1,000 bytes"
# An adapter that nobody has told how to do this does so unasked, or not at all.
STREAMED_BODIES = "request bodies of unknown length as they come"

Options = Mapping[str, Callable[[], Mapping[str, Any]]]


class UnknownAdapter(Exception):
    """There is no such adapter; the text is for the person who named it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter that can be put to the test.

    Attributes:
        name: Short name.
        target: Where it is imported from, as ``module:Class``.
        distribution: The distribution that it comes from, if that is known.
        options: Arguments for what must be asked for at the making.
        loops: The kinds of loops that it is known to run on; all if nothing is known.
    """

    name: str
    target: str
    distribution: str = ""
    options: Options = field(default_factory=dict)
    loops: tuple[str, ...] = LOOPS

    @property
    def is_installed(self) -> bool:
        """Whether its distribution is installed."""
        return not self.distribution or bool(self.version)

    @property
    def version(self) -> str:
        """The installed version; empty if there is none."""
        try:
            return version(self.distribution) if self.distribution else ""
        except PackageNotFoundError:
            return ""


def _our_body_limit() -> Mapping[str, Any]:
    from wsgi_asgi import Limits

    return {"limits": Limits(body=1000)}


def _workers() -> Options:
    return {SERIAL: lambda: {"workers": 1}, TWO_THREADS: lambda: {"workers": 2}}


OURS = Adapter(
    name="wsgi-asgi",
    target="wsgi_asgi:WsgiToAsgi",
    distribution="wsgi-asgi",
    options={
        SERIAL: lambda: {"threads": 1},
        TWO_THREADS: lambda: {"threads": 2},
        BODY_LIMIT: _our_body_limit,
        STREAMED_BODIES: lambda: {"spool": False},
    },
)

KNOWN = (
    OURS,
    Adapter(
        name="asgiref",
        target="asgiref.wsgi:WsgiToAsgi",
        distribution="asgiref",
        loops=(ASYNCIO,),
    ),
    Adapter(
        name="a2wsgi",
        target="a2wsgi:WSGIMiddleware",
        distribution="a2wsgi",
        options=_workers(),
        loops=(ASYNCIO,),
    ),
    # Its own, which it uses where a2wsgi is not installed.
    Adapter(
        name="uvicorn",
        target="uvicorn.middleware.wsgi:_WSGIMiddleware",
        distribution="uvicorn",
        options=_workers(),
        loops=(ASYNCIO,),
    ),
    Adapter(
        name="starlette",
        target="starlette.middleware.wsgi:WSGIMiddleware",
        distribution="starlette",
    ),
    Adapter(
        name="hypercorn",
        target="hypercorn.middleware.wsgi:AsyncioWSGIMiddleware",
        distribution="hypercorn",
        options={BODY_LIMIT: lambda: {"max_body_size": 1000}},
        loops=(ASYNCIO,),
    ),
)


def find_adapter(text: str) -> Adapter:
    """Find an adapter by its short name, or by where it is imported from.

    Args:
        text: A name, or ``module:Class``.

    Raises:
        UnknownAdapter: It is neither.
    """
    for adapter in KNOWN:
        if text in (adapter.name, adapter.target):
            if not adapter.is_installed:
                raise UnknownAdapter(f"{adapter.distribution} is not installed")
            return adapter
    module, colon, name = text.partition(":")
    if not (module and colon and name):
        known = ", ".join(adapter.name for adapter in KNOWN)
        raise UnknownAdapter(
            f"{text!r} is neither module:Class nor an adapter that is known by name "
            f"({known})"
        )
    try:
        found = find_spec(module)
    except (ImportError, ValueError) as error:
        raise UnknownAdapter(f"{module} cannot be imported: {error}") from None
    if found is None:
        raise UnknownAdapter(f"there is no module {module}")
    distributions = packages_distributions().get(module.partition(".")[0], [""])
    return Adapter(name=text, target=text, distribution=distributions[0])


def import_target(target: str) -> Callable[..., Any]:
    """Import an adapter's class.

    Args:
        target: Where, as ``module:Class``.

    Raises:
        Exception: What importing raises.
    """
    with warnings.catch_warnings():
        # Some of the peers are deprecated, and say so; that is known.
        if target != OURS.target:
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", UserWarning)
        module, _, name = target.partition(":")
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{target} is {found!r}, which cannot be called")
    result: Callable[..., Any] = found
    return result
