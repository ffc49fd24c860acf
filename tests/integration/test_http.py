from concurrent.futures import ThreadPoolExecutor

import pytest

from conformance.live.clients import read_body
from conformance.live.http1 import Http1Connection
from tests.integration.site import Site, only_peers

pytestmark = pytest.mark.integration


def test_get_of_a_plain_app_is_answered(site: Site) -> None:
    response = site.get("plain", "/hello")

    assert (response.status_code, response.text) == (200, "hello")
    assert response.headers["content-length"] == "5"
    assert response.headers["content-type"] == "text/plain"


def test_get_reaches_the_app_with_the_protocol_that_was_spoken(site: Site) -> None:
    environ = site.get("plain", "/environ").json()

    expected = "HTTP/2.0" if site.peer.http2 else "HTTP/1.1"
    assert environ["SERVER_PROTOCOL"] == expected
    assert environ["SERVER_PORT"] == str(site.server.port)
    assert environ["REMOTE_ADDR"] == "127.0.0.1"


def test_head_keeps_the_length_and_has_no_body(site: Site) -> None:
    with site.connect() as connection:
        headers = [("x-app", "plain")]
        if isinstance(connection, Http1Connection):
            headers.append(("connection", "close"))
        connection.start("HEAD", "/hello", headers)

        head = connection.read_head()
        body = read_body(connection)
        if isinstance(connection, Http1Connection):
            body += connection.read_stray()

    assert (head.status, head.get("content-length"), body) == (200, "5", b"")


def test_query_with_bytes_outside_ascii_reaches_the_app(site: Site) -> None:
    environ = site.get("plain", "/environ?name=caf%C3%A9&x=%E9").json()

    assert environ["QUERY_STRING"] == "name=caf%C3%A9&x=%E9"


def test_path_in_utf8_reaches_the_app_as_its_bytes(site: Site) -> None:
    environ = site.get("plain", "/environ/café/中文").json()

    assert environ["PATH_INFO"].encode("latin-1").decode() == "/environ/café/中文"


def test_path_that_is_no_utf8_reaches_the_app_as_its_bytes(site: Site) -> None:
    with site.connect() as connection:
        connection.start("GET", "/environ/caf%E9", [("x-app", "plain")])

        assert connection.read_head().status == 200
        body = read_body(connection)

    assert b'"PATH_INFO": "/environ/caf\\u00e9"' in body


def test_cookies_that_the_app_sets_stay_separate(site: Site) -> None:
    response = site.get("plain", "/set-cookies")

    assert response.headers.get_list("set-cookie") == [
        "one=1; Path=/; Expires=Wed, 21 Oct 2099 07:28:00 GMT",
        "two=2; HttpOnly",
        "three=3",
    ]


@pytest.mark.parametrize(
    ("app", "path"), [("flask", "/cookies"), ("django", "/cookies/")]
)
def test_cookies_in_several_fields_reach_the_framework_joined(
    site: Site, app: str, path: str
) -> None:
    with site.connect() as connection:
        fields = [("x-app", app), ("cookie", "a=1"), ("cookie", "b=2; c=3")]
        connection.start("GET", path, fields)

        assert connection.read_head().status == 200
        body = read_body(connection)

    assert body.replace(b" ", b"").strip() == b'{"a":"1","b":"2","c":"3"}'


def test_two_requests_run_at_the_same_time(site: Site) -> None:
    with ThreadPoolExecutor(2) as pool:
        answers = list(
            pool.map(
                lambda _: site.get("plain", f"/meet?key={site.key}").text, range(2)
            )
        )

    assert answers == ["met", "met"]


@only_peers("hypercorn-http2", "granian-http2")
def test_two_requests_on_one_connection_run_at_the_same_time(site: Site) -> None:
    with site.client("plain") as client, ThreadPoolExecutor(2) as pool:
        # The first request opens the connection that the others then share.
        ports = {client.get("/environ").json()["REMOTE_PORT"]}
        answers = pool.map(lambda _: client.get(f"/meet?key={site.key}").text, range(2))

        assert list(answers) == ["met", "met"]
        ports.add(client.get("/environ").json()["REMOTE_PORT"])
    assert len(ports) == 1
