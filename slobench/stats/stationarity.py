"""Is a series level: a trend test on batch means."""

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
