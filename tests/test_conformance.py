import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trio.lowlevel import in_trio_run

from conformance import cli
from conformance.adapters import KNOWN, Adapter, UnknownAdapter, find_adapter
from conformance.apps import answering, hello
from conformance.bench import Bench
from conformance.catalogue import Strength, load_clauses, parse_clauses
from conformance.checking import Check, Failed, NotOffered, expect_equal
from conformance.checks import GROUPS, load_checks
from conformance.cli import main, select_checks
from conformance.exchanges import HttpExchange
from conformance.judges import HttpJudge, Judge, LifespanJudge, WebSocketJudge
from conformance.loops import ASYNCIO, LOOPS, TRIO
from conformance.results import AdapterRun, CheckResult, Outcome, Report
from conformance.runner import run_checks

CLAUSES = load_clauses()
CHECKS = load_checks()

Message = dict[str, Any]


# The clauses and the checks.


def test_every_clause_has_a_check_or_a_reason() -> None:
    checked = {clause for check in CHECKS.values() for clause in check.clauses}
    for clause in CLAUSES.values():
        excused = clause.live or clause.unchecked or clause.withdrawn
        assert excused or clause.id in checked, f"{clause.id} is not checked"


def test_every_check_names_known_clauses() -> None:
    for check in CHECKS.values():
        assert check.clauses, f"{check.name} names no clause"
        for clause in check.clauses:
            assert clause in CLAUSES, f"{check.name} names {clause}"


def test_every_check_states_its_rule_in_one_sentence() -> None:
    for check in CHECKS.values():
        assert check.rule.endswith("."), f"{check.name} has no sentence"
        assert check.rule.count(". ") == 0, f"{check.name} has several sentences"
        assert check.group in GROUPS


def test_every_clause_is_worded_and_linked() -> None:
    for clause in CLAUSES.values():
        assert clause.text.endswith("."), clause.id
        assert clause.url.startswith("https://"), clause.id
        assert not (clause.live and clause.unchecked), clause.id


SOURCES = '[sources.SPEC]\ntitle = "Spec"\nurl = "https://example.org/spec"\n'


def test_parse_clauses_links_to_the_section() -> None:
    text = f"""{SOURCES}
    [SPEC-topic-01]
    strength = "MUST"
    section = "The start_response() Callable"
    text = "One."
    [SPEC-topic-02]
    strength = "MAY"
    section = "8.6 Content-Length"
    text = "Two."
    decision = "Why."
    """
    first, second = parse_clauses(text, "spec.toml")
    assert first.url == "https://example.org/spec#the-start-response-callable"
    assert second.url == "https://example.org/spec#section-8.6"
    assert (first.strength, second.strength) == (Strength.MUST, Strength.MAY)
    assert (first.source, first.decision, second.decision) == ("Spec", None, "Why.")


