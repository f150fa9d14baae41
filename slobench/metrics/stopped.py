"""Intervals of a run whose end depended on what it showed: they say so, for their level holds for fixed ends only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

from slobench.metrics.ask import Stopped
from slobench.metrics.estimate import noted
from slobench.metrics.summary import Estimate

T = TypeVar("T")


def marked(value: T, how: Stopped) -> T:
    """Return a value with the note `how` beside every interval in it: estimates, and what holds them."""
    return value if not how else _marked(value, how)  # type: ignore[return-value]


def _marked(value: object, how: str) -> object:
    if isinstance(value, Estimate):
        return value if value.low is None and value.high is None else noted(value, how)
    if isinstance(value, Mapping):
        return {key: _marked(item, how) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_marked(item, how) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: _marked(getattr(value, each.name), how) for each in fields(value)})
    return value
