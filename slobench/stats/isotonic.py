"""Isotonic regression: the monotone sequence nearest to noisy values."""

from __future__ import annotations

import numpy as np

from slobench.stats.quantiles import FloatArray


def falling(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted least squares under the constraint that the result never rises (pool adjacent violators).

    Ayer, Brunk, Ewing, Reid and Silverman, Annals of Mathematical Statistics 26, 1955. Shapes: (k,), weights > 0.
    Time: O(k).
    """
    means: list[float] = []
    masses: list[float] = []
    sizes: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        means.append(value)
        masses.append(weight)
        sizes.append(1)
        while len(means) > 1 and means[-2] < means[-1]:
            mass = masses[-2] + masses[-1]
            mean = (means[-2] * masses[-2] + means[-1] * masses[-1]) / mass
            size = sizes[-2] + sizes[-1]
            del means[-2:], masses[-2:], sizes[-2:]
            means.append(mean)
            masses.append(mass)
            sizes.append(size)
    return np.repeat(np.array(means), sizes)


def last_above(x: FloatArray, fitted: FloatArray, level: float) -> float | None:
    """Where a falling curve through (x, fitted) crosses `level`, linear between points.

    x ascending. None where all of it lies on one side.
    """
    above = np.flatnonzero(fitted >= level)
    if len(above) == 0 or len(above) == len(x):
        return None
    i = int(above[-1])
    drop = float(fitted[i] - fitted[i + 1])
    return float(x[i] + (x[i + 1] - x[i]) * (fitted[i] - level) / drop)
