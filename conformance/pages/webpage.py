"""The HTML page: one file with all in it, which needs nothing from anywhere."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template

from conformance.adapters import OURS
from conformance.catalogue import Clause, Strength
from conformance.findings import Findings, Row, Tally
from conformance.live.results import LiveReport
from conformance.pages.cells import find_cell
from conformance.pages.markup import Markup, element, lines
from conformance.pages.matrix import Block, Column, Line, draw_matrix, plural
from conformance.pages.servers import draw_servers, promise_id
from conformance.pages.totals import count_rows, draw_bar, name_cell, number_cell
from conformance.results import AdapterRun

__all__ = ["write_webpage"]

# By a clause's id: links to what observes it on real servers.
Observers = Mapping[str, Sequence[Markup]]

TITLE = "What adapters do about the specifications"


def write_webpage(findings: Findings, live: LiveReport | None) -> str:
    """Write the page.

    Args:
        findings: What was found in process.
        live: What was found on real servers, if that was tried.
    """
    runs = live.runs if live else ()
    sections = [_totals(findings), _clauses(findings, _observers(live))]
    sections += map(draw_servers, runs)
    return Template(_file("page.html")).substitute(
        title=TITLE,
        style=_file("page.css"),
        script=_file("page.js"),
        header=_header(findings, live),
        main=lines(sections),
        footer=_footer(findings),
    )


def _file(name: str) -> str:
    return (files("conformance.pages") / name).read_text(encoding="utf-8")


def _header(findings: Findings, live: LiveReport | None) -> Markup:
    rows = findings.rows
    checked = sum(row.is_checked for row in rows)
    lede = (
        f"{plural(len(rows), 'clause')} of PEP 3333, ASGI, the RFCs and good practice, "
        f"{checked} of them checked on "
        f"{plural(len(findings.adapters), 'adapter')} that run WSGI applications as "
        "ASGI applications."
    )
    facts = [f"In process: {findings.report.where}."]
    if live:
        facts.append(f"On real servers: Python {live.python}, {live.platform}.")
    links = [element("a", "Totals", href="#totals")]
    links += [element("a", "Clause by clause", href="#clauses")]
    links += [
        element("a", f"{run.name} on real servers", href=f"#live-{run.name}")
        for run in (live.runs if live else ())
    ]
    return lines(
        [
            element("h1", TITLE),
            element("p", lede, class_="lede"),
            element("p", " ".join(facts), class_="facts"),
            element("nav", lines(links), aria_label="Sections"),
        ]
    )


def _footer(findings: Findings) -> Markup:
    places = [f"{run.name} is {run.target}" for run in findings.adapters]
    words = "Written from a run of the conformance suite of wsgi-asgi."
    return element("p", f"{words} {'; '.join(places)}.")


# The totals.


def _totals(findings: Findings) -> Markup:
    heads = ["adapter", "", "passed", "not offered"]
    heads += [f"{strength} failed" for strength in Strength]
    rows = [_total(run, findings.tally(at)) for at, run in enumerate(findings.adapters)]
    return lines(
        [
            element("h2", "Totals", id="totals"),
            count_rows(heads, rows),
            _legend(),
        ]
    )


def _total(run: AdapterRun, tally: Tally) -> Markup:
    name = name_cell(run.name, run.version, run.name == OURS.name)
    if run.problem:
        return element("tr", name, element("td", run.problem, colspan="6"))
    failed = {strength: tally.failed[strength] for strength in Strength}
    weak_first = sorted(failed, key=lambda strength: -strength.rank)
    parts = [("passed", tally.passed), ("absent", tally.not_offered)]
    parts += [(f"failed {s.lower()}", failed[s]) for s in weak_first]
    numbers = [number_cell(tally.passed), number_cell(tally.not_offered)]
    numbers += [number_cell(failed[s], s.lower(), run.name) for s in Strength]
    return element("tr", lines(["", name, draw_bar(parts), *numbers, ""]))


def _legend() -> Markup:
    entries = {
        "passed": "✓ passed",
        "absent": "– not offered: an optional feature that is not there",
        "failed must": "✗ a MUST failed",
        "failed should": "✗ a SHOULD failed",
        "failed may": "✗ a MAY failed: the feature is there, and wrong",
    }
    items = [
        element("li", element("i", class_=kind, aria_hidden="true"), text)
        for kind, text in entries.items()
    ]
    return element("ul", lines(items), class_="legend")


# The clauses.


def _observers(live: LiveReport | None) -> Observers:
    """Link each clause to the promises that observe it."""
    links: dict[str, dict[str, Markup]] = {}
    for run in live.runs if live else ():
        for result in (result for server in run.servers for result in server.results):
            target = f"#{promise_id(run.name, result.promise)}"
            link = Markup(f" {element('a', result.promise, href=target)}")
            for clause in result.clauses:
                links.setdefault(clause, {}).setdefault(result.promise, link)
    return {clause: [*found.values()] for clause, found in links.items()}


def _clauses(findings: Findings, observers: Observers) -> Markup:
    columns = [
        Column(run.name, run.version, run.name == OURS.name)
        for run in findings.adapters
    ]
    blocks = [
        Block(
            f"group-{group.name}",
            group.name,
            group.title,
            _lines(group.rows, observers),
        )
        for group in findings.groups
    ]
    parts = [
        element("h2", "Clause by clause", id="clauses"),
        _filters(findings),
        draw_matrix(columns, blocks, "clause"),
        element("p", "No clause is like that.", id="nothing", hidden=True),
    ]
    size = f"--columns:{len(columns)}"
    return element("section", lines(parts), class_="matrix", id="matrix", style=size)


def _filters(findings: Findings) -> Markup:
    """Draw what the script works with; without it, nobody sees it."""
    names = [run.name for run in findings.adapters]
    choices = {
        "all": "all clauses",
        "differ": "where adapters differ",
        "decision": "design decisions",
    }
    choices |= {f"failed:{name}": f"failures of {name}" for name in names}
    options = [element("option", text, value=key) for key, text in choices.items()]
    show = element("select", lines(options), id="show", name="show")
    query = element(
        "input", type="search", id="query", name="q", placeholder="words or an id"
    )
    parts = [
        element("label", "Show ", show),
        element("label", "Search ", query),
        element("button", "Open all", type="button", id="open"),
        element("button", "Fold all", type="button", id="fold"),
        element("output", id="shown", for_="show query"),
    ]
    return element("form", lines(parts), id="filters", role="search", hidden=True)


def _lines(rows: Sequence[Row], observers: Observers) -> tuple[Line, ...]:
    return tuple(
        Line(
            id=row.clause.id,
            weight=row.clause.strength.lower(),
            about=_about(row, observers.get(row.clause.id, ())),
            cells=tuple(map(find_cell, row.findings)),
            is_decision=bool(row.clause.decision),
        )
        for row in rows
    )


def _about(row: Row, observers: Sequence[Markup]) -> Markup:
    clause = row.clause
    strength = element(
        "span", clause.strength, class_=f"strength {clause.strength.lower()}"
    )
    name = element("a", clause.id, href=f"#{clause.id}", class_="id")
    parts = [
        element("p", name, " ", strength, " ", _source(clause), class_="top"),
        element("p", clause.text, class_="text"),
    ]
    if clause.decision:
        label = element("b", "Our decision.")
        parts.append(element("p", label, " ", clause.decision, class_="decision"))
    if not row.is_checked:
        label = element("b", "Not checked here.")
        why = row.why_not or "This run holds no result for it."
        parts.append(element("p", label, " ", why, class_="decision"))
    if observers:
        small = element("small", "On real servers", *observers)
        parts.append(element("p", small, class_="source"))
    return lines(parts)


def _source(clause: Clause) -> Markup:
    where = f"{clause.source}, {clause.section}"
    link = element("a", where, href=clause.url, rel="noreferrer")
    also = f"; also {', '.join(clause.also)}" if clause.also else ""
    return element("small", link, also, class_="source")
