"""Shows that the suite can fail: faults are sown into our own adapter, one at a time.

    python -m conformance.selftest                 all faults
    python -m conformance.selftest cookies-joined  those whose name holds a word
    python -m conformance.selftest --reasons       with what the checks have said
    python -m conformance.selftest --wide          with all checks

Each fault (`faults.toml`) is one replacement in a copy of the adapter's sources. The
checks of the clauses that it breaks are run on that copy, on asyncio unless the fault
names another loop, and each of these clauses must be found broken. A fault that breaks
even the plainest response would show nothing, since any check fails then; so each copy
must still give that. Nor would a slip of the pen in the list, such as a name that does
not exist. And all these checks must pass on a copy without a fault.
"""

import argparse
import re
import shutil
import sys
import time
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from conformance.adapters import OURS
from conformance.catalogue import load_clauses
from conformance.checks import load_checks
from conformance.loops import ASYNCIO, LOOPS
from conformance.results import AdapterRun, CheckResult, Outcome
from conformance.runner import run_checks

__all__ = ["Fault", "FaultError", "Verdict", "load_faults", "main", "try_fault"]

# At the same time: each is one process that mostly waits.
JOBS = 2
# The check that any copy must pass.
CONTROL = "ASGI-HTTP-body-01"

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")
_KEYS = {"file": str, "old": str, "new": str, "clauses": list}
_MORE_KEYS = {"loop": str}

# Errors that no plausible mistake ends in: the replacement itself is wrong.
_SLIP = re.compile(r"\b(NameError|UnboundLocalError|ImportError|ModuleNotFoundError)\b")

# Exit statuses.
ALL_CAUGHT, NOT_ALL_CAUGHT, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


class FaultError(ValueError):
    """The list of faults does not fit the adapter or the suite; its text says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One mistake that somebody could make in the adapter.

    Attributes:
        name: The mistake, in words.
        file: The module of the adapter that it is made in.
        old: What stands there, exactly once.
        new: What it becomes.
        clauses: Ids of the clauses whose checks should find it.
        loop: The kind of loop that they run on.
    """

    name: str
    file: str
    old: str
    new: str
    clauses: tuple[str, ...]
    loop: str = ASYNCIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one fault.

    Attributes:
        fault: Which.
        caught: The clauses named for it that no longer pass, and how they ended.
        missed: The clauses named for it that pass all the same.
        others: Other clauses that no longer pass.
        reasons: What the checks said that no longer pass, by their names.
        problem: Why the attempt says nothing, if it does.
        seconds: How long it took.
    """

    fault: Fault
    caught: Mapping[str, Outcome]
    missed: tuple[str, ...]
    others: tuple[str, ...]
    reasons: Mapping[str, str]
    problem: str
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether the suite has found the fault, in each row that is meant for it."""
        return bool(self.caught) and not self.missed and not self.problem


def adapter_sources() -> Path:
    """Find the folder of our adapter, without importing it."""
    name = OURS.target.partition(":")[0]
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise FaultError(f"there is no package {name} to sow faults into")
    return Path(spec.origin).parent


def load_faults(text: str | None = None, sources: Path | None = None) -> list[Fault]:
    """Read the list of faults, and see that it fits the adapter as it is now.

    Args:
        text: TOML, one table for each fault; that of the suite if None.
        sources: The adapter's folder; that of the installed one if None.

    Raises:
        FaultError: Something of the list has rotten: a text that does not occur
            exactly once, or a clause that nothing checks. All such rows are named.
            Or it is no TOML.
    """
    if text is None:
        text = (files("conformance") / "faults.toml").read_text(encoding="utf-8")
    modules = {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted((sources or adapter_sources()).glob("*.py"))
    }
    checked = {name for check in load_checks().values() for name in check.clauses}
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FaultError(f"the list of faults is no TOML: {error}") from None
    complaints = [
        f"{name}: {complaint}"
        for name, table in tables.items()
        for complaint in _complaints(name, table, modules, checked)
    ]
    if complaints:
        raise FaultError("\n".join(complaints))
    return [
        Fault(name=name, **{**table, "clauses": tuple(table["clauses"])})
        for name, table in tables.items()
    ]


