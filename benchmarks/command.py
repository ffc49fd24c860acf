"""What the command line can do: run both parts or one, or show a run's file."""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks import wrk
from benchmarks.contenders import OURS
from benchmarks.entrants import (
    WEBSOCKET_CASES,
    Entrant,
    cases_with,
    entrants,
    websocket_entrants,
)
from benchmarks.parts import show_parts
from benchmarks.plot import PlotError, draw
from benchmarks.process import Plan, contenders_of, measure_case, plan_cases
from benchmarks.report import show_case, show_results
from benchmarks.results import CaseResult, Results, describe_machine
from benchmarks.served import ServedPlan, measure_group

__all__ = ["main"]

JSON_PATH = Path("docs/_build/benchmark.json")
PLOT_PATH = Path("docs/_build/benchmark.svg")
PARTS = {"process": ("process",), "served": ("served",), "all": ("process", "served")}
MB = 1_000_000
QUICK_ENTRANTS = (
    *("uvicorn + wsgi-asgi", "uvicorn + a2wsgi", "uvicorn + bare hop"),
    *("granian + wsgi-asgi", "gunicorn gthread", "granian WSGI"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; give the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words.insert(0, "all")
    options = _parser().parse_args(words)
    if options.command in PARTS:
        return _run(options)
    if options.command == "parts":
        print(show_parts(), end="")
        return 0
    try:
        results = Results.read(options.results)
        if options.command == "table":
            print(show_results(results), end="")
        else:
            draw(results, options.svg)
    except (OSError, ValueError, PlotError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in (
        ("process", "the part without a network"),
        ("served", "the part with servers, for which wrk is needed"),
        ("all", "both; what runs where no command is given"),
    ):
        _add_run_options(commands.add_parser(name, help=text))
    commands.add_parser("parts", help="what one request is made of, in microseconds")
    table = commands.add_parser("table", help="show a run's file as Markdown")
    table.add_argument("results", type=Path)
    plot = commands.add_parser("plot", help="draw a run's file")
    plot.add_argument("results", type=Path)
    plot.add_argument("--svg", type=Path, default=PLOT_PATH, metavar="FILE")
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--quick", action="store_true", help="a smoke run of less than a minute")
    add("--case", metavar="WORD", default="", help="only cases whose name has it")
    add("--contender", metavar="WORD", default="", help="only those, and ours")
    add(
        "--adapter",
        metavar="MODULE:CLASS",
        action="append",
        default=[],
        help="one more",
    )
    add("--rounds", type=int, metavar="N", help="rounds of each contender")
    add("--huge", action="store_true", help="bodies of 1 GB too")
    add("--json", type=Path, default=JSON_PATH, metavar="FILE")
    add("--plot", type=Path, default=PLOT_PATH, metavar="FILE")


def _run(options: argparse.Namespace) -> int:
    machine, versions = describe_machine()
    if wrk.is_installed():
        versions["wrk"] = wrk.installed_version()
    results = Results(machine=machine, versions=versions, settings={})
    start = time.monotonic()
    code = 0
    try:
        with (
            _ending_in_order(),
            tempfile.TemporaryDirectory(prefix="benchmark-") as directory,
            # Closed first, so that no server outlives the directory of its log.
            closing(_cases(options, Path(directory), results)) as cases,
        ):
            for case in cases:
                results.cases.append(case)
                print(show_case(case), flush=True)
    except KeyboardInterrupt:
        print("stopped; what there is so far is written", file=sys.stderr)
        results.settings["stopped"] = "before its end"
        code = 130
    results.settings["seconds"] = round(time.monotonic() - start)
    results.machine["load after"] = round(os.getloadavg()[0], 2)
    return _publish(results, options) or code


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let a supervisor's SIGTERM end the servers too."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _publish(results: Results, options: argparse.Namespace) -> int:
    if not results.cases:
        print("no case was run", file=sys.stderr)
        return 1
    results.write(options.json)
    print(f"\n{show_results(results)}\n{options.json}")
    try:
        draw(results, options.plot)
        print(options.plot)
    except PlotError as error:
        print(error, file=sys.stderr)
    return 0


def _cases(
    options: argparse.Namespace, directory: Path, results: Results
) -> Generator[CaseResult]:
    parts = PARTS[options.command]
    if "process" in parts:
        yield from _process(options, directory, results)
    if "served" in parts and wrk.is_installed():
        yield from _served(options, directory, results)
    elif "served" in parts:
        print("wrk is not installed, so nothing is served: apt-get install wrk")


def _wanted(options: argparse.Namespace, name: str, ours: bool) -> bool:
    return ours or options.contender in name or name in options.adapter


def _process(
    options: argparse.Namespace, directory: Path, results: Results
) -> Generator[CaseResult]:
    plan = Plan(
        rounds=options.rounds or (2 if options.quick else 7),
        round_s=0.03 if options.quick else 0.12,
    )
    results.settings.update({"rounds": plan.rounds, "round_s": plan.round_s})
    for case, loop in plan_cases(quick=options.quick, huge=options.huge):
        if options.case in case.name:
            names = contenders_of(case, options.adapter)
            asked = [one for one in names if _wanted(options, one, one == OURS)]
            yield measure_case(case, loop, asked, plan, directory)


def _served(
    options: argparse.Namespace, directory: Path, results: Results
) -> Generator[CaseResult]:
    plan = ServedPlan(
        rounds=options.rounds or (1 if options.quick else 3),
        round_s=0.3 if options.quick else 0.6,
        file_bytes=(20 if options.quick else 200) * MB,
    )
    results.settings.update({"wrk rounds": plan.rounds, "wrk round_s": plan.round_s})
    for processes in (1,) if options.quick else (1, 2):
        cases = [one for one in cases_with(processes) if options.case in one.name]
        asked = [
            one for one in entrants(processes, options.adapter) if _asks(options, one)
        ]
        if cases:
            yield from measure_group(cases, asked, processes, plan, directory)
    cases = [one for one in WEBSOCKET_CASES if options.case in one.name]
    if cases:
        asked = [
            one
            for one in websocket_entrants()
            if _wanted(options, one.name, one.adapter == OURS)
        ]
        yield from measure_group(cases, asked, 1, plan, directory)


def _asks(options: argparse.Namespace, entrant: Entrant) -> bool:
    further = entrant.adapter in options.adapter
    if options.quick and not further and entrant.name not in QUICK_ENTRANTS:
        return False
    return _wanted(options, entrant.name, further or entrant.adapter == OURS)
