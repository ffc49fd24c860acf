"""Prints how much faster this adapter is than others, as ratios.

One asyncio loop, no network, a trivial application, some requests at a time. The
contenders take turns in short rounds, so that a noisy machine disturbs all of them
alike, and each ratio is the median over the rounds, with its quartiles.

    python -m benchmarks [--rounds 15] [--at-a-time 32] [--uvloop]
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any
from wsgiref.types import StartResponse

import a2wsgi
from asgiref.wsgi import WsgiToAsgi as AsgirefAdapter

from wsgi_asgi import WsgiToAsgi

BODY = b"Hello, world!\n"
WARM_UP_S = 0.3
ROUND_S = 0.4

SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/hello",
    "raw_path": b"/hello",
    "query_string": b"name=world",
    "root_path": "",
    "headers": [
        (b"host", b"127.0.0.1:8000"),
        (b"user-agent", b"benchmark/1.0"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"connection", b"keep-alive"),
    ],
    "client": ("127.0.0.1", 43210),
    "server": ("127.0.0.1", 8000),
}


def trivial(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    start_response(
        "200 OK",
        [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))],
    )
    return [BODY]


async def bare_hop(scope: Any, receive: Any, send: Any) -> None:
    """The least that any adapter must do: a hop to a thread, and an answer."""
    loop = asyncio.get_running_loop()
    body = await loop.run_in_executor(None, lambda: BODY)
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/plain"),
                (b"content-length", b"%d" % len(body)),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


CONTENDERS: dict[str, Any] = {
    "wsgi-asgi": WsgiToAsgi(trivial),
    "bare hop": bare_hop,
    "asgiref": AsgirefAdapter(trivial),  # type: ignore[no-untyped-call]  # asgiref has no types here
    "a2wsgi": a2wsgi.WSGIMiddleware(trivial),  # type: ignore[arg-type]  # its types are not those of wsgiref.types
}


async def requests(app: Any, until: float) -> int:
    """One client: request after request, each checked, until a time."""
    count = 0
    while time.perf_counter() < until:
        bodies: list[bytes] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any, bodies: list[bytes] = bodies) -> None:
            if message["type"] == "http.response.body":
                bodies.append(message.get("body", b""))

        await app(dict(SCOPE), receive, send)
        if b"".join(bodies) != BODY:
            raise AssertionError(f"wrong answer: {bodies!r}")
        count += 1
    return count


async def rate(app: Any, at_a_time: int, seconds: float) -> float:
    start = time.perf_counter()
    counts = await asyncio.gather(
        *(requests(app, start + seconds) for _ in range(at_a_time))
    )
    return sum(counts) / (time.perf_counter() - start)


async def measure(rounds: int, at_a_time: int) -> dict[str, list[float]]:
    for app in CONTENDERS.values():
        await rate(app, at_a_time, WARM_UP_S)
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, app in CONTENDERS.items():
            rates[name].append(await rate(app, at_a_time, ROUND_S))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--at-a-time", type=int, default=32)
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    factory = None
    if options.uvloop:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        rates = runner.run(measure(options.rounds, options.at_a_time))

    versions = ", ".join(f"{name} {version(name)}" for name in ("asgiref", "a2wsgi"))
    print(
        f"Python {sys.version.split()[0]}, {versions}, {os.cpu_count()} processors, "
        f"{options.at_a_time} requests at a time, "
        f"{'uvloop' if options.uvloop else 'asyncio'}, {options.rounds} rounds"
    )
    print(f"{'':12}{'requests/s':>12}{'wsgi-asgi is':>16}{'quartiles':>18}")
    for name, values in rates.items():
        ratios = [
            ours / theirs
            for ours, theirs in zip(rates["wsgi-asgi"], values, strict=True)
        ]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{name:12}{statistics.median(values):12,.0f}{middle:15.2f}x"
            f"{low:10.2f} to {high:.2f}"
        )


if __name__ == "__main__":
    main()
