"""Error budgets: how many misses a target allows, how many there were, and how fast they came (docs/metrics.md, SLO).

Burn rates and their pairs of windows are those of the Site Reliability Workbook (Beyer et al., 2018, chapter 5),
whose budget lasts 30 days; here it lasts the measurement window, and the pairs shrink in proportion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slobench.metrics.columns import BoolArray, IntArray
from slobench.metrics.summary import BurnPair, ErrorBudget, Estimate
from slobench.metrics.window import Window
from slobench.stats.quantiles import FloatArray
from slobench.units import format_s

MONTH_S = 30 * 86400.0
PAIRS = ((14.4, 3600.0, 300.0), (6.0, 6 * 3600.0, 1800.0), (1.0, 3 * 86400.0, 6 * 3600.0))
LEAST_E2E = 30.0  # a window this many mean E2E long is nearly independent of the next
LEAST_REQUESTS = 50
POINTS = 120


@dataclass(frozen=True, slots=True)
class _Misses:
    """Requests that count against a target, in order of their scheduled time."""

    at_s: FloatArray
    before: IntArray  # misses among the first k, one value more than at_s
    allowed: float  # share that may miss
    window: Window
    least_s: float  # shortest window of which a burn is given

    def burn(self, width_s: float, ends_s: FloatArray) -> FloatArray:
        """Burn rate in (end - width, end] for each end; NaN with too few requests, or before the window began."""
        low = np.searchsorted(self.at_s, ends_s - width_s, side="right")
        high = np.searchsorted(self.at_s, ends_s, side="right")
        n = high - low
        full = (ends_s - width_s >= self.window.start_s - 1e-9) & (n >= LEAST_REQUESTS)
        share = (self.before[high] - self.before[low]) / np.maximum(n, 1)
        return np.where(full, share / self.allowed, np.nan)


def budget(
    objective: str,
    target: float,
    missed: BoolArray,
    counted: BoolArray,
    at_s: FloatArray,
    window: Window,
    seen: Estimate,
) -> ErrorBudget:
    """Spend the budget 1 - target on the counted requests of the window.

    missed, counted, at_s: one value per request; seen: the estimate of the share that did not miss.
    """
    n, misses = int(counted.sum()), int((missed & counted).sum())
    allowed = 1 - target
    if allowed <= 1e-12 or n == 0:
        why = "no request was judged" if n == 0 else "a target of 100 % leaves no budget"
        return ErrorBudget(objective, target, misses, 0.0, Estimate(None, n=n, note=why))
    order = np.argsort(at_s[counted], kind="stable")
    before = np.concatenate([[0], np.cumsum(missed[counted][order])]).astype(np.int64)
    least = LEAST_E2E * (window.mean_e2e_s or 0.0)
    held = _Misses(at_s[counted][order], before, allowed, window, least)
    width = min(max(window.length_s / 10, least, LEAST_REQUESTS * window.length_s / n), window.length_s)
    ends = np.linspace(window.start_s + width, window.end_s, POINTS) if width < window.length_s else np.empty(0)
    curve = held.burn(width, ends)
    return ErrorBudget(
        objective=objective,
        target=target,
        misses=misses,
        allowed=allowed * n,
        used=_used(seen, allowed),
        width_s=width,
        at_s=tuple(float(x) for x in ends),
        burn=tuple(None if math.isnan(x) else float(x) for x in curve),
        pairs=tuple(_pairs(held)),
        note="" if len(ends) else f"insufficient: {_too_short(held, window.length_s) or _too_few(window.length_s)}",
    )


def _used(seen: Estimate, allowed: float) -> Estimate:
    """Share of the budget that is spent: 1 where all of it is."""
    if seen.value is None:
        return seen
    low = None if seen.high is None else (1 - seen.high) / allowed
    high = None if seen.low is None else (1 - seen.low) / allowed
    return Estimate((1 - seen.value) / allowed, low, high, seen.n, seen.n_eff, seen.design_effect, seen.note)


def _pairs(held: _Misses) -> Iterator[BurnPair]:
    """Each pair of windows at the moment when both burned fastest: an alarm needs both."""
    scale = held.window.length_s / MONTH_S
    for factor, long, short in PAIRS:
        long_s, short_s = long * scale, short * scale
        why = _too_short(held, short_s)
        both = np.empty(0) if why else np.minimum(held.burn(long_s, held.at_s), held.burn(short_s, held.at_s))
        if not why and np.all(np.isnan(both)):
            why = _too_few(short_s)
        if why:
            yield BurnPair(factor, long_s, short_s, None, None, None, f"insufficient: {why}")
            continue
        at = int(np.nanargmax(both))
        worst = float(both[at])
        yield BurnPair(factor, long_s, short_s, worst > factor, worst, float(held.at_s[at]))


def _too_short(held: _Misses, short_s: float) -> str:
    if short_s >= held.least_s:
        return ""
    return f"{format_s(short_s)} is less than 30 mean E2E ({format_s(held.least_s)})"


def _too_few(width_s: float) -> str:
    return f"fewer than {LEAST_REQUESTS} requests in {format_s(width_s)}"
