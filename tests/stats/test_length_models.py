"""Models of lengths: found again from what they drew, as far as the distance says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, lognorm

from slobench.stats.length_models import LENGTH_MODELS, Lengths, weights_of

N = 4_000
MODELS = {model.name: model for model in LENGTH_MODELS}
DRAWN = {
    "lognormal": (lambda rng: rng.lognormal(math.log(300), 0.8, N), (300.0, 0.8)),
    "normal": (lambda rng: rng.normal(400, 60, N), (400.0, 60.0)),
    "weibull": (lambda rng: 500 * rng.weibull(1.5, N), (500.0, 1.5)),
}


def lengths(values: np.ndarray, low: int = 1, high: int = 100_000) -> np.ndarray:
    """Rounded and clipped as plans do it."""
    return np.clip(np.rint(values), low, high).astype(np.int64)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 7))
def test_every_length_is_counted_once(tokens: list[int], blocks: int) -> None:
    """Counts by block add up to the lengths; shares end at 1."""
    seen = Lengths.of(np.array(tokens), min(blocks, len(tokens)))
    assert np.repeat(seen.values, seen.total.astype(int)).tolist() == sorted(tokens)
    assert seen.share_up_to()[-1] == pytest.approx(1)
    assert np.ptp(seen.counts.sum(axis=1)) <= 1


@pytest.mark.parametrize("name", DRAWN)
def test_parameters_are_found_again(name: str) -> None:
    """Each parameter within 5 %, over three of its standard errors; the distance is that of chance."""
    draw, truth = DRAWN[name]
    seen = Lengths.of(lengths(draw(np.random.default_rng(1))), 10)
    values = MODELS[name].fit(seen)
    assert values == pytest.approx(truth, rel=0.05)
    assert MODELS[name].distance(seen, values) < 1.6 / math.sqrt(N)


def test_a_limit_is_not_taken_for_a_shape() -> None:
    """Lengths piled up at a limit leave the parameters below it what they were."""
    cut = lengths(np.random.default_rng(2).lognormal(math.log(300), 0.8, N), high=600)
    seen = Lengths.of(cut, 10)
    assert (cut == 600).mean() > 0.15
    assert MODELS["lognormal"].fit(seen) == pytest.approx((300, 0.8), rel=0.06)


def test_two_humps_are_found_and_foretell_better() -> None:
    """A mixture finds both medians and the share; held out it is ahead of one lognormal by far."""
    rng = np.random.default_rng(3)
    values = np.where(rng.random(N) < 0.3, rng.lognormal(math.log(420), 0.1, N), rng.lognormal(math.log(90), 0.4, N))
    seen = Lengths.of(lengths(values), 10)
    mixture, single = MODELS["mixture of 2 lognormals"], MODELS["lognormal"]
    found = mixture.fit(seen)
    medians = sorted(found[0:4:2])
    assert medians == pytest.approx([90, 420], rel=0.05)
    assert min(weights_of(found[4:])) == pytest.approx(0.3, abs=0.03)
    assert sum(weights_of(found[4:])) == pytest.approx(1)
    gain = mixture.held_out(seen, found) - single.held_out(seen, single.fit(seen))
    assert gain.min() > 0
    assert mixture.distance(seen, found) < 0.03 < single.distance(seen, single.fit(seen))


def test_the_distance_is_kolmogorov_and_smirnovs() -> None:
    """Against scipy's on continuous values: rounding to whole tokens of thousands changes it by 1/500 at most."""
    values = np.random.default_rng(4).lognormal(math.log(9_000), 0.5, 900)
    seen = Lengths.of(lengths(values, high=10**7), 10)
    expected = kstest(values, lognorm(0.6, scale=8_000).cdf).statistic
    assert MODELS["lognormal"].distance(seen, (8_000, 0.6)) == pytest.approx(expected, abs=0.002)
