"""What the command line does with ``--live``."""

import platform
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from conformance.adapters import OURS, Adapter
from conformance.live.promises import GROUPS
from conformance.live.promising import Promise
from conformance.live.results import LiveReport, LiveRun, PromiseResult
from conformance.live.runner import run_promises
from conformance.live.servers import Peer
from conformance.live.table import show_live_run, show_live_summary
from conformance.results import describe_platform
from conformance.table import Progress

__all__ = ["list_promises", "run_live", "select_promises"]


def select_promises(
    words: Sequence[str], promises: Mapping[str, Promise]
) -> list[Promise]:
    """Choose promises by group, by name, or by the beginning of a clause's id.

    Args:
        words: What to choose; all if there are none.
        promises: By name.

    Returns:
        The chosen ones, in their order.

    Raises:
        ValueError: A word chooses nothing.
    """
    chosen: set[str] = set()
    for word in words:
        matching = {name for name, one in promises.items() if _matches(one, word)}
        if not matching:
            raise ValueError(
                f"{word!r} is no group of promises ({', '.join(GROUPS)}), no promise, "
                f"and no clause that one observes begins with it; --live --list shows "
                f"all"
            )
        chosen |= matching
    return [one for name, one in promises.items() if name in chosen or not words]


def _matches(promise: Promise, word: str) -> bool:
    return word in (promise.group, promise.name) or any(
        clause.lower().startswith(word.lower()) for clause in promise.clauses
    )


def run_live(
    adapters: Sequence[Adapter],
    peers: Sequence[Peer],
    promises: Sequence[Promise],
    *,
    json: str | None = None,
    judge_ours_only: bool = False,
) -> int:
    """Try promises, and show what has come out.

    Args:
        adapters: Which.
        peers: On which servers.
        promises: Which.
        json: A file for the results.
        judge_ours_only: Other adapters may fail.

    Returns:
        The exit status: 1 if a promise was broken.
    """
    report = LiveReport(
        python=platform.python_version(),
        platform=describe_platform(),
        runs=_run(adapters, peers, promises),
    )
    if json:
        Path(json).write_text(report.to_json(), encoding="utf-8")
    for run in report.runs:
        show_live_run(run, promises, GROUPS, sys.stdout)
    if len(report.runs) > 1:
        show_live_summary(report.runs, sys.stdout)
    judged = [
        run for run in report.runs if not judge_ours_only or run.name == OURS.name
    ]
    return int(any(run.has_failed for run in judged))


def _run(
    adapters: Sequence[Adapter], peers: Sequence[Peer], promises: Sequence[Promise]
) -> tuple[LiveRun, ...]:
    progress = Progress(len(adapters) * len(peers) * len(promises))
    try:
        return tuple(
            run_promises(
                adapter,
                peers,
                promises,
                partial(_advance, progress, adapter.name),
            )
            for adapter in adapters
        )
    finally:
        progress.end()


def _advance(
    progress: Progress, adapter: str, server: str, result: PromiseResult
) -> None:
    progress.advance(f"{adapter} on {server}", result)


def list_promises(promises: Iterable[Promise]) -> int:
    """Show what is promised, and the clauses that each promise observes."""
    for promise in promises:
        sys.stdout.write(f"{promise.name}  [{', '.join(promise.clauses)}]\n")
        for line in textwrap.wrap(promise.rule, 84):
            sys.stdout.write(f"    {line}\n")
    return 0
