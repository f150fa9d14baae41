"""Paired tests keep their size at few pairs, and what is known to break at few pairs does break."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.stats.paired import holm, paired_t, pairs_needed
from tests.stats.binomial import fewest, most

RUNS = 4000
ALPHA = 0.01


def rejections(draw: np.ndarray) -> int:
    """How many rows have p <= ALPHA."""
    return sum(paired_t(row).p <= ALPHA for row in draw)


@pytest.mark.parametrize("pairs", [4, 7, 10])
def test_the_size_is_what_it_says(pairs: int) -> None:
    """Of 4,000 experiments without a difference 1 % reject, as many as a binomial gives."""
    found = rejections(np.random.default_rng(pairs).normal(0, 1, (RUNS, pairs)))
    assert fewest(RUNS, ALPHA) <= found <= most(RUNS, ALPHA)


@pytest.mark.parametrize("pairs", [4, 7, 10])
def test_long_tails_and_skew_to_the_right_reject_no_more(pairs: int) -> None:
    """Student's t with 3 degrees of freedom, and exponential differences: at most the level."""
    rng = np.random.default_rng(20 + pairs)
    assert rejections(rng.standard_t(3, (RUNS, pairs))) <= most(RUNS, ALPHA)
    assert rejections(rng.exponential(1, (RUNS, pairs)) - 1) <= most(RUNS, ALPHA)


def test_a_percentile_bootstrap_over_pairs_would_not_keep_it() -> None:
    """At 5 pairs it rejects in over 3 % at a level of 1 %: it is not offered."""
    rng = np.random.default_rng(1)
    draws = rng.normal(0, 1, (1000, 5))
    means = draws[np.arange(1000)[:, None, None], rng.integers(0, 5, (1000, 400, 5))].mean(axis=2)
    assert np.sum(np.quantile(means, ALPHA, axis=1) > 0) > most(1000, 0.03)


@pytest.mark.parametrize(
    ("sd", "pairs"), [(1.0, (5, 4, 3)), (1.6, (8, 5, 4)), (2.5, (15, 8, 5)), (4, (32, 14, 6)), (10, (184, 69, 21))]
)
def test_pairs_needed_for_three_five_and_ten_per_cent(sd: float, pairs: tuple[int, ...]) -> None:
    """The table of an independent computation: 95 % power at 1 %, by the sd of a pair's log ratio in per cent."""
    assert tuple(pairs_needed(sd / 100, math.log(1 + x / 100)) for x in (3, 5, 10)) == pairs


def test_so_many_pairs_have_the_power() -> None:
    """5 % worse with 1.6 % a pair: five pairs reject in at least 95 % of 2,000 experiments, four in fewer."""
    rng = np.random.default_rng(2)
    effect, runs = math.log(1.05), 2000
    assert rejections(rng.normal(effect, 0.016, (runs, 5))) >= fewest(runs, 0.95)
    assert rejections(rng.normal(effect, 0.016, (runs, 4))) < fewest(runs, 0.95)


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_step_by_step(p: list[float]) -> None:
    """Adjusted p <= alpha where the step-down procedure of the paper rejects at alpha, for any alpha."""
    adjusted = holm(p)
    for alpha in (0.01, 0.05, 0.3, *adjusted):
        rejected, left = set(), len(p)
        for index in sorted(range(len(p)), key=lambda i: p[i]):
            if min(p[index] * left, 1.0) > alpha:
                break
            rejected.add(index)
            left -= 1
        assert {i for i, x in enumerate(adjusted) if x <= alpha} == rejected


def test_holm_keeps_the_error_of_a_family() -> None:
    """Three correlated tests, one true effect: some true hypothesis is rejected in at most 1 % of experiments."""
    rng = np.random.default_rng(3)
    draws = rng.normal(0, 1, (RUNS, 3, 7)) + rng.normal(0, 1, (RUNS, 1, 7))
    draws[:, 0] += 6
    wrong = sum(any(p <= ALPHA for p in holm([paired_t(each).p for each in draw])[1:]) for draw in draws)
    assert wrong <= most(RUNS, ALPHA)


def test_bounds_cover() -> None:
    """The upper 95 % bound of 4 pairs lies above the true mean in 95 % of experiments; the lower mirrors it."""
    rng = np.random.default_rng(4)
    draws = rng.normal(0.3, 1, (RUNS, 4))
    covered = sum(paired_t(row).upper() >= 0.3 for row in draws)
    assert fewest(RUNS, 0.95) <= covered <= most(RUNS, 0.95)
    one = paired_t(draws[0])
    assert one.lower() == pytest.approx(2 * one.mean - one.upper())


def test_equal_differences_are_beyond_doubt() -> None:
    """Without any spread p is 0 above zero and 1 elsewhere; a single pair is an error."""
    assert paired_t(np.full(4, 0.1)).p == 0
    assert paired_t(np.zeros(4)).p == 1
    assert paired_t(np.full(4, -0.1)).p == 1
    with pytest.raises(ValueError, match="at least 2 pairs"):
        paired_t(np.ones(1))
