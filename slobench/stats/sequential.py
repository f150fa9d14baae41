"""Confidence sequences: intervals for a mean that hold at all times at once, so that one may stop when one likes.

P(some interval of the sequence leaves the mean out) <= alpha, for values in [0, 1] whose mean given the earlier ones is
always the same. Requests of one run are not such values (docs/metrics.md, Intervals): feed the means of long batches
to `betting_sequence`, and an effective number of trials to `mixture_interval`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slobench.stats.quantiles import FloatArray

GRID = 1000
_MOST = 0.75  # share of the capital that one value may lose, at most (paper: 1/2 or 3/4)
_LOG_HALF = math.log(0.5)


@dataclass(frozen=True, slots=True)
class Sequence:
    """Intervals after 1, 2, … values, each the intersection of all so far: low ascends, high descends.

    Where the values drift so that nothing is left of the intersection, low exceeds high: no one mean fits them.
    """

    low: FloatArray
    high: FloatArray


def betting_sequence(values: FloatArray, alpha: float = 0.05, *, grid: int = GRID) -> Sequence:
    """Confidence sequence for the mean of values in [0, 1], by betting against each mean that it could be.

    Hedged capital with predictable plug-in bets: Waudby-Smith and Ramdas, "Estimating means of bounded random
    variables by betting", JRSS-B 86 (2024), eq. 26 and theorem 3. Against mean m half of the capital bets that values
    are larger, half that they are smaller; m is left out once the capital has ever grown past 1/alpha (Ville, 1939).
    Adapts to the variance: values that are nearly equal give a narrow interval soon.
    Time and memory: O(values x grid); bounds are rounded outwards to the grid.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"expected 0 < alpha < 1, got {alpha}")
    if len(values) and not (np.min(values) >= 0 and np.max(values) <= 1):
        raise ValueError("expected values in [0, 1]")
    means = np.linspace(0, 1, grid + 1)
    bets = _bets(values, alpha)[:, None]
    with np.errstate(divide="ignore"):
        up, down = np.minimum(bets, _MOST / means), np.minimum(bets, _MOST / (1 - means))
    gain = values[:, None] - means
    gained_up, gained_down = np.cumsum(np.log1p(up * gain), axis=0), np.cumsum(np.log1p(-down * gain), axis=0)
    held = np.logaddexp(gained_up, gained_down) + _LOG_HALF < -math.log(alpha)
    return _bounds(np.logical_and.accumulate(held, axis=0))


def _bets(values: FloatArray, alpha: float) -> FloatArray:
    """How much is staked on each value, from the ones before it (eq. 26)."""
    t = np.arange(1, len(values) + 1)
    mean = (0.5 + np.cumsum(values)) / (t + 1)
    variance = (0.25 + np.cumsum((values - mean) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    return np.asarray(np.sqrt(2 * math.log(2 / alpha) / (before * t * np.log1p(t))), dtype=np.float64)


def _bounds(held: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> Sequence:
    steps = held.shape[1] - 1
    some = held.any(axis=1)
    first, last = held.argmax(axis=1), steps - held[:, ::-1].argmax(axis=1)
    low = np.where(some, np.maximum(first - 1, 0) / steps, 1.0)
    high = np.where(some, np.minimum(last + 1, steps) / steps, 0.0)
    return Sequence(low, high)


def mixture_interval(
    successes: float, n: float, alpha: float = 0.05, prior: tuple[float, float] = (0.5, 0.5)
) -> tuple[float, float]:
    """Interval for a share after n trials that holds at every n at once: one member of a confidence sequence.

    Beta-binomial mixture (Robbins, Annals of Mathematical Statistics 41, 1970; Howard, Ramdas, McAuliffe and Sekhon,
    Annals of Statistics 49, 2021): p is left out where the likelihood ratio of the Beta(`prior`) mixture to p exceeds
    1/alpha. Any prior fixed beforehand is valid; one near the truth decides sooner. `n` may be an effective number of
    trials and `successes` a share of it: real numbers. About 1.6 times as wide as an interval for one fixed n.
    """
    from scipy.special import betaln

    if not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n, got {successes} of {n}")
    if n == 0:
        return 0.0, 1.0
    failures = n - successes
    mixture = float(betaln(prior[0] + successes, prior[1] + failures) - betaln(*prior)) + math.log(alpha)

    def excluded(p: float) -> bool:
        return mixture > _times_log(successes, p) + _times_log(failures, 1 - p)

    seen = successes / n
    return _edge(excluded, 0.0, seen), _edge(excluded, 1.0, seen)


def _times_log(count: float, p: float) -> float:
    """Count x log p, with 0 x log 0 = 0."""
    if count == 0:
        return 0.0
    return count * math.log(p) if p > 0 else -math.inf


def _edge(excluded: Callable[[float], bool], outside: float, inside: float) -> float:
    """Where `excluded` changes between a value outside and one inside the interval, rounded outwards."""
    if not excluded(outside):
        return outside
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if excluded(middle) else (outside, middle)
    return outside
