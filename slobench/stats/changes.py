"""Where a history of results changed its level: divisive change points with t-tests."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slobench.stats.quantiles import FloatArray

WEAK = 10.0  # candidates may have a p this much larger: a neighbour's removal can strengthen them


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """The level changed at `index`, the first value of the new one; means and p are between neighbouring changes."""

    index: int
    before: float
    after: float
    p: float  # of the t-test between the two stretches; the search for the place is not in it

    @property
    def change(self) -> float:
        """Relative change of the mean; +-inf from 0."""
        if self.before == self.after:
            return 0.0
        return self.after / self.before - 1 if self.before else math.copysign(math.inf, self.after)


def change_points(
    series: FloatArray, window: int = 50, most_p: float = 0.001, least: float = 0.02
) -> list[ChangePoint]:
    """Changes of level in a history, one value a run, in order.

    Divisive energy statistics (Matteson and James, JASA 109, 2014) in overlapping windows, with Student's t-test in
    place of permutations, candidates at 10 times the p, and then the weakest taken out until all have p < `most_p`
    and a relative change of at least `least` (Fleming et al., ICPE 2023; Apache Otava).
    `most_p` is of one t-test at the best of many places, so false alarms are more frequent than it says: use it on a
    history, and no gate on it. Needs about 10 values on either side. Time: O(n * window).
    """
    found: set[int] = set()
    for start in range(0, max(len(series) - window // 2, 1), max(window // 2, 1)):
        part = series[start : start + window]
        found |= {start + index for index in _divide(part, 0, len(part), WEAK * most_p)}
    places = sorted(found)
    while places:
        changes = list(_described(series, places))
        weakest = max(changes, key=lambda change: change.p)
        if weakest.p < most_p:
            weakest = min(changes, key=lambda change: abs(change.change))
            if abs(weakest.change) >= least:
                return changes
        places.remove(weakest.index)
    return []


def _divide(series: FloatArray, start: int, end: int, most_p: float) -> Iterator[int]:
    """Split [start, end) at its best place, as long as the t-test sees a difference."""
    if end - start < 3:
        return
    at = start + _best_split(series[start:end])
    if t_test(series[start:at], series[at:end]) < most_p:
        yield from _divide(series, start, at, most_p)
        yield at
        yield from _divide(series, at, end, most_p)


def _best_split(values: FloatArray) -> int:
    """Return the tau that makes the energy distance of values[:tau] and values[tau:kappa] largest, over all kappa."""
    n = len(values)
    distance = np.abs(values[:, None] - values[None, :])
    total = np.zeros((n + 1, n + 1))
    total[1:, 1:] = distance.cumsum(axis=0).cumsum(axis=1)
    corner = np.diag(total)
    within = (corner[None, :] - 2 * total + corner[:, None]) / 2  # [i, j]: sum over pairs in values[i:j]
    tau, kappa = np.arange(1, n)[:, None], np.arange(2, n + 1)[None, :]
    left, right = tau, np.maximum(kappa - tau, 1)  # sizes; kappa <= tau is masked below
    inside_left, inside_right = within[0, tau], within[tau, kappa]
    across = within[0, kappa] - inside_left - inside_right
    spread = right / np.maximum(left - 1, 1) * inside_left + left / np.maximum(right - 1, 1) * inside_right
    gain = np.where(kappa > tau, 2 / (left + right) * (across - spread), -np.inf)
    return int(np.argmax(gain) // gain.shape[1]) + 1


def _described(series: FloatArray, places: list[int]) -> Iterator[ChangePoint]:
    edges = [0, *places, len(series)]
    for before, at, after in zip(edges, edges[1:], edges[2:], strict=False):
        left, right = series[before:at], series[at:after]
        yield ChangePoint(at, float(left.mean()), float(right.mean()), t_test(left, right))


def t_test(a: FloatArray, b: FloatArray) -> float:
    """Two-sided p of "equal means", equal variances assumed (Student, 1908); 1 with fewer than 3 values in all."""
    from scipy.special import stdtr

    dof = len(a) + len(b) - 2
    difference = abs(float(a.mean() - b.mean()))
    if dof < 1:
        return 1.0
    variance = float(np.sum((a - a.mean()) ** 2) + np.sum((b - b.mean()) ** 2)) / dof
    error = math.sqrt(variance * (1 / len(a) + 1 / len(b)))
    if error <= 1e-12 * difference:
        return 0.0 if difference else 1.0
    return 2 * float(stdtr(dof, -difference / error))
