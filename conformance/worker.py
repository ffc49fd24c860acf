"""The process in which checks run; started by `conformance.runner`.

    python -m conformance.worker module:Class asyncio

It reads names of checks from standard input and writes one line of JSON for each to
standard output. It never gives a check up by itself: a process that hangs is killed
by the runner, which knows how long each check may take.
"""

import gc
import json
import os
import sys
import threading
import time
import warnings
from typing import IO, Any

from conformance.adapters import KNOWN, OURS, import_target
from conformance.apps import hello
from conformance.bench import Bench
from conformance.checking import Check, Failed, NotOffered
from conformance.checks import load_checks
from conformance.results import Outcome

__all__ = ["main"]

# With more threads than this left over from earlier checks, a new process is cheaper.
CROWDED_THREADS = 250
# For threads of a check that failed to end, and for a request to show that all is well.
PARTING_S = 0.2


def main(target: str, loop: str) -> None:
    """Serve the runner until it closes standard input.

    Args:
        target: The adapter, as ``module:Class``.
        loop: The kind of loop that it runs on.
    """
    commands, answers = _take_over_streams()
    try:
        make_adapter = import_target(target)
    except BaseException as error:
        _answer(answers, problem=f"{target} cannot be imported: {error!r}")
        return
    if target != OURS.target:
        warnings.simplefilter("ignore", DeprecationWarning)
    options = next((known.options for known in KNOWN if known.target == target), {})
    checks = load_checks()
    module = sys.modules[target.partition(":")[0]]
    _answer(answers, problem="", origin=getattr(module, "__file__", None))
    for line in commands:
        threads = set(threading.enumerate())
        bench = Bench(make_adapter, options, target, loop)
        verdict = _run(checks[line.strip()], bench)
        del bench  # and with it, what its exchanges keep
        if verdict["reusable"] and not Outcome(verdict["outcome"]).is_good:
            verdict["reusable"] = _is_healthy(make_adapter, loop, threads)
        _answer(answers, **verdict)


def _take_over_streams() -> tuple[IO[str], IO[str]]:
    """Keep what applications read and print apart from the runner's lines."""
    commands = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    return commands, answers


def _answer(answers: IO[str], **values: Any) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


def _run(check: Check, bench: Bench) -> dict[str, Any]:
    begun = time.perf_counter()
    try:
        check.run(bench)
    except NotOffered as absence:
        outcome, reason = Outcome.NOT_OFFERED, str(absence)
    except Failed as failure:
        outcome, reason = Outcome.FAILED, str(failure)
    except BaseException as error:
        outcome, reason = Outcome.FAILED, _where(error)
    else:
        outcome, reason = Outcome.PASSED, ""
    clean = False
    # What has not returned by now will not let itself be closed either.
    if all(exchange.returned.is_open for exchange in bench.exchanges):
        fault, clean = bench.close()
        if fault and outcome.is_good:
            outcome, reason = Outcome.FAILED, fault
    return {
        "outcome": outcome,
        "reason": reason,
        "seconds": time.perf_counter() - begun,
        "reusable": clean and threading.active_count() < CROWDED_THREADS,
    }


def _is_healthy(make_adapter: Any, loop: str, threads: set[threading.Thread]) -> bool:
    """Tell whether a check that failed has left nothing behind."""
    gc.collect()  # adapters, and with them their idle threads
    for thread in set(threading.enumerate()) - threads:
        thread.join(PARTING_S)
        if thread.is_alive():
            return False
    bench = Bench(make_adapter, loop=loop)
    try:
        answered = bench.attempt(hello, within=PARTING_S).body == b"hello"
    except Failed:
        return False
    return answered and bench.close()[1]


def _where(error: BaseException) -> str:
    """Describe an error that a check did not expect."""
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    place = ""
    if traceback:
        code = traceback.tb_frame.f_code
        place = f" in {os.path.basename(code.co_filename)}, line {traceback.tb_lineno}"
    return f"the check met {error!r}{place}"


if __name__ == "__main__":
    main(*sys.argv[1:])
    # Threads of adapters must not keep the process: the runner waits for its end.
    os._exit(0)
