"""Quantiles are values that were seen, and numpy's."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slobench.stats.quantiles import inverted_cdf, rank

VALUES = st.lists(st.one_of(st.floats(0, 1e6), st.just(math.inf)), min_size=1, max_size=200)
QUANTILES = st.one_of(st.sampled_from([0.01, 0.07, 0.5, 0.9, 0.95, 0.99, 0.999]), st.floats(0.001, 0.999))


@given(values=VALUES, q=QUANTILES)
def test_a_quantile_is_numpys_inverted_cdf(values: list[float], q: float) -> None:
    """The value equals numpy's method "inverted_cdf", also where failures are +inf."""
    array = np.array(values)
    numpy_says = np.sort(array)[int(np.quantile(np.arange(len(values)), q, method="inverted_cdf"))]
    assert inverted_cdf(array, q) == numpy_says


@given(values=VALUES, q=QUANTILES, limit=st.floats(0, 1e6))
def test_a_quantile_within_a_limit_says_that_enough_requests_are(values: list[float], q: float, limit: float) -> None:
    """A quantile is within a limit exactly where at least rank+1 values are <= limit."""
    array = np.array(values)
    assert (inverted_cdf(array, q) <= limit) == (np.sum(array <= limit) >= rank(len(values), q) + 1)


@given(values=VALUES)
def test_quantiles_never_fall(values: list[float]) -> None:
    """The order is min <= p1 <= p50 <= ... <= max."""
    array = np.array(values)
    seen = [array.min(), *(inverted_cdf(array, q) for q in (0.01, 0.5, 0.9, 0.95, 0.99, 0.999)), array.max()]
    assert all(a <= b for a, b in pairwise(seen))


def test_no_values_have_no_quantile() -> None:
    """An empty sample gives NaN, not 0."""
    assert math.isnan(inverted_cdf(np.empty(0), 0.5))
