"""Records as a few hundred points: rates and quantiles over time, distributions, requests in flight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slobench.metrics.columns import slices

Floats = NDArray[np.float64]

_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


@dataclass(frozen=True, slots=True)
class Bins:
    """Equal bins of time, in seconds on the run's clock."""

    edges: Floats

    @property
    def width(self) -> float:
        """Length of one bin, s."""
        return float(self.edges[1] - self.edges[0])

    @property
    def centres(self) -> Floats:
        """Middle of each bin, s."""
        return (self.edges[:-1] + self.edges[1:]) / 2

    def of(self, t_s: Floats) -> NDArray[np.int64]:
        """Bin number of each time; -1 outside and for NaN."""
        place = np.floor((t_s - self.edges[0]) / self.width)
        inside = (place >= 0) & (place < len(self.edges) - 1)
        return np.where(inside, place, -1).astype(np.int64)


def time_bins(end_s: float, n: int) -> Bins:
    """At most 120 bins over [0, end_s), of a round width that holds about 20 of n requests or more."""
    wanted = max(end_s / 120, end_s * 20 / max(n, 1), 1e-3)
    width = next((step for step in _STEPS_S if step >= min(wanted, end_s / 12)), wanted)
    number = max(1, math.ceil(end_s / width - 1e-9))
    return Bins(np.arange(number + 1, dtype=np.float64) * width)


def quantiles_over_time(t_s: Floats, values: Floats, bins: Bins, quantiles: tuple[float, ...]) -> list[Floats]:
    """One curve per quantile (inverse ECDF) over the bins; NaN where a bin has no value."""
    place = bins.of(t_s)
    use = (place >= 0) & ~np.isnan(values)
    place, values = place[use], values[use]
    order = np.lexsort((values, place))
    place, values = place[order], values[order]
    starts = np.searchsorted(place, np.arange(len(bins.edges)))
    size = np.diff(starts)
    curves = []
    for quantile in quantiles:
        rank = np.maximum(np.ceil(quantile * size).astype(np.int64), 1) - 1
        curve = np.full(len(size), np.nan)
        filled = size > 0
        curve[filled] = values[(starts[:-1] + rank)[filled]]
        curves.append(curve)
    return curves


def rate_over_time(t_s: Floats, bins: Bins, weights: Floats | None = None) -> Floats:
    """Events (or their weights) per second in each bin."""
    counts = np.zeros(len(bins.edges) - 1)
    for part in slices(len(t_s)):
        place = bins.of(t_s[part])
        use = place >= 0
        weight = None if weights is None else weights[part][use]
        counts += np.bincount(place[use], weights=weight, minlength=len(counts))
    return counts / bins.width


def in_flight(started_s: Floats, ended_s: Floats, at_s: Floats) -> Floats:
    """Return requests that have started and not ended at each time; NaN = never."""
    begun = np.sort(started_s[~np.isnan(started_s)])
    ended = np.sort(ended_s[~np.isnan(ended_s) & ~np.isnan(started_s)])
    return (np.searchsorted(begun, at_s, "right") - np.searchsorted(ended, at_s, "right")).astype(np.float64)


def distribution(values: Floats, population: int, points: int = 240) -> tuple[Floats, Floats]:
    """(value, share of `population` at most that value), dense in the upper tail; null values never enter.

    A request without a value stays in the population, so a curve ends below 1 where some failed.
    """
    seen = np.sort(values[~np.isnan(values)])
    if not len(seen) or not population:
        return np.empty(0), np.empty(0)
    near_end = np.geomspace(1, len(seen), points)
    ranks = np.unique(np.concatenate([np.linspace(1, len(seen), points), len(seen) + 1 - near_end]).astype(np.int64))
    return seen[ranks - 1], ranks / population


def thinned(n: int, most: int) -> NDArray[np.int64]:
    """Positions of at most `most` of n rows, evenly spread."""
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).astype(np.int64)


def seconds(times_ns: NDArray[Any]) -> Floats:
    """Return times in ns as float seconds; NaN stays."""
    return times_ns.astype(np.float64) / 1e9
