"""Arrival processes: rate, variation and dispersion as asked, exact in ns, the same for every bound."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from slobench.config.arrivals import Burst, Constant, Gamma, Poisson
from slobench.errors import ConfigError
from slobench.workload.arrivals import offsets_ns
from slobench.workload.moments import cv_of_gaps
from slobench.workload.variates import child

S = 10**9
N = 20_000
SEEDS = st.integers(0, 2**32 - 1)
CVS = st.sampled_from([0.0, 0.5, 1.0, 3.0])
RATES = st.floats(0.1, 500)
fixed = settings(derandomize=True, max_examples=25, deadline=None)  # bounds of 6 σ, on examples that do not change


def process(rate, cv):
    """Make the process of this cv, Poisson by its own name."""
    return Poisson(rate=rate) if cv == 1 else Gamma(rate=rate, cv=cv)


def first(arrivals, n, seed=0):
    """Draw the first n arrivals."""
    return offsets_ns(arrivals, n=n, horizon_ns=None, rng=child(seed, "arrivals"))


def before(arrivals, horizon_ns, seed=0):
    """Draw the arrivals before a time."""
    return offsets_ns(arrivals, n=None, horizon_ns=horizon_ns, rng=child(seed, "arrivals"))


@fixed
@given(rate=RATES, cv=CVS, seed=SEEDS)
def test_the_rate_is_the_one_asked_for(rate, cv, seed):
    """The mean gap is 1/rate within 6 standard errors of a mean of n gaps, cv/√n."""
    gaps_ns = np.diff(first(process(rate, cv), N, seed))
    assert gaps_ns.mean() * rate / S == pytest.approx(1, abs=6 * cv / math.sqrt(N) + rate / S)


@fixed
@given(rate=RATES, cv=CVS, seed=SEEDS)
def test_the_cv_of_the_gaps_is_the_one_asked_for(rate, cv, seed):
    """The gaps' cv is as asked within 6 standard errors, cv·√((1 + cv²)/2n) for gamma gaps (delta method)."""
    gaps_ns = np.diff(first(process(rate, cv), N, seed))
    error = cv * math.sqrt((1 + cv * cv) / (2 * N))
    assert gaps_ns.std() / gaps_ns.mean() == pytest.approx(cv, abs=6 * error + 1e-6)


@pytest.mark.parametrize("width_s", [0.05, 1.0, 10.0])
@pytest.mark.parametrize("seed", range(4))
def test_poisson_counts_have_dispersion_one_at_every_scale(width_s, seed):
    """Poisson counts in m bins have variance/mean 1 within 6 standard errors √(2/(m-1)), plus their skew's share."""
    rate, bins = 40.0, 2000
    times = before(Poisson(rate=rate), round(bins * width_s * S), seed) / S
    counts = np.bincount((times / width_s).astype(int), minlength=bins)
    # The index's variance for Poisson counts: 2/(m-1) (1 + 1/2µ) where the mean count µ is small.
    error = math.sqrt(2 / (bins - 1) * (1 + 1 / (2 * rate * width_s)))
    assert counts.var(ddof=1) / counts.mean() == pytest.approx(1, abs=6 * error)


