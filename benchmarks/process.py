"""The in-process part: each case, by all contenders, in turns.

The rounds are short and the order is shuffled for each, by a fixed seed, so that a
machine that is slow for a while is slow for all. One contender runs at a time; the
others' processes wait in a read.
"""

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.applications import application
from benchmarks.cases import CASES, GROWTH, HUGE, Case
from benchmarks.contenders import CONTENDERS, LIMITS
from benchmarks.environs import BUILDERS
from benchmarks.results import CaseResult, Trouble, TroubleKind
from benchmarks.worker import READY, serve_rounds

__all__ = ["LOOPS", "Plan", "contenders_of", "measure_case", "plan_cases"]

LOOPS = ("asyncio", "uvloop")
SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long is measured.

    Attributes:
        rounds: How many rounds each contender has.
        round_s: How long one is; it ends with the first request after that.
        limit_s: How long a contender may take for one, beyond which it hangs.
        budget_s: How long one contender may take for a case; beyond that it has no
            further rounds.
    """

    rounds: int
    round_s: float
    limit_s: float = 20.0
    budget_s: float = 6.0


def plan_cases(*, quick: bool, huge: bool) -> list[tuple[Case, str]]:
    """Say which cases run on which loops.

    The environ knows no loop, and growth does not depend on it.
    """
    if quick:
        return [(case, "asyncio") for case in CASES]
    planned = [(case, loop) for loop in LOOPS for case in CASES if case.application]
    once = [case for case in CASES if not case.application]
    once += [*GROWTH, *(HUGE if huge else ())]
    return planned + [(case, "asyncio") for case in once]


def contenders_of(case: Case, further: Iterable[str] = ()) -> list[str]:
    """Say who can take part in a case."""
    if not case.application:
        return [one.name for one in CONTENDERS if one.name in BUILDERS]
    names = [*(one.name for one in CONTENDERS), *further]
    if application(case.application).answer is None:
        return [name for name in names if name not in LIMITS]
    return names


class _Worker:
    """A contender's process, seen from outside."""

    def __init__(self, contender: str, case: Case, loop: str, log: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection: Connection
        self._connection, theirs = context.Pipe()
        self._log = log
        self._process = context.Process(
            target=serve_rounds,
            args=(theirs, contender, case, loop, str(log)),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self.used_s = 0.0

    def ask(self, seconds: float) -> None:
        with contextlib.suppress(OSError):  # it is gone, which its answer will tell
            self._connection.send(seconds)

    def answer(self, within: float) -> object:
        """Wait for what it sends, or say what became of it."""
        start = time.monotonic()
        if not self._connection.poll(within):
            return Trouble(TroubleKind.HUNG, f"no answer within {within:g} s")
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            return Trouble(TroubleKind.DIED, _last_line(self._log))
        finally:
            self.used_s += time.monotonic() - start

    def end(self) -> None:
        """End the process, whatever it is at."""
        self._process.kill()
        self._process.join()
        self._connection.close()


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it ended without a word"


@contextlib.contextmanager
def _inherited() -> Iterator[None]:
    """Give the processes that are started meanwhile what is the same for all.

    That is the seed of hashes, and to leave Ctrl-C to the process that ends them.
    """
    seed = os.environ.get("PYTHONHASHSEED")
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        del os.environ["PYTHONHASHSEED"]
        if seed is not None:
            os.environ["PYTHONHASHSEED"] = seed


@contextlib.contextmanager
def _workers(
    case: Case, loop: str, contenders: Iterable[str], directory: Path
) -> Iterator[dict[str, _Worker]]:
    started: dict[str, _Worker] = {}
    try:
        with _inherited():
            for number, name in enumerate(contenders):
                log = directory / f"{loop}-{case.name}-{number}.log"
                started[name] = _Worker(name, case, loop, log)
        yield started
    finally:
        for worker in started.values():
            worker.end()


def measure_case(
    case: Case, loop: str, contenders: Sequence[str], plan: Plan, directory: Path
) -> CaseResult:
    """Let all contenders do one case, in turns.

    Args:
        case: What they are asked.
        loop: ``asyncio`` or ``uvloop``.
        contenders: Their names.
        plan: How long.
        directory: Where their logs go.
    """
    result = CaseResult(
        part="process",
        setting=loop if case.application else "no loop",
        name=case.name,
        title=case.title,
        unit=case.unit,
        units=case.units,
        growth=case.growth,
    )
    order = random.Random(SEED)
    with _workers(case, loop, contenders, directory) as workers:
        for name, worker in workers.items():
            answer = worker.answer(plan.limit_s)
            if answer != READY:
                _give_up(result, name, worker, answer)
        for _ in range(plan.rounds):
            names = [name for name in workers if name not in result.troubles]
            order.shuffle(names)
            for name in names:
                if workers[name].used_s <= plan.budget_s:
                    _take_turn(result, name, workers[name], plan)
    return result


def _take_turn(result: CaseResult, name: str, worker: _Worker, plan: Plan) -> None:
    worker.ask(plan.round_s)
    answer = worker.answer(plan.round_s + plan.limit_s)
    if isinstance(answer, tuple):
        count, seconds = answer
        rate = count * result.units / seconds
        result.rates.setdefault(name, []).append(rate)
    else:
        _give_up(result, name, worker, answer)


def _give_up(result: CaseResult, name: str, worker: _Worker, answer: object) -> None:
    assert isinstance(answer, Trouble)
    result.fail(name, answer)
    worker.end()
