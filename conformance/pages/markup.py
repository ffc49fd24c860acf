"""HTML, made so that no text gets into it unescaped."""

from collections.abc import Iterable
from html import escape

__all__ = ["Markup", "element", "lines"]

_VOID = frozenset({"br", "col", "input", "wbr"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, /, *content: str, **attributes: str | bool | None) -> Markup:
    """Make an element.

    Args:
        tag: Its name.
        content: What it contains; escaped, but for `Markup`.
        attributes: Without those that are None or False; ``class_`` is written
            ``class``, and ``data_x`` is written ``data-x``.

    >>> element("a", "<x>", element("wbr"), href='"', class_="id", hidden=True)
    '<a href="&quot;" class="id" hidden>&lt;x&gt;<wbr></a>'
    """
    start = f"<{tag}{''.join(_attributes(attributes))}>"
    if tag in _VOID:
        return Markup(start)
    return Markup(f"{start}{''.join(map(_text, content))}</{tag}>")


def lines(items: Iterable[str]) -> Markup:
    """Put each item on a line of its own, so that two pages can be compared."""
    return Markup("\n".join(map(_text, items)))


def _text(content: str) -> str:
    return content if isinstance(content, Markup) else escape(content, quote=False)


def _attributes(attributes: dict[str, str | bool | None]) -> Iterable[str]:
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        written = name.rstrip("_").replace("_", "-")
        yield f" {written}" if value is True else f' {written}="{escape(value)}"'
