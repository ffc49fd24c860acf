import gc
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.types import WSGIApplication
from wsgiref.validate import validator

import pytest

from tests.drivers import WAIT_S, MakeAdapter, until
from wsgi_asgi import WsgiToAsgi


@pytest.fixture(scope="session", autouse=True)
def collecting_is_quick() -> Iterator[None]:
    """Keep what is there for the session out of the many collections to come."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    threads = [
        thread
        for thread in set(threading.enumerate()) - before
        if thread.name.startswith("wsgi")
    ]
    for thread in threads:
        thread.join(WAIT_S)
    assert not [thread for thread in threads if thread.is_alive()]


@pytest.fixture
def adapter(caplog: pytest.LogCaptureFixture) -> Iterator[MakeAdapter]:
    """Make adapters; the test fails if one stays busy, or logs what is not expected.

    What is expected, the test looks at in `caplog` and clears. Applications are
    wrapped in wsgiref's validator unless they are bad on purpose.
    """
    adapters: list[WsgiToAsgi] = []

    def make(
        app: WSGIApplication, *, validate: bool = True, **options: Any
    ) -> WsgiToAsgi:
        made = WsgiToAsgi(validator(app) if validate else app, **options)
        adapters.append(made)
        return made

    yield make
    for made in adapters:
        until(lambda: not made.stats().busy, "all threads are free")  # noqa: B023  # called at once
        made.executor.shutdown()
        made._bridge.files.shutdown()
    gc.collect()  # tasks that nobody awaited say so only now
    records = caplog.get_records("call") + caplog.get_records("teardown")
    assert not [record.getMessage() for record in records]
