"""How cost grows: the time of one unit, over how many of them there are."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.results import CaseResult
from benchmarks.statistics import median

__all__ = ["Series", "find_series"]


@dataclass(slots=True)
class Series:
    """Cases that differ in one size.

    Attributes:
        name: What grows.
        unit: What is counted.
        sizes: How many there were, rising.
        seconds: By contender, by size, the seconds that one unit took.
    """

    name: str
    unit: str
    sizes: list[int] = field(default_factory=list)
    seconds: dict[str, dict[int, float]] = field(default_factory=dict)

    def excess(self, contender: str) -> float | None:
        """Say how many times the best time of a unit the largest size takes.

        1 means that a unit never costs more for being one of many.
        """
        times = self.seconds[contender]
        if self.sizes[-1] not in times:
            return None
        return times[self.sizes[-1]] / min(times.values())


def find_series(cases: Iterable[CaseResult]) -> list[Series]:
    """Arrange those cases that belong to a series."""
    found: dict[str, Series] = {}
    for case in cases:
        if case.growth is None:
            continue
        growth = case.growth
        series = found.setdefault(growth.series, Series(growth.series, growth.unit))
        series.sizes = sorted({*series.sizes, growth.size})
        # Of requests at a time, each is one; of bytes and headers, one has many.
        count = 1 if growth.unit == "request" else growth.size
        for contender, rates in case.rates.items():
            seconds = case.units / median(rates) / count
            series.seconds.setdefault(contender, {})[growth.size] = seconds
    return list(found.values())