@pytest.mark.parametrize(
    ("clause", "complaint"),
    [
        pytest.param("[SPEC-01]", "is no id", id="without_a_subject"),
        pytest.param("[spec-topic-01]", "is no id", id="in_lower_case"),
        pytest.param("[SPEC-topic-1]", "is no id", id="of_one_digit"),
        pytest.param("[OTHER-topic-01]", "no source", id="of_an_unknown_source"),
        pytest.param("[SPEC-topic-01]\nwhat = 1", "unknown key", id="unknown_key"),
        pytest.param("[SPEC-topic-01]\ntext = 'x'", "section", id="no_section"),
        pytest.param(
            "[SPEC-topic-01]\nsection = 'x'\ntext = 'x'\nstrength = 'WISH'",
            "WISH",
            id="unknown_strength",
        ),
        pytest.param("[SPEC-topic-01]\n[SPEC-topic-01]", "twice", id="twice"),
    ],
)
def test_parse_clauses_refuses(clause: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        list(parse_clauses(SOURCES + clause, "spec.toml"))


# The judges.


def start(*headers: Any, **changes: Any) -> Message:
    message = {"type": "http.response.start", "status": 200, "headers": list(headers)}
    return {**message, **changes}


def body(content: Any = b"x", **changes: Any) -> Message:
    return {"type": "http.response.body", "body": content, **changes}


def kind(name: str, **keys: Any) -> Message:
    return {"type": name, **keys}


HINT = kind("http.response.early_hint", links=[b"</a>"])
TRAILERS = kind("http.response.trailers", headers=[(b"x-a", b"1")])
PATH = kind("http.response.pathsend", path="/a")
EXTENSIONS = ("http.response.early_hint", "http.response.trailers")


@pytest.mark.parametrize(
    ("extensions", "messages"),
    [
        pytest.param((), [start(), body(more_body=True), body()], id="two_chunks"),
        pytest.param((), [start(headers=()), kind("http.response.body")], id="minimal"),
        pytest.param((), [start(), body(server="x")], id="unknown_key"),
        pytest.param(EXTENSIONS, [HINT, HINT, start(), body()], id="hints"),
        pytest.param(
            EXTENSIONS, [start(trailers=True), body(), TRAILERS], id="trailers"
        ),
        pytest.param(("http.response.pathsend",), [start(), PATH], id="path"),
    ],
)
def test_http_judge_accepts(
    extensions: tuple[str, ...], messages: list[Message]
) -> None:
    judge = HttpJudge(extensions)
    assert [fault for message in messages for fault in judge.judge(message)] == []
    assert judge.complete


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        pytest.param([None], "is a dict", id="no_dict"),
        pytest.param([{}], "has a type", id="no_type"),
        pytest.param([kind("http.response.what")], "does not know", id="unknown_type"),
        pytest.param([body()], "before http.response.start", id="body_first"),
        pytest.param([start(), start()], "a second time", id="two_starts"),
        pytest.param([start(), body(), body()], "after the last", id="after_the_end"),
        pytest.param([start(status="200")], "'status'", id="status_of_text"),
        pytest.param([start(status=20)], "no HTTP status", id="status_20"),
        pytest.param([start(status=True)], "'status'", id="status_of_bool"),
        pytest.param([kind("http.response.start")], "lacks", id="no_status"),
        pytest.param([start(("a", b"1"))], "two byte strings", id="name_of_text"),
        pytest.param([start((b"A", b"1"))], "lower case", id="name_in_upper_case"),
        pytest.param([start((b"a b", b"1"))], "no token", id="name_with_a_space"),
        pytest.param([start((b"a", b"1\n"))], "line break", id="value_with_a_break"),
        pytest.param([start(1)], "no pairs", id="header_of_a_number"),
        pytest.param([start(), body("x")], "'body'", id="body_of_text"),
        pytest.param([start(), body(bytearray())], "'body'", id="body_of_bytearray"),
        pytest.param(
            [start(), body(more_body=1)], "'more_body'", id="more_of_a_number"
        ),
        pytest.param([start(), PATH], "does not offer", id="extension"),
        pytest.param([start(trailers=True)], "not offered", id="trailers_announced"),
    ],
)
def test_http_judge_objects(messages: list[Any], complaint: str) -> None:
    judge = HttpJudge()
    faults = [fault for message in messages for fault in judge.judge(message)]
    assert len(faults) == 1
    assert complaint in faults[0]


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        pytest.param([start(), HINT], "after http.response.start", id="late_hint"),
        pytest.param([start(), TRAILERS], "before the end", id="early_trailers"),
        pytest.param(
            [start(trailers=True), body(), body()], "after the last", id="body_again"
        ),
    ],
)
def test_http_judge_of_extensions_objects(messages: list[Any], complaint: str) -> None:
    judge = HttpJudge(EXTENSIONS)
    faults = [fault for message in messages for fault in judge.judge(message)]
    assert len(faults) == 1
    assert complaint in faults[0]


@pytest.mark.parametrize(
    ("judge", "messages", "complaint"),
    [
        pytest.param(
            LifespanJudge(),
            [kind("lifespan.shutdown.complete")],
            "expected an answer to lifespan.startup",
            id="lifespan_out_of_order",
        ),
        pytest.param(
            WebSocketJudge(),
            [kind("websocket.send", text="x")],
            "before websocket.accept",
            id="websocket_before_accept",
        ),
        pytest.param(
            WebSocketJudge(),
            [kind("websocket.accept"), kind("websocket.send", text="x", bytes=b"x")],
            "not exactly one",
            id="websocket_of_two_kinds",
        ),
        pytest.param(
            WebSocketJudge(),
            [kind("websocket.close"), kind("websocket.close")],
            "after the last message",
            id="websocket_closed_twice",
        ),
        pytest.param(
            WebSocketJudge(),
            [start()],
            "does not know",
            id="websocket_with_an_http_response",
        ),
    ],
)
def test_other_judges_object(
    judge: Judge, messages: list[Message], complaint: str
) -> None:
    faults = [fault for message in messages for fault in judge.judge(message)]
    assert len(faults) == 1
    assert complaint in faults[0]


# The bench, with adapters that are bad on purpose.


