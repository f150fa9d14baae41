"""Delete-one-group jackknife: intervals for pooled estimates from dependent values.

Values of one run are dependent, but long windows of it nearly are not: the estimate is pooled over all
values, and its spread comes from leaving out one window at a time (Tukey, 1958; Miller, Biometrika 61, 1974).
For a mean over equal windows it is the method of batch means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slobench.stats.intervals import student_interval
from slobench.stats.quantiles import FloatArray, rank

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grouped:
    """Values sorted once, each with the group (window or repeat) that it belongs to.

    values: ascending, no NaN, +inf allowed; group: same length, in [0, groups).
    """

    values: FloatArray
    group: NDArray[np.integer]
    groups: int
    sizes: IntArray  # values in each group

    @classmethod
    def sort(cls, values: FloatArray, group: NDArray[np.integer], groups: int) -> Grouped:
        """Sort values and groups together. Time: O(n log n)."""
        order = np.argsort(values, kind="stable")
        small: NDArray[np.integer] = group[order].astype(np.int16) if groups < 2**15 else group[order]
        return cls(values[order], small, groups, np.bincount(group, minlength=groups).astype(np.int64))

    def quantile(self, q: float) -> float:
        """Return the pooled q-quantile (inverse ECDF)."""
        return float(self.values[rank(len(self.values), q)])

    def quantile_without_each(self, q: float) -> FloatArray:
        """Return, for each group, the q-quantile of all values but its own. Time: groups passes over a few groups.

        Below position k of the pooled order a group has c values, so the wanted rank of the rest lies
        within `size` places of k: only that stretch is counted.
        """
        n = len(self.values)
        out = np.empty(self.groups)
        biggest = int(self.sizes.max())
        lowest = max(min(rank(n - int(size), q) for size in self.sizes), 0)
        highest = min(lowest + 2 * biggest + 1, n)
        below = np.bincount(self.group[:lowest], minlength=self.groups)
        stretch = self.group[lowest:highest]
        for g in range(self.groups):
            others = np.flatnonzero(stretch != g)
            wanted = rank(n - int(self.sizes[g]), q) - (lowest - int(below[g]))
            out[g] = self.values[lowest + others[wanted]]
        return out

    def above(self, x: float) -> IntArray:
        """How many values of each group exceed x."""
        start = int(np.searchsorted(self.values, x, side="right"))
        return np.bincount(self.group[start:], minlength=self.groups).astype(np.int64)


def standard_error(without_each: FloatArray) -> float:
    """Jackknife standard error from the K leave-one-out estimates."""
    k = len(without_each)
    spread = without_each - without_each.mean()
    return float(np.sqrt((k - 1) / k * np.sum(spread**2)))


def jackknife_t(estimate: float, without_each: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """Interval estimate ± t_{K-1} * standard error, on the scale that both arguments are on.

    Covers its level where the groups are nearly independent and the scale makes the estimate
    nearly normal (log for latencies, logit for shares): hence the caller's transformation.
    """
    return student_interval(estimate, standard_error(without_each), len(without_each) - 1, level)
