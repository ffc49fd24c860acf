"""WebSockets of a page in Chromium."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import trustme
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from conformance.live.polling import wait_until
from conformance.live.processes import ROOT, tracebacks
from tests.integration.websocket_site import APP, Site, serving

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
    # The certificate is nobody's.
    "--ignore-certificate-errors",
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


def address(base: str, path: str, **options: str | list[str]) -> str:
    """Give the page's address, which says what it is to do."""
    query = urlencode({"path": path, **options}, doseq=True)
    return f"{base}/browser?{query}"


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
    assert visit(browser, address(site.server.url, path, protocol=protocols)) == {
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
    story = visit(browser, address(site.server.url, path, silent="yes"))
    assert (story["code"], story["reason"]) == (code, reason)
    assert story["wasClean"] or site.lacks("patience")


@CLOSING
def test_page_that_is_sending_sees_the_close_code_of_the_application(
    browser: Chrome, site: Site, path: str, code: int, reason: str
) -> None:
    if site.lacks("patience"):
        pytest.skip("the server ends the connection, whatever the client has to say")
    story = visit(browser, address(site.server.url, path))
    # That it was clean is more than Chromium promises to pages that are sending.
    assert (story["code"], story["reason"]) == (code, reason)


def test_page_that_is_refused_sees_that_it_failed(browser: Chrome, site: Site) -> None:
    story = visit(browser, address(site.server.url, "/sock/forbidden"))
    # Pages are told no more than that, whatever the status was.
    assert story["failed"]
    assert story["protocol"] is None
    assert (story["code"], story["wasClean"]) == (1006, False)


def test_page_that_is_closed_frees_the_thread(browser: Chrome, site: Site) -> None:
    first = browser.current_window_handle
    # A page that is only left may be kept, its WebSocket open, for the way back.
    browser.switch_to.new_window("tab")
    browser.get(address(site.server.url, "/messages/code"))
    wait_until(lambda: site.stat("websockets") == 1, "the page has its WebSocket")
    browser.close()
    browser.switch_to.window(first)
    site.wait_until_idle()
    code = 1006 if site.lacks("the client's close code") else 1001  # going away
    assert site.get("/last-close") == repr([(code, "")]).encode()


@pytest.fixture(scope="module")
def secure_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run Hypercorn with TLS, which is what browsers speak HTTP/2 over."""
    directory = tmp_path_factory.mktemp("secure")
    certificate = trustme.CA().issue_cert("127.0.0.1")
    pem = directory / "certificate.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [
            *(sys.executable, "-m", "hypercorn", APP),
            *("--bind", f"fd://{listener.fileno()}"),
            *("--certfile", str(pem), "--keyfile", str(pem)),
        ]
        with (directory / "server.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                pass_fds=[listener.fileno()],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        found = tracebacks((directory / "server.log").read_text())
        # An end in order would wait for Chromium to end its idle connection.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not found


def test_page_speaks_http_2_where_the_server_does(
    browser: Chrome, secure_url: str
) -> None:
    told = visit(browser, address(secure_url, "/messages/protocol", silent="yes"))
    assert told["heard"] == ["HTTP/2.0"]
    assert (told["code"], told["reason"], told["wasClean"]) == (4004, "told", True)
    # On the same connection, which outlives that WebSocket. Hypercorn does not end the
    # stream of one that the page closes; Chromium waits for that for two seconds.
    story = visit(browser, address(secure_url, "/sock/echo"))
    assert (len(story["heard"]), story["code"], story["wasClean"]) == (3, 3001, True)
