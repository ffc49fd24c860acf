import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.adapters import OURS, Adapter
from conformance.catalogue import load_clauses
from conformance.checking import expect
from conformance.cli import main
from conformance.live import reasons
from conformance.live.command import select_promises
from conformance.live.polling import wait_until
from conformance.live.processes import ROOT, Server, start
from conformance.live.promises import GROUPS, load_promises
from conformance.live.promising import Promise, promise, registered
from conformance.live.results import (
    LiveOutcome,
    LiveReport,
    LiveRun,
    PromiseResult,
    ServerRun,
)
from conformance.live.runner import run_promises
from conformance.live.servers import PEERS, Peer, select_peers
from conformance.live.site import Site
from conformance.live.table import show_live_run, show_live_summary

CLAUSES = load_clauses()
PROMISES = dict(load_promises())
NAMES = [peer.name for peer in PEERS]
UVICORN = PEERS[0]


# The promises.


def test_every_promise_states_its_rule_in_one_sentence() -> None:
    for one in PROMISES.values():
        assert one.rule.endswith("."), f"{one.name} has no sentence"
        assert one.rule.count(". ") == 0, f"{one.name} has several sentences"
        assert one.group in GROUPS


def test_every_promise_observes_known_clauses() -> None:
    for one in PROMISES.values():
        assert one.clauses, f"{one.name} names no clause"
        for clause in one.clauses:
            assert clause in CLAUSES, f"{one.name} names {clause}"
            assert not CLAUSES[clause].withdrawn, f"{one.name} names {clause}"


def test_every_live_clause_is_observed_by_a_promise() -> None:
    observed = {clause for one in PROMISES.values() for clause in one.clauses}
    for clause in CLAUSES.values():
        assert not clause.live or clause.id in observed, f"{clause.id} is not observed"


def test_every_promise_can_be_kept_on_some_server() -> None:
    for one in PROMISES.values():
        assert one.impossible.keys() <= set(NAMES), one.name
        assert len(one.impossible) < len(PEERS), one.name
        assert all(one.impossible.values()), one.name


def test_every_reason_is_used() -> None:
    used = {
        (peer, why) for one in PROMISES.values() for peer, why in one.impossible.items()
    }
    for name in set(reasons.__all__) - {"KILLED", "UNREAD"}:
        assert used >= set(getattr(reasons, name).items()), name


def test_promise_of_a_name_that_is_taken_is_refused() -> None:
    def get_is_answered(site: Site) -> None:
        pass

    get_is_answered.__module__ = "conformance.live.promises.answers"
    with pytest.raises(ValueError, match=r"two promises are called answers\.get"):
        promise("PRACTICE-servers-01")(get_is_answered)
    assert registered() == PROMISES


# What is chosen.


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        pytest.param([], NAMES, id="all"),
        pytest.param(["uvicorn"], NAMES[:2], id="beginning"),
        pytest.param(
            ["gunicorn", "uvicorn-h11"], ["uvicorn-h11", "gunicorn"], id="two"
        ),
    ],
)
def test_select_peers_chooses(words: list[str], chosen: list[str]) -> None:
    assert [peer.name for peer in select_peers(words)] == chosen


@pytest.mark.parametrize(
    ("words", "count"),
    [
        pytest.param([], len(PROMISES), id="all"),
        pytest.param(["slow.idle_streams_starve_nobody"], 1, id="name"),
        pytest.param(["pep3333-continue"], 2, id="beginning_of_a_clause"),
        pytest.param(["RFC9110-head-01", "answers.head_has_no_body"], 1, id="twice"),
    ],
)
def test_select_promises_chooses(words: list[str], count: int) -> None:
    assert len(select_promises(words, PROMISES)) == count


def test_select_promises_of_a_group_chooses_it() -> None:
    assert {one.group for one in select_promises(["slow"], PROMISES)} == {"slow"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param(
            ["--live", "--server", "apache"], "known: uvicorn-h11", id="server"
        ),
        pytest.param(["--live", "--select", "environ"], "no group", id="selection"),
        pytest.param(["--live", "--adapter", "nobody"], "neither", id="adapter"),
        pytest.param(["--server", "daphne"], "goes with --live", id="not_live"),
        pytest.param(["--live", "--json", "/no/such/x"], "no folder", id="no_folder"),
    ],
)
def test_main_of_wrong_usage_exits_with_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_main_of_list_shows_each_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--live", "--list"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in PROMISES)


