"""What an arrival process says of itself: its rate over time, how much its gaps vary, and how much its counts do."""

from __future__ import annotations

import math

import numpy as np

from slobench.config.arrivals import (
    Arrivals,
    Burst,
    Constant,
    Gamma,
    Hawkes,
    Mmpp,
    OnOff,
    Poisson,
    Pool,
    Varying,
    Weibull,
    mean_rate,
)
from slobench.workload.clocks import clock_of
from slobench.workload.gaps import Law, gamma_law, law_of
from slobench.workload.pools import pool_rate
from slobench.workload.variates import FloatArray

_REST = 0.1  # a long-run formula is used where its second term is no more of it than this
_NEARLY_ONE, _MANY_ROUNDS = 0.25, 10


def rate_at(arrivals: Arrivals, t_s: FloatArray) -> FloatArray:
    """λ(t), the expected intensity in requests/s at times in s from the start; of a burst 0.

    Level for all but a load that is meant to change and a pool: what an on-off process does by chance is not in it.
    """
    match arrivals:
        case Varying(rate=function):
            return clock_of(function).rate(t_s)
        case Pool():
            return pool_rate(arrivals, t_s)
        case _:
            return np.full(len(t_s), mean_rate(arrivals))


def expected_rate(arrivals: Arrivals, end_s: float) -> float:
    """Requests/s on average from the start to `end_s`; of a pool to a thousandth of that time."""
    if isinstance(arrivals, Pool):
        return float(pool_rate(arrivals, (np.arange(1000) + 0.5) / 1000 * end_s).mean())
    return mean_rate(arrivals, round(end_s * 1e9))


def cv_of_gaps(arrivals: Arrivals) -> float:
    """Coefficient of variation of the gaps that the process asks for; NaN where there is none, or no formula.

    MMPP: from the moments of the time to the next arrival (Fischer and Meier-Hellstern, 1993). On-off with silence: a
    gap G of on-time meets a Poisson number G/mean_on of off-times, so that its variance is
    E(G)/mean_on · E(off²) + Var(G) (1 + mean_off/mean_on)².
    """
    match arrivals:
        case Poisson():
            return 1.0
        case Gamma(cv=cv) | Weibull(cv=cv):
            return cv
        case Constant():
            return 0.0
        case Mmpp():
            return _cv_of_mmpp(arrivals)
        case OnOff(off_rate=0):
            stretch = 1 + arrivals.mean_off / arrivals.mean_on
            off_squared = (1 + arrivals.off_cv**2) * (arrivals.mean_off / 1e9) ** 2
            silence = off_squared * arrivals.on_rate / (arrivals.mean_on / 1e9)
            return math.sqrt(silence / stretch**2 + arrivals.on_cv**2)
        case OnOff(on_cv=1, off_cv=1):
            return _cv_of_mmpp(arrivals)
        case _:
            return math.nan


def dispersion_of(arrivals: Arrivals, width_s: float) -> float | None:
    """Variance over mean of the counts in windows of `width_s`, of the process long under way; None: no formula.

    Exact: constant (at a random phase), Poisson, MMPP, Hawkes, and on-off where both cv are 1. Renewal and on-off
    otherwise: the first two terms for long windows (Cox, Renewal Theory, 1962, §4.5), None where the second is more
    than a tenth; off-times of another cv by their long-run variance, None below ten rounds of on and off.
    """
    mean = mean_rate(arrivals) * width_s
    match arrivals:
        case Poisson():
            return 1.0
        case Constant():
            part = mean % 1
            return part * (1 - part) / mean
        case Gamma() | Weibull():
            linear, rest = _renewal_terms(law_of(arrivals))
            return linear + rest / mean if abs(rest) <= _REST * linear * mean else None
        case Hawkes(branching=branching, decay=decay):
            limit = 1 / (1 - branching) ** 2
            return limit - (limit - 1) * _held(decay * (1 - branching) * width_s)
        case Mmpp():
            return 1 + _variance_of_mmpp(arrivals, width_s) / mean
        case OnOff():
            return _dispersion_of_on_off(arrivals, width_s)
        case Varying() | Pool() | Burst():
            return None


