"""A crowd of clients gives up while it waits for a thread."""

import contextlib
import re
import time

import pytest

from conformance.live.polling import wait_until
from tests.integration.apps import payload
from tests.integration.apps.leaving import CROWD_ABANDONED_S, WORK_S
from tests.integration.site import Site
from tests.integration.test_memory import Memory

# Hypercorn takes some 150 kB for each HTTP/2 connection, which come back to the process
# and not to the system.
HOLDS_MUCH = ("hypercorn-http2", "hypercorn-trio-http2")

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CLIENTS = 300
BODY_BYTES = 60_000
# What a busy machine may take beside what the adapter waits for.
SLACK_S = 2.0
GROWTH_BYTES = 6 * payload.MIB

DROPPED = re.compile(r"dropped (\d+) request\(s\) whose clients had left")


def crowd(site: Site, method: str) -> float:
    """Have all clients wait, and then leave; says when."""
    before = ran(site)
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            connection = stack.enter_context(site.connect())
            if method == "GET":
                site.start(connection, "crowded", "/work")
            else:
                length = ("content-length", str(BODY_BYTES))
                site.start(connection, "crowded", "/work", length, end=False)
                connection.send(bytes(BODY_BYTES), end=True)
        wait_until(
            lambda: site.stat("crowded", "queued") + ran(site) - before == CLIENTS,
            "all have been received",
        )
        return time.monotonic()


def ran(site: Site) -> int:
    return site.journal().count("called /work")


def logged(site: Site, since: int) -> list[int]:
    return [int(count) for count in DROPPED.findall(site.log()[since:])]


def test_crowd_that_posts_and_leaves_holds_nobody_up(site: Site) -> None:
    memory = Memory(site.server)
    for measured in (False, True):
        dropped_before, log_before = site.stat("crowded", "dropped"), len(site.log())
        ran_before = ran(site)
        if measured:
            memory.start()
        left = crowd(site, "POST")
        assert site.get("crowded", "/quick").text == "quick"
        assert time.monotonic() - left < CROWD_ABANDONED_S + WORK_S + SLACK_S

        wait_until(lambda: site.stat("crowded", "queued") == 0, "nobody waits")
        site.wait_until_idle("crowded")
        dropped = site.stat("crowded", "dropped") - dropped_before
        assert dropped == CLIENTS - (ran(site) - ran_before)
        assert dropped > CLIENTS / 2
        # All that are dropped within a second are told of at once.
        wait_until(
            lambda: sum(logged(site, log_before)) == dropped,  # noqa: B023  # called at once
            "all that were dropped are in the log",
        )
        assert len(logged(site, log_before)) <= 2
    if site.peer.name not in HOLDS_MUCH:
        assert memory.kept() < GROWTH_BYTES
    site.assert_no_complaint()


def test_crowd_that_asks_and_leaves_runs_nothing_more(site: Site) -> None:
    dropped = site.stat("crowded", "dropped")
    crowd(site, "GET")
    assert site.get("crowded", "/quick").text == "quick"
    assert site.stat("crowded", "queued") == 0
    site.wait_until_idle("crowded")
    # Those that ran while their clients left, and what came in their place at once.
    running = ran(site)
    assert running < CLIENTS / 2
    time.sleep(2 * WORK_S)
    assert ran(site) == running
    assert site.stat("crowded", "dropped") == dropped
    site.assert_no_complaint()
