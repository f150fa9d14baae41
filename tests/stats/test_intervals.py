"""Intervals cover what they say: exactly where that can be summed, by simulation with fixed seeds elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import bdtr, bdtri

from slobench.stats.effective import design_effect
from slobench.stats.intervals import exact_binomial, expit, logit, student_quantile
from slobench.stats.jackknife import Grouped, jackknife_t, standard_error
from slobench.stats.quantiles import inverted_cdf

GROUPS = 10
RUNS = 300
CUSTOMERS = 12_000
LOAD = 0.7  # of an M/M/1 queue with service rate 1


@pytest.mark.parametrize("n", [10, 60, 300])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.99, 0.999])
def test_exact_binomial_covers_at_least_its_level(n: int, p: float) -> None:
    """Summed over every outcome, the chance that the interval holds p is at least 95 %."""
    inside = [k for k in range(n + 1) if exact_binomial(k, n)[0] <= p <= exact_binomial(k, n)[1]]
    assert bdtr(max(inside), n, p) - (bdtr(min(inside) - 1, n, p) if min(inside) else 0.0) >= 0.95


def test_exact_binomial_without_a_failure_is_the_rule_of_three() -> None:
    """All of n good: the lower bound is (alpha/2)^(1/n), also for an effective n that is no integer."""
    assert exact_binomial(57.3, 57.3) == (pytest.approx(0.025 ** (1 / 57.3)), 1.0)
    assert exact_binomial(0, 57.3) == (0.0, pytest.approx(1 - 0.025 ** (1 / 57.3)))


@pytest.mark.parametrize(("successes", "n"), [(-1, 10), (11, 10), (0, 0)])
def test_exact_binomial_refuses_what_is_no_share(successes: float, n: float) -> None:
    """More successes than trials, or no trials, is an error and not an interval."""
    with pytest.raises(ValueError, match="expected 0 <= successes <= n"):
        exact_binomial(successes, n)


def test_exact_binomial_bounds_are_where_the_tails_are() -> None:
    """The upper bound of k failures of n is the p at which at most k come with chance 2.5 %."""
    assert exact_binomial(7, 50)[1] == pytest.approx(bdtri(7, 50, 0.025), rel=1e-9)


def test_student_quantile_is_that_of_the_tables() -> None:
    """t(9 dof, .975) = 2.262 and t(1 dof, .975) = 12.706 (any statistics table)."""
    assert student_quantile(9, 0.975) == pytest.approx(2.262157, abs=1e-6)
    assert student_quantile(1, 0.975) == pytest.approx(12.7062, abs=1e-4)


@given(p=st.floats(1e-9, 1 - 1e-9))
def test_expit_undoes_logit(p: float) -> None:
    """expit(logit(p)) = p."""
    assert expit(logit(p)) == pytest.approx(p, rel=1e-6)


@given(
    values=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3)), min_size=8, max_size=120),
    q=st.floats(0.01, 0.999),
)
def test_leaving_one_group_out_is_the_quantile_of_the_rest(values: list[tuple[int, int]], q: float) -> None:
    """The fast leave-one-group-out quantile equals sorting the rest anew."""
    array = np.array([value for value, _ in values], dtype=float)
    group = np.array([g for _, g in values])
    group[:4] = [0, 1, 2, 3]
    without = Grouped.sort(array, group, 4).quantile_without_each(q)
    assert without.tolist() == [inverted_cdf(array[group != g], q) for g in range(4)]


@given(
    values=st.lists(st.tuples(st.floats(0, 1e6) | st.just(np.inf), st.integers(0, 4)), min_size=1, max_size=80),
    limit=st.floats(0, 1e6),
)
def test_groups_know_their_sizes_sums_and_what_exceeds_a_value(values: list[tuple[float, int]], limit: float) -> None:
    """Each is that of the group's own values, in whatever order they came; the variance is that of all."""
    array, group = np.array([value for value, _ in values]), np.array([g for _, g in values])
    grouped, mine = Grouped.sort(array, group, 5), [array[group == g] for g in range(5)]
    assert grouped.values.tolist() == sorted(array)
    assert grouped.sizes.tolist() == [len(part) for part in mine]
    assert grouped.above(limit).tolist() == [int(np.sum(part > limit)) for part in mine]
    assert grouped.sums == pytest.approx([part.sum() for part in mine])
    if np.isfinite(array).all():
        assert grouped.variance == pytest.approx(array.var(), rel=1e-9, abs=1e-9 * (1 + array.max()) ** 2)


def test_the_jackknife_of_a_mean_is_the_method_of_batch_means() -> None:
    """Over equal groups its standard error is the standard deviation of group means over sqrt(K)."""
    values = np.random.default_rng(3).normal(size=(GROUPS, 40))
    without = (values.sum() - values.sum(axis=1)) / (values.size - 40)
    assert standard_error(without) == pytest.approx(values.mean(axis=1).std(ddof=1) / math.sqrt(GROUPS))


