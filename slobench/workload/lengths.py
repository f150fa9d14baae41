"""Length distributions: how many tokens go in and come out."""

from __future__ import annotations

import numpy as np

from slobench.config.lengths import (
    ConstantLength,
    EmpiricalLength,
    Lengths,
    LognormalLength,
    NormalLength,
    UniformLength,
)
from slobench.workload.variates import FloatArray, IntArray, exp, normal_quantile, raw, uniforms

_MOST_TOKENS = 10_000_000


def draw(lengths: Lengths, n: int, rng: np.random.Generator) -> IntArray:
    """Draw n lengths in tokens, each by inversion of one uniform: the first k of them do not depend on n."""
    return by_inversion(lengths, uniforms(n, rng))


def draw_stratified(lengths: Lengths, n: int, rng: np.random.Generator) -> IntArray:
    """Draw n lengths, one from each nth part of the distribution, in random order: their mean hardly varies."""
    order = np.argsort(raw(n, rng), kind="stable")
    return by_inversion(lengths, (order + uniforms(n, rng)) / n)


def by_inversion(lengths: Lengths, u: FloatArray) -> IntArray:
    """Turn uniforms in (0, 1) into lengths, increasing in u."""
    match lengths:
        case ConstantLength(value=value):
            return np.full(len(u), value, dtype=np.int64)
        case UniformLength(low=low, high=high):
            return low + _pick(u, high - low + 1)
        case NormalLength(mean=mean, std=std):
            return _clip(mean + std * normal_quantile(u), lengths)
        case LognormalLength(mean=mean, sigma=sigma):
            # The mean of a lognormal is exp(µ + σ²/2).
            return _clip(mean * exp(sigma * normal_quantile(u) - sigma * sigma / 2), lengths)
        case EmpiricalLength(values=values):
            return np.asarray(values, dtype=np.int64)[_pick(u, len(values))]


def _pick(u: FloatArray, n: int) -> IntArray:
    """Integers 0 .. n-1 from uniforms; the minimum guards the product's rounding up to n."""
    return np.minimum((u * n).astype(np.int64), n - 1)


def _clip(x: FloatArray, lengths: NormalLength | LognormalLength) -> IntArray:
    high = _MOST_TOKENS if lengths.max is None else lengths.max
    return np.clip(np.rint(x), lengths.min, high).astype(np.int64)
