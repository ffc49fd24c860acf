"""Tables of totals in HTML: a bar and the numbers for each row."""

from collections.abc import Sequence
from urllib.parse import quote

from conformance.pages.markup import Markup, element, lines

__all__ = ["count_rows", "draw_bar", "name_cell", "number_cell"]


def count_rows(heads: Sequence[str], rows: Sequence[Markup]) -> Markup:
    """Draw a table of totals."""
    head = element("tr", *[element("th", text, scope="col") for text in heads])
    parts = ["", element("thead", head), element("tbody", lines(["", *rows])), ""]
    size = f"--numbers:{len(heads) - 2}"
    table = element("table", lines(parts), class_="totals", style=size)
    return element("div", table, class_="wide")


def name_cell(name: str, version: str, is_ours: bool = False) -> Markup:
    """Name what a row is about."""
    return element(
        "th",
        element("b", name),
        " ",
        element("small", version),
        scope="row",
        class_="ours" if is_ours else None,
    )


def draw_bar(parts: Sequence[tuple[str, int]]) -> Markup:
    """Draw a stacked bar of kinds and counts."""
    pieces = [
        element("i", class_=kind, style=f"flex-grow:{count}")
        for kind, count in parts
        if count
    ]
    # The numbers stand beside it.
    bar = element("div", *pieces, class_="bar", aria_hidden="true")
    return element("td", bar, class_="bars")


def number_cell(count: int, weight: str = "", name: str = "") -> Markup:
    """Show a number.

    Args:
        count: The number.
        weight: What failed, if it counts failures.
        name: Of the adapter whose failures a click should show.
    """
    if not count or not weight:
        return element("td", str(count), class_="number")
    target = f"#show=failed-{weight}:{quote(name, safe=':')}"
    tag = "a" if name else "span"
    shown = element(tag, str(count), href=target if name else None)
    return element("td", shown, class_=f"number failed {weight}")
