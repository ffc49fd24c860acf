"""The Markdown page of the docs: totals, folded matrices, and why what failed did."""

import re
from collections.abc import Callable, Iterable, Sequence

from conformance.catalogue import Strength
from conformance.findings import Finding, Findings, Group, Row
from conformance.live.results import LiveOutcome, LiveReport, LiveRun
from conformance.pages.cells import Cell, Kind, explain, find_cell
from conformance.pages.observations import PromiseGroup, load_rules, observe

__all__ = ["escape", "write_markdown"]

_HEAD = """\
<!-- Written by `make conformance`: what is changed here by hand will be lost. -->

# Conformance

*What do the specifications demand of an adapter, and who does it?
You need not read this to use the adapter.*

The suite in `conformance/` is a numbered reading of {pep}`3333`, the ASGI
specification, the RFCs of HTTP and CGI, and of what users rely on besides.
Each demand is a clause with a permanent id, each clause that can be observed has a
check, and the checks know no adapter from the inside.
[Check an adapter](../how-to/check-an-adapter.md) says how to run them.

<a href="../conformance.html">The same on one page</a>, with the sources, the decisions,
the reason of every outcome, and filters.
"""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~$&#])")


def write_markdown(findings: Findings, live: LiveReport | None) -> str:
    """Write the page.

    Args:
        findings: What was found in process.
        live: What was found on real servers, if that was tried.
    """
    parts = [_HEAD, _totals(findings), _reading(), _groups(findings)]
    parts += [_group(findings, group) for group in findings.groups]
    for run in live.runs if live else ():
        assert live is not None
        parts.append(_servers(run, f"Python {live.python}, {live.platform}"))
    return "\n".join(parts)


def escape(text: str) -> str:
    r"""Write text so that Markdown shows it as it is.

    >>> escape("b'<a>' | x_y")
    "b'\\<a\\>' \\| x\\_y"
    """
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]], right: int) -> str:
    """Write a table.

    Args:
        heads: Of the columns.
        rows: Cells that are escaped already.
        right: From which column on cells stand in the middle.
    """
    names = list(heads)
    rule = ["---" if at < right else ":---:" for at in range(len(names))]
    return "".join(f"| {' | '.join(row)} |\n" for row in [names, rule, *rows])


def _fold(summary: str, content: str) -> str:
    return f"<details>\n<summary>{summary}</summary>\n\n{content}\n</details>\n"


# The totals.


def _totals(findings: Findings) -> str:
    heads = ["adapter", "version", "passed", "not offered"]
    heads += [f"{strength} failed" for strength in Strength]
    rows = []
    for at, run in enumerate(findings.adapters):
        tally = findings.tally(at)
        numbers = [tally.passed, tally.not_offered]
        numbers += [tally.failed[strength] for strength in Strength]
        cells = [escape(run.problem), *[""] * 4] if run.problem else map(str, numbers)
        rows.append([escape(run.name), escape(run.version), *cells])
    where = escape(findings.report.where)
    return f"## Totals\n\nCounted in clauses, on {where}.\n\n{_table(heads, rows, 2)}"


def _reading() -> str:
    return (
        "Not offered is an optional feature that is not there.\n"
        "A MAY fails if the feature is there and wrong.\n"
    )


def _groups(findings: Findings) -> str:
    """Write how many fail in each group."""
    heads = ["failures in", "clauses", *(escape(run.name) for run in findings.adapters)]
    rows = [
        [
            f"[{escape(group.name)}](#{_anchor(group)})",
            str(len(group.rows)),
            *(_failures(findings, at, group) for at in range(len(findings.adapters))),
        ]
        for group in findings.groups
    ]
    return f"## Clauses\n\n{_table(heads, rows, 1)}"


def _failures(findings: Findings, at: int, group: Group) -> str:
    tally = findings.tally(at, group.rows)
    return str(tally.failures) if tally.total else "·"


def _anchor(group: Group) -> str:
    return f"group-{group.name.replace('_', '-')}"


# The clauses.


