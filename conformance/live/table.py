"""What the command line shows of a live run: servers side by side, then reasons."""

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from conformance.live.promising import Promise
from conformance.live.results import LiveOutcome, LiveRun, ServerRun

__all__ = ["show_live_run", "show_live_summary"]

_WORDS = {
    LiveOutcome.PASSED: "passed",
    LiveOutcome.NOT_POSSIBLE: "not possible",
    LiveOutcome.FAILED: "failed",
    LiveOutcome.HUNG: "hung",
}
# In the cells, the good ones are quiet and the bad ones are not.
_CELLS = {
    LiveOutcome.PASSED: "ok",
    LiveOutcome.NOT_POSSIBLE: "·",
    LiveOutcome.FAILED: "FAIL",
    LiveOutcome.HUNG: "HUNG",
}
_NAME_WIDTH = 42


def show_live_run(
    run: LiveRun, promises: Sequence[Promise], groups: Mapping[str, str], stream: TextIO
) -> None:
    """Show one adapter: promises by servers, then why not all were kept.

    Args:
        run: What has come out.
        promises: Those that were tried, in order.
        groups: What the groups of promises are about, by name.
        stream: Where it goes.
    """
    version = f" {run.version}" if run.version else ""
    stream.write(f"\n{run.name}{version} ({run.target}), {run.seconds:.1f} s\n\n")
    _show_servers(run.servers, stream)
    tried = [server for server in run.servers if server.results]
    if tried:
        _show_cells(run.servers, tried, promises, groups, stream)
    for promise in promises:
        _show_failures(promise, run.servers, stream)
    _show_impossible(run.servers, stream)


def _show_servers(servers: Sequence[ServerRun], stream: TextIO) -> None:
    for number, server in enumerate(servers, 1):
        stream.write(f"  {number}  {server.server:<26}{server.version:<10}")
        if server.results:
            counts = server.counts()
            stream.write(
                ", ".join(
                    f"{counts[one]} {_WORDS[one]}" for one in counts if counts[one]
                )
            )
            stream.write(f", {server.seconds:.1f} s")
        stream.write(f"{'; ' if server.results and server.problem else ''}")
        stream.write(f"{server.problem}\n")


def _show_cells(
    servers: Sequence[ServerRun],
    tried: Sequence[ServerRun],
    promises: Sequence[Promise],
    groups: Mapping[str, str],
    stream: TextIO,
) -> None:
    header = "".join(f"{servers.index(server) + 1:>5}" for server in tried)
    stream.write(f"\n  {'promise':<{_NAME_WIDTH}}{header}\n")
    group = ""
    for promise in promises:
        if promise.group != group:
            group = promise.group
            stream.write(f"  {group}: {groups.get(group, '')}\n")
        cells = [server.find(promise.name) for server in tried]
        shown = "".join(f"{_CELLS[c.outcome] if c else '':>5}" for c in cells)
        name = promise.name.partition(".")[2]
        stream.write(f"    {name:<{_NAME_WIDTH - 2}}{shown}\n")


def _show_failures(
    promise: Promise, servers: Iterable[ServerRun], stream: TextIO
) -> None:
    """Show what was seen of a promise that was broken, once for all its servers."""
    holders: dict[tuple[LiveOutcome, str], list[str]] = {}
    for server in servers:
        result = server.find(promise.name)
        if result and not result.outcome.is_good:
            seen = (result.outcome, result.reason)
            holders.setdefault(seen, []).append(server.server)
    if holders:
        stream.write(f"\n  {promise.name}  [{', '.join(promise.clauses)}]\n")
        _write(f"Promise: {promise.rule}", stream)
    for (outcome, reason), names in holders.items():
        _write(
            f"{_WORDS[outcome].capitalize()} on {', '.join(names)}: {reason}", stream
        )


def _show_impossible(servers: Iterable[ServerRun], stream: TextIO) -> None:
    """Show each reason once, with the servers that it holds for."""
    holders: dict[str, list[str]] = {}
    for server in servers:
        for result in server.results:
            if result.outcome is LiveOutcome.NOT_POSSIBLE:
                names = holders.setdefault(result.reason, [])
                if server.server not in names:
                    names.append(server.server)
    if holders:
        stream.write("\n  Not possible, whatever the adapter:\n")
    for reason, names in holders.items():
        _write(f"{', '.join(names)}: {reason}", stream)


def _write(text: str, stream: TextIO) -> None:
    width = max(60, min(100, shutil.get_terminal_size().columns)) - 4
    for line in textwrap.wrap(text, width, subsequent_indent="  "):
        stream.write(f"    {line}\n")


def show_live_summary(runs: Iterable[LiveRun], stream: TextIO) -> None:
    """Show several adapters side by side, a line for each."""
    stream.write(f"\n  {'adapter':<24}")
    stream.write("".join(f"{word:>14}" for word in _WORDS.values()))
    stream.write(f"{'seconds':>10}\n")
    for run in runs:
        counts = dict.fromkeys(LiveOutcome, 0)
        for server in run.servers:
            for outcome, count in server.counts().items():
                counts[outcome] += count
        stream.write(f"  {f'{run.name} {run.version}'.strip():<24}")
        stream.write("".join(f"{counts[outcome] or '·':>14}" for outcome in _WORDS))
        stream.write(f"{run.seconds:>10.1f}\n")