def _complaints(
    name: str,
    table: Any,
    modules: Mapping[str, str],
    checked: Collection[str],
) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield "the name is not some words with hyphens between them"
    keys = table.keys() - _MORE_KEYS.keys() if isinstance(table, dict) else ()
    if keys != _KEYS.keys():
        yield (
            f"it is not a table with just the keys {', '.join(_KEYS)} and, if need "
            f"be, {', '.join(_MORE_KEYS)}"
        )
        return
    for key, kind in (_KEYS | _MORE_KEYS).items():
        if key in table and type(table[key]) is not kind:
            yield f"{key} is no {kind.__name__}"
            return
    if table.get("loop", ASYNCIO) not in LOOPS:
        yield f"loop is none of {', '.join(LOOPS)}"
    yield from _complaints_of_code(table["file"], table["old"], table["new"], modules)
    if not table["clauses"]:
        yield "it names no clause"
    for clause in table["clauses"]:
        if clause not in checked:
            yield f"nothing checks {clause}"


def _complaints_of_code(
    file: str, old: str, new: str, modules: Mapping[str, str]
) -> Iterator[str]:
    if not old or old == new:
        yield "it changes nothing"
        return
    code = modules.get(file, "")
    if code.count(old) != 1:
        elsewhere = [name for name, code in modules.items() if old in code]
        yield (
            f"{old!r} occurs {code.count(old)} times in {file}, expected once; it "
            f"occurs in {', '.join(elsewhere) or 'no module'}"
        )
        return
    try:
        compile(code.replace(old, new), file, "exec", dont_inherit=True)
    except SyntaxError as error:
        yield f"{file} is no Python with it: {error}"


def try_fault(fault: Fault, sources: Path, *, wide: bool = False) -> Verdict:
    """Sow a fault into a copy of the adapter, and run the checks that should find it.

    Args:
        fault: Which.
        sources: The adapter's folder, which is not touched.
        wide: Run all checks there are.
    """
    begun = time.perf_counter()
    run = _run_on_copy(sources, fault.clauses, fault.loop, fault, wide=wide)
    outcomes = run.clause_outcomes()
    bad = {name: end for name, end in outcomes.items() if end is not Outcome.PASSED}
    return Verdict(
        fault=fault,
        # What a sound adapter passes and this one does not even offer counts: the
        # row of the report is another one.
        caught={name: bad[name] for name in fault.clauses if name in bad},
        missed=tuple(name for name in fault.clauses if name not in bad),
        others=tuple(
            name
            for name, end in bad.items()
            if name not in fault.clauses and not end.is_good
        ),
        reasons={result.check: result.reason for result in _not_passed(run)},
        problem=run.problem or _why_nothing_is_shown(run),
        seconds=time.perf_counter() - begun,
    )


def _not_passed(run: AdapterRun) -> list[CheckResult]:
    return [result for result in run.results if result.outcome is not Outcome.PASSED]


def _why_nothing_is_shown(run: AdapterRun) -> str:
    if run.clause_outcomes()[CONTROL] is not Outcome.PASSED:
        return f"not even the check of {CONTROL} passes"
    for result in _not_passed(run):
        if _SLIP.search(result.reason):
            return f"the replacement itself is wrong, as {result.reason}"
    return ""


def _run_on_copy(
    sources: Path,
    clauses: Iterable[str],
    loop: str,
    fault: Fault | None,
    *,
    wide: bool = False,
) -> AdapterRun:
    wanted = {CONTROL, *clauses}
    checks = [
        check
        for check in load_checks().values()
        if wide or not wanted.isdisjoint(check.clauses)
    ]
    with _copied(sources) as copy:
        if fault:
            _sow(fault, copy / fault.file)
        return run_checks(OURS, checks, load_clauses(), folder=copy.parent, loop=loop)


@contextmanager
def _copied(sources: Path) -> Iterator[Path]:
    """Give a copy of the adapter, alone in a folder that it can be imported from."""
    with TemporaryDirectory(prefix="conformance-") as folder:
        copy = Path(folder) / sources.name
        shutil.copytree(sources, copy, ignore=shutil.ignore_patterns("__pycache__"))
        yield copy


def _sow(fault: Fault, module: Path) -> None:
    code = module.read_text(encoding="utf-8")
    if code.count(fault.old) != 1:
        raise FaultError(
            f"{fault.name}: {fault.file} is not what the list was made for"
        )
    module.write_text(code.replace(fault.old, fault.new), encoding="utf-8")


