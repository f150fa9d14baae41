"""Comparisons of pairs: one-sided t-tests on their differences, several at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slobench.stats.intervals import student_quantile
from slobench.stats.quantiles import FloatArray


@dataclass(frozen=True, slots=True)
class PairedT:
    """Differences of K pairs: their mean, standard deviation, and p of "the mean is at most 0"."""

    pairs: int
    mean: float
    sd: float  # of one difference
    p: float  # one-sided

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.sd / math.sqrt(self.pairs)

    def upper(self, level: float = 0.95) -> float:
        """One-sided upper bound of the true mean."""
        return self.mean + student_quantile(self.pairs - 1, level) * self.error

    def lower(self, level: float = 0.95) -> float:
        """One-sided lower bound of the true mean."""
        return self.mean - student_quantile(self.pairs - 1, level) * self.error


def paired_t(differences: FloatArray) -> PairedT:
    """Test whether differences have a mean above 0 (Student, Biometrika 6, 1908); K - 1 degrees of freedom.

    Differences should be nearly normal, as logarithms of ratios are. At 4 to 10 pairs the percentile bootstrap rejects
    a true hypothesis three to seven times as often as it says; this does not. Raises ValueError below 2 pairs.
    """
    from scipy.special import stdtr

    k = len(differences)
    if k < 2:
        raise ValueError(f"expected at least 2 pairs, got {k}")
    mean, sd = float(differences.mean()), float(differences.std(ddof=1))
    if sd <= 1e-12 * abs(mean):  # all alike: beyond doubt
        return PairedT(k, mean, 0.0, 0.0 if mean > 0 else 1.0)
    return PairedT(k, mean, sd, float(stdtr(k - 1, -mean / sd * math.sqrt(k))))


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """Adjust p-values of a family, so that p <= alpha rejects any true hypothesis with chance alpha at most.

    The j-th smallest of m is multiplied by m + 1 - j, and none is below a smaller one's (Holm, Scandinavian Journal of
    Statistics 6, 1979). Holds under any dependence of the tests.
    """
    m = len(p)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p)[order] * np.arange(m, 0, -1)), 1.0)
    return tuple(adjusted.tolist())


def pairs_needed(sd: float, effect: float, alpha: float = 0.01, power: float = 0.95) -> int:
    """Return the fewest pairs with which a one-sided test at alpha sees a mean of `effect` with chance `power`.

    sd: of one difference; same unit as effect > 0. From the noncentral t distribution, upwards from what would do
    if sd were known.
    """
    from scipy.special import nctdtr, ndtri

    shift = float(ndtri(1 - alpha) + ndtri(power))
    k = max(2, math.floor((shift * sd / effect) ** 2))
    while nctdtr(k - 1, effect / sd * math.sqrt(k), student_quantile(k - 1, 1 - alpha)) > 1 - power:
        k += 1
    return k
