"""A new value against earlier ones of the same thing: the t-test of a prediction interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from slobench.stats.intervals import student_quantile
from slobench.stats.quantiles import FloatArray


@dataclass(frozen=True, slots=True)
class Predicted:
    """Mean of new values less that of earlier ones, with the error that a prediction of it would have.

    sd: of one earlier value. p: one-sided, of "new values come from where the earlier ones came from", against larger.
    """

    earlier: int
    difference: float
    sd: float
    error: float
    p: float

    def upper(self, level: float = 0.95) -> float:
        """One-sided upper bound of the true difference."""
        return self.difference + student_quantile(self.earlier - 1, level) * self.error

    def lower(self, level: float = 0.95) -> float:
        """One-sided lower bound of the true difference."""
        return self.difference - student_quantile(self.earlier - 1, level) * self.error


def prediction_t(earlier: FloatArray, new: FloatArray) -> Predicted:
    """Test whether new values are larger than n earlier ones let expect; n - 1 degrees of freedom.

    The error of the difference of means is s * sqrt(1/n + 1/m), s from the earlier values alone: of m = 1 it is the
    prediction interval (Hahn, Journal of the American Statistical Association 64, 1969). Holds for nearly normal
    values with nothing in common but their mean: what drifts between then and now is taken for a difference.
    Raises ValueError below 2 earlier values or without a new one.
    """
    from scipy.special import stdtr

    n, m = len(earlier), len(new)
    if n < 2 or m < 1:
        raise ValueError(f"expected at least 2 earlier values and 1 new one, got {n} and {m}")
    difference, sd = float(new.mean() - earlier.mean()), float(earlier.std(ddof=1))
    error = sd * math.sqrt(1 / n + 1 / m)
    if error <= 1e-12 * abs(difference):  # all alike: beyond doubt
        return Predicted(n, difference, 0.0, 0.0, 0.0 if difference > 0 else 1.0)
    return Predicted(n, difference, sd, error, float(stdtr(n - 1, -difference / error)))
