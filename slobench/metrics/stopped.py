"""Intervals of a run whose end depended on what it showed: their level holds for fixed ends only.

So they say so, and those that a run was stopped for are widened: a run stops when its spread happens to look small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

from slobench.config.until import ATTAINMENT
from slobench.metrics.ask import Ask, Stopped
from slobench.metrics.estimate import FEW_MISSES, noted
from slobench.metrics.summary import Estimate, LatencyTable, SloResult
from slobench.stats.intervals import expit, logit

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


def widened(seen: Estimate, spread: float, seconds: float, *, share: bool = False) -> Estimate:
    """Return an estimate whose interval is no narrower than the widest look would have it after `seconds`.

    spread: the largest relative half-width x sqrt(s) that a look found: the intervals of a steady run shrink by the
    root of its length. On the scale of the interval itself: logit for a share, else log. What it does for coverage is
    measured (docs/validation.md, Stopping rules).
    """
    if seen.value is None or seen.low is None or seen.high is None or not 0 < seen.value < math.inf:
        return seen
    half = (seen.high - seen.low) / 2 / seen.value
    factor = spread / math.sqrt(seconds) / half if half > 0 else 1.0
    if factor <= 1 or seen.low <= 0 or (share and is_rare(seen)):
        return seen
    to, back = (logit, expit) if share else (math.log, math.exp)
    middle = to(seen.value)
    low, high = (back(middle + (to(end) - middle) * factor) for end in (seen.low, seen.high))
    return replace(seen, low=low, high=high)


def is_rare(share: Estimate) -> bool:
    """Whether a share has an exact binomial interval: its width shrinks otherwise, and it covers more than it says."""
    return share.value is None or share.n * min(share.value, 1 - share.value) < FEW_MISSES - 0.5


def table_widened(tables: Mapping[str, LatencyTable], ask: Ask, end_s: float) -> dict[str, LatencyTable]:
    """Widen the quantiles that a run was stopped for; looks were at all classes together."""
    out = dict(tables)
    for name, spread in ask.looked:
        metric, _, quantile = name.partition(":")
        for key in _of_all(tables):
            table = out[key]
            if quantile in table.get(metric, {}):
                seen = widened(table[metric][quantile], spread, end_s)
                out[key] = {**table, metric: {**table[metric], quantile: seen}}
    return out


def _of_all(by_class: Mapping[str, object]) -> set[str]:
    """The keys that stand for all requests: "all", and a class that is the only one."""
    return set(by_class) if len(by_class) == 2 else {"all"} & set(by_class)


def result_widened(results: Mapping[str, SloResult], ask: Ask, end_s: float) -> dict[str, SloResult]:
    """Widen the attainment that a run was stopped for."""
    spread = dict(ask.looked).get(ATTAINMENT)
    if spread is None:
        return dict(results)
    return {
        name: replace(result, attainment=widened(result.attainment, spread, end_s, share=True))
        if name in _of_all(results)
        else result
        for name, result in results.items()
    }