class Wrong:
    """Sends a body without a start."""

    def __init__(self, app: object, **options: object) -> None:
        sys.stdout.write("not for the runner\n")

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        await send(kind("http.response.body", body=b"x"))


class HangsWhenMade:
    """Blocks the check itself."""

    def __init__(self, app: object) -> None:
        time.sleep(3600)


class HangsInTheLoop(Wrong):
    """Blocks the event loop."""

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        time.sleep(3600)  # noqa: ASYNC251  # that is what is wrong with it


class Crashes(Wrong):
    """Takes its process down."""

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        sys.stderr.write("so long\n")
        sys.stderr.flush()
        os._exit(3)


class NamesItsLoop(Wrong):
    """Says what it runs on."""

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        raise ValueError(f"it runs on {TRIO if in_trio_run() else ASYNCIO}")


class Overlaps(Wrong):
    """Calls receive() twice at once, and send() after its return."""

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        first, second = receive(), receive()
        with pytest.raises(StopIteration):
            first.send(None)
        second.close()
        waiting = receive()
        waiting.send(None)
        another = receive()
        another.send(None)
        another.close()
        waiting.close()
        await send(start())
        await send(body())


@pytest.fixture
def bench() -> Iterator[Callable[[Any], Bench]]:
    benches: list[Bench] = []

    def make(make_adapter: Any) -> Bench:
        benches.append(Bench(make_adapter))
        return benches[-1]

    yield make
    for made in benches:
        made.close()


def test_bench_of_a_wrong_message_fails_with_the_servers_words(
    bench: Callable[[Any], Bench],
) -> None:
    with pytest.raises(Failed, match=r"http.response.body was sent before"):
        bench(Wrong).request(hello)


def test_bench_of_overlapping_calls_notes_a_violation(
    bench: Callable[[Any], Bench],
) -> None:
    made = bench(Overlaps)
    made.attempt(hello)
    fault, _ = made.close()
    assert fault == "receive() was called while another was awaited"
    made.renew_loop()


def test_bench_of_a_capability_that_is_unknown_is_not_offered(
    bench: Callable[[Any], Bench],
) -> None:
    with pytest.raises(NotOffered, match="more than that"):
        bench(Wrong).serve(hello, "more than that")


def test_expect_equal_of_long_values_shortens_them() -> None:
    with pytest.raises(
        Failed, match=r"the body is b'xxx.*10003 characters\)"
    ) as failed:
        expect_equal(b"x" * 10_000, b"", "the body")
    assert len(str(failed.value)) < 300


# The runner.


def some_checks(*names: str, limit: float | None = None) -> list[Check]:
    checks = [CHECKS[name] for name in names]
    return [replace(check, limit=limit or check.limit) for check in checks]


def run_bad(adapter: type, loop: str, limit: float | None = None) -> AdapterRun:
    target = f"tests.test_conformance:{adapter.__name__}"
    names = ("environ.environ_is_a_dict", "iterable.one_chunk")
    chosen = Adapter(name="bad", target=target)
    return run_checks(chosen, some_checks(*names, limit=limit), CLAUSES, loop=loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("adapter", "outcome", "reason"),
    [
        pytest.param(
            Wrong, Outcome.FAILED, "the application was not called", id="wrong"
        ),
        pytest.param(HangsWhenMade, Outcome.HUNG, "no end of the check", id="hangs"),
        pytest.param(
            HangsInTheLoop, Outcome.FAILED, "had not returned", id="hangs_in_the_loop"
        ),
        pytest.param(
            Crashes, Outcome.CRASHED, "the process exited with 3: so long", id="crashes"
        ),
    ],
)
def test_run_checks_of_a_bad_adapter_goes_on(
    loop: str, adapter: type, outcome: Outcome, reason: str
) -> None:
    limit = 0.5 if outcome is Outcome.HUNG else None
    run = run_bad(adapter, loop, limit)
    assert run.loop == loop
    assert [result.outcome for result in run.results] == [outcome, outcome]
    assert reason in run.results[0].reason
    assert run.breaks_a_must


def test_run_checks_of_an_adapter_that_cannot_be_imported_says_why() -> None:
    adapter = Adapter(name="none", target="tests.test_conformance:Missing")
    run = run_checks(adapter, some_checks("iterable.one_chunk"), CLAUSES)
    assert run.results == ()
    assert "Missing" in run.problem
    assert run.breaks_a_must


