"""What a live run says about each promise, arranged for pages."""

from collections.abc import Mapping
from dataclasses import dataclass

from conformance.live.results import LiveRun, PromiseResult, ServerRun
from conformance.pages.cells import Cell, live_cell

__all__ = ["PromiseGroup", "PromiseRow", "load_rules", "observe"]


@dataclass(frozen=True, slots=True)
class PromiseRow:
    """One promise, with a cell for each server.

    Attributes:
        name: The promise's name.
        rule: What users see if it is kept.
        clauses: Ids of the clauses that it observes.
        cells: In the order of the servers.
    """

    name: str
    rule: str
    clauses: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class PromiseGroup:
    """Promises that belong together."""

    name: str
    title: str
    rows: tuple[PromiseRow, ...]


def load_rules() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Load what results do not hold: titles of groups, and rules by promise."""
    from conformance.live.promises import GROUPS, load_promises

    return GROUPS, {name: promise.rule for name, promise in load_promises().items()}


def observe(
    run: LiveRun, titles: Mapping[str, str], rules: Mapping[str, str]
) -> tuple[PromiseGroup, ...]:
    """Arrange one adapter's results by promise.

    Args:
        run: The adapter on all servers.
        titles: Of the groups, in the order that is wanted.
        rules: By promise.
    """
    members: dict[str, dict[str, PromiseResult]] = {name: {} for name in titles}
    for result in _results(run.servers):
        members.setdefault(result.group, {}).setdefault(result.promise, result)
    return tuple(
        PromiseGroup(
            name,
            titles.get(name, name),
            tuple(_row(result, run, rules) for result in found.values()),
        )
        for name, found in members.items()
        if found
    )


def _results(servers: tuple[ServerRun, ...]) -> list[PromiseResult]:
    return [result for server in servers for result in server.results]


def _row(result: PromiseResult, run: LiveRun, rules: Mapping[str, str]) -> PromiseRow:
    name = result.promise
    rule = rules.get(name, "")
    cells = tuple(live_cell(server.find(name)) for server in run.servers)
    return PromiseRow(name, rule, tuple(sorted(result.clauses)), cells)
