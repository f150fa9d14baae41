"""Small helpers on columns: null-aware numbers, outcome masks, chunk rows grouped by request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slobench.names import Outcome
from slobench.records.schema import Columns
from slobench.stats.quantiles import FloatArray

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

FAILED = frozenset(Outcome) - {Outcome.OK, Outcome.CANCELLED, Outcome.CUT, Outcome.UNSENT}
"""Outcomes that count as not good whatever was seen before."""
ENDED_EARLY = frozenset({Outcome.CANCELLED, Outcome.CUT})
"""Ended by us while all was well: judged on the limits already due."""
OURS = frozenset({Outcome.CLIENT, Outcome.DROPPED, Outcome.LOST})
"""Failures of this side, not the server's."""
TIMEOUTS = frozenset(
    {Outcome.TIMEOUT_CONNECT, Outcome.TIMEOUT_FIRST_TOKEN, Outcome.TIMEOUT_IDLE, Outcome.TIMEOUT_TOTAL}
)
REJECTED = (429, 503)


def number(columns: Columns, name: str) -> FloatArray:
    """Return a numeric column as float64, NaN = null."""
    return np.asarray(columns[name], dtype=np.float64)


def seconds(columns: Columns, name: str) -> FloatArray:
    """Return a time column in seconds on the run's clock, NaN = null."""
    return number(columns, name) / 1e9


def outcome_in(requests: Columns, outcomes: frozenset[Outcome] | set[Outcome]) -> BoolArray:
    """Which requests ended in one of these ways."""
    return np.isin(requests["outcome"], [str(outcome) for outcome in outcomes])


def is_ok(requests: Columns) -> BoolArray:
    """Which requests succeeded."""
    return np.asarray(requests["outcome"] == Outcome.OK.value, dtype=np.bool_)


def rejected(requests: Columns) -> BoolArray:
    """Which requests the server refused for load: 429 or 503."""
    return np.isin(number(requests, "http_status"), REJECTED) & ~is_ok(requests)


def follows(requests: Columns) -> BoolArray:
    """Which requests of an open loop waited for others of their session, and had no time of their own in the plan."""
    found = requests.get("follows")  # records made before there were sessions have none
    if found is None:
        return np.zeros(len(requests["scheduled_ns"]), np.bool_)
    return np.asarray(found == 1, dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class ChunkGroups:
    """Chunk rows (sorted by request) as stretches, one for each request that has any.

    row: position of the request among the requests; start, end: its stretch of chunk rows.
    """

    row: IntArray
    start: IntArray
    end: IntArray

    @property
    def sizes(self) -> IntArray:
        """Chunk rows of each stretch."""
        return self.end - self.start

    def spread(self, of_requests: NDArray[Any]) -> NDArray[Any]:
        """Repeat a column of the requests for each of their chunk rows."""
        return np.repeat(of_requests[self.row], self.sizes)


def slices(n: int, rows: int = 2**16) -> Iterator[slice]:
    """Stretches of n rows: what is worked out in them needs memory for one, and that stays in the cache."""
    return (slice(start, start + rows) for start in range(0, n, rows))


def group_chunks(requests: Columns, chunks: Columns) -> ChunkGroups:
    """Stretches of chunk rows by request. Chunks of an index that is no request are an error."""
    index = np.asarray(chunks["index"])
    later = np.flatnonzero(index[1:] != index[:-1]) + 1
    starts = np.concatenate([[0], later]).astype(np.int64) if len(index) else np.empty(0, np.int64)
    ends = np.append(starts[1:], len(index)).astype(np.int64) if len(index) else starts
    ids = np.asarray(requests["index"])
    rows = np.searchsorted(ids, index[starts])
    if len(starts) and (rows.max() >= len(ids) or np.any(ids[rows] != index[starts])):
        raise ValueError("chunk records of a request that is not among the request records")
    return ChunkGroups(rows.astype(np.int64), starts, ends)
