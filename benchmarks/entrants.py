"""Who takes part in the served part, and what is asked."""

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.contenders import CONTENDERS, LIMITS, OURS
from benchmarks.servers import (
    ASGI_SERVERS,
    WEBSOCKET_SERVER,
    WSGI_SERVERS,
    ServerKind,
)

__all__ = [
    "SERVED_CASES",
    "WEBSOCKET_CASES",
    "Entrant",
    "ServedCase",
    "cases_with",
    "entrants",
    "setting_of",
    "websocket_entrants",
]

# Who runs with several processes, and is asked what.
FEW = (OURS, "asgiref", "a2wsgi")
FEW_CASES = ("trivial", "flask")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedCase:
    """One thing that servers are asked for.

    Attributes:
        name: Short name.
        title: What it is, in words; ``{size}`` stands for the file's megabytes.
        path: What is asked for.
        connections: How many ask at a time; none for the download.
        limits: Whether the limits have an answer to it.
        native: Whether servers without an adapter have.
        seconds: How many times as long as usual a round is.
        websocket: Whether messages are asked for, in a WebSocket.
    """

    name: str
    title: str
    path: str
    connections: int = 64
    limits: bool = False
    native: bool = True
    seconds: float = 1
    websocket: bool = False

    @property
    def unit(self) -> str:
        """What a rate counts."""
        if self.websocket:
            return "messages"
        return "requests" if self.connections else "MB"

    def can_be_answered_by(self, entrant: Entrant) -> bool:
        """Say whether an entrant takes part."""
        if not entrant.adapter:
            return self.native
        return self.limits or entrant.adapter not in LIMITS


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


def _websocket_cases() -> Iterable[ServedCase]:
    for connections in (1, 16):
        for name, title, native in (
            ("messages", "wsgi.websocket", False),
            ("flask-sock", "flask-sock", True),
        ):
            yield ServedCase(
                name=f"{name}-{connections}",
                title=f"echo by {title}, {connections} at a time",
                path=f"/{name}",
                connections=connections,
                limits=True,
                native=native,
                websocket=True,
            )


WEBSOCKET_CASES = tuple(_websocket_cases())


def entrants(processes: int, further: Iterable[str] = ()) -> list[Entrant]:
    """Say who takes part with so many processes: with several, fewer."""
    names = FEW if processes > 1 else tuple(one.name for one in CONTENDERS)
    adapters = [*names, *further]
    behind = [Entrant(kind, name) for kind in ASGI_SERVERS for name in adapters]
    native = [
        Entrant(kind) for kind in WSGI_SERVERS if kind.processes or processes == 1
    ]
    return behind + native


def websocket_entrants() -> list[Entrant]:
    """Say who takes part where messages are sent back: no other adapter can."""
    uvicorn, *_ = ASGI_SERVERS
    behind = [Entrant(uvicorn, name) for name in (OURS, *LIMITS)]
    return [*behind, Entrant(WEBSOCKET_SERVER)]


def cases_with(processes: int) -> list[ServedCase]:
    """Say what is asked for with so many processes."""
    return [case for case in SERVED_CASES if processes == 1 or case.name in FEW_CASES]


def setting_of(server: str, processes: int) -> str:
    """Name a setting, as results and targets do."""
    more = f", {processes} processes" if processes > 1 else ""
    return f"behind {server}{more}"
