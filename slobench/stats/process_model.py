"""A model of arrivals at a known mean rate: what is free in it, and its fit to all blocks or to all but one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from slobench.stats.climb import Scores, climb, without, without_each
from slobench.stats.observed import Observed
from slobench.stats.quantiles import FloatArray

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
    """A process whose mean rate is the seen one, and whose other parameters are fitted by maximum likelihood.

    The mean rate is not left to the likelihood: where no model is right, that of gaps would be bought with another one.
    free: what is fitted; whole: (rate, free) -> all parameters, named `names`. likelihood, hazard: (all parameters,
    what was seen) -> log-likelihood and integrated intensity of each piece, given everything before it. starts: free
    parameters to begin from. shown: all parameters as they are reported.
    """

    name: str
    names: tuple[str, ...]
    free: tuple[Bounded, ...]
    whole: Callable[[float, Sequence[float]], tuple[float, ...]]
    likelihood: OfPieces
    hazard: OfPieces
    starts: Callable[[Observed], list[tuple[float, ...]]]
    shown: Callable[[Sequence[float]], tuple[float, ...]] = field(default=tuple)

    def scores(self, values: Sequence[float], seen: Observed) -> FloatArray:
        """Log-likelihood of each block, given everything before it."""
        return seen.by_block(self.likelihood(values, seen))

    def rescaled(self, values: Sequence[float], seen: Observed) -> FloatArray:
        """Integrated intensity of each gap: exponential of mean 1 where the model is right."""
        return seen.by_gap(self.hazard(values, seen))

    def fit(self, seen: Observed, rate: float | None = None) -> tuple[float, ...]:
        """Free parameters that make what was seen likeliest. rate: the known one; None: the seen one."""
        scores, low, high = self._on_its_scale(seen, seen.rate() if rate is None else rate)
        starts = [self._inward(each) for each in self.starts(seen)]
        starts.sort(key=lambda each: -float(np.nan_to_num(scores(each).sum(), nan=-np.inf)))
        found = [climb(scores, each, low, high) for each in starts[:_CLIMBED]]
        return self._outward(max(found, key=lambda each: each[1])[0])

    def without_each(self, seen: Observed, free: Sequence[float]) -> LeftOut:
        """All parameters fitted without each block in turn, near the free ones of all blocks."""

        def scores_without(block: int | None) -> Scores:
            return self._on_its_scale(seen, seen.rate(block))[0]

        _, low, high = self._on_its_scale(seen, 1.0)
        found, determined = without_each(scores_without, self._inward(free), low, high, seen.blocks)
        values = [self.whole(seen.rate(block), self._outward(row)) for block, row in enumerate(found)]
        own = {
            each.name: bool(known) and each.is_inside(value)
            for each, known, value in zip(self.free, determined, free, strict=True)
        }
        told = tuple(name == "rate" or own.get(name, bool(determined.all())) for name in self.names)
        return LeftOut(values, told)

    def without(self, seen: Observed, free: Sequence[float], block: int, rate: float) -> tuple[float, ...]:
        """Free parameters fitted without one block at a known rate, near those of all blocks."""
        scores, low, high = self._on_its_scale(seen, rate)
        return self._outward(without(scores, self._inward(free), low, high, block))

    def _on_its_scale(self, seen: Observed, rate: float) -> tuple[Scores, FloatArray, FloatArray]:
        low = np.array([each.inward(each.low) for each in self.free])
        high = np.array([each.inward(each.high) for each in self.free])
        return lambda at: self.scores(self.whole(rate, self._outward(at)), seen), low, high

    def _inward(self, values: Sequence[float]) -> FloatArray:
        return np.array([each.inward(value) for each, value in zip(self.free, values, strict=True)])

    def _outward(self, numbers: FloatArray) -> tuple[float, ...]:
        return tuple(each.outward(float(x)) for each, x in zip(self.free, numbers, strict=True))
