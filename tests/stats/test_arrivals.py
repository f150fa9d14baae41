"""Distances of arrival processes: exact on small cases, right in distribution on large ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from slobench.stats.arrivals import counts, dispersion, dispersion_test, ks_distance, ks_exponential
from tests.stats.binomial import fewest, most

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


@pytest.mark.parametrize("mean", [None, 3.0])
@pytest.mark.parametrize("n", [10, 200])
def test_exponential_gaps_are_refused_as_often_as_p_says(n: int, mean: float | None) -> None:
    """Of 2,000 samples of exponential gaps, with the mean known or not, 5 % have p below .05."""
    rng = np.random.default_rng(n)
    found = sum(ks_exponential(rng.exponential(3, n), mean).p < 0.05 for _ in range(2000))
    assert fewest(2000, 0.05) <= found <= most(2000, 0.05)


@pytest.mark.parametrize("cv", [0.7, 1.4])
def test_gamma_gaps_are_found_without_their_mean(cv: float) -> None:
    """200 gaps of cv 0.7 or 1.4 are told from exponential ones in at least 95 % of samples, whatever their unit."""
    rng = np.random.default_rng(5)
    found = sum(ks_exponential(rng.gamma(cv**-2, 7.0, 200)).p < 0.01 for _ in range(300))
    assert found >= fewest(300, 0.95)


def test_a_wrong_rate_is_found_where_it_is_known() -> None:
    """Exponential gaps 20 % too long against the planned mean; without it they are what they are."""
    gaps = np.random.default_rng(6).exponential(1.2, 1000)
    assert ks_exponential(gaps, 1.0).p < 0.001
    assert ks_exponential(gaps).p > 0.01
    with pytest.raises(ValueError, match="at least 2 gaps"):
        ks_exponential(np.ones(1), 1.0)


def test_the_distance_and_its_p_are_scipy_s() -> None:
    """With a known mean it is the one-sample test of scipy.stats."""
    gaps = np.random.default_rng(7).exponential(2, 57)
    same = kstest(gaps, "expon", args=(0, 2))
    assert ks_exponential(gaps, 2.0).statistic == pytest.approx(same.statistic)
    assert ks_exponential(gaps, 2.0).p == pytest.approx(same.pvalue)


@pytest.mark.parametrize(("bins", "mean"), [(10, 20), (300, 5)])
def test_poisson_counts_are_refused_as_often_as_p_says(bins: int, mean: float) -> None:
    """Of 3,000 series of Poisson counts 5 % have p below .05, give or take a point for counts being whole numbers."""
    rng = np.random.default_rng(bins)
    found = sum(dispersion_test(rng.poisson(mean, bins).astype(float)).p < 0.05 for _ in range(3000))
    assert fewest(3000, 0.04) <= found <= most(3000, 0.06)


def test_copies_of_one_stream_are_found_by_their_counts() -> None:
    """Ten workers that all draw the same gaps: each gap looks exponential, and the counts are ten times too uneven.

    The distribution of gaps of one worker cannot show it; 200 bins are beyond doubt.
    """
    times = np.cumsum(np.random.default_rng(9).exponential(1.0, 2200))
    together = np.sort(np.concatenate([times + 1e-3 * k for k in range(10)]))
    assert ks_exponential(np.diff(times), 1.0).p > 0.01
    test = dispersion_test(counts(together, 10.0, 0.0, 2000.0))
    assert test.statistic > 5
    assert test.p < 1e-6
    with pytest.raises(ValueError, match="2 bins"):
        dispersion_test(np.zeros(5))
