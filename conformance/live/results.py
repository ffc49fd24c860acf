"""What a run of the live part brings, as plain data: for the table and for JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

__all__ = ["LiveOutcome", "LiveReport", "LiveRun", "PromiseResult", "ServerRun"]


class LiveOutcome(StrEnum):
    """How a promise ended on a server."""

    PASSED = "passed"
    NOT_POSSIBLE = "not possible"  # for any adapter on that server
    FAILED = "failed"
    HUNG = "hung"  # its server had to be killed

    @property
    def is_good(self) -> bool:
        """Whether the adapter does all that it can about this."""
        return self in (LiveOutcome.PASSED, LiveOutcome.NOT_POSSIBLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseResult:
    """One promise on one server.

    Attributes:
        promise: The promise's name.
        group: The group that it is in.
        clauses: Ids of the clauses that it observes.
        outcome: How it ended.
        reason: Why, in words; empty if it passed.
        seconds: How long it took.
    """

    promise: str
    group: str
    clauses: tuple[str, ...]
    outcome: LiveOutcome
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRun:
    """All promises on one server.

    Attributes:
        server: Names the server and the protocol that was spoken to it.
        distribution: The distribution that the server comes from.
        version: The installed version of that; empty if it is not installed.
        results: One for each promise, in order.
        seconds: How long it all took.
        problem: Why the results end early, or why there are none.
    """

    server: str
    distribution: str
    version: str
    results: tuple[PromiseResult, ...] = ()
    seconds: float = 0.0
    problem: str = ""

    @property
    def is_installed(self) -> bool:
        """Whether the server could be tried at all."""
        return bool(self.version)

    @property
    def failures(self) -> tuple[PromiseResult, ...]:
        """What did not end well."""
        return tuple(r for r in self.results if not r.outcome.is_good)

    @property
    def has_failed(self) -> bool:
        """Whether a promise was broken, or the server did not start."""
        return bool(self.failures) or (self.is_installed and bool(self.problem))

    def counts(self) -> dict[LiveOutcome, int]:
        """Count the outcomes."""
        counts = dict.fromkeys(LiveOutcome, 0)
        for result in self.results:
            counts[result.outcome] += 1
        return counts

    def find(self, promise: str) -> PromiseResult | None:
        """Give the result of a promise, if there is one."""
        return next((r for r in self.results if r.promise == promise), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRun:
    """All promises of one adapter, on one or more servers.

    Attributes:
        name: Short name of the adapter.
        target: Where it is imported from, as ``module:Class``.
        distribution: The installed distribution that it comes from, if any.
        version: The version of that.
        servers: One for each server and protocol.
        seconds: How long it all took.
    """

    name: str
    target: str
    distribution: str
    version: str
    servers: tuple[ServerRun, ...] = ()
    seconds: float = 0.0

    @property
    def has_failed(self) -> bool:
        """Whether a promise was broken on any server."""
        return any(server.has_failed for server in self.servers)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveReport:
    """One run of the live part, on one or more adapters.

    Attributes:
        python: Version of the interpreter.
        platform: The operating system and machine.
        runs: One for each adapter.
    """

    python: str
    platform: str
    runs: tuple[LiveRun, ...] = ()

    def to_json(self) -> str:
        """Write it as JSON, to be read by `from_json` or by other programs."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "LiveReport":
        """Read what `to_json` wrote."""
        data = json.loads(text)
        return cls(**{**data, "runs": tuple(_run(run) for run in data["runs"])})


def _run(data: Mapping[str, Any]) -> LiveRun:
    servers = tuple(_server(server) for server in data["servers"])
    return LiveRun(**{**data, "servers": servers})


def _server(data: Mapping[str, Any]) -> ServerRun:
    results = tuple(_result(result) for result in data["results"])
    return ServerRun(**{**data, "results": results})


def _result(data: Mapping[str, Any]) -> PromiseResult:
    outcome, clauses = LiveOutcome(data["outcome"]), tuple(data["clauses"])
    return PromiseResult(**{**data, "outcome": outcome, "clauses": clauses})