def _group(findings: Findings, group: Group) -> str:
    head = f"({_anchor(group)})=\n\n### {_heading(group.title)}\n"
    if not any(row.is_checked for row in group.rows):
        return f"{head}\n{''.join(map(_unchecked, group.rows))}"
    names = [escape(run.name) for run in findings.adapters]
    matrix = _table(["clause", *names], map(_row, group.rows), 1)
    parts = [head, _fold(f"All {len(group.rows)} clauses", matrix)]
    reasons = _reasons(
        names, [(_title(row), list(map(find_cell, row.findings))) for row in group.rows]
    )
    if reasons:
        parts.append(_fold("Reasons of the failures", reasons))
    return "\n".join(parts)


def _heading(title: str) -> str:
    """Begin with a capital letter, unless that would change a name.

    >>> _heading("bodies, files"), _heading("write() and more")
    ('Bodies, files', 'write() and more')
    """
    first = title.partition(" ")[0].rstrip(",")
    return escape(title[:1].upper() + title[1:] if first.isalpha() else title)


def _title(row: Row) -> str:
    clause = row.clause
    return f"[{clause.id}]({clause.url}) {clause.strength}"


def _row(row: Row) -> list[str]:
    mark = "<br>*Our decision.*" if row.clause.decision else ""
    about = f"{_title(row)}<br>{escape(row.clause.text)}{mark}"
    return [about, *(_mark(row, finding) for finding in row.findings)]


def _mark(row: Row, finding: Finding) -> str:
    cell = find_cell(finding)
    must = cell.kind is Kind.FAILED and row.clause.strength is Strength.MUST
    return f"**{cell.kind.symbol}**" if must else cell.kind.symbol


def _unchecked(row: Row) -> str:
    why = row.why_not or "This run holds no result for it."
    return f"- {_title(row)}: {escape(row.clause.text)}\n  {escape(why)}\n"


def _reasons(
    names: Sequence[str],
    rows: Iterable[tuple[str, Sequence[Cell]]],
    wanted: Callable[[Cell], bool] = lambda cell: cell.kind is Kind.FAILED,
) -> str:
    """List what went wrong: by row, then by reason."""
    parts = []
    for title, cells in rows:
        whys = [why for why in explain(cells) if wanted(why.cell)]
        if not whys:
            continue
        parts.append(f"- {title}\n")
        for why in whys:
            who = ", ".join(names[at] for at in why.columns)
            word = "" if why.cell.word == "failed" else f" {why.cell.word}:"
            reason = escape(why.cell.reason) or "no reason was given"
            parts.append(f"  - {who}:{word} {reason}\n")
    return "".join(parts)


# The servers.


def _servers(run: LiveRun, where: str) -> str:
    heads = ["", "server", "version", *(outcome.value for outcome in LiveOutcome)]
    rows = []
    for number, server in enumerate(run.servers, 1):
        counts = map(str, server.counts().values())
        numbers = counts if server.results else [escape(server.problem), "", "", ""]
        early = f": ended early, {server.problem}" if server.problem else ""
        version = escape(
            f"{server.version}{early}" if server.results else server.version
        )
        rows.append([str(number), escape(server.server), version, *numbers])
    titles, rules = load_rules()
    names = [escape(server.server) for server in run.servers]
    groups = [_promises(group, names) for group in observe(run, titles, rules)]
    return "\n".join(
        [
            f"## {escape(run.name)} on real servers\n",
            f"What only a real server, socket and process show, on {escape(where)}.",
            "Not possible is what no adapter can keep on that server.\n",
            _table(heads, rows, 3),
            *groups,
        ]
    )


def _promises(group: PromiseGroup, names: Sequence[str]) -> str:
    rows = [
        [_promise(row.name, row.rule), *(cell.kind.symbol for cell in row.cells)]
        for row in group.rows
    ]
    # Names of servers are long; the table above has their numbers.
    numbers = [str(number) for number in range(1, len(names) + 1)]
    matrix = _table(["promise", *numbers], rows, 1)
    parts = [
        f"### {_heading(group.title)}\n",
        _fold(f"All {len(rows)} promises", matrix),
    ]
    reasons = _reasons(
        names,
        [(f"`{row.name}`", row.cells) for row in group.rows],
        lambda cell: cell.kind is not Kind.PASSED,
    )
    if reasons:
        parts.append(_fold("Reasons of what is not kept", reasons))
    return "\n".join(parts)


def _promise(name: str, rule: str) -> str:
    return f"`{name}`<br>{escape(rule)}" if rule else f"`{name}`"
