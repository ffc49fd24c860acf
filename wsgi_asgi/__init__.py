"""Run an unmodified WSGI application under any ASGI server.

    from wsgi_asgi import WsgiToAsgi
    from myproject.wsgi import application

    app = WsgiToAsgi(application)

`_adapter` tells scopes apart. An HTTP request is served by `_http`, which joins
`_environ` (scope to environ), `_body` (messages to a file: `_input` if it streams,
`_spool` if it is received whole), `_response` (what the application did to messages)
and `_bridge` (a task on the loop and a thread of `_pool`, joined). `_environ` and
`_response` are pure, and only `_port` and `_trio` know an event loop.
"""

from wsgi_asgi._adapter import WsgiToAsgi
from wsgi_asgi._errors import ClientDisconnected, WebSocketError
from wsgi_asgi._limits import Limits, Stats

__all__ = ["ClientDisconnected", "Limits", "Stats", "WebSocketError", "WsgiToAsgi"]
