"""What no adapter can do on some servers, and why: by the name of the peer."""

__all__ = [
    "BUFFERS_UPLOADS",
    "CONTINUES_BY_ITSELF",
    "DOES_NOT_HOLD_BACK",
    "DROPS_LATE_DATA",
    "GOES_ON_AFTER_A_CANCEL",
    "KEEPS_THE_CUT_OPEN",
    "KILLED",
    "KILLS_WORKERS",
    "NO_EXPECT",
    "NO_PIPELINE",
    "NO_STREAMS",
    "UNREAD",
    "WAITS_FOR_READERS",
]

_HYPERCORN_HTTP1 = ("hypercorn-http1", "hypercorn-trio-http1")
_HYPERCORN_HTTP2 = ("hypercorn-http2", "hypercorn-trio-http2")
_HTTP2 = (*_HYPERCORN_HTTP2, "granian-http2")
_HTTP1 = (
    *("uvicorn-h11", "uvicorn-httptools-uvloop", *_HYPERCORN_HTTP1),
    *("granian-http1", "daphne", "gunicorn"),
)

BUFFERS_UPLOADS = {
    "daphne": "daphne receives the whole body before it calls the application"
}

NO_EXPECT = dict.fromkeys(
    _HTTP2, "Expect is left to HTTP/1.1: h2 clients send the body when they like"
)
CONTINUES_BY_ITSELF = NO_EXPECT | {
    "daphne": "twisted sends 100 Continue before it hands over the request",
    **dict.fromkeys(
        _HYPERCORN_HTTP1,
        "hypercorn sends 100 Continue as soon as it has read the head",
    ),
}

NO_PIPELINE = dict.fromkeys(_HTTP2, "HTTP/2 has streams in the place of pipelines")
NO_STREAMS = dict.fromkeys(_HTTP1, "HTTP/1.1 has no streams that could be reset")

# A KeyError of H2Protocol._handle_events(), which on trio comes out of its nurseries.
DROPS_LATE_DATA = {
    "hypercorn-http2": "hypercorn drops the connection on data for an answered "
    "HTTP/2 stream",
    "hypercorn-trio-http2": "hypercorn on trio ends, with all its connections, on data "
    "for an answered HTTP/2 stream",
}

# Its handle_exception() starts a second response, which raises in its own checker.
KEEPS_THE_CUT_OPEN = {
    "daphne": "daphne leaves the connection open after an error in mid-response",
    "hypercorn-http2": "hypercorn leaves the HTTP/2 stream open after an error in "
    "mid-response",
}

# What happens before and after the adapter, whatever the application.
DOES_NOT_HOLD_BACK = {
    "daphne": "twisted keeps all that a client does not read",
    **dict.fromkeys(
        _HYPERCORN_HTTP2,
        "hypercorn's StreamBuffer.pop() lets send() go on at any piece, however much "
        "the client has yet to read",
    ),
}

KILLED = "its worker is killed after the grace time without a word to the application"
KILLS_WORKERS = dict.fromkeys(("granian-http1", "granian-http2", "gunicorn"), KILLED)

# wait_closed() of the transport comes after the cancellation, and has no bound; on
# trio the sending itself is shielded from it. With HTTP/2 nothing waits in the
# transport, since a client that does not read leaves its window shut.
UNREAD = "hypercorn waits for the client to read, after the grace time too"
WAITS_FOR_READERS = dict.fromkeys(_HYPERCORN_HTTP1, UNREAD)

# Its connection is never told to close, and it waits for that after the grace time.
GOES_ON_AFTER_A_CANCEL = {
    "hypercorn-http2": "hypercorn does not end once it has cancelled an HTTP/2 request "
    "that was not answered yet"
}
