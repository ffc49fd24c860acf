"""The clauses: our numbered reading of the specifications.

Each file in `clauses/` covers one specification or one family of them. A clause's id
says where it comes from, is never given a second time, and never changes; a clause
that is given up stays, as `withdrawn`.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["Clause", "Strength", "load_clauses", "parse_clauses"]

# A source, a subject, a number: PEP3333-start-response-07.
_ID = re.compile(r"[A-Z][A-Z0-9]*(-[A-Z]+)*(-[a-z][a-z0-9]*)+-[0-9]{2}")
_KEYS = frozenset(
    {"strength", "section", "text", "url", "also", "decision"}
    | {"live", "unchecked", "withdrawn"}
)


class Strength(StrEnum):
    """How much a clause binds an adapter, as RFC 2119 has these words."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"  # not to have it is legal, to have it wrong is not

    @property
    def rank(self) -> int:
        """Zero for the strongest."""
        return list(Strength).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One demand on an adapter.

    Attributes:
        id: Permanent; says where the clause comes from.
        strength: How much it binds.
        text: The demand, in our own words.
        source: Short title of the document that it comes from.
        section: The heading there.
        url: A link to that heading.
        also: Other places that say the same.
        decision: The sources leave this open; why it is answered like this.
        live: Why only a real server shows it.
        unchecked: Why nothing checks it.
        withdrawn: Why it no longer counts.
    """

    id: str
    strength: Strength
    text: str
    source: str
    section: str
    url: str
    also: tuple[str, ...] = ()
    decision: str | None = None
    live: str | None = None
    unchecked: str | None = None
    withdrawn: str | None = None


@cache
def load_clauses() -> Mapping[str, Clause]:
    """Read all clauses, by id, in the order of the files.

    Raises:
        ValueError: A file is not what it should be.
    """
    clauses: dict[str, Clause] = {}
    folder = files("conformance") / "clauses"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".toml"):
            continue
        for clause in parse_clauses(file.read_text(encoding="utf-8"), file.name):
            if clause.id in clauses:
                raise ValueError(f"{file.name}: {clause.id} is in another file too")
            clauses[clause.id] = clause
    return clauses


def parse_clauses(text: str, name: str) -> Iterator[Clause]:
    """Read the clauses of one file.

    Args:
        text: TOML: a table ``sources`` with ``title`` and ``url`` for each first
            part of an id, and one table for each clause.
        name: What error messages call the file.

    Raises:
        ValueError: The file is not like that.
    """
    tables = tomllib.loads(text)
    sources = tables.pop("sources", {})
    for clause, table in tables.items():
        if not _ID.fullmatch(clause):
            raise ValueError(f"{name}: {clause} is no id such as PEP3333-environ-01")
        prefix = max(
            (key for key in sources if clause.startswith(f"{key}-")), default=""
        )
        if not prefix:
            raise ValueError(f"{name}: {clause} comes from no source of this file")
        if unknown := table.keys() - _KEYS:
            raise ValueError(f"{name}: {clause} has the unknown key {min(unknown)!r}")
        yield _clause(clause, table, sources[prefix], name)


def _clause(
    clause: str, table: Mapping[str, Any], source: Mapping[str, str], name: str
) -> Clause:
    try:
        section = table["section"]
        return Clause(
            id=clause,
            strength=Strength(table["strength"]),
            text=table["text"],
            source=source["title"],
            section=section,
            url=table.get("url") or f"{source['url']}#{_anchor(section)}",
            also=tuple(table.get("also", ())),
            decision=table.get("decision"),
            live=table.get("live"),
            unchecked=table.get("unchecked"),
            withdrawn=table.get("withdrawn"),
        )
    except (KeyError, ValueError) as error:
        raise ValueError(f"{name}: {clause}: {error!r}") from None


def _anchor(section: str) -> str:
    """Name a heading as the pages do that Sphinx and the RFC editor make.

    >>> _anchor("The start_response() Callable"), _anchor("8.6 Content-Length")
    ('the-start-response-callable', 'section-8.6')
    """
    number = re.match(r"[0-9][0-9.]*", section)
    if number:
        return f"section-{number[0].rstrip('.')}"
    return re.sub(r"[^a-z0-9]+", "-", section.lower()).strip("-")
