"""A matrix in HTML: groups that fold, with rows that can be asked why."""

from collections.abc import Sequence
from dataclasses import dataclass

from conformance.pages.cells import Cell, Kind, Why, differ, explain
from conformance.pages.markup import Markup, element, lines

__all__ = ["Block", "Column", "Line", "draw_matrix", "hidden", "plural"]

# What a failure can be called, the worst first.
WEIGHTS = ("must", "should", "may")


@dataclass(frozen=True, slots=True)
class Column:
    """What is looked at in one column.

    Attributes:
        name: Its name.
        version: Which one.
        is_ours: Whether its failures are to be seen at once.
    """

    name: str
    version: str
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One row.

    Attributes:
        id: Of its element; links lead there.
        weight: What its failures are called in style sheets.
        about: What it demands.
        cells: One for each column.
        is_decision: Whether the sources left it open.
    """

    id: str
    weight: str
    about: Markup
    cells: tuple[Cell, ...]
    is_decision: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """One group of rows."""

    id: str
    name: str
    title: str
    rows: tuple[Line, ...]


def plural(count: int, word: str) -> str:
    """Count something.

    >>> plural(1, "clause"), plural(2, "clause")
    ('1 clause', '2 clauses')
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def hidden(text: str) -> Markup:
    """Say something to those who listen, not to those who look."""
    return element("span", text, class_="heard")


def draw_matrix(
    columns: Sequence[Column], blocks: Sequence[Block], corner: str
) -> Markup:
    """Draw all groups, those open in which ours has failed.

    Args:
        columns: The columns.
        blocks: The groups.
        corner: What the rows are.
    """
    names = [_column_name(column) for column in columns]
    return lines(
        [
            element("div", element("span", corner), *names, class_="names"),
            *(_block(block, columns, corner) for block in blocks),
        ]
    )


def _column_name(column: Column) -> Markup:
    # A long name may be broken after its hyphens.
    parts = column.name.split("-")
    broken: list[str] = [parts[0]]
    for part in parts[1:]:
        broken += ["-", element("wbr"), part]
    name = element("b", *broken)
    version = element("small", column.version)
    return element("span", name, version, class_="ours" if column.is_ours else None)


def _block(block: Block, columns: Sequence[Column], corner: str) -> Markup:
    failing = [
        any(row.cells[at].kind is Kind.FAILED for row in block.rows)
        for at in range(len(columns))
    ]
    is_open = any(
        column.is_ours and failed
        for column, failed in zip(columns, failing, strict=True)
    )
    heads = [element("th", column.name, scope="col") for column in columns]
    head = element("tr", element("th", corner, scope="col"), *heads)
    sizes = [element("col", class_="about"), *[element("col")] * len(columns)]
    rows = [_row(row, columns) for row in block.rows]
    table = [
        element("colgroup", *sizes),
        element("thead", head),
        element("tbody", Markup("\n"), lines(rows), Markup("\n")),
    ]
    parts = [_summary(block, columns), element("table", Markup("\n"), lines(table))]
    return element("details", lines(parts), id=block.id, class_="block", open=is_open)


def _summary(block: Block, columns: Sequence[Column]) -> Markup:
    title = element(
        "span",
        element("b", block.name),
        " ",
        block.title,
        " ",
        element("small", str(len(block.rows)), class_="count"),
        class_="title",
    )
    counts = [_count(block, at, column) for at, column in enumerate(columns)]
    return element("summary", title, *counts)


def _count(block: Block, at: int, column: Column) -> Markup:
    """Say how one column does in a group, before anyone opens it."""
    kinds = {row.cells[at].kind for row in block.rows}
    bad = [row.weight for row in block.rows if row.cells[at].kind is Kind.FAILED]
    if bad:
        found = [weight for weight in WEIGHTS if weight in bad]
        marks = [element("i", f"✗ {bad.count(w)}", class_=w) for w in found]
        word = ", ".join(f"{bad.count(w)} {w.upper()} failed" for w in found)
    else:
        word = "not tried" if kinds == {Kind.UNTRIED} else "no failure"
        marks = [Markup("·" if kinds == {Kind.UNTRIED} else "✓")]
    shown = [element("span", *marks, aria_hidden="true", class_="sum")]
    return element("span", *shown, hidden(f"{column.name}: {word}"))


def _row(row: Line, columns: Sequence[Column]) -> Markup:
    whys = explain(row.cells)
    asked = {at for why in whys for at in why.columns}
    cells = [_cell(row, at, column, at in asked) for at, column in enumerate(columns)]
    reasons = [_reasons(row, whys, columns)] if whys else []
    failed = [str(at) for at, c in enumerate(row.cells) if c.kind is Kind.FAILED]
    return element(
        "tr",
        lines(["", element("td", row.about, *reasons), *cells]),
        id=row.id,
        data_weight=row.weight,
        data_failed=" ".join(failed) or None,
        data_differs=differ(row.cells),
        data_decision=row.is_decision,
    )


def _cell(row: Line, at: int, column: Column, has_reason: bool) -> Markup:
    cell = row.cells[at]
    # What ended in an unusual way says so.
    shown = cell.word if cell.word in ("hung", "crashed") else ""
    mark = element("span", f"{cell.kind.symbol} {shown}".strip(), aria_hidden="true")
    heard = hidden(f"{column.name}: {cell.word}")
    classes = f"{cell.kind} {row.weight}" if cell.kind is Kind.FAILED else cell.kind
    if not has_reason:
        return element("td", mark, heard, class_=classes)
    link = element("a", mark, heard, href=f"#why-{row.id}", data_at=str(at))
    return element("td", link, class_=classes)


def _reasons(row: Line, whys: Sequence[Why], columns: Sequence[Column]) -> Markup:
    entries = [_reason(why, columns) for why in whys]
    summary = element("summary", "Why: ", _overview(row.cells))
    listing = element("dl", Markup("\n"), lines(entries))
    return element("details", summary, listing, id=f"why-{row.id}", class_="why")


def _overview(cells: Sequence[Cell]) -> str:
    """Count what the reasons are for.

    >>> _overview([Cell(Kind.FAILED, "failed", "x"), Cell(Kind.PASSED, "passed")])
    '1 failed'
    """
    words = [c.word for c in cells if c.reason or c.kind is Kind.FAILED]
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def _reason(why: Why, columns: Sequence[Column]) -> Markup:
    names = ", ".join(columns[at].name for at in why.columns)
    term = element("dt", names, data_at=" ".join(map(str, why.columns)))
    word = element("b", f"{why.cell.kind.symbol} {why.cell.word}", class_=why.cell.kind)
    return Markup(term + element("dd", word, " ", why.cell.reason))
