"""All arrival processes: rate, variation and dispersion as their formulas say; order, prefixes and bytes that stay."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.config.arrivals import at_rate, is_level, mean_rate
from slobench.errors import ConfigError
from slobench.workload.moments import cv_of_gaps, dispersion_of, expected_rate, is_bursty, rate_at
from tests.workload.processes import LEVEL, VARYING, S, before, before_s, first, process

NAMES = [*LEVEL, *VARYING]
WIDTHS_S = (1, 10, 60)
REPLICATES = 40
WARM_S, LENGTH_S = 60, 1200  # counts are looked at after the first, where the start no longer shows
fixed = settings(derandomize=True, max_examples=25, deadline=None)


def made(name: str):
    """A process by its name here."""
    return process(LEVEL[name] if name in LEVEL else VARYING[name])


def within(values: np.ndarray, expected: float) -> bool:
    """Whether independent values have this mean, within 6 standard errors as they themselves have them."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    return bool(abs(values.mean() - expected) <= 6 * error + 1e-9)


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[np.ndarray]]:
    """Runs of every level process, independent of each other."""
    return {name: [before_s(made(name), WARM_S + LENGTH_S, seed) for seed in range(REPLICATES)] for name in LEVEL}


@pytest.mark.parametrize("name", LEVEL)
def test_the_rate_is_the_mean_rate(drawn, name: str) -> None:
    """Requests per second from the very start, over independent runs; renewals begin with a gap, which the warm-up eats."""
    counts = np.array([np.sum(times >= WARM_S) for times in drawn[name]]) / LENGTH_S
    assert within(counts, mean_rate(made(name)))


@pytest.mark.parametrize("name", ["on-off", "on-off-bursty", "on-off-low", "on-off-regular", "mmpp", "hawkes", "steps"])
def test_the_rate_holds_from_the_start_on(name: str) -> None:
    """The first 0.5 s of 1,500 runs have as many arrivals as the rate makes: none begins empty, or with a burst."""
    arrivals = process(VARYING[name], cv=3.0) if name in VARYING else made(name)
    counts = np.array([len(before(arrivals, 0.5, seed)) for seed in range(1500)]) / 0.5
    assert within(counts, expected_rate(arrivals, 0.5))


@pytest.mark.parametrize("name", [name for name in LEVEL if not math.isnan(cv_of_gaps(made(name)))])
def test_the_gaps_vary_as_the_formula_says(drawn, name: str) -> None:
    """Squared gaps over squared mean gap, 1 + cv², the mean being known, over independent runs."""
    arrivals = made(name)
    gaps = [np.diff(times[times >= WARM_S]) for times in drawn[name]]
    # Sums over runs of one length: a ratio of sums, linearised about the known moments.
    square = 1 + cv_of_gaps(arrivals) ** 2
    mean_s = 1 / mean_rate(arrivals)
    residual = np.array([np.sum(each**2) - square * mean_s * np.sum(each) for each in gaps])
    assert within(residual, 0.0)


@pytest.mark.parametrize("width_s", WIDTHS_S)
@pytest.mark.parametrize("name", LEVEL)
def test_counts_disperse_as_the_formula_says(drawn, name: str, width_s: int) -> None:
    """Variance over mean of counts in 1, 10 and 60 s about the known mean, over independent runs."""
    arrivals = made(name)
    asked = dispersion_of(arrivals, width_s)
    if asked is None:
        # Long-run formulas, said to be none in short windows.
        long_run = {"gamma": 10, "weibull": 10, "weibull-even": 10, "on-off-bursty": 10, "on-off-regular": 60}
        assert width_s < long_run[name]
        return
    mean = mean_rate(arrivals) * width_s
    seen = []
    for times in drawn[name]:
        bins = LENGTH_S // width_s
        counts = np.bincount(((times[times >= WARM_S] - WARM_S) / width_s).astype(int), minlength=bins)[:bins]
        seen.append(np.mean((counts - mean) ** 2) / mean)
    exact = name in {"constant", "poisson", "on-off", "on-off-low", "mmpp", "hawkes"}
    room = 0.0 if exact else 0.03 * asked  # what a formula of the long run leaves out
    error = np.std(seen, ddof=1) / math.sqrt(REPLICATES)
    assert abs(np.mean(seen) - asked) <= 6 * error + room + 1e-9


def test_the_dispersion_of_an_erlang_renewal_is_the_known_one() -> None:
    """Gaps that are sums of two exponentials: over t mean gaps the variance is t/2 + (1 - e^-4t)/8 (Cox, 1962, §4.5)."""
    erlang = process({"process": "gamma", "rate": 1.0, "cv": math.sqrt(0.5)})
    assert dispersion_of(erlang, 20.0) == pytest.approx(0.5 + 0.125 / 20, rel=1e-12)
    assert dispersion_of(erlang, 0.5) is None


def test_bursty_is_what_disperses_more_than_poisson() -> None:
    """The word agrees with the index over a minute."""
    for name in LEVEL:
        found = dispersion_of(made(name), 600)
        assert found is not None
        assert is_bursty(made(name)) == (found > 1.0001), name


