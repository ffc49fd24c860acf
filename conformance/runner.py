"""Runs checks on an adapter, one after the other, each at its own risk.

Checks share a worker process for as long as they leave nothing behind: no thread, no
task, no exchange that is still open. Otherwise the next one gets a new process. One
that hangs is killed with its process, and one that takes its process down has crashed.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.adapters import Adapter
from conformance.catalogue import Clause, Strength
from conformance.checking import Check
from conformance.loops import ASYNCIO
from conformance.results import AdapterRun, CheckResult, Outcome
from conformance.timing import PATIENCE, PATIENCE_VARIABLE

__all__ = ["run_checks"]

# For a new process to import the adapter and all checks.
START_S = 30.0 * PATIENCE
# For a process that has closed its pipe to end.
END_S = 5.0


@dataclass(frozen=True, slots=True)
class _Verdict:
    outcome: Outcome
    reason: str
    reusable: bool


class _Worker:
    """One process that runs checks."""

    def __init__(self, target: str, loop: str, folder: Path | None) -> None:
        self._target = target
        self._folder = folder
        # Read when the process has crashed, to say why.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed in close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "conformance.worker", target, loop],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
            env={**os.environ, **self._path(), PATIENCE_VARIABLE: str(PATIENCE)},
            # Python puts the current folder before all others.
            cwd=folder,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.problem = self._greeting()

    def _path(self) -> dict[str, str]:
        if self._folder is None:
            return {}
        here = Path(__file__).resolve().parent.parent
        return {"PYTHONPATH": f"{self._folder}{os.pathsep}{here}"}

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _greeting(self) -> str:
        answer = self._next(START_S)
        if answer is None:
            return f"the worker process did not start within {START_S:g} s"
        problem = str(answer.get("problem") or answer.get("crash") or "")
        if problem or self._folder is None:
            return problem
        origin = Path(answer["origin"]).resolve()
        if origin.is_relative_to(self._folder.resolve()):
            return ""
        return f"{self._target} was imported from {origin}, not from {self._folder}"

    def _next(self, within: float) -> Mapping[str, Any] | None:
        """Wait for the next line; None if there is none in time."""
        try:
            line = self._lines.get(timeout=within)
        except queue.Empty:
            return None
        return json.loads(line) if line else {"crash": self._last_words()}

    def _last_words(self) -> str:
        try:
            code = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return "the process closed its output and went on"
        ending = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"the process {ending}" + (f": {lines[-1]}" if lines else "")

    def run(self, check: Check) -> _Verdict:
        """Run one check."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{check.name}\n")
            self._process.stdin.flush()
        except OSError:
            return _Verdict(Outcome.CRASHED, self._last_words(), False)
        answer = self._next(check.limit)
        if answer is None:
            reason = f"no end of the check within {check.limit:g} s"
            return _Verdict(Outcome.HUNG, reason, False)
        if "crash" in answer:
            return _Verdict(Outcome.CRASHED, answer["crash"], False)
        outcome = Outcome(answer["outcome"])
        return _Verdict(outcome, answer["reason"], answer["reusable"])

    def close(self) -> None:
        """End the process, at once."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # what it still held can go nowhere
            self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()


def run_checks(
    adapter: Adapter,
    checks: Iterable[Check],
    clauses: Mapping[str, Clause],
    on_result: Callable[[CheckResult], object] = lambda result: None,
    folder: Path | None = None,
    loop: str = ASYNCIO,
) -> AdapterRun:
    """Run checks on an adapter.

    Args:
        adapter: Which.
        checks: Which, in order.
        clauses: By id; all that the checks name.
        on_result: Called with each result as it comes.
        folder: Where the adapter must be imported from; without it, from wherever
            Python finds it.
        loop: The kind of loop that it runs on.

    Returns:
        One result for each check; or none, and a `problem`, if the adapter could
        not be imported.
    """
    begun = time.perf_counter()
    results: list[CheckResult] = []
    problem = ""
    worker: _Worker | None = None
    try:
        for check in checks:
            worker = worker or _Worker(adapter.target, loop, folder)
            problem = worker.problem
            if problem:
                break
            check_begun = time.perf_counter()
            verdict = worker.run(check)
            seconds = time.perf_counter() - check_begun
            if not verdict.reusable:
                worker.close()
                worker = None
            result = _result(check, verdict, seconds, clauses)
            results.append(result)
            on_result(result)
    finally:
        if worker:
            worker.close()
    return AdapterRun(
        name=adapter.name,
        target=adapter.target,
        distribution=adapter.distribution,
        version=adapter.version,
        loop=loop,
        results=tuple(results),
        seconds=round(time.perf_counter() - begun, 3),
        problem=problem,
    )


def _result(
    check: Check, verdict: _Verdict, seconds: float, clauses: Mapping[str, Clause]
) -> CheckResult:
    strength = _strength(check.clauses, clauses)
    outcome, reason = verdict.outcome, verdict.reason
    if outcome is Outcome.NOT_OFFERED and strength is Strength.MUST:
        outcome = Outcome.FAILED  # what must be there is no option
    return CheckResult(
        check=check.name,
        group=check.group,
        clauses=check.clauses,
        strength=strength,
        outcome=outcome,
        reason=reason,
        seconds=round(seconds, 4),
    )


def _strength(names: Sequence[str], clauses: Mapping[str, Clause]) -> Strength:
    return min((clauses[name].strength for name in names), key=lambda s: s.rank)
