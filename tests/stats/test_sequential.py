"""Confidence sequences: how often they ever leave the truth out, over many looks, and how soon they exclude the false."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from slobench.stats.sequential import Sequence, betting_sequence, mixture_interval
from tests.stats.binomial import most

ALPHA = 0.05
RUNS = 300
GRID = 200
Draw = Callable[[np.random.Generator, int], np.ndarray]


def excludes(found: Sequence, mean: float) -> bool:
    """Whether the mean was ever left out."""
    return bool(np.any(found.low > mean) or np.any(found.high < mean))


def bernoulli(p: float) -> Draw:
    """0 or 1."""
    return lambda rng, n: (rng.random(n) < p).astype(float)


def beta(a: float, b: float) -> Draw:
    """Values spread over [0, 1]."""
    return lambda rng, n: rng.beta(a, b, n)


@pytest.mark.parametrize(
    ("draw", "mean"),
    [(bernoulli(0.9), 0.9), (bernoulli(0.99), 0.99), (beta(9, 1), 0.9), (beta(95, 5), 0.95), (beta(0.2, 0.2), 0.5)],
    ids=["bernoulli 0.9", "bernoulli 0.99", "beta 0.9", "beta 0.95", "u-shaped"],
)
def test_looking_after_every_value_leaves_the_truth_out_no_more_often_than_alpha(draw: Draw, mean: float) -> None:
    """250 looks in each of 300 runs at alpha 5 %: no more runs than chance allows ever exclude the mean."""
    rng = np.random.default_rng(1)
    wrong = sum(excludes(betting_sequence(draw(rng, 250), ALPHA, grid=GRID), mean) for _ in range(RUNS))
    assert wrong <= most(RUNS, ALPHA)


def spells(rng: np.random.Generator, n: int, length: float) -> np.ndarray:
    """Requests that are good, 1, outside bad spells: a Markov chain with mean 0.8 that forgets in `length` requests."""
    leave_good, leave_bad = 0.2 / length, 0.8 / length
    out, good = np.empty(n), rng.random() < 0.8
    draws = rng.random(n)
    for i in range(n):
        out[i] = good
        good = good != (draws[i] < (leave_good if good else leave_bad))
    return out


def test_dependent_requests_may_be_fed_as_means_of_long_batches_only() -> None:
    """Of requests in spells of 20: batches ten times as long keep alpha, each request by itself breaks it many times."""
    rng = np.random.default_rng(2)
    runs = [spells(rng, 8000, 20) for _ in range(100)]
    batched = sum(excludes(betting_sequence(r.reshape(-1, 200).mean(axis=1), ALPHA, grid=GRID), 0.8) for r in runs)
    raw = sum(excludes(betting_sequence(r[:2000], ALPHA, grid=GRID), 0.8) for r in runs)
    assert batched <= most(100, ALPHA)
    assert raw > 10 * 100 * ALPHA / 2


def test_what_is_clearly_false_is_excluded_soon() -> None:
    """Batches around 0.95 decide that the mean is above 0.9, around 0.5 that it is below: within 60 and 12 of them.

    At m = 0.9 no value can gain more than 1 + 0.75 (1 - m)/m, so that 37 values of 1 are the least for "above" at this
    alpha; 60 leave room for the spread. Below, each gains about 1 + 0.75/(1 - m) (m - 0.5), so that 3 are the least.
    """
    rng = np.random.default_rng(3)
    above = [betting_sequence(rng.beta(95, 5, 120), ALPHA).low >= 0.9 for _ in range(50)]
    below = [betting_sequence(rng.beta(5, 5, 12), ALPHA).high < 0.9 for _ in range(50)]
    assert all(found.any() for found in above)
    assert all(found[-1] for found in below)
    assert not betting_sequence(np.ones(36), ALPHA).low[-1] >= 0.9


@settings(max_examples=50, deadline=None)
@given(values=arrays(float, st.integers(1, 60), elements=st.floats(0, 1)))
def test_bounds_close_in_and_prefixes_agree(values: np.ndarray) -> None:
    """Low ascends, high descends, and what is said after k values does not depend on the later ones."""
    found = betting_sequence(values, ALPHA, grid=50)
    assert np.all(np.diff(found.low) >= 0)
    assert np.all(np.diff(found.high) <= 0)
    half = betting_sequence(values[: len(values) // 2], ALPHA, grid=50)
    assert np.array_equal(half.low, found.low[: len(half.low)])
    assert np.array_equal(half.high, found.high[: len(half.high)])


def test_values_that_no_mean_fits_leave_nothing() -> None:
    """A share that falls from 1 to 0 has no mean: the bounds cross, and say so."""
    found = betting_sequence(np.repeat([1.0, 0.0], 300), ALPHA)
    assert found.low[-1] > found.high[-1]


@pytest.mark.parametrize("values", [np.array([1.2]), np.array([-0.1]), np.array([np.nan])])
def test_values_outside_0_to_1_are_refused(values: np.ndarray) -> None:
    """NaN too: the caller decides what a missing value is."""
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\]"):
        betting_sequence(values)


@pytest.mark.parametrize(("p", "prior"), [(0.9, (0.5, 0.5)), (0.99, (0.5, 0.5)), (0.99, (49.5, 0.5))])
def test_the_mixture_holds_at_every_look(p: float, prior: tuple[float, float]) -> None:
    """At 60 looks up to 3,000 trials in each of 300 runs: no more runs than chance allows ever exclude p."""
    rng = np.random.default_rng(4)
    looks = np.unique(np.geomspace(5, 3000, 60).astype(int))
    wrong = 0
    for _ in range(RUNS):
        hits = np.cumsum(rng.random(3000) < p)
        bounds = (mixture_interval(float(hits[n - 1]), float(n), ALPHA, prior) for n in looks)
        wrong += any(not low <= p <= high for low, high in bounds)
    assert wrong <= most(RUNS, ALPHA)


def test_the_mixture_is_as_published() -> None:
    """285 of 300 at 95 %: [0.894, 0.982], where Wilson's interval for one look would be [0.919, 0.969]."""
    assert mixture_interval(285, 300) == pytest.approx((0.894, 0.982), abs=6e-4)


@given(n=st.floats(0.1, 1e6), share=st.floats(0, 1), alpha=st.floats(1e-6, 0.5))
def test_the_mixture_holds_what_was_seen(n: float, share: float, alpha: float) -> None:
    """Ordered, inside [0, 1], around the share seen; wider for a smaller alpha."""
    low, high = mixture_interval(share * n, n, alpha)
    wider = mixture_interval(share * n, n, alpha / 2)
    assert 0 <= wider[0] <= low <= share + 1e-12
    assert share - 1e-12 <= high <= wider[1] <= 1


def test_no_trials_say_nothing() -> None:
    """[0, 1]."""
    assert mixture_interval(0, 0) == (0.0, 1.0)
