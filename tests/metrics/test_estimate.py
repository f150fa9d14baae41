"""Estimates carry intervals that allow for dependence, or say that they have none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import bdtr

from slobench.metrics.estimate import QUANTILES, Windows, _nearer, latency_table, share, split
from slobench.stats.effective import design_effect

N, COUNT = 3000, 10


def windows(n: int = N, *, optimistic: bool = False) -> Windows:
    """Return ten equal windows over n values in order."""
    return Windows(np.arange(n) * COUNT // n, COUNT, optimistic)


def test_windows_are_optimistic_below_thirty_mean_e2e_each() -> None:
    """300 mean E2E make ten windows of 30: from there on intervals are not marked."""
    batch = np.zeros(1, dtype=np.int64)
    assert split(batch, 299.0).optimistic
    assert not split(batch, 300.0).optimistic


def test_a_table_holds_pooled_quantiles_in_order() -> None:
    """The order is min <= p1 <= ... <= max, each numpy's inverted_cdf of all values, with n; intervals hold the value."""
    values = np.random.default_rng(1).lognormal(0, 1, N)
    table = latency_table(values, windows())
    names = ["min", "p1", "p50", "p90", "p95", "p99", "p99.9", "max"]
    seen = [table[name].value for name in names]
    assert seen == sorted(seen)  # type: ignore[type-var]
    for name in names[1:-1]:
        estimate = table[name]
        assert estimate.value == np.quantile(values, QUANTILES[name], method="inverted_cdf")
        assert estimate.n == N
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.value is not None
        assert estimate.low <= estimate.value <= estimate.high


def test_intervals_of_independent_values_cover() -> None:
    """The mean of exponential values lies in its 95 % interval in 400 runs as often as 93 % would, or more.

    Ten windows of 60: normal enough for the t interval to lose no more than 2 points on the log scale.
    """
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(400):
        mean = latency_table(rng.exponential(1, 600), windows(600), {})["mean"]
        covered += mean.low <= 1 <= mean.high  # type: ignore[operator]
    assert bdtr(covered, 400, 0.93) > 0.001, covered / 400


