"""The command line."""

import argparse
import platform
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from conformance.adapters import KNOWN, OURS, Adapter, UnknownAdapter, find_adapter
from conformance.catalogue import Clause, load_clauses
from conformance.checking import Check
from conformance.checks import GROUPS, load_checks
from conformance.live.servers import PEERS, select_peers
from conformance.loops import ASYNCIO, LOOPS
from conformance.results import AdapterRun, Report, describe_platform
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
        The exit status: 1 if a MUST, or with ``--live`` a promise, failed on an
        adapter under test, or with ``--all`` on ours; 2 if the command makes no
        sense.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.json and not Path(options.json).resolve().parent.is_dir():
        parser.error(f"there is no folder for {options.json}")
    if options.server and not options.live:
        parser.error("--server goes with --live")
    if options.loop and options.live:
        parser.error(
            "--loop does not go with --live, where --server chooses the loop too"
        )
    options.loop = options.loop or ASYNCIO
    if not find_spec(options.loop):
        parser.error(f"--loop {options.loop} needs {options.loop}, which is missing")
    try:
        work = _prepare_live(options) if options.live else _prepare_checks(options)
    except (UnknownAdapter, ValueError) as error:
        parser.error(str(error))
    try:
        return work()
    except KeyboardInterrupt:
        return INTERRUPTED


def _prepare_checks(options: argparse.Namespace) -> Callable[[], int]:
    clauses = load_clauses()
    checks = select_checks(options.select or (), load_checks())
    adapters = _adapters(options)
    if options.list:
        return partial(_list, checks, clauses)
    return partial(_run_checks, options, adapters, checks, clauses)


def _prepare_live(options: argparse.Namespace) -> Callable[[], int]:
    try:
        from conformance.live import command
        from conformance.live.promises import load_promises
    except ModuleNotFoundError as error:
        # Clients of our own need h11 and h2, which nothing else here does.
        raise ValueError(f"--live needs {error.name}, which is not installed") from None
    peers = select_peers(options.server or ())
    promises = command.select_promises(options.select or (), load_promises())
    adapters = _adapters(options)
    if options.list:
        return partial(command.list_promises, promises)
    return partial(
        command.run_live,
        adapters,
        peers,
        promises,
        json=options.json,
        judge_ours_only=options.all,
    )


def _run_checks(
    options: argparse.Namespace,
    adapters: Sequence[Adapter],
    checks: Sequence[Check],
    clauses: Mapping[str, Clause],
) -> int:
    report = _run(adapters, options.loop, checks, clauses)
    if options.json:
        Path(options.json).write_text(report.to_json(), encoding="utf-8")
    for run in report.runs:
        show_run(run, GROUPS, sys.stdout)
    if len(report.runs) > 1:
        show_summary(report.runs, sys.stdout)
    unable = [one.name for one in KNOWN if options.loop not in one.loops]
    if options.all and unable:
        sys.stdout.write(f"\n  do not run on {options.loop}: {', '.join(unable)}\n")
    judged = [run for run in report.runs if not options.all or run.name == OURS.name]
    broken = any(
        run.failures or run.problem if options.strict else run.breaks_a_must
        for run in judged
    )
    return A_MUST_FAILED if broken else GOOD


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
        help="every known adapter that is installed, and runs on that loop; only ours "
        "counts for the exit status",
    )
    parser.add_argument(
        "--loop",
        choices=LOOPS,
        help=f"the event loop that the checks run the adapter on (default: {ASYNCIO})",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="let every failure count for the exit status, not only that of a MUST",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="try what the adapter promises on real servers, as subprocesses on this "
        "machine, in the place of the checks",
    )
    parser.add_argument(
        "--server",
        action="append",
        metavar="NAME",
        help="with --live, only servers whose name begins so: "
        f"{', '.join(peer.name for peer in PEERS)}; may be repeated",
    )
    parser.add_argument(
        "--select",
        action="append",
        metavar="WORD",
        help="only some checks or promises: a group, a name, a clause or the beginning "
        "of its id; may be repeated",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the results there as well"
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="list the clauses, or with --live the promises, and run nothing",
    )
    return parser


def _adapters(options: argparse.Namespace) -> list[Adapter]:
    if options.all:
        return [
            adapter
            for adapter in KNOWN
            if adapter.is_installed and options.loop in adapter.loops
        ]
    adapters = [find_adapter(text) for text in options.adapter or (OURS.name,)]
    for adapter in adapters:
        if options.loop not in adapter.loops:
            raise ValueError(f"{adapter.name} does not run on {options.loop}")
    return adapters


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
    adapters: Sequence[Adapter],
    loop: str,
    checks: Sequence[Check],
    clauses: Mapping[str, Clause],
) -> Report:
    progress = Progress(len(adapters) * len(checks))
    runs: list[AdapterRun] = []
    try:
        for adapter in adapters:
            on_result = partial(progress.advance, adapter.name)
            runs += [run_checks(adapter, checks, clauses, on_result, loop=loop)]
    finally:
        progress.end()
    return Report(
        python=platform.python_version(),
        platform=describe_platform(),
        runs=tuple(runs),
    )


def _list(checks: Sequence[Check], clauses: Mapping[str, Clause]) -> int:
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
    return GOOD
