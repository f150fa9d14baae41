"""Loads that are meant to change: λ(t) and its integral, exact time change, each stage at its own rate."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import integrate, special

from slobench.config.arrivals import mean_rate
from slobench.config.rates import RateFunction, curve, mean_of, scaled
from slobench.errors import ConfigError
from slobench.workload.clocks import clock_of
from slobench.workload.moments import rate_at
from tests.workload.processes import SHAPES, VARYING, S, before, before_s, first, process

fixed = settings(derandomize=True, max_examples=40, deadline=None)
LENGTH_S = 150.0
DURATIONS = st.integers(1, 10**5).map(lambda ms: f"{ms}ms")
LEVELS = st.floats(0, 100).map(lambda rate: round(rate, 3))


def function(shape: dict) -> RateFunction:
    """A rate function as a workload file gives it."""
    made: RateFunction = TypeAdapter(RateFunction).validate_python(shape)
    return made


@st.composite
def functions(draw: st.DrawFn) -> RateFunction:
    """Any rate function with some load in it."""
    some = st.floats(0.01, 100)
    kind = draw(st.sampled_from(sorted(SHAPES)))
    mean = draw(some)
    if kind == "ramp":
        shape = {"from": draw(LEVELS), "to": draw(some), "over": draw(DURATIONS)}
    elif kind == "steps":
        steps = draw(st.lists(st.fixed_dictionaries({"rate": LEVELS, "for": DURATIONS}), min_size=1, max_size=6))
        shape = {"steps": [*steps, {"rate": mean, "for": draw(DURATIONS)}]}
    elif kind == "spike":
        times = {key: draw(DURATIONS) for key in ("at", "rise", "hold", "fall")}
        shape = {"base": draw(LEVELS), "peak": draw(some), **times}
    elif kind == "sinusoid":
        amplitude, phase = mean * draw(st.floats(0, 1)), draw(st.floats(0, 1))
        shape = {"mean": mean, "amplitude": amplitude, "period": draw(DURATIONS), "phase": phase}
    elif kind == "diurnal":
        trough = draw(st.floats(0, 1))
        shape = {"mean": mean, "trough": trough, "peak_at": draw(DURATIONS), "period": draw(DURATIONS)}
    else:
        at_ms = sorted(draw(st.lists(st.integers(0, 10**5), min_size=1, max_size=6)))
        shape = {"points": [[f"{at}ms", draw(some)] for at in at_ms]}
    return function({"shape": kind, **shape})


@fixed
@given(functions(), st.lists(st.floats(0, 300), min_size=1, max_size=30))
def test_the_inverse_undoes_the_integral(rate: RateFunction, at_s: list[float]) -> None:
    """Λ ascends from 0, Λ(Λ⁻¹(u)) = u, λ is never negative, and the mean is Λ over the time."""
    clock, t = clock_of(rate), np.sort(np.array([0.0, *at_s]))
    amount = clock.amount(t)
    assert amount[0] == pytest.approx(0, abs=1e-9)
    assert (np.diff(amount) >= -1e-9).all()
    assert (clock.rate(t) >= -1e-12).all()
    assert clock.amount(clock.when(amount)) == pytest.approx(amount, rel=1e-9, abs=1e-7)
    if t[-1] > 0:
        assert mean_of(rate, t[-1]) * t[-1] == pytest.approx(amount[-1], rel=1e-9, abs=1e-7)


@fixed
@given(functions(), st.floats(0.1, 10))
def test_a_scaled_function_is_the_function_times_a_number(rate: RateFunction, factor: float) -> None:
    """At every time, and so on average."""
    at_s = np.linspace(0, 250, 101)
    assert clock_of(scaled(rate, factor)).rate(at_s) == pytest.approx(factor * clock_of(rate).rate(at_s), rel=1e-9)
    assert mean_of(scaled(rate, factor)) == pytest.approx(factor * mean_of(rate), rel=1e-9)


@pytest.mark.parametrize("name", SHAPES)
def test_the_integral_is_that_of_the_rate(name: str) -> None:
    """Λ by formula is λ integrated numerically, between the knots where it bends."""
    rate = function(SHAPES[name])
    clock, seen = clock_of(rate), curve(rate)
    knots = [each for each in getattr(seen, "at_s", ()) if 0 < each < LENGTH_S]
    found, error = integrate.quad(
        lambda t: float(clock.rate(np.array([t]))[0]), 0, LENGTH_S, points=knots or None, limit=500
    )
    assert float(clock.amount(np.array([LENGTH_S]))[0]) == pytest.approx(found, abs=10 * error + 1e-6)


@pytest.mark.parametrize(
    ("name", "at_s", "rate"),
    [
        ("ramp", [0, 50, 100, 500], [2, 10, 18, 18]),
        ("steps", [0, 49.9, 50, 100, 119.9, 120, 900], [2, 2, 20, 0, 0, 8, 8]),
        ("spike", [0, 45, 50, 69, 85, 100, 500], [3, 16.5, 30, 30, 16.5, 3, 3]),
        ("sinusoid", [0, 38, 28, 8], [10 + 10 * math.sin(0.6 * math.pi), 20, 10, 10]),
        ("diurnal", [20, 50, 80], [10 + 10 * 0.9 / 1.1, 10 - 10 * 0.9 / 1.1, 10 + 10 * 0.9 / 1.1]),
        ("points", [0, 10, 25, 39.999999, 40, 65, 90, 1000], [4, 4, 8, 12, 1, 13, 25, 25]),
    ],
)
def test_a_shape_has_the_rate_that_its_words_say(name: str, at_s: list[float], rate: list[float]) -> None:
    """λ(t) at telling times; a diurnal one's lowest rate is its trough times its highest."""
    assert rate_at(process(VARYING[name]), np.array(at_s, float)) == pytest.approx(rate, abs=1e-5)


