"""Times drawn from distributions: their means, their bounds, the same for every length of a plan."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from slobench.config.durations import Durations
from slobench.workload.durations import draw_ns
from slobench.workload.variates import child

S = 10**9
ADAPTER = TypeAdapter(Durations)
MEANS = [
    ({"dist": "constant", "value": "3s"}, 3.0, 0.0),
    ({"dist": "uniform", "low": "1s", "high": "3s"}, 2.0, 2 / math.sqrt(12)),
    ({"dist": "exponential", "mean": "4s"}, 4.0, 4.0),
    ({"dist": "lognormal", "mean": "8s", "sigma": 0.5}, 8.0, 8 * math.sqrt(math.exp(0.25) - 1)),
    ({"dist": "weibull", "scale": "2s"}, 2.0, 2.0),
    ({"dist": "empirical", "values": ["1s", "4s"]}, 2.5, 1.5),
]


@pytest.mark.parametrize(("spec", "mean_s", "std_s"), MEANS)
def test_times_have_the_mean_asked_for(spec, mean_s, std_s):
    """Mean and standard deviation are those of the distribution, within 5 standard errors."""
    n = 40_000
    drawn = draw_ns(ADAPTER.validate_python(spec), n, child(1, "think_time")) / S
    assert drawn.mean() == pytest.approx(mean_s, abs=5 * std_s / math.sqrt(n) + 1e-9)
    assert drawn.std() == pytest.approx(std_s, rel=0.05)


@settings(deadline=None, max_examples=50)
@given(
    spec=st.sampled_from([spec for spec, _, _ in MEANS]),
    seed=st.integers(0, 2**32),
    n=st.integers(0, 50),
    more=st.integers(0, 50),
)
def test_more_times_begin_with_the_fewer(spec, seed, n, more):
    """What is drawn for a longer plan begins with what is drawn for a shorter one; nothing is negative."""
    durations = ADAPTER.validate_python(spec)
    drawn = draw_ns(durations, n + more, child(seed, "x"))
    assert drawn[:n].tolist() == draw_ns(durations, n, child(seed, "x")).tolist()
    assert (drawn >= 0).all()


def test_times_are_bounded():
    """A bound holds, and the longest tail stays within what a plan can hold."""
    bounded = draw_ns(ADAPTER.validate_python({"dist": "exponential", "mean": "1s", "max": "2s"}), 1000, child(0, "x"))
    assert bounded.max() == 2 * S
    wild = draw_ns(ADAPTER.validate_python({"dist": "weibull", "scale": "10000h", "shape": 0.1}), 1000, child(0, "x"))
    assert wild.max() <= 2**60
