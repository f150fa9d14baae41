"""Where to begin a fit: parameters read off the gaps and the counts, one set for each of several scales."""

from __future__ import annotations

import math

import numpy as np

from slobench.stats.arrivals import counts, dispersion
from slobench.stats.observed import Observed
from slobench.stats.quantiles import FloatArray

Starts = list[tuple[float, ...]]

_CUTS = (0.8, 0.9, 0.97, 0.99, 0.997)  # quantiles of the gaps above which one may be a silence
_SCALES = (5.0, 30.0, 150.0)  # windows of counts, in mean gaps


def gaps_of(seen: Observed) -> FloatArray:
    """Gaps between events, s."""
    return seen.by_gap(seen.length)


def poisson_starts(seen: Observed) -> Starts:  # noqa: ARG001 (as the others)
    """Return nothing to begin from: a rate is all there is."""
    return [()]


def gamma_starts(seen: Observed) -> Starts:
    """The cv of the gaps, and that of calm arrivals."""
    gaps = gaps_of(seen)
    return [(float(gaps.std() / gaps.mean()),), (1.0,)]


def weibull_starts(seen: Observed) -> Starts:
    """The shape, by the usual power of the cv."""
    return [(max(cv, 0.01) ** -1.086,) for (cv,) in gamma_starts(seen)]


def on_off_starts(seen: Observed) -> Starts:
    """The cv of gaps while on, mean on and off, the cv of off-times, by splitting the gaps at several lengths.

    What is shorter passes while on, what is longer is silence.
    """
    gaps = gaps_of(seen)
    starts: Starts = []
    for cut in np.quantile(gaps, _CUTS).tolist():
        short, long = gaps[gaps <= cut], gaps[gaps > cut]
        if len(long) < 2 or len(short) < 2:
            continue
        on_s, off_s = float(short.mean()), float(long.mean())
        on_cv, off_cv = max(float(short.std()) / on_s, 0.1), max(float(long.std()) / off_s, 0.1)
        starts.append((on_cv, float(short.sum()) / len(long), off_s, off_cv))
    mean = float(gaps.mean())
    return starts or [(1.0, 50 * mean, 5 * mean, 1.0)]


def mmpp_starts(seen: Observed) -> Starts:
    """Calm over busy rate and how long each lasts, by windows of several lengths; and an on/off source."""
    gaps = gaps_of(seen)
    times = np.cumsum(gaps)
    starts: Starts = [(0.01, stay, off) for _, stay, off, _ in on_off_starts(seen)]
    for scale in _SCALES:
        width = scale * float(gaps.mean())
        counted = counts(times, width, 0.0, float(times[-1]))
        busy = counted > (counted.mean() if len(counted) else 0.0)
        if len(counted) < 4 or not 0 < busy.sum() < len(counted):
            continue
        turns = max(float(np.abs(np.diff(busy.astype(np.int64))).sum()) / 2, 1.0)
        stays = (float(busy.sum()) * width / turns, float((~busy).sum()) * width / turns)
        starts.append((float(counted[~busy].mean() / counted[busy].mean()), *stays))
    return starts


def hawkes_starts(seen: Observed) -> Starts:
    """Branching from the dispersion of long windows, 1/(1 - branching)² in the limit; decay at several scales."""
    gaps = gaps_of(seen)
    rate = 1 / float(gaps.mean())
    times = np.cumsum(gaps)
    spread = dispersion(counts(times, 100 / rate, 0.0, float(times[-1])))
    branching = 0.3 if math.isnan(spread) or spread <= 1.2 else min(1 - 1 / math.sqrt(spread), 0.95)
    return [(branching, rate * speed) for speed in (0.05, 0.5, 5.0, 50.0)]