@pytest.mark.parametrize("cv", [1.0, 2.0, 0.4])
@pytest.mark.parametrize("name", VARYING)
def test_arrivals_are_the_law_of_their_gaps_in_operational_time(name: str, cv: float) -> None:
    """Gaps of Λ at the arrivals are gamma of mean 1 (Kolmogorov-Smirnov, P = 0.001, fixed seed): exact, not stepwise."""
    arrivals = process(VARYING[name], cv=cv)
    times = first(arrivals, 4000, 5) / S
    gaps = np.sort(np.diff(clock_of(arrivals.rate).amount(times)))
    shape, n = 1 / cv**2, len(gaps)
    expected, steps = special.gammainc(shape, gaps * shape), np.arange(n + 1) / n
    distance = max(np.max(steps[1:] - expected), np.max(expected - steps[:-1]))
    assert special.kolmogorov(distance * math.sqrt(n)) > 0.001


def counts_in(arrivals, edges: list[float], seeds: int) -> np.ndarray:
    """Arrivals between the edges, for each seed."""
    return np.array([np.histogram(before_s(arrivals, edges[-1], seed), edges)[0] for seed in range(seeds)])


@pytest.mark.parametrize("cv", [1.0, 2.0, 0.4])
@pytest.mark.parametrize(
    ("name", "edges"),
    [
        ("steps", [0, 50, 100, 120, 150]),
        ("ramp", [0, 25, 50, 75, 100, 150]),
        ("spike", [0, 40, 50, 70, 100, 150]),
        ("points", [0, 10, 40, 90, 150]),
    ],
)
def test_every_stage_has_its_own_rate(name: str, edges: list[float], cv: float) -> None:
    """Each part of a ramp and each stage has its own mean over 200 runs (6 standard errors), never the average's."""
    arrivals = process(VARYING[name], cv=cv)
    counts = counts_in(arrivals, edges, 200)
    expected = np.diff(clock_of(arrivals.rate).amount(np.array(edges, float)))
    error = counts.std(axis=0, ddof=1) / math.sqrt(len(counts))
    assert (np.abs(counts.mean(axis=0) - expected) <= 6 * error + 1e-9).all()
    average = expected.sum() * np.diff(edges) / edges[-1]
    assert (np.abs(counts.mean(axis=0) - average) > 6 * error).sum() >= 2


def test_counts_of_a_poisson_stage_vary_as_poisson_counts_do() -> None:
    """Nothing is rescaled to hit a stage's rate: variance over mean is 1 within 6 standard errors √(2/(m-1))."""
    counts = counts_in(process(VARYING["steps"]), [0, 50, 100], 300)
    ratio = counts.var(axis=0, ddof=1) / counts.mean(axis=0)
    assert ratio == pytest.approx([1, 1], abs=6 * math.sqrt(2 / 299))


def test_even_arrivals_fill_every_stage_exactly() -> None:
    """With cv 0, 2/s for 50 s is 100 requests and 20/s for 50 s is 1,000, give or take the one on the edge."""
    counts = counts_in(process(VARYING["steps"], cv=0.0), [0, 50, 100, 120, 150], 1)[0]
    assert np.abs(counts - [100, 1000, 0, 240]).max() <= 1