def test_run_checks_of_a_must_that_is_not_offered_fails() -> None:
    names = ("environ.request_uri",)
    adapter = find_adapter("a2wsgi")
    clause = CLAUSES["PRACTICE-uri-01"]
    (result,) = run_checks(adapter, some_checks(*names), CLAUSES).results
    assert result.outcome is Outcome.NOT_OFFERED
    strict = {**CLAUSES, clause.id: replace(clause, strength=Strength.MUST)}
    (result,) = run_checks(adapter, some_checks(*names), strict).results
    assert result.outcome is Outcome.FAILED


# Results.


def result(outcome: Outcome, strength: Strength, *clauses: str) -> CheckResult:
    return CheckResult(
        check="group.name",
        group="group",
        clauses=clauses,
        strength=strength,
        outcome=outcome,
        reason="",
        seconds=0.5,
    )


def run_of(*results: CheckResult) -> AdapterRun:
    return AdapterRun(
        name="some", target="a:B", distribution="some", version="1", results=results
    )


def test_report_read_from_its_json_is_the_same() -> None:
    run = run_of(result(Outcome.HUNG, Strength.SHOULD, "A-b-01"))
    report = Report(python="3", platform="here", runs=(run,))
    assert Report.from_json(report.to_json()) == report


def test_report_says_what_loop_its_runs_were_on_unless_it_is_the_usual_one() -> None:
    run = run_of()
    report = Report(python="3", platform="here", runs=(run,))
    assert report.where == "Python 3, here"
    on_trio = Report(python="3", platform="here", runs=(replace(run, loop=TRIO),))
    assert on_trio.where == "Python 3, here, trio"


def test_clause_outcomes_of_several_checks_are_the_worst() -> None:
    run = run_of(
        result(Outcome.FAILED, Strength.MAY, "A-b-01", "A-b-02"),
        result(Outcome.PASSED, Strength.MAY, "A-b-01"),
        result(Outcome.NOT_OFFERED, Strength.MAY, "A-b-03"),
    )
    assert run.clause_outcomes() == {
        "A-b-01": Outcome.FAILED,
        "A-b-02": Outcome.FAILED,
        "A-b-03": Outcome.NOT_OFFERED,
    }


@pytest.mark.parametrize(
    ("outcome", "strength", "breaks"),
    [
        pytest.param(Outcome.FAILED, Strength.MUST, True, id="failed_must"),
        pytest.param(Outcome.CRASHED, Strength.MUST, True, id="crashed_must"),
        pytest.param(Outcome.FAILED, Strength.SHOULD, False, id="failed_should"),
        pytest.param(Outcome.PASSED, Strength.MUST, False, id="passed_must"),
    ],
)
def test_breaks_a_must_of_a_result(
    outcome: Outcome, strength: Strength, breaks: bool
) -> None:
    assert run_of(result(outcome, strength, "A-b-01")).breaks_a_must is breaks


# The command line.


@pytest.mark.parametrize(
    ("words", "count"),
    [
        pytest.param([], len(CHECKS), id="all"),
        pytest.param(["PEP3333-environ-01"], 1, id="clause"),
        pytest.param(["pep3333-environ-0"], 9, id="beginning_of_clauses"),
        pytest.param(["iterable.one_chunk", "ASGI-HTTP-body-01"], 1, id="check_twice"),
    ],
)
def test_select_checks_chooses(words: list[str], count: int) -> None:
    assert len(select_checks(words, CHECKS)) == count


def test_select_checks_of_a_group_chooses_it() -> None:
    assert {check.group for check in select_checks(["errors"], CHECKS)} == {"errors"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("nobody", "neither module:Class nor", id="unknown_name"),
        pytest.param("no_such_module:Adapter", "no module", id="unknown_module"),
        pytest.param("no.such.module:Adapter", "cannot be imported", id="no_package"),
        pytest.param("asgiref.wsgi:", "neither", id="no_class"),
    ],
)
def test_find_adapter_refuses(text: str, complaint: str) -> None:
    with pytest.raises(UnknownAdapter, match=complaint):
        find_adapter(text)


def test_find_adapter_of_any_class_finds_its_distribution() -> None:
    adapter = find_adapter("starlette.applications:Starlette")
    assert adapter.distribution == "starlette"
    assert adapter.version


def test_main_on_our_adapter_succeeds_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    arguments = ["--select", "ASGI-HTTP-body", "--json", str(file)]
    assert main(arguments) == 0
    report = Report.from_json(file.read_text(encoding="utf-8"))
    assert [result.outcome for result in report.runs[0].results] == ["passed"] * 3
    assert json.loads(file.read_text(encoding="utf-8"))["runs"][0]["version"]
    assert "wsgi-asgi" in capsys.readouterr().out


