"""The trend test keeps its error rate and finds what it should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.special import bdtr

from slobench.stats.stationarity import correlation, slope_test
from tests.stats.binomial import fewest, most


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


def remembering(rng: np.random.Generator, memory: float, batches: int = 10, steps: int = 50) -> np.ndarray:
    """Batch means of an Ornstein-Uhlenbeck process about 5, in its steady state."""
    keep = np.exp(-1 / (memory * steps))
    noise = rng.normal(0, np.sqrt(1 - keep**2), batches * steps)
    noise[0] = rng.normal()
    return 5 + lfilter([1.0], [1.0, -keep], noise).reshape(batches, steps).mean(axis=1)


@pytest.mark.parametrize("memory", [0.1, 0.3, 1.0, 3.0])
def test_a_level_series_with_a_memory_is_seldom_called_drifting(memory: float) -> None:
    """p below .05 in at most 5 % and below .01 in at most 1 % of 1,000 level series that remember what they were."""
    rng = np.random.default_rng(12)
    found = np.array([slope_test(remembering(rng, memory), memory).p for _ in range(1000)])
    assert np.sum(found < 0.05) <= most(1000, 0.05)
    assert np.sum(found < 0.01) <= most(1000, 0.01)


def test_a_memory_that_is_not_told_raises_false_alarms() -> None:
    """Why it must be told: with a memory of one batch Student's test warns of more than 15 % of level series."""
    rng = np.random.default_rng(13)
    found = sum(slope_test(remembering(rng, 1.0)).p < 0.05 for _ in range(1000))
    assert found > most(1000, 0.15)


def test_growth_is_found_through_a_memory() -> None:
    """Ten standard deviations from first to last batch, with a memory of half a batch: p < .01 in 99 %."""
    rng = np.random.default_rng(14)
    found = sum(slope_test(remembering(rng, 0.5) + np.linspace(0, 10, 10), 0.5).p < 0.01 for _ in range(400))
    assert found >= fewest(400, 0.99)


def test_batch_means_are_related_as_an_integral_says() -> None:
    """The closed form equals the mean of exp(-u/memory) over pairs of moments, on a fine grid."""
    at = (np.arange(4000) + 0.5) / 1000
    for memory in (0.2, 1.0, 5.0):
        fine = np.exp(-np.abs(np.subtract.outer(at[::10], at[::10])) / memory)
        means = fine.reshape(4, 100, 4, 100).mean(axis=(1, 3))
        assert correlation(4, memory) == pytest.approx(means / means[0, 0], abs=2e-3)
    assert correlation(3, 0.0) == pytest.approx(np.eye(3))
