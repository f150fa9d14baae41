"""Capacity of the reference engine by brute force: a dense grid of long runs, and where the fitted curve crosses.

Nothing here is shared with the search that slobench offers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slobench.stats.jackknife import jackknife_t
from tests.validation.reference import run

WARMUP_S = 60.0  # more than 2 x p99 E2E at the knee
SPREAD = 0.06  # of the grid, either side of the expected rate
POINTS = 13


@dataclass(frozen=True, slots=True)
class Root:
    """Where attainment crosses a target, requests/s, with the interval over independent repeats."""

    target: float
    cv: float
    rate: float
    low: float
    high: float
    requests: int


def grid(expected: float) -> np.ndarray:
    """Rates within SPREAD of the expected one, evenly spaced on the log scale."""
    return expected * np.exp(np.linspace(-SPREAD, SPREAD, POINTS))


def repeat(expected: float, cv: float, seconds: float, seed: int) -> np.ndarray:
    """One repeat: (good, all) at each rate of the grid, after the warm-up."""
    out = []
    for k, rate in enumerate(grid(expected).tolist()):
        seen = run(rate, cv, WARMUP_S + seconds, 1000 * seed + k)
        main = seen.arrival_s >= WARMUP_S
        out.append((int(np.sum(seen.good & main)), int(np.sum(main))))
    return np.array(out)


def root(expected: float, target: float, cv: float, repeats: Sequence[np.ndarray]) -> Root:
    """Fit a parabola to the pooled logit of attainment in ln(rate) and solve; delete-one-repeat jackknife-t at 95 %."""
    total = np.sum(repeats, axis=0)
    estimate = crossing(total, expected, target)
    without = np.array([crossing(total - each, expected, target) for each in repeats])
    low, high = jackknife_t(estimate, without)
    return Root(target, cv, *np.exp([estimate, low, high]).tolist(), requests=int(total[:, 1].sum()))


def crossing(tally: np.ndarray, expected: float, target: float) -> float:
    """ln of the rate at which the fitted attainment is the target."""
    x = np.log(grid(expected) / expected)
    odds = np.log((tally[:, 0] + 0.5) / (tally[:, 1] - tally[:, 0] + 0.5))
    curve = np.polyfit(x, odds - np.log(target / (1 - target)), 2)
    fine = np.linspace(-SPREAD, SPREAD, 4001)
    above = np.polyval(curve, fine) >= 0
    if above.all() or not above.any():
        raise ValueError(f"attainment does not cross {target} within {SPREAD:.0%} of {expected}/s")
    return float(np.log(expected) + fine[np.flatnonzero(above)[-1]])
