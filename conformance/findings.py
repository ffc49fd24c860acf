"""What a run says about each clause, arranged for pages: groups of rows, and totals.

It counts clauses, where the runner counts checks: a clause with several checks has the
worst of their outcomes, once.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from conformance.catalogue import Clause, Strength
from conformance.checks import GROUPS
from conformance.results import AdapterRun, Outcome, Report

__all__ = [
    "UNCHECKED",
    "Finding",
    "Findings",
    "Group",
    "Row",
    "Tally",
    "arrange",
    "shorten",
]

# The name of the group of clauses that no check observes.
UNCHECKED = "unchecked"
_UNCHECKED_TITLE = "clauses without a check, and why"

_FOLDER = re.compile(
    r"(?:[A-Za-z]:)?[/\\](?:[\w.+@~-]+[/\\])+(?=[\w-]+[/\\][\w-]+\.py)"
)
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,16}\b")
# How many there are of something endless says how quick the machine was.
_THOUSANDS = re.compile(r"\b[0-9]{4,} (?=messages\b)")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one clause on one adapter.

    Attributes:
        outcome: How it ended; None if it was not tried.
        reason: Why, in words; empty if it passed.
    """

    outcome: Outcome | None = None
    reason: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether it was tried, and did not end well."""
        return self.outcome is not None and not self.outcome.is_good


@dataclass(frozen=True, slots=True)
class Row:
    """One clause, with a finding for each adapter."""

    clause: Clause
    findings: tuple[Finding, ...]

    @property
    def is_checked(self) -> bool:
        """Whether any adapter was tried."""
        return any(finding.outcome is not None for finding in self.findings)

    @property
    def why_not(self) -> str:
        """Why there is no finding; empty if there should be one."""
        clause = self.clause
        if clause.withdrawn:
            return f"Withdrawn. {clause.withdrawn}"
        if clause.live:
            return f"Only real servers show it. {clause.live}"
        return clause.unchecked or ""


@dataclass(frozen=True, slots=True)
class Group:
    """Clauses that belong together."""

    name: str
    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many clauses of some rows ended how, on one adapter."""

    passed: int = 0
    not_offered: int = 0
    failed: Mapping[Strength, int] = field(default_factory=dict)

    @property
    def failures(self) -> int:
        """How many failed, of any strength."""
        return sum(self.failed.values())

    @property
    def total(self) -> int:
        """How many were tried."""
        return self.passed + self.not_offered + self.failures


@dataclass(frozen=True, slots=True)
class Findings:
    """All that pages say about a run.

    Attributes:
        report: The run.
        groups: In the order of the checks; the unchecked clauses last.
    """

    report: Report
    groups: tuple[Group, ...]

    @property
    def adapters(self) -> tuple[AdapterRun, ...]:
        """The adapters, in the order of every row's findings."""
        return self.report.runs

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all groups."""
        return tuple(row for group in self.groups for row in group.rows)

    def tally(self, adapter: int, rows: Iterable[Row] | None = None) -> Tally:
        """Count one adapter's outcomes.

        Args:
            adapter: Its index.
            rows: Where; all rows if None.
        """
        chosen = self.rows if rows is None else rows
        found = [(row.clause.strength, row.findings[adapter]) for row in chosen]
        outcomes = [finding.outcome for _, finding in found]
        failed = [strength for strength, finding in found if finding.is_failure]
        return Tally(
            passed=outcomes.count(Outcome.PASSED),
            not_offered=outcomes.count(Outcome.NOT_OFFERED),
            failed={strength: failed.count(strength) for strength in Strength},
        )

    def failures(self, adapter: int) -> list[tuple[Clause, Finding]]:
        """Give one adapter's failures: the strongest first, then by id."""
        return sorted(
            (
                (row.clause, row.findings[adapter])
                for row in self.rows
                if row.findings[adapter].is_failure
            ),
            key=lambda failure: (failure[0].strength.rank, failure[0].id),
        )


def arrange(report: Report, clauses: Mapping[str, Clause]) -> Findings:
    """Arrange the results of a run by clause.

    Args:
        report: The run.
        clauses: By id; all get a row, tried or not.

    Raises:
        ValueError: The run names a clause that is not there.
    """
    found = [_findings(run) for run in report.runs]
    unknown = {name for one in found for name in one} - clauses.keys()
    if unknown:
        raise ValueError(f"the results name the unknown clause {min(unknown)}")
    members: dict[str, list[Row]] = {name: [] for name in (*GROUPS, UNCHECKED)}
    homes = _homes(report)
    for name, clause in sorted(clauses.items()):
        row = Row(clause, tuple(one.get(name, Finding()) for one in found))
        members.setdefault(homes.get(name, UNCHECKED), []).append(row)
    members[UNCHECKED] = members.pop(UNCHECKED)  # after groups that are not ours
    titles = {**GROUPS, UNCHECKED: _UNCHECKED_TITLE}
    return Findings(
        report=report,
        groups=tuple(
            Group(name, titles.get(name, name), tuple(rows))
            for name, rows in members.items()
            if rows
        ),
    )


def _homes(report: Report) -> dict[str, str]:
    """Find the group of each clause: that of its first check."""
    homes: dict[str, str] = {}
    for run in report.runs:
        for result in run.results:
            for clause in result.clauses:
                homes.setdefault(clause, result.group)
    return homes


def _findings(run: AdapterRun) -> dict[str, Finding]:
    reasons: dict[str, list[str]] = {}
    outcomes = run.clause_outcomes()
    for result in run.results:
        for clause in result.clauses:
            # With several checks, only those that ended as badly as the clause did.
            if result.reason and result.outcome is outcomes[clause]:
                reasons.setdefault(clause, []).append(shorten(result.reason))
    return {
        clause: Finding(outcome, "; ".join(_distinct(reasons.get(clause, ()))))
        for clause, outcome in outcomes.items()
    }


def _distinct(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def shorten(reason: str) -> str:
    """Take out of a reason what is true of one machine or one process only.

    >>> shorten("in /usr/lib/python3.11/asyncio/futures.py:387, at 0x7f1b2c3d4e5f")
    'in asyncio/futures.py:387, at 0x…'
    """
    short = _FOLDER.sub("", " ".join(reason.split()))
    return _THOUSANDS.sub("thousands of ", _ADDRESS.sub("0x…", short))
