"""Real servers, each as a subprocess in a session of its own.

The process group is what is ended: granian and gunicorn have worker processes, and
one that outlives its parent is a finding, not something to leave behind.
"""

import contextlib
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conformance.live.polling import wait_until
from conformance.live.servers import SERVERS

__all__ = ["ROOT", "Server", "StartError", "running", "start", "tracebacks"]

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0
STOP_S = 15.0
# A free port can be taken between its choice and its use.
ATTEMPTS = 3
# What else is in the environment could configure a server.
_INHERITED = ("PATH", "LANG", "LC_ALL", "VIRTUAL_ENV")


class StartError(Exception):
    """A server ended instead of serving; the text is its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.

    Attributes:
        process: Its main process, the leader of its group.
        port: Where it listens.
        log_path: Where all that it prints goes.
    """

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def log(self, since: int = 0) -> str:
        """Give what it has printed after the first so many bytes."""
        with self.log_path.open("rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")

    def log_size(self) -> int:
        """Say how many bytes it has printed."""
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
        """End all its processes at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_S)

    def stop(self) -> None:
        """Ask it to end, then see that it has."""
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


def _answers(port: int, tls: ssl.SSLContext | None) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)
    if tls:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=START_S, context=tls
        )
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def _launch(
    name: str,
    target: str,
    directory: Path,
    root_path: str,
    environ: dict[str, str],
    tls: ssl.SSLContext | None,
) -> Server:
    port = _free_port()
    log_path = directory / "server.log"
    temporary = directory / "tmp"
    temporary.mkdir(exist_ok=True)
    python_path = [os.environ.get("PYTHONPATH", ""), str(ROOT), str(Path.cwd())]
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
            lambda: process.poll() is not None or _answers(port, tls),
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
    tls: ssl.SSLContext | None = None,
) -> Iterator[Server]:
    """Run a server, and end it with the block.

    Args:
        name: Which, of `SERVERS`.
        target: The ASGI application, as ``module:name``.
        directory: Where it runs, and writes its log.
        root_path: What it gives the application as such.
        environ: More variables for its environment.
        tls: What trusts it, if that makes it speak TLS.

    Raises:
        StartError: It does not start.
    """
    server = start(
        name, target, directory, root_path=root_path, environ=environ, tls=tls
    )
    try:
        yield server
    finally:
        server.stop()


def start(
    name: str,
    target: str,
    directory: Path,
    *,
    root_path: str = "",
    environ: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Start a server, which the caller has to end; see `running`."""
    directory.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _launch(name, target, directory, root_path, environ or {}, tls)
        except StartError as error:
            if attempt == ATTEMPTS or "in use" not in str(error):
                raise
    raise AssertionError("the last attempt returns or raises")
