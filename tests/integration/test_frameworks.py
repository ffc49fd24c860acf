import re

import pytest

from tests.integration.site import Site, only_peers

pytestmark = pytest.mark.integration


def test_flask_session_lives_across_requests(site: Site) -> None:
    with site.client("flask") as client:
        assert client.get("/session").json() == {"visits": 0}
        client.get("/set-cookies")
        client.get("/set-cookies")

        assert client.get("/session").json() == {"visits": 2}
        assert client.get("/cookies").json().items() >= {"one": "1", "two": "2"}.items()


def test_django_session_lives_across_requests(site: Site) -> None:
    with site.client("django") as client:
        visits = [client.get("/session/").json()["visits"] for _ in range(3)]

    assert visits == [1, 2, 3]


def test_django_cookies_stay_separate(site: Site) -> None:
    with site.client("django") as client:
        response = client.get("/set-cookies/")
        assert len(response.headers.get_list("set-cookie")) == 2

        assert client.get("/cookies/").json() == {"one": "1", "two": "2"}


def test_django_form_with_its_token_is_stored(site: Site) -> None:
    with site.client("django") as client:
        page = client.get("/notes/").text
        found = re.search(
            r'action="(.*?)".*name="csrfmiddlewaretoken" value="(\w+)"', page
        )
        assert found
        action, token = found.groups()
        fields = {"csrfmiddlewaretoken": token, "text": f"café {site.key[:8]}"}

        response = client.post(action, data=fields)

        assert (response.status_code, response.headers["location"]) == (302, "/notes/")
        assert f"<p>café {site.key[:8]}</p>" in client.get("/notes/").text


def test_django_form_without_its_token_is_refused(site: Site) -> None:
    with site.client("django") as client:
        response = client.post("/notes/", data={"text": "stranger"})

        assert response.status_code == 403
        assert "stranger" not in client.get("/notes/").text


def test_django_response_that_reads_the_database_stays_on_one_thread(
    site: Site,
) -> None:
    with site.client("django") as client:
        response = client.get("/rows/")

    assert response.text.splitlines()[-1] == "same thread"


@pytest.mark.parametrize(
    "path",
    ["/where/here", "/stream/?bytes=200000", "/file/", "/rows/"],
    ids=["plain", "stream", "file", "database-stream"],
)
def test_django_finishes_each_request_once_on_its_thread(site: Site, path: str) -> None:
    separator = "&" if "?" in path else "?"
    with site.client("django") as client:
        for number in (1, 2):
            response = client.get(f"{path}{separator}key={site.key}")
            assert response.status_code == 200
            site.wait_for_event("request_finished", number)

    assert site.journal().count("request_finished") == 2


def test_django_finishes_the_request_of_a_client_that_left(site: Site) -> None:
    with site.connect() as connection:
        site.start(connection, "django", "/events/")
        assert connection.read_head().status == 200
        connection.leave()

    site.wait_for_event("request_finished")
    site.wait_until_idle("django")
    assert site.journal().count("request_finished") == 1


@only_peers("uvicorn-h11")
@pytest.mark.parametrize("framework", ["bottle", "pyramid", "falcon"])
def test_framework_answers_get_and_post(site: Site, framework: str) -> None:
    with site.client(framework) as client:
        got = client.get("/greet/café")
        word = {"word": "héllo"}
        if framework == "falcon":
            posted = client.post("/greet/me", json=word)
        else:
            posted = client.post("/greet/me", data=word)

    assert got.json() == {"framework": framework, "name": "café"}
    assert posted.json() == {"framework": framework, "name": "me", "word": "héllo"}
