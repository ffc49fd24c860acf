"""The checks, in groups: one module each, and in it one function for each check.

A check makes a WSGI application, has the adapter under test serve it, and looks at
what came out on either side. It fails by raising `conformance.checking.Failed`, with
what was seen in words that a user of the adapter understands.
"""

from collections.abc import Mapping
from importlib import import_module

from conformance.checking import Check, registered

__all__ = ["GROUPS", "load_checks"]

GROUPS = {
    "environ": "the environ that the application gets",
    "body": "the request body, wsgi.input",
    "start_response": "start_response() and write()",
    "iterable": "the response body that the application returns",
    "messages": "messages, disconnects, lifespan, extensions",
    "websocket": "WebSocket scopes",
    "threads": "threads, contexts and loops",
    "security": "what must not get through",
    "errors": "errors of the application and of the server",
}


def load_checks() -> Mapping[str, Check]:
    """Import all checks; by name, in their order."""
    for group in GROUPS:
        import_module(f"conformance.checks.{group}")
    return registered()
