"""Arrival processes: when the requests of one class are due, in integer ns from the start of the run."""

from __future__ import annotations

import numpy as np

from slobench.config.arrivals import Arrivals, Burst, Constant, Gamma, Poisson
from slobench.config.workload import MAX_REQUESTS
from slobench.errors import ConfigError
from slobench.workload.variates import FloatArray, IntArray, exponentials, gammas

_BLOCK = 8192  # gaps drawn at a time: fixed, so that a longer plan begins with the shorter one
_STEADY_CV = 1e-9  # below it gaps differ by less than their rounding to ns
_LAST_NS = 2**60


def offsets_ns(arrivals: Arrivals, *, n: int | None, horizon_ns: int | None, rng: np.random.Generator) -> IntArray:
    """Arrival times in ns, ascending: the first `n`, and only those before `horizon_ns` (None: no such bound).

    Gaps are rounded to ns before they are summed, so that the sum is exact. Random processes start with a gap;
    evenly spaced ones at 0, so that 10/s for 60 s is 600 requests. Poisson is exact: nothing is rescaled to the
    nominal rate. What is drawn for a smaller bound is the beginning of what is drawn for a larger one.
    Raises ConfigError where the bounds ask for more than MAX_REQUESTS rows, or for 36 years.
    """
    if n is None and (horizon_ns is None or isinstance(arrivals, Burst)):
        raise ConfigError("arrivals without an end\n  expected  a number of requests or, but for a burst, a duration")
    if horizon_ns is not None and horizon_ns > _LAST_NS:
        raise ConfigError("a duration of more than 36 years\n  expected  less")
    if isinstance(arrivals, Burst):
        return np.zeros(n or 0, dtype=np.int64)
    if n is None and horizon_ns is not None and arrivals.rate * (horizon_ns / 1e9) > 2 * MAX_REQUESTS:
        raise _too_many(arrivals.rate)
    steady = is_steady(arrivals)
    blocks = [np.zeros(1 if steady else 0, dtype=np.int64)]
    last_ns, drawn = 0, len(blocks[0])
    while (n is None or drawn < n) and (horizon_ns is None or last_ns < horizon_ns):
        gaps_ns = np.rint(_unit_gaps(arrivals, rng) * (1e9 / arrivals.rate))
        if horizon_ns is not None:
            # One gap as long as the horizon ends the plan, and so do sums past twice the horizon: stay in int64.
            gaps_ns = np.minimum(gaps_ns, float(horizon_ns))
            gaps_ns = gaps_ns[: np.searchsorted(np.cumsum(gaps_ns), 2.0 * horizon_ns) + 1]
        elif last_ns + float(gaps_ns.sum()) >= _LAST_NS:
            raise ConfigError(
                f"{n} requests at {arrivals.rate:g}/s last longer than 36 years\n  expected  fewer, or faster"
            )
        block = last_ns + np.cumsum(gaps_ns.astype(np.int64))
        blocks.append(block)
        last_ns, drawn = int(block[-1]), drawn + len(block)
        if drawn > MAX_REQUESTS + _BLOCK:
            raise _too_many(arrivals.rate)
    times = np.concatenate(blocks)[:n]
    return times if horizon_ns is None else times[: np.searchsorted(times, horizon_ns, side="left")]


def is_steady(arrivals: Arrivals) -> bool:
    """Whether all gaps are the same."""
    return isinstance(arrivals, Constant) or (isinstance(arrivals, Gamma) and arrivals.cv < _STEADY_CV)


def cv_of_gaps(arrivals: Arrivals) -> float:
    """Coefficient of variation of the gaps that the process asks for; NaN for a burst, which has none."""
    match arrivals:
        case Poisson():
            return 1.0
        case Gamma(cv=cv):
            return cv
        case Constant():
            return 0.0
        case Burst():
            return float("nan")


def _unit_gaps(arrivals: Constant | Poisson | Gamma, rng: np.random.Generator) -> FloatArray:
    """Draw the next block of gaps, scaled to mean 1."""
    if is_steady(arrivals):
        return np.ones(_BLOCK)
    if isinstance(arrivals, Gamma):
        shape = 1 / (arrivals.cv * arrivals.cv)
        return gammas(_BLOCK, shape, rng) / shape
    return exponentials(_BLOCK, rng)


def _too_many(rate: float) -> ConfigError:
    return ConfigError(
        f"a plan at {rate:g}/s would hold more than {MAX_REQUESTS:,} requests\n"
        "  expected  a lower rate, a shorter duration, or fewer requests"
    )
