"""Chunks that wait together become few messages."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsgi_asgi._chunks import (
    JOINED_BYTES,
    SMALL_BYTES,
    join_chunks,
    join_list,
    split_chunks,
)

SMALL, LARGE = SMALL_BYTES, SMALL_BYTES + 1
JOINED = JOINED_BYTES

# No clock and no chance: the same examples in each run.
PROFILE = settings(derandomize=True, deadline=None)

# What the thread has put out.


@pytest.mark.parametrize(
    ("sizes", "last", "expected"),
    [
        pytest.param([1, 2, 3], 0, [6], id="small ones"),
        pytest.param([1, 2], 3, [6], id="small ones to the last"),
        pytest.param([SMALL, SMALL], 0, [2 * SMALL], id="just small"),
        pytest.param([SMALL, SMALL], 1, [2 * SMALL, 1], id="joined before the last"),
        pytest.param([LARGE, LARGE], 0, [LARGE, LARGE], id="large ones"),
        pytest.param([LARGE], 1, [LARGE, 1], id="a small one after a large one"),
        pytest.param([1, 2], LARGE, [3, LARGE], id="a large one after small ones"),
        pytest.param([1, 2, LARGE, 3, 4], 5, [3, LARGE, 12], id="a large one between"),
        pytest.param([], 5, [5], id="the last alone"),
    ],
)
def test_join_chunks_joins_small_ones_and_keeps_the_order(
    sizes: list[int], last: int, expected: list[int]
) -> None:
    *chunks, end = (bytes([at]) * size for at, size in enumerate([*sizes, last]))
    start = {"type": "http.response.start", "status": 200, "headers": []}
    complete = {"type": "http.response.body", "body": end, "more_body": False}
    first, *messages = join_chunks([start, *chunks, complete])
    assert first is start
    assert [len(message["body"]) for message in messages] == expected
    assert b"".join(message["body"] for message in messages) == b"".join(chunks) + end
    assert [message["more_body"] for message in messages].index(False) + 1 == len(
        messages
    )


def test_join_chunks_without_the_end_leaves_more_to_come() -> None:
    assert join_chunks([b"a", b"b"]) == [
        {"type": "http.response.body", "body": b"ab", "more_body": True}
    ]


# A body that is there at once.


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        pytest.param([], [], id="none"),
        pytest.param([0, 0], [], id="empty ones"),
        pytest.param([1, 0, 2, 3], [6], id="small ones"),
        pytest.param([SMALL] * 16, [JOINED], id="just one piece"),
        pytest.param([SMALL] * 17, [JOINED, SMALL], id="more than a piece"),
        pytest.param([1] + [SMALL] * 16, [JOINED - SMALL + 1, SMALL], id="cut before"),
        pytest.param([LARGE], [LARGE], id="a large one"),
        pytest.param([LARGE, LARGE], [LARGE, LARGE], id="large ones"),
        pytest.param([1, 2, LARGE, 3, 4], [3, LARGE, 7], id="a large one between"),
        pytest.param([LARGE, 1, 0, LARGE], [LARGE, 1, LARGE], id="a small one between"),
        pytest.param([LARGE, 0, LARGE], [LARGE, LARGE], id="an empty one between"),
        pytest.param(
            [1, LARGE] + [SMALL] * 17, [1, LARGE, JOINED, SMALL], id="counted anew"
        ),
    ],
)
def test_join_list_joins_small_ones_and_keeps_the_order(
    sizes: list[int], expected: list[int]
) -> None:
    chunks = [bytes([at]) * size for at, size in enumerate(sizes)]
    joined = join_list(chunks)
    assert [len(piece) for piece in joined] == expected
    assert b"".join(joined) == b"".join(chunks)
    assert join_list(tuple(chunks)) == joined
    assert all(
        any(chunk is one for one in joined) for chunk in chunks if len(chunk) > SMALL
    )


@PROFILE
@given(sizes=st.lists(st.sampled_from([0, 1, 100, SMALL, LARGE, JOINED]), max_size=60))
def test_join_list_of_any_sizes_keeps_all_bytes_within_the_bound(
    sizes: list[int],
) -> None:
    chunks = [bytes([at]) * size for at, size in enumerate(sizes)]
    joined = join_list(chunks)
    assert b"".join(joined) == b"".join(chunks)
    assert all(0 < len(piece) <= JOINED for piece in joined)
    # No two are left that could have been joined.
    large = {id(chunk) for chunk in chunks if len(chunk) > SMALL}
    for one, other in pairwise(joined):
        assert {id(one), id(other)} & large or len(one) + len(other) > JOINED


# What a server gets in small pieces.


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        pytest.param([0, 1, 9, 10], [0, 1, 9, 10], id="none is long"),
        pytest.param([11], [10, 1], id="a byte too long"),
        pytest.param([5, 30, 25, 1], [5, 10, 10, 10, 10, 10, 5, 1], id="some are"),
    ],
)
@pytest.mark.parametrize("more", [False, True], ids=["last", "more"])
def test_split_chunks_keeps_the_bytes_and_what_comes_last(
    sizes: list[int], expected: list[int], more: bool
) -> None:
    bodies = [bytes([at]) * size for at, size in enumerate(sizes)]
    start = {"type": "http.response.start", "status": 200, "headers": []}
    *others, last = ({"type": "http.response.body", "body": body} for body in bodies)
    messages = [start]
    messages += [{**message, "more_body": True} for message in others]
    messages += [{**last, "more_body": more}]
    first, *split = split_chunks(messages, 10)
    assert first is start
    assert [len(message["body"]) for message in split] == expected
    assert b"".join(message["body"] for message in split) == b"".join(bodies)
    assert [message["more_body"] for message in split] == [
        *[True] * (len(split) - 1),
        more,
    ]
