"""What a promise sees of a server: a `Site`."""

import json
import re
import time
import uuid
from contextlib import suppress

from conformance.checking import expect, fail
from conformance.live.clients import Connection, CutError, Head, read_body
from conformance.live.http1 import Http1Connection
from conformance.live.http2 import Http2Connection
from conformance.live.polling import NotInTimeError, wait_until
from conformance.live.processes import Server
from conformance.live.servers import Peer
from conformance.timing import PATIENCE

__all__ = ["QUICK_S", "SOON_S", "TIMEOUT_S", "Site"]

# For any one wait for the server.
TIMEOUT_S = 5.0 * PATIENCE
# For what must happen once a client has left.
SOON_S = 1.0 * PATIENCE
# For a request that needs no time, on a machine that may be busy.
QUICK_S = 1.0 * PATIENCE
# What has not gone on for this long has come to rest.
REST_S = 0.2 * PATIENCE

COMPLAINT = re.compile(r"Traceback|\bERROR\b|\bCRITICAL\b|Exception in |\[error\]")


class Site:
    """A running server, under a key of the promise's own.

    Args:
        peer: The server's name and protocol.
        server: It.

    Attributes:
        peer: The server's name and protocol.
        server: It.
        key: What events are noted under.
        doing: The request that was sent last, to say where a promise broke off.
    """

    def __init__(self, peer: Peer, server: Server) -> None:
        self.peer = peer
        self.server = server
        self.doing = ""
        self.key = uuid.uuid4().hex
        self._log_start = server.log_size()

    def connect(self, timeout: float = TIMEOUT_S) -> Http1Connection | Http2Connection:
        """Connect by the peer's protocol."""
        if self.peer.http2:
            return Http2Connection(self.server.port, timeout)
        return Http1Connection(self.server.port, timeout)

    def start(
        self,
        connection: Connection,
        target: str,
        *headers: tuple[str, str],
        app: str = "plain",
        method: str = "GET",
        end: bool = True,
    ) -> None:
        """Start a request whose events are noted under the promise's key.

        Args:
            connection: Where.
            target: Path and query.
            headers: More headers.
            app: Which application.
            method: The method.
            end: No body follows.
        """
        self.doing = f"{method} {target}"
        names = [("x-app", app), ("x-key", self.key), *headers]
        connection.start(method, target, names, end=end)

    def get(
        self,
        connection: Connection,
        target: str,
        *headers: tuple[str, str],
        app: str = "plain",
    ) -> bytes:
        """Send a GET and wait for the body; anything but a 200 fails the promise."""
        self.start(connection, target, *headers, app=app)
        self.expect_status(connection.read_head(), 200, f"GET {target}")
        return read_body(connection)

    def open_stream(
        self, connection: Connection, target: str = "/tick", *, app: str = "plain"
    ) -> None:
        """Start a response that streams, and read its first piece."""
        self.start(connection, target, app=app)
        self.expect_status(connection.read_head(), 200, f"GET {target}")
        expect(connection.read_some(), f"the stream of {target} ended at once")

    def expect_status(self, head: Head, wanted: int, request: str) -> None:
        """Expect an answer's status."""
        expect(
            head.status == wanted,
            f"{request} was answered {head.status}, expected {wanted}",
        )

    def expect_quick_answer(self, situation: str, *, app: str = "small") -> None:
        """Expect that a request which needs no time is answered at once.

        Args:
            situation: What else goes on, to end a sentence with.
            app: Which application.
        """
        begun = time.monotonic()
        try:
            with self.connect(QUICK_S) as connection:
                self.start(connection, "/hello", app=app)
                head = connection.read_head()
                body = read_body(connection)
        except TimeoutError:
            fail(f"a quick request had no answer after {QUICK_S:g} s, {situation}")
        except CutError as error:
            fail(f"a quick request had no answer, {situation}: {error}")
        self.expect_status(head, 200, f"a quick request, {situation},")
        expect(body == b"hello", f"a quick request, {situation}, gave {body!r}")
        expect(
            time.monotonic() - begun < 2 * QUICK_S, f"an answer took long {situation}"
        )

    def noted(self) -> dict[str, int]:
        """Give what has happened in the server's process, with how often."""
        return self._probe()

    def open_gate(self) -> None:
        """Let applications go on that wait."""
        self._probe(("x-open", "1"))

    def _probe(self, *headers: tuple[str, str]) -> dict[str, int]:
        with Http1Connection(self.server.port, TIMEOUT_S) as connection:
            fields = [("x-key", self.key), ("connection", "close"), *headers]
            connection.start("GET", "/", fields)
            connection.read_head()
            noted: dict[str, int] = json.loads(read_body(connection))
            return noted

    def count(self, event: str) -> int:
        """Say how often something has happened."""
        return self.noted().get(event, 0)

    def happens(self, event: str, count: int = 1, within: float = SOON_S) -> bool:
        """Wait for something in the server's process; False if it takes too long."""
        with suppress(NotInTimeError):
            wait_until(lambda: self.count(event) >= count, event, within=within)
        return self.count(event) >= count

    def wait_for_rest(self, event: str) -> int:
        """Wait until something goes on no more, and say how often it happened."""
        deadline = time.monotonic() + TIMEOUT_S
        count, since = -1, time.monotonic()
        while time.monotonic() < min(deadline, since + REST_S):
            time.sleep(REST_S / 10)
            if (now := self.count(event)) != count:
                count, since = now, time.monotonic()
        return count

    def log(self) -> str:
        """Give what the server has printed since the promise began."""
        return self.server.log(self._log_start)

    def expect_no_complaint(self, situation: str) -> None:
        """Expect that the server has logged no error.

        Args:
            situation: What has happened, to end a sentence with.
        """
        for line in self.log().splitlines():
            if COMPLAINT.search(line):
                lines = [one for one in self.log().splitlines() if one.strip()]
                fail(f"{situation} was logged as an error: … {lines[-1].strip()}")
