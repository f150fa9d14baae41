"""Models of lengths in tokens: whole numbers, so each has a probability, rounded and clipped as plans do it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slobench.stats.climb import Scores, climb, without_each
from slobench.stats.process_model import Bounded
from slobench.stats.quantiles import FloatArray

_LEAST = 1e-12  # probability of a length that a model rules out
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Lengths:
    """Different lengths in order, and how often each comes in each block of rows (blocks, lengths)."""

    values: IntArray
    counts: FloatArray

    @classmethod
    def of(cls, lengths: IntArray, blocks: int) -> Lengths:
        """Count lengths in equal stretches of rows."""
        values, place = np.unique(lengths, return_inverse=True)
        block = np.arange(len(lengths)) * blocks // len(lengths)
        counts = np.bincount(block * len(values) + place, minlength=blocks * len(values))
        return cls(values.astype(np.int64), counts.reshape(blocks, len(values)).astype(np.float64))

    @property
    def total(self) -> FloatArray:
        """How often each length comes."""
        return np.asarray(self.counts.sum(axis=0))

    def share_up_to(self) -> FloatArray:
        """Share of lengths that are at most each value."""
        total = np.cumsum(self.total)
        return np.asarray(total / total[-1])


@dataclass(frozen=True, slots=True)
class LengthModel:
    """A distribution of lengths before rounding and clipping to what was seen.

    cdf: (parameters, x) -> P(X <= x). starts: parameters to begin from.
    """

    name: str
    parameters: tuple[Bounded, ...]
    cdf: Callable[[Sequence[float], FloatArray], FloatArray]
    starts: Callable[[Lengths], list[tuple[float, ...]]]

    def fit(self, seen: Lengths) -> tuple[float, ...]:
        """Parameters that make what was seen likeliest."""
        scores, low, high = self._on_its_scale(seen)
        found = [climb(scores, self._inward(each), low, high) for each in self.starts(seen)]
        return self._outward(max(found, key=lambda each: each[1])[0])

    def held_out(self, seen: Lengths, values: Sequence[float]) -> FloatArray:
        """Log-likelihood of each block under the fit to the others."""
        scores, low, high = self._on_its_scale(seen)
        without, _ = without_each(lambda _: scores, self._inward(values), low, high, len(seen.counts))
        return np.array([scores(each)[block] for block, each in enumerate(without)])

    def distance(self, seen: Lengths, values: Sequence[float]) -> float:
        """Largest difference of the fitted and the seen distribution function (Kolmogorov and Smirnov)."""
        fitted = self.cdf(values, _real(seen.values + 0.5))
        fitted[-1] = 1.0
        below = np.concatenate([[0.0], fitted[:-1]])  # nothing was seen between two values, so the seen one is flat
        just_below = np.where(np.arange(len(below)) == 0, 0.0, self.cdf(values, _real(seen.values - 0.5)))
        shares = seen.share_up_to()
        before = np.concatenate([[0.0], shares[:-1]])
        return float(max(np.abs(fitted - shares).max(), np.abs(np.maximum(just_below, below) - before).max()))

    def _on_its_scale(self, seen: Lengths) -> tuple[Scores, FloatArray, FloatArray]:
        low = np.array([each.inward(each.low) for each in self.parameters])
        high = np.array([each.inward(each.high) for each in self.parameters])
        return lambda at: seen.counts @ self._logs(self._outward(at), seen), low, high

    def _logs(self, values: Sequence[float], seen: Lengths) -> FloatArray:
        upper, lower = self.cdf(values, _real(seen.values + 0.5)), self.cdf(values, _real(seen.values - 0.5))
        upper[-1], lower[0] = 1.0, 0.0
        return np.log(np.maximum(upper - lower, _LEAST))

    def _inward(self, values: Sequence[float]) -> FloatArray:
        return np.array([each.inward(value) for each, value in zip(self.parameters, values, strict=True)])

    def _outward(self, numbers: FloatArray) -> tuple[float, ...]:
        return tuple(each.outward(float(x)) for each, x in zip(self.parameters, numbers, strict=True))


def _real(x: NDArray[Any]) -> FloatArray:
    return np.asarray(x, dtype=np.float64)


_MEDIAN, _SIGMA = Bounded("median", 0.1, 1e7), Bounded("sigma", 0.01, 5.0)


def _lognormal(values: Sequence[float], x: FloatArray) -> FloatArray:
    from scipy.special import ndtr

    return np.asarray(ndtr(np.log(np.maximum(x, 1e-9) / values[0]) / values[1]))


def _normal(values: Sequence[float], x: FloatArray) -> FloatArray:
    from scipy.special import ndtr

    return np.asarray(ndtr((x - values[0]) / values[1]))


def _weibull(values: Sequence[float], x: FloatArray) -> FloatArray:
    return -np.expm1(-((np.maximum(x, 1e-9) / values[0]) ** values[1]))


def _moments(seen: Lengths, of: Callable[[FloatArray], FloatArray]) -> tuple[float, float]:
    weights, x = seen.total, of(seen.values.astype(np.float64))
    mean = float(np.average(x, weights=weights))
    return mean, max(math.sqrt(float(np.average((x - mean) ** 2, weights=weights))), 0.02)


def _lognormal_start(seen: Lengths) -> list[tuple[float, ...]]:
    mean, sd = _moments(seen, np.log)
    return [(math.exp(mean), sd)]


def _normal_start(seen: Lengths) -> list[tuple[float, ...]]:
    return [_moments(seen, lambda x: x)]


def _weibull_start(seen: Lengths) -> list[tuple[float, ...]]:
    mean, sd = _moments(seen, lambda x: x)
    return [(mean, max(0.2, (sd / mean) ** -1.086))]


def _mixture(parts: int) -> LengthModel:
    """Make a mixture of lognormals: for each part median and sigma, then how likely each part is after those before."""
    names = [each for k in range(parts) for each in (f"median_{k}", f"sigma_{k}")]
    free = tuple(
        Bounded(name, own.low, own.high) for name, own in zip(names, (_MEDIAN, _SIGMA) * parts, strict=True)
    ) + tuple(Bounded(f"share_{k}", 0.005, 0.995, share=True) for k in range(parts - 1))

    def cdf(values: Sequence[float], x: FloatArray) -> FloatArray:
        weights = weights_of(values[2 * parts :])
        return np.asarray(sum(weight * _lognormal(values[2 * k : 2 * k + 2], x) for k, weight in enumerate(weights)))

    def starts(seen: Lengths) -> list[tuple[float, ...]]:
        return [_split(seen, shares) for shares in _SPLITS[parts]]

    return LengthModel(f"mixture of {parts} lognormals", free, cdf, starts)


_SPLITS = {
    2: ((0.5, 0.5), (0.75, 0.25), (0.25, 0.75)),
    3: ((0.34, 0.33, 0.33), (0.6, 0.25, 0.15), (0.15, 0.25, 0.6)),
}


def weights_of(shares: Sequence[float]) -> tuple[float, ...]:
    """Turn the shares of what is left, one after the other, into weights that sum to 1."""
    left, weights = 1.0, []
    for share in shares:
        weights.append(left * share)
        left *= 1 - share
    return (*weights, left)


def _split(seen: Lengths, shares: tuple[float, ...]) -> tuple[float, ...]:
    """Cut the sorted lengths into shares; each part begins as the lognormal of its own."""
    up_to, low = seen.share_up_to(), 0.0
    values: list[float] = []
    for share in shares:
        inside = (up_to > low) & (up_to <= low + share + 1e-9)
        part = Lengths(seen.values[inside], seen.counts[:, inside]) if inside.any() else seen
        mean, sd = _moments(part, np.log)
        values += [math.exp(mean), max(sd, 0.05)]
        low += share
    left = 1.0
    for share in shares[:-1]:
        values.append(share / left)
        left -= share
    return tuple(values)


LENGTH_MODELS = (
    LengthModel("lognormal", (_MEDIAN, _SIGMA), _lognormal, _lognormal_start),
    LengthModel("normal", (Bounded("mean", 0.1, 1e7), Bounded("std", 0.05, 1e7)), _normal, _normal_start),
    LengthModel("weibull", (Bounded("scale", 0.1, 1e7), Bounded("shape", 0.1, 50.0)), _weibull, _weibull_start),
    _mixture(2),
    _mixture(3),
)
"""The simplest first."""
