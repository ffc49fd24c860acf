"""Events of AWS through Mangum, some of which do not say how long their body is."""

import asyncio
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import bottle  # type: ignore[import-untyped]
import pytest
from mangum import Mangum

from tests.integration.apps.flask_app import flask
from wsgi_asgi import WsgiToAsgi

FORM = "word=h%C3%A9llo"
FORM_TYPE = "application/x-www-form-urlencoded"

bottle_site = bottle.Bottle()
bottle_site.route("/form", "POST", lambda: {"word": [bottle.request.forms.word]})


def rest_event(path: str, body: str | None, headers: dict[str, str]) -> dict[str, Any]:
    """Make an event of a REST API, whose headers are often without a length."""
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": "POST",
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {
            "identity": {"sourceIp": "192.0.2.1"},
            "stage": "test",
            "protocol": "HTTP/1.1",
        },
        "body": body,
        "isBase64Encoded": False,
    }


def http_event(path: str, body: str | None, headers: dict[str, str]) -> dict[str, Any]:
    """Make an event of an HTTP API, of the second format."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "http": {
                "method": "POST",
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
            },
            "stage": "$default",
        },
        "body": body,
        "isBase64Encoded": False,
    }


@pytest.fixture(autouse=True)
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Have a loop that Mangum finds, as the runtime of AWS has."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


def ask(site: Any, event: dict[str, Any]) -> tuple[int, Any]:
    """Have a function of AWS answer an event with an application."""
    app = WsgiToAsgi(site)
    try:
        answer = Mangum(app)(event, SimpleNamespace())
    finally:
        app.executor.shutdown()
    return answer["statusCode"], json.loads(answer["body"])


@pytest.mark.parametrize("make_event", [rest_event, http_event], ids=["rest", "http"])
@pytest.mark.parametrize("has_length", [True, False], ids=["length", "no length"])
@pytest.mark.parametrize("site", [flask, bottle_site], ids=["flask", "bottle"])
def test_event_with_a_body_reaches_the_framework(
    make_event: Any, has_length: bool, site: Any
) -> None:
    headers = {"host": "localhost", "content-type": FORM_TYPE}
    if has_length:
        headers["content-length"] = str(len(FORM))
    assert ask(site, make_event("/form", FORM, headers)) == (200, {"word": ["héllo"]})


@pytest.mark.parametrize("make_event", [rest_event, http_event], ids=["rest", "http"])
def test_event_without_a_body_has_none(make_event: Any) -> None:
    event = make_event("/form", None, {"host": "localhost", "content-type": FORM_TYPE})
    assert ask(flask, event) == (200, {})