def is_bursty(arrivals: Arrivals) -> bool:
    """Whether arrivals come less evenly than Poisson's, at some scale."""
    match arrivals:
        case Constant() | Poisson():
            return False
        case Gamma(cv=cv) | Weibull(cv=cv):
            return cv > 1
        case Hawkes(branching=branching):
            return branching > 0
        case Mmpp(rates=rates):
            return len(set(rates)) > 1
        case _:
            return True


def _renewal_terms(law: Law) -> tuple[float, float]:
    """Variance of the counts over t mean gaps: the first t times plus the second, for long t."""
    if law.family == "even":
        return 0.0, 1 / 6
    if law.family == "gamma":
        squared, third = 1 / law.shape, 2 / law.shape**2
    else:
        raw = [math.gamma(1 + k / law.shape) / math.gamma(1 + 1 / law.shape) ** k for k in (2, 3)]
        squared, third = raw[0] - 1, raw[1] - 3 * raw[0] + 2
    return squared, 1 / 6 + squared**2 / 2 - third / 3


def _held(x: float) -> float:
    """(1 - e^-x) / x: the part of its value that a fading memory keeps on average over x of its lengths."""
    return -math.expm1(-x) / x if x > 0 else 1.0


def _dispersion_of_on_off(process: OnOff, width_s: float) -> float | None:
    on_s, off_s = process.mean_on / 1e9, process.mean_off / 1e9
    share = on_s / (on_s + off_s)
    if abs(process.off_cv - 1) > _NEARLY_ONE and width_s < _MANY_ROUNDS * (on_s + off_s):
        return None
    linear, rest = _renewal_terms(gamma_law(process.on_cv))
    within = (linear * process.on_rate * share + process.off_rate * (1 - share)) * width_s
    # Time spent on varies by its long-run variance D, and forgets at the rate that leads there: 2 p (1 - p) / D.
    long_run = (on_s**2 * off_s**2 + (process.off_cv * off_s) ** 2 * on_s**2) / (on_s + off_s) ** 3
    fading = 2 * share * (1 - share) / long_run
    between = (process.on_rate - process.off_rate) ** 2 * long_run * width_s * (1 - _held(fading * width_s))
    variance = within + between + rest
    return variance / (mean_rate(process) * width_s) if abs(rest) <= _REST * variance else None


def _generator(process: Mmpp | OnOff) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rates of changing state in 1/s, part of the time in each state, rate of arrivals in each."""
    if isinstance(process, OnOff):
        stay_s, rates = np.array([process.mean_on, process.mean_off]), np.array([process.on_rate, process.off_rate])
    else:
        stay_s, rates = np.array(process.mean_stay), np.array(process.rates, np.float64)
    stay_s = stay_s / 1e9
    change = np.diag(-1 / stay_s)
    for state, stay in enumerate(stay_s):
        change[state, (state + 1) % len(stay_s)] += 1 / stay
    return change, stay_s / stay_s.sum(), rates


def _cv_of_mmpp(process: Mmpp | OnOff) -> float:
    change, share, rates = _generator(process)
    mean = float(share @ rates)
    wait = np.linalg.solve(change - np.diag(rates), -np.ones(len(rates)))
    longer = np.linalg.solve(change - np.diag(rates), -wait)
    second = 2 * float(share * rates / mean @ longer)
    return math.sqrt(max(second * mean**2 - 1, 0.0))


def _variance_of_mmpp(process: Mmpp, width_s: float) -> float:
    """Variance of the integral of the rate over a window: ∫∫ of its covariance, by one matrix exponential [Van Loan].

    Computing Integrals Involving the Matrix Exponential, IEEE Transactions on Automatic Control 23, 1978.
    """
    from scipy.linalg import expm

    change, share, rates = _generator(process)
    k = len(rates)
    chain = np.zeros((3 * k, 3 * k))
    chain[:k, :k], chain[:k, k : 2 * k], chain[k : 2 * k, 2 * k :] = change, np.eye(k), np.eye(k)
    twice = expm(chain * width_s)[:k, 2 * k :]
    return max(2 * float(share * rates @ twice @ rates) - float(share @ rates * width_s) ** 2, 0.0)