def _try_without_fault(sources: Path, faults: Iterable[Fault]) -> list[str]:
    """Give what is wrong if all named checks run on a sound copy."""
    clauses: dict[str, set[str]] = {}
    for fault in faults:
        clauses.setdefault(fault.loop, set()).update(fault.clauses)
    wrong: list[str] = []
    for loop, named in clauses.items():
        run = _run_on_copy(sources, named, loop, None)
        wrong += [f"on {loop}: {run.problem}"] * bool(run.problem)
        wrong += [
            f"on {loop}: {', '.join(one.clauses)}: {one.outcome}: {one.reason}"
            for one in _not_passed(run)
        ]
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Sow the faults that the command line names.

    Args:
        arguments: Without the program's name; those of the process if None.

    Returns:
        The exit status: 1 if a fault was not caught, if a check fails on the sound
        adapter, or if the list does not fit the adapter any more.
    """
    options = _parser().parse_args(arguments)
    begun = time.perf_counter()
    try:
        # Of a copy, so that the adapter may be worked on meanwhile.
        with _copied(adapter_sources()) as sources:
            faults = _selected(load_faults(sources=sources), options.words)
            if not faults:
                sys.stdout.write("no fault has such a name\n")
                return WRONG_USAGE
            sound, verdicts = _try_all(
                faults, sources, wide=options.wide, reasons=options.reasons
            )
    except FaultError as error:
        sys.stdout.write(f"{error}\n")
        return NOT_ALL_CAUGHT
    return _conclude(sound, verdicts, time.perf_counter() - begun)


def _selected(faults: Sequence[Fault], words: Sequence[str]) -> list[Fault]:
    return [
        fault
        for fault in faults
        if not words or any(word in fault.name for word in words)
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance.selftest",
        description="Sow faults into a copy of our adapter, one at a time, and see "
        "that the suite finds each.",
    )
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="only faults whose name holds a word"
    )
    parser.add_argument(
        "--wide", action="store_true", help="run all checks, to see what else fails"
    )
    parser.add_argument(
        "--reasons", action="store_true", help="show what the checks have said"
    )
    return parser


def _try_all(
    faults: Sequence[Fault], sources: Path, *, wide: bool, reasons: bool
) -> tuple[list[str], list[Verdict]]:
    """Try the faults, and show each as soon as it and those before it are done."""
    width = max(len(fault.name) for fault in faults)
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(JOBS) as pool:
        sound = pool.submit(_try_without_fault, sources, faults)
        attempts = pool.map(partial(try_fault, sources=sources, wide=wide), faults)
        try:
            for verdict in attempts:
                verdicts.append(verdict)
                counter = f"{len(verdicts):>{len(str(len(faults)))}}/{len(faults)}"
                line = f"{counter}  {verdict.fault.name:<{width}}  {_words(verdict)}"
                said = verdict.reasons.items() if reasons else ()
                lines = [line, *(f"    {check}: {reason}" for check, reason in said)]
                sys.stdout.write("\n".join(lines) + "\n")
                sys.stdout.flush()
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return sound.result(), verdicts


def _words(verdict: Verdict) -> str:
    if verdict.problem:
        return f"NOTHING SHOWN: {verdict.problem}"
    if verdict.missed:
        also = f", though by {', '.join(verdict.caught)}" if verdict.caught else ""
        return f"NOT CAUGHT by {', '.join(verdict.missed)}{also}"
    by = ", ".join(
        name if end is Outcome.FAILED else f"{name} ({end})"
        for name, end in verdict.caught.items()
    )
    text = f"{verdict.seconds:4.1f} s  caught by {by}"
    if verdict.others:
        text += f"; {len(verdict.others)} more: {', '.join(verdict.others)}"
    return text


def _conclude(sound: list[str], verdicts: Sequence[Verdict], seconds: float) -> int:
    write = sys.stdout.write
    bad = [verdict for verdict in verdicts if not verdict.is_good]
    write(f"\n{len(verdicts) - len(bad)} of {len(verdicts)} faults were caught")
    write(f", {seconds:.0f} s\n")
    for verdict in bad:
        write(f"  {verdict.fault.name}: {_words(verdict)}\n")
    if sound:
        write("\nWithout a fault these should all have passed:\n")
    for line in sound:
        write(f"  {line}\n")
    return NOT_ALL_CAUGHT if bad or sound else ALL_CAUGHT


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