# Results.


def result(
    outcome: LiveOutcome, name: str = "slow.some", why: str = ""
) -> PromiseResult:
    return PromiseResult(
        promise=name,
        group=name.partition(".")[0],
        clauses=("A-b-01",),
        outcome=outcome,
        reason=why,
        seconds=0.5,
    )


def run_of(*results: PromiseResult, problem: str = "", version: str = "1") -> LiveRun:
    server = ServerRun(
        server="daphne",
        distribution="daphne",
        version=version,
        results=results,
        problem=problem,
    )
    return LiveRun(
        name="some", target="a:B", distribution="some", version="2", servers=(server,)
    )


def test_report_read_from_its_json_is_the_same() -> None:
    run = run_of(result(LiveOutcome.HUNG), result(LiveOutcome.PASSED))
    report = LiveReport(python="3", platform="here", runs=(run,))
    assert LiveReport.from_json(report.to_json()) == report


@pytest.mark.parametrize(
    ("run", "failed"),
    [
        pytest.param(run_of(result(LiveOutcome.PASSED)), False, id="passed"),
        pytest.param(run_of(result(LiveOutcome.NOT_POSSIBLE)), False, id="impossible"),
        pytest.param(run_of(result(LiveOutcome.FAILED)), True, id="failed"),
        pytest.param(run_of(result(LiveOutcome.HUNG)), True, id="hung"),
        pytest.param(run_of(problem="ended at its start"), True, id="not_started"),
        pytest.param(run_of(problem="x", version=""), False, id="not_installed"),
    ],
)
def test_has_failed_of_a_run(run: LiveRun, failed: bool) -> None:
    assert run.has_failed is failed


def test_show_live_run_shows_each_outcome_and_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ["slow.one", "slow.two", "slow.three", "slow.four"]
    some = PROMISES["slow.idle_streams_starve_nobody"]
    outcomes = zip(names, LiveOutcome, strict=True)
    run = run_of(*(result(outcome, name, f"why {name}") for name, outcome in outcomes))
    promises = [replace(some, name=name) for name in names]

    show_live_run(run, promises, GROUPS, sys.stdout)
    show_live_summary([run, run], sys.stdout)

    output = capsys.readouterr().out
    lines = [line.split() for line in output.splitlines()]
    for cells in (["one", "ok"], ["two", "·"], ["three", "FAIL"], ["four", "HUNG"]):
        assert cells in lines
    assert "1 passed, 1 not possible, 1 failed, 1 hung" in output
    assert f"slow.three  [PRACTICE-load-03]\n    Promise: {some.rule[:20]}" in output
    assert "Hung on daphne: why slow.four" in output
    assert "daphne: why slow.two" in output
    assert ["some", "2", *"1111", "0.0"] in lines


# The runner, on a real server.


def made_up(
    run: Callable[[Site], None], limit: float = 20.0, own_server: bool = False
) -> Promise:
    name = f"made_up.{run.__name__}"
    return Promise(name, ("PRACTICE-servers-01",), run, {}, own_server, limit)


def some_promises(*names: str) -> list[Promise]:
    return [PROMISES[name] for name in names]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Server]]:
    """All servers that a test has started; each must have ended with it."""
    started: list[Server] = []

    def start_and_tell(
        name: str, target: str, folder: Path, *, environ: dict[str, str]
    ) -> Server:
        started.append(start(name, target, folder, environ=environ))
        return started[-1]

    monkeypatch.setattr("conformance.live.runner.start", start_and_tell)
    yield started
    assert started
    assert all(server.is_gone() for server in started)


