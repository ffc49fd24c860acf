"""Runs promises on servers, one server after the other.

Promises share a server for as long as they are kept; after one that was not, the next
gets a new server. Those with a server of their own wait for processes most of the
time, so they run beside each other.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Self

from conformance.adapters import Adapter
from conformance.live.attempts import Attempt
from conformance.live.environment import ADAPTER_VARIABLE, RUNNER_VARIABLE
from conformance.live.polling import NotInTimeError
from conformance.live.processes import Server, StartError, start
from conformance.live.promising import Promise
from conformance.live.results import (
    LiveOutcome,
    LiveRun,
    PromiseResult,
    ServerRun,
)
from conformance.live.servers import Peer
from conformance.live.site import Site
from conformance.timing import PATIENCE, PATIENCE_VARIABLE

__all__ = ["run_promises"]

TARGET = "conformance.live.app:app"

OnResult = Callable[[str, PromiseResult], object]


class _Host:
    """The servers of one peer with one adapter; all end with the block."""

    def __init__(self, peer: Peer, adapter: Adapter, folder: Path) -> None:
        self._peer = peer
        self._environ = {
            ADAPTER_VARIABLE: adapter.target,
            RUNNER_VARIABLE: str(os.getpid()),
            PATIENCE_VARIABLE: str(PATIENCE),
        }
        self._folder = folder
        self._started = 0
        self._servers: list[Server] = []
        self._shared: Server | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with ExitStack() as stack:
            for server in self._servers:
                stack.callback(server.kill)

    def shared(self) -> Site:
        """Give a site on the server that promises share."""
        if self._shared and self._shared.process.poll() is not None:
            self.drop()
        if self._shared is None:
            self._shared = self._start()
        return Site(self._peer, self._shared)

    def own(self) -> Site:
        """Give a site on a new server."""
        return Site(self._peer, self._start())

    def drop(self) -> None:
        """End the server that promises share; the next gets a new one."""
        if self._shared:
            self._shared.kill()
            self._servers.remove(self._shared)
        self._shared = None

    def _start(self) -> Server:
        self._started += 1
        folder = self._folder / str(self._started)
        server = start(self._peer.server, TARGET, folder, environ=self._environ)
        self._servers.append(server)
        return server


def run_promises(
    adapter: Adapter,
    peers: Iterable[Peer],
    promises: Sequence[Promise],
    on_result: OnResult = lambda server, result: None,
) -> LiveRun:
    """Run promises of an adapter on some servers.

    Args:
        adapter: Which.
        peers: The servers, with the protocols to be spoken to them.
        promises: Which, in order.
        on_result: Called with the server's name and each result as it comes.

    Returns:
        For each server that is installed one result for each promise, unless the
        server did not start; its `problem` says so then.
    """
    begun = time.perf_counter()
    servers = tuple(_run_on(peer, adapter, promises, on_result) for peer in peers)
    return LiveRun(
        name=adapter.name,
        target=adapter.target,
        distribution=adapter.distribution,
        version=adapter.version,
        servers=servers,
        seconds=round(time.perf_counter() - begun, 3),
    )


def _run_on(
    peer: Peer, adapter: Adapter, promises: Sequence[Promise], on_result: OnResult
) -> ServerRun:
    begun = time.perf_counter()
    results: dict[str, PromiseResult] = {}
    problem = ""
    installed = _version(peer.distribution)
    if not installed:
        problem = f"{peer.distribution} is not installed"
    else:
        try:
            with (
                tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
                _Host(peer, adapter, Path(folder)) as host,
            ):
                for result in _results(host, peer, promises):
                    results[result.promise] = result
                    on_result(peer.name, result)
        except (StartError, NotInTimeError) as error:
            problem = _last_line(str(error))
    return ServerRun(
        server=peer.name,
        distribution=peer.distribution,
        version=installed,
        results=tuple(results[p.name] for p in promises if p.name in results),
        seconds=round(time.perf_counter() - begun, 3),
        problem=problem,
    )


def _results(
    host: _Host, peer: Peer, promises: Sequence[Promise]
) -> Iterator[PromiseResult]:
    possible = [one for one in promises if peer.name not in one.impossible]
    for promise in promises:
        if promise not in possible:
            reason = promise.impossible[peer.name]
            yield _result(promise, LiveOutcome.NOT_POSSIBLE, reason, 0)
    for promise in possible:
        if not promise.own_server:
            result = _finish(Attempt(promise, host.shared()))
            if not result.outcome.is_good:
                host.drop()
            yield result
    host.drop()
    attempts = [Attempt(one, host.own()) for one in possible if one.own_server]
    yield from map(_finish, attempts)


def _finish(attempt: Attempt) -> PromiseResult:
    outcome, reason = attempt.wait()
    return _result(attempt.promise, outcome, reason, attempt.seconds)


def _result(
    promise: Promise, outcome: LiveOutcome, reason: str, seconds: float
) -> PromiseResult:
    return PromiseResult(
        promise=promise.name,
        group=promise.group,
        clauses=promise.clauses,
        outcome=outcome,
        reason=reason,
        seconds=round(seconds, 3),
    )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _last_line(text: str) -> str:
    """Say in one line why a server has not started: what it printed last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"
