"""Runs each Python block of README.md and docs/, and the examples in docstrings."""

import asyncio
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
from asgiref.typing import ASGIApplication
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers import myst, rest


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Stand in for the reader's own application."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello\n"]


# The projects that the pages speak of, as far as their blocks import them.
PROJECTS: dict[str, dict[str, Any]] = {
    "myproject": {},
    "myproject.wsgi": {"application": hello},
    "mysite": {},
    "mysite.settings": {"SECRET_KEY": "for the docs", "ROOT_URLCONF": "mysite.urls"},
    "mysite.urls": {"urlpatterns": []},
}


def ask(app: ASGIApplication, method: str, path: str, **options: Any) -> httpx.Response:
    """Ask an application one request, in blocks that readers do not see."""

    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # httpx types scopes loosely
        async with httpx.AsyncClient(
            transport=transport, base_url="http://testserver"
        ) as client:
            return await client.request(method, path, **options)

    return asyncio.run(exchange())


def set_up(namespace: dict[str, Any]) -> None:
    """Prepare one page; it is one namespace from top to bottom."""
    namespace.update(ask=ask, ROOT=Path(__file__).parent)
    # Flask(__name__) looks for the file of the module of that name.
    namespace["__name__"] = "myproject"
    for name, contents in PROJECTS.items():
        module = sys.modules[name] = ModuleType(name)
        vars(module).update(contents, __file__=__file__)


def tear_down(namespace: dict[str, Any]) -> None:
    """Forget the projects, and what their settings left behind."""
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    for name in PROJECTS:
        del sys.modules[name]


pages = Sybil(
    parsers=[myst.PythonCodeBlockParser()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=set_up,
    teardown=tear_down,
)
docstrings = Sybil(
    parsers=[rest.DocTestParser()],
    patterns=["wsgi_asgi/*.py"],
    document_types={".py": PythonDocStringDocument},
)

pytest_collect_file = (pages + docstrings).pytest()