def test_nothing_comes_in_a_silent_stage() -> None:
    """A stage of rate 0 is empty, and what comes after it is there."""
    times = before_s(process(VARYING["steps"], cv=2.0), 150, 1)
    assert not ((times >= 100) & (times < 120)).any()
    assert (times >= 120).any()


def test_a_load_that_ends_cannot_give_more() -> None:
    """A ramp down to 0 has only so many requests: by time it ends by itself, by number it is an error that says so."""
    ramp = process({"process": "varying", "rate": {"shape": "ramp", "from": 10, "to": 0, "over": "20s"}})
    assert 0 < len(before(ramp, 3600, 1)) < 200
    with pytest.raises(ConfigError, match="rate stays above 0"):
        first(ramp, 1000, 1)


def test_a_sinusoid_that_touches_0_is_inverted_there_too() -> None:
    """Where λ = 0 the inverse is steep; times are still in order, and Λ of them is what it was."""
    wave = function({"shape": "sinusoid", "mean": 5, "amplitude": 5, "period": "24h"})
    clock = clock_of(wave)
    around_s = 64800 + np.linspace(-600, 600, 4001)  # the trough, at three quarters of the day
    amount = clock.amount(around_s)
    assert (np.diff(clock.when(amount)) >= 0).all()
    assert clock.amount(clock.when(amount)) == pytest.approx(amount, abs=1e-7)


# Points from a file.


def points_file(folder: Path, text: str | bytes) -> str:
    path = folder / "day.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize("text", ["t_s,rate\n0,2\n10.5,8\n", "\ufefft_s,rate\r\n0,2\r\n\r\n1.05e1,8.0"])
def test_points_are_read_from_a_file(tmp_path: Path, text: str) -> None:
    """CRLF, a byte order mark, empty lines and no final newline are read; the value holds the points themselves."""
    made = function({"shape": "points", "file": points_file(tmp_path, text)})
    assert made.points == ((0, 2.0), (10_500_000_000, 8.0))
    (tmp_path / "day.csv").unlink()
    again = function(made.model_dump(mode="json"))
    assert again == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,rate\n0,1\n", "the first line is"),
        ("t_s,rate\n", "neither"),
        ("", "the first line is"),
        ("t_s,rate\n0,1\n5\n", "day.csv:3"),
        ("t_s,rate\n0,nan\n", "day.csv:2"),
        ("t_s,rate\n-1,1\n", "day.csv:2"),
        ("t_s,rate\n0,-1\n", "day.csv:2"),
        ("t_s,rate\n9,1\n3,1\n", "in order"),
        ("t_s,rate\n0,1,2\n", "day.csv:2"),
        ("t_s,rate\n0,9999999\n", "points.0.1"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_file_of_points_that_is_wrong_is_told(tmp_path: Path, text: str | bytes, said: str) -> None:
    """Each fault has its line; none is a traceback."""
    with pytest.raises(ValidationError) as caught:
        function({"shape": "points", "file": points_file(tmp_path, text)})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "shape",
    [
        {"shape": "sinusoid", "mean": 1, "amplitude": 2, "period": "1s"},
        {"shape": "ramp", "from": 1, "to": 2, "over": "0s"},
        {"shape": "points"},
        {"shape": "points", "points": []},
        {"shape": "points", "points": [["2s", 1], ["1s", 1]]},
        {"shape": "steps", "steps": []},
        {"shape": "diurnal", "mean": 1, "trough": 1.5},
    ],
)
def test_shapes_that_make_no_sense_are_refused(shape: dict) -> None:
    """Negative rates, no length, no points, time that runs backwards."""
    with pytest.raises(ValidationError):
        function(shape)


def test_a_load_that_is_0_all_the_time_is_refused() -> None:
    """It would have no mean to scale by."""
    with pytest.raises(ValidationError, match="0 all the time"):
        process({"process": "varying", "rate": {"shape": "ramp", "from": 0, "to": 0, "over": "1s"}})


def test_the_mean_rate_of_a_shape_is_over_its_own_length() -> None:
    """(2 x 50 + 20 x 50 + 0 x 20 + 8 x 30) / 150 s; a wave's over its period."""
    assert mean_rate(process(VARYING["steps"])) == pytest.approx(1340 / 150)
    assert mean_rate(process(VARYING["sinusoid"])) == 10