def test_dependent_requests_are_worth_less() -> None:
    """Where whole windows are slow or fast, n_eff is near the number of windows, not of requests."""
    rng = np.random.default_rng(2)
    values = np.repeat(rng.lognormal(0, 0.5, COUNT), N // COUNT) * rng.lognormal(0, 0.05, N)
    p50 = latency_table(values, windows())["p50"]
    assert p50.n_eff is not None
    assert p50.n_eff < 3 * COUNT
    assert p50.design_effect == pytest.approx(N / p50.n_eff)


def test_a_failure_is_a_value_of_plus_infinity() -> None:
    """With 2 % failures p95 is finite and p99 is +inf, without an interval."""
    values = np.random.default_rng(3).exponential(1, N)
    values[::50] = math.inf
    table = latency_table(values, windows())
    assert math.isfinite(table["p95"].value or math.inf)
    assert table["p99"].value == math.inf
    assert (table["p99"].low, table["p99"].high) == (None, None)
    assert table["mean"].value == math.inf


def test_a_quantile_that_a_window_turns_into_failure_has_no_interval() -> None:
    """All failures in one window: leaving out another makes the quantile infinite, so no interval is made up."""
    values = np.random.default_rng(3).exponential(1, N)
    values[:140] = math.inf  # 4.7 %: p95 finite, but infinite without any other window
    p95 = latency_table(values, windows())["p95"]
    assert math.isfinite(p95.value or math.inf)
    assert p95.low is None


def test_few_values_have_no_interval() -> None:
    """Fewer than two a window: values and n only."""
    table = latency_table(np.arange(1.0, 16.0), windows(15))
    assert table["p50"].value == 8.0
    assert table["p50"].low is None
    assert latency_table(np.full(10, np.nan), windows(10)) == {}


def test_thin_quantiles_say_so() -> None:
    """n_eff(1 - q) under 10 is marked, under 1 more so; both are printed."""
    table = latency_table(np.random.default_rng(5).exponential(1, N), windows(optimistic=True))
    assert table["p99.9"].note.startswith(("thin", "very thin"))
    assert table["p50"].note == "optimistic"


def test_constant_latencies_have_an_interval_of_no_width() -> None:
    """No spread: the interval is the value, and no design effect is made up from rounding."""
    mean = latency_table(np.full(N, 0.1), windows())["mean"]
    assert mean.low == pytest.approx(0.1)
    assert mean.high == pytest.approx(0.1)
    assert mean.design_effect is None


def test_few_misses_take_the_exact_binomial_at_n_eff() -> None:
    """No miss in 3,000: the bound is (alpha/2)^(1/n_eff), and n_eff comes from those who came close."""
    every = np.ones(N, dtype=np.bool_)
    risk = np.repeat(np.random.default_rng(2).lognormal(0, 0.5, COUNT), N // COUNT)
    clustered = share(every, every, windows(), risk * np.random.default_rng(3).lognormal(0, 0.05, N))
    spread = share(every, every, windows(), np.random.default_rng(4).lognormal(0, 0.5, N))
    for seen in (clustered, spread):
        assert seen.n_eff is not None
        assert seen.low == pytest.approx(0.025 ** (1 / seen.n_eff))
        assert seen.high == 1.0
    assert clustered.n_eff is not None
    assert spread.n_eff is not None
    assert clustered.n_eff < 100
    assert spread.n_eff > 1000


def test_no_misses_without_any_sign_of_dependence_have_no_interval() -> None:
    """An independent-trials interval is never printed: without a design effect there is none."""
    every = np.ones(N, dtype=np.bool_)
    seen = share(every, every, windows())
    assert (seen.value, seen.low, seen.high, seen.note) == (1.0, None, None, "no interval")


def test_a_share_has_a_jackknife_interval_on_the_logit_scale() -> None:
    """It lies in (0, 1), holds the share, and is wider where misses come in clusters."""
    rng = np.random.default_rng(6)
    every = np.ones(N, dtype=np.bool_)
    alone = share(rng.random(N) < 0.9, every, windows())
    together = share(rng.random(N) < np.repeat(rng.uniform(0.7, 1, COUNT), N // COUNT), every, windows())
    for seen in (alone, together):
        assert seen.low is not None
        assert seen.high is not None
        assert seen.value is not None
        assert 0 < seen.low < seen.value < seen.high < 1
    assert together.high - together.low > 2 * (alone.high - alone.low)  # type: ignore[operator]


def test_nobody_has_no_share() -> None:
    """An empty population has a null attainment, not 0 and not 1."""
    none = np.zeros(5, dtype=np.bool_)
    assert share(none, none, windows(5)).value is None


@pytest.mark.parametrize("miss", [0.1, 0.003, 0.0003])
def test_intervals_of_attainment_cover_dependent_requests(miss: float) -> None:
    """Waits of an M/M/1 queue at 70 % load, 3,000 a run: the true share within a limit lies in its interval.

    In at least 88 % of runs, for many misses (jackknife) as for few or none (exact binomial at n_eff); 200 runs,
    so fewer covered than the 0.1 % point of the binomial would be found.
    """
    runs, load = 200, 0.7
    rng = np.random.default_rng(21)
    wait = np.where(rng.random(runs) < load, rng.exponential(1 / (1 - load), runs), 0.0)
    waits = np.empty((N, runs))
    for k in range(N):
        waits[k] = wait
        wait = np.maximum(wait + rng.exponential(1, runs) - rng.exponential(1 / load, runs), 0.0)
    limit = math.log(load / miss) / (1 - load)
    covered = 0
    for run in waits.T:
        seen = share(run <= limit, np.ones(N, dtype=np.bool_), windows(), run / limit)
        assert seen.low is not None
        assert seen.high is not None
        covered += seen.low <= 1 - miss <= seen.high
    assert bdtr(covered, runs, 0.88) > 0.001, covered / runs


def clustered() -> tuple[np.ndarray, float]:
    """Values whose slowest hundredth is spread evenly and whose next hundredth is all in one window; its design effect."""
    rng = np.random.default_rng(9)
    values = rng.uniform(1, 2, N)
    values[:: N // 30] = rng.uniform(4, 5, 30)
    values[1:31] = rng.uniform(3, 4, 30)
    beyond = np.bincount(windows().of[values > np.quantile(values, 0.98, method="inverted_cdf")], minlength=COUNT)
    effect = design_effect(beyond, np.full(COUNT, N // COUNT))
    assert effect is not None
    assert effect > 5
    return values, effect


def test_a_quantile_is_worth_no_more_than_a_less_extreme_one() -> None:
    """p99 takes the design effect of p98 where that is larger, and its interval grows with it."""
    values, effect = clustered()
    even = np.sort(values)[np.argsort(np.argsort(np.random.default_rng(3).random(N)))]  # the same, in any order
    p99, alone = (latency_table(each, windows(), {"p99": 0.99})["p99"] for each in (values, even))
    assert p99.design_effect == pytest.approx(effect)
    assert p99.value == alone.value
    assert alone.design_effect is not None
    assert alone.design_effect < effect / 2
    assert (p99.low or math.inf) < (alone.low or 0)
    assert (p99.high or 0) > (alone.high or math.inf)


def test_a_percentile_and_the_attainment_of_a_limit_say_the_same() -> None:
    """A limit at the upper bound of p90 is attained by 90 % and more, as far as its interval says; at the lower, not.

    Up to the difference between the spread at the p90 itself and that at its bounds.
    """
    rng = np.random.default_rng(10)
    values = rng.lognormal(0, 1, N) * np.repeat(rng.lognormal(0, 0.2, COUNT), N // COUNT)
    every = np.ones(N, dtype=np.bool_)
    p90 = latency_table(values, windows(), {"p90": 0.9})["p90"]
    assert p90.low is not None
    assert p90.high is not None
    above, below = (share(values <= limit, every, windows(), values / limit) for limit in (p90.high, p90.low))
    assert above.low == pytest.approx(0.9, abs=0.02)
    assert below.high == pytest.approx(0.9, abs=0.02)


def test_a_bound_beyond_the_largest_value_is_carried_on() -> None:
    """p99.9 of 3,000 values has three beyond it: the upper bound lies above all of them, or at the largest."""
    values = np.random.default_rng(11).lognormal(0, 1, N)
    table = latency_table(values, windows(), {"p99.9": 0.999})
    assert (table["p99.9"].high or 0) >= (table["max"].value or math.inf)
    assert (table["p99.9"].low or math.inf) < (table["p99.9"].value or 0)


def test_misses_are_worth_no_more_than_those_that_came_close() -> None:
    """One per cent missed, evenly; as many came close, in one window: attainment takes the design effect of both."""
    values, effect = clustered()
    limit = float(np.quantile(values, 0.99, method="inverted_cdf"))
    every = np.ones(N, dtype=np.bool_)
    alone = share(values <= limit, every, windows())
    seen = share(values <= limit, every, windows(), values / limit)
    assert seen.design_effect == pytest.approx(effect)
    assert (alone.design_effect or math.inf) < effect
    assert (seen.low or 0) < (alone.low or 0)
    assert (seen.high or 0) > (alone.high or 0)


def test_low_quantiles_look_to_the_middle_too() -> None:
    """Twice as many values lie beyond the nearer quantile, on the same side, and the median is the last."""
    pairs = [(0.99, 0.98), (0.9, 0.8), (0.6, 0.5), (0.5, 0.5), (0.3, 0.5), (0.01, 0.02)]
    assert [(q, pytest.approx(_nearer(q))) for q, _ in pairs] == pairs
