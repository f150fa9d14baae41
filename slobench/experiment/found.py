"""What a search has found, as one value: a pure function of its settings and its history."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slobench.experiment.certificate import Bound, bounds
from slobench.experiment.criteria import TOTAL, Criterion
from slobench.experiment.locate import NEAR, Located, prior_for
from slobench.experiment.search import bracket_of, root_of, roots_of
from slobench.experiment.search_state import History, Reason, Settings
from slobench.experiment.stream import Probed
from slobench.stats.logit import fit_logit

_CURVE = 41  # points of the fitted curve


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Attainment at one load, with its pointwise 95 % band."""

    rate: float
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """The last certifying probe: what it shows of each criterion."""

    rate: float
    bounds: tuple[Bound, ...]
    holds: bool


@dataclass(frozen=True, slots=True)
class Floor:
    """A lone request: mean latencies in s over a few, one at a time."""

    n: int
    good: int
    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """The capacity, or why there is none. Loads in requests/s (users in a closed loop); None = not known.

    low, high: 95 % interval of `rate`. limits, classes: attainment at `rate` of each limit alone and of each class.
    binding: the limit that the fewest requests meet there; binding_criterion: the share that falls below its target
    first. slope: change of the log odds with ln(load). n, n_eff: requests in the fit, and what they are worth.
    """

    reason: Reason
    refined: Reason | None
    rate: float | None
    low: float | None
    high: float | None
    certified: float | None
    criterion: Criterion
    binding: str | None
    method: str | None
    monotone: bool | None
    slope: float | None
    design_effect: float | None
    n: int
    n_eff: float | None
    used: tuple[int, ...]
    curve: tuple[CurvePoint, ...]
    limits: Mapping[str, float]
    classes: Mapping[str, float]
    roots: Mapping[str, tuple[float, float, float]]  # of every criterion: estimate, low, high
    bracket: tuple[float | None, float | None]
    certificate: Certificate | None
    floor: Floor | None
    instrument: tuple[str, ...]  # of each probe that the client spoiled


def found_of(settings: Settings, limits: Sequence[str], history: History, reason: Reason) -> Found:
    """Put together what is known when a search ends, or so far."""
    root, bracket = root_of(settings, history), bracket_of(settings, history)
    rate, low, high = _interval(settings, history, root)
    used = [each for each in history.done if root is not None and each.probe.number in root.used]
    at = root.x if root is not None else None
    shares = _shares_at(used, at, limits, root)
    names = [name for name in (used[0].tallies if used else ()) if _is_class(name)]
    certificate = _certificate(settings, history, root)
    n = sum(each.n(root.criterion.name) for each in used) if root is not None else 0
    return Found(
        reason=reason,
        refined=history.refined,
        rate=rate,
        low=low,
        high=high,
        certified=certificate.rate if certificate and reason == "certified" else None,
        criterion=root.criterion if root is not None else settings.criteria[0],
        binding="queue" if bracket.by_queue and root is None else _lowest(shares, root),
        method=root.method if root is not None else "bracket" if rate is not None else None,
        monotone=root.monotone if root is not None else None,
        slope=root.fit.slope if root is not None else None,
        design_effect=root.fit.phi if root is not None else None,
        n=n,
        n_eff=n / root.fit.phi if root is not None else None,
        used=root.used if root is not None else (),
        curve=tuple(_curve(root)) if root is not None else (),
        limits=shares,
        classes={name.removeprefix("class="): share for name, share in _shares_at(used, at, names, root).items()},
        roots={each.criterion.name: _rates(each) for each in roots_of(settings, history)},
        bracket=(bracket.low, bracket.high),
        certificate=certificate,
        floor=_floor(history),
        instrument=tuple(", ".join(each.instrument) for each in history.done if each.instrument),
    )


def _is_class(name: str) -> bool:
    return name.startswith("class=") and " " not in name


def _interval(
    settings: Settings, history: History, root: Located | None
) -> tuple[float | None, float | None, float | None]:
    """Estimate and interval: of the fit, else of the bracket where the queue is what fails."""
    if root is not None:
        return _finite(_rates(root)[0]), _finite(_rates(root)[1]), _finite(_rates(root)[2])
    bracket = bracket_of(settings, history)
    if bracket.low is not None and bracket.high is not None:
        return math.sqrt(bracket.low * bracket.high), bracket.low, bracket.high
    return None, bracket.low, bracket.high


def _rates(root: Located) -> tuple[float, float, float]:
    return math.exp(root.x), math.exp(min(root.low, 700.0)), math.exp(min(root.high, 700.0))


def _finite(rate: float) -> float | None:
    return rate if 0 < rate < 1e300 else None


def _curve(root: Located) -> Iterable[CurvePoint]:
    for at in np.linspace(root.x - NEAR, root.x + NEAR, _CURVE).tolist():
        low, high = root.fit.band(at, root.spread)
        yield CurvePoint(math.exp(at), root.fit.share(at, root.spread), low, high)


def _shares_at(used: Sequence[Probed], x: float | None, names: Sequence[str], root: Located | None) -> dict[str, float]:
    """Fitted attainment of some shares at the root."""
    if x is None or root is None or not used:
        return {}
    at = np.log([each.probe.rate for each in used])
    shares = {}
    for name in names:
        good = np.array([each.good(name) for each in used], dtype=np.float64)
        n = np.array([each.n(name) for each in used], dtype=np.float64)
        seen = n > 0
        if seen.any():
            shares[name] = fit_logit(at[seen], good[seen], n[seen], prior_for(root.criterion.target)).share(
                x, root.spread
            )
    return shares


def _lowest(shares: Mapping[str, float], root: Located | None) -> str | None:
    """The limit that binds: among those of the deciding class, or of all classes where all of them decide."""
    scope = root.criterion.name.partition(" ")[0] if root is not None else ""
    prefix = f"{scope} " if scope.startswith("class=") else ""
    own = [name for name in shares if name.startswith(prefix or "class=") == bool(prefix)] or list(shares)
    return min(own, key=lambda name: shares[name]) if own else None


def _certificate(settings: Settings, history: History, root: Located | None) -> Certificate | None:
    probes = [each for each in history.of("certify") if not each.instrument]
    if not probes:
        return None
    each = tuple(bounds(settings.criteria, probes[-1], root))
    return Certificate(probes[-1].probe.rate, each, all(bound.holds for bound in each))


def _floor(history: History) -> Floor | None:
    lone = history.of("floor")
    if not lone:
        return None
    return Floor(
        n=len(lone),
        good=sum(each.good(TOTAL) for each in lone),
        ttft_s=_mean(each.mean_ttft_s for each in lone),
        tpot_s=_mean(each.mean_tpot_s for each in lone),
        e2e_s=_mean(each.mean_e2e_s for each in lone),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    seen = [value for value in values if value is not None]
    return sum(seen) / len(seen) if seen else None
