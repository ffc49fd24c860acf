"""Real ASGI servers, each as a subprocess in a session of its own.

The process group is what is ended: granian and gunicorn have worker processes, and
one that outlives its parent is a finding, not something to leave behind.
"""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.integration.polling import wait_until

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0
STOP_S = 15.0
GRACE_S = 1
# A free port can be taken between its choice and its use.
ATTEMPTS = 3
# What else is in the environment could configure a server.
_INHERITED = ("PATH", "LANG", "LC_ALL", "VIRTUAL_ENV")


class StartError(Exception):
    pass


def _uvicorn(loop: str, http: str) -> Callable[[str, int, str], list[str]]:
    def arguments(target: str, port: int, root_path: str) -> list[str]:
        return [
            *("uvicorn", target, "--host", "127.0.0.1", "--port", str(port)),
            *("--loop", loop, "--http", http, "--root-path", root_path),
            *("--timeout-graceful-shutdown", str(GRACE_S), "--no-access-log"),
            # The default of 5 s would end the idle connection of a slow test.
            *("--timeout-keep-alive", "30"),
        ]

    return arguments


def _hypercorn(target: str, port: int, root_path: str) -> list[str]:
    return [
        *("hypercorn", target, "--bind", f"127.0.0.1:{port}", "--error-logfile", "-"),
        *("--root-path", root_path, "--graceful-timeout", str(GRACE_S)),
    ]


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
    "hypercorn": _hypercorn,
    "granian": _granian,
    "daphne": _daphne,
    "gunicorn": _gunicorn,
}


@dataclass(frozen=True, slots=True)
class Peer:
    """A server, and the protocol that the tests speak to it."""

    name: str
    server: str
    http2: bool = False


PEERS = (
    Peer("uvicorn-h11", "uvicorn-h11"),
    Peer("uvicorn-httptools-uvloop", "uvicorn-httptools-uvloop"),
    Peer("hypercorn-http1", "hypercorn"),
    Peer("hypercorn-http2", "hypercorn", http2=True),
    Peer("granian-http1", "granian"),
    Peer("granian-http2", "granian", http2=True),
    Peer("daphne", "daphne"),
    Peer("gunicorn", "gunicorn"),
)


@dataclass(frozen=True, slots=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    log_path: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self, since: int = 0) -> str:
        with self.log_path.open("rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")

    def log_size(self) -> int:
        return self.log_path.stat().st_size

    def terminate(self) -> None:
        """Ask the main process to end, as a supervisor does."""
        self.process.send_signal(signal.SIGTERM)

    def is_gone(self) -> bool:
        """Say whether no process of the server is left, workers included."""
        if self.process.poll() is None:
            return False
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_S)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        self.kill()  # what is left of its group


def tracebacks(log: str) -> list[str]:
    """Cut the tracebacks out of a log, each up to its exception's line."""
    found: list[str] = []
    block: list[str] | None = None
    for line in log.splitlines():
        if line.lstrip(" |+-").startswith("Traceback (most recent call last):"):
            block = []
        if block is not None:
            block.append(line)
            if re.match(r"[A-Za-z_][\w.]*(:|$)", line) and len(block) > 1:
                found.append("\n".join(block))
                block = None
    if block is not None:
        found.append("\n".join(block))
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def _launch(
    name: str, target: str, directory: Path, root_path: str, environ: dict[str, str]
) -> Server:
    port = _free_port()
    log_path = directory / "server.log"
    temporary = directory / "tmp"
    temporary.mkdir(exist_ok=True)
    python_path = [os.environ.get("PYTHONPATH", ""), str(ROOT)]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *SERVERS[name](target, port, root_path)],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **{key: os.environ[key] for key in _INHERITED if key in os.environ},
                "HOME": str(directory),
                "TMPDIR": str(temporary),
                "PYTHONPATH": os.pathsep.join(filter(None, python_path)),
                "PYTHONUNBUFFERED": "1",
                **environ,
            },
        )
    server = Server(process, port, log_path)
    try:
        wait_until(
            lambda: process.poll() is not None or _answers(port),
            f"{name} answers",
            within=START_S,
        )
    except BaseException:
        server.kill()
        raise
    if process.poll() is not None:
        server.kill()
        raise StartError(f"{name} ended at its start:\n{server.log()}")
    return server


@contextlib.contextmanager
def running(
    name: str,
    target: str,
    directory: Path,
    *,
    root_path: str = "",
    environ: dict[str, str] | None = None,
) -> Iterator[Server]:
    directory.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            server = _launch(name, target, directory, root_path, environ or {})
        except StartError as error:
            if attempt == ATTEMPTS or "in use" not in str(error):
                raise
        else:
            break
    try:
        yield server
    finally:
        server.stop()
