"""Delete-one-group jackknife: intervals for pooled estimates from dependent values.

Values of one run are dependent, but long windows of it nearly are not: the estimate is pooled over all
values, and its spread comes from leaving out one window at a time (Tukey, 1958; Miller, Biometrika 61, 1974).
For a mean over equal windows it is the method of batch means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slobench.stats.intervals import student_interval
from slobench.stats.quantiles import FloatArray, rank

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grouped:
    """Values sorted once, all together and those of each group (window or repeat) by themselves.

    values, each of by_group: ascending, no NaN, +inf allowed.
    """

    values: FloatArray
    by_group: tuple[FloatArray, ...]

    @classmethod
    def sort(cls, values: FloatArray, group: NDArray[np.integer], groups: int) -> Grouped:
        """Sort values whose groups are in [0, groups). Time: O(n log n); memory: three times that of the values."""
        small: NDArray[Any] = group.astype(np.uint8 if groups <= 2**8 else np.int64, copy=False)
        if np.any(small[1:] < small[:-1]):
            order = np.argsort(small, kind="stable")
            values, small = values[order], small[order]
        ends = np.searchsorted(small, np.arange(1, groups), side="left")
        return cls(np.sort(values), tuple(np.sort(part) for part in np.split(values, ends)))

    @property
    def groups(self) -> int:
        """How many groups there are, empty ones included."""
        return len(self.by_group)

    @property
    def sizes(self) -> IntArray:
        """Values in each group."""
        return np.array([len(part) for part in self.by_group], dtype=np.int64)

    @property
    def sums(self) -> FloatArray:
        """Sum of the values of each group."""
        return np.array([part.sum() for part in self.by_group], dtype=np.float64)

    @property
    def variance(self) -> float:
        """Pooled variance, of finite values: within the groups and between them, so that no copy of all is made."""
        mean = self.values.mean()
        parts = [part for part in self.by_group if len(part)]
        return float(sum(len(part) * (part.var() + (part.mean() - mean) ** 2) for part in parts) / len(self.values))

    def quantile(self, q: float) -> float:
        """Return the pooled q-quantile (inverse ECDF)."""
        return float(self.values[rank(len(self.values), q)])

    def quantile_without_each(self, q: float) -> FloatArray:
        """Return, for each group, the q-quantile of all values but its own. Time: O(groups log² n).

        The wanted value of the others lies at its own rank in the pooled order, or as many places on as the group has
        values: there the first is sought that enough of the others do not exceed.
        """
        n = len(self.values)
        out = np.empty(self.groups)
        for g, mine in enumerate(self.by_group):
            wanted = rank(n - len(mine), q) + 1
            low, high = wanted - 1, wanted - 1 + len(mine)
            while low < high:
                middle = (low + high) // 2
                value = self.values[middle]
                others = self.values.searchsorted(value, side="right") - mine.searchsorted(value, side="right")
                low, high = (low, middle) if others >= wanted else (middle + 1, high)
            out[g] = self.values[low]
        return out

    def above(self, x: float) -> IntArray:
        """How many values of each group exceed x."""
        return np.array([len(part) - part.searchsorted(x, side="right") for part in self.by_group], dtype=np.int64)


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
