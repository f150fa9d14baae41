"""Isotonic regression against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.stats.isotonic import falling, last_above

VALUES = st.lists(st.tuples(st.floats(-10, 10), st.floats(0.1, 5)), min_size=1, max_size=12)


def by_definition(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The max-min formula (Robertson, Wright and Dykstra, Order Restricted Statistical Inference, 1988, §1.4)."""
    n = len(values)

    def average(i: int, j: int) -> float:
        return float(np.average(values[i : j + 1], weights=weights[i : j + 1]))

    return np.array([min(max(average(i, j) for j in range(k, n)) for i in range(k + 1)) for k in range(n)])


@given(VALUES)
def test_it_is_the_weighted_least_squares_fit_that_never_rises(pairs) -> None:
    """Pooling adjacent violators equals the max-min formula, and keeps the weighted mean."""
    values, weights = np.array(pairs).T
    fitted = falling(values, weights)
    assert np.all(np.diff(fitted) <= 1e-9)
    assert fitted == pytest.approx(by_definition(values, weights), abs=1e-9)
    assert np.average(fitted, weights=weights) == pytest.approx(np.average(values, weights=weights), abs=1e-9)


def test_where_a_curve_crosses() -> None:
    """Linear between points; None where it lies on one side."""
    x, fitted = np.array([1.0, 2.0, 4.0]), np.array([0.99, 0.95, 0.75])
    assert last_above(x, fitted, 0.9) == pytest.approx(2.5)
    assert last_above(x, fitted, 0.5) is None
    assert last_above(x, fitted, 0.999) is None
