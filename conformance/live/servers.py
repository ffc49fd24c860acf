"""The servers: how each is started, and the protocols that are spoken to it."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["GRACE_S", "PEERS", "SERVERS", "Peer", "select_peers"]

# What each is given, where it can be, to end its requests in.
GRACE_S = 1


def _uvicorn(
    loop: str, http: str, *options: str
) -> Callable[[str, int, str], list[str]]:
    def arguments(target: str, port: int, root_path: str) -> list[str]:
        return [
            *("uvicorn", target, "--host", "127.0.0.1", "--port", str(port)),
            *("--loop", loop, "--http", http, "--root-path", root_path),
            *("--timeout-graceful-shutdown", str(GRACE_S), "--no-access-log"),
            # The default of 5 s would end the idle connection of a slow test.
            *("--timeout-keep-alive", "30"),
            *options,
        ]

    return arguments


def _hypercorn(worker: str) -> Callable[[str, int, str], list[str]]:
    def arguments(target: str, port: int, root_path: str) -> list[str]:
        return [
            *("hypercorn", target, "--bind", f"127.0.0.1:{port}", "-k", worker),
            *("--root-path", root_path, "--graceful-timeout", str(GRACE_S)),
            *("--error-logfile", "-"),
        ]

    return arguments


def _granian(target: str, port: int, root_path: str) -> list[str]:
    return [
        *("granian", target, "--interface", "asgi", "--host", "127.0.0.1"),
        *("--port", str(port), "--workers", "1", "--no-access-log"),
        *(("--url-path-prefix", root_path) if root_path else ()),
        *("--workers-kill-timeout", str(GRACE_S)),
    ]


def _daphne(target: str, port: int, root_path: str) -> list[str]:
    return [
        *("daphne", "-b", "127.0.0.1", "-p", str(port), "-v", "1"),
        *("--root-path", root_path, "--access-log", os.devnull, target),
    ]


def _gunicorn(target: str, port: int, root_path: str) -> list[str]:
    return [
        *("gunicorn", target, "-k", "asgi", "--bind", f"127.0.0.1:{port}"),
        *("--workers", "1", "--graceful-timeout", str(GRACE_S)),
        *("--root-path", root_path, "--no-control-socket", "--keep-alive", "30"),
    ]


SERVERS: dict[str, Callable[[str, int, str], list[str]]] = {
    "uvicorn-h11": _uvicorn("asyncio", "h11"),
    "uvicorn-httptools-uvloop": _uvicorn("uvloop", "httptools"),
    # uvicorn's HTTP/2, and not among the peers as yet: zttp is young.
    "uvicorn-zttp": _uvicorn("asyncio", "zttp", "--http2"),
    "hypercorn": _hypercorn("asyncio"),
    "hypercorn-trio": _hypercorn("trio"),
    "granian": _granian,
    "daphne": _daphne,
    "gunicorn": _gunicorn,
}


@dataclass(frozen=True, slots=True)
class Peer:
    """A server, and the protocol that is spoken to it.

    Attributes:
        name: Names both.
        server: Which, of `SERVERS`.
        http2: Whether that is HTTP/2.
    """

    name: str
    server: str
    http2: bool = False

    @property
    def distribution(self) -> str:
        """The distribution that the server comes from."""
        return self.server.partition("-")[0]


PEERS = (
    Peer("uvicorn-h11", "uvicorn-h11"),
    Peer("uvicorn-httptools-uvloop", "uvicorn-httptools-uvloop"),
    Peer("hypercorn-http1", "hypercorn"),
    Peer("hypercorn-http2", "hypercorn", http2=True),
    Peer("hypercorn-trio-http1", "hypercorn-trio"),
    Peer("hypercorn-trio-http2", "hypercorn-trio", http2=True),
    Peer("granian-http1", "granian"),
    Peer("granian-http2", "granian", http2=True),
    Peer("daphne", "daphne"),
    Peer("gunicorn", "gunicorn"),
)


def select_peers(words: Iterable[str]) -> list[Peer]:
    """Choose peers by the beginning of their names.

    Args:
        words: What to choose; all if there are none.

    Returns:
        The chosen ones, in their order.

    Raises:
        ValueError: A word chooses nothing.

    >>> [peer.name for peer in select_peers(["granian", "uvicorn-h"])]
    ['uvicorn-h11', 'granian-http1', 'granian-http2']
    """
    beginnings = tuple(words)
    for word in beginnings:
        if not any(peer.name.startswith(word) for peer in PEERS):
            known = ", ".join(peer.name for peer in PEERS)
            raise ValueError(f"no server's name begins with {word!r}; known: {known}")
    return [
        peer for peer in PEERS if not beginnings or peer.name.startswith(beginnings)
    ]
