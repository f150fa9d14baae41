"""Length distributions: how many tokens go in and come out."""

from __future__ import annotations

import numpy as np

from slobench.config.lengths import (
    ConstantLength,
    EmpiricalLength,
    Lengths,
    LognormalLength,
    MixtureLength,
    NormalLength,
    NoTokens,
    OutputLengths,
    PairedLength,
    UniformLength,
    WeibullLength,
)
from slobench.workload.variates import (
    FloatArray,
    IntArray,
    child,
    lognormal_quantile,
    normal_quantile,
    places,
    raw,
    uniforms,
    weibull_quantile,
)

_MOST_TOKENS = 10_000_000


def draw(lengths: Lengths | NoTokens, n: int, rng: np.random.Generator) -> IntArray:
    """Draw n lengths in tokens, each by inversion of one uniform: the first k of them do not depend on n."""
    return by_inversion(lengths, uniforms(n, rng))


def draw_lengths(
    input_tokens: Lengths, output_tokens: OutputLengths, n: int, seed: int, name: str
) -> tuple[IntArray, IntArray]:
    """Draw the input and output lengths of the first n requests of a class, apart from each other or in pairs."""
    rng = child(seed, "input_tokens", name)
    if not isinstance(output_tokens, PairedLength):
        return draw(input_tokens, n, rng), draw(output_tokens, n, child(seed, "output_tokens", name))
    assert isinstance(input_tokens, EmpiricalLength)  # as the class's own check says
    place = places(uniforms(n, rng), len(input_tokens.values))
    return (
        np.asarray(input_tokens.values, dtype=np.int64)[place],
        np.asarray(output_tokens.values, dtype=np.int64)[place],
    )


def draw_stratified(lengths: Lengths | NoTokens, n: int, rng: np.random.Generator) -> IntArray:
    """Draw n lengths, one from each nth part of the distribution, in random order: their mean hardly varies."""
    order = np.argsort(raw(n, rng), kind="stable")
    return by_inversion(lengths, (order + uniforms(n, rng)) / n)


def by_inversion(lengths: Lengths | NoTokens, u: FloatArray) -> IntArray:
    """Turn uniforms in (0, 1) into lengths, increasing in u; those of a mixture are so within each of its parts."""
    match lengths:
        case ConstantLength(value=value):
            return np.full(len(u), value, dtype=np.int64)
        case UniformLength(low=low, high=high):
            return low + places(u, high - low + 1)
        case NormalLength(mean=mean, std=std):
            return _clip(mean + std * normal_quantile(u), lengths)
        case LognormalLength(mean=mean, sigma=sigma):
            return _clip(lognormal_quantile(u, mean, sigma), lengths)
        case EmpiricalLength(values=values):
            return np.asarray(values, dtype=np.int64)[places(u, len(values))]
        case WeibullLength(scale=scale, shape=shape):
            return _clip(weibull_quantile(u, scale, shape), lengths)
        case MixtureLength():
            return _of_parts(lengths, u)
        case NoTokens():
            return np.zeros(len(u), dtype=np.int64)


def _of_parts(lengths: MixtureLength, u: FloatArray) -> IntArray:
    """Each uniform says which part it falls into and, stretched to (0, 1), what is drawn of it."""
    result = np.empty(len(u), dtype=np.int64)
    total = sum(lengths.weights)
    low = 0.0
    for at, (weight, part) in enumerate(zip(lengths.weights, lengths.parts, strict=True)):
        high = 1.0 if at == len(lengths.parts) - 1 else low + weight / total
        own = (u >= low) & (u < high)
        within = np.clip((u[own] - low) / (high - low), 2.0**-53, 1 - 2.0**-53)
        result[own] = by_inversion(part, within)
        low = high
    return result


def _clip(x: FloatArray, lengths: NormalLength | LognormalLength | WeibullLength) -> IntArray:
    high = _MOST_TOKENS if lengths.max is None else lengths.max
    return np.clip(np.rint(x), lengths.min, high).astype(np.int64)
