"""Asking a server by wrk, and by one request whose answer is looked at whole.

wrk counts what is no status of 2xx or 3xx. It does not compare bodies, which would
make it the slowest part, but counts bytes: those are held against the size of a
response that was compared.
"""

import json
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.applications import HELLO
from benchmarks.client import WrongAnswer

__all__ = [
    "Hung",
    "fetch",
    "installed_version",
    "is_installed",
    "read_report",
    "run_wrk",
]

FETCH_S = 10.0
END_S = 15.0
# A response can differ a little from the next, by a Date or a counter.
TOLERANCE = 0.02
SCRIPT = Path(__file__).with_name("wrk.lua")


class Hung(Exception):
    """The server does not answer."""


def is_installed() -> bool:
    """Say whether there is a wrk."""
    return shutil.which("wrk") is not None


def installed_version() -> str:
    """Say which version it is; empty if there is none."""
    if not is_installed():
        return ""
    # Asked for its version it prints it, with its usage, and fails.
    words = subprocess.run(["wrk", "--version"], capture_output=True, text=True)
    return words.stdout.split()[1]


def fetch(port: int, path: str) -> int:
    """Ask one request as wrk does, and compare the answer.

    Returns:
        How many bytes the response has, headers included.

    Raises:
        WrongAnswer: It is not 200 with the body of all the views.
        OSError: There is none.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), FETCH_S) as connection:
        connection.sendall(request.encode())
        data = b""
        while not _is_complete(data):
            received = connection.recv(65536)
            if not received:
                break  # which ends a response that has no length
            data += received
    if not data.startswith(b"HTTP/1.1 200 ") or HELLO not in data:
        raise WrongAnswer(f"the response is {data[:200]!r}")
    return len(data)


def _is_complete(data: bytes) -> bool:
    head, _, body = data.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    _, found, length = head.lower().partition(b"content-length:")
    return bool(found) and len(body) == int(length.partition(b"\r\n")[0])


def run_wrk(
    port: int, path: str, connections: int, seconds: float, size: int
) -> tuple[float, dict[str, float]]:
    """Ask a server for some seconds.

    Args:
        port: Where it listens.
        path: What is asked for.
        connections: How many ask, each one request after another.
        seconds: How long. wrk knows whole seconds only, but ends in order when it
            is interrupted.
        size: Bytes of the right response.

    Returns:
        Requests a second, and the seconds that so many percent of them took at
        most, by percentile.

    Raises:
        WrongAnswer: Some were wrong, or failed.
        Hung: There was no answer.
    """
    command = [
        *("wrk", "--threads", "1", "--connections", str(connections)),
        *("--duration", "1h", "--timeout", "10s", "--script", str(SCRIPT)),
        f"http://127.0.0.1:{port}{path}",
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            raise Hung("wrk did not end") from None
        finally:
            process.kill()
    return read_report(output, connections, size)


def read_report(
    output: str, connections: int, size: int
) -> tuple[float, dict[str, float]]:
    """Read what the script has printed; see `run_wrk`."""
    words, _, line = output.partition("RESULT ")
    if not line:
        raise Hung(words.strip())
    report: dict[str, Any] = json.loads(line)
    requests = report["requests"]
    failed = [f"{count} by {kind}" for kind, count in report["errors"].items() if count]
    if failed:
        raise WrongAnswer(f"of {requests:,} requests failed {', '.join(failed)}")
    if not requests:
        raise Hung("no request was answered")
    # At the end each connection may be in the middle of a response.
    surplus = report["bytes"] - requests * size
    if abs(surplus) > TOLERANCE * requests * size + connections * size:
        raise WrongAnswer(
            f"responses of {report['bytes'] / requests:.0f} bytes instead of {size}"
        )
    latencies = {name: report[name] / 1e6 for name in ("p50", "p90", "p99")}
    return requests / (report["microseconds"] / 1e6), latencies
