"""Is a series level: a trend test on batch means, which may remember each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slobench.stats.quantiles import FloatArray

_LONGEST = 1000.0  # batches of memory; beyond it no ten batches tell a drift from a wandering level


@dataclass(frozen=True, slots=True)
class Trend:
    """A least-squares line through batch means."""

    slope: float  # per batch
    p: float  # two-sided, of "the slope is 0"
    last_over_first: float  # mean of the last third over mean of the first third


def slope_test(batch_means: FloatArray, memory: float = 0.0) -> Trend:
    """Test whether batch means drift: t-test of the least-squares slope. At least 3 batches, no NaN.

    memory: how long the series remembers, in batches: its correlation over a time u is exp(-u/memory) (an
    Ornstein-Uhlenbeck process). 0: batches are independent, which is Student's test with K - 2 degrees of freedom.
    With memory the slope varies more than the rest about the line says; both are known from the correlation of the
    batch means, and the degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946).
    """
    from scipy.special import stdtr

    k = len(batch_means)
    if k < 3:
        raise ValueError(f"expected at least 3 batch means, got {k}")
    x = np.arange(k) - (k - 1) / 2
    spread = float(np.sum(x**2))
    slope = float(np.sum(x * batch_means)) / spread
    rest = batch_means - batch_means.mean() - slope * x
    related = correlation(k, memory)
    off_line = (np.eye(k) - 1 / k - np.outer(x, x) / spread) @ related
    dof = float(np.trace(off_line)) ** 2 / float(np.trace(off_line @ off_line))
    variance = float(np.sum(rest**2)) / float(np.trace(off_line))
    error = math.sqrt(variance * float(x @ related @ x)) / spread
    scale = float(np.max(np.abs(batch_means)))
    if error <= 1e-12 * scale:  # a perfect line: level, or a drift beyond doubt
        p = 1.0 if abs(slope) <= 1e-12 * scale else 0.0
    else:
        p = 2 * float(stdtr(dof, -abs(slope) / error))
    third = max(k // 3, 1)
    first, last = float(batch_means[:third].mean()), float(batch_means[-third:].mean())
    return Trend(slope, p, last / first if first else (math.inf if last else 1.0))


def correlation(k: int, memory: float) -> FloatArray:
    """Correlation matrix of k batch means of a process whose correlation over u batches is exp(-u/memory)."""
    if memory <= 0:
        return np.eye(k)
    a = 1 / min(memory, _LONGEST)
    own = 2 * (a + math.expm1(-a)) / a**2
    lag = np.abs(np.subtract.outer(np.arange(k), np.arange(k)))
    apart = np.exp(-np.maximum(lag - 1, 0) * a)  # exp(a) overflows where a batch is a day and the memory a second
    return np.asarray(np.where(lag == 0, 1.0, apart * (math.expm1(-a) / a) ** 2 / own))
