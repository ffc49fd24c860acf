"""What a promise is: a function with the clauses that it observes on a server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from conformance.timing import PATIENCE

__all__ = ["NotPossible", "Promise", "promise", "registered"]

# For all that a promise does; its server is killed after that.
LIMIT_S = 25.0 * PATIENCE


class NotPossible(Exception):
    """A server, or what is installed here, does not allow it; the text says why."""


class PromiseFunction(Protocol):
    """The function of a promise; it gets a `conformance.live.site.Site`."""

    __name__: str
    __module__: str

    def __call__(self, site: Any, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise.

    Attributes:
        name: Group and function, such as ``leaving.in_mid_stream``.
        clauses: Ids of the clauses that it observes.
        run: Raises `conformance.checking.Failed` or `NotPossible`, or returns.
        impossible: Why no adapter can keep it on some peers, by their names.
        own_server: It needs a server that no other promise uses.
        limit: Seconds after which its server is killed.
    """

    name: str
    clauses: tuple[str, ...]
    run: PromiseFunction
    impossible: Mapping[str, str]
    own_server: bool
    limit: float

    @property
    def group(self) -> str:
        """The module that it stands in."""
        return self.name.partition(".")[0]

    @property
    def rule(self) -> str:
        """One sentence: what users see if it is kept."""
        return " ".join((self.run.__doc__ or "").split())


_PROMISES: dict[str, Promise] = {}


def promise(
    *clauses: str,
    impossible: Mapping[str, str] | None = None,
    own_server: bool = False,
    limit: float = LIMIT_S,
) -> Callable[[PromiseFunction], PromiseFunction]:
    """Register a function as a promise that observes some clauses.

    Args:
        clauses: Their ids.
        impossible: Why no adapter can keep it on some peers, by their names.
        own_server: It needs a server that no other promise uses.
        limit: Seconds after which it is given up.
    """

    def register(function: PromiseFunction) -> PromiseFunction:
        group = function.__module__.rpartition(".")[2]
        name = f"{group}.{function.__name__}"
        if name in _PROMISES:
            raise ValueError(f"two promises are called {name}")
        reasons = dict(impossible or {})
        made = Promise(name, clauses, function, reasons, own_server, limit)
        _PROMISES[name] = made
        return function

    return register


def registered() -> dict[str, Promise]:
    """Give the promises that have been imported, by name, in order."""
    return dict(_PROMISES)
