"""A share that falls with one variable: quasi-binomial logit, and where it crosses a level.

Counts of dependent trials spread more than a binomial says, by a dispersion phi (here the design effect). The fit is
McCullagh and Nelder's quasi-likelihood (Generalized Linear Models, 1989, ch. 9), with phi shrunk towards what is
known of it beforehand and a weak normal prior on the slope, so that two points give a usable line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slobench.stats.intervals import expit, logit, student_quantile
from slobench.stats.quantiles import FloatArray

_nodes, _weights = np.polynomial.hermite_e.hermegauss(24)
_NODES, _WEIGHTS = _nodes, _weights / math.sqrt(2 * math.pi)
_ROUNDS = 60
_CALM = 1e-10  # a step of the parameters that no longer matters
_LEVEL_SD = 8.0  # on the log odds: keeps a fit finite where no trial failed, and says nothing else


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known before the first probe: slope ~ N(slope, slope_sd²), phi worth `phi_weight` observations."""

    slope: float
    slope_sd: float
    phi: float = 60.0
    phi_weight: float = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class LogitFit:
    """log odds = level + slope·(x − centre), with their covariance (dispersion included) and degrees of freedom."""

    level: float
    slope: float
    centre: float
    covariance: FloatArray  # 2 × 2
    phi: float
    dof: float

    def share(self, x: float, spread: float = 0.0) -> float:
        """Return the fitted share at x, or its mean over a normal x of this standard deviation."""
        return mixture(self.level + self.slope * (x - self.centre), abs(self.slope) * spread)

    def band(self, x: float, spread: float = 0.0, level: float = 0.95) -> tuple[float, float]:
        """Pointwise interval of the share at x."""
        at = np.array([1.0, x - self.centre])
        half = student_quantile(self.dof, (1 + level) / 2) * math.sqrt(float(at @ self.covariance @ at))
        middle = self.level + self.slope * (x - self.centre)
        sd = abs(self.slope) * spread
        return mixture(middle - half, sd), mixture(middle + half, sd)


@dataclass(frozen=True, slots=True)
class Root:
    """Where a fitted share crosses a level: estimate, standard error, and an interval that may be unbounded."""

    x: float
    se: float
    low: float
    high: float
    method: str  # delta | fieller


def fit_logit(x: FloatArray, good: FloatArray, n: FloatArray, prior: Prior) -> LogitFit:
    """Fit shares good/n at x. Shapes: (k,), k ≥ 1.

    phi = (Pearson's chi² + phi_weight·phi_prior)/(dof + phi_weight) with dof = k − 2, iterated with the fit.
    """
    centre = float(np.average(x, weights=n))
    at = np.column_stack([np.ones_like(x), x - centre])
    pooled = float(np.clip(good.sum() / n.sum(), 0.5 / n.sum(), 1 - 0.5 / n.sum()))
    mean = np.array([logit(pooled), prior.slope])
    precision = np.diag([_LEVEL_SD**-2, prior.slope_sd**-2])
    theta, phi, dof = mean.copy(), prior.phi, max(len(x) - 2, 0)
    for _ in range(_ROUNDS):
        before = phi
        theta, covariance = _newton(at, good, n, phi, _Normal(mean, precision), theta)
        expected = _shares(at @ theta)
        chi2 = float(np.sum((good - n * expected) ** 2 / (n * expected * (1 - expected))))
        phi = (chi2 * (dof > 0) + prior.phi_weight * prior.phi) / (dof + prior.phi_weight)
        if abs(phi - before) <= 1e-5 * before:
            break
    return LogitFit(float(theta[0]), float(theta[1]), centre, covariance, phi, dof + prior.phi_weight)


def mixture(odds: float, sd: float) -> float:
    """Mean share where the log odds are normal around `odds`. Gauss-Hermite, 24 points: exact to 1e-6 up to sd 2."""
    if sd == 0:
        return expit(odds)
    return float(np.sum(_WEIGHTS / (1 + np.exp(-np.clip(odds + sd * _NODES, -500, 500)))))


