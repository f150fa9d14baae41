"""What dependent values are worth: design effect of a share, effective sample size of a series."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slobench.stats.quantiles import FloatArray


def design_effect(hits: NDArray[np.integer], sizes: NDArray[np.integer]) -> float | None:
    """Variance of a pooled share over what independent trials would have, from counts by group.

    hits, sizes: successes and trials of each of K groups (contiguous windows, so that dependence within
    a group shows as spread between groups). Ratio estimator's variance
    K/(K-1) * sum((hits - p*sizes)^2) / n^2 over p(1-p)/n (Kish, Survey Sampling, 1965, §5.4 and §6).
    At least 1: fewer requests cannot be worth more. None where the share is 0 or 1, or with one group.
    """
    k, n = len(sizes), int(sizes.sum())
    if k < 2 or n == 0:
        return None
    share = float(hits.sum()) / n
    if not 0 < share < 1:
        return None
    variance = k / (k - 1) * float(np.sum((hits - share * sizes) ** 2)) / n**2
    return max(variance * n / (share * (1 - share)), 1.0)


def autocorrelation_time(series: FloatArray, window: float = 5.0) -> float:
    """How many values of a stationary series are worth one independent value, for its mean; at least 1.

    1 + 2 * sum of the autocorrelations up to lag m, the smallest m >= window * (that sum / 2): further lags would
    add noise and no signal (Sokal, Monte Carlo Methods in Statistical Mechanics, 1997, §3). Its relative standard
    error is about sqrt(2 (2m + 1) / n) (Madras and Sokal, 1988), so it needs n > 100 times its own result;
    where it finds no such m it is too small. 1 for a series without spread. Time: O(n log n).
    """
    n = len(series)
    rest = series - series.mean()
    spectrum = np.fft.rfft(rest, 2 * n)
    covariance = np.fft.irfft(spectrum * np.conj(spectrum), 2 * n)[:n]
    if n < 2 or covariance[0] <= 0:
        return 1.0
    times = 2 * np.cumsum(covariance / covariance[0]) - 1
    wide_enough = np.flatnonzero(np.arange(n) >= window * times / 2)
    return max(float(times[wide_enough[0]] if len(wide_enough) else times.max()), 1.0)


def effective_size(series: FloatArray) -> float:
    """How many independent values the mean of a stationary series is worth."""
    return len(series) / autocorrelation_time(series)
