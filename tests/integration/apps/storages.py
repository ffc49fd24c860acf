"""Servers of files that are WSGI applications: WebDAV, and git repositories."""

import atexit
import os
from pathlib import Path
from typing import Any

from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain
from wsgidav.wsgidav_app import WsgiDAVApp  # type: ignore[import-untyped]

from wsgi_asgi import WsgiToAsgi

DIRECTORY = Path(os.environ.get("INTEGRATION_DIRECTORY", "."))

# Where each keeps what it is given.
DAV = "dav"
REPOSITORY = "repository.git"


def make_dav() -> Any:
    folder = DIRECTORY / DAV
    folder.mkdir(exist_ok=True)
    return WsgiDAVApp(
        {
            "provider_mapping": {"/": str(folder)},
            "simple_dc": {"user_mapping": {"*": True}},
            "logging": {"enable": False},
        }
    )


def make_git() -> Any:
    folder = DIRECTORY / REPOSITORY
    repository: Any = (
        Repo(folder) if folder.exists() else Repo.init_bare(folder, mkdir=True)
    )
    atexit.register(repository.close)  # else it complains when the process ends
    return make_wsgi_chain(DictBackend({"/": repository}))


dav_app = WsgiToAsgi(make_dav())
git_app = WsgiToAsgi(make_git())
