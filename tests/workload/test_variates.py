"""Random numbers: the same bits everywhere, and from the distributions they claim."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from slobench.errors import ConfigError
from slobench.workload.variates import (
    child,
    cosine,
    exp,
    exp_of,
    exponentials,
    gammas,
    log,
    log_gamma,
    normal_quantile,
    offshoot,
    raw,
    uniforms,
    weibulls,
)

N = 50_000
KS_AT_ONE_IN_1000 = 1.95  # Kolmogorov's limit: P(D √n > 1.95) = 0.001, and the seeds are fixed


def ks_distance(values, cdf):
    """Kolmogorov-Smirnov distance from a continuous law, times √n."""
    n = len(values)
    expected = cdf(np.sort(values))
    steps = np.arange(n + 1) / n
    return max(np.max(steps[1:] - expected), np.max(expected - steps[:-1])) * math.sqrt(n)


def test_the_bits_of_every_distribution_are_pinned():
    """Integers, logarithms, exponentials, normals and gammas are the same bits on every machine and numpy."""
    rng = child(7, "golden", "class")
    values = [
        raw(4, rng).astype("<u8"),
        log(uniforms(4096, rng)),
        exp(40 * (uniforms(4096, rng) - 0.5)),
        normal_quantile(uniforms(4096, rng)),
        exponentials(4096, rng),
        gammas(4096, 1 / 9, rng),
        gammas(4096, 4.0, rng),
    ]
    state = hashlib.sha256()
    for each in values:
        state.update(each.astype(each.dtype.newbyteorder("<")).tobytes())
    assert state.hexdigest() == GOLDEN


def test_a_child_is_decided_by_seed_purpose_and_name_alone():
    """Another seed, purpose or class name gives another stream; the same three give the same."""
    first = raw(8, child(1, "arrivals", "a")).tolist()
    assert raw(8, child(1, "arrivals", "a")).tolist() == first
    others = [child(2, "arrivals", "a"), child(1, "lengths", "a"), child(1, "arrivals", "b"), child(1, "arrivalsa", "")]
    assert all(raw(8, rng).tolist() != first for rng in others)


def test_a_negative_seed_is_refused():
    """A seed below 0 is a user's error, told readably."""
    with pytest.raises(ConfigError, match="seed -1"):
        child(-1, "arrivals")


@given(st.floats(1e-300, 1e300))
def test_log_is_within_four_units_in_the_last_place(x):
    """The logarithm differs from the machine's by at most 4 ulp."""
    assert abs(log(np.array([x]))[0] - math.log(x)) <= 4 * math.ulp(math.log(x))


@given(st.floats(-700, 700))
def test_exp_is_within_its_stated_error(x):
    """The exponential's relative error is below 3e-16 (1 + |x|)."""
    assert exp(np.array([x]))[0] == pytest.approx(math.exp(x), rel=3e-16 * (1 + abs(x)))


def test_exp_ends_in_zero_and_in_a_finite_number():
    """Far below its range exp is 0, far above it the largest it can be, never NaN or infinite."""
    low, high = exp(np.array([-1e9, 1e9]))
    assert low == 0
    assert np.isfinite(high)


@given(st.floats(2.0**-53, 1 - 2.0**-53))
def test_normal_quantile_agrees_with_scipy(u):
    """The normal quantile agrees with scipy's to 1e-14, over all that a uniform can be."""
    assert normal_quantile(np.array([u]))[0] == pytest.approx(special.ndtri(u), rel=1e-14, abs=1e-15)


def test_uniforms_are_uniform_and_open_at_both_ends():
    """Uniforms stay strictly inside (0, 1), and pass Kolmogorov-Smirnov."""
    values = uniforms(N, child(5, "uniform"))
    assert values.min() > 0
    assert values.max() < 1
    assert ks_distance(values, lambda x: x) < KS_AT_ONE_IN_1000


def test_exponentials_are_exponential():
    """Exponential variates pass Kolmogorov-Smirnov."""
    assert ks_distance(exponentials(N, child(6, "exponential")), lambda x: -np.expm1(-x)) < KS_AT_ONE_IN_1000


@pytest.mark.parametrize("shape", [0.01, 0.3, 1.0, 4.0, 250.0])
def test_gammas_are_gamma_distributed(shape):
    """Gamma variates pass Kolmogorov-Smirnov below, at and above shape 1."""
    values = gammas(N, shape, child(8, "gamma"))
    assert ks_distance(values, lambda x: special.gammainc(shape, x)) < KS_AT_ONE_IN_1000


@pytest.mark.parametrize("shape", [0.05, 0.4, 1.0, 6.0])
def test_weibulls_are_weibull_distributed(shape):
    """Weibull variates pass Kolmogorov-Smirnov on both sides of shape 1."""
    values = weibulls(N, shape, child(9, "weibull"))
    assert ks_distance(values, lambda x: -np.expm1(-(x**shape))) < KS_AT_ONE_IN_1000


@given(st.floats(1e-3, 1e6))
def test_log_gamma_agrees_with_scipy(x):
    """Within 1e-13, or 1e-15 of it where it is large."""
    assert log_gamma(np.array([x]))[0] == pytest.approx(special.gammaln(x), rel=2e-15, abs=1e-13)


@given(st.floats(-1e6, 1e6))
def test_cosine_is_that_of_an_angle_in_turns(x):
    """Against libm on the part of a turn that is left, which is exact."""
    assert cosine(np.array([x]))[0] == pytest.approx(math.cos(2 * math.pi * math.remainder(x, 1.0)), abs=1e-15)


def test_cosine_is_exact_at_quarters():
    """No rounding where a sinusoid is at its middle, top and bottom."""
    assert cosine(np.array([0.0, 0.5, 1.0, -3.5])).tolist() == [1, -1, 1, -1]
    assert np.abs(cosine(np.array([0.25, 0.75, -5.25]))).max() < 1e-15


@given(st.floats(-800, 0))
def test_exp_of_one_number_is_that_of_an_array(x):
    """The same bits."""
    assert exp_of(x) == exp(np.array([x]))[0]


def test_an_offshoot_follows_from_its_parent_alone():
    """The same whatever was drawn from the parent; another number, or another parent, gives another stream."""
    parent = child(1, "arrivals", "a")
    before = raw(8, offshoot(parent, 3)).tolist()
    raw(100, parent)
    assert raw(8, offshoot(parent, 3)).tolist() == before
    others = [offshoot(parent, 4), offshoot(child(2, "arrivals", "a"), 3), child(1, "arrivals", "a")]
    assert all(raw(8, rng).tolist() != before for rng in others)


GOLDEN = "1dc972e807fa27ced607375a5db584c2e977de0bfcb3c1e72f1e25e1d5ca93d0"