@pytest.fixture(scope="module")
def waits() -> np.ndarray:
    """Return waits of RUNS runs of an M/M/1 queue at 70 % load, from its stationary state (Lindley's recursion)."""
    rng = np.random.default_rng(20)
    wait = np.where(rng.random(RUNS) < LOAD, rng.exponential(1 / (1 - LOAD), RUNS), 0.0)
    out = np.empty((CUSTOMERS, RUNS))
    for k in range(CUSTOMERS):
        out[k] = wait
        wait = np.maximum(wait + rng.exponential(1, RUNS) - rng.exponential(1 / LOAD, RUNS), 0.0)
    return out.T


def least_covered(level: float) -> int:
    """Return how many of RUNS an interval that covers with chance `level` covers in all but 1 in 1000 test runs."""
    return next(k for k in range(RUNS + 1) if bdtr(k, RUNS, level) > 0.001)


def test_jackknife_intervals_cover_quantiles_of_dependent_waits(waits: np.ndarray) -> None:
    """p90 and p99 of an M/M/1 queue's waits lie in the jackknife interval of one run in at least 88 % of runs.

    P(wait > x) = load * exp(-(1 - load) x) gives the truth. 88 % is what docs/metrics.md promises of 95 % intervals.
    """
    group = np.arange(CUSTOMERS) * GROUPS // CUSTOMERS
    for q in (0.9, 0.99):
        truth = math.log(LOAD / (1 - q)) / (1 - LOAD)
        covered = 0
        for run in waits:
            grouped = Grouped.sort(run, group, GROUPS)
            low, high = jackknife_t(math.log(grouped.quantile(q)), np.log(grouped.quantile_without_each(q)))
            covered += math.exp(low) <= truth <= math.exp(high)
        assert covered >= least_covered(0.88), (q, covered / RUNS)


def test_order_statistics_of_independent_values_would_not_cover(waits: np.ndarray) -> None:
    """The interval that independence would give holds the true p90 in under 60 % of runs: never print it."""
    truth = math.log(LOAD / 0.1) / (1 - LOAD)
    half = 1.96 * math.sqrt(0.1 * 0.9 / CUSTOMERS)
    covered = sum(inverted_cdf(run, 0.9 - half) <= truth <= inverted_cdf(run, 0.9 + half) for run in waits)
    assert covered / RUNS < 0.6


def test_jackknife_intervals_cover_a_share_of_dependent_waits(waits: np.ndarray) -> None:
    """The share of waits up to a limit (90 %) lies in its logit-scale interval in at least 88 % of runs."""
    limit = math.log(LOAD / 0.1) / (1 - LOAD)
    covered = 0
    for run in waits:
        hits = (run <= limit).reshape(GROUPS, -1).sum(axis=1)
        without = (hits.sum() - hits) / (CUSTOMERS * (1 - 1 / GROUPS))
        low, high = jackknife_t(logit(hits.sum() / CUSTOMERS), np.array([logit(p) for p in without]))
        covered += low <= logit(0.9) <= high
    assert covered >= least_covered(0.88), covered / RUNS


def test_the_design_effect_is_the_ratio_of_variances(waits: np.ndarray) -> None:
    """Its mean over runs equals the variance of the share over runs, over p(1-p)/n, within sampling error.

    Ten groups give D a relative standard error of sqrt(2/9) a run, RUNS of them 0.03; the variance over runs has
    sqrt(2/RUNS) = 0.08; groups of 1,200 customers are not quite independent, which takes off up to 0.15.
    """
    limit = math.log(LOAD / 0.1) / (1 - LOAD)
    hits = (waits <= limit).reshape(RUNS, GROUPS, -1).sum(axis=2)
    sizes = np.full(GROUPS, CUSTOMERS // GROUPS)
    mean = np.mean([design_effect(h, sizes) for h in hits])
    truth = np.var(hits.sum(axis=1) / CUSTOMERS) * CUSTOMERS / 0.09
    assert mean == pytest.approx(truth, rel=0.15 + 3 * 0.08)
    assert truth > 20  # these are no independent requests


def test_the_design_effect_of_independent_trials_is_about_one() -> None:
    """Its median over 400 runs is near 1 (it is at least 1, and chi-squared(9)/9 has median 0.93)."""
    rng = np.random.default_rng(5)
    sizes = np.full(GROUPS, 200)
    effects = [design_effect(rng.binomial(200, 0.9, GROUPS), sizes) for _ in range(400)]
    assert np.median([x for x in effects if x is not None]) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("hits", [[0, 0, 0], [9, 9, 9]])
def test_a_share_of_none_or_all_has_no_design_effect(hits: list[int]) -> None:
    """Where nothing varies the design effect is unknown, not 1."""
    assert design_effect(np.array(hits), np.array([9, 9, 9])) is None
