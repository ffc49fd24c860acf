import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import command, wrk
from benchmarks.bodies import digest, matches, pieces
from benchmarks.cases import CASES, GROWTH, HUGE, Case, Growth
from benchmarks.client import WrongAnswer
from benchmarks.contenders import CONTENDERS, OURS
from benchmarks.download import download, write_file
from benchmarks.echo import echo
from benchmarks.entrants import (
    SERVED_CASES,
    WEBSOCKET_CASES,
    Entrant,
    ServedCase,
    entrants,
    setting_of,
    websocket_entrants,
)
from benchmarks.frameworks import FILE_VARIABLE
from benchmarks.growth import find_series
from benchmarks.parts import show_parts
from benchmarks.plot import draw
from benchmarks.process import LOOPS, Plan, contenders_of, measure_case
from benchmarks.report import show_results
from benchmarks.results import CaseResult, Results, Trouble, TroubleKind
from benchmarks.servers import ASGI_SERVERS, start
from benchmarks.site import CONTENDER_VARIABLE
from benchmarks.statistics import Spread, ratios, spread
from benchmarks.targets import BEST_PEER, TAIL, TARGETS, Target, judge

PLAN = Plan(rounds=1, round_s=0.01, limit_s=10)
TRIVIAL, TRIVIAL_32 = CASES[0], CASES[1]


# Contenders that go wrong, as the processes of rounds import them.


