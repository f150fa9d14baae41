"""Renewal processes: what gaps that are gamma or Weibull make of each piece of time."""

from __future__ import annotations

import math

import numpy as np

from slobench.stats.observed import GapLaw
from slobench.stats.quantiles import FloatArray

_TINY = 1e-290  # below it a survival function is taken from its expansion


def gamma_gaps(rate: float, cv: float) -> GapLaw:
    """Gamma gaps of mean 1/rate and this coefficient of variation."""
    shape, scale = 1 / cv**2, cv**2 / rate
    return GapLaw(lambda x: gamma_log_density(x, shape, scale), lambda x: gamma_log_survival(x, shape, scale))


def weibull_gaps(rate: float, shape: float) -> GapLaw:
    """Weibull gaps of mean 1/rate and this shape; 1 is exponential."""
    scale = 1 / (rate * math.gamma(1 + 1 / shape))
    return GapLaw(
        lambda x: math.log(shape / scale) + (shape - 1) * np.log(x / scale) - (x / scale) ** shape,
        lambda x: -((x / scale) ** shape),
    )


def weibull_cv(shape: float) -> float:
    """Coefficient of variation of a Weibull variate."""
    return math.sqrt(max(math.expm1(math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape)), 0.0))


def gamma_log_density(x: FloatArray, shape: float, scale: float) -> FloatArray:
    """Logarithm of the gamma density; x > 0."""
    z = x / scale
    return np.asarray((shape - 1) * np.log(z) - z - math.lgamma(shape) - math.log(scale))


def gamma_log_survival(x: FloatArray, shape: float, scale: float) -> FloatArray:
    """Logarithm of P(X > x) of a gamma variate; x >= 0.

    Where the function itself underflows, from Γ(a, z) ≈ z^(a-1) e^(-z) (1 + (a-1)/z + (a-1)(a-2)/z²)
    (Abramowitz and Stegun, Handbook of Mathematical Functions, 6.5.32).
    """
    from scipy.special import gammaincc

    z = x / scale
    survival = gammaincc(shape, z)
    result = np.log(np.maximum(survival, _TINY))
    far = survival <= _TINY
    if far.any():
        u = z[far]
        result[far] = (
            (shape - 1) * np.log(u) - u - math.lgamma(shape) + np.log1p((shape - 1) / u * (1 + (shape - 2) / u))
        )
    return np.asarray(result)
