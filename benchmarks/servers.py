"""The servers, each as a user would start it, and how they are run.

Nothing is tuned, threads least of all: WSGI servers have as many as their
documentation starts with, and those are said beside the results. What differs from
a plain start: access logs are off, uvicorn and granian have the same event loop
(uvloop), and gunicorn has its threads, since it would have one otherwise.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.wrk import fetch

__all__ = [
    "ASGI_SERVERS",
    "WEBSOCKET_SERVER",
    "WSGI_SERVERS",
    "Server",
    "ServerKind",
    "StartError",
    "start",
]

ROOT = Path(__file__).resolve().parents[1]
START_S = 40.0
STOP_S = 5.0
STEP_S = 0.05


@dataclass(frozen=True, slots=True)
class ServerKind:
    """A server.

    Attributes:
        name: Short name.
        command: Makes its command line of a port and a number of processes.
        threads: How many run applications in each process, in words; empty for an
            ASGI server, where the adapter decides.
        processes: Whether it can have more than one process.
    """

    name: str
    command: Callable[[int, int], list[str]]
    threads: str = ""
    processes: bool = True


def _uvicorn(port: int, processes: int) -> list[str]:
    return [
        *("uvicorn", "--factory", "benchmarks.site:make_asgi", "--port", str(port)),
        *("--workers", str(processes), "--loop", "uvloop", "--http", "httptools"),
        *("--no-access-log", "--log-level", "warning"),
    ]


def _granian(interface: str, target: str) -> Callable[[int, int], list[str]]:
    def command(port: int, processes: int) -> list[str]:
        return [
            *("granian", "--factory", target, "--interface", interface),
            *("--port", str(port), "--workers", str(processes), "--loop", "uvloop"),
            *("--no-access-log", "--workers-kill-timeout", "1"),
        ]

    return command


def _gunicorn(threads: str) -> Callable[[int, int], list[str]]:
    def command(port: int, processes: int) -> list[str]:
        return [
            *("gunicorn", "benchmarks.site:make_wsgi()", "-k", "gthread"),
            *("--threads", threads, "--workers", str(processes)),
            *("--bind", f"127.0.0.1:{port}", "--no-control-socket"),
        ]

    return command


def _waitress(port: int, processes: int) -> list[str]:
    return [
        *("waitress", "--listen", f"127.0.0.1:{port}", "--call"),
        "benchmarks.site:make_wsgi",
    ]


ASGI_SERVERS = (
    ServerKind("uvicorn", _uvicorn),
    ServerKind("granian", _granian("asgi", "benchmarks.site:make_asgi")),
)
WSGI_SERVERS = (
    ServerKind("gunicorn gthread", _gunicorn("10"), "10"),
    ServerKind(
        "granian WSGI",
        _granian("wsgi", "benchmarks.site:make_wsgi"),
        "its default: up to 512",
    ),
    ServerKind("waitress", _waitress, "4", processes=False),
)

# For WebSockets, each of which holds a thread there: as many as the adapter's default.
WEBSOCKET_SERVER = ServerKind("gunicorn gthread 40", _gunicorn("40"), "40")


class StartError(Exception):
    """A server does not start; the text is the last line of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, the leader of a process group of its own."""

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path

    def last_words(self) -> str:
        """Give the last line that it has printed."""
        lines = self.log_path.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it ended without a word"

    def wait_until_it_answers(self) -> None:
        """Wait for the first answer.

        Raises:
            StartError: There is none.
        """
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise StartError(self.last_words())
            with contextlib.suppress(OSError):
                fetch(self.port, "/")
                return
            time.sleep(STEP_S)
        raise StartError(f"it has not answered within {START_S:g} s")

    def stop(self) -> None:
        """End the server and its worker processes, at once if need be."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(
    kind: ServerKind, processes: int, variables: Mapping[str, str], log_path: Path
) -> Server:
    """Start a server on a free port of 127.0.0.1; the caller has to stop it.

    Args:
        kind: Which.
        processes: How many it has.
        variables: Further variables for its environment.
        log_path: Where all that it prints goes.
    """
    port = _free_port()
    inherited = ("PATH", "LANG", "LC_ALL", "VIRTUAL_ENV", "TMPDIR", "HOME")
    environ: dict[str, Any] = {
        **{key: os.environ[key] for key in inherited if key in os.environ},
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path.cwd())]),
        "PYTHONHASHSEED": "0",
        **variables,
    }
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *kind.command(port, processes)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environ,
        )
    return Server(process, port, log_path)
