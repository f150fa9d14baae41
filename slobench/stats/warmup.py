"""How much of the start of a series is not like the rest: MSER-5, as an alarm."""

from __future__ import annotations

import numpy as np

from slobench.stats.quantiles import FloatArray

BATCH = 5


def mser5(series: FloatArray) -> int | None:
    """How many values to drop from the start, a multiple of 5; None where no level part is seen.

    The cut d that makes sum((x_i - mean)^2, i > d) / (n - d)^2 smallest over means of 5 values, with d <= n/2
    (White, Simulation 69, 1997; Spratt, 1998). A smallest value at n/2 itself means that the series still drifts.
    It cuts too little where values are correlated, so it may say that a warm-up was too short, and never that it was
    long enough. None also with fewer than 20 values. Time: O(n).
    """
    means = series[: len(series) // BATCH * BATCH].reshape(-1, BATCH).mean(axis=1)
    n = len(means)
    if n < 4:
        return None
    means = means - means.mean()  # sums of squares then lose no digits
    left = np.arange(n, 0, -1)
    sums, squares = (np.cumsum(x[::-1])[::-1] for x in (means, means**2))
    error = (squares - sums**2 / left) / left**2
    cut = int(np.argmin(error[: n // 2 + 1]))
    return None if cut == n // 2 else cut * BATCH
