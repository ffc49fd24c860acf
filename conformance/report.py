"""Writes the pages about a run from its stored results.

python -m conformance.report --json FILE [--live FILE] --markdown FILE --html FILE
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from conformance.adapters import OURS
from conformance.catalogue import Strength, load_clauses
from conformance.findings import Findings, arrange
from conformance.live.results import LiveReport, ServerRun
from conformance.pages.markdown import write_markdown
from conformance.pages.webpage import write_webpage
from conformance.results import Report

__all__ = ["main"]

# Exit statuses.
GOOD, OURS_FAILED, WRONG_USAGE = 0, 1, 2

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write pages as the command line says.

    Args:
        arguments: Without the program's name; those of the process if None.

    Returns:
        The exit status: 1 if our own adapter breaks a MUST or a promise, after the
        pages have been written; 2 if the command makes no sense.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        findings = arrange(_read(options.json, Report.from_json), load_clauses())
        live = _read(options.live, LiveReport.from_json) if options.live else None
        if options.markdown:
            _write(options.markdown, write_markdown(findings, live))
        if options.html:
            _write(options.html, write_webpage(findings, live))
    except ModuleNotFoundError as error:
        # The rules of promises stand beside clients that need h11 and h2.
        parser.error(f"--live needs {error.name}, which is not installed")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    broken = _broken(findings, live)
    if broken:
        sys.stderr.write(f"{OURS.name} fails {', '.join(broken)}\n")
    return OURS_FAILED if broken else GOOD


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance.report",
        description="Write pages about a run of the conformance suite.",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        required=True,
        help="what python -m conformance --json has written",
    )
    parser.add_argument(
        "--live",
        metavar="FILE",
        help="what python -m conformance --live --json has written",
    )
    parser.add_argument("--markdown", metavar="FILE", help="write the short page there")
    parser.add_argument("--html", metavar="FILE", help="write the whole page there")
    return parser


def _read(name: str, parse: Callable[[str], T]) -> T:
    """Read a file of results.

    Raises:
        OSError: It cannot be read.
        ValueError: It holds something else.
    """
    try:
        return parse(Path(name).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not JSON: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name} is JSON, but not the results that are wanted: {error!r}"
        ) from None


def _write(name: str, text: str) -> None:
    Path(name).write_text(text, encoding="utf-8")


def _broken(findings: Findings, live: LiveReport | None) -> list[str]:
    """Name the MUSTs and the promises that our own adapter breaks."""
    broken: list[str] = []
    for at, run in enumerate(findings.adapters):
        if run.name == OURS.name:
            failures = findings.failures(at)
            broken += [one.id for one, _ in failures if one.strength is Strength.MUST]
            broken += [run.problem] * bool(run.problem)
    for live_run in live.runs if live else ():
        if live_run.name == OURS.name:
            broken += [name for one in live_run.servers for name in _broken_on(one)]
    return broken


def _broken_on(server: ServerRun) -> list[str]:
    names = [f"{one.promise} on {server.server}" for one in server.failures]
    if server.has_failed and server.problem:
        names.append(f"{server.server}: {server.problem}")
    return names


if __name__ == "__main__":
    sys.exit(main())
