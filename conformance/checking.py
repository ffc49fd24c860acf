"""What a check is: a function with the clauses that it checks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from conformance.timing import CHECK_S

__all__ = [
    "Check",
    "Failed",
    "NotOffered",
    "check",
    "expect",
    "expect_equal",
    "fail",
    "registered",
]


class Failed(Exception):
    """An adapter does not do what a clause demands.

    Its text is what users read in the report: what was seen, and what should have
    been seen.
    """


class NotOffered(Exception):
    """An adapter does not have an optional feature; its text says which."""


class CheckFunction(Protocol):
    """The function of a check; it gets a `conformance.bench.Bench`."""

    __name__: str
    __module__: str

    def __call__(self, bench: Any, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: Group and function, such as ``iterable.close_after_an_error``.
        clauses: Ids of the clauses that it checks.
        run: Raises `Failed` or `NotOffered`, or returns.
        limit: Seconds after which its process is killed.
    """

    name: str
    clauses: tuple[str, ...]
    run: CheckFunction
    limit: float

    @property
    def group(self) -> str:
        """The module that it stands in."""
        return self.name.partition(".")[0]

    @property
    def rule(self) -> str:
        """One sentence: what an adapter should do."""
        return " ".join((self.run.__doc__ or "").split())


_CHECKS: dict[str, Check] = {}


def check(
    *clauses: str, limit: float = CHECK_S
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a function as the check of some clauses.

    Args:
        clauses: Their ids.
        limit: Seconds after which the check is given up.
    """

    def register(function: CheckFunction) -> CheckFunction:
        group = function.__module__.rpartition(".")[2]
        name = f"{group}.{function.__name__}"
        if name in _CHECKS:
            raise ValueError(f"two checks are called {name}")
        _CHECKS[name] = Check(name, clauses, function, limit)
        return function

    return register


def registered() -> dict[str, Check]:
    """Give the checks that have been imported, by name, in order."""
    return dict(_CHECKS)


def fail(reason: str) -> NoReturn:
    """Fail the check that runs."""
    raise Failed(reason)


def expect(condition: object, reason: str) -> None:
    """Fail the check that runs unless something holds.

    Args:
        condition: What should be true.
        reason: What was seen instead.
    """
    if not condition:
        raise Failed(reason)


def expect_equal(seen: object, wanted: object, what: str) -> None:
    """Fail the check that runs unless two values are equal.

    Args:
        seen: What there is.
        wanted: What there should be.
        what: What it is, as the subject of a sentence.
    """
    if seen != wanted:
        raise Failed(f"{what} is {_shown(seen)}, expected {_shown(wanted)}")


def _shown(value: object, longest: int = 200) -> str:
    text = repr(value)
    if len(text) > longest:
        text = (
            f"{text[: longest // 2]}…{text[-longest // 4 :]} ({len(text)} characters)"
        )
    return text
