"""The trend test keeps its error rate and finds what it should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import bdtr

from slobench.stats.stationarity import slope_test


def test_a_level_series_drifts_as_often_as_p_says() -> None:
    """Of 2,000 level series p is below .05 in 5 %, within 4 standard errors (0.5 points each)."""
    rng = np.random.default_rng(11)
    found = sum(slope_test(rng.normal(5, 1, 10)).p < 0.05 for _ in range(2000))
    assert bdtr(found, 2000, 0.05) > 3e-5
    assert 1 - bdtr(found - 1, 2000, 0.05) > 3e-5


def test_a_growing_series_is_found() -> None:
    """Batch means that double are a trend with p < .01, and their thirds say by how much."""
    trend = slope_test(np.linspace(10, 20, 10) + np.random.default_rng(0).normal(0, 0.5, 10))
    assert trend.p < 0.01
    assert trend.slope == pytest.approx(10 / 9, abs=6 * 0.5 / np.sqrt(82.5))
    assert trend.last_over_first == pytest.approx(
        np.mean([160 / 9, 170 / 9, 20]) / np.mean([10, 100 / 9, 110 / 9]), rel=0.1
    )


@pytest.mark.parametrize(("series", "p"), [([3.0] * 10, 1.0), ([1.0, 2.0, 3.0, 4.0], 0.0), ([0.0] * 5, 1.0)])
def test_a_perfect_line_needs_no_noise_to_be_judged(series: list[float], p: float) -> None:
    """A constant series has p = 1, an exact ramp p = 0; neither divides by zero."""
    assert slope_test(np.array(series)).p == p


def test_two_batches_are_too_few() -> None:
    """A slope through two points leaves nothing to judge it by."""
    with pytest.raises(ValueError, match="at least 3"):
        slope_test(np.array([1.0, 2.0]))
