"""Models of arrivals that can be fitted: renewal, on/off, Markov-modulated, self-exciting, and of a changing rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from slobench.stats.hawkes import hawkes_pieces
from slobench.stats.mmpp import mmpp_pieces
from slobench.stats.observed import GapLaw, Observed
from slobench.stats.on_off import on_off_gaps
from slobench.stats.process_model import Bounded, LeftOut, Model, OfPieces
from slobench.stats.process_starts import (
    gamma_starts,
    hawkes_starts,
    mmpp_starts,
    on_off_starts,
    poisson_starts,
    weibull_starts,
)
from slobench.stats.quantiles import FloatArray
from slobench.stats.rate_curve import Curve, fit_curve
from slobench.stats.renewal import gamma_gaps, weibull_cv, weibull_gaps


@dataclass(frozen=True, slots=True)
class Varying:
    """A rate that changes along straight lines between knots; gaps in its operational time gamma, or exponential."""

    knots: int
    gamma: bool

    @property
    def name(self) -> str:
        """Name of the model."""
        return f"varying {'gamma' if self.gamma else 'Poisson'} ({self.knots} knots)"

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

    def whole(self, rate: float, free: Sequence[float]) -> tuple[float, ...]:  # noqa: ARG002 (as of the others)
        """All parameters: none is given."""
        return tuple(free)

    def fit(self, seen: Observed) -> tuple[float, ...]:
        """Fit the rate as if arrivals were Poisson, which holds for any, then the cv in its operational time."""
        rates = fit_curve(seen, self.knots)
        cv = GAMMA.fit(_in_operational_time(Curve(seen.end, rates), seen), 1.0) if self.gamma else ()
        return (*rates.tolist(), *cv)

    def without_each(self, seen: Observed, values: Sequence[float]) -> LeftOut:
        """Parameters fitted without each block in turn, near those of all blocks."""
        rates = np.asarray(values[: self.knots])
        found = []
        for block in range(seen.blocks):
            own = fit_curve(seen, self.knots, without=block, near=rates)
            cv: tuple[float, ...] = ()
            if self.gamma:
                cv = GAMMA.without(_in_operational_time(Curve(seen.end, own), seen), values[-1:], block, 1.0)
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
    age = curve.between(seen.start - seen.age, seen.age)
    return replace(seen, start=curve.integral(seen.start), length=curve.between(seen.start, seen.length), age=age)


def _stretch(curve: Curve, seen: Observed) -> FloatArray:
    """What a density in operational time takes to be one in time: the logarithm of the rate at each event."""
    return np.where(seen.event, np.log(curve.at(seen.start + seen.length)), 0.0)


def _renewal(law: Callable[..., GapLaw]) -> tuple[OfPieces, OfPieces]:
    return (
        lambda values, seen: seen.renewal_scores(law(*values)),
        lambda values, seen: seen.renewal_hazard(law(*values)),
    )


def _mmpp(which: int) -> OfPieces:
    return lambda values, seen: mmpp_pieces((values[0], values[1]), (values[2], values[3]), seen)[which]


def _hawkes(which: int) -> OfPieces:
    return lambda values, seen: hawkes_pieces(values[0], values[1], values[2], seen)[which]


def _with_rate(rate: float, free: Sequence[float]) -> tuple[float, ...]:
    return (rate, *free)


def _on_off(rate: float, free: Sequence[float]) -> tuple[float, ...]:
    on_cv, mean_on, mean_off, off_cv = free
    return (rate * (mean_on + mean_off) / mean_on, on_cv, mean_on, mean_off, off_cv)


def _busy_and_calm(rate: float, free: Sequence[float]) -> tuple[float, ...]:
    calm, stay, rest = free
    busy = rate * (stay + rest) / (stay + calm * rest)
    return (busy, calm * busy, stay, rest)


POISSON = Model("Poisson", ("rate",), (), _with_rate, *_renewal(lambda rate: gamma_gaps(rate, 1.0)), poisson_starts)
GAMMA = Model("gamma", ("rate", "cv"), (Bounded("cv", 0.02, 100.0),), _with_rate, *_renewal(gamma_gaps), gamma_starts)
WEIBULL = Model(
    "Weibull",
    ("rate", "cv"),
    (Bounded("shape", 0.1, 30.0),),
    _with_rate,
    *_renewal(weibull_gaps),
    weibull_starts,
    lambda values: (values[0], weibull_cv(values[1])),
)
ON_OFF = Model(
    "on/off",
    ("on_rate", "on_cv", "mean_on", "mean_off", "off_cv"),
    (
        Bounded("on_cv", 0.1, 30.0),
        Bounded("mean_on", 1e-6, 1e7),
        Bounded("mean_off", 1e-6, 1e7),
        Bounded("off_cv", 0.2, 2.0),  # beyond it more and shorter silences say the same
    ),
    _on_off,
    *_renewal(on_off_gaps),
    on_off_starts,
)
MMPP = Model(
    "MMPP",
    ("busy_rate", "calm_rate", "mean_busy", "mean_calm"),
    (Bounded("calm_over_busy", 1e-6, 1.0), Bounded("mean_busy", 1e-6, 1e7), Bounded("mean_calm", 1e-6, 1e7)),
    _busy_and_calm,
    _mmpp(0),
    _mmpp(1),
    mmpp_starts,
)
HAWKES = Model(
    "Hawkes",
    ("rate", "branching", "decay"),
    (Bounded("branching", 1e-4, 0.99, share=True), Bounded("decay", 1e-6, 1e6)),
    _with_rate,
    _hawkes(0),
    _hawkes(1),
    hawkes_starts,
)

AnyModel = Model | Varying
STEADY = (POISSON, GAMMA, WEIBULL, ON_OFF, MMPP, HAWKES)
"""The models whose rate is the same all the time, the simplest first."""
