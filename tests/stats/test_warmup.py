"""MSER-5 raises the alarm at a start that is unlike the rest, and is no more than an alarm."""

from __future__ import annotations

import numpy as np

from slobench.stats.warmup import mser5
from tests.stats.binomial import fewest, most

RUNS, N = 400, 1000


def test_it_is_the_smallest_standard_error_of_the_rest() -> None:
    """The cut equals a search over all of them, by the definition."""
    for seed in range(20):
        series = np.random.default_rng(seed).normal(size=203) + np.linspace(3, 0, 203) ** 2 * (seed % 3)
        means = series[:200].reshape(-1, 5).mean(axis=1)
        error = [np.sum((means[d:] - means[d:].mean()) ** 2) / (40 - d) ** 2 for d in range(21)]
        best = int(np.argmin(error))
        assert mser5(series) == (None if best == 20 else 5 * best)


def test_a_start_far_from_the_rest_is_cut() -> None:
    """A first fifth five standard deviations off is cut, to the batch, in all but chance cases of 1 in 100.

    To leave one of its batches in would add 25 times a batch's own variance of 1/5.
    """
    rng = np.random.default_rng(1)
    cuts = []
    for _ in range(RUNS):
        series = rng.normal(size=N)
        series[: N // 5] += 5
        cuts.append(mser5(series))
    assert sum(cut is not None and cut >= N // 5 for cut in cuts) >= fewest(RUNS, 0.99)


def test_a_series_that_drifts_to_its_middle_has_no_level_part() -> None:
    """Where the start reaches half of the series, no cut is offered."""
    series = np.random.default_rng(2).normal(size=N)
    series[: N // 2] += np.linspace(20, 5, N // 2)
    assert mser5(series) is None


def test_a_level_series_is_seldom_cut_by_much() -> None:
    """Independent values: fewer than 1 series in 5 loses more than a quarter; a false alarm costs data, no truth."""
    rng = np.random.default_rng(3)
    cuts = [mser5(rng.normal(size=N)) for _ in range(RUNS)]
    assert sum(cut is None or cut > N // 4 for cut in cuts) <= most(RUNS, 0.2)


def test_it_cuts_too_little_of_a_slow_start() -> None:
    """A start that decays over 200 values of a correlated series is left in, in most series: why it is an alarm only."""
    rng = np.random.default_rng(4)
    short = 0
    for _ in range(100):
        noise = rng.normal(0, 0.3, N)
        for k in range(1, N):
            noise[k] += 0.95 * noise[k - 1]
        cut = mser5(noise - 2 * np.exp(-np.arange(N) / 200))
        short += cut is not None and cut < 200  # where a third of the bias is left
    assert short >= fewest(100, 0.5)


def test_too_little_to_say() -> None:
    """Under 20 values there are no four batches."""
    assert mser5(np.ones(19)) is None
