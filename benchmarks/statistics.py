"""Medians, quartiles and ratios: the few numbers that a run is told by."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Spread", "median", "ratios", "spread"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the middle half of some values lies, and their median."""

    low: float
    median: float
    high: float


def median(values: Sequence[float]) -> float:
    """Give the middle value."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> Spread:
    """Give median and quartiles; of one value, that value thrice."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, statistics.median(values), high)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Divide round by round: the two rates of a round met the same machine.

    A contender that was too slow for all rounds has the first ones.
    """
    return [our / their for our, their in zip(ours, theirs, strict=False)]
