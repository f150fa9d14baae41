"""Is a series level: a trend test on batch means, and MSER-5 as an alarm for a start-up transient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slobench.stats.quantiles import FloatArray


@dataclass(frozen=True, slots=True)
class Trend:
    """A least-squares line through batch means."""

    slope: float  # per batch
    p: float  # two-sided, of "the slope is 0"
    last_over_first: float  # mean of the last third over mean of the first third


def slope_test(batch_means: FloatArray) -> Trend:
    """Test whether batch means drift: t-test of the least-squares slope, K - 2 degrees of freedom.

    Batches must be long against the correlation of the series; then their means are nearly independent
    and normal, and p is uniform where nothing drifts. At least 3 batches, no NaN.
    """
    from scipy.special import stdtr

    k = len(batch_means)
    if k < 3:
        raise ValueError(f"expected at least 3 batch means, got {k}")
    x = np.arange(k) - (k - 1) / 2
    spread = float(np.sum(x**2))
    slope = float(np.sum(x * batch_means)) / spread
    rest = batch_means - batch_means.mean() - slope * x
    error = math.sqrt(float(np.sum(rest**2)) / (k - 2) / spread)
    scale = float(np.max(np.abs(batch_means)))
    if error <= 1e-12 * scale:  # a perfect line: level, or a drift beyond doubt
        p = 1.0 if abs(slope) <= 1e-12 * scale else 0.0
    else:
        p = 2 * float(stdtr(k - 2, -abs(slope) / error))
    third = max(k // 3, 1)
    first, last = float(batch_means[:third].mean()), float(batch_means[-third:].mean())
    return Trend(slope, p, last / first if first else (math.inf if last else 1.0))


def mser5(values: FloatArray) -> int:
    """How many values at the start MSER-5 would drop: the truncation that minimises the marginal standard error.

    Means of 5; sum((x - mean)^2)/(rest)^2 minimised over the first half (White, 1997; Spratt, 1998).
    An alarm only: near capacity it cuts about half the transient, so warm-up is not chosen by it.
    """
    count = len(values) // 5
    if count < 4:
        return 0
    means = values[: count * 5].reshape(count, 5).mean(axis=1)
    backwards = means[::-1]
    sizes = np.arange(1, count + 1)
    sums, squares = np.cumsum(backwards), np.cumsum(backwards**2)
    statistic = ((squares - sums**2 / sizes) / sizes**2)[::-1]  # at d: of means[d:]
    return int(np.argmin(statistic[: count // 2 + 1])) * 5
