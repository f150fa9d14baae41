"""The configs of an experiment: settings combined each with each, in step, as listed, or drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np

from slobench.config.experiment import Range, Sample, Scalar, Settings
from slobench.workload.variates import child, exp, log, uniforms

Combination = Mapping[str, Scalar]
MOST = 10_000


def combinations(settings: Settings | None, seed: int) -> list[Combination]:
    """Return the settings of every config, without doubles; one of no settings where nothing is varied."""
    if settings is None:
        return [{}]
    rows = [dict(zip(settings.zip_, each, strict=True)) for each in zip(*settings.zip_.values(), strict=True)]
    sampled = latin_hypercube(settings.sample, seed) if settings.sample is not None else [{}]
    grid = (
        dict(zip(settings.grid, each, strict=True)) for each in itertools.product(*settings.grid.values())
    )  # one empty one where nothing is in the grid
    parts = itertools.product(settings.list_ or ({},), rows or [{}], sampled, grid)
    found: dict[str, Combination] = {}
    for part in itertools.islice(parts, MOST + 1):
        made = {path: value for each in part for path, value in each.items()}
        ordered = {path: made[path] for path in settings.paths if path in made}
        found.setdefault(repr(ordered), ordered)
    return list(found.values())


def latin_hypercube(sample: Sample, seed: int) -> list[Combination]:
    """Draw n points, one in each of the n equal parts of every range [McKay, Beckman and Conover 1979].

    The same for a seed on any machine. A list of values is cut into n parts too: each comes n/len times, or one more.
    """
    columns = {}
    for path, what in sample.of.items():
        rng = child(seed, "sweep sample", path)
        places = np.argsort(uniforms(sample.n, rng), kind="stable")
        shares = (places + uniforms(sample.n, rng)) / sample.n
        columns[path] = [_value(what, share) for share in shares.tolist()]
    return [{path: column[row] for path, column in columns.items()} for row in range(sample.n)]


def _value(what: Range | tuple[Scalar, ...], share: float) -> Scalar:
    if not isinstance(what, Range):
        return what[min(int(share * len(what)), len(what) - 1)]
    low, high = what.low, what.high
    whole = isinstance(low, int) and isinstance(high, int)
    ends = (low - 0.5, high + 0.5) if whole and what.scale == "linear" else (float(low), float(high))
    value = ends[0] * _power(ends[1] / ends[0], share) if what.scale == "log" else ends[0] + share * (ends[1] - ends[0])
    if whole:
        return min(max(math.floor(value + 0.5), int(low)), int(high))
    return float(f"{value:.6g}")  # more digits would say nothing


def _power(base: float, share: float) -> float:
    return float(exp(share * log(np.array([base])))[0])
