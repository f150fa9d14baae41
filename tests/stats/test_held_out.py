"""Choosing a model of arrivals: the one that made them wins, and its intervals hold what made them.

Arrivals are drawn by the plan's own processes, so that fit and generator are held against each other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from slobench.stats.held_out import Choice, choose, fit_model, lead
from slobench.stats.observed import observe
from slobench.stats.processes import GAMMA, HAWKES, MMPP, ON_OFF, POISSON, WEIBULL, AnyModel, Varying
from slobench.workload.fit import distinct_times
from tests.stats.binomial import fewest, most
from tests.workload.processes import before, process

BLOCKS = 20
CASES: dict[str, tuple[AnyModel, dict[str, Any], float, dict[str, float]]] = {
    "Poisson": (POISSON, {"process": "poisson", "rate": 5.0}, 300, {"rate": 5.0}),
    "gamma": (GAMMA, {"process": "gamma", "rate": 5.0, "cv": 2.0}, 300, {"rate": 5.0, "cv": 2.0}),
    "Weibull": (WEIBULL, {"process": "weibull", "rate": 5.0, "cv": 1.5}, 300, {"rate": 5.0, "cv": 1.5}),
    "Hawkes": (
        HAWKES,
        {"process": "hawkes", "rate": 5.0, "branching": 0.6, "decay": 2.0},
        500,
        {"rate": 5.0, "branching": 0.6, "decay": 2.0},
    ),
    "MMPP": (
        MMPP,
        {"process": "mmpp", "rates": [10.0, 1.0], "mean_stay": ["5s", "10s"]},
        900,
        {"busy_rate": 10.0, "calm_rate": 1.0, "mean_busy": 5.0, "mean_calm": 10.0},
    ),
    "on/off": (
        ON_OFF,
        {"process": "on-off", "on_rate": 9.0, "on_cv": 1.5, "mean_on": "5s", "mean_off": "10s", "off_cv": 0.8},
        1200,
        {"on_rate": 9.0, "on_cv": 1.5, "mean_on": 5.0, "mean_off": 10.0, "off_cv": 0.8},
    ),
    "varying": (
        Varying(3, gamma=True),
        {"process": "varying", "rate": {"shape": "points", "points": [["0s", 4], ["400s", 8], ["800s", 4]]}, "cv": 1.5},
        800,
        {"rate_1": 8.0, "cv": 1.5},
    ),
}


def drawn(spec: dict[str, Any], span_s: float, seed: int) -> np.ndarray:
    """Arrivals of a process, no two equal, s."""
    return distinct_times(before(process(spec), span_s, seed), 1, seed)


def covered(name: str, runs: int) -> dict[str, int]:
    """How often the interval of each parameter holds the true one."""
    model, spec, span_s, truth = CASES[name]
    hits = dict.fromkeys(truth, 0)
    for seed in range(runs):
        fitted = fit_model(model, observe(drawn(spec, span_s, seed), BLOCKS))
        for each in fitted.parameters:
            if each.name in truth:
                hits[each.name] += each.low is None or each.high is None or each.low <= truth[each.name] <= each.high
    return hits


@pytest.mark.parametrize("name", ["Poisson", "gamma", "Weibull"])
def test_intervals_hold_the_true_parameters(name: str) -> None:
    """Of 40 records each, as many intervals hold the truth as 40 trials of 95 % may give (1 in 10⁴)."""
    for parameter, hits in covered(name, 40).items():
        assert hits >= fewest(40, 0.95, 1e-4), parameter


@pytest.mark.long
@pytest.mark.parametrize("name", ["Hawkes", "MMPP", "on/off", "varying"])
def test_intervals_of_every_model_hold_the_true_parameters(name: str) -> None:
    """Of 100 records each, at least as many intervals hold the truth as 100 trials of 90 % give nearly always."""
    for parameter, hits in covered(name, 100).items():
        assert hits >= fewest(100, 0.9, 1e-3), parameter


@pytest.mark.parametrize("name", ["gamma", "Hawkes"])
def test_rescaled_gaps_of_the_right_model_are_exponential(name: str) -> None:
    """The distance from the exponential stays below what 1 in 20 samples of exact gaps exceed; fitted, below it more."""
    model, spec, span_s, _ = CASES[name]
    ps = [fit_model(model, observe(drawn(spec, span_s, seed), BLOCKS)).ks.p for seed in range(12)]
    assert sum(p < 0.05 for p in ps) <= most(12, 0.05, 1e-4)
    wrong = fit_model(POISSON, observe(drawn(spec, span_s, 0), BLOCKS))
    assert wrong.ks.p < 1e-6


def chosen(name: str, seed: int, blocks: int = BLOCKS) -> Choice:
    """Choose among all models for arrivals of one of them."""
    _, spec, span_s, _ = CASES[name]
    return choose(drawn(spec, span_s, seed), blocks=blocks)


def test_arrivals_that_are_on_and_off_are_told_from_gamma() -> None:
    """On/off arrivals with calm gaps: the on/off model wins, and gamma is many standard errors behind."""
    spec = {"process": "on-off", "on_rate": 8.0, "mean_on": "6s", "mean_off": "20s"}
    choice = choose(drawn(spec, 700, 1), blocks=12)
    gap = lead(choice, "gamma")
    assert choice.chosen.model in (ON_OFF, MMPP)
    assert gap is not None
    assert gap[0] > 4 * gap[1] > 0


def test_poisson_arrivals_are_not_made_more_of() -> None:
    """Of models that foretell alike, the one with the fewest parameters is taken; every model has the seen rate."""
    choice = chosen("Poisson", 2, 10)
    assert choice.chosen.model is POISSON
    assert max(gap for gap, _ in choice.behind) < 0.05
    for each in choice.fitted:
        for parameter in each.parameters:
            if parameter.name == "rate":
                assert parameter.value == pytest.approx(5.0, rel=5 / math.sqrt(1500))


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_the_process_that_made_the_arrivals_is_chosen(name: str) -> None:
    """Of six records each, the true model (or one with as few parameters that is its like) is chosen five times."""
    model, _, _, _ = CASES[name]
    like = {"varying": ("varying gamma (3 knots)", "varying gamma (5 knots)")}.get(name, (model.name,))
    assert sum(chosen(name, seed).chosen.model.name in like for seed in range(6)) >= 5
