"""Self-exciting arrivals are exact: their compensator turns them into Poisson arrivals of rate 1."""

import math

import numpy as np
import pytest
from scipy import special

from tests.workload.processes import S, before_s, first, process

N = 20_000


def hawkes(rate=10.0, branching=0.6, decay=2.0):
    """The process of these parameters."""
    return process({"process": "hawkes", "rate": rate, "branching": branching, "decay": decay})


def compensated(arrivals, times):
    """Integral of the intensity from each arrival to the next, and the intensity just before each arrival."""
    base, jump = arrivals.rate * (1 - arrivals.branching), arrivals.branching * arrivals.decay
    excited, last, passed, intensity = arrivals.rate * arrivals.branching, 0.0, [], []
    for time in times:
        fade = math.exp(-arrivals.decay * (time - last))
        passed.append(base * (time - last) + excited / arrivals.decay * (1 - fade))
        excited, last = excited * fade, time
        intensity.append(base + excited)
        excited += jump
    return np.array(passed), np.array(intensity)


@pytest.mark.parametrize(
    "fields", [{}, {"branching": 0.95, "decay": 0.1}, {"branching": 0.3, "decay": 300.0}, {"rate": 0.05, "decay": 0.01}]
)
def test_the_compensator_of_the_gaps_is_exponential(fields):
    """The time-rescaling theorem: ∫λ between arrivals is exponential, Kolmogorov-Smirnov (P = 0.001, fixed seed)."""
    arrivals = hawkes(**fields)
    times = first(arrivals, N, 4) / S
    passed, _ = compensated(arrivals, times)
    uniform, steps = 1 - np.exp(-np.sort(passed)), np.arange(N + 1) / N
    distance = max(np.max(steps[1:] - uniform), np.max(uniform - steps[:-1]))
    assert special.kolmogorov(distance * math.sqrt(N)) > 0.001


def test_the_compensated_gaps_do_not_remember_each_other():
    """Their lag-1 correlation is 0 within 6/√n, as no other law of gaps with the same distribution would have it."""
    passed, _ = compensated(hawkes(), first(hawkes(), N, 4) / S)
    gap = passed - passed.mean()
    assert abs(float(gap[1:] @ gap[:-1] / (gap @ gap))) < 6 / math.sqrt(N)


def test_without_branching_it_is_poisson():
    """Gaps of variance/mean² 1 within 6 standard errors of an exponential's, √(8/n)."""
    gaps = np.diff(first(hawkes(branching=0.0), N, 4))
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(1, abs=6 * math.sqrt(8 / N))


@pytest.mark.parametrize("width_s", [0.1, 2.0])
def test_an_arrival_makes_others_likely(width_s):
    """After an arrival come rate·x + αβ(2-α)/(2(1-α)) (1 - e^-κx)/κ others in x s, κ = β(1-α) (Hawkes, 1971).

    Over 60 runs, within 6 standard errors; without self-excitation it would be rate·x.
    """
    rate, branching, decay = 10.0, 0.6, 2.0
    fading = decay * (1 - branching)
    more = branching * decay * (2 - branching) / (2 * (1 - branching)) * (1 - math.exp(-fading * width_s)) / fading
    residual, found = [], 0
    for seed in range(60):
        times = before_s(hawkes(), 200, seed)
        looked = times[(times > 20) & (times < 200 - width_s)]
        after = np.searchsorted(times, looked + width_s, side="right") - np.searchsorted(times, looked, side="right")
        residual.append(after.sum() - len(looked) * (rate * width_s + more))
        found += len(looked)
    error = np.std(residual, ddof=1) / math.sqrt(len(residual))
    assert abs(np.mean(residual)) <= 6 * error
    assert 6 * error < more * found / 60  # rate·x alone would be seen to be wrong
