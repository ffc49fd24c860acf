"""What the command line shows: a bar while it runs, and a table at the end."""

import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import Protocol, TextIO

from conformance.catalogue import Strength
from conformance.results import AdapterRun, CheckResult, Outcome

__all__ = ["Progress", "show_run", "show_summary"]

_BAR_WIDTH = 30
_WORDS = {
    Outcome.PASSED: "passed",
    Outcome.NOT_OFFERED: "not offered",
    Outcome.FAILED: "failed",
    Outcome.HUNG: "hung",
    Outcome.CRASHED: "crashed",
}


class _Outcome(Protocol):
    @property
    def is_good(self) -> bool: ...


class _Result(Protocol):
    """What a bar shows of a result, be it that of a check or of a promise."""

    @property
    def group(self) -> str: ...

    @property
    def outcome(self) -> _Outcome: ...


class Progress:
    """A bar on one line, where somebody looks on.

    Args:
        total: How many results there will be.
        stream: Where it is drawn, if that is a terminal.
    """

    def __init__(self, total: int, stream: TextIO = sys.stderr) -> None:
        self._total = total
        self._stream = stream
        self._done = 0
        self._bad = 0
        self._drawn = stream.isatty()

    def advance(self, place: str, result: _Result) -> None:
        """Take notice of one result, and say where it comes from."""
        self._done += 1
        self._bad += not result.outcome.is_good
        if self._drawn:
            filled = _BAR_WIDTH * self._done // self._total
            bar = "█" * filled + "·" * (_BAR_WIDTH - filled)
            text = f"{bar} {self._done}/{self._total} {place} {result.group}"
            if self._bad:
                text += f", {self._bad} not passed"
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{text[:width]}")
            self._stream.flush()

    def end(self) -> None:
        """Clear the line."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def show_run(run: AdapterRun, groups: Iterable[str], stream: TextIO) -> None:
    """Show one adapter: totals for each group, and each failure with its reason."""
    version = f" {run.version}" if run.version else ""
    name = f"{run.name}{version} ({run.target}) on {run.loop}"
    stream.write(f"\n{name}, {run.seconds:.1f} s\n\n")
    if run.problem:
        stream.write(f"  {run.problem}\n")
        return
    outcomes = list(_WORDS)
    header = "".join(f"{_WORDS[outcome]:>13}" for outcome in outcomes)
    stream.write(f"  {'group':<16}{header}\n")
    for group in [*groups, None]:
        counts = run.counts(group=group)
        if sum(counts.values()):
            cells = "".join(f"{counts[outcome] or '·':>13}" for outcome in outcomes)
            stream.write(f"  {group or 'all':<16}{cells}\n")
    for result in sorted(run.failures, key=lambda result: result.strength.rank):
        _show_failure(result, stream)


def _show_failure(result: CheckResult, stream: TextIO) -> None:
    width = max(60, min(100, shutil.get_terminal_size().columns)) - 4
    names = ", ".join(result.clauses)
    stream.write(f"\n  {result.strength} {names}: {_WORDS[result.outcome]}\n")
    for line in textwrap.wrap(result.reason, width):
        stream.write(f"    {line}\n")


def show_summary(runs: Iterable[AdapterRun], stream: TextIO) -> None:
    """Show several adapters side by side, a line for each."""
    stream.write(f"\n  {'adapter':<24}{'passed':>8}{'not offered':>13}")
    for strength in Strength:
        stream.write(f"{strength + ' failed':>15}")
    stream.write(f"{'seconds':>10}\n")
    for run in runs:
        counts = run.counts()
        name = f"{run.name} {run.version}".strip()
        stream.write(f"  {name:<24}{counts[Outcome.PASSED]:>8}")
        stream.write(f"{counts[Outcome.NOT_OFFERED]:>13}")
        for strength in Strength:
            failed = sum(r.strength is strength for r in run.failures)
            stream.write(f"{failed or '·':>15}")
        stream.write(f"{run.seconds:>10.1f}\n")
