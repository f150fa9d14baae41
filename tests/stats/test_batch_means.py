"""Batch means cover where batches are long, and lose where they are short; the autocorrelation time says which."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slobench.stats.batch_means import batch_means, batch_means_interval
from slobench.stats.effective import autocorrelation_time, effective_size
from slobench.stats.jackknife import jackknife_t
from tests.stats.binomial import fewest, most

RUNS = 1000
RHO = 0.9  # an AR(1) series: its autocorrelation time is (1 + rho)/(1 - rho) = 19
TIME = (1 + RHO) / (1 - RHO)


def ar1(runs: int, n: int, seed: int) -> np.ndarray:
    """Stationary AR(1) series of mean 0 and variance 1, one a row."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, math.sqrt(1 - RHO**2), (n, runs))
    noise[0] = rng.normal(size=runs)
    for k in range(1, n):
        noise[k] += RHO * noise[k - 1]
    return noise.T


def covered(series: np.ndarray) -> int:
    """In how many rows the interval holds the true mean."""
    return sum(low <= 0 <= high for low, high in map(batch_means_interval, series))


def test_batches_are_contiguous_and_leave_the_rest_out() -> None:
    """Eleven values in three batches of three: the last two count nowhere."""
    assert batch_means(np.arange(11.0), 3).tolist() == [1, 4, 7]
    with pytest.raises(ValueError, match="at least 10 values"):
        batch_means(np.ones(9))


def test_long_batches_cover() -> None:
    """Batches of 50 autocorrelation times: the 95 % interval holds the mean in 94 to 96 % of series.

    Neighbouring batch means then have a correlation below 1/100 (rho/(1 - rho)^2 / size), which takes off less than a
    point of coverage.
    """
    found = covered(ar1(RUNS, round(10 * 50 * TIME), 1))
    assert fewest(RUNS, 0.94) <= found <= most(RUNS, 0.96)


def test_short_batches_do_not() -> None:
    """Batches of a fifth of an autocorrelation time hold it in under 80 %: hence the label "optimistic"."""
    assert covered(ar1(RUNS, round(10 * TIME / 5), 2)) < fewest(RUNS, 0.8)


def test_the_jackknife_of_equal_batches_is_the_same_interval() -> None:
    """For a mean over equal windows delete-one-window jackknife-t and batch means agree."""
    series = np.random.default_rng(3).normal(size=400)
    means = batch_means(series)
    assert batch_means_interval(series) == pytest.approx(jackknife_t(series.mean(), (means.sum() - means) / 9))


def test_the_autocorrelation_time_of_an_ar1_series_is_found() -> None:
    """Its mean over 50 series of 20,000 is (1 + rho)/(1 - rho).

    Within the estimator's own error, sqrt(2(2m + 1)/n) with m = 2.5 times it (Madras and Sokal, 1988), over sqrt(50),
    3.3 times that (99.9 %), and the bias of cutting the sum at m, rho^m = exp(-5) of the part above 1.
    """
    n, series = 20_000, 50
    found = np.mean([autocorrelation_time(each) for each in ar1(series, n, 4)])
    error = math.sqrt(2 * (2 * 2.5 * TIME + 1) / n / series)
    assert found == pytest.approx(TIME, rel=3.3 * error + math.exp(-5))


def test_the_effective_size_is_that_of_the_mean() -> None:
    """The variance of the mean of 400 series is 1/n_eff, within 3.3 times the error sqrt(2/400) of a variance."""
    series = ar1(400, 4000, 5)
    sizes = [effective_size(each) for each in series]
    assert np.var(series.mean(axis=1)) * np.mean(sizes) == pytest.approx(1, abs=3.3 * math.sqrt(2 / 400) + 0.03)


def test_independent_values_are_worth_themselves() -> None:
    """White noise has a time of about 1 (standard error sqrt(2 * 6/n)), a level series exactly 1, and none below 1."""
    noise = np.random.default_rng(6).normal(size=10_000)
    assert autocorrelation_time(noise) == pytest.approx(1, abs=3.3 * math.sqrt(12 / 10_000))
    assert autocorrelation_time(np.ones(10)) == 1
    assert autocorrelation_time(np.resize([1.0, -1.0], 100)) == 1
