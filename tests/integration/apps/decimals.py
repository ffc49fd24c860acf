"""An application that calculates, in each kind of thread, and sets how precisely."""

import decimal
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from wsgiref.types import StartResponse, WSGIEnvironment

from tests.integration.apps.plain import pause
from wsgi_asgi import WsgiToAsgi

# Makes the context that all requests inherit where a server serves as it imports.
VAT = decimal.Decimal("0.19") * 1


def third() -> bytes:
    return str(decimal.Decimal(1) / 3).encode()


def calculate(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Answer with a third; coarsely, and without an end, where that is asked for."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] != "/coarse":
        return [third()]
    decimal.getcontext().prec = 3
    return coarse() if environ["QUERY_STRING"].startswith("stream") else [third()]


def coarse() -> Iterator[bytes]:
    while True:
        yield third()
        pause()


own_pool = WsgiToAsgi(calculate)
executor = WsgiToAsgi(calculate, executor=ThreadPoolExecutor(4))
thread_sensitive = WsgiToAsgi(calculate, thread_sensitive=True)
