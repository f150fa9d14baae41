"""What dependent values are worth: design effect and effective sample size of a share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