def odds_of_mixture(share: float, sd: float) -> float:
    """Return the centre of normal log odds whose mean share is `share`: Newton's method on `mixture`."""
    odds = logit(share) * math.sqrt(1 + 0.39 * sd * sd)  # the probit's answer, close enough to start from
    for _ in range(_ROUNDS):
        each = 1 / (1 + np.exp(-np.clip(odds + sd * _NODES, -500, 500)))
        slope = float(np.sum(_WEIGHTS * each * (1 - each)))
        step = min(max((float(np.sum(_WEIGHTS * each)) - share) / slope, -1.0), 1.0)
        odds -= step
        if abs(step) < _CALM:
            break
    return odds


def crossing(fit: LogitFit, share: float, spread: float = 0.0, level: float = 0.95) -> Root:
    """Where the fit passes `share`, by the delta method; by Fieller's where the slope is not clear (|z| < 3).

    spread: standard deviation in x over which the share that is meant is a mean. Fieller's interval (1954) holds for
    any slope: the x whose log odds do not differ from the level's, a half line or the whole one where it may be 0.
    """
    wanted = (odds_of_mixture(share, abs(fit.slope) * spread) if spread else logit(share)) - fit.level
    x = wanted / fit.slope
    toward = np.array([1.0, x])
    se = math.sqrt(float(toward @ fit.covariance @ toward)) / abs(fit.slope)
    t = student_quantile(fit.dof, (1 + level) / 2)
    if abs(fit.slope) >= 3 * math.sqrt(float(fit.covariance[1, 1])):
        return Root(fit.centre + x, se, fit.centre + x - t * se, fit.centre + x + t * se, "delta")
    low, high = _fieller(fit, wanted, t)
    return Root(fit.centre + x, se, fit.centre + low, fit.centre + high, "fieller")


def _fieller(fit: LogitFit, wanted: float, t: float) -> tuple[float, float]:
    """Solve (wanted − slope·x)² ≤ t²·(v00 + 2·v01·x + v11·x²)."""
    (v00, v01), (_, v11) = fit.covariance.tolist()
    a = fit.slope**2 - t * t * v11
    b = -2 * (wanted * fit.slope + t * t * v01)
    c = wanted**2 - t * t * v00
    inside = b * b - 4 * a * c
    if a <= 0:
        return -math.inf, math.inf
    if inside < 0:  # cannot be: at x = wanted/slope the left side is 0
        return -math.inf, math.inf
    half = math.sqrt(inside)
    return (-b - half) / (2 * a), (-b + half) / (2 * a)


@dataclass(frozen=True, slots=True, eq=False)
class _Normal:
    mean: FloatArray
    precision: FloatArray


def _newton(
    at: FloatArray, good: FloatArray, n: FloatArray, phi: float, prior: _Normal, start: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Maximise the quasi-likelihood over phi plus the prior (concave: Newton with halved steps ends)."""

    def height(theta: FloatArray) -> float:
        odds = at @ theta
        data = float(np.sum(good * odds - n * np.logaddexp(0.0, odds))) / phi
        off = theta - prior.mean
        return data - 0.5 * float(off @ prior.precision @ off)

    theta = start
    for _ in range(_ROUNDS):
        expected = _shares(at @ theta)
        weights = n * expected * (1 - expected) / phi
        gradient = at.T @ (good - n * expected) / phi - prior.precision @ (theta - prior.mean)
        information = at.T @ (weights[:, None] * at) + prior.precision
        step = np.linalg.solve(information, gradient)
        here, size = height(theta), 1.0
        while height(theta + size * step) < here - 1e-12 * abs(here) and size > 1e-6:
            size /= 2
        theta = theta + size * step
        if float(np.max(np.abs(step))) < _CALM:
            break
    expected = _shares(at @ theta)
    information = at.T @ ((n * expected * (1 - expected) / phi)[:, None] * at) + prior.precision
    return theta, np.asarray(np.linalg.inv(information), dtype=np.float64)


def _shares(odds: FloatArray) -> FloatArray:
    """Inverse of the logit, kept off 0 and 1 so that variances stay positive."""
    return np.clip(1 / (1 + np.exp(-np.clip(odds, -500, 500))), 1e-12, 1 - 1e-12)
