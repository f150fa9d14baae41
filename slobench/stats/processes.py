"""Models of arrivals that can be fitted: their parameters, where to start, and what they make of what was seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from slobench.stats.climb import Scores, climb, without, without_each
from slobench.stats.hawkes import hawkes_pieces
from slobench.stats.mmpp import mmpp_pieces
from slobench.stats.observed import GapLaw, Observed
from slobench.stats.on_off import on_off_gaps
from slobench.stats.process_starts import (
    hawkes_starts,
    mmpp_starts,
    on_off_starts,
    poisson_starts,
    renewal_starts,
    unit_starts,
    weibull_starts,
)
from slobench.stats.quantiles import FloatArray
from slobench.stats.rate_curve import Curve, fit_curve
from slobench.stats.renewal import gamma_gaps, weibull_cv, weibull_gaps

_AT = 1e-3
_CLIMBED = 2  # starts that are followed up, the most promising first
OfPieces = Callable[[Sequence[float], Observed], FloatArray]


@dataclass(frozen=True, slots=True)
class Bounded:
    """A parameter above 0 (fitted as its logarithm), or between 0 and 1 (as its log odds), kept within [low, high]."""

    name: str
    low: float
    high: float
    share: bool = False

    def is_inside(self, value: float) -> bool:
        """Whether a value does not lie at a bound."""
        return self.low * (1 + _AT) < value < self.high * (1 - _AT)

    def inward(self, value: float) -> float:
        """Return the number that is fitted."""
        kept = min(max(value, self.low), self.high)
        return math.log(kept / (1 - kept)) if self.share else math.log(kept)

    def outward(self, number: float) -> float:
        """Return the parameter."""
        value = 1 / (1 + math.exp(-number)) if self.share else math.exp(number)
        return min(max(value, self.low), self.high)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Parameters fitted without each block in turn, and which of them the likelihood determines at all."""

    values: list[tuple[float, ...]]
    determined: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A process that is fitted by maximum likelihood.

    likelihood, hazard: (parameters, what was seen) -> log-likelihood and integrated intensity of each piece, given
    everything before it. starts: parameters to begin from. shown: parameters as they are reported.
    """

    name: str
    parameters: tuple[Bounded, ...]
    likelihood: OfPieces
    hazard: OfPieces
    starts: Callable[[Observed], list[tuple[float, ...]]]
    shown: Callable[[Sequence[float]], tuple[float, ...]] = field(default=tuple)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(each.name for each in self.parameters)

    def scores(self, values: Sequence[float], seen: Observed) -> FloatArray:
        """Log-likelihood of each block, given everything before it."""
        return seen.by_block(self.likelihood(values, seen))

    def rescaled(self, values: Sequence[float], seen: Observed) -> FloatArray:
        """Integrated intensity of each gap: exponential of mean 1 where the model is right."""
        return seen.by_gap(self.hazard(values, seen))

    def fit(self, seen: Observed) -> tuple[float, ...]:
        """Parameters that make what was seen likeliest, from the most promising of the starts."""
        scores, low, high = self._on_its_scale(seen)
        starts = [self._inward(each) for each in self.starts(seen)]
        starts.sort(key=lambda each: -float(np.nan_to_num(scores(each).sum(), nan=-np.inf)))
        found = [climb(scores, each, low, high) for each in starts[:_CLIMBED]]
        return self._outward(max(found, key=lambda each: each[1])[0])

    def without_each(self, seen: Observed, values: Sequence[float]) -> LeftOut:
        """Parameters fitted without each block in turn, near those of all blocks."""
        found, determined = without_each(*self._near(seen, values))
        free = [each.is_inside(value) for each, value in zip(self.parameters, values, strict=True)]
        return LeftOut([self._outward(row) for row in found], tuple((determined & free).tolist()))

    def without(self, seen: Observed, values: Sequence[float], block: int) -> tuple[float, ...]:
        """Parameters fitted without one block, near those of all blocks."""
        return self._outward(without(*self._near(seen, values), block))

    def _near(self, seen: Observed, values: Sequence[float]) -> tuple[Scores, FloatArray, FloatArray, FloatArray]:
        scores, low, high = self._on_its_scale(seen)
        return scores, self._inward(values), low, high

    def _on_its_scale(self, seen: Observed) -> tuple[Scores, FloatArray, FloatArray]:
        low = np.array([each.inward(each.low) for each in self.parameters])
        high = np.array([each.inward(each.high) for each in self.parameters])
        return lambda at: self.scores(self._outward(at), seen), low, high

    def _inward(self, values: Sequence[float]) -> FloatArray:
        return np.array([each.inward(value) for each, value in zip(self.parameters, values, strict=True)])

    def _outward(self, numbers: FloatArray) -> tuple[float, ...]:
        return tuple(each.outward(float(x)) for each, x in zip(self.parameters, numbers, strict=True))


@dataclass(frozen=True, slots=True)
class Varying:
    """A rate that changes along straight lines between knots; gaps in its operational time gamma, or exponential."""

    knots: int
    gamma: bool

    @property
    def name(self) -> str:
        """Name of the model."""
        return f"varying {'gamma' if self.gamma else 'Poisson'}, {self.knots} knots"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return (*(f"rate_{k}" for k in range(self.knots)), *(("cv",) if self.gamma else ()))

    def scores(self, values: Sequence[float], seen: Observed) -> FloatArray:
        """Log-likelihood of each block, given everything before it."""
        curve, law = self._parts(values, seen)
        return seen.by_block(_in_operational_time(curve, seen).renewal_scores(law) + _stretch(curve, seen))

    def rescaled(self, values: Sequence[float], seen: Observed) -> FloatArray:
        """Integrated intensity of each gap: exponential of mean 1 where the model is right."""
        curve, law = self._parts(values, seen)
        return seen.by_gap(_in_operational_time(curve, seen).renewal_hazard(law))

    def fit(self, seen: Observed) -> tuple[float, ...]:
        """Fit the rate as if arrivals were Poisson, which holds for any, then the cv in its operational time."""
        rates = fit_curve(seen, self.knots)
        cv = _UNIT_GAMMA.fit(_in_operational_time(Curve(seen.end, rates), seen)) if self.gamma else ()
        return (*rates.tolist(), *cv)

    def without_each(self, seen: Observed, values: Sequence[float]) -> LeftOut:
        """Parameters fitted without each block in turn, near those of all blocks."""
        rates = np.asarray(values[: self.knots])
        found = []
        for block in range(seen.blocks):
            own = fit_curve(seen, self.knots, without=block, near=rates)
            cv: tuple[float, ...] = ()
            if self.gamma:
                cv = _UNIT_GAMMA.without(_in_operational_time(Curve(seen.end, own), seen), values[-1:], block)
            found.append((*own.tolist(), *cv))
        return LeftOut(found, (True,) * len(values))

    def shown(self, values: Sequence[float]) -> tuple[float, ...]:
        """Return the parameters as they are reported."""
        return tuple(values)

    def _parts(self, values: Sequence[float], seen: Observed) -> tuple[Curve, GapLaw]:
        rates = np.asarray(values[: self.knots], dtype=np.float64)
        return Curve(seen.end, rates), gamma_gaps(1.0, values[-1] if self.gamma else 1.0)


def _in_operational_time(curve: Curve, seen: Observed) -> Observed:
    """Return the same with time running as fast as events are expected: one a unit."""
    start = curve.integral(seen.start)
    stop = curve.integral(seen.start + seen.length)
    return replace(seen, start=start, length=stop - start, age=start - curve.integral(seen.start - seen.age))


def _stretch(curve: Curve, seen: Observed) -> FloatArray:
    """What a density in operational time takes to be one in time: the logarithm of the rate at each event."""
    return np.where(seen.event, np.log(curve.at(seen.start + seen.length)), 0.0)


def _renewal(law: Callable[..., GapLaw]) -> tuple[OfPieces, OfPieces]:
    return lambda values, seen: seen.renewal_scores(law(*values)), lambda values, seen: seen.renewal_hazard(
        law(*values)
    )


def _mmpp(which: int) -> OfPieces:
    return lambda values, seen: mmpp_pieces((values[0], values[1]), (values[2], values[3]), seen)[which]


def _hawkes(which: int) -> OfPieces:
    return lambda values, seen: hawkes_pieces(values[0], values[1], values[2], seen)[which]


def _busy_first(values: Sequence[float]) -> tuple[float, ...]:
    busy, calm, stay, rest = values
    return (busy, calm, stay, rest) if busy >= calm else (calm, busy, rest, stay)


_RATE = Bounded("rate", 1e-6, 1e6)
_CV = Bounded("cv", 0.02, 100.0)

POISSON = Model("Poisson", (_RATE,), *_renewal(lambda rate: gamma_gaps(rate, 1.0)), poisson_starts)
GAMMA = Model("gamma", (_RATE, _CV), *_renewal(gamma_gaps), renewal_starts)
WEIBULL = Model(
    "Weibull",
    (_RATE, Bounded("cv", 0.1, 30.0)),
    *_renewal(weibull_gaps),
    weibull_starts,
    lambda values: (values[0], weibull_cv(values[1])),
)
ON_OFF = Model(
    "on/off",
    (
        Bounded("on_rate", 1e-6, 1e6),
        Bounded("on_cv", 0.05, 30.0),
        Bounded("mean_on", 1e-6, 1e7),
        Bounded("mean_off", 1e-6, 1e7),
        Bounded("off_cv", 0.05, 2.0),  # beyond it more and shorter silences say the same
    ),
    *_renewal(on_off_gaps),
    on_off_starts,
)
MMPP = Model(
    "MMPP",
    (
        Bounded("busy_rate", 1e-6, 1e6),
        Bounded("calm_rate", 1e-9, 1e6),
        Bounded("mean_busy", 1e-6, 1e7),
        Bounded("mean_calm", 1e-6, 1e7),
    ),
    _mmpp(0),
    _mmpp(1),
    mmpp_starts,
    _busy_first,
)
HAWKES = Model(
    "Hawkes",
    (_RATE, Bounded("branching", 1e-4, 0.99, share=True), Bounded("decay", 1e-6, 1e6)),
    _hawkes(0),
    _hawkes(1),
    hawkes_starts,
)
_UNIT_GAMMA = Model("gamma of mean 1", (_CV,), *_renewal(lambda cv: gamma_gaps(1.0, cv)), unit_starts)

AnyModel = Model | Varying
STEADY = (POISSON, GAMMA, WEIBULL, ON_OFF, MMPP, HAWKES)
"""The models whose rate is the same all the time, the simplest first."""
