"""What a test sees of a server that runs every application: a `Site`."""

import re
import ssl
import uuid
from dataclasses import dataclass, field

import httpx
import pytest

from conformance.live.clients import Connection
from conformance.live.http1 import Http1Connection
from conformance.live.http2 import Http2Connection
from conformance.live.polling import WAIT_S, wait_until
from conformance.live.processes import Server
from conformance.live.servers import PEERS, Peer

EVERY = "tests.integration.apps.every:app"

# httpx reads all certificates of the machine for each client otherwise.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

# Signs of a fault that no answer shows, whatever the test was about.
STRAY = re.compile(
    "never awaited|never retrieved|was destroyed but it is pending"
    "|garbage collected without being closed|Exception ignored in"
    "|took too long to shut down"
)
COMPLAINT = re.compile(r"Traceback|\bERROR\b|\bCRITICAL\b|Exception in |\[error\]")


def peers_except(reasons: dict[str, str]) -> pytest.MarkDecorator:
    """Parametrise over all peers; skip those that cannot keep the promise."""
    assert reasons.keys() <= {peer.name for peer in PEERS}
    return pytest.mark.parametrize(
        "site",
        [
            pytest.param(peer, id=peer.name, marks=pytest.mark.skip(reasons[peer.name]))
            if peer.name in reasons
            else pytest.param(peer, id=peer.name)
            for peer in PEERS
        ],
        indirect=True,
    )


def only_peers(*names: str) -> pytest.MarkDecorator:
    """Parametrise over some peers: what they differ in is not what is tested."""
    chosen = [peer for peer in PEERS if peer.name in names]
    assert len(chosen) == len(names)
    ids = [peer.name for peer in chosen]
    return pytest.mark.parametrize("site", chosen, ids=ids, indirect=True)


@dataclass(slots=True)
class Site:
    peer: Peer
    server: Server
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    log_start: int = field(init=False)

    def __post_init__(self) -> None:
        self.log_start = self.server.log_size()

    def client(self, app: str, headers: dict[str, str] | None = None) -> httpx.Client:
        return httpx.Client(
            base_url=self.server.url,
            headers={"x-app": app, "x-key": self.key} | (headers or {}),
            http1=not self.peer.http2,
            http2=self.peer.http2,
            timeout=20,
            trust_env=False,
            verify=NO_TLS,
        )

    def get(self, app: str, path: str) -> httpx.Response:
        with self.client(app) as client:
            return client.get(path)

    def connect(self) -> Http1Connection | Http2Connection:
        if self.peer.http2:
            return Http2Connection(self.server.port)
        return Http1Connection(self.server.port)

    def start(
        self,
        connection: Connection,
        app: str,
        target: str,
        *headers: tuple[str, str],
        end: bool = True,
    ) -> None:
        """Start a GET, or a POST whose body follows, under this test's key."""
        names = [("x-app", app), ("x-key", self.key), *headers]
        path = f"{target}{'&' if '?' in target else '?'}key={self.key}"
        connection.start("GET" if end else "POST", path, names, end=end)

    def journal(self, key: str = "") -> list[str]:
        events: list[str] = self.get("probe", f"/?journal={key or self.key}").json()
        return events

    def open_gate(self) -> None:
        self.get("probe", f"/?open={self.key}")

    def stat(self, app: str, name: str) -> int:
        value: int = self.get("probe", f"/?stats={app}").json()[name]
        return value

    def log(self) -> str:
        """Return what the server has logged since this test began."""
        return self.server.log(self.log_start)

    def wait_for_event(self, event: str, count: int = 1) -> None:
        wait_until(
            lambda: self.journal().count(event) >= count, f"{event!r} in the journal"
        )

    def wait_until_idle(self, app: str, *, within: float = WAIT_S) -> None:
        wait_until(
            lambda: self.stat(app, "busy") == self.stat(app, "streams") == 0,
            f"{app} holds no thread",
            within=within,
        )

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.log(), f"{text!r} in the log")

    def assert_no_complaint(self) -> None:
        log = self.log()
        assert not COMPLAINT.search(log), log

    def assert_nothing_stray(self) -> None:
        log = self.log()
        assert not STRAY.search(log), log