class Wrong:
    """Answers, but not what the application answers."""

    def __init__(self, application: object) -> None:
        self.start: dict[str, Any] = {
            "type": "http.response.start",
            "status": 200,
            "headers": [],
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send(self.start)
        await send({"type": "http.response.body", "body": b"quick"})


class Failing(Wrong):
    """Answers with another status."""

    def __init__(self, application: object) -> None:
        super().__init__(application)
        self.start["status"] = 500


class Unfinished(Wrong):
    """Does not end its response."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send(self.start)


class Raising(Wrong):
    """Raises."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("nothing here")


class Hanging(Wrong):
    """Blocks the event loop for good."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        threading.Event().wait()


# A small run.


def case_result(**changes: Any) -> CaseResult:
    values: dict[str, Any] = {
        "part": "process",
        "setting": "asyncio",
        "name": "trivial-32",
        "title": "trivial response, 32 at a time",
        "unit": "requests",
        "rates": {OURS: [40.0, 60.0, 50.0], "a2wsgi": [4.0, 5.0, 5.0]},
    }
    return CaseResult(**{**values, **changes})


def grown(size: int, rate: float) -> CaseResult:
    return case_result(
        name=f"growth-headers-{size}",
        rates={OURS: [rate]},
        growth=Growth("headers", size, "header"),
    )


def run_of(*cases: CaseResult) -> Results:
    return Results(
        machine={"processors": 2},
        versions={"wsgi-asgi": "0.1.0"},
        settings={"rounds": 3},
        cases=list(cases),
    )


@pytest.fixture
def results() -> Results:
    served = case_result(
        part="served",
        setting="behind uvicorn",
        name="sleep-256",
        rates={OURS: [3500.0], "a2wsgi": [1000.0]},
        latencies={OURS: [{"p50": 0.07, "p90": 0.08, "p99": 0.105}]},
    )
    whole = case_result()
    whole.fail("asgiref", Trouble(TroubleKind.WRONG, "status 500"))
    return run_of(whole, served, grown(10, 100.0), grown(100, 10.0))


# Statistics.


def test_a_spread_has_the_median_and_the_quartiles() -> None:
    assert spread([5, 1, 4, 2, 3]) == Spread(2, 3, 4)


def test_a_spread_of_one_value_is_that_value() -> None:
    assert spread([7]) == Spread(7, 7, 7)


def test_ratios_are_of_the_same_round() -> None:
    assert ratios([40, 60, 50], [4, 5, 5]) == [10, 12, 10]


def test_ratios_with_a_contender_of_fewer_rounds_are_of_the_first_ones() -> None:
    assert ratios([40, 60, 50], [4]) == [10]


def test_a_ratio_is_the_median_of_the_rounds_ratios(results: Results) -> None:
    # And not the ratio of the medians.
    ratio = results.cases[0].ratio("a2wsgi")
    assert ratio == Spread(10, 10, 11)


def test_the_time_of_one_unit_is_that_of_a_request_by_its_units(
    results: Results,
) -> None:
    (series,) = find_series(results.cases)
    assert series.sizes == [10, 100]
    assert series.seconds[OURS] == pytest.approx({10: 0.001, 100: 0.001})


def test_growth_beyond_the_linear_is_seen() -> None:
    (series,) = find_series([grown(10, 100.0), grown(100, 1.0)])
    assert series.excess(OURS) == pytest.approx(10)


# Bodies.


def test_a_piece_at_its_place_matches() -> None:
    body = b"".join(pieces(3_000_000))
    assert len(body) == 3_000_000
    for begin, end in ((0, 10), (65536, 131072), (1_000_000, 2_900_000)):
        assert matches(begin, body[begin:end])
        assert not matches(begin + 65536, body[begin:end])


def test_a_digest_tells_what_is_lost_or_out_of_order() -> None:
    body = list(pieces(200_000))
    swapped = [body[1], body[0], *body[2:]]
    assert digest(body) == digest([b"".join(body)]) == digest([b"", *body])
    assert len({digest(body), digest(swapped), digest(body[:-1])}) == 3


# Contenders that go wrong.


@pytest.mark.parametrize(
    ("bad", "kind", "text"),
    [
        pytest.param(Wrong, TroubleKind.WRONG, "5 bytes", id="body"),
        pytest.param(Failing, TroubleKind.WRONG, "status 500", id="status"),
        pytest.param(Unfinished, TroubleKind.WRONG, "not complete", id="incomplete"),
        pytest.param(Raising, TroubleKind.RAISED, "nothing here", id="raises"),
    ],
)
def test_a_contender_that_answers_wrong_is_reported_and_not_counted(
    bad: type, kind: TroubleKind, text: str, tmp_path: Path
) -> None:
    name = f"{__name__}:{bad.__name__}"
    result = measure_case(TRIVIAL, "asyncio", [name, "no hop"], PLAN, tmp_path)
    assert list(result.rates) == ["no hop"]
    assert result.troubles[name].kind is kind
    assert text in result.troubles[name].text


def test_a_contender_that_hangs_is_ended_after_its_time(tmp_path: Path) -> None:
    name = f"{__name__}:Hanging"
    plan = Plan(rounds=1, round_s=0.01, limit_s=2)
    result = measure_case(TRIVIAL, "asyncio", [name, "no hop"], plan, tmp_path)
    assert list(result.rates) == ["no hop"]
    assert result.troubles[name].kind is TroubleKind.HUNG


def test_a_contender_that_goes_wrong_later_loses_its_rates() -> None:
    result = case_result()
    result.fail("a2wsgi", Trouble(TroubleKind.HUNG, "no answer"))
    assert result.ratio("a2wsgi") is None
    assert "a2wsgi" not in result.rates


REPORT = (
    '  100 requests in 1s\nRESULT {{"requests": {requests}, "microseconds": 1000000, '
    '"bytes": {size}, "errors": {{"status": {status}, "timeout": 0}}, '
    '"p50": 1000, "p90": 2000, "p99": 3000}}\n'
)


def test_what_wrk_counts_becomes_a_rate_and_seconds() -> None:
    output = REPORT.format(requests=100, size=10_050, status=0)
    assert wrk.read_report(output, 1, 100) == (
        100,
        {"p50": 0.001, "p90": 0.002, "p99": 0.003},
    )


@pytest.mark.parametrize(
    ("error", "numbers"),
    [
        pytest.param(WrongAnswer, (100, 10_000, 1), id="status"),
        pytest.param(WrongAnswer, (100, 5_000, 0), id="short"),
        pytest.param(WrongAnswer, (100, 20_000, 0), id="long"),
        pytest.param(wrk.Hung, (0, 0, 0), id="nothing"),
    ],
)
def test_what_wrk_finds_wrong_is_no_rate(
    error: type[Exception], numbers: tuple[int, int, int]
) -> None:
    requests, size, status = numbers
    output = REPORT.format(requests=requests, size=size, status=status)
    with pytest.raises(error):
        wrk.read_report(output, 1, 100)


# Files, tables and the plot.


def test_results_are_the_same_after_writing_and_reading(
    results: Results, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    results.write(path)
    assert Results.read(path) == results


@pytest.mark.parametrize("text", ["[]", "{}", "nothing"])
def test_a_file_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"benchmark|Expecting"):
        Results.read(path)


def test_the_tables_have_ratios_troubles_and_targets(results: Results) -> None:
    text = show_results(results)
    assert "10 (10 to 11)" in text
    assert "asgiref, trivial response, 32 at a time, asyncio: wrong: status 500" in text
    assert re.search(r"\| a2wsgi +\| 10 +\| 10 \(10 to 11\) +\| yes +\|", text)
    assert "70 / 80 / 105" in text
    assert "1 ms" in text


def test_the_plot_is_the_same_each_time(results: Results, tmp_path: Path) -> None:
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    draw(results, first)
    draw(results, second)
    assert first.read_bytes() == second.read_bytes()


def test_the_plot_refers_to_nothing_outside(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    draw(results, path)
    svg = path.read_text()
    assert not [link for link in re.findall(r'href="([^"]*)"', svg) if link[0] != "#"]
    assert not re.findall(r"url\((?!#)", svg)
    assert "<image" not in svg
    assert "<text" not in svg
    assert "<dc:date>" not in svg


def test_the_command_line_shows_and_draws_a_file(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, svg = tmp_path / "results.json", tmp_path / "plot.svg"
    results.write(path)
    assert command.main(["table", str(path)]) == 0
    assert capsys.readouterr().out == show_results(results)
    assert command.main(["plot", str(path), "--svg", str(svg)]) == 0
    assert svg.stat().st_size


def test_the_command_line_refuses_a_file_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["table", str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err


# Cases and targets.


@pytest.mark.parametrize(
    "cases",
    [(*CASES, *GROWTH, *HUGE), (*SERVED_CASES, *WEBSOCKET_CASES)],
    ids=["in process", "served"],
)
def test_names_of_cases_are_unique(cases: Sequence[Case | ServedCase]) -> None:
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)


def served_settings() -> dict[tuple[str, str], list[str]]:
    return {
        (setting_of(kind.name, 1), case.name): [
            one.label
            for one in asked
            if case.can_be_answered_by(one) and (one.server == kind or not one.adapter)
        ]
        for kind in ASGI_SERVERS
        for cases, asked in (
            (SERVED_CASES, entrants(1)),
            (WEBSOCKET_CASES, websocket_entrants()),
        )
        for case in cases
    }


@pytest.mark.parametrize(
    "target", TARGETS, ids=lambda one: f"{one.setting}-{one.case}-{one.against}"
)
def test_every_target_names_what_is_measured(target: Target) -> None:
    measured = served_settings()
    measured |= {
        (loop, case.name): contenders_of(case)
        for loop in LOOPS
        for case in CASES
        if case.application
    }
    names = measured[target.setting, target.case]
    assert target.against in (*names, BEST_PEER, TAIL)


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        pytest.param(Target("asyncio", "trivial-32", "a2wsgi", 10), True, id="kept"),
        pytest.param(Target("asyncio", "trivial-32", "a2wsgi", 11), False, id="missed"),
        pytest.param(
            Target("asyncio", "trivial-32", BEST_PEER, 10), True, id="best peer"
        ),
        pytest.param(Target("asyncio", "trivial-32", "asgiref", 1), None, id="trouble"),
        pytest.param(Target("asyncio", "flask", "asgiref", 1), None, id="not run"),
        pytest.param(
            Target("behind uvicorn", "sleep-256", TAIL, 2), True, id="short tail"
        ),
        pytest.param(
            Target("behind uvicorn", "sleep-256", TAIL, 1.4), False, id="long tail"
        ),
    ],
)
def test_a_target_is_judged_by_the_median(
    target: Target, reached: bool | None, results: Results
) -> None:
    assert judge(target, results).reached is reached


def test_a_server_with_one_process_only_has_no_part_with_two() -> None:
    assert "waitress" in [one.name for one in entrants(1)]
    assert "waitress" not in [one.name for one in entrants(2)]
    assert Entrant(ASGI_SERVERS[0], OURS) in entrants(2)


# Whole cases.


@pytest.mark.timeout(30)
def test_every_contender_answers_right(tmp_path: Path) -> None:
    names = contenders_of(TRIVIAL_32)
    result = measure_case(TRIVIAL_32, "asyncio", names, PLAN, tmp_path)
    assert not result.troubles
    assert set(result.rates) == {one.name for one in CONTENDERS}


@pytest.mark.parametrize("case", CASES[2:], ids=lambda case: case.name)
def test_every_case_is_answered_right(case: Case, tmp_path: Path) -> None:
    result = measure_case(case, "uvloop", [OURS], PLAN, tmp_path)
    assert not result.troubles
    assert len(result.rates[OURS]) == 1


@pytest.mark.integration
def test_a_server_answers_all_that_is_asked_of_it(tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    write_file(file, 300_000)
    variables = {CONTENDER_VARIABLE: OURS, FILE_VARIABLE: str(file)}
    server = start(ASGI_SERVERS[0], 1, variables, tmp_path / "server.log")
    try:
        server.wait_until_it_answers()
        sizes = {
            case.path: wrk.fetch(server.port, case.path)
            for case in SERVED_CASES
            if case.connections
        }
        assert min(sizes.values()) > 100
        assert download(server.port, "/file", 300_000, within=10) > 0
        with pytest.raises(WrongAnswer, match="bytes instead of"):
            download(server.port, "/file", 400_000, within=10)
        with pytest.raises(WrongAnswer, match="404"):
            download(server.port, "/nowhere", 1, within=10)
    finally:
        server.stop()


@pytest.mark.integration
@pytest.mark.parametrize("entrant", websocket_entrants(), ids=lambda one: one.name)
def test_a_server_sends_messages_back(entrant: Entrant, tmp_path: Path) -> None:
    variables = {CONTENDER_VARIABLE: entrant.adapter}
    server = start(entrant.server, 1, variables, tmp_path / "server.log")
    try:
        server.wait_until_it_answers()
        for case in WEBSOCKET_CASES:
            if case.can_be_answered_by(entrant):
                rate, times = echo(server.port, case.path, case.connections, 0.05)
                assert rate > 0
                assert 0 < times["p50"] <= times["p90"] <= times["p99"]
    finally:
        server.stop()


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """Be a server that has its answers ready, and then nothing to say."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                for data in answers:
                    connection.recv(4096)
                    connection.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        pytest.param([b"HTTP/1.1 404 Not Found\r\n\r\n"], "404", id="refused"),
        pytest.param([b"HTTP/1.1"], "HTTP/1.1", id="half a handshake"),
        pytest.param([UPGRADE, b"\x81\x05Hello"], "Hello", id="another message"),
        pytest.param([UPGRADE, b"\x81\x20a mess"], "a mess", id="half a message"),
    ],
)
def test_messages_that_do_not_come_back_are_no_rate(
    answers: list[bytes], text: str
) -> None:
    with answering(*answers) as port, pytest.raises(WrongAnswer, match=text):
        echo(port, "/", 1, 0.01)


def test_a_run_without_wrk_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing: Callable[[], bool] = lambda: False  # noqa: E731
    monkeypatch.setattr(wrk, "is_installed", missing)
    json = tmp_path / "results.json"
    assert command.main(["served", "--json", str(json)]) == 1
    assert "wrk is not installed" in capsys.readouterr().out
    assert not json.exists()


def test_parts_of_a_request_are_all_measured() -> None:
    head, _, *rows = show_parts(rounds=1, round_s=0.01).splitlines()
    assert head == "| microseconds | asyncio | uvloop |"
    assert len(rows) == 11
    for row in rows:
        _, _, *cells, _ = (cell.strip() for cell in row.split("|"))
        assert float(cells[0]) > 0
        assert ("a request" in row) == bool(cells[1])
