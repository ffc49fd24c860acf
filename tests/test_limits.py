"""Limits that can hold are taken; others are refused when they are made."""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from wsgi_asgi import Limits, Stats


def test_limits_by_default_bound_memory_and_streams_but_not_bodies() -> None:
    limits = Limits()
    assert (limits.buffer, limits.body, limits.streams) == (65536, None, 1000)
    assert (limits.websockets, limits.shutdown_timeout) == (1000, 10)


@pytest.mark.parametrize(
    "options",
    [
        {"buffer": 1},
        {"body": 0},
        {"body": None},
        {"streams": 0},
        {"websockets": 0},
        {"shutdown_timeout": 0},
        {"shutdown_timeout": 0.5},
    ],
    ids=str,
)
def test_limits_at_their_edge_are_taken(options: dict[str, Any]) -> None:
    limits = Limits(**options)
    assert {name: getattr(limits, name) for name in options} == options


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_limits_below_zero_are_refused_by_name(name: str) -> None:
    options: dict[str, Any] = {name: -1}
    with pytest.raises(ValueError, match=rf"{name}=-1.*zero or more"):
        Limits(**options)


def test_limits_without_any_buffer_are_refused() -> None:
    with pytest.raises(ValueError, match="buffer=0"):
        Limits(buffer=0)


def test_limits_are_named_and_cannot_be_changed() -> None:
    positional: Any = Limits
    with pytest.raises(TypeError):
        positional(65536)
    limits: Any = Limits(body=5)
    with pytest.raises(FrozenInstanceError):
        limits.body = 6
    assert limits == Limits(body=5) != Limits()


def test_stats_are_a_snapshot_that_cannot_be_changed() -> None:
    numbers = {field.name: number for number, field in enumerate(fields(Stats))}
    stats: Any = Stats(**numbers)
    assert {name: getattr(stats, name) for name in numbers} == numbers
    with pytest.raises(FrozenInstanceError):
        stats.busy = 9
