"""Early hints and trailers, on the servers that offer them and on those that do not."""

import hashlib
import shutil
import ssl
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import trustme

from conformance.live.clients import Connection, CutError, read_body
from conformance.live.http1 import Http1Connection
from conformance.live.http2 import Http2Connection
from conformance.live.polling import wait_until
from conformance.live.processes import Server, running, tracebacks
from conformance.live.servers import SERVERS
from tests.integration.apps import payload
from tests.integration.apps.extensions import FILE_BYTES, SCRIPT, STYLE, TRAILERS
from tests.integration.site import COMPLAINT, STRAY

pytestmark = pytest.mark.integration

APP = "tests.integration.apps.extensions:app"
HINTS_KEY = "wsgi.early_hints"
TRAILERS_KEYS = "gunicorn.http2.send_trailers", "wsgi_asgi.send_trailers"

# What it is called where gunicorn speaks HTTP/2, which it does over TLS only.
GUNICORN_TLS = "gunicorn-tls"
WITH_HINTS = ("hypercorn", "hypercorn-trio", "uvicorn-zttp")
WITH_TRAILERS = (*WITH_HINTS, GUNICORN_TLS)
TE = ("te", "trailers")
RAW_TRAILERS = [(name.lower(), value) for name, value in TRAILERS]


@dataclass(frozen=True, slots=True)
class Site:
    server: Server
    tls: ssl.SSLContext | None

    def connect(self) -> Http2Connection:
        return Http2Connection(self.server.port, tls=self.tls)

    def ask(self, path: str, *headers: tuple[str, str]) -> bytes:
        with self.connect() as connection:
            connection.start("GET", path, headers)
            assert connection.read_head().status == 200
            return read_body(connection)


@pytest.fixture(scope="module")
def find(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Site]]:
    """Hand out a running server for each name; they end with the module."""
    sites: dict[str, Site] = {}
    with ExitStack() as stack:

        def launch(name: str) -> Site:
            directory = tmp_path_factory.mktemp(name)
            if name != GUNICORN_TLS:
                server = stack.enter_context(running(name, APP, directory))
                return Site(server, None)
            authority = trustme.CA()
            certificate = authority.issue_cert("127.0.0.1")
            path = directory / "certificate.pem"
            certificate.private_key_and_cert_chain_pem.write_to_path(path)
            trusting, speaking_http2 = (ssl.create_default_context() for _ in range(2))
            authority.configure_trust(trusting)
            authority.configure_trust(speaking_http2)
            speaking_http2.set_alpn_protocols(["h2"])
            options = f"--certfile {path} --keyfile {path} --http-protocols h2,h1"
            server = stack.enter_context(
                running(
                    "gunicorn",
                    APP,
                    directory,
                    environ={"GUNICORN_CMD_ARGS": options},
                    tls=trusting,
                )
            )
            return Site(server, speaking_http2)

        def find(name: str) -> Site:
            if name not in sites:
                sites[name] = launch(name)
            return sites[name]

        yield find
        for site in sites.values():  # all at once: each takes its time to end
            site.server.terminate()
    for site in sites.values():
        assert not STRAY.search(site.server.log()), site.server.log()


def on(*names: str, skip: dict[str, str] | None = None) -> pytest.MarkDecorator:
    """Parametrise over some servers."""
    return pytest.mark.parametrize(
        "site",
        [
            pytest.param(name, marks=pytest.mark.skip(skip[name]), id=name)
            if skip and name in skip
            else pytest.param(name, id=name)
            for name in names
        ],
        indirect=True,
    )


@pytest.fixture
def site(request: pytest.FixtureRequest, find: Callable[[str], Site]) -> Site:
    return find(request.param)


@pytest.fixture
def quiet(site: Site) -> Iterator[None]:
    """See that the server has nothing to complain of."""
    before = site.server.log_size()
    yield
    log = site.server.log(before)
    assert not COMPLAINT.search(log), log


# HTTP/2.


@on(*WITH_TRAILERS)
@pytest.mark.usefixtures("quiet")
def test_environ_over_http2_has_what_the_server_offers(
    request: pytest.FixtureRequest, site: Site
) -> None:
    has_hints = site.tls is None  # gunicorn has a message of its own for them
    expected = [*TRAILERS_KEYS] + [HINTS_KEY] * has_hints
    assert site.ask("/keys").decode().split() == sorted(expected)


@on(*WITH_HINTS)
@pytest.mark.usefixtures("quiet")
def test_hints_reach_the_client_while_the_application_works(site: Site) -> None:
    key = uuid.uuid4().hex
    with site.connect() as connection:
        connection.start("GET", f"/hints?key={key}")
        hints = [connection.read_interim() for _ in range(2)]
        assert site.ask(f"/release?key={key}") == b"released"
        head = connection.read_head()
        assert read_body(connection) == b"hello"

    assert [hint.status for hint in hints] == [103, 103]
    assert [hint.get_all("link") for hint in hints] == [[STYLE], [SCRIPT]]
    assert hints[0].get("x-dropped") is None
    assert (head.status, head.interim, head.get("link")) == (200, [], None)


@on(*WITH_HINTS)
@pytest.mark.usefixtures("quiet")
def test_client_that_leaves_after_a_hint_ends_nothing_else(site: Site) -> None:
    with site.connect() as connection:
        connection.start("GET", f"/hints?key={uuid.uuid4().hex}")
        assert connection.read_interim().status == 103
        connection.reset_stream()

        connection.start("GET", "/hints")
        assert [connection.read_interim().status for _ in range(2)] == [103, 103]
        assert connection.read_head().status == 200
        assert read_body(connection) == b"hello"


