"""Early hints and trailers. Run: hypercorn examples.hints_and_trailers:app"""

import hashlib
from collections.abc import Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

from wsgi_asgi import WsgiToAsgi


def report(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    if early_hints := environ.get("wsgi.early_hints"):
        early_hints([("Link", "</report.css>; rel=preload; as=style")])
    send_trailers = environ.get("wsgi_asgi.send_trailers", lambda fields: None)
    send_trailers([])  # there will be some
    start_response("200 OK", [("Content-Type", "text/csv")])
    checksum = hashlib.sha256()
    for number in range(3):
        row = b"%d,%d\n" % (number, number**2)
        checksum.update(row)
        yield row
    send_trailers([("X-Checksum", checksum.hexdigest())])


app = WsgiToAsgi(report)
