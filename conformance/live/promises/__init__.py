"""The promises, in groups: one module each, and in it one function for each promise.

A promise is kept if its function returns. It fails by raising
`conformance.checking.Failed`, with what was seen in words that a user understands.
"""

from collections.abc import Mapping
from importlib import import_module

from conformance.live.promising import Promise, registered

__all__ = ["GROUPS", "load_promises"]

GROUPS = {
    "answers": "what arrives at either end",
    "connections": "connections that are kept",
    "leaving": "clients that leave",
    "slow": "clients that are slow",
    "uploads": "request bodies on their way",
    "shutdown": "the end of the process",
}


def load_promises() -> Mapping[str, Promise]:
    """Import all promises; by name, in their order."""
    for group in GROUPS:
        import_module(f"conformance.live.promises.{group}")
    return registered()