@pytest.mark.integration
def test_run_promises_of_ours_keeps_them_on_one_server(servers: list[Server]) -> None:
    names = (
        "answers.get_is_answered",
        "answers.two_streams_run_at_once",
        "leaving.in_mid_stream",
        "leaving.one_after_the_other",
        "slow.slow_senders_starve_nobody",
        "uploads.half_a_body_is_never_whole",
        "uploads.refused_body_is_not_continued",
        "shutdown.stream_is_closed",
    )
    seen: list[tuple[str, str]] = []

    run = run_promises(
        OURS,
        [UVICORN],
        some_promises(*names),
        lambda server, result: seen.append((server, result.promise)),
    )

    (server,) = run.servers
    assert [(one.promise, one.reason) for one in server.failures] == []
    assert server.counts()[LiveOutcome.NOT_POSSIBLE] == 1
    assert [one.promise for one in server.results] == list(names)
    assert sorted(seen) == sorted((UVICORN.name, name) for name in names)
    assert server.version
    assert len(servers) == 2  # the shared one, and one of the shutdown's own


@pytest.mark.integration
def test_main_on_a_peer_that_breaks_promises_fails_and_says_which(
    servers: list[Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    arguments = ["--live", "--adapter", "asgiref", "--server", "uvicorn-h11"]
    selected = ["--select", "leaving.in_mid_stream", "--json", str(file)]

    assert main([*arguments, *selected]) == 1

    output = capsys.readouterr().out
    assert "Failed on uvicorn-h11: close() was not called within 1 s" in output
    report = LiveReport.from_json(file.read_text(encoding="utf-8"))
    assert report.runs[0].version
    assert report.runs[0].servers[0].version


@pytest.mark.integration
def test_promise_that_does_not_end_costs_only_its_cell(servers: list[Server]) -> None:
    never = threading.Event()

    def waits_for_ever(site: Site) -> None:
        with site.connect() as connection:
            site.start(connection, "/wait")
            never.wait()

    def kills_the_server(site: Site) -> None:
        site.server.kill()
        site.get(site.connect(), "/hello")

    def is_broken(site: Site) -> None:
        raise LookupError("nothing")

    def is_kept(site: Site) -> None:
        with site.connect() as connection:
            expect(site.get(connection, "/hello") == b"hello", "no hello")

    promises = [
        made_up(waits_for_ever, limit=0.5),
        made_up(kills_the_server),
        made_up(is_broken),
        made_up(is_kept),
    ]
    try:
        run = run_promises(OURS, [UVICORN], promises)
    finally:
        never.set()

    outcomes = [one.outcome.value for one in run.servers[0].results]
    hung, killed, broken, _ = (one.reason for one in run.servers[0].results)
    assert outcomes == ["hung", "failed", "failed", "passed"]
    assert hung == "no end of it within 0.5 s, after GET /wait"
    assert "the connection broke" in killed
    assert "the server's process has ended" in killed
    assert broken.startswith("the promise met LookupError('nothing') in test_conf")
    assert len(servers) == 4


@pytest.mark.integration
def test_run_promises_of_an_adapter_that_cannot_be_made_says_why() -> None:
    adapter = Adapter(name="none", target="conformance.adapters:Missing")
    run = run_promises(adapter, [UVICORN], some_promises("answers.get_is_answered"))
    assert run.has_failed
    assert run.servers[0].results == ()
    assert "uvicorn-h11 ended at its start" in run.servers[0].problem
    assert "Missing" in run.servers[0].problem


def test_run_promises_on_a_server_that_is_not_installed_is_no_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    peer = Peer("apache", "apache")
    promises = some_promises("answers.get_is_answered")
    run = run_promises(OURS, [peer], promises)
    assert not run.has_failed
    show_live_run(run, promises, GROUPS, sys.stdout)
    assert "apache is not installed" in capsys.readouterr().out


@pytest.mark.integration
def test_main_of_all_judges_ours_only(
    servers: list[Server], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--live", "--all", "--server", "uvicorn-h11", "--select"]
    assert main([*arguments, "uploads.chunked_body_reaches_flask"]) == 0
    output = capsys.readouterr().out
    assert "Failed on uvicorn-h11" in output
    assert "wsgi-asgi" in output.partition("adapter  ")[2]


@pytest.mark.integration
def test_command_that_is_interrupted_ends_its_servers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "conformance", "--live", "--server", "uvicorn"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    try:
        wait_until(lambda: _children(process.pid), "a server runs")
        time.sleep(0.5)  # it is somewhere in its promises
        (child,) = _children(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    finally:
        process.kill()
    assert not Path(f"/proc/{child}").exists()
    assert list(tmp_path.iterdir()) == []


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]
