"""Estimates with intervals that allow for the dependence of requests in one run (docs/metrics.md, Intervals)."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slobench.metrics.columns import BoolArray, IntArray
from slobench.metrics.summary import Estimate
from slobench.metrics.window import BATCHES
from slobench.stats.effective import design_effect
from slobench.stats.intervals import exact_binomial, expit, logit, student_interval
from slobench.stats.jackknife import Grouped, jackknife_t, standard_error
from slobench.stats.quantiles import FloatArray, rank

LONG_IN_E2E = 30.0  # a window this many mean E2E long is nearly independent of the next
FEW_MISSES = 5
QUANTILES = {"p1": 0.01, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


@dataclass(frozen=True, slots=True)
class Windows:
    """Which of the run's contiguous windows each value belongs to.

    of: one number in [0, count) per request. optimistic: the windows are shorter than 30 x mean E2E, so what is
    left of their dependence makes intervals too narrow.
    """

    of: IntArray
    count: int
    optimistic: bool


def split(batch: IntArray, lengths_of_e2e: float) -> Windows:
    """Ten contiguous windows of a run that is so many mean E2E long."""
    return Windows(batch, BATCHES, lengths_of_e2e < BATCHES * LONG_IN_E2E)


def share(good: BoolArray, counted: BoolArray, windows: Windows, risk: FloatArray | None = None) -> Estimate:
    """Estimate a share of requests, with a 95 % interval: jackknife-t on the logit scale, or the exact binomial.

    good, counted: one value per request. With under 5 misses (or under 5 hits) the exact binomial at n_eff.
    The design effect is also taken from requests that came close, by their `risk` (value/limit), twice as many as
    missed, or with under 5 misses a tenth: misses too few to show their own dependence are worth no more than those.
    """
    n = int(counted.sum())
    if n == 0:
        return Estimate(None)
    hits = np.bincount(windows.of[counted & good], minlength=windows.count)
    sizes = np.bincount(windows.of[counted], minlength=windows.count)
    value = int(hits.sum()) / n
    own = design_effect(hits, sizes)
    rare = min(int(hits.sum()), n - int(hits.sum())) < FEW_MISSES
    close = None if risk is None else _effect_of_risk(risk, counted, windows, 0.9 if rare else _nearer(value))
    effect = _larger(own, close)
    notes = ["optimistic"] if windows.optimistic else []
    if np.any(sizes == 0) or (rare and effect is None):
        return Estimate(value, n=n, n_eff=n / effect if effect else None, design_effect=effect, note="no interval")
    n_eff = n / effect if effect else float(n)
    if rare:
        low, high = exact_binomial(value * n_eff, n_eff)
    else:
        low, high = _share_interval(value, hits, sizes, effect or 1.0)
    return Estimate(value, min(low, value), max(high, value), n, n_eff, effect, ", ".join(notes))


def _share_interval(
    centre: float, hits: NDArray[np.integer], sizes: NDArray[np.integer], effect: float
) -> tuple[float, float]:
    """Interval for a share: jackknife-t on the logit scale, its error that of n / `effect` requests at least."""
    n = int(sizes.sum())
    p = int(hits.sum()) / n
    without = np.clip((hits.sum() - hits) / (n - sizes), 1 / (2 * n), 1 - 1 / (2 * n))
    error = standard_error(np.array([logit(x) for x in without])) * math.sqrt(
        effect / (design_effect(hits, sizes) or 1)
    )
    # where windows happen to be more alike than independent requests are, the latter's error is the least
    error = max(error, math.sqrt(effect / (n * p * (1 - p))))
    low, high = student_interval(logit(centre), error, len(sizes) - 1)
    return expit(low), expit(high)


def _nearer(q: float) -> float:
    """The quantile with twice as many values beyond it as the q-quantile has, or the median.

    Ten windows seldom hold enough of the rare, clustered events beyond a quantile to show how clustered they are, and
    a run that missed a bad spell shows too little spread besides. Events twice as frequent are clustered as much and
    show it better, so the larger of the two design effects counts (docs/decisions/040-design-effect.md).
    """
    return min(2 * q, 0.5) if q < 0.5 else max(2 * q - 1, 0.5)


def _effect_of_risk(risk: FloatArray, counted: BoolArray, windows: Windows, q: float) -> float | None:
    known = counted & ~np.isnan(risk)
    if not known.any():
        return None
    grouped = Grouped.sort(risk[known], windows.of[known], windows.count)
    return design_effect(grouped.above(grouped.quantile(q)), grouped.sizes)


def _larger(own: float | None, other: float | None) -> float | None:
    return max((x for x in (own, other) if x is not None), default=None)


def latency_table(
    values: FloatArray, windows: Windows, quantiles: Mapping[str, float] = QUANTILES, *, intervals: bool = True
) -> dict[str, Estimate]:
    """Mean, min, quantiles and max of the values that exist; +inf is a failure.

    Quantiles are pooled inverse-ECDF values; their intervals come from that of the share of values up to them, the
    mean's is delete-one-window jackknife-t on the log scale. Each quantile has the n_eff and design effect of its own
    indicator, or of a nearer quantile (`_nearer`) where that is larger. intervals False: values and n only.
    """
    known = ~np.isnan(values)
    if not known.all():
        values, windows = values[known], replace(windows, of=windows.of[known])
    if not len(values):
        return {}
    if not intervals or len(values) < 2 * windows.count:
        return _values_only(np.sort(values), quantiles)
    grouped = Grouped.sort(values, windows.of, windows.count)
    if np.any(grouped.sizes == 0):
        return _values_only(grouped.values, quantiles)
    return table_of(grouped, quantiles, optimistic=windows.optimistic)


def table_of(grouped: Grouped, quantiles: Mapping[str, float], *, optimistic: bool) -> dict[str, Estimate]:
    """Work out the `latency_table` of values that are sorted already, of which every window has some."""
    n = len(grouped.values)
    table = {"mean": _mean(grouped, optimistic=optimistic), "min": Estimate(float(grouped.values[0]), n=n)}
    for name, q in quantiles.items():
        table[name] = _quantile(grouped, q, optimistic=optimistic)
    return {**table, "max": Estimate(float(grouped.values[-1]), n=n)}


def _values_only(ascending: FloatArray, quantiles: Mapping[str, float]) -> dict[str, Estimate]:
    n = len(ascending)
    at = {"min": 0, **{name: rank(n, q) for name, q in quantiles.items()}, "max": n - 1}
    return {
        "mean": Estimate(float(ascending.mean()), n=n),
        **{name: Estimate(float(ascending[k]), n=n) for name, k in at.items()},
    }


def _mean(grouped: Grouped, *, optimistic: bool) -> Estimate:
    n = len(grouped.values)
    value = float(grouped.values.mean())
    if not math.isfinite(value):
        return Estimate(value, n=n)
    sums = grouped.sums
    low, high = _on_scale(value, (sums.sum() - sums) / (n - grouped.sizes))
    variance = grouped.variance
    varies = grouped.values[-1] - grouped.values[0] > 1e-9 * abs(value)  # else it is rounding
    k = grouped.groups
    spread = k / (k - 1) * float(np.sum((sums - value * grouped.sizes) ** 2)) / n**2
    effect = max(spread * n / variance, 1.0) if varies else None
    return Estimate(value, low, high, n, n / effect if effect else None, effect, "optimistic" if optimistic else "")


def _quantile(grouped: Grouped, q: float, *, optimistic: bool) -> Estimate:
    n = len(grouped.values)
    value = grouped.quantile(q)
    above = grouped.above(min(value, sys.float_info.max))
    own = design_effect(above, grouped.sizes)
    effect = _larger(own, design_effect(grouped.above(grouped.quantile(_nearer(q))), grouped.sizes))
    n_eff = n / effect if effect else None
    notes = [] if n_eff is None or n_eff * (1 - q) >= 10 else ["thin" if n_eff * (1 - q) >= 1 else "very thin"]
    if not math.isfinite(value):
        return Estimate(value, n=n, n_eff=n_eff, design_effect=effect, note=", ".join(notes))
    low, high = _quantile_interval(grouped, q, above, effect)
    notes += ["optimistic"] if optimistic else []
    return Estimate(value, low, high, n, n_eff, effect, ", ".join(notes))


def _quantile_interval(
    grouped: Grouped, q: float, above: NDArray[np.integer], effect: float | None
) -> tuple[float | None, float | None]:
    """Values between which the q-quantile lies: where the share of values up to x can be q, by its own interval.

    So a percentile and the attainment of a limit at it say the same (Woodruff, JASA 47, 1952). Where a bound would be
    beyond the most extreme value, the jackknife-t of the quantile itself on the log scale may carry it further.
    """
    n = len(grouped.values)
    value = grouped.quantile(q)
    if effect is None or not 0 < above.sum() < n:
        return _on_scale(value, grouped.quantile_without_each(q))
    below, beyond = _share_interval(q, grouped.sizes - above, grouped.sizes, effect)
    low, high = grouped.quantile(below), grouped.quantile(beyond)
    if not math.isfinite(high):
        return None, None  # a latency or a failure: the run cannot tell
    if n * below < 1 or n * (1 - beyond) < 1:
        least, most = _on_scale(value, grouped.quantile_without_each(q))
        low, high = min(low, low if least is None else least), max(high, high if most is None else most)
    return min(low, value), max(high, value)


def _on_scale(value: float, without: FloatArray) -> tuple[float | None, float | None]:
    """Jackknife interval on the log scale, where all values are positive and finite; else on their own."""
    if not np.all(np.isfinite(without)):
        return None, None  # a window decides between a latency and a failure
    to, back = _scale_of(min(value, float(without.min())))
    low, high = jackknife_t(to(value), np.array([to(x) for x in without]))
    return min(back(low), value), max(back(high), value)


def _scale_of(smallest: float) -> tuple[Callable[[float], float], Callable[[float], float]]:
    if smallest > 0:
        return math.log, lambda x: math.exp(min(x, 700.0))
    return float, float


def noted(estimate: Estimate, note: str) -> Estimate:
    """Return the same estimate with words added to its note."""
    return replace(estimate, note=", ".join(x for x in (estimate.note, note) if x))