@pytest.mark.parametrize("cv", [0.5, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_gamma_counts_have_the_dispersion_of_their_gaps_over_long_times(cv, seed):
    """Over bins of 1,000 mean gaps, a renewal process's variance/mean tends to cv² (6 standard errors, 2 % for the rest)."""
    bins, per_bin = 400, 1000
    times = before(Gamma(rate=per_bin, cv=cv), bins * S, seed) / S
    counts = np.bincount(times.astype(int), minlength=bins)
    assert counts.var(ddof=1) / counts.mean() == pytest.approx(cv * cv, rel=6 * math.sqrt(2 / (bins - 1)) + 0.02)


@pytest.mark.parametrize(("arrivals", "shape"), [(Poisson(rate=7), 1), (Gamma(rate=7, cv=2), 1 / 4)])
def test_gaps_have_the_asked_distribution(arrivals, shape):
    """Gaps pass Kolmogorov-Smirnov against the gamma law of their cv (P = 0.001, fixed seed)."""
    gaps = np.sort(np.diff(first(arrivals, N, 11)) / S * arrivals.rate)
    n, expected = len(gaps), special.gammainc(shape, gaps * shape)
    steps = np.arange(n + 1) / n
    distance = max(np.max(steps[1:] - expected), np.max(expected - steps[:-1]))
    assert special.kolmogorov(distance * math.sqrt(n)) > 0.001


def test_poisson_is_not_rescaled_to_the_nominal_rate():
    """The time of the nth arrival varies from seed to seed as a sum of n exponentials does: sd √n/rate."""
    n, seeds = 100, 400
    last_s = np.array([first(Poisson(rate=10), n, seed)[-1] for seed in range(seeds)]) / S
    # A standard deviation of 400 nearly normal values has a relative error of 1/√800.
    assert last_s.std() == pytest.approx(math.sqrt(n) / 10, rel=5 / math.sqrt(2 * seeds))


@fixed
@given(rate=RATES, cv=CVS, seed=SEEDS, n=st.integers(1, 9000), more=st.integers(0, 9000))
def test_a_larger_bound_continues_a_smaller_one(rate, cv, seed, n, more):
    """The first n arrivals are the same whatever is asked beyond them, by number or by time."""
    longer = first(process(rate, cv), n + more, seed)
    assert first(process(rate, cv), n, seed).tolist() == longer[:n].tolist()
    horizon_ns = int(longer[n - 1])
    assert before(process(rate, cv), horizon_ns, seed).tolist() == longer[longer < horizon_ns].tolist()


@fixed
@given(rate=st.floats(1e-6, 1e6), cv=st.floats(0, 100), seed=SEEDS)
def test_arrivals_are_ascending_integers_from_zero_up(rate, cv, seed):
    """Whatever rate and cv a workload can ask for, times are int64, ascending, not negative."""
    times = offsets_ns(Gamma(rate=rate, cv=cv), n=100, horizon_ns=10**18, rng=child(seed, "arrivals"))
    assert times.dtype == np.int64
    assert (np.diff(times) >= 0).all()
    assert (times >= 0).all()
    assert (times < 10**18).all()


def test_constant_arrivals_are_even_and_as_many_as_asked():
    """10/s for 60 s is 600 requests, 100 ms apart, the first at 0."""
    assert before(Constant(rate=10), 60 * S).tolist() == list(range(0, 60 * S, S // 10))


@pytest.mark.parametrize("cv", [0.0, 1e-12, 1e-200])
def test_gamma_without_variation_is_constant(cv):
    """A cv of 0, and one too small to show in ns, gives evenly spaced arrivals, not NaN."""
    assert first(Gamma(rate=8, cv=cv), 50).tolist() == first(Constant(rate=8), 50).tolist()


def test_a_burst_is_all_at_once():
    """A burst of n requests is n zeros."""
    assert first(Burst(), 5).tolist() == [0] * 5


@pytest.mark.parametrize(
    ("arrivals", "cv"), [(Poisson(rate=1), 1), (Gamma(rate=1, cv=2.5), 2.5), (Constant(rate=1), 0)]
)
def test_cv_of_gaps_is_what_the_process_asks_for(arrivals, cv):
    """The asked cv is 1 for Poisson, its own for gamma, 0 for constant arrivals."""
    assert cv_of_gaps(arrivals) == cv


@pytest.mark.parametrize(
    ("arrivals", "n", "horizon_ns"),
    [
        (Poisson(rate=1), None, None),
        (Burst(), None, S),
        (Poisson(rate=1e6), None, 3600 * S),
        (Poisson(rate=1e-6), 10**6, None),
        (Poisson(rate=1), None, 2**62),
    ],
)
def test_arrivals_without_an_end_in_sight_are_refused(arrivals, n, horizon_ns):
    """No bound, a burst by time, too many rows and decades of waiting are each a readable error."""
    with pytest.raises(ConfigError, match="expected"):
        offsets_ns(arrivals, n=n, horizon_ns=horizon_ns, rng=child(0, "arrivals"))
