"""Where attainment crosses its target, from the probes that a search has made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slobench.experiment.criteria import Criterion
from slobench.experiment.stream import Probed
from slobench.stats.intervals import logit, student_quantile
from slobench.stats.isotonic import falling, last_above
from slobench.stats.logit import LogitFit, Prior, crossing, fit_logit
from slobench.stats.quantiles import FloatArray

NEAR = 0.2  # probes within ±20 % of the root enter the fit: further off the log odds are no line
_REACH = 0.1  # how far the root may lie outside what was probed
_ROUNDS = 4
_CLUSTERED_PHI = 400.0  # design effect of sessions on the reference engine at 90 % (docs/validation.md)
_CHANCE = 0.05  # of calling a falling curve no line, over all its levels (2 standard errors at a single one)


@dataclass(frozen=True, slots=True)
class Located:
    """The root of one criterion on the scale ln(load): estimate, 95 % interval, and the line it comes from."""

    criterion: Criterion
    x: float
    low: float
    high: float
    half: float  # half-width of the interval
    se: float
    fit: LogitFit
    used: tuple[int, ...]  # numbers of the probes in the fit
    monotone: bool
    method: str  # delta | fieller | isotonic
    spread: float  # of ln(load) over which conditioned arrivals must be mixed to be Poisson; 0: nothing to mix


def prior_for(target: float, *, clustered: bool = False) -> Prior:
    """Return what is known of the slope: N(−25, 12²) at 90 % and N(−22, 11²) at 99 %, linear in the log odds.

    clustered: requests of one session come and stay away together, over a time as long as a probe: their design effect
    is larger.
    """
    part = (logit(target) - logit(0.9)) / (logit(0.99) - logit(0.9))
    part = min(max(part, -1.0), 2.0)
    prior = Prior(slope=-25 + 3 * part, slope_sd=12 - part)
    return replace(prior, phi=_CLUSTERED_PHI) if clustered else prior


def locate(
    criterion: Criterion, probes: Sequence[Probed], start: float, *, conditioned: bool = False
) -> Located | None:
    """Find the root of one criterion; `start` = a first guess (ln of load). None where nothing near it was probed.

    conditioned: the probes' arrivals are Poisson given their number n. A Poisson process is the mixture of those
    over the number that comes, whose relative standard deviation is 1/sqrt(n): attainment at a load is the mean of the
    fitted curve over that spread. Where the curve bends (near 100 %) it is lower than the curve itself.
    """
    usable = [each for each in probes if not each.instrument and each.n(criterion.name)]
    x = np.log([each.probe.rate for each in usable])
    root, found = start, None
    for _ in range(_ROUNDS):
        near = np.flatnonzero(np.abs(x - root) <= NEAR)
        if not len(near):
            break
        chosen = [usable[i] for i in near]
        found = _fit(criterion, chosen, x[near], _spread(chosen) if conditioned else 0.0)
        if abs(found.x - root) < 1e-4:
            break
        root = found.x
    return found


def _spread(probes: Sequence[Probed]) -> float:
    drawn = [each.probe.n for each in probes if each.probe.vr]
    return 1 / math.sqrt(min(drawn)) if drawn else 0.0


def _fit(criterion: Criterion, probes: Sequence[Probed], x: FloatArray, spread: float) -> Located:
    clustered = any(each.probe.requests_each > 1 for each in probes)
    good = np.array([each.good(criterion.name) for each in probes], dtype=np.float64)
    n = np.array([each.n(criterion.name) for each in probes], dtype=np.float64)
    fit = fit_logit(x, good, n, prior_for(criterion.target, clustered=clustered))
    root = crossing(fit, criterion.target, spread)
    within = min(max(root.x, float(x.min()) - _REACH), float(x.max()) + _REACH)
    found = Located(
        criterion=criterion,
        x=within,
        low=root.low,
        high=root.high,
        half=(root.high - root.low) / 2,
        se=root.se,
        fit=fit,
        used=tuple(each.probe.number for each in probes),
        monotone=_is_monotone(fit, x, good, n),
        method=root.method,
        spread=spread,
    )
    isotonic = None if found.monotone else _isotonic(criterion, fit, x, good, n)
    if isotonic is None:
        return found
    middle, low, high = isotonic
    return replace(found, x=middle, low=low, high=high, half=(high - low) / 2, method="isotonic")


def _by_load(x: FloatArray, good: FloatArray, n: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Distinct loads in ascending order, with the counts of all probes at each."""
    loads, which = np.unique(x, return_inverse=True)
    return loads, _sums(which, good), _sums(which, n)


def _sums(which: NDArray[np.integer], values: FloatArray) -> FloatArray:
    return np.asarray(np.bincount(which, weights=values), dtype=np.float64)


def _blocks(x: FloatArray, good: FloatArray, n: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Distinct loads, the falling fit of their shares, and the requests behind each level of it."""
    loads, hits, trials = _by_load(x, good, n)
    fitted = falling(hits / trials, trials)
    _, which = np.unique(-fitted, return_inverse=True)
    return loads, fitted, _sums(which, trials)[which]


def _is_monotone(fit: LogitFit, x: FloatArray, good: FloatArray, n: FloatArray) -> bool:
    """Whether the falling fit nowhere leaves the line by more than chance."""
    loads, fitted, behind = _blocks(x, good, n)
    line = np.array([fit.share(each) for each in loads.tolist()])
    spread = _errors(fit, len(np.unique(fitted)))
    return bool(np.all(np.abs(fitted - line) <= spread * np.sqrt(fit.phi * line * (1 - line) / behind)))


def _errors(fit: LogitFit, levels: int) -> float:
    """How many standard errors are chance where so many levels are looked at (Bonferroni)."""
    return student_quantile(fit.dof, 1 - _CHANCE / 2 / levels)


def _isotonic(
    criterion: Criterion, fit: LogitFit, x: FloatArray, good: FloatArray, n: FloatArray
) -> tuple[float, float, float] | None:
    """Root of the falling fit, between the last load clearly above the target and the first clearly below it."""
    loads, fitted, behind = _blocks(x, good, n)
    root = last_above(loads, fitted, criterion.target)
    if root is None:
        return None
    error = _errors(fit, 1) * np.sqrt(fit.phi * criterion.target * (1 - criterion.target) / behind)
    above = np.flatnonzero(fitted - error >= criterion.target)
    below = np.flatnonzero(fitted + error < criterion.target)
    low = float(loads[above[-1]]) if len(above) else -math.inf
    high = float(loads[below[0]]) if len(below) else math.inf
    return root, low, high


def binding_of(found: Sequence[Located]) -> Located:
    """The criterion that fails first."""
    return min(found, key=lambda each: each.x)
