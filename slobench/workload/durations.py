"""Times drawn from distributions: think time, tool delays, patience."""

from __future__ import annotations

import numpy as np

from slobench.config.durations import (
    ConstantTime,
    Durations,
    EmpiricalTime,
    ExponentialTime,
    LognormalTime,
    UniformTime,
    WeibullTime,
)
from slobench.workload.variates import FloatArray, IntArray, log, lognormal_quantile, places, uniforms, weibull_quantile

_LONGEST_NS = 2**60  # 36 years


def draw_ns(durations: Durations, n: int, rng: np.random.Generator) -> IntArray:
    """Draw n times in ns, each by inversion of one uniform: the first k of them do not depend on n."""
    u = uniforms(n, rng)
    match durations:
        case ConstantTime(value=value):
            return np.full(n, value, dtype=np.int64)
        case UniformTime(low=low, high=high):
            return _whole(low + u * (high - low), high)
        case ExponentialTime(mean=mean):
            return _whole(-log(1 - u) * mean, durations.max)
        case LognormalTime(mean=mean, sigma=sigma):
            return _whole(lognormal_quantile(u, mean, sigma), durations.max)
        case WeibullTime(scale=scale, shape=shape):
            return _whole(weibull_quantile(u, scale, shape), durations.max)
        case EmpiricalTime(values=values):
            return np.asarray(values, dtype=np.int64)[places(u, len(values))]


def _whole(times_ns: FloatArray, most_ns: int | None) -> IntArray:
    return np.rint(np.clip(times_ns, 0, _LONGEST_NS if most_ns is None else most_ns)).astype(np.int64)
