"""Length distributions: bounds, means, and the same first lengths whatever comes after."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from slobench.config.lengths import Lengths
from slobench.workload.lengths import draw
from slobench.workload.variates import child

N = 20_000
ADAPTER = TypeAdapter(Lengths)
TOKENS = st.integers(1, 10_000_000)
CLIP = st.one_of(st.just({}), st.tuples(TOKENS, TOKENS).map(lambda pair: {"min": min(pair), "max": max(pair)}))
LENGTHS = st.one_of(
    st.builds(lambda value: {"dist": "constant", "value": value}, TOKENS),
    st.tuples(TOKENS, TOKENS).map(lambda pair: {"dist": "uniform", "low": min(pair), "high": max(pair)}),
    st.builds(
        lambda mean, std, clip: {"dist": "normal", "mean": mean, "std": std} | clip,
        st.floats(0.1, 1e7), st.floats(0, 1e7), CLIP,
    ),
    st.builds(
        lambda mean, sigma, clip: {"dist": "lognormal", "mean": mean, "sigma": sigma} | clip,
        st.floats(0.1, 1e7), st.floats(0, 10), CLIP,
    ),
    st.builds(lambda values: {"dist": "empirical", "values": values}, st.lists(TOKENS, min_size=1, max_size=9)),
)  # fmt: skip
fixed = settings(derandomize=True, deadline=None)


def drawn(spec, n=N, seed=0):
    """Draw n lengths."""
    return draw(ADAPTER.validate_python(spec), n, child(seed, "input_tokens"))


@fixed
@given(spec=LENGTHS, seed=st.integers(0, 2**32))
def test_lengths_stay_in_their_bounds(spec, seed):
    """Every length is an integer from 1 up, within what the distribution allows."""
    values = drawn(spec, 300, seed)
    low = spec.get("low", spec.get("min", 1))
    high = spec.get("high", spec.get("max", 10_000_000))
    assert values.dtype == np.int64
    assert low <= values.min()
    assert values.max() <= high
    if spec["dist"] == "empirical":
        assert set(values.tolist()) <= set(spec["values"])
    if spec["dist"] == "constant":
        assert set(values.tolist()) == {spec["value"]}


@fixed
@given(spec=LENGTHS, k=st.integers(0, 200))
def test_the_first_lengths_do_not_depend_on_how_many_follow(spec, k):
    """Drawing k lengths gives the first k of drawing 200."""
    assert drawn(spec, k).tolist() == drawn(spec, 200)[:k].tolist()


def test_uniform_takes_both_ends_and_all_between_alike():
    """Each of 6 values comes n/6 times, within 5 binomial standard errors."""
    counts = np.bincount(drawn({"dist": "uniform", "low": 3, "high": 8}), minlength=9)[3:]
    assert counts.min() > 0
    assert np.abs(counts - N / 6).max() < 5 * math.sqrt(N * (1 / 6) * (5 / 6))


def test_empirical_takes_each_entry_alike():
    """A value listed twice comes twice as often, within 5 binomial standard errors."""
    values = drawn({"dist": "empirical", "values": [10, 20, 20]})
    assert abs((values == 20).sum() - N * 2 / 3) < 5 * math.sqrt(N * 2 / 9)


@pytest.mark.parametrize(
    ("spec", "sd"),
    [
        ({"dist": "normal", "mean": 5000, "std": 600}, 600),
        # A lognormal's variance is mean² (exp σ² - 1).
        ({"dist": "lognormal", "mean": 5000, "sigma": 0.5}, 5000 * math.sqrt(math.expm1(0.25))),
    ],
)
def test_mean_and_spread_are_those_before_clipping(spec, sd):
    """Unclipped, the mean is as written within 5 standard errors, and the spread within 5 %."""
    values = drawn(spec)
    assert values.mean() == pytest.approx(5000, abs=5 * sd / math.sqrt(N))
    assert values.std() == pytest.approx(sd, rel=0.05)  # over 5/√(2n) = 2.5 %, times the tail's excess


def test_clipping_moves_the_mean_not_the_rest():
    """Values within the bounds are the same with and without clipping."""
    free = drawn({"dist": "lognormal", "mean": 512, "sigma": 0.9})
    clipped = drawn({"dist": "lognormal", "mean": 512, "sigma": 0.9, "min": 100, "max": 1000})
    assert clipped.tolist() == np.clip(free, 100, 1000).tolist()
