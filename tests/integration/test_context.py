import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from conformance.live.clients import read_body
from conformance.live.http1 import Http1Connection
from conformance.live.servers import PEERS
from tests.integration.site import Site, only_peers

pytestmark = pytest.mark.integration

REQUESTS = 300
THIRD = "0.3333333333333333333333333333"
PIPELINE = 5


def assert_runs_on_the_loop_of(site: Site, seen: dict[str, object]) -> None:
    if site.peer.server == "hypercorn-trio":
        # asgiref's helpers are asyncio's, so they start a loop of their own.
        assert seen["loop"] is None
        assert seen["running_loop"] is not None
    else:
        assert seen["loop"] is not None
        assert seen["running_loop"] == seen["loop"]


def test_values_of_one_request_never_reach_another_of_its_connection(
    site: Site,
) -> None:
    ports = set()
    with site.connect() as connection:
        for number in range(REQUESTS):
            value = f"?value={number}" if number % 2 == 0 else ""
            connection.start("GET", f"/remember{value}", [("x-app", "plain")])

            assert connection.read_head().status == 200
            seen = json.loads(read_body(connection))
            ports.add(seen.pop("port"))
            assert seen == {"variable": None, "local": None}, number
    assert len(ports) == 1


@only_peers(*(peer.name for peer in PEERS if not peer.http2))
def test_values_of_one_request_never_reach_one_that_waits_behind_it(
    site: Site,
) -> None:
    """A server starts the next request of a pipeline from within the last send()."""
    with site.connect() as connection:
        assert isinstance(connection, Http1Connection)
        for _ in range(REQUESTS // PIPELINE):
            paths = [f"/remember?value={number}" for number in range(PIPELINE)]
            for body in connection.pipeline(paths, [("x-app", "plain")]):
                seen = json.loads(body)
                assert (seen["variable"], seen["local"]) == (None, None)


def test_values_of_requests_at_the_same_time_never_mix(site: Site) -> None:
    def remember(worker: int) -> list[dict[str, str | None]]:
        with site.client("plain") as client:
            answers = [client.get(f"/remember?value={worker}") for _ in range(25)]
        return [answer.json() for answer in answers]

    with ThreadPoolExecutor(8) as pool:
        for seen in pool.map(remember, range(8)):
            assert {(one["variable"], one["local"]) for one in seen} == {(None, None)}


def test_values_of_asgi_middleware_are_seen_in_the_app_and_its_chunks(
    site: Site,
) -> None:
    with site.client("plain-in-context", {"x-tag": site.key}) as client:
        called, in_async_code, in_chunk = client.get("/context").json()

    for seen in (called, in_async_code, in_chunk):
        assert (seen["variable"], seen["local"]) == (site.key, site.key)


def test_async_code_of_the_app_runs_on_the_loop_of_the_server(site: Site) -> None:
    _, seen, _ = site.get("plain-in-context", "/context").json()

    assert_runs_on_the_loop_of(site, seen)


@pytest.mark.parametrize(
    ("app", "path"),
    [("flask-in-context", "/context"), ("django-in-context", "/context/")],
    ids=["flask", "django"],
)
def test_async_view_runs_on_the_loop_of_the_server_with_the_values_of_middleware(
    site: Site, app: str, path: str
) -> None:
    with site.client(app, {"x-tag": site.key}) as client:
        seen = client.get(path).json()

    assert (seen["variable"], seen["local"]) == (site.key, site.key)
    assert_runs_on_the_loop_of(site, seen)


@pytest.mark.parametrize("app", ["decimals", "decimals-executor"])
def test_decimal_context_of_one_request_is_not_that_of_one_beside_it(
    site: Site, app: str
) -> None:
    with site.connect() as connection:
        site.start(connection, app, "/coarse?stream")
        assert connection.read_head().status == 200
        assert site.get(app, "/").text == THIRD
    site.wait_until_idle(app)


def test_decimal_context_of_one_request_is_not_that_of_the_next_in_its_thread(
    site: Site,
) -> None:
    with site.client("decimals-thread-sensitive") as client:
        texts = [client.get(path).text for path in ("/", "/coarse", "/")]
    assert texts == [THIRD, "0.333", THIRD]
