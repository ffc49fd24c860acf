import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.live.processes import ROOT, Server, running
from conformance.live.servers import PEERS, Peer
from tests.integration.apps import payload
from tests.integration.site import EVERY, STRAY, Site

SETTINGS = "tests.integration.apps.django_project.settings"

Launch = Callable[..., Server]


@pytest.fixture(scope="session")
def download_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("download") / "download.bin"
    with path.open("wb") as file:
        file.writelines(payload.blocks(payload.DOWNLOAD_BYTES))
    return path


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make Django's tables before any server runs: its ORM refuses to in a loop."""
    directory = tmp_path_factory.mktemp("database")
    python_path = [os.environ.get("PYTHONPATH", ""), str(ROOT)]
    environ = os.environ | {
        "INTEGRATION_DIRECTORY": str(directory),
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "PYTHONPATH": os.pathsep.join(filter(None, python_path)),
    }
    command = [sys.executable, "-m", "django", "migrate", "--run-syncdb"]
    subprocess.run(
        command, cwd=directory, env=environ, check=True, stdout=subprocess.DEVNULL
    )
    return directory / "django.sqlite3"


@pytest.fixture(scope="session")
def launch_every(
    tmp_path_factory: pytest.TempPathFactory, download_file: Path, empty_database: Path
) -> Iterator[Launch]:
    """Start servers of all applications; they end with the session."""
    launched: list[Server] = []
    with contextlib.ExitStack() as stack:

        def launch(name: str, *, root_path: str = "") -> Server:
            directory = tmp_path_factory.mktemp(name)
            (directory / download_file.name).symlink_to(download_file)
            shutil.copy(empty_database, directory)
            environ = {"INTEGRATION_DIRECTORY": str(directory)}
            server = stack.enter_context(
                running(name, EVERY, directory, root_path=root_path, environ=environ)
            )
            launched.append(server)
            return server

        yield launch
        for server in launched:  # all at once: each takes its time to end
            server.terminate()
    for server in launched:
        assert not STRAY.search(server.log()), server.log()


@pytest.fixture(scope="session")
def fleet(launch_every: Launch) -> Callable[[str, str], Server]:
    """Hand out one running server for each name and root path."""
    servers: dict[tuple[str, str], Server] = {}

    def find(name: str, root_path: str) -> Server:
        if (name, root_path) not in servers:
            servers[name, root_path] = launch_every(name, root_path=root_path)
        return servers[name, root_path]

    return find


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def site(
    request: pytest.FixtureRequest, fleet: Callable[[str, str], Server]
) -> Iterator[Site]:
    """A server that runs every application at its root."""
    peer: Peer = request.param
    site = Site(peer, fleet(peer.server, ""))
    yield site
    site.assert_nothing_stray()


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def rooted_site(
    request: pytest.FixtureRequest, fleet: Callable[[str, str], Server]
) -> Iterator[Site]:
    """The same, with the server's root path set to /base."""
    peer: Peer = request.param
    site = Site(peer, fleet(peer.server, "/base"))
    yield site
    site.assert_nothing_stray()