@pytest.mark.parametrize("name", LEVEL)
def test_another_rate_keeps_the_shape(name: str) -> None:
    """Twice the rate: the mean is twice, gaps vary alike where lengths of time do not come in, and λ(t) is level."""
    arrivals, twice = made(name), at_rate(made(name), 2 * mean_rate(made(name)))
    assert mean_rate(twice) == pytest.approx(2 * mean_rate(arrivals), rel=1e-12)
    assert type(twice) is type(arrivals)
    assert is_level(twice)
    assert rate_at(twice, np.array([0.0, 5.0])).tolist() == [mean_rate(twice)] * 2
    if name in {"constant", "poisson", "gamma", "weibull", "weibull-even"}:
        assert cv_of_gaps(twice) == cv_of_gaps(arrivals)


@pytest.mark.parametrize("name", VARYING)
def test_another_rate_scales_a_changing_one(name: str) -> None:
    """λ(t) at another mean rate is λ(t) times a number, everywhere."""
    arrivals = made(name)
    at_s = np.linspace(0, 200, 41)
    scaled = rate_at(at_rate(arrivals, 3 * mean_rate(arrivals)), at_s)
    assert scaled == pytest.approx(3 * rate_at(arrivals, at_s), rel=1e-9)
    assert not is_level(arrivals)


def test_the_mean_of_a_level_process_is_that_of_any_time() -> None:
    """expected_rate is mean_rate where the load is level, and the integral of λ where it is not."""
    assert expected_rate(made("mmpp"), 7.0) == mean_rate(made("mmpp"))
    assert expected_rate(made("ramp"), 100.0) == pytest.approx(10)
    assert expected_rate(made("ramp"), 50.0) == pytest.approx(6)
    assert mean_rate(made("ramp"), 50 * S) == pytest.approx(6)


@fixed
@given(
    name=st.sampled_from(NAMES),
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 3000),
    more=st.integers(0, 9000),
    cv=st.sampled_from([1.0, 2.5, 0.3, 0.0]),
)
def test_a_larger_bound_continues_a_smaller_one(name: str, seed: int, n: int, more: int, cv: float) -> None:
    """The first n arrivals are the same whatever is asked beyond them, by number or by time, and in order."""
    arrivals = process(VARYING[name], cv=cv) if name in VARYING else made(name)
    longer = first(arrivals, n + more, seed)
    assert longer.dtype == np.int64
    assert len(longer) == n + more
    assert longer[0] >= 0
    assert (np.diff(longer) >= 0).all()
    assert first(arrivals, n, seed).tolist() == longer[:n].tolist()
    horizon_ns = int(longer[n - 1]) + seed % 2
    within_time = before(arrivals, horizon_ns / S, seed)
    assert within_time.tolist() == longer[longer < horizon_ns].tolist()


@fixed
@given(
    rate=st.floats(1e-6, 1e6),
    seconds=st.lists(st.floats(1e-9, 1e7), min_size=3, max_size=3),
    cv=st.floats(0, 100),
    branching=st.floats(0, 0.99),
    decay=st.floats(1e-6, 1e6),
)
def test_any_process_that_a_workload_can_ask_for_is_drawn_or_refused(
    rate: float, seconds: list[float], cv: float, branching: float, decay: float
) -> None:
    """Whatever the parameters, 100 arrivals are in order and in bounds, or there is one readable error."""
    one, two, three = (f"{each!r}s" for each in seconds)
    asked = [
        {"process": "on-off", "on_rate": rate, "on_cv": cv, "mean_on": one, "mean_off": two, "off_cv": cv},
        {"process": "mmpp", "rates": [rate, 0.0], "mean_stay": [one, two]},
        {"process": "hawkes", "rate": rate, "branching": branching, "decay": decay},
        {"process": "weibull", "rate": rate, "cv": max(cv, 0.01)},
        {"process": "varying", "cv": cv, "rate": {"shape": "ramp", "from": rate, "to": 0.0, "over": one}},
        {"process": "varying", "cv": cv, "rate": {"shape": "sinusoid", "mean": rate, "amplitude": rate, "period": two}},
        {"process": "varying", "cv": cv, "rate": {"shape": "spike", "base": 0, "peak": rate, "at": one, "hold": two,
                                                  "rise": three}},
    ]  # fmt: skip
    for fields in asked:
        try:
            times = first(process(fields), 100, 1)
        except ConfigError as error:
            assert "\n  expected  " in str(error)  # noqa: PT017 (most parameters can be drawn)
            continue
        assert len(times) == 100
        assert times[0] >= 0
        assert (np.diff(times) >= 0).all()


BYTES = {
    "constant": "064d793701e70eff",
    "poisson": "002e0e5b7e6fcc6a",
    "gamma": "20247af07ec872b8",
    "weibull": "33b7a0693e2ed1a0",
    "weibull-even": "3ff8fda15685cbda",
    "on-off": "790c4b034800b33d",
    "on-off-bursty": "3056959fac5f5139",
    "on-off-low": "012e1a3c16c69fe7",
    "on-off-regular": "efaef2cbf5fcfcd8",
    "mmpp": "ffe75a58f4f7b96f",
    "hawkes": "c65f1dcfffb76798",
    "ramp": "6d06bdd9f2aff9ae",
    "steps": "76924a6f04e0c4db",
    "spike": "d381f872bbee8804",
    "sinusoid": "a325fe9d201f066b",
    "diurnal": "4fee4e01b80a8051",
    "points": "07d0223dcd008ccd",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_are_the_same_on_every_machine(name: str) -> None:
    """The first 2,000 arrivals of a seed, as they were where this was written."""
    drawn = first(made(name), 2000, 7).astype("<i8").tobytes()
    assert hashlib.sha256(drawn).hexdigest()[:16] == BYTES[name]
