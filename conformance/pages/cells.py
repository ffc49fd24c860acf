"""What stands where a row and a column of a matrix meet, on either page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from conformance.findings import Finding, shorten
from conformance.live.results import LiveOutcome, PromiseResult
from conformance.results import Outcome

__all__ = [
    "UNTRIED",
    "Cell",
    "Kind",
    "Why",
    "differ",
    "explain",
    "find_cell",
    "live_cell",
]


class Kind(StrEnum):
    """How good it is; what the two pages show it by."""

    PASSED = "passed"
    ABSENT = "absent"  # and need not be there
    FAILED = "failed"
    UNTRIED = "untried"

    @property
    def symbol(self) -> str:
        """One character that tells it from the others."""
        return {"passed": "✓", "absent": "–", "failed": "✗", "untried": "·"}[self]


@dataclass(frozen=True, slots=True)
class Cell:
    """One outcome.

    Attributes:
        kind: How good it is.
        word: How it ended.
        reason: Why; empty if there is nothing to say.
    """

    kind: Kind
    word: str
    reason: str = ""


UNTRIED = Cell(Kind.UNTRIED, "not tried")


def find_cell(finding: Finding) -> Cell:
    """Make the cell of a clause on an adapter."""
    if finding.outcome is None:
        return UNTRIED
    return Cell(_kind(finding.outcome), finding.outcome.value, finding.reason)


def live_cell(result: PromiseResult | None) -> Cell:
    """Make the cell of a promise on a server."""
    if result is None:
        return UNTRIED
    return Cell(_kind(result.outcome), result.outcome.value, shorten(result.reason))


def _kind(outcome: Outcome | LiveOutcome) -> Kind:
    if outcome in (Outcome.PASSED, LiveOutcome.PASSED):
        return Kind.PASSED
    return Kind.ABSENT if outcome.is_good else Kind.FAILED


@dataclass(frozen=True, slots=True)
class Why:
    """One cell that wants a reason, and the columns that have the very same."""

    columns: tuple[int, ...]
    cell: Cell


def explain(cells: Sequence[Cell]) -> list[Why]:
    """Gather what has to be explained in a row: failures, and what else has a reason.

    >>> one, other = Cell(Kind.FAILED, "failed", "x"), Cell(Kind.PASSED, "passed")
    >>> [why.columns for why in explain([one, other, one])]
    [(0, 2)]
    """
    columns: dict[Cell, list[int]] = {}
    for column, cell in enumerate(cells):
        if cell.reason or cell.kind is Kind.FAILED:
            columns.setdefault(cell, []).append(column)
    return [Why(tuple(found), cell) for cell, found in columns.items()]


def differ(cells: Iterable[Cell]) -> bool:
    """Whether not all that were tried ended alike."""
    return len({cell.kind for cell in cells} - {Kind.UNTRIED}) > 1
