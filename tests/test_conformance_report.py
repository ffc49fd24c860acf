import doctest
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from conformance.adapters import OURS
from conformance.catalogue import Clause, Strength, load_clauses
from conformance.findings import UNCHECKED, Findings, arrange, shorten
from conformance.live.promises import load_promises
from conformance.live.results import (
    LiveOutcome,
    LiveReport,
    LiveRun,
    PromiseResult,
    ServerRun,
)
from conformance.pages.markdown import escape, write_markdown
from conformance.pages.webpage import write_webpage
from conformance.report import main
from conformance.results import AdapterRun, CheckResult, Outcome, Report

PAGES = Path(__file__).parent.parent / "docs/reference"
NASTY = """'</script><b onclick="x">' & |_*`[x](y)` {z} $title ${style}"""


# A small run.


def clause(name: str, strength: str, **changes: Any) -> Clause:
    made = Clause(
        id=name,
        strength=Strength(strength),
        text=f"What {name} <demands>.",
        source="Spec",
        section="A & B",
        url=f"https://example.org/spec?a=1&b=2#{name}",
    )
    return replace(made, **changes)


CLAUSES = {
    one.id: one
    for one in (
        clause("SPEC-input-01", "MUST"),
        clause("SPEC-input-02", "SHOULD", decision='Left "open".', also=("Other 1",)),
        clause("SPEC-path-01", "MAY"),
        clause("SPEC-path-02", "MUST", live="A fake cannot."),
    )
}


def result(
    name: str, outcome: Outcome, reason: str = "", *, group: str = "body"
) -> CheckResult:
    return CheckResult(
        check=f"{group}.{name}",
        group=group,
        clauses=(name,),
        strength=CLAUSES[name].strength,
        outcome=outcome,
        reason=reason,
        seconds=0.1,
    )


def adapter(name: str, *results: CheckResult, **changes: Any) -> AdapterRun:
    made = AdapterRun(
        name=name,
        target="a.module:App",
        distribution=name,
        version="1.0",
        results=results,
        seconds=1.5,
    )
    return replace(made, **changes)


GOOD = adapter(
    OURS.name,
    result("SPEC-input-01", Outcome.PASSED),
    result("SPEC-input-02", Outcome.PASSED),
    result("SPEC-path-01", Outcome.NOT_OFFERED, "there is none", group="environ"),
)
BAD = adapter(
    "some.other:App",
    result("SPEC-input-01", Outcome.PASSED),
    result("SPEC-input-01", Outcome.HUNG, "no end of it"),
    result("SPEC-input-02", Outcome.FAILED, NASTY),
    result("SPEC-path-01", Outcome.FAILED, "wrong", group="environ"),
)
REPORT = Report(python="3.99.1", platform="Linux abc", runs=(GOOD, BAD))
PROMISE = "leaving.in_mid_stream"


def promised(outcome: LiveOutcome, reason: str = "") -> PromiseResult:
    return PromiseResult(
        promise=PROMISE,
        group="leaving",
        clauses=("SPEC-path-02",),
        outcome=outcome,
        reason=reason,
        seconds=0.3,
    )


def live_report(outcome: LiveOutcome = LiveOutcome.PASSED) -> LiveReport:
    servers = (
        ServerRun(
            server="uvicorn-h11",
            distribution="uvicorn",
            version="7.1",
            results=(promised(outcome, "" if outcome.is_good else NASTY),),
        ),
        ServerRun(
            server="daphne",
            distribution="daphne",
            version="7.2",
            results=(promised(LiveOutcome.NOT_POSSIBLE, "twisted keeps <all>"),),
        ),
        ServerRun(
            server="granian", distribution="granian", version="", problem="not there"
        ),
    )
    run = LiveRun(
        name=OURS.name, target="x:y", distribution="", version="1.0", servers=servers
    )
    return LiveReport(python="3.99.2", platform="Linux live", runs=(run,))


def small() -> Findings:
    return arrange(REPORT, CLAUSES)


