"""Distances of arrival processes: exact on small cases, right in distribution on large ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.stats.arrivals import counts, dispersion, ks_distance

SAMPLES = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=40).map(np.array)


@given(a=SAMPLES, b=SAMPLES)
def test_ks_distance_is_the_largest_difference_of_the_two_functions(a: np.ndarray, b: np.ndarray) -> None:
    """It equals the maximum over all values of |F_a - F_b|, and is symmetric."""
    at = np.concatenate([a, b])
    difference = [abs(np.mean(a <= x) - np.mean(b <= x)) for x in at]
    assert ks_distance(a, b) == pytest.approx(max(difference))
    assert ks_distance(a, b) == pytest.approx(ks_distance(b, a))


def test_a_tolerance_forgives_jitter_that_small_and_no_more() -> None:
    """Equal values and the same with jitter are half apart without a tolerance, and not at all with one."""
    gaps = np.full(1000, 0.1)
    jittered = gaps + np.random.default_rng(0).uniform(-0.001, 0.001, 1000)
    assert ks_distance(gaps, jittered) > 0.4
    assert ks_distance(gaps, jittered, tolerance=0.001) == 0
    assert ks_distance(gaps, gaps + 0.002, tolerance=0.001) == 1


def test_dispersion_tells_poisson_from_even_and_bursty_arrivals() -> None:
    """Counts per second: 0 for even arrivals, 1 for Poisson, cv^2 for long-run gamma gaps of cv 2.

    Relative standard error of a variance of 2,000 counts is sqrt(2/2000) = 0.032; gamma counts over a second
    are a little below cv^2, as gaps are not short against it.
    """
    rng = np.random.default_rng(8)
    poisson = np.cumsum(rng.exponential(0.02, 100_000))
    bursty = np.cumsum(rng.gamma(0.25, 0.08, 100_000))
    assert dispersion(counts(np.arange(0, 2000, 0.02) + 0.01, 1.0, 0, 1999)) == 0
    assert dispersion(counts(poisson, 1.0, 0, 1990)) == pytest.approx(1, abs=4 * 0.032)
    assert 3 < dispersion(counts(bursty, 1.0, 0, 1900)) < 4.5


def test_counts_leave_out_what_lies_outside_whole_bins() -> None:
    """Times before the start and in the last, broken bin are not counted; edges belong to the bin they open."""
    seen = counts(np.array([-0.1, 0.0, 0.5, 1.0, 1.9, 2.0, 2.4]), 1.0, 0.0, 2.5)
    assert seen.tolist() == [2, 2]
    assert counts(np.array([0.1]), 10.0, 0.0, 5.0).tolist() == []
    assert np.isnan(dispersion(np.empty(0)))
