"""Files from real frameworks through real servers."""

import hashlib

import pytest

from conformance.live import reasons
from conformance.live.clients import read_body
from conformance.live.polling import wait_until
from tests.integration.apps import payload
from tests.integration.site import Site, peers_except

pytestmark = pytest.mark.integration

NAME = payload.FILE_NAME
ROUTES = {
    "flask send_file": ("flask-files", f"/send_file/{NAME}"),
    "flask send_from_directory": ("flask-files", f"/send_from_directory/{NAME}"),
    "bottle static_file": ("bottle-files", f"/{NAME}"),
    "pyramid FileResponse": ("pyramid-files", f"/{NAME}"),
    "whitenoise": ("whitenoise-files", f"/{NAME}"),
    "django FileResponse": ("django", f"/opened/{NAME}"),
    "django storage": ("django", f"/stored/{NAME}"),
}
# Django leaves ranges to other servers.
WITH_RANGES = {
    name: route for name, route in ROUTES.items() if not name.startswith("django")
}

each_route = pytest.mark.parametrize(("app", "path"), ROUTES.values(), ids=list(ROUTES))
each_range = pytest.mark.parametrize(
    ("app", "path"), WITH_RANGES.values(), ids=list(WITH_RANGES)
)


@pytest.fixture(scope="module")
def content() -> bytes:
    return b"".join(payload.blocks(payload.FILE_BYTES))


def assert_is_file(body: bytes) -> None:
    assert len(body) == payload.FILE_BYTES
    assert hashlib.sha256(body).hexdigest() == payload.digest(payload.FILE_BYTES)


def wait_until_closed(site: Site, name: str = NAME) -> None:
    """Wait until the process of the applications has a file open nowhere."""
    wait_until(
        lambda: site.get("files", f"/?key={name}").text == "0", f"{name} is closed"
    )


# What the frameworks send.


@each_route
def test_file_arrives_whole(site: Site, app: str, path: str) -> None:
    response = site.get(app, f"{path}?key={site.key}")

    assert response.status_code == 200
    assert response.headers["content-length"] == str(payload.FILE_BYTES)
    assert_is_file(response.content)
    site.wait_until_idle(app)
    wait_until_closed(site)


@pytest.mark.parametrize(
    ("range_", "expected"),
    [
        pytest.param("0-9", slice(0, 10), id="first bytes"),
        pytest.param("3000000-3500000", slice(3_000_000, 3_500_001), id="middle"),
        pytest.param("2000000-", slice(2_000_000, None), id="to the end"),
        pytest.param("-1000000", slice(-1_000_000, None), id="last bytes"),
    ],
)
@each_range
def test_range_of_a_file_arrives(
    site: Site, app: str, path: str, content: bytes, range_: str, expected: slice
) -> None:
    with site.client(app, {"range": f"bytes={range_}"}) as client:
        response = client.get(path)

    part = content[expected]
    assert response.status_code == 206
    assert response.headers["content-length"] == str(len(part))
    assert response.content == part
    site.wait_until_idle(app)
    wait_until_closed(site)


@each_range
def test_range_beyond_the_end_of_a_file_is_refused(
    site: Site, app: str, path: str
) -> None:
    first = payload.FILE_BYTES
    with site.client(app, {"range": f"bytes={first}-{first + 9}"}) as client:
        response = client.get(path)

    # RFC 9110 14.2 leaves it to the server whether it answers the whole instead.
    assert response.status_code in (416, 200)
    if response.status_code == 200:
        assert_is_file(response.content)
    wait_until_closed(site)


@each_route
def test_head_of_a_file_has_its_length_and_no_body(
    site: Site, app: str, path: str
) -> None:
    with site.client(app) as client:
        response = client.head(path)

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == str(payload.FILE_BYTES)
    wait_until_closed(site)


def test_flask_temporary_file_arrives_whole_each_time(site: Site) -> None:
    """It is deleted as it is closed, before a server could open it by its path."""
    with site.client("flask-files") as client:
        for _ in range(8):
            assert_is_file(client.get("/send_temporary").content)


@each_range
def test_file_that_the_client_has_is_not_sent_again(
    site: Site, app: str, path: str
) -> None:
    with site.client(app) as client:
        modified = client.head(path).headers["last-modified"]
        response = client.get(path, headers={"if-modified-since": modified})

    assert (response.status_code, response.content) == (304, b"")


@pytest.mark.parametrize("path", ["opened", "stored"])
def test_django_has_finished_once_with_the_file_closed(site: Site, path: str) -> None:
    """On the thread of the view, which is where the handler finds the key."""
    response = site.get("django", f"/{path}/{NAME}?key={site.key}")

    assert_is_file(response.content)
    site.wait_for_event("request_finished")
    assert site.journal().count("request_finished") == 1
    assert site.journal().count("file closed") == 1


def test_django_temporary_upload_is_sent_back(site: Site, content: bytes) -> None:
    with site.client("django") as client:
        response = client.post(
            f"/return-upload/?key={site.key}", files={"file": content}
        )

    assert_is_file(response.content)
    assert site.journal().count("file closed") == 1


@peers_except(reasons.DOES_NOT_HOLD_BACK)
def test_django_has_finished_before_a_file_is_out(site: Site) -> None:
    name = payload.LARGE_NAME
    with site.connect() as connection:
        site.start(connection, "django", f"/opened/{name}")
        assert connection.read_head().status == 200
        site.wait_for_event("request_finished")
        assert site.journal().count("file closed") == 1
        assert site.stat("django", "busy") == 0
        # By the adapter or by the server, which have more to send than they can.
        assert site.get("files", f"/?key={name}").text == "1"

        body = read_body(connection)
    assert hashlib.sha256(body).hexdigest() == payload.digest(payload.CHANGED_BYTES)
    assert site.journal().count("request_finished") == 1
    wait_until_closed(site, name)


@peers_except(reasons.DOES_NOT_HOLD_BACK)
def test_django_finishes_after_a_file_without_a_descriptor_is_out(site: Site) -> None:
    with site.connect() as connection:
        site.start(connection, "django", "/in-database/")
        assert connection.read_head().status == 200
        assert site.stat("django", "streams") == 1
        assert "request_finished" not in site.journal()

        body = read_body(connection)
    assert hashlib.sha256(body).hexdigest() == payload.digest(payload.CHANGED_BYTES)
    site.wait_for_event("request_finished")
    site.wait_until_idle("django")
    assert site.journal().count("request_finished") == 1
    assert site.journal().count("file closed") == 1
