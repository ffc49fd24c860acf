"""One adapter and one loop, but more than one life of a server."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.apps import hello
from tests.drivers import MakeAdapter, lifespan, run
from tests.integration.site import NO_TLS

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Running:
    """A server on this loop, and its address."""

    server: uvicorn.Server
    task: asyncio.Task[None]
    address: str

    async def stop(self) -> None:
        self.server.should_exit = True
        await self.task


@asynccontextmanager
async def serving(*apps: Any) -> AsyncIterator[list[Running]]:
    """Run servers on this loop."""
    config: dict[str, Any] = {"port": 0, "log_config": None, "access_log": False}
    servers = [uvicorn.Server(uvicorn.Config(app, **config)) for app in apps]
    tasks = [asyncio.create_task(server._serve(None)) for server in servers]
    while not all(server.started for server in servers):  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0.01)
    running = [
        Running(server, task, f"http://127.0.0.1:{port_of(server)}/")
        for server, task in zip(servers, tasks, strict=True)
    ]
    try:
        yield running
    finally:
        for one in running:
            await one.stop()


def port_of(server: uvicorn.Server) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


def mounted(adapter: Any) -> Starlette:
    """Keep the adapter from the server's lifespan, and from what that passes on."""
    return Starlette(routes=[Mount("/", adapter)])


@pytest.mark.parametrize("again", [0, 1], ids=["the first stops", "the second stops"])
def test_server_that_stops_leaves_another_on_its_loop_serving(
    adapter: MakeAdapter, again: int
) -> None:
    served = adapter(hello)

    async def main() -> None:
        async with (
            httpx.AsyncClient(trust_env=False, verify=NO_TLS) as client,
            serving(served, served) as servers,
        ):
            for one in servers:
                assert (await client.get(one.address)).text == "Hello"
            await servers[again].stop()
            for _ in range(3):
                response = await client.get(servers[1 - again].address)
                assert response.text == "Hello"

    run(main())


def test_server_that_stops_leaves_one_without_a_lifespan_serving(
    adapter: MakeAdapter,
) -> None:
    served = adapter(hello)

    async def main() -> None:
        async with (
            httpx.AsyncClient(trust_env=False, verify=NO_TLS) as client,
            serving(served, mounted(served)) as servers,
        ):
            first, second = servers
            await first.stop()
            assert (await client.get(second.address)).text == "Hello"

    run(main())


def test_requests_in_process_are_served_before_in_and_after_a_lifespan(
    adapter: MakeAdapter,
) -> None:
    served = adapter(hello)

    async def main() -> None:
        transport = httpx.ASGITransport(served)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://example.org"
        ) as client:
            for _ in range(2):
                assert (await client.get("/")).text == "Hello"
                async with lifespan(served):
                    assert (await client.get("/")).text == "Hello"
            assert (await client.get("/")).text == "Hello"

    run(main())
