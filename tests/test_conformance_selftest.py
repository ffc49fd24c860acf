from collections.abc import Callable
from pathlib import Path

import pytest

from conformance import selftest
from conformance.adapters import OURS
from conformance.catalogue import load_clauses
from conformance.checks import GROUPS, load_checks
from conformance.loops import ASYNCIO, LOOPS, TRIO
from conformance.results import Outcome
from conformance.runner import run_checks
from conformance.selftest import (
    CONTROL,
    Fault,
    FaultError,
    adapter_sources,
    load_faults,
    main,
    try_fault,
)

Plant = Callable[..., None]

COOKIES = Fault(
    name="cookies-joined",
    file="_environ.py",
    old='return "; ".join(values)',
    new='return ",".join(values)',
    clauses=("RFC9113-cookie-01",),
)


def fault(
    old: str, new: str, *clauses: str, file: str = "_environ.py", loop: str = ASYNCIO
) -> Fault:
    return Fault(
        name="some-fault", file=file, old=old, new=new, clauses=clauses, loop=loop
    )


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Have main() find another list."""

    def plant(*faults: Fault) -> None:
        monkeypatch.setattr(selftest, "load_faults", lambda **_: list(faults))

    return plant


# The list.


def test_the_list_fits_the_adapter() -> None:
    faults = load_faults()
    assert len(faults) >= 50
    assert len({(f.file, f.old, f.new, f.loop) for f in faults}) == len(faults)


def test_the_list_has_faults_for_all_groups_of_checks() -> None:
    clauses = {clause for fault in load_faults() for clause in fault.clauses}
    groups = {c.group for c in load_checks().values() if clauses & set(c.clauses)}
    assert groups == set(GROUPS)


def test_the_list_has_faults_in_all_modules_with_rules() -> None:
    files = {fault.file for fault in load_faults()}
    modules = {
        path.name
        for path in adapter_sources().glob("_*.py")
        if path.name not in ("__init__.py", "__main__.py", "_types.py")
    }
    assert modules - files <= {"_cli.py"}


ROW = {
    "file": '"code.py"',
    "old": '"one"',
    "new": '"two"',
    "clauses": f'["{CONTROL}"]',
}


def row(name: str = "some-fault", **changes: str | None) -> str:
    values = {key: value for key, value in (ROW | changes).items() if value}
    return f"[{name}]\n" + "".join(
        f"{key} = {value}\n" for key, value in values.items()
    )


def complaints(tmp_path: Path, text: str) -> str:
    (tmp_path / "code.py").write_text("one = 1\nfour = 4, 4\nif one: pass\n")
    (tmp_path / "other.py").write_text("other = 3\n")
    with pytest.raises(FaultError) as raised:
        load_faults(text, tmp_path)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(row(old='"five"'), "occurs 0 times in code.py", id="text is gone"),
        pytest.param(row(old='"4"'), "occurs 2 times in code.py", id="text twice"),
        pytest.param(row(old='"3"'), "it occurs in other.py", id="text has moved"),
        pytest.param(row(file='"gone.py"'), "in gone.py, expected", id="no module"),
        pytest.param(row(old='"= 1"', new='"= 1"'), "changes nothing", id="no change"),
        pytest.param(row(old='""'), "changes nothing", id="no text"),
        pytest.param(row(old='"= 1"', new='"= ("'), "is no Python", id="no Python"),
        pytest.param(row(clauses="[]"), "names no clause", id="no clause"),
        pytest.param(
            row(clauses='["X-y-01"]'), "nothing checks X-y-01", id="no such clause"
        ),
        pytest.param(row(clauses='"X-y-01"'), "clauses is no list", id="no list"),
        pytest.param(row(new=None), "just the keys file, old, new", id="key missing"),
        pytest.param(row(why='"x"'), "just the keys file, old, new", id="key too many"),
        pytest.param(row(loop='"curio"'), "loop is none of asyncio, trio", id="loop"),
        pytest.param(row(loop="1"), "loop is no str", id="no loop"),
        pytest.param('some-fault = "x"', "some-fault: it is not a table", id="text"),
        pytest.param(row("oneword"), "the name is not some words", id="name"),
        pytest.param("[some-fault", "is no TOML", id="no TOML"),
    ],
)
def test_load_faults_of_a_rotten_row_says_what_is_wrong(
    tmp_path: Path, text: str, complaint: str
) -> None:
    assert complaint in complaints(tmp_path, text)


def test_load_faults_names_all_rotten_rows(tmp_path: Path) -> None:
    said = complaints(tmp_path, row("a-b", old='"x"') + row("c-d", clauses="[]"))
    assert said.splitlines()[0].startswith("a-b: ")
    assert "c-d: it names no clause" in said


def test_main_with_a_rotten_list_says_so_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rotten(**_: object) -> list[Fault]:
        raise FaultError("some-fault: it names no clause")

    monkeypatch.setattr(selftest, "load_faults", rotten)
    assert main([]) == 1
    assert capsys.readouterr().out == "some-fault: it names no clause\n"


# What comes of a fault.


def test_try_fault_that_a_check_finds_is_good() -> None:
    verdict = try_fault(COOKIES, adapter_sources())
    assert verdict.is_good
    assert verdict.caught == {"RFC9113-cookie-01": Outcome.FAILED}
    assert "'a=1,b=2'" in verdict.reasons["environ.repeated_cookies"]


@pytest.mark.parametrize("loop", LOOPS)
def test_try_fault_runs_the_checks_on_the_loop_of_the_fault(loop: str) -> None:
    old = "if await background():"
    new = "if await background() and False:"
    clause = "ASGI-HTTP-disconnect-07"
    file = "_trio.py"
    verdict = try_fault(
        fault(old, new, clause, file=file, loop=loop), adapter_sources()
    )
    assert verdict.problem == ""
    assert verdict.is_good is (loop == TRIO)


def test_try_fault_that_no_named_check_finds_is_not_good() -> None:
    unseen = fault(COOKIES.old, COOKIES.new, "PEP3333-environ-01")
    verdict = try_fault(unseen, adapter_sources())
    assert not verdict.is_good
    assert (verdict.missed, verdict.problem) == (("PEP3333-environ-01",), "")


def test_try_fault_that_one_of_two_rows_finds_is_not_good() -> None:
    clauses = ("PEP3333-environ-01", *COOKIES.clauses)
    verdict = try_fault(fault(COOKIES.old, COOKIES.new, *clauses), adapter_sources())
    assert not verdict.is_good
    assert set(verdict.caught) == set(COOKIES.clauses)


@pytest.mark.parametrize(
    ("sown", "problem"),
    [
        pytest.param(
            fault('scope["method"]', 'scope["no such key"]', "ASGI-HTTP-environ-01"),
            f"not even the check of {CONTROL} passes",
            id="everything is broken",
        ),
        pytest.param(
            fault("import re\n", "import re, no_such_module\n", "PEP3333-environ-01"),
            "cannot be imported",
            id="no import",
        ),
        pytest.param(
            fault(COOKIES.old, "return no_such_name", "RFC9113-cookie-01"),
            "the replacement itself is wrong",
            id="slip of the pen",
        ),
    ],
)
def test_try_fault_that_shows_nothing_is_not_good(sown: Fault, problem: str) -> None:
    verdict = try_fault(sown, adapter_sources())
    assert not verdict.is_good
    assert problem in verdict.problem


def test_try_fault_in_a_text_that_is_gone_raises() -> None:
    with pytest.raises(FaultError, match="not what the list was made for"):
        try_fault(fault("no such text", "", CONTROL), adapter_sources())


# That the checks see the copy.


def test_run_checks_in_a_folder_imports_the_adapter_from_there(tmp_path: Path) -> None:
    package = tmp_path / "wsgi_asgi"
    package.mkdir()
    (package / "__init__.py").write_text(
        "class WsgiToAsgi:\n"
        "    def __init__(self, app): pass\n"
        "    async def __call__(self, scope, receive, send):\n"
        "        raise ValueError('I am the copy')\n"
    )
    check = load_checks()["iterable.one_chunk"]
    run = run_checks(OURS, [check], load_clauses(), folder=tmp_path)
    assert run.problem == ""
    assert "I am the copy" in run.results[0].reason


def test_run_checks_in_a_folder_without_the_adapter_is_a_problem(
    tmp_path: Path,
) -> None:
    check = load_checks()["iterable.one_chunk"]
    run = run_checks(OURS, [check], load_clauses(), folder=tmp_path)
    assert f"not from {tmp_path}" in run.problem
    assert run.results == ()


def test_each_module_with_faults_is_imported_from_the_copy() -> None:
    for file in sorted({fault.file for fault in load_faults()}):
        first = (adapter_sources() / file).read_text().splitlines()[0]
        new = f"raise Exception('sown')\n{first}"
        loop = TRIO if file == "_trio.py" else ASYNCIO
        sown = fault(first, new, CONTROL, file=file, loop=loop)
        verdict = try_fault(sown, adapter_sources())
        # One that is imported late has a reason in the place of a problem.
        assert "sown" in f"{verdict.problem} {verdict.reasons}", file
        assert verdict.problem


# The command line.


def test_main_sows_the_faults_whose_names_hold_a_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--reasons", "cookies-joined", "proxy-header"]) == 0
    out = capsys.readouterr().out
    assert "1/2  cookies-joined-with-commas" in out
    assert "caught by RFC9113-cookie-01" in out
    assert "environ.repeated_cookies: HTTP_COOKIE is" in out
    assert "2/2  proxy-header-let-through" in out
    assert "2 of 2 faults were caught" in out


def test_main_with_a_word_that_no_name_holds_is_wrong_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["no-such-fault"]) == 2
    assert "no fault has such a name" in capsys.readouterr().out


def test_main_with_a_fault_that_nothing_finds_fails(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(COOKIES, fault(COOKIES.old, COOKIES.new, "PEP3333-environ-01"))
    assert main([]) == 1
    out = capsys.readouterr().out
    assert "1 of 2 faults were caught" in out
    assert "some-fault: NOT CAUGHT by PEP3333-environ-01" in out


def test_main_with_a_fault_that_breaks_everything_fails(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(fault('scope["method"]', 'scope["no"]', "ASGI-HTTP-environ-01"))
    assert main([]) == 1
    assert "NOTHING SHOWN: not even the check" in capsys.readouterr().out


def test_main_with_a_check_that_fails_without_a_fault_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Plant,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unsound = tmp_path / "wsgi_asgi"
    unsound.mkdir()
    for path in adapter_sources().glob("*.py"):
        code = path.read_text().replace(COOKIES.old, "return '+'.join(values)")
        (unsound / path.name).write_text(code)
    monkeypatch.setattr(selftest, "adapter_sources", lambda: unsound)
    clause = "RFC9113-cookie-01"
    sown = [fault("'+'.join(values)", "values[0]", clause, loop=one) for one in LOOPS]
    plant(*sown)
    assert main([]) == 1
    out = capsys.readouterr().out
    assert "2 of 2 faults were caught" in out
    assert "Without a fault these should all have passed:" in out
    wrong = "RFC9113-cookie-01: failed: HTTP_COOKIE is 'a=1+b=2'"
    assert f"on asyncio: {wrong}" in out
    assert f"on trio: {wrong}" in out
