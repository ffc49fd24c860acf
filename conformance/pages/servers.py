"""The part of the HTML page about real servers."""

from conformance.adapters import OURS
from conformance.live.results import LiveOutcome, LiveRun, ServerRun
from conformance.pages.markup import Markup, element, lines
from conformance.pages.matrix import Block, Column, Line, draw_matrix
from conformance.pages.observations import PromiseRow, load_rules, observe
from conformance.pages.totals import count_rows, draw_bar, name_cell, number_cell

__all__ = ["draw_servers", "promise_id"]


def draw_servers(run: LiveRun) -> Markup:
    """Draw what one adapter did on real servers."""
    titles, rules = load_rules()
    columns = [
        Column(server.server, server.version, run.name == OURS.name)
        for server in run.servers
    ]
    blocks = [
        Block(
            f"live-{run.name}-{group.name}",
            group.name,
            group.title,
            tuple(_promise(row, run.name) for row in group.rows),
        )
        for group in observe(run, titles, rules)
    ]
    heads = ["server", "", *(outcome.value for outcome in LiveOutcome)]
    title = f"{run.name} {run.version} on real servers"
    lede = (
        "What users of an adapter count on, and only a real server, a real socket and "
        "a real process show. Not possible is what no adapter can keep there."
    )
    parts = [
        element("h2", title, id=f"live-{run.name}"),
        element("p", lede, class_="text"),
        count_rows(heads, [_server_total(server) for server in run.servers]),
        draw_matrix(columns, blocks, "promise"),
    ]
    size = f"--columns:{len(columns)}"
    return element("section", lines(parts), class_="matrix live", style=size)


def _server_total(server: ServerRun) -> Markup:
    if not server.results:
        name = name_cell(server.server, server.version)
        problem = server.problem or "nothing was tried"
        return element("tr", name, element("td", problem, colspan="5"))
    early = f": ended early, {server.problem}" if server.problem else ""
    name = name_cell(server.server, f"{server.version}{early}")
    counts = server.counts()
    bad = counts[LiveOutcome.FAILED] + counts[LiveOutcome.HUNG]
    parts = [("passed", counts[LiveOutcome.PASSED])]
    parts += [("absent", counts[LiveOutcome.NOT_POSSIBLE]), ("failed must", bad)]
    numbers = [number_cell(counts[o], "" if o.is_good else "must") for o in LiveOutcome]
    return element("tr", lines(["", name, draw_bar(parts), *numbers, ""]))


def _promise(row: PromiseRow, adapter: str) -> Line:
    links: list[str] = []
    for clause in row.clauses:
        links += [" ", element("a", clause, href=f"#{clause}")]
    top = element("p", element("span", row.name, class_="id"), class_="top")
    parts = [top, element("p", row.rule, class_="text")] if row.rule else [top]
    parts.append(element("p", element("small", "Observes", *links), class_="source"))
    return Line(promise_id(adapter, row.name), "must", lines(parts), row.cells)


def promise_id(adapter: str, promise: str) -> str:
    """Name the row of a promise, for links that lead there."""
    return f"live-{adapter}-{promise}"
