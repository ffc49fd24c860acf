"""What a run found, and its JSON."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from benchmarks.cases import Growth
from benchmarks.contenders import OURS, installed_version
from benchmarks.statistics import Spread, ratios, spread

__all__ = ["CaseResult", "Results", "Trouble", "TroubleKind", "describe_machine"]

FORMAT = 1
_DISTRIBUTIONS = (
    *("wsgi-asgi", "asgiref", "a2wsgi", "uvicorn", "starlette", "hypercorn"),
    *("granian", "gunicorn", "waitress", "uvloop", "httptools", "Flask", "Django"),
)


class TroubleKind(Enum):
    """Why a contender has no numbers in a case."""

    WRONG = "wrong"
    RAISED = "raised"
    HUNG = "hung"
    DIED = "died"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a contender has no numbers in a case, and the details."""

    kind: TroubleKind
    text: str


@dataclass(slots=True, kw_only=True)
class CaseResult:
    """What the contenders did in one case.

    Attributes:
        part: ``process`` or ``served``.
        setting: The event loop, or the server and its processes.
        name: The case's, unique with the setting.
        title: What it is, in words.
        unit: What the rates count.
        units: How many of them one request has.
        rates: By contender, units a second of each round.
        latencies: By contender, for each round, seconds by percentile.
        troubles: By contender, why it has no rates.
        growth: The case's place in a series, if it has one.
    """

    part: str
    setting: str
    name: str
    title: str
    unit: str
    units: float = 1
    rates: dict[str, list[float]] = field(default_factory=dict)
    latencies: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    growth: Growth | None = None

    def fail(self, contender: str, trouble: Trouble) -> None:
        """Take a contender out: some wrong answers make all its numbers void."""
        self.troubles[contender] = trouble
        self.rates.pop(contender, None)
        self.latencies.pop(contender, None)

    def ratio(self, contender: str) -> Spread | None:
        """Say how many times as fast we are; None if one of the two has no rates."""
        ours, theirs = self.rates.get(OURS), self.rates.get(contender)
        return spread(ratios(ours, theirs)) if ours and theirs else None


@dataclass(slots=True, kw_only=True)
class Results:
    """A run: where and how it was made, and what it found."""

    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    cases: list[CaseResult] = field(default_factory=list)

    def find(self, name: str, setting: str) -> CaseResult | None:
        """Find a case by its name and setting."""
        for case in self.cases:
            if (case.name, case.setting) == (name, setting):
                return case
        return None

    def write(self, path: Path) -> None:
        """Write the JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, default=_value)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Read what `write` has written.

        Raises:
            ValueError: It is something else.
        """
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
            raise ValueError(f"{path} is not written by this benchmark")
        found["cases"] = [_case(case) for case in found["cases"]]
        return cls(**found)


def _value(value: object) -> Any:
    if isinstance(value, TroubleKind):
        return value.value
    raise TypeError(f"{value!r} is not for JSON")


def _case(found: dict[str, Any]) -> CaseResult:
    found["growth"] = Growth(**found["growth"]) if found["growth"] else None
    found["troubles"] = {
        name: Trouble(TroubleKind(trouble["kind"]), trouble["text"])
        for name, trouble in found["troubles"].items()
    }
    return CaseResult(**found)


def describe_machine(
    further: Iterable[str] = (),
) -> tuple[dict[str, Any], dict[str, str]]:
    """Say what the run is made on: the machine, and the versions of everything."""
    machine = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "processors": os.process_cpu_count()
        if hasattr(os, "process_cpu_count")
        else len(os.sched_getaffinity(0)),
        "load before": round(os.getloadavg()[0], 2),
    }
    versions = {
        name: found
        for name in (*_DISTRIBUTIONS, *further)
        if (found := installed_version(name))
    }
    return machine, versions
