"""What the project holds itself to, and whether a run has reached it."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.contenders import OURS, PEERS
from benchmarks.results import CaseResult, Results
from benchmarks.statistics import Spread, spread

__all__ = ["BEST_PEER", "TAIL", "TARGETS", "Judgement", "Target", "judge"]

BEST_PEER = "the best peer"
TAIL = "its own median"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one number of a case.

    Attributes:
        setting: The case's.
        case: The case's name.
        against: The contender that we are to be so many times as fast as;
            `BEST_PEER` for whichever is the fastest; `TAIL` where our 99th
            percentile is to be at most so many times our median.
        bound: How many times.
    """

    setting: str
    case: str
    against: str
    bound: float

    @property
    def words(self) -> str:
        """The bound, as tables show it."""
        return f"at most {self.bound:g}" if self.against == TAIL else f"{self.bound:g}"


def _targets(setting: str, case: str, **bounds: float) -> Iterator[Target]:
    for name, bound in bounds.items():
        yield Target(setting, case, name.replace("_", " "), bound)


_UVICORN = "behind uvicorn"

TARGETS = (
    *_targets("asyncio", "trivial-32", bare_hop=1.5, asgiref=15, a2wsgi=10, uvicorn=4),
    *_targets("uvloop", "trivial-32", bare_hop=1.3),
    *_targets("asyncio", "trivial-1", bare_hop=1.1),
    *_targets("asyncio", "chunks-1000", asgiref=100, a2wsgi=100, uvicorn=10),
    *_targets("asyncio", "down-20mb", a2wsgi=8, uvicorn=1),
    Target("asyncio", "up-20mb", BEST_PEER, 3),
    *_targets(_UVICORN, "trivial", bare_hop=0.95),
    *_targets(_UVICORN, "flask", asgiref=3.5, a2wsgi=2.5, gunicorn_gthread=1.8),
    Target(_UVICORN, "flask", "granian WSGI", 0.9),
    *_targets(_UVICORN, "django", asgiref=3, a2wsgi=2, gunicorn_gthread=1.5),
    *_targets(_UVICORN, "sleep-256", a2wsgi=3.5),
    Target(_UVICORN, "sleep-256", TAIL, 2),
    *_targets("behind granian", "file", a2wsgi=15),
    *_targets(_UVICORN, "file", a2wsgi=10),
    *_targets(_UVICORN, "messages-1", no_hop=0.5),
    *_targets(_UVICORN, "messages-16", no_hop=0.5),
    *_targets(_UVICORN, "flask-sock-1", gunicorn_gthread_40=1),
    *_targets(_UVICORN, "flask-sock-16", gunicorn_gthread_40=1),
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of a target.

    Attributes:
        title: The case, in words.
        measured: The number; None if there is none.
        reached: Whether its median keeps the bound; None if it was not measured.
        note: Why there is no number, or who the best peer is.
    """

    title: str
    measured: Spread | None = None
    reached: bool | None = None
    note: str = ""


def judge(target: Target, results: Results) -> Judgement:
    """Hold a run against a target."""
    case = results.find(target.case, target.setting)
    if case is None:
        return Judgement(target.case, note="not run")
    measured, note = _measure(target, case)
    if measured is None:
        return Judgement(case.title, note=note)
    if target.against == TAIL:
        return Judgement(case.title, measured, measured.median <= target.bound)
    return Judgement(case.title, measured, measured.median >= target.bound, note)


def _measure(target: Target, case: CaseResult) -> tuple[Spread | None, str]:
    against = target.against
    if against == TAIL:
        tails = [one["p99"] / one["p50"] for one in case.latencies.get(OURS, ())]
        return (spread(tails), "") if tails else (None, "not measured")
    if against == BEST_PEER:
        found = [(name, case.ratio(name)) for name in PEERS]
        compared = [(name, ratio) for name, ratio in found if ratio]
        if not compared:
            return None, "not measured"
        name, least = min(compared, key=lambda one: one[1].median)
        return least, name
    for name in (OURS, against):
        if name in case.troubles:
            return None, f"{name}: {case.troubles[name].kind.value}"
    return case.ratio(against), "not measured" if not case.ratio(against) else ""
