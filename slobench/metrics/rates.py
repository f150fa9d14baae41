"""Rates over the measurement window, with an interval from its equal parts."""

from __future__ import annotations

import numpy as np

from slobench.metrics.columns import IntArray
from slobench.metrics.estimate import Windows
from slobench.metrics.summary import Estimate
from slobench.stats.jackknife import jackknife_t
from slobench.stats.quantiles import FloatArray

FEWEST = 20  # events below which a tenth of the window says nothing


def rate(amounts: FloatArray, part: IntArray, windows: Windows, length_s: float) -> Estimate:
    """Estimate the sum of `amounts` a second, with the interval of its batch means over the window's parts.

    amounts: one value per event (1 for a count, or its tokens); part: the part of the window that each lies in.
    The unit is the part, so there is no n_eff: how events cluster within one does not matter. Arrivals that chance
    makes dense or sparse are in the interval.
    """
    sums = np.bincount(part, weights=amounts, minlength=windows.count).astype(np.float64)
    return rate_of_sums(sums, len(amounts), windows, length_s)


def rate_of_sums(sums: FloatArray, n: int, windows: Windows, length_s: float) -> Estimate:
    """Estimate the rate of n events from the sums of their amounts in the window's parts."""
    k = windows.count
    value = float(sums.sum()) / length_s
    if n < FEWEST:
        return Estimate(value, n=n, note=f"no interval: fewer than {FEWEST}")
    low, high = jackknife_t(value, (sums.sum() - sums) / (length_s * (k - 1) / k))
    return Estimate(value, max(low, 0.0), high, n, note="optimistic" if windows.optimistic else "")
