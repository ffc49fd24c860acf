"""The shapes that cross between the server, the adapter and the application.

WSGI's own types come from `wsgiref.types`. ASGI scopes and messages are typed
loosely, as mappings, because servers and frameworks each have TypedDicts of
their own and a mount must accept them all.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any

from typing_extensions import TypeAliasType

__all__ = ["ASGIApp", "ExcInfo", "Message", "Receive", "Scope", "Send"]

Scope = TypeAliasType("Scope", MutableMapping[str, Any])
Message = TypeAliasType("Message", MutableMapping[str, Any])
Receive = TypeAliasType("Receive", Callable[[], Awaitable[Message]])
Send = TypeAliasType("Send", Callable[[Message], Awaitable[None]])
ASGIApp = TypeAliasType("ASGIApp", Callable[[Scope, Receive, Send], Awaitable[None]])

ExcInfo = TypeAliasType(
    "ExcInfo",
    tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None],
)