class Page(HTMLParser):
    """What stands in a page of HTML."""

    VOID = frozenset({"br", "col", "input", "link", "meta", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.text += data

    def attributes(self, name: str, *tags: str) -> list[str]:
        return [
            found[name] or ""
            for tag, found in self.elements
            if name in found and (not tags or tag in tags)
        ]

    @property
    def rows(self) -> list[dict[str, str | None]]:
        """The rows of clauses."""
        rows = [found for tag, found in self.elements if tag == "tr"]
        return [
            row
            for row in rows
            if "id" in row and not row["id"].startswith("live-")  # type: ignore[union-attr]  # no id is empty
        ]


# The arrangement.


def test_arrange_gives_every_clause_one_row_in_a_group() -> None:
    groups = {
        group.name: [row.clause.id for row in group.rows] for group in small().groups
    }
    assert groups == {
        "environ": ["SPEC-path-01"],
        "body": ["SPEC-input-01", "SPEC-input-02"],
        UNCHECKED: ["SPEC-path-02"],
    }
    assert [group.name for group in small().groups][-1] == UNCHECKED


def test_tally_counts_clauses_by_their_worst_outcome() -> None:
    ours, other = small().tally(0), small().tally(1)
    assert (ours.passed, ours.not_offered, ours.failures, ours.total) == (2, 1, 0, 3)
    assert (other.passed, other.not_offered, other.total) == (0, 0, 3)
    assert other.failed == dict.fromkeys(Strength, 1)


def test_tally_of_some_rows_counts_only_those() -> None:
    body = next(group for group in small().groups if group.name == "body")
    assert small().tally(1, body.rows).failed[Strength.MAY] == 0


def test_failures_come_strongest_first_with_their_reasons() -> None:
    failures = [(one.id, found.reason) for one, found in small().failures(1)]
    assert failures == [
        ("SPEC-input-01", "no end of it"),
        ("SPEC-input-02", NASTY),
        ("SPEC-path-01", "wrong"),
    ]


def test_arrange_refuses_an_unknown_clause() -> None:
    known = {name: one for name, one in CLAUSES.items() if name != "SPEC-path-01"}
    with pytest.raises(ValueError, match="unknown clause SPEC-path-01"):
        arrange(REPORT, known)


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        ("at /home/me/x/lib/asyncio/futures.py:3", "at asyncio/futures.py:3"),
        ("<object at 0x7f0011223344>", "<object at 0x…>"),
        ("12345 messages had been sent", "thousands of messages had been sent"),
        ("PATH_INFO is '/a/b', expected '/b'", "PATH_INFO is '/a/b', expected '/b'"),
    ],
    ids=["path_of_a_module", "address", "endless", "path_of_a_request"],
)
def test_shorten_takes_out_only_what_is_true_of_one_machine(
    reason: str, short: str
) -> None:
    assert shorten(reason) == short


@pytest.mark.parametrize("name", ["cells", "markdown", "markup", "matrix", "servers"])
def test_examples_in_docstrings_hold(name: str) -> None:
    assert not doctest.testmod(import_module(f"conformance.pages.{name}")).failed


# The HTML page.


@pytest.fixture(scope="module")
def html() -> str:
    return write_webpage(small(), live_report(LiveOutcome.FAILED))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_webpage_shows_every_clause_with_its_link(page: Page) -> None:
    assert {row["id"] for row in page.rows} == CLAUSES.keys()
    links = page.attributes("href", "a")
    for one in CLAUSES.values():
        assert one.url in links
        assert one.text in page.text


def test_webpage_shows_reasons_and_decisions_as_they_are(page: Page) -> None:
    assert page.text.count(NASTY) == 2  # of a check and of a promise
    for words in ("no end of it", "wrong", "there is none", 'Left "open".'):
        assert words in page.text
    for words in ("A fake cannot.", "twisted keeps <all>", "not there"):
        assert words in page.text


def test_webpage_has_no_element_out_of_a_reason(page: Page) -> None:
    assert not page.attributes("onclick")
    assert [tag for tag, _ in page.elements].count("script") == 1


