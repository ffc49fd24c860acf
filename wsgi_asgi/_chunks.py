"""What waits to be sent, in as few messages as its bytes are worth."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import cast

from wsgi_asgi._types import Message

__all__ = ["body_message", "join_chunks"]

# Chunks up to this size are joined where they wait together. Copying larger ones
# would cost more than the messages that it spares.
SMALL_BYTES = 4096


def join_chunks(items: Sequence[Message | bytes]) -> list[Message]:
    """Make messages of what waits together, and few of many small chunks.

    Args:
        items: Messages, and chunks that have more to follow.

    >>> end = {"type": "http.response.body", "body": b"", "more_body": False}
    >>> join_chunks([b"a", b"b", end])
    [{'type': 'http.response.body', 'body': b'ab', 'more_body': False}]
    """
    messages: list[Message] = []
    for kind, group in groupby(items, type):
        if kind is bytes:
            chunks = list(cast("Iterator[bytes]", group))
            messages += [body_message(data, more=True) for data in _joined(chunks)]
        else:
            for message in cast("Iterator[Message]", group):
                _append(messages, message)
    return messages


def _joined(chunks: list[bytes]) -> list[bytes]:
    """Join chunks that follow each other where they are small."""
    if len(chunks) == 1:
        return chunks
    if max(map(len, chunks)) <= SMALL_BYTES:
        return [b"".join(chunks)]
    joined: list[bytes] = []
    for small, group in groupby(chunks, lambda chunk: len(chunk) <= SMALL_BYTES):
        run = list(group)
        joined += [b"".join(run)] if small else run
    return joined


def _append(messages: list[Message], message: Message) -> None:
    """Append a message, or join it with the chunks before it."""
    body = message.get("body")
    if messages and body is not None and len(body) <= SMALL_BYTES:
        before = messages[-1].get("body")
        if before is not None and (not body or len(before) <= SMALL_BYTES):
            messages[-1] = {**message, "body": before + body}
            return
    messages.append(message)


def body_message(data: bytes, *, more: bool) -> Message:
    """Make the ASGI message of a chunk."""
    return {"type": "http.response.body", "body": data, "more_body": more}
