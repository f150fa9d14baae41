"""Do two point processes look alike: distance of gap distributions, dispersion of counts."""

from __future__ import annotations

import math

import numpy as np

from slobench.stats.quantiles import FloatArray


def ks_distance(a: FloatArray, b: FloatArray, tolerance: float = 0.0) -> float:
    """Largest difference of two empirical distribution functions (Kolmogorov and Smirnov), in [0, 1].

    With a tolerance: the least difference when every value may move by that much (as in Lévy's metric),
    without which evenly spaced arrivals and the same ones with a nanosecond of jitter are 0.5 apart.
    """
    if len(a) == 0 or len(b) == 0:
        return math.nan
    first, second = np.sort(a), np.sort(b)
    return max(_excess(first, second, tolerance), _excess(second, first, tolerance), 0.0)


def _excess(upper: FloatArray, lower: FloatArray, tolerance: float) -> float:
    """Supremum over x of F_upper(x) - F_lower(x + tolerance); reached at a value of `upper`."""
    at = np.arange(1, len(upper) + 1) / len(upper)
    # equal values of `upper` share their last rank, which is the largest and so the one that counts
    return float(np.max(at - np.searchsorted(lower, upper + tolerance, side="right") / len(lower)))


def counts(times: FloatArray, width: float, start: float, end: float) -> FloatArray:
    """Events in each whole bin of `width` from `start`; the rest before `end` is left out."""
    bins = math.floor((end - start) / width + 1e-9)
    if bins < 1:
        return np.empty(0)
    inside = times[(times >= start) & (times < start + bins * width)]
    where = np.minimum(((inside - start) / width).astype(np.int64), bins - 1)
    return np.bincount(where, minlength=bins).astype(np.float64)


def dispersion(counted: FloatArray) -> float:
    """Variance over mean of counts: 1 for Poisson, 0 for evenly spaced, above 1 for bursty arrivals."""
    mean = float(counted.mean()) if len(counted) else 0.0
    return float(counted.var(ddof=1)) / mean if len(counted) > 1 and mean > 0 else math.nan