@on(*WITH_TRAILERS)
@pytest.mark.parametrize(
    ("path", "named"),
    [
        pytest.param("/trailers", None, id="known at the end"),
        pytest.param("/trailers?length=5", None, id="of a body with a length"),
        pytest.param("/known-trailers", "x-sum, server-timing", id="known before"),
    ],
)
@pytest.mark.usefixtures("quiet")
def test_trailers_reach_the_client(site: Site, path: str, named: str | None) -> None:
    with site.connect() as connection:
        connection.start("GET", path, [TE])
        head = connection.read_head()
        body = read_body(connection)

    assert (head.status, head.get("trailer"), body) == (200, named, b"hello")
    assert connection.trailers == RAW_TRAILERS


@on(*WITH_TRAILERS)
@pytest.mark.usefixtures("quiet")
def test_trailers_of_a_file_follow_all_of_it(site: Site) -> None:
    checksum = hashlib.sha256()
    with site.connect() as connection:
        connection.start("GET", "/file", [TE])
        assert connection.read_head().get("content-length") == str(FILE_BYTES)
        while piece := connection.read_some():
            checksum.update(piece)

    assert checksum.hexdigest() == payload.digest(FILE_BYTES)
    assert connection.trailers == RAW_TRAILERS


@on(*WITH_TRAILERS)
@pytest.mark.usefixtures("quiet")
def test_response_to_head_is_complete_without_trailers(site: Site) -> None:
    with site.connect() as connection:
        connection.start("HEAD", "/known-trailers", [TE])
        assert connection.read_head().status == 200
        assert read_body(connection) == b""
        assert connection.trailers is None

        connection.start("GET", "/keys")
        assert connection.read_head().status == 200
        assert read_body(connection)


NO_EMPTY_SECTION = "h2 cannot encode trailers that are none"


@on(
    *WITH_TRAILERS,
    skip=dict.fromkeys(("hypercorn", "hypercorn-trio", GUNICORN_TLS), NO_EMPTY_SECTION),
)
@pytest.mark.usefixtures("quiet")
def test_trailers_that_were_announced_and_not_given_are_none(site: Site) -> None:
    with site.connect() as connection:
        connection.start("GET", "/no-trailers", [TE])
        assert connection.read_head().status == 200
        assert read_body(connection) == b"hello"

    assert connection.trailers is None


@on("hypercorn", "hypercorn-trio", "uvicorn-zttp")
@pytest.mark.usefixtures("quiet")
def test_trailers_are_not_sent_to_a_client_that_does_not_want_them(
    site: Site,
) -> None:
    with site.connect() as connection:
        connection.start("GET", "/trailers")
        assert connection.read_head().status == 200
        assert read_body(connection) == b"hello"

    assert connection.trailers is None


@on(*WITH_TRAILERS)
def test_response_that_fails_between_body_and_trailers_is_cut(site: Site) -> None:
    # hypercorn leaves the stream open, and closes the connection after 5 s.
    key = uuid.uuid4().hex
    with site.connect() as connection:
        connection.start("GET", f"/trailers?fail=1&length=5&key={key}", [TE])
        assert connection.read_head().status == 200
        with pytest.raises(CutError):
            read_body(connection)

    assert connection.trailers is None
    wait_until(
        lambda: any(key in trace for trace in tracebacks(site.server.log())),
        "the application's traceback in the log",
    )


def _curl_speaks_http2() -> bool:
    if not shutil.which("curl"):
        return False
    version = subprocess.run(["curl", "-V"], capture_output=True, text=True, check=True)
    return "HTTP2" in version.stdout


def curl(url: str) -> list[str]:
    """Give all lines that curl shows of an answer: heads, body and trailers."""
    options = ("-sSi", "--http2-prior-knowledge", "--max-time", "20")
    command = ["curl", *options, "--header", "TE: trailers", url]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.strip() for line in ended.stdout.splitlines()]


@pytest.mark.skipif(not _curl_speaks_http2(), reason="there is no curl with HTTP/2")
@on(*WITH_HINTS)
@pytest.mark.usefixtures("quiet")
def test_curl_shows_hints_and_trailers(site: Site) -> None:
    hinted = curl(f"{site.server.url}/hints")
    assert [line for line in hinted if line.startswith(("HTTP/", "link:"))] == [
        *("HTTP/2 103", f"link: {STYLE}"),
        *("HTTP/2 103", f"link: {SCRIPT}"),
        "HTTP/2 200",
    ]
    # The body has no line break at its end.
    assert curl(f"{site.server.url}/known-trailers")[-2:] == [
        "hellox-sum: 1",
        "server-timing: total;dur=5",
    ]


# Where neither is offered.


def connect(name: str, port: int) -> Connection:
    if name == "granian-http2":
        return Http2Connection(port)
    return Http1Connection(port)


@pytest.mark.parametrize("name", [*SERVERS, "granian-http2"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/keys", b""),
        ("/hints", b"hello"),
        ("/trailers", b"hello"),
        ("/trailers?length=5", b"hello"),
        ("/known-trailers", b"hello"),
    ],
)
def test_server_that_offers_neither_gets_the_plain_response(
    find: Callable[[str], Site], name: str, path: str, body: bytes
) -> None:
    server = find(name.removesuffix("-http2")).server
    before = server.log_size()
    with connect(name, server.port) as connection:
        connection.start("GET", path, [TE])
        head = connection.read_head()
        assert read_body(connection) == body

    assert (head.status, head.interim) == (200, [])
    assert (head.get("trailer"), head.get("link")) == (None, None)
    if "trailers" not in path or "length" in path:
        assert head.get("content-length") == str(len(body))
    assert not COMPLAINT.search(server.log(before))
