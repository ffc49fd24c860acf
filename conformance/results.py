"""What a run of the suite brings, as plain data: for the table, for JSON, for pages."""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from conformance.catalogue import Strength
from conformance.loops import ASYNCIO

__all__ = ["AdapterRun", "CheckResult", "Outcome", "Report", "describe_platform"]


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    NOT_OFFERED = "not offered"  # an optional feature that the adapter lacks
    FAILED = "failed"
    HUNG = "hung"  # its process had to be killed
    CRASHED = "crashed"  # its process ended by itself

    @property
    def is_good(self) -> bool:
        """Whether the adapter does all that it must about this."""
        return self in (Outcome.PASSED, Outcome.NOT_OFFERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check on one adapter.

    Attributes:
        check: The check's name.
        group: The group that it is in.
        clauses: Ids of the clauses that it checks.
        strength: That of the strongest of them.
        outcome: How it ended.
        reason: Why, in words; empty if it passed.
        seconds: How long it took.
    """

    check: str
    group: str
    clauses: tuple[str, ...]
    strength: Strength
    outcome: Outcome
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRun:
    """All checks on one adapter.

    Attributes:
        name: Short name.
        target: Where it is imported from, as ``module:Class``.
        distribution: The installed distribution that it comes from, if any.
        version: The version of that.
        loop: The kind of loop that it ran on.
        results: One for each check, in order.
        seconds: How long it all took.
        problem: Why there are no results, if there are none.
    """

    name: str
    target: str
    distribution: str
    version: str
    loop: str = ASYNCIO
    results: tuple[CheckResult, ...] = ()
    seconds: float = 0.0
    problem: str = ""

    def counts(
        self, *, group: str | None = None, strength: Strength | None = None
    ) -> dict[Outcome, int]:
        """Count the outcomes, of all checks or of some."""
        counts = dict.fromkeys(Outcome, 0)
        for result in self.results:
            if group in (None, result.group) and strength in (None, result.strength):
                counts[result.outcome] += 1
        return counts

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """What did not end well."""
        return tuple(r for r in self.results if not r.outcome.is_good)

    @property
    def breaks_a_must(self) -> bool:
        """Whether a check of a MUST did not end well, or nothing could be checked."""
        musts = [r for r in self.failures if r.strength is Strength.MUST]
        return bool(musts) or bool(self.problem)

    def clause_outcomes(self) -> dict[str, Outcome]:
        """Give each checked clause the worst outcome of its checks."""
        order = list(Outcome)
        outcomes: dict[str, Outcome] = {}
        for result in self.results:
            for clause in result.clauses:
                known = outcomes.get(clause, Outcome.PASSED)
                outcomes[clause] = max(known, result.outcome, key=order.index)
        return outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run of the suite, on one or more adapters.

    Attributes:
        python: Version of the interpreter.
        platform: The operating system and machine.
        runs: One for each adapter.
    """

    python: str
    platform: str
    runs: tuple[AdapterRun, ...] = field(default=())

    @property
    def where(self) -> str:
        """What the runs took place on, in words."""
        loops = sorted({run.loop for run in self.runs} - {ASYNCIO})
        return ", ".join((f"Python {self.python}", self.platform, *loops))

    def to_json(self) -> str:
        """Write it as JSON, to be read by `from_json` or by other programs."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Read what `to_json` wrote."""
        data = json.loads(text)
        return cls(**(data | {"runs": tuple(_runs(data["runs"]))}))


def _runs(runs: Iterable[Mapping[str, Any]]) -> Iterable[AdapterRun]:
    for run in runs:
        results = tuple(
            CheckResult(
                **{
                    **result,
                    "clauses": tuple(result["clauses"]),
                    "strength": Strength(result["strength"]),
                    "outcome": Outcome(result["outcome"]),
                }
            )
            for result in run["results"]
        )
        yield AdapterRun(**{**run, "results": results})


def describe_platform() -> str:
    """Say on what a run takes place: the operating system and machine."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