def test_webpage_needs_nothing_from_elsewhere(html: str, page: Page) -> None:
    assert not page.attributes("src")
    assert page.attributes("href", "link") == ["data:,"]
    assert {tag for tag, found in page.elements if "href" in found} == {"a", "link"}
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    script = html.partition("<script>")[2].partition("</script>")[0]
    assert "http" not in script


def test_webpage_links_lead_somewhere(page: Page) -> None:
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    for link in page.attributes("href", "a"):
        if not link.startswith(("https://", "#show=")):
            assert link[0] == "#"
            assert link[1:] in ids


def test_webpage_opens_a_group_only_where_ours_fails() -> None:
    ours = replace(BAD, name=OURS.name)
    for run, opened in ((GOOD, 0), (ours, 2)):
        findings = arrange(replace(REPORT, runs=(run, BAD)), CLAUSES)
        page = Page(write_webpage(findings, None))
        groups = [
            found for _, found in page.elements if (found.get("class") == "block")
        ]
        assert sum("open" in group for group in groups) == opened


def test_webpage_names_versions_and_platforms(page: Page) -> None:
    for words in ("3.99.1", "Linux abc", "3.99.2", "Linux live", "7.1", "7.2"):
        assert words in page.text


def test_webpage_shows_the_rule_of_a_promise(page: Page) -> None:
    assert load_promises()[PROMISE].rule in page.text


def test_webpage_marks_rows_for_the_filters(page: Page) -> None:
    rows = {row["id"]: row for row in page.rows}
    assert rows["SPEC-input-01"]["data-failed"] == "1"
    assert "data-differs" in rows["SPEC-path-01"]
    assert "data-decision" in rows["SPEC-input-02"]
    assert not {"data-failed", "data-differs"} & rows["SPEC-path-02"].keys()


def test_webpage_says_why_an_adapter_was_not_tried() -> None:
    broken = adapter("broken", problem="no module <broken>")
    findings = arrange(replace(REPORT, runs=(GOOD, broken)), CLAUSES)
    assert "no module <broken>" in Page(write_webpage(findings, None)).text
    assert "no module \\<broken\\>" in write_markdown(findings, None)


# The Markdown page.


def test_markdown_shows_every_clause_with_its_link() -> None:
    text = write_markdown(small(), None)
    for one in CLAUSES.values():
        assert f"[{one.id}]({one.url})" in text
        assert escape(one.text) in text


def test_markdown_shows_the_reasons_of_failures() -> None:
    text = write_markdown(small(), live_report(LiveOutcome.FAILED))
    assert "- some.other:App: hung: no end of it\n" in text
    assert text.count(escape(NASTY)) == 2
    assert "- daphne: not possible: twisted keeps \\<all\\>\n" in text
    assert "there is none" not in text  # of what passed, the long page speaks


def tables(text: str) -> Iterator[list[str]]:
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        yield block.splitlines()


def test_markdown_tables_have_as_many_cells_in_each_row() -> None:
    text = write_markdown(small(), live_report())
    found = list(tables(text))
    assert len(found) == 6  # totals, groups, two groups of clauses, servers, promises
    for head, rule, *rows in found:
        assert re.fullmatch(r"\|( :?---:? \|)+", rule)
        for row in (head, *rows):
            assert len(re.findall(r"(?<!\\)\|", row)) == rule.count("|"), row


def test_escape_leaves_nothing_that_markdown_reads() -> None:
    assert re.sub(r"\\(.)", "", escape(NASTY)).isascii()
    assert not re.search(r"[`*_{}\[\]<>|$&]", re.sub(r"\\.", "", escape(NASTY)))
    assert re.sub(r"\\(.)", r"\1", escape(NASTY)) == NASTY


# Both.


def test_pages_are_the_same_however_long_the_run_took() -> None:
    def slow(run: AdapterRun) -> AdapterRun:
        results = [replace(result, seconds=7.7777) for result in run.results]
        return replace(run, seconds=77.777, results=tuple(results))

    again = replace(REPORT, runs=tuple(map(slow, REPORT.runs)))
    reread = Report.from_json(again.to_json())
    for write in (write_webpage, write_markdown):
        assert write(arrange(reread, CLAUSES), None) == write(small(), None)
    assert "7.777" not in write_webpage(arrange(again, CLAUSES), None)