@pytest.mark.parametrize("loop", LOOPS)
def test_main_runs_the_checks_on_the_loop_that_is_named(
    loop: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    arguments = ["--adapter", "tests.test_conformance:NamesItsLoop", "--loop", loop]
    select = ["--select", "ASGI-HTTP-body-01", "--json", str(file)]
    assert main([*arguments, *select]) == 1
    assert f" on {loop}, " in capsys.readouterr().out
    run = Report.from_json(file.read_text(encoding="utf-8")).runs[0]
    assert run.loop == loop
    assert f"it runs on {loop}" in run.results[0].reason


def test_main_with_all_leaves_out_who_does_not_run_on_that_loop(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--all", "--loop", TRIO, "--select", "PEP3333-environ-01"]) == 0
    *table, last = capsys.readouterr().out.strip().splitlines()
    assert last.split(": ")[0].strip() == "do not run on trio"
    for adapter in KNOWN:
        was_run = any(line.startswith(f"{adapter.name} ") for line in table)
        assert was_run is (TRIO in adapter.loops)
        assert (adapter.name in last.split(": ")[1].split(", ")) is not was_run


@pytest.mark.parametrize("adapter", KNOWN, ids=lambda adapter: adapter.name)
@pytest.mark.parametrize("loop", LOOPS)
def test_known_adapters_run_on_the_loops_that_are_named_for_them(
    adapter: Adapter, loop: str
) -> None:
    chosen = some_checks("iterable.one_chunk")
    (result,) = run_checks(adapter, chosen, CLAUSES, loop=loop).results
    passed = result.outcome is Outcome.PASSED
    assert passed is (loop in adapter.loops), result.reason


def test_main_where_trio_is_missing_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == TRIO else name)
    with pytest.raises(SystemExit) as ended:
        main(["--loop", TRIO])
    assert ended.value.code == 2
    assert "--loop trio needs trio, which is missing" in capsys.readouterr().err
    assert main(["--loop", ASYNCIO, "--list"]) == 0


def test_main_on_a_bad_adapter_fails_and_shows_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--adapter", "tests.test_conformance:Wrong", "--select"]
    assert main([*arguments, "ASGI-HTTP-body-01"]) == 1
    output = capsys.readouterr().out
    assert "MUST ASGI-HTTP-body-01: failed" in output
    assert "http.response.body was sent before http.response.start" in output


def test_main_of_a_failed_may_succeeds() -> None:
    arguments = ["--adapter", "tests.test_conformance:Wrong", "--select"]
    assert main([*arguments, "PRACTICE-uri-01"]) == 0
    assert main([*arguments, "PRACTICE-uri-01", "--strict"]) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param(["--adapter", "nobody"], "neither", id="unknown_adapter"),
        pytest.param(["--select", "NOTHING"], "is no group", id="unknown_selection"),
        pytest.param(["--all", "--adapter", "a2wsgi"], "not allowed", id="all_and_one"),
        pytest.param(["--json", "/no/such/folder/x"], "no folder", id="no_folder"),
        pytest.param(["--what"], "unrecognized", id="unknown_option"),
        pytest.param(["--loop", "curio"], "invalid choice", id="unknown_loop"),
        pytest.param(
            ["--loop", "trio", "--adapter", "a2wsgi"],
            "a2wsgi does not run on trio",
            id="adapter_of_another_loop",
        ),
        pytest.param(["--loop", "trio", "--live"], "does not go with", id="live_loop"),
    ],
)
def test_main_of_wrong_usage_exits_with_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_main_of_list_shows_each_clause(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    output = capsys.readouterr().out
    assert all(clause in output for clause in CLAUSES)
    assert main(["--list", "--select", "security"]) == 0
    assert len(capsys.readouterr().out) < len(output) / 2


def test_exchange_of_a_client_that_left_ignores_what_is_sent(
    bench: Callable[[Any], Bench],
) -> None:
    class Sends(Wrong):
        async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
            await send(start())
            await send(body(more_body=True))
            exchange.left.open()
            await send(body("not even bytes"))
            assert await receive() == {"type": "http.disconnect"}

    exchange = HttpExchange(steps=[])
    bench(Sends).attempt(answering([]), exchange)
    assert exchange.error is None
    assert exchange.violations == []
    assert (exchange.body, exchange.ignored, exchange.complete) == (b"x", 1, False)
