"""Do point processes look alike, or like Poisson arrivals: gap distributions, dispersion of counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Fit:
    """A statistic, and p of a value that far from what the hypothesis gives."""

    statistic: float
    p: float


def ks_exponential(gaps: FloatArray, mean: float | None = None) -> Fit:
    """Test whether gaps are exponential, as between Poisson arrivals, by Kolmogorov and Smirnov's distance.

    p is exact. mean: the planned one. None where it is not known; then the gaps' normalised spacings are tested in
    their stead, which do not depend on it (Durbin, Biometrika 48, 1961; Lewis, Biometrika 52, 1965). Putting the gaps'
    own mean into the plain test would make p too large (Lilliefors, JASA 64, 1969). At least 2 gaps.
    """
    from scipy.stats import kstwo

    if len(gaps) < 2:
        raise ValueError(f"expected at least 2 gaps, got {len(gaps)}")
    if mean is None:
        # of n gaps, the n - 1 sums over the total are distributed as sorted uniforms
        spacings = np.diff(np.sort(gaps), prepend=0.0) * np.arange(len(gaps), 0, -1)
        uniform = np.cumsum(spacings)[:-1] / float(gaps.sum())
    else:
        uniform = -np.expm1(-np.sort(gaps) / mean)
    n = len(uniform)
    distance = float(max(np.max(np.arange(1, n + 1) / n - uniform), np.max(uniform - np.arange(n) / n)))
    return Fit(distance, float(kstwo.sf(distance, n)))


def dispersion_test(counted: FloatArray) -> Fit:
    """Test whether counts are Poisson with one rate, by their variance over mean; two-sided.

    (K - 1) times the ratio is chi-squared with K - 1 degrees of freedom where counts are not small (Fisher, 1925;
    Cox and Lewis, The Statistical Analysis of Series of Events, 1966, §6.3): a mean of 5 and more a bin.
    It finds what the distribution of gaps cannot show: arrivals that come in clusters, or a rate that changes.
    At least 2 bins and one event.
    """
    from scipy.special import chdtr, chdtrc

    ratio = dispersion(counted)
    if math.isnan(ratio):
        raise ValueError(f"expected counts of at least 2 bins with an event, got {len(counted)} bins")
    k = len(counted) - 1
    return Fit(ratio, min(2 * min(float(chdtr(k, k * ratio)), float(chdtrc(k, k * ratio))), 1.0))
