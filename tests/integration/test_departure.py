"""A client leaves while the application works without a word."""

import time

import pytest

from conformance.live.polling import wait_until
from tests.integration.site import Site

pytestmark = pytest.mark.integration

NOTICED_S = 0.1
# A busy machine can be late by itself.
TRIES = 10


def noticed_after(site: Site, path: str) -> float:
    """Leave a request, and say how long it took the application to notice."""
    before = site.journal().count("asking")
    with site.connect() as connection:
        site.start(connection, "plain", path)
        site.wait_for_event("asking", before + 1)
        left = time.monotonic()
        connection.leave()

    def seen() -> list[float]:
        words = (event.split() for event in site.journal())
        return [float(at) for left, _, at in (w for w in words if len(w) == 3)]

    wait_until(lambda: len(seen()) > before, "the application has noticed")
    return seen()[-1] - left


@pytest.mark.parametrize("path", ["/work-on", "/work-on?stream=1"])
def test_application_that_asks_learns_soon_that_its_client_has_left(
    site: Site, path: str
) -> None:
    taken: list[float] = []
    while not taken or (min(taken) > NOTICED_S and len(taken) < TRIES):
        taken.append(noticed_after(site, path))
    assert min(taken) <= NOTICED_S
    site.wait_until_idle("plain")
    site.assert_no_complaint()
