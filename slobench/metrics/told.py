"""What servers, GPUs and the host tell of themselves: series by name, growth with resets, rates, histograms."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slobench.records.schema import SERVER, Columns, Records
from slobench.stats.quantiles import FloatArray

_LE = re.compile(r'(?:^|,)le="([^"]*)"')
Put = Literal["sum", "mean", "max"]
"""How the values of several replicas become one."""


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity of one replica: times in s on the run's clock, ascending, and values."""

    source: str
    labels: str
    at: FloatArray
    value: FloatArray

    def held(self, at: FloatArray) -> FloatArray:
        """The last value told at or before each time; NaN before the first."""
        place = np.searchsorted(self.at, at, side="right") - 1
        return np.where(place >= 0, self.value[np.maximum(place, 0)], np.nan)

    def total(self) -> FloatArray:
        """The values of a running total as if it had never begun anew, from 0 on."""
        steps = np.diff(self.value)
        return np.concatenate([[0.0], np.cumsum(np.where(steps < 0, self.value[1:], steps))])


@dataclass(frozen=True, slots=True)
class Told:
    """All series of a run that are not the workers', by name."""

    by_name: Mapping[str, tuple[Series, ...]]

    @classmethod
    def of(cls, telemetry: Columns) -> Told:
        """Sort the samples of a run into series."""
        sources = np.asarray(telemetry["source"], dtype=np.str_)
        if not len(sources):
            return cls({})
        mine = np.flatnonzero(~np.char.startswith(sources, "worker-"))
        columns = [np.asarray(telemetry[name])[mine].astype(np.str_) for name in ("name", "source", "labels")]
        coded = [np.unique(column, return_inverse=True) for column in columns]
        code = np.zeros(len(mine), dtype=np.int64)
        for words, numbers in coded:
            code = code * max(len(words), 1) + numbers
        at, value = telemetry["t_ns"][mine] / 1e9, np.asarray(telemetry["value"], dtype=np.float64)[mine]
        order = np.lexsort((at, code))
        found: dict[str, list[Series]] = {}
        for rows in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
            if len(rows):
                name, source, labels = (str(column[rows[0]]) for column in columns)
                found.setdefault(name, []).append(Series(source, labels, at[rows], value[rows]))
        return cls({name: tuple(series) for name, series in found.items()})

    def series(self, name: str, source: str = SERVER) -> Iterator[Series]:
        """The series of a quantity, of sources `source` and `source-K`."""
        for one in self.by_name.get(name, ()):
            if one.source == source or one.source.startswith(f"{source}-"):
                yield one

    def times(self, name: str, source: str, start_s: float, end_s: float) -> FloatArray:
        """When a quantity was told in a window, all replicas'."""
        at = np.unique(np.concatenate([[], *(one.at for one in self.series(name, source))]))
        return np.asarray(at[(at >= start_s) & (at < end_s)], dtype=np.float64)

    def level(self, name: str, at: FloatArray, put: Put, source: str = SERVER) -> FloatArray | None:
        """A quantity of all replicas together at given times; None where it was never told."""
        held = [one.held(at) for one in self.series(name, source)]
        if not held:
            return None
        table = np.array(held)
        seen = ~np.isnan(table)
        filled = np.where(seen, table, -np.inf if put == "max" else 0.0)
        together = filled.max(axis=0) if put == "max" else filled.sum(axis=0)
        if put == "mean":
            together = together / np.maximum(seen.sum(axis=0), 1)
        return np.where(seen.any(axis=0), together, np.nan)

    def gained(self, name: str, edges: FloatArray, source: str = SERVER) -> FloatArray | None:
        """How much a running total grew between consecutive edges, all replicas together, between samples in
        proportion to time; NaN where the edges are outside what was sampled, None where it was not sampled twice.
        """
        parts = [
            np.diff(np.interp(edges, one.at, one.total(), left=np.nan, right=np.nan))
            for one in self.series(name, source)
            if len(one.at) >= 2
        ]
        return np.asarray(np.sum(parts, axis=0), dtype=np.float64) if parts else None


@dataclass(frozen=True, slots=True)
class Grown:
    """A running total between its first and last sample, over all servers: how much it grew, and from when to when."""

    by: float
    start_s: float
    end_s: float
    resets: int = 0


def growth(values: FloatArray) -> tuple[float, int]:
    """(how much a running total grew, how often it began anew); after a reset it counts from 0."""
    steps = np.diff(values)
    fell = steps < 0
    return float(np.sum(np.where(fell, values[1:], steps))), int(fell.sum())


def grown(told: Told, name: str) -> Grown | None:
    """Growth of one of the server's totals, its replicas' added; None where it was not sampled twice."""
    parts = []
    for one in told.series(name):
        if len(one.at) >= 2:
            by, resets = growth(one.value)
            parts.append(Grown(by, float(one.at[0]), float(one.at[-1]), resets))
    if not parts:
        return None
    return Grown(
        sum(part.by for part in parts),
        max(part.start_s for part in parts),
        min(part.end_s for part in parts),
        sum(part.resets for part in parts),
    )


@dataclass(frozen=True, slots=True)
class HitRate:
    """Prompt tokens that servers found in their prefix caches over a whole run; by_server: (found, looked up)."""

    hit_tokens: float
    query_tokens: float
    by_server: Mapping[str, tuple[float, float]]

    @property
    def share(self) -> float | None:
        """Found over looked up; None where nothing was looked up."""
        return self.hit_tokens / self.query_tokens if self.query_tokens > 0 else None


def measured_hit_rate(records: Records) -> HitRate | None:
    """What the servers' own counters say of their prefix caches; None where they do not tell it."""
    told = Told.of(records.telemetry)
    by_server: dict[str, tuple[float, float]] = {}
    for at, name in enumerate(("prefix_hit_tokens", "prefix_query_tokens")):
        for one in told.series(name):
            if len(one.at) >= 2:
                sums = list(by_server.get(one.source, (0.0, 0.0)))
                sums[at] += growth(one.value)[0]
                by_server[one.source] = (sums[0], sums[1])
    if not any(queried for _, queried in by_server.values()):
        return None
    return HitRate(sum(hit for hit, _ in by_server.values()), sum(q for _, q in by_server.values()), by_server)


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram's counts over some time, by upper bound, ascending; the last bound may be infinite."""

    bounds: FloatArray
    counts: FloatArray

    def quantile(self, q: float) -> tuple[float, float] | None:
        """The bucket (above, up to) in which the quantile lies: no histogram tells more; None without an observation.

        Without a bound above it the second is infinite.
        """
        below = np.cumsum(self.counts)
        if not len(below) or below[-1] <= 0:
            return None
        place = int(np.searchsorted(below, q * float(below[-1]) * (1 - 1e-12)))
        upper = float(self.bounds[place])
        return (float(self.bounds[place - 1]) if place else min(0.0, upper), upper)


def buckets(told: Told, name: str, start_s: float, end_s: float) -> Buckets | None:
    """What a histogram of all replicas observed between two times; None where its buckets were never told."""
    counts: dict[float, float] = {}
    edges: NDArray[Any] = np.array([start_s, end_s])
    for one in told.series(f"{name}_bucket"):
        found = _LE.search(one.labels)
        if found is None:
            continue
        total = Series(one.source, one.labels, one.at, one.total())
        before, after = np.nan_to_num(total.held(edges))
        bound = math.inf if found[1] == "+Inf" else float(found[1])
        counts[bound] = counts.get(bound, 0.0) + float(after - before)
    if not counts:
        return None
    bounds = sorted(counts)
    return Buckets(np.array(bounds), np.array([counts[bound] for bound in bounds]))
