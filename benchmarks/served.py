"""The served part: the adapters behind two servers, and the servers without them.

All servers of a group run from its beginning to its end, and are asked in turns, in
an order shuffled for each round by a fixed seed; those that are not asked are idle.
Each has its interpreter, its applications and its threads to itself, so a round of
one does nothing to another. wrk has one thread, and so has the client of WebSockets,
which on a machine of two processors leaves the other to the server; with two server
processes it takes its time from them, from all contenders alike.
"""

import contextlib
import random
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import WrongAnswer
from benchmarks.contenders import OURS
from benchmarks.download import download, write_file
from benchmarks.echo import echo
from benchmarks.entrants import Entrant, ServedCase, setting_of
from benchmarks.frameworks import FILE_VARIABLE
from benchmarks.results import CaseResult, Trouble, TroubleKind
from benchmarks.servers import (
    ASGI_SERVERS,
    Server,
    StartError,
    start,
)
from benchmarks.site import CONTENDER_VARIABLE
from benchmarks.wrk import Hung, fetch, run_wrk

__all__ = ["ServedPlan", "measure_group"]

SEED = 1
WARM_UP_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPlan:
    """How long is measured.

    Attributes:
        rounds: How many rounds each server has.
        round_s: How long wrk asks in one.
        file_bytes: How long the file is.
        limit_s: How long its download may take.
        budget_s: How long one server may take for a case; beyond that it has no
            further rounds.
    """

    rounds: int
    round_s: float
    file_bytes: int
    limit_s: float = 60.0
    budget_s: float = 8.0


class _Group:
    """Servers that run, and what they have done so far."""

    def __init__(self, directory: Path, plan: ServedPlan) -> None:
        self.servers: dict[Entrant, Server] = {}
        self.dead: dict[Entrant, Trouble] = {}
        self.plan = plan
        self.file = directory / "file.bin"
        # The servers' own, since no server is given the path of a temporary file, and
        # the one that is asked for stands for one that has come to stay.
        self.temporary = directory / "temporary"
        self.temporary.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def running(
        self, asked: Sequence[Entrant], processes: int, directory: Path
    ) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for number, entrant in enumerate(asked):
                variables = {
                    CONTENDER_VARIABLE: entrant.adapter,
                    FILE_VARIABLE: str(self.file),
                    "TMPDIR": str(self.temporary),
                }
                log = directory / f"server-{processes}-{number}.log"
                server = start(entrant.server, processes, variables, log)
                stack.callback(server.stop)
                self.servers[entrant] = server
            for entrant in asked:
                self._await(entrant)
            yield

    def _await(self, entrant: Entrant) -> None:
        try:
            self.servers[entrant].wait_until_it_answers()
        except StartError as error:
            self.dead[entrant] = Trouble(TroubleKind.DIED, str(error))
        except WrongAnswer as error:
            self.dead[entrant] = Trouble(TroubleKind.WRONG, str(error))


class _Rounds:
    """One case, by all servers of a group."""

    def __init__(self, group: _Group, case: ServedCase) -> None:
        self._group = group
        self._case = case
        self._sizes: dict[Entrant, int] = {}
        self._used_s: dict[Entrant, float] = {}
        self.rates: dict[Entrant, list[float]] = {}
        self.latencies: dict[Entrant, list[dict[str, float]]] = {}
        self.troubles: dict[Entrant, Trouble] = {}

    def run(self, asked: Sequence[Entrant]) -> None:
        for entrant in asked:
            if entrant in self._group.dead:
                self.troubles[entrant] = self._group.dead[entrant]
            else:
                self._guarded(entrant, self._warm_up)
        order = random.Random(SEED)
        for _ in range(self._group.plan.rounds):
            turns = [one for one in asked if one not in self.troubles]
            order.shuffle(turns)
            for entrant in turns:
                if self._used_s.get(entrant, 0) <= self._group.plan.budget_s:
                    self._guarded(entrant, self._measure)

    def _guarded(self, entrant: Entrant, do: Callable[[Entrant], None]) -> None:
        start = time.monotonic()
        try:
            do(entrant)
        except WrongAnswer as error:
            self._fail(entrant, TroubleKind.WRONG, error)
        except (Hung, TimeoutError) as error:
            self._fail(entrant, TroubleKind.HUNG, error)
        except OSError as error:
            self._fail(entrant, TroubleKind.DIED, error)
        self._used_s[entrant] = self._used_s.get(entrant, 0) + time.monotonic() - start

    def _fail(self, entrant: Entrant, kind: TroubleKind, error: Exception) -> None:
        words = self._group.servers[entrant].last_words()
        text = f"{str(error) or type(error).__name__}; its log ends: {words}"
        self.troubles[entrant] = Trouble(kind, text)
        self.rates.pop(entrant, None)
        self.latencies.pop(entrant, None)

    def _warm_up(self, entrant: Entrant) -> None:
        if not self._case.connections:
            return
        if not self._case.websocket:
            port = self._group.servers[entrant].port
            self._sizes[entrant] = fetch(port, self._case.path)
        self._ask(entrant, WARM_UP_S)

    def _measure(self, entrant: Entrant) -> None:
        plan = self._group.plan
        if self._case.connections:
            rate, latency = self._ask(entrant, plan.round_s * self._case.seconds)
            self.latencies.setdefault(entrant, []).append(latency)
        else:
            port, size = self._group.servers[entrant].port, plan.file_bytes
            seconds = download(port, self._case.path, size, plan.limit_s)
            rate = size / 1e6 / seconds
        self.rates.setdefault(entrant, []).append(rate)

    def _ask(self, entrant: Entrant, seconds: float) -> tuple[float, dict[str, float]]:
        port, case = self._group.servers[entrant].port, self._case
        if case.websocket:
            return echo(port, case.path, case.connections, seconds)
        size = self._sizes[entrant]
        return run_wrk(port, case.path, case.connections, seconds, size)

    def results(self, processes: int) -> Iterator[CaseResult]:
        """Give a result for each ASGI server: those behind it, and the native ones."""
        plan = self._group.plan
        for kind in ASGI_SERVERS:
            result = CaseResult(
                part="served",
                setting=setting_of(kind.name, processes),
                name=self._case.name,
                title=self._case.title.format(size=plan.file_bytes // 1_000_000),
                unit=self._case.unit,
                units=1 if self._case.connections else plan.file_bytes / 1e6,
            )
            for entrant in {**self.rates, **self.troubles}:
                if entrant.server == kind or not entrant.adapter:
                    self._copy(entrant, result)
            if OURS in result.rates or OURS in result.troubles:
                yield result

    def _copy(self, entrant: Entrant, result: CaseResult) -> None:
        label = entrant.label
        if entrant in self.troubles:
            result.troubles[label] = self.troubles[entrant]
        else:
            result.rates[label] = self.rates[entrant]
        if entrant in self.latencies:
            result.latencies[label] = self.latencies[entrant]


def measure_group(
    cases: Sequence[ServedCase],
    asked: Sequence[Entrant],
    processes: int,
    plan: ServedPlan,
    directory: Path,
) -> Generator[CaseResult]:
    """Start the servers, let them do all cases in turns, and end them.

    Args:
        cases: What they are asked.
        asked: The servers.
        processes: How many each has.
        plan: How long.
        directory: Where logs and the file go.
    """
    group = _Group(directory, plan)
    if any(not case.connections for case in cases):
        write_file(group.file, plan.file_bytes)
    with group.running(asked, processes, directory):
        for case in cases:
            rounds = _Rounds(group, case)
            rounds.run([one for one in asked if case.can_be_answered_by(one)])
            yield from rounds.results(processes)
