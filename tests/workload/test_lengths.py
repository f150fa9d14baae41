"""Length distributions: bounds, means, and the same first lengths whatever comes after."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from slobench.config.lengths import Lengths
from slobench.config.workload import RequestClass
from slobench.workload.lengths import draw, draw_lengths
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
    st.builds(
        lambda scale, shape, clip: {"dist": "weibull", "scale": scale, "shape": shape} | clip,
        st.floats(0.1, 1e7), st.floats(0.1, 100), CLIP,
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


def test_weibull_is_exponential_at_shape_1_and_has_its_own_mean_elsewhere():
    """The mean is scale × Γ(1 + 1/shape), within 5 standard errors."""
    for shape, sd in ((1.0, 1.0), (0.8, 1.43), (2.0, 0.463)):
        values = drawn({"dist": "weibull", "scale": 4000, "shape": shape})
        assert values.mean() == pytest.approx(4000 * math.gamma(1 + 1 / shape), abs=5 * 4000 * sd / math.sqrt(N))


def test_a_mixture_draws_each_part_by_its_weight_and_as_the_part_would():
    """Of weights 3 and 1, a quarter comes from the second part, whose mean is its own."""
    parts = [{"dist": "uniform", "low": 1, "high": 9}, {"dist": "lognormal", "mean": 5000, "sigma": 0.2, "min": 1000}]
    values = drawn({"dist": "mixture", "weights": [3, 1], "parts": parts})
    second = values[values > 9]
    assert len(second) == pytest.approx(N / 4, abs=5 * math.sqrt(N * 3 / 16))
    assert second.mean() == pytest.approx(5000, abs=5 * 5000 * 0.202 / math.sqrt(len(second)))
    counts = np.bincount(values[values <= 9], minlength=10)[1:]
    assert np.abs(counts - N / 12).max() < 5 * math.sqrt(N / 12)


def test_weights_and_parts_go_together():
    """A mixture with a weight too many is refused."""
    with pytest.raises(ValueError, match="2 weights for 1 parts"):
        ADAPTER.validate_python({"dist": "mixture", "weights": [1, 1], "parts": [{"dist": "constant", "value": 5}]})


PAIRS = [(10, 1), (20, 2), (20, 3), (4000, 500)]


def of_class(input_tokens, output_tokens, n=500):
    """The lengths of the first n requests of a class."""
    spec = RequestClass.model_validate({"input_tokens": input_tokens, "output_tokens": output_tokens})
    return draw_lengths(spec.input_tokens, spec.output_tokens, n, 7, "chat")


def test_pairs_stay_pairs():
    """Paired outputs come with the input of their place, each pair as often as any other, and none is made up."""
    inputs, outputs = of_class(
        {"dist": "empirical", "values": [a for a, _ in PAIRS]},
        {"dist": "paired", "values": [b for _, b in PAIRS]},
        4000,
    )
    counts = Counter(zip(inputs.tolist(), outputs.tolist(), strict=True))
    assert set(counts) == set(PAIRS)
    assert min(counts.values()) > 1000 - 5 * math.sqrt(750)


def test_without_pairs_the_two_lengths_are_drawn_apart_as_ever():
    """The lengths of a class are those of the two children of its seed."""
    normal = {"dist": "lognormal", "mean": 300, "sigma": 1}
    inputs, outputs = of_class(normal, normal)
    assert inputs.tolist() == draw(ADAPTER.validate_python(normal), 500, child(7, "input_tokens", "chat")).tolist()
    assert outputs.tolist() == draw(ADAPTER.validate_python(normal), 500, child(7, "output_tokens", "chat")).tolist()


@pytest.mark.parametrize("inputs", [{"dist": "constant", "value": 8}, {"dist": "empirical", "values": [1, 2, 3]}])
def test_pairs_without_their_inputs_are_refused(inputs):
    """Paired outputs need an empirical input with as many values."""
    with pytest.raises(ValueError, match="expected input_tokens"):
        of_class(inputs, {"dist": "paired", "values": [1, 2]})
