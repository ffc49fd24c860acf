"""Who takes part in the served part, and what is asked."""

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.contenders import CONTENDERS, OURS
from benchmarks.servers import ASGI_SERVERS, WSGI_SERVERS, ServerKind

__all__ = [
    "SERVED_CASES",
    "Entrant",
    "ServedCase",
    "cases_with",
    "entrants",
    "setting_of",
]

# Who runs with several processes, and is asked what.
FEW = (OURS, "asgiref", "a2wsgi")
FEW_CASES = ("trivial", "flask")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedCase:
    """One thing that every server is asked for.

    Attributes:
        name: Short name.
        title: What it is, in words; ``{size}`` stands for the file's megabytes.
        path: What is asked for.
        connections: How many ask at a time; none for the download.
        limits: Whether the limits have an answer to it.
        seconds: How many times as long as usual a round is.
    """

    name: str
    title: str
    path: str
    connections: int = 64
    limits: bool = False
    seconds: float = 1


SERVED_CASES = (
    ServedCase(
        name="trivial", title="trivial response, 64 connections", path="/", limits=True
    ),
    ServedCase(name="flask", title="Flask view, 64 connections", path="/flask"),
    ServedCase(name="django", title="Django view, 64 connections", path="/django"),
    ServedCase(
        name="file", title="Flask send_file of {size} MB", path="/file", connections=0
    ),
    ServedCase(name="sleep-64", title="view of 10 ms, 64 connections", path="/sleep"),
    ServedCase(
        name="sleep-256",
        title="view of 10 ms, 256 connections",
        path="/sleep",
        connections=256,
        seconds=1.5,
    ),
)


@dataclass(frozen=True, slots=True)
class Entrant:
    """A server, with an adapter if it is an ASGI server."""

    server: ServerKind
    adapter: str = ""

    @property
    def name(self) -> str:
        """What it is called among all."""
        return f"{self.server.name} + {self.adapter}" if self.adapter else self.label

    @property
    def label(self) -> str:
        """What it is called among those behind the same server."""
        return self.adapter or self.server.name


def entrants(processes: int, further: Iterable[str] = ()) -> list[Entrant]:
    """Say who takes part with so many processes: with several, fewer."""
    names = FEW if processes > 1 else tuple(one.name for one in CONTENDERS)
    adapters = [*names, *further]
    behind = [Entrant(kind, name) for kind in ASGI_SERVERS for name in adapters]
    native = [
        Entrant(kind) for kind in WSGI_SERVERS if kind.processes or processes == 1
    ]
    return behind + native


def cases_with(processes: int) -> list[ServedCase]:
    """Say what is asked for with so many processes."""
    return [case for case in SERVED_CASES if processes == 1 or case.name in FEW_CASES]


def setting_of(server: str, processes: int) -> str:
    """Name a setting, as results and targets do."""
    more = f", {processes} processes" if processes > 1 else ""
    return f"behind {server}{more}"
