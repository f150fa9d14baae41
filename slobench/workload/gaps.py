"""Laws of the gaps between arrivals, scaled to mean 1, and how long one waits for the first arrival."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from slobench.config.arrivals import Constant, Gamma, OnOff, Process, Varying, Weibull
from slobench.workload.variates import (
    FloatArray,
    exp,
    exponentials,
    gammas,
    log,
    log_gamma,
    power,
    uniforms,
    weibulls,
)

STEADY_CV = 1e-9  # below it gaps differ by less than their rounding to ns


@dataclass(frozen=True, slots=True)
class Law:
    """A distribution of gaps, of mean 1: all the same, gamma or Weibull with this shape; shape 1 is exponential."""

    family: Literal["even", "gamma", "weibull"]
    shape: float = 1.0


EXPONENTIAL = Law("gamma")


def gamma_law(cv: float) -> Law:
    """Gamma gaps with this coefficient of variation: shape 1/cv²."""
    return Law("even") if cv < STEADY_CV else Law("gamma", 1 / (cv * cv))


def weibull_law(cv: float) -> Law:
    """Weibull gaps with this coefficient of variation, from 0.01 to 100."""
    return EXPONENTIAL if cv == 1 else Law("weibull", _weibull_shape(cv))


def law_of(process: Process) -> Law:
    """The law of a process's gaps, of an on-off one while it is on, of a varying one at a level rate."""
    match process:
        case Constant():
            return Law("even")
        case Gamma(cv=cv) | Varying(cv=cv) | OnOff(on_cv=cv):
            return gamma_law(cv)
        case Weibull(cv=cv):
            return weibull_law(cv)
        case _:
            return EXPONENTIAL


def draw_gaps(law: Law, n: int, rng: np.random.Generator) -> FloatArray:
    """Draw n gaps of mean 1."""
    if law.family == "even":
        return np.ones(n)
    if law.shape == 1:
        return exponentials(n, rng)
    if law.family == "gamma":
        return gammas(n, law.shape, rng) / law.shape
    return weibulls(n, law.shape, rng) / mean_of_weibull(law.shape)


def draw_first(law: Law, rng: np.random.Generator) -> float:
    """Draw the time to the first arrival of a process that has been going on for ever, in mean gaps.

    A uniform part of a gap that is met as often as it is long: of a gamma gap of shape + 1; of a Weibull gap whose
    power is a gamma variate of shape 1 + 1/shape [Cox, Renewal Theory, 1962, §5.2]. From the first moment on the rate
    is then the mean rate, which it would not be if the run began with a gap.
    """
    if law.family == "even":
        return float(uniforms(1, rng)[0])
    if law.shape == 1:
        return float(exponentials(1, rng)[0])
    if law.family == "gamma":
        met = gammas(1, law.shape + 1, rng) / law.shape
    else:
        met = power(gammas(1, 1 + 1 / law.shape, rng), 1 / law.shape) / mean_of_weibull(law.shape)
    return float((uniforms(1, rng) * met)[0])


@lru_cache(maxsize=1024)
def mean_of_weibull(shape: float) -> float:
    """Mean of a Weibull variate of scale 1: Γ(1 + 1/shape)."""
    return float(exp(log_gamma(np.array([1 + 1 / shape])))[0])


@lru_cache(maxsize=64)
def _weibull_shape(cv: float) -> float:
    """Solve Γ(1 + 2/k) / Γ(1 + 1/k)² = 1 + cv² for k, by bisection."""
    asked = float(log(np.array([1 + cv * cv]))[0])
    low, high = 0.05, 256.0
    for _ in range(64):
        shape = (low + high) / 2
        twice, once = log_gamma(np.array([1 + 2 / shape, 1 + 1 / shape])).tolist()
        low, high = (shape, high) if twice - 2 * once > asked else (low, shape)
    return (low + high) / 2
