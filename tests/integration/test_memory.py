import contextlib
import os
import time
from pathlib import Path

import pytest

from conformance.live import reasons
from conformance.live.polling import wait_until
from conformance.live.processes import Server
from tests.integration.apps import payload
from tests.integration.site import Site, peers_except

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

BODY_BYTES = 300 * payload.MIB
GROWTH_BYTES = 4 * payload.MIB

# A body of the size that is measured later, so that what a server and an allocator
# keep for good is there before.
WARM_UP_BYTES = 40 * payload.MIB

STILL_S = 0.5

STALLED = 30
STARTED_BYTES = 4 * payload.MIB
STALLED_GROWTH_BYTES = 40 * payload.MIB


class Memory:
    """What all processes of a server hold, and held at the most since a moment."""

    def __init__(self, server: Server) -> None:
        self._processes = [
            entry
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit()
            and os.getpgid(int(entry.name)) == server.process.pid
        ]

    def start(self) -> None:
        for process in self._processes:
            (process / "clear_refs").write_text("5")  # forget the peak
        self.at_start = self._read("VmRSS")

    def growth(self) -> int:
        return self._read("VmHWM") - self.at_start

    def kept(self) -> int:
        return self._read("VmRSS") - self.at_start

    def wait_until_still(self) -> None:
        """Wait until no process has used a processor for a while: all are blocked."""
        seen: list[int] = []

        def is_still() -> bool:
            time.sleep(STILL_S / 5)
            seen.append(self._ticks())
            return len(seen) > 5 and seen[-6] == seen[-1]

        wait_until(is_still, "the server is still")

    def _ticks(self) -> int:
        stats = [(process / "stat").read_text() for process in self._processes]
        fields = [stat.rpartition(")")[2].split() for stat in stats]
        return sum(int(field[11]) + int(field[12]) for field in fields)

    def _read(self, name: str) -> int:
        total = 0
        for process in self._processes:
            for line in (process / "status").read_text().splitlines():
                key, _, value = line.partition(":")
                if key == name:
                    total += int(value.split()[0]) * 1024
        return total


@pytest.fixture
def memory(site: Site) -> Memory:
    return Memory(site.server)


def upload(site: Site, app: str, size: int) -> None:
    with site.client(app) as client:
        response = client.post("/digest", content=payload.blocks(size))
    assert response.json()["sha256"] == payload.digest(size)


@pytest.mark.parametrize(
    "app", ["plain-streaming", "plain"], ids=["it streams", "it is spooled"]
)
@peers_except(reasons.BUFFERS_UPLOADS)
def test_large_upload_read_in_pieces_is_not_kept(
    site: Site, memory: Memory, app: str
) -> None:
    upload(site, app, WARM_UP_BYTES)
    memory.start()
    upload(site, app, BODY_BYTES)
    assert memory.growth() < GROWTH_BYTES


@peers_except(reasons.DOES_NOT_HOLD_BACK)
@pytest.mark.parametrize(
    ("app", "path"),
    [("plain", "/download"), ("files", "/made"), ("files", "/stored")],
    ids=["chunks", "file", "file without a descriptor"],
)
def test_large_download_that_nobody_reads_is_not_made(
    site: Site, memory: Memory, app: str, path: str
) -> None:
    for measured in (False, True):
        with site.connect() as connection:
            if measured:
                memory.start()
            site.start(connection, app, f"{path}?bytes={BODY_BYTES}")
            assert connection.read_head().status == 200
            memory.wait_until_still()
            connection.leave()
        site.wait_until_idle(app)
    assert memory.growth() < GROWTH_BYTES


@peers_except(reasons.DOES_NOT_HOLD_BACK)
@pytest.mark.parametrize(
    ("app", "path"),
    [("plain", "/download"), ("files", "/made")],
    ids=["chunks", "file"],
)
def test_downloads_that_stall_after_a_quick_start_hold_little(
    site: Site, memory: Memory, app: str, path: str
) -> None:
    site.get(app, f"{path}?bytes={WARM_UP_BYTES}&key={site.key}")
    memory.start()
    with contextlib.ExitStack() as stack:
        for _ in range(STALLED):
            connection = stack.enter_context(site.connect())
            site.start(connection, app, f"{path}?bytes={BODY_BYTES}")
            assert connection.read_head().status == 200
            left = STARTED_BYTES
            while left > 0:
                left -= len(connection.read_some())
        memory.wait_until_still()
        # Their windows have left something for others.
        quick = site.get("plain", f"/download?bytes={WARM_UP_BYTES}")
        assert len(quick.content) == WARM_UP_BYTES
        assert memory.growth() < STALLED_GROWTH_BYTES
    site.wait_until_idle(app)
