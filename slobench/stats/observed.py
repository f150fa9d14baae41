"""A point process as it was seen: cut at its events and at the edges of blocks, so that any block can be left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from slobench.stats.quantiles import FloatArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class GapLaw:
    """The distribution of the gaps of a renewal process: logarithms of its density (x > 0) and of P(gap > x)."""

    log_density: Callable[[FloatArray], FloatArray]
    log_survival: Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Pieces of time between one event or edge and the next, in order.

    Everything is conditional on the event at time 0 and, where only the start of each block was looked at, on the first
    event of each block. Times in s. start, length: of the piece. age: time since the last event, at its start. event:
    whether an event ends it (else an edge does). cut: nothing is known between its end and the next piece. block: which
    block it lies in; a piece never crosses an edge. windows: from when to when each block was looked at (blocks, 2).
    """

    start: FloatArray
    length: FloatArray
    age: FloatArray
    event: BoolArray
    cut: BoolArray
    block: IntArray
    windows: FloatArray
    end: float

    def __len__(self) -> int:
        return len(self.start)

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self.windows)

    @property
    def stop(self) -> FloatArray:
        """Age at the end of each piece."""
        return self.age + self.length

    def renewal_scores(self, law: GapLaw) -> FloatArray:
        """Log-likelihood of each piece under independent gaps of this law, given the age at its start."""
        scores = np.empty(len(self))
        scores[self.event] = law.log_density(self.stop[self.event])
        scores[~self.event] = law.log_survival(self.stop[~self.event])
        aged = self.age > 0
        scores[aged] -= law.log_survival(self.age[aged])
        return scores

    def renewal_hazard(self, law: GapLaw) -> FloatArray:
        """Integrated intensity of each piece under independent gaps of this law."""
        return law.log_survival(self.age) - law.log_survival(self.stop)

    def by_block(self, of_piece: FloatArray) -> FloatArray:
        """Sum over the pieces of each block."""
        return np.bincount(self.block, weights=of_piece, minlength=self.blocks).astype(np.float64)

    def events(self) -> FloatArray:
        """Events in each block; the given ones are not among them."""
        return self.by_block(self.event.astype(np.float64))

    def rate(self, without: int | None = None) -> float:
        """Events over the time that was looked at, in all blocks or in all but one."""
        events, seconds = self.events(), self.windows[:, 1] - self.windows[:, 0]
        keep = np.arange(self.blocks) != (-1 if without is None else without)
        return float(max(events[keep].sum(), 1.0) / seconds[keep].sum())

    def by_gap(self, of_piece: FloatArray) -> FloatArray:
        """Sum over the pieces of each gap between two events, in order."""
        ends = self.event | self.cut
        number: IntArray = np.cumsum(ends) - ends
        total = np.bincount(number, weights=of_piece).astype(np.float64)
        return np.asarray(total[number[self.event]])


def observe(times: FloatArray, blocks: int, most: int | None = None) -> Observed:
    """Cut the time from the first event to the last into blocks of about equal time and number of events.

    Of both shares together each block has as much: blocks of equal time could leave all events in one, blocks of equal
    numbers a whole night. times: ascending, s; at least 2.

    Raises ValueError where two are equal: models of continuous time give that no probability.

    most: where there are more events, only the start of each block is looked at, so that about so many are left.
    """
    if len(times) < 2 or not (np.diff(times) > 0).all():
        raise ValueError(f"expected at least 2 ascending times, no two equal, got {len(times)}")
    at = times - times[0]
    edges = _edges(at, blocks)
    if most is None or len(at) <= most:
        return _cut(at, np.column_stack([edges[:-1], edges[1:]]), float(at[-1]))
    share = most / len(at)
    seen = []
    for block, (low, high) in enumerate(pairwise(edges.tolist())):
        inside = at[np.searchsorted(at, low) : np.searchsorted(at, low + share * (high - low), "right")]
        if len(inside) > 1:
            seen.append((block, _cut(inside, np.array([[inside[0], low + share * (high - low)]]), 0.0)))
    names = ("start", "length", "age", "event", "cut")
    columns = {name: np.concatenate([getattr(each, name) for _, each in seen]) for name in names}
    windows = np.column_stack([edges[:-1], edges[:-1]])
    for block, each in seen:
        windows[block] = each.windows[0]
    block_of = np.repeat([block for block, _ in seen], [len(each) for _, each in seen])
    return Observed(**columns, block=block_of.astype(np.int64), windows=windows, end=float(at[-1]))


def _edges(at: FloatArray, blocks: int) -> FloatArray:
    """Times at which the mean of the shares of time and of events passes k/blocks."""
    n = len(at) - 1
    share = (at / at[-1] + np.arange(n + 1) / n) / 2
    edges = np.interp(np.linspace(0.0, 1.0, blocks + 1), share, at)
    edges[-1] = at[-1]
    return np.asarray(edges)


def _cut(at: FloatArray, windows: FloatArray, end: float) -> Observed:
    """Cut adjoining windows, the first of which begins with the first event, at events and at their ends."""
    ends = windows[:, 1] if at[-1] < windows[-1, 1] else windows[:-1, 1]
    cuts = np.concatenate([at[1:], ends])
    is_event = np.repeat([True, False], [len(at) - 1, len(ends)])
    order = np.lexsort((~is_event, cuts))  # at equal times the event first: it belongs to the block that ends there
    cuts, is_event = cuts[order], is_event[order]
    start = np.concatenate([windows[:1, 0], cuts[:-1]])
    last = np.maximum.accumulate(np.concatenate([windows[:1, 0], np.where(is_event, cuts, 0.0)[:-1]]))
    block = np.cumsum(~is_event) - ~is_event
    cut = np.zeros(len(cuts), dtype=np.bool_)
    cut[-1] = True
    return Observed(start, cuts - start, start - last, is_event, cut, block.astype(np.int64), windows, end)
