"""Means of long batches of a dependent series, taken as nearly independent: the method of batch means."""

from __future__ import annotations

import math

from slobench.stats.intervals import student_interval
from slobench.stats.quantiles import FloatArray


def batch_means(series: FloatArray, batches: int = 10) -> FloatArray:
    """Mean of each of `batches` equal, contiguous batches; values that do not fill the last batch are left out.

    Raises ValueError with fewer values than batches.
    """
    size = len(series) // batches
    if size < 1:
        raise ValueError(f"expected at least {batches} values for {batches} batches, got {len(series)}")
    means: FloatArray = series[: size * batches].reshape(batches, size).mean(axis=1)
    return means


def batch_means_interval(series: FloatArray, batches: int = 10, level: float = 0.95) -> tuple[float, float]:
    """Interval for the long-run mean: mean of the batch means ± t_{K-1} times their standard error.

    Covers its level where batches are long against the correlation of the series, and less where they are short:
    then it is *optimistic* (Conway, Management Science 10, 1963; 10 to 30 batches: Schmeiser, Operations Research 30,
    1982). At least 2 batches.
    """
    means = batch_means(series, batches)
    error = float(means.std(ddof=1)) / math.sqrt(batches)
    return student_interval(float(means.mean()), error, batches - 1, level)
