"""WebSockets of a page in Chromium."""

import json
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from conformance.live.polling import wait_until
from tests.integration.websocket_site import Site, serving

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium is not installed"),
]

SERVERS = ("uvicorn-websockets", "uvicorn-sansio", "hypercorn", "granian")
ARGUMENTS = (
    "--headless=new",
    # Its sandbox refuses to be root's.
    "--no-sandbox",
    # Some containers give shared memory too little room.
    "--disable-dev-shm-usage",
    # It asks nobody but the server.
    *("--disable-background-networking", "--no-proxy-server"),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    profile = tmp_path_factory.mktemp("profile")
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    # With a driver that is there, Selenium does not look for one to download.
    with Chrome(options, Service(str(DRIVER))) as browser:
        yield browser


@pytest.fixture(scope="module", params=SERVERS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with serving(request.param, tmp_path_factory.mktemp("browser")) as site:
        yield site
        site.wait_until_idle()
        assert not site.faults()


def address(site: Site, path: str, **options: str | list[str]) -> str:
    """Give the page's address, which says what it is to do."""
    query = urlencode({"path": path, **options}, doseq=True)
    return f"{site.server.url}/browser?{query}"


def visit(browser: Chrome, address: str) -> dict[str, Any]:
    """Open the page, and give what it has seen when its WebSocket is over."""
    browser.get(address)
    WebDriverWait(browser, 10).until(lambda browser: browser.title == "over")
    story: dict[str, Any] = json.loads(browser.find_element(By.TAG_NAME, "pre").text)
    return story


@pytest.mark.parametrize(
    ("path", "protocols", "chosen"),
    [
        pytest.param("/sock/echo", [], "", id="flask-sock"),
        pytest.param("/sock/echo", ["chat.v0", "chat.v1"], "chat.v1", id="subprotocol"),
        pytest.param("/ping/echo", [], "", id="flask-sock with pings"),
        pytest.param("/messages/echo", [], "", id="wsgi.websocket"),
    ],
)
def test_page_exchanges_text_and_bytes_and_closes(
    browser: Chrome, site: Site, path: str, protocols: list[str], chosen: str
) -> None:
    assert visit(browser, address(site, path, protocol=protocols)) == {
        "protocol": chosen,
        "heard": [
            "text é 😀",
            {"size": 3, "last": [0, 128, 255]},
            {"size": 100_000, "last": [7, 7, 7]},
        ],
        "failed": False,
        "code": 3001,
        "reason": "enough",
        "wasClean": True,
    }


CLOSING = pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        pytest.param("/sock/bye", 4001, "bye", id="flask-sock"),
        pytest.param("/messages/bye", 4003, "so long", id="wsgi.websocket"),
        pytest.param("/sock/fail", 1011, "", id="view failed"),
    ],
)


@CLOSING
def test_silent_page_sees_the_close_code_of_the_application(
    browser: Chrome, site: Site, path: str, code: int, reason: str
) -> None:
    story = visit(browser, address(site, path, silent="yes"))
    assert (story["code"], story["reason"]) == (code, reason)
    assert story["wasClean"] or site.lacks("patience")


@CLOSING
def test_page_that_is_sending_sees_the_close_code_of_the_application(
    browser: Chrome, site: Site, path: str, code: int, reason: str
) -> None:
    if site.lacks("patience"):
        pytest.skip("the server ends the connection, whatever the client has to say")
    story = visit(browser, address(site, path))
    # That it was clean is more than Chromium promises to pages that are sending.
    assert (story["code"], story["reason"]) == (code, reason)


def test_page_that_is_refused_sees_that_it_failed(browser: Chrome, site: Site) -> None:
    story = visit(browser, address(site, "/sock/forbidden"))
    # Pages are told no more than that, whatever the status was.
    assert story["failed"]
    assert story["protocol"] is None
    assert (story["code"], story["wasClean"]) == (1006, False)


def test_page_that_is_closed_frees_the_thread(browser: Chrome, site: Site) -> None:
    first = browser.current_window_handle
    # A page that is only left may be kept, its WebSocket open, for the way back.
    browser.switch_to.new_window("tab")
    browser.get(address(site, "/messages/code"))
    wait_until(lambda: site.stat("websockets") == 1, "the page has its WebSocket")
    browser.close()
    browser.switch_to.window(first)
    site.wait_until_idle()
    code = 1006 if site.lacks("the client's close code") else 1001  # going away
    assert site.get("/last-close") == repr([(code, "")]).encode()
