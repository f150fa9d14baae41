"""Which distribution of lengths a workload takes to be like a trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slobench.config.lengths import (
    ConstantLength,
    EmpiricalLength,
    Lengths,
    LognormalLength,
    MixtureLength,
    NormalLength,
    PairedLength,
    WeibullLength,
)
from slobench.stats import length_models
from slobench.stats.held_out import NEAR
from slobench.stats.length_models import LENGTH_MODELS, LengthModel, weights_of
from slobench.workload.variates import IntArray

CLOSE = 0.05
"""Kolmogorov and Smirnov's distance up to which a distribution is taken for the recorded one."""
MOST_VALUES = 1000
_BLOCKS = 10


@dataclass(frozen=True, slots=True)
class LengthCandidate:
    """A distribution after it was fitted: held-out log-likelihood a request, nats, and distance; simplest first."""

    name: str
    per_request: float
    distance: float


@dataclass(frozen=True, slots=True)
class LengthFit:
    """The distribution chosen, and what it was chosen among."""

    spec: Lengths
    name: str
    distance: float
    candidates: tuple[LengthCandidate, ...]


def fit_lengths(tokens: IntArray) -> LengthFit:
    """Choose the simplest distribution that foretells left-out requests as well as any, if it is close to the record.

    Ten stretches of requests are left out in turn. As well: within two standard errors of the best. Where the choice
    is further than CLOSE from what was recorded, the record itself is drawn from, by up to 1000 of its quantiles.
    """
    if len(np.unique(tokens)) == 1:
        value = int(tokens[0])
        return LengthFit(ConstantLength(value=value), "constant", 0.0, ())
    seen = length_models.Lengths.of(tokens, min(_BLOCKS, len(tokens)))
    fitted = [(model, values := model.fit(seen), model.held_out(seen, values)) for model in LENGTH_MODELS]
    candidates = tuple(
        LengthCandidate(model.name, float(held.sum()) / len(tokens), model.distance(seen, values))
        for model, values, held in fitted
    )
    best = max((held for *_, held in fitted), key=lambda held: float(held.sum()))
    for (model, values, held), candidate in zip(fitted, candidates, strict=True):
        gaps = best - held
        error = float(gaps.std(ddof=1)) * math.sqrt(len(gaps))
        if float(gaps.sum()) <= NEAR * error:
            if candidate.distance <= CLOSE:
                return LengthFit(_spec(model, values, tokens), model.name, candidate.distance, candidates)
            break
    return LengthFit(EmpiricalLength(values=quantiles(tokens)), "empirical", 0.0, candidates)


def quantiles(tokens: IntArray, most: int = MOST_VALUES) -> tuple[int, ...]:
    """Lengths evenly spaced in rank, at most so many."""
    ordered = np.sort(tokens)
    n = min(most, len(ordered))
    return tuple(ordered[((np.arange(n) + 0.5) / n * len(ordered)).astype(np.int64)].tolist())


def pairs(inputs: IntArray, outputs: IntArray, most: int = MOST_VALUES) -> tuple[EmpiricalLength, PairedLength]:
    """Recorded pairs, at most so many, that stand for all of them: both lengths keep their spread and their means.

    The pairs are cut into strips by input, each strip into groups by output, all of nearly the same number of pairs;
    of each group the pair is kept whose output is nearest to the group's mean.
    """
    rows = np.lexsort((outputs, inputs))
    if len(rows) > most:
        rows = np.concatenate([_standing_for(strip, outputs, most) for strip in _strips(rows, most)])
    return (
        EmpiricalLength(values=tuple(inputs[rows].tolist())),
        PairedLength(values=tuple(outputs[rows].tolist())),
    )


def _strips(rows: IntArray, most: int) -> list[IntArray]:
    """Cut rows into √most parts."""
    return np.array_split(rows, max(1, math.isqrt(most)))


def _standing_for(strip: IntArray, outputs: IntArray, most: int) -> IntArray:
    """Rows of a strip whose outputs are nearest to the means of its groups; as many as are its share of `most`."""
    ordered = strip[np.argsort(outputs[strip], kind="stable")]
    groups = np.array_split(ordered, min(max(1, most // max(1, math.isqrt(most))), len(ordered)))
    return np.array([group[np.argmin(np.abs(outputs[group] - outputs[group].mean()))] for group in groups])


def _spec(model: LengthModel, values: Sequence[float], tokens: IntArray) -> Lengths:
    """Word a fitted model as a distribution of a workload, clipped to what was recorded."""
    low, high = int(tokens.min()), int(tokens.max())
    match model.name:
        case "lognormal":
            return _lognormal(values[0], values[1], low, high)
        case "normal":
            return NormalLength(mean=rounded(values[0]), std=rounded(values[1]), min=low, max=high)
        case "weibull":
            return WeibullLength(scale=rounded(values[0]), shape=rounded(values[1]), min=low, max=high)
        case _:
            parts = (len(values) + 1) // 3
            return MixtureLength(
                weights=tuple(rounded(each) for each in weights_of(values[2 * parts :])),
                parts=tuple(_lognormal(values[2 * k], values[2 * k + 1], low, high) for k in range(parts)),
            )


def _lognormal(median: float, sigma: float, low: int, high: int) -> LognormalLength:
    mean = min(median * math.exp(sigma**2 / 2), 1e7)
    return LognormalLength(mean=rounded(mean), sigma=rounded(sigma), min=low, max=high)


def rounded(value: float) -> float:
    """Six significant digits: more than any fit knows."""
    return float(f"{value:.6g}")
