"""What waits to be sent, in as few messages as its bytes are worth."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, compress, groupby
from typing import cast

from wsgi_asgi._types import Message

__all__ = ["body_message", "join_chunks", "join_list", "split_chunks"]

# Chunks up to this size are joined where they wait together. Copying larger ones
# would cost more than the messages that it spares.
SMALL_BYTES = 4096
# What is made of those at most where very many are there at once: much more than a
# message costs, and little beside what servers hold for a client.
JOINED_BYTES = 65536


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


def join_list(chunks: Sequence[bytes]) -> list[bytes]:
    """Join the small ones among all chunks of a body; any number of them quickly.

    An application may return a list of each line of a report, so nothing here is done
    for each chunk but by functions of the interpreter.

    Args:
        chunks: A list or a tuple.

    Returns:
        Chunks of more than `SMALL_BYTES` as they were, and between them pieces of up
        to `JOINED_BYTES`. None is empty.

    >>> join_list([b"a", b"", b"b"])
    [b'ab']
    """
    sizes = [*map(len, chunks)]
    ends = [*accumulate(sizes)]
    count = len(sizes)
    large = compress(range(count), map(SMALL_BYTES.__lt__, sizes))
    joined: list[bytes] = []
    start = sent = 0  # chunks, and bytes
    for at in chain(large, (count,)):
        while start < at:
            stop = bisect_right(ends, sent + JOINED_BYTES, start, at)
            if piece := b"".join(chunks[start:stop]):
                joined.append(piece)
            start, sent = stop, ends[stop - 1]
        if at < count:
            joined.append(chunks[at])
            start, sent = at + 1, ends[at]
    return joined


def split_chunks(messages: Sequence[Message], most: int) -> list[Message]:
    """Make more messages of those that are long.

    Args:
        messages: Of a response, in order.
        most: Bytes of the longest body.

    >>> split_chunks([body_message(b"abc", more=False)], 2)[1]
    {'type': 'http.response.body', 'body': b'c', 'more_body': False}
    """
    split: list[Message] = []
    for message in messages:
        body = message.get("body", b"")
        starts = range(0, len(body) - most, most)
        split += [body_message(body[at : at + most], more=True) for at in starts]
        last = len(starts) * most
        split.append({**message, "body": body[last:]} if last else message)
    return split


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