# The command line.


def known(run: AdapterRun) -> AdapterRun:
    """Make results of clauses that are in the catalogue."""
    name = "PEP3333-close-01"
    results = [replace(result, clauses=(name,)) for result in run.results]
    return replace(run, results=tuple(results))


def store(folder: Path, *runs: AdapterRun) -> str:
    file = folder / "in-process.json"
    report = replace(REPORT, runs=tuple(map(known, runs)))
    file.write_text(report.to_json(), encoding="utf-8")
    return str(file)


def store_live(folder: Path, outcome: LiveOutcome) -> str:
    file = folder / "live.json"
    file.write_text(live_report(outcome).to_json(), encoding="utf-8")
    return str(file)


def test_main_writes_the_pages(tmp_path: Path) -> None:
    stored = store(tmp_path, GOOD, BAD)
    live = store_live(tmp_path, LiveOutcome.PASSED)
    short, whole = tmp_path / "page.md", tmp_path / "page.html"
    files = ["--markdown", str(short), "--html", str(whole)]
    assert main(["--json", stored, "--live", live, *files]) == 0
    for file in (short, whole):
        assert "on real servers" in file.read_text(encoding="utf-8")
        assert str(tmp_path) not in file.read_text(encoding="utf-8")


def test_main_leaves_the_servers_out_without_their_results(tmp_path: Path) -> None:
    whole = tmp_path / "page.html"
    assert main(["--json", store(tmp_path, GOOD), "--html", str(whole)]) == 0
    assert "on real servers" not in Page(whole.read_text(encoding="utf-8")).text


def test_main_tells_that_ours_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "page.html"
    stored = store(tmp_path, replace(BAD, name=OURS.name))
    assert main(["--json", stored, "--html", str(whole)]) == 1
    assert whole.exists()
    assert "fails PEP3333-close-01\n" in capsys.readouterr().err
    live = store_live(tmp_path, LiveOutcome.HUNG)
    assert main(["--json", store(tmp_path, GOOD), "--live", live]) == 1
    assert f"fails {PROMISE} on uvicorn-h11\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param("{", "is not JSON", id="no_json"),
        pytest.param("[]", "not the results", id="list"),
        pytest.param('{"runs": []}', "not the results", id="half"),
        pytest.param(live_report().to_json(), "not the results", id="live_results"),
        pytest.param(REPORT.to_json(), "unknown clause", id="unknown_clause"),
    ],
)
def test_main_refuses_results(
    text: str | None,
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "results.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as ending:
        main(["--json", str(file)])
    assert ending.value.code == 2
    assert complaint in capsys.readouterr().err


def test_main_refuses_other_results_as_live_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = store(tmp_path, GOOD)
    with pytest.raises(SystemExit):
        main(["--json", stored, "--live", stored])
    assert "not the results" in capsys.readouterr().err


def test_main_refuses_a_page_where_there_is_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = str(tmp_path / "nowhere" / "page.html")
    with pytest.raises(SystemExit):
        main(["--json", store(tmp_path, GOOD), "--html", nowhere])
    assert "No such file" in capsys.readouterr().err


# The pages of the docs; after a change of clauses, make conformance.


def test_committed_webpage_has_the_clauses_of_the_catalogue() -> None:
    page = Page((PAGES / "conformance.html").read_text(encoding="utf-8"))
    assert {row["id"] for row in page.rows} == load_clauses().keys()
    assert {one.url for one in load_clauses().values()} <= {
        *page.attributes("href", "a")
    }


def test_committed_markdown_has_the_clauses_of_the_catalogue() -> None:
    text = (PAGES / "conformance.md").read_text(encoding="utf-8")
    shown = re.findall(r"^(?:\| |- )\[([A-Z][\w-]+)\]\(https://", text, re.M)
    assert set(shown) == load_clauses().keys()


def test_committed_pages_show_no_failed_must_of_ours() -> None:
    page = Page((PAGES / "conformance.html").read_text(encoding="utf-8"))
    # Ours comes first.
    failed = [
        row["id"]
        for row in page.rows
        if row["data-weight"] == "must"
        and "0" in (row.get("data-failed") or "").split()
    ]
    assert not failed
    text = (PAGES / "conformance.md").read_text(encoding="utf-8")
    totals = next(tables(text))
    assert totals[0].split(" | ")[4] == "MUST failed"
    assert totals[2].startswith(f"| {OURS.name} |")
    assert totals[2].split(" | ")[4] == "0"


def test_committed_pages_agree() -> None:
    page = Page((PAGES / "conformance.html").read_text(encoding="utf-8"))
    text = (PAGES / "conformance.md").read_text(encoding="utf-8")
    rows = [row for table in tables(text) for row in table if row.startswith("| [")]
    failed = {
        re.findall(r"\[([A-Z][\w-]+)\]\(", row)[0]
        for row in rows
        if "(https://" in row and "✗" in row
    }
    assert failed == {row["id"] for row in page.rows if "data-failed" in row}


# The script of the HTML page.

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--dump-dom"),
)


