"""Arrivals in bursts with silence between them: gamma gaps on a clock that stands still while the source is off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from slobench.stats.observed import GapLaw
from slobench.stats.quantiles import FloatArray
from slobench.stats.renewal import gamma_log_density, gamma_log_survival

_MOST_OFFS = 50  # silences within one gap
_LEFT_OUT = 1e-10  # share of gaps with more of them
_TINY = 1e-290
_NEVER = -1e4
_OFF_BY = 0.01  # of an integral, as a share
_CELL = 0.2  # of log x
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)

Gamma = tuple[float, float]  # shape, scale


def on_off_gaps(on_rate: float, on_cv: float, mean_on: float, mean_off: float, off_cv: float) -> GapLaw:
    """The gaps of a source that is on for exponential times and off for gamma times.

    As on-times have no memory and an arrival comes while on, gaps are independent: X of the on-clock plus N off-times,
    where N is Poisson with mean X/mean_on. Given N = j, X is gamma of shape k + j and of a scale a little below its own
    (k, θ the gamma of the on-gaps), N is negative binomial, and the sum of two gammas of different scales has a density
    with Kummer's function (Moschopoulos, Ann. Inst. Statist. Math. 37, 1985, for two).

    Where most gaps hold dozens of silences neither their number is looked at whole nor can that function be worked out:
    no gap is then likely, so that a fit turns back.
    """
    shape, scale = 1 / on_cv**2, on_cv**2 / on_rate
    off_shape, off_scale = 1 / off_cv**2, mean_off * off_cv**2
    short = scale / (1 + scale / mean_on)
    weights = _offs(shape, scale, mean_on)

    with_offs = _WithOffs.tabulate(weights, (shape, short), (off_shape, off_scale)) if len(weights) > 1 else None
    alone = math.log(weights[0])
    if with_offs is not None and abs(with_offs.log_mass) > _OFF_BY:
        return GapLaw(_never, _never)

    def log_density(x: FloatArray) -> FloatArray:
        density = alone + gamma_log_density(x, shape, short)
        return density if with_offs is None else np.logaddexp(density, with_offs.log_density(x))

    def log_survival(x: FloatArray) -> FloatArray:
        survival = alone + gamma_log_survival(x, shape, short)
        return survival if with_offs is None else np.logaddexp(survival, with_offs.log_survival(x))

    return GapLaw(log_density, log_survival)


def _never(x: FloatArray) -> FloatArray:
    return np.full(np.shape(x), _NEVER)


def _offs(shape: float, scale: float, mean_on: float) -> list[float]:
    """Shares of gaps with 0, 1, 2, … silences in them: negative binomial, cut off where hardly any is left."""
    share = scale / mean_on / (1 + scale / mean_on)
    weights = [(1 - share) ** shape]
    while 1 - sum(weights) > _LEFT_OUT and len(weights) <= _MOST_OFFS:
        j = len(weights)
        weights.append(weights[-1] * share * (shape + j - 1) / j)
    return weights


def _log_sum_density(x: FloatArray, one: Gamma, other: Gamma) -> FloatArray:
    """Logarithm of the density of the sum of two independent gammas, each (shape, scale)."""
    from scipy.special import hyp1f1

    (a, s), (b, t) = sorted((one, other), key=lambda each: each[1])  # s <= t
    front = (a + b - 1) * np.log(x) - x / t - math.lgamma(a + b) - a * math.log(s) - b * math.log(t)
    z = x * (1 / s - 1 / t)
    value = np.nan_to_num(hyp1f1(a, a + b, -z), nan=0.0)
    kummer = np.log(np.maximum(value, _TINY))
    far = value <= _TINY  # there only the first term of its expansion is left
    kummer[far] = math.lgamma(a + b) - math.lgamma(b) - a * np.log(z[far])
    return np.asarray(front + kummer)


@dataclass(frozen=True, slots=True)
class _WithOffs:
    """Gaps that hold a silence, on a grid of log x: smooth, unlike those that hold none."""

    low: float
    high: float
    log_mass: float  # of the integral of the density before it was made to be what it should be, by that
    density: Any
    beyond: Any

    @classmethod
    def tabulate(cls, weights: list[float], on: Gamma, off: Gamma) -> _WithOffs:
        """Splines of the logarithms of the density, and of its integral from x on (four nodes a cell)."""
        from scipy.interpolate import CubicSpline, PchipInterpolator

        mean = (on[0] + 1) * on[1] + off[0] * off[1]
        most = (on[0] + len(weights)) * on[1] + len(weights) * off[0] * off[1] + 60 * max(on[1], off[1])
        # A grid that stands still when parameters move: its errors then hardly change with them.
        edges = _CELL * np.arange(math.floor(math.log(1e-7 * mean) / _CELL), math.ceil(math.log(most) / _CELL) + 1)
        known = _log_sum(weights, on, off, np.exp(edges))
        density = CubicSpline(edges, known)
        at = (edges[:-1, None] + _CELL / 2 * (1 + _NODES)).ravel()
        inside = density(at) + at
        peak = float(inside.max())
        cells = np.exp(inside - peak).reshape(-1, len(_NODES)) @ _WEIGHTS
        beyond = np.concatenate([np.cumsum(cells[::-1])[::-1], cells[-1:] * _TINY])
        # What lies below the grid is less than the error of the sum.
        tail = np.log(np.maximum(beyond / beyond[0], _TINY)) + math.log1p(-weights[0])
        log_mass = math.log(beyond[0] * _CELL / 2) + peak - math.log1p(-weights[0])
        proper = CubicSpline(edges, known - log_mass)  # else a fit goes where the error adds to it
        return cls(float(edges[0]), float(edges[-1]), log_mass, proper, PchipInterpolator(edges, tail))

    def log_density(self, x: FloatArray) -> FloatArray:
        """Logarithm of P(silences) times the density; below the grid along its power, beyond it by its last slope."""
        at = np.log(x)
        inside = np.clip(at, self.low, self.high)
        slope = np.where(at < self.low, self.density(self.low, 1), self.density(self.high, 1))
        return np.asarray(self.density(inside) + (at - inside) * slope)

    def log_survival(self, x: FloatArray) -> FloatArray:
        """Logarithm of P(silences and gap > x)."""
        return np.asarray(self.beyond(np.clip(np.log(np.maximum(x, 1e-300)), self.low, self.high)))


def _log_sum(weights: list[float], on: Gamma, off: Gamma, x: FloatArray) -> FloatArray:
    """Logarithm of the density of gaps with a silence, each number of them with its weight."""
    parts = [
        math.log(weight) + _log_sum_density(x, (on[0] + j, on[1]), (j * off[0], off[1]))
        for j, weight in enumerate(weights[1:], 1)
    ]
    return np.asarray(np.nan_to_num(np.logaddexp.reduce(parts), nan=_NEVER, neginf=_NEVER, posinf=_NEVER))
