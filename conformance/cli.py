"""The command line."""

import argparse
import os
import platform
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from conformance.adapters import KNOWN, OURS, Adapter, UnknownAdapter, find_adapter
from conformance.catalogue import Clause, load_clauses
from conformance.checking import Check
from conformance.checks import GROUPS, load_checks
from conformance.results import AdapterRun, Report
from conformance.runner import run_checks
from conformance.table import Progress, show_run, show_summary

__all__ = ["main", "select_checks"]

# Exit statuses.
GOOD, A_MUST_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite as the command line says.

    Args:
        arguments: Without the program's name; those of the process if None.

    Returns:
        The exit status: 1 if a MUST failed on an adapter under test, or with
        ``--all`` on ours; 2 if the command makes no sense.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    clauses, checks = load_clauses(), load_checks()
    try:
        chosen = select_checks(options.select or (), checks)
        adapters = _adapters(options)
    except (UnknownAdapter, ValueError) as error:
        parser.error(str(error))
    if options.list:
        _list(chosen, clauses)
        return GOOD
    if options.json and not Path(options.json).resolve().parent.is_dir():
        parser.error(f"there is no folder for {options.json}")
    try:
        report = _run(adapters, chosen, clauses)
    except KeyboardInterrupt:
        return INTERRUPTED
    if options.json:
        Path(options.json).write_text(report.to_json(), encoding="utf-8")
    for run in report.runs:
        show_run(run, GROUPS, sys.stdout)
    if len(report.runs) > 1:
        show_summary(report.runs, sys.stdout)
    judged = [run for run in report.runs if not options.all or run.name == OURS.name]
    return A_MUST_FAILED if any(run.breaks_a_must for run in judged) else GOOD


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance",
        description="Check what an adapter that runs WSGI applications as ASGI "
        "applications does about the specifications.",
        epilog=f"Known by name: {', '.join(adapter.name for adapter in KNOWN)}.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--adapter",
        action="append",
        metavar="ADAPTER",
        help="the adapter under test: module:Class, or a name; may be repeated "
        f"(default: {OURS.name})",
    )
    which.add_argument(
        "--all",
        action="store_true",
        help="every known adapter that is installed; only ours counts for the "
        "exit status",
    )
    parser.add_argument(
        "--select",
        action="append",
        metavar="WORD",
        help="only some checks: a group, a check, a clause or the beginning of its "
        "id; may be repeated",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the results there as well"
    )
    parser.add_argument(
        "--list", action="store_true", help="list the clauses, and run nothing"
    )
    return parser


def _adapters(options: argparse.Namespace) -> list[Adapter]:
    if options.all:
        return [adapter for adapter in KNOWN if adapter.is_installed]
    return [find_adapter(text) for text in options.adapter or (OURS.name,)]


def select_checks(words: Iterable[str], checks: Mapping[str, Check]) -> list[Check]:
    """Choose checks by group, by name, or by the beginning of a clause's id.

    Args:
        words: What to choose; all if there are none.
        checks: By name.

    Returns:
        The chosen ones, in their order.

    Raises:
        ValueError: A word chooses nothing.
    """
    chosen: set[str] = set()
    for word in words:
        matching = {name for name, check in checks.items() if _matches(check, word)}
        if not matching:
            raise ValueError(
                f"{word!r} is no group ({', '.join(GROUPS)}), no check, and no clause "
                f"that is checked begins with it; --list shows all"
            )
        chosen |= matching
    return [check for name, check in checks.items() if name in chosen or not words]


def _matches(check: Check, word: str) -> bool:
    return word in (check.group, check.name) or any(
        clause.lower().startswith(word.lower()) for clause in check.clauses
    )


def _run(
    adapters: Sequence[Adapter], checks: Sequence[Check], clauses: Mapping[str, Clause]
) -> Report:
    progress = Progress(len(adapters) * len(checks))
    runs: list[AdapterRun] = []
    try:
        for adapter in adapters:
            on_result = partial(progress.advance, adapter.name)
            runs += [run_checks(adapter, checks, clauses, on_result)]
    finally:
        progress.end()
    return Report(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        runs=tuple(runs),
    )


def _list(checks: Sequence[Check], clauses: Mapping[str, Clause]) -> None:
    """Show the clauses of some checks, and if those are all, the others too."""
    checked = {clause: check for check in checks for clause in check.clauses}
    everything = len(checks) == len(load_checks())
    for clause in clauses.values():
        if clause.id not in checked and not everything:
            continue
        check = checked.get(clause.id)
        why = clause.live and f"live only: {clause.live}"
        where = check.name if check else (why or f"not checked: {clause.unchecked}")
        sys.stdout.write(f"{clause.id}  {clause.strength}  [{where}]\n")
        for line in textwrap.wrap(clause.text, 84):
            sys.stdout.write(f"    {line}\n")
