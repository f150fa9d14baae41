"""Arrival processes: when the requests of one class are due, in integer ns from the start of the run."""

from __future__ import annotations

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
from slobench.config.workload import MAX_REQUESTS
from slobench.errors import ConfigError
from slobench.workload.bounds import BLOCK, LAST_NS, Bounds, too_many
from slobench.workload.gaps import STEADY_CV, draw_gaps, law_of
from slobench.workload.hawkes import hawkes_ns
from slobench.workload.modulated import mmpp_ns, on_off_ns, varying_ns
from slobench.workload.pools import pool_ns
from slobench.workload.variates import IntArray


def offsets_ns(arrivals: Arrivals, *, n: int | None, horizon_ns: int | None, rng: np.random.Generator) -> IntArray:
    """Arrival times in ns, ascending: the first `n`, and only those before `horizon_ns` (None: no such bound).

    Renewal processes (Poisson, gamma, Weibull) start with a gap, evenly spaced ones at 0, so that 10/s for 60 s is 600
    requests; the others start as if they had been going on for ever, so that their rate holds from the start on.
    Everything is exact: nothing is rescaled to the nominal rate. What is drawn for a smaller bound is the beginning of
    what is drawn for a larger one.
    Raises ConfigError where the bounds ask for more than MAX_REQUESTS rows, or for 36 years.
    """
    if n is None and (horizon_ns is None or isinstance(arrivals, Burst)):
        raise ConfigError("arrivals without an end\n  expected  a number of requests or, but for a burst, a duration")
    if horizon_ns is not None and horizon_ns > LAST_NS:
        raise ConfigError("a duration of more than 36 years\n  expected  less")
    bounds = Bounds(n, horizon_ns)
    if n is None and not isinstance(arrivals, Varying) and mean_rate(arrivals) * bounds.horizon_s > 2 * MAX_REQUESTS:
        raise too_many(f"{mean_rate(arrivals):g} requests/s")
    match arrivals:
        case Burst():
            return np.zeros(n or 0, dtype=np.int64)
        case Varying():
            return varying_ns(arrivals, bounds, rng)
        case OnOff():
            return on_off_ns(arrivals, bounds, rng)
        case Mmpp():
            return mmpp_ns(arrivals, bounds, rng)
        case Hawkes():
            return hawkes_ns(arrivals, bounds, rng)
        case Pool():
            return pool_ns(arrivals, bounds, rng)[0]
        case _:
            return _renewal_ns(arrivals, bounds, rng)


def is_steady(arrivals: Arrivals) -> bool:
    """Whether all gaps are the same."""
    return isinstance(arrivals, Constant) or (isinstance(arrivals, Gamma) and arrivals.cv < STEADY_CV)


def _renewal_ns(arrivals: Constant | Poisson | Gamma | Weibull, bounds: Bounds, rng: np.random.Generator) -> IntArray:
    """Gap after gap of one law. Gaps are rounded to ns before they are summed, so that the sum is exact."""
    steady, law = is_steady(arrivals), law_of(arrivals)
    blocks = [np.zeros(1 if steady else 0, dtype=np.int64)]
    last_ns, drawn = 0, len(blocks[0])
    while bounds.want_more(drawn, last_ns):
        gaps_ns = np.rint(draw_gaps(law, BLOCK, rng) * (1e9 / arrivals.rate))
        if bounds.horizon_ns is not None:
            # One gap as long as the horizon ends the plan, and so do sums past twice the horizon: stay in int64.
            gaps_ns = np.minimum(gaps_ns, float(bounds.horizon_ns))
            gaps_ns = gaps_ns[: np.searchsorted(np.cumsum(gaps_ns), 2.0 * bounds.horizon_ns) + 1]
        elif last_ns + float(gaps_ns.sum()) >= LAST_NS:
            raise ConfigError(
                f"{bounds.n} requests at {arrivals.rate:g}/s last longer than 36 years\n  expected  fewer, or faster"
            )
        block = last_ns + np.cumsum(gaps_ns.astype(np.int64))
        blocks.append(block)
        last_ns, drawn = int(block[-1]), drawn + len(block)
    return bounds.cut(np.concatenate(blocks))
