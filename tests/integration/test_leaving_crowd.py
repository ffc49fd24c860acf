"""A crowd of clients gives up while it waits for a thread."""

import contextlib
import re
import time

import pytest

from conformance.live.polling import wait_until
from tests.integration.apps.leaving import WORK_S
from tests.integration.site import Site

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CLIENTS = 300
BODY_BYTES = 60_000

DROPPED = re.compile(r"dropped (\d+) request\(s\) whose clients had left")


def crowd(site: Site, method: str) -> None:
    """Have all clients wait, and then leave."""
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


def ran(site: Site) -> int:
    return site.journal().count("called /work")


def logged(site: Site, since: int) -> list[int]:
    return [int(count) for count in DROPPED.findall(site.log()[since:])]


def test_crowd_that_posts_and_leaves_holds_nobody_up(site: Site) -> None:
    dropped_before, log_before = site.stat("crowded", "dropped"), len(site.log())
    ran_before = ran(site)
    crowd(site, "POST")
    assert site.get("crowded", "/quick").text == "quick"
    # It has not waited for all their work.
    assert ran(site) - ran_before < CLIENTS / 2

    wait_until(lambda: site.stat("crowded", "queued") == 0, "nobody waits")
    site.wait_until_idle("crowded")
    dropped = site.stat("crowded", "dropped") - dropped_before
    assert dropped == CLIENTS - (ran(site) - ran_before)
    assert dropped > CLIENTS / 2
    # All that are dropped within a second are told of at once.
    wait_until(
        lambda: sum(logged(site, log_before)) == dropped,
        "all that were dropped are in the log",
    )
    assert len(logged(site, log_before)) <= 2
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