@pytest.fixture
def browse(tmp_path: Path, html: str) -> Any:
    """Open the small page at an address in it, and give what the script made of it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("there is no Chromium")
    file = tmp_path / "page.html"

    def open_at(fragment: str, then: str = "") -> Page:
        more = f"<script>{then}</script></body>"
        file.write_text(html.replace("</body>", more), encoding="utf-8")
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        ended = subprocess.run(
            [browser, *FLAGS, profile, f"{file.as_uri()}{fragment}"],
            capture_output=True,
            encoding="utf-8",
            timeout=50,
        )
        if ended.returncode:
            pytest.skip(f"Chromium does not work here: {ended.returncode}")
        return Page(ended.stdout)

    return open_at


@pytest.mark.parametrize(
    ("fragment", "shown"),
    [
        ("", [*sorted(CLAUSES)]),
        ("#show=differ", ["SPEC-input-01", "SPEC-input-02", "SPEC-path-01"]),
        ("#show=decision", ["SPEC-input-02"]),
        ("#show=failed:wsgi-asgi", []),
        ("#show=failed-may:some.other:App", ["SPEC-path-01"]),
        ("#q=END+hung", ["SPEC-input-01"]),
        ("#show=failed:some.other%3AApp&q=path", ["SPEC-path-01"]),
    ],
    ids=["all", "differ", "decision", "ours", "strength", "words", "both"],
)
def test_script_filters(browse: Any, fragment: str, shown: list[str]) -> None:
    page = browse(fragment)
    rows = [row["id"] for row in page.rows if "hidden" not in row]
    assert sorted(rows) == shown
    form = next(found for tag, found in page.elements if tag == "form")
    assert "hidden" not in form


def test_script_opens_what_a_link_leads_to(browse: Any) -> None:
    page = browse("#why-SPEC-input-02")
    details = [found for tag, found in page.elements if tag == "details"]
    opened = {found["id"] for found in details if "open" in found}
    # Ours has broken a promise, so that group is open anyhow.
    live = {f"live-{OURS.name}-leaving"}
    assert opened == {"group-body", "why-SPEC-input-02"} | live


@pytest.mark.parametrize(("clicks", "opened"), [(1, True), (2, False)])
def test_script_shows_the_reason_of_a_cell(
    browse: Any, clicks: int, opened: bool
) -> None:
    find = """document.querySelector('[href="#why-SPEC-input-02"]')"""
    page = browse("", f"{find}.click();" * clicks)
    details = {found["id"]: found for tag, found in page.elements if tag == "details"}
    assert ("open" in details["why-SPEC-input-02"]) is opened
    chosen = [tag for tag, found in page.elements if found.get("class") == "chosen"]
    assert chosen == ["dt"] * opened
