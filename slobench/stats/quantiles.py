"""Quantiles as values that were really seen: the inverse of the empirical distribution function."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def rank(n: int, q: float) -> int:
    """Position, from 0, of the q-quantile among n >= 1 sorted values: ceil(q*n), counted from 1.

    The arithmetic is that of numpy's method "inverted_cdf", so that both round alike.
    """
    return min(max(math.ceil(n * q - 1), 0), n - 1)


def inverted_cdf(values: FloatArray, q: float) -> float:
    """Return the smallest value that at least a share q of `values` does not exceed; NaN where there are none.

    +inf is a value (a failure). Hyndman and Fan's type 1: the convention for which
    "quantile <= limit" and "at least a share q meets the limit" are the same statement.
    Time: O(n).
    """
    if len(values) == 0:
        return math.nan
    k = rank(len(values), q)
    return float(np.partition(values, k)[k])
