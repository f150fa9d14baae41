"""Maximum likelihood where the likelihood is a sum over blocks: once for all blocks, and once without each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slobench.stats.quantiles import FloatArray

BoolArray = NDArray[np.bool_]

_STEP = 5e-3  # of the parameters, on their own scale, for differences
_FLAT = 0.5  # curvature below it, a deviation above 1.4: next to nothing is known in that direction
_LEANING = 0.1  # share of a flat direction in a parameter that makes it undetermined
_LONGEST = 1.0  # Newton step
_ROUNDS, _SHORTEST = 60, 1e-3
_SURE = 1e-8

Scores = Callable[[FloatArray], FloatArray]
"""Parameters (p,) on a scale without bounds -> log-likelihood of each block (blocks,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Slopes:
    """First (blocks, p) and second (blocks, p, p) derivatives of each block's log-likelihood."""

    first: FloatArray
    second: FloatArray


def slopes(scores: Scores, at: FloatArray) -> Slopes:
    """Central differences; p(p + 3)/2·2 evaluations, which serve every block."""
    p = len(at)
    unit = np.eye(p) * _STEP
    middle = scores(at)
    up = np.stack([scores(at + each) for each in unit])
    down = np.stack([scores(at - each) for each in unit])
    second = np.empty((len(middle), p, p))
    for i in range(p):
        second[:, i, i] = (up[i] - 2 * middle + down[i]) / _STEP**2
        for j in range(i):
            both = scores(at + unit[i] + unit[j]) + scores(at - unit[i] - unit[j])
            mixed = (both - up[i] - down[i] - up[j] - down[j] + 2 * middle) / (2 * _STEP**2)
            second[:, i, j] = second[:, j, i] = mixed
    return Slopes(((up - down) / (2 * _STEP)).T, second)


def climb(scores: Scores, start: FloatArray, low: FloatArray, high: FloatArray) -> tuple[FloatArray, float]:
    """Return the parameters within [low, high] that make all blocks likeliest, and how likely.

    Newton's steps along the axes of the curvature, its sign taken away so that every step leads up (Nocedal and Wright,
    Numerical Optimization, 2006, §3.4), halved until they do. A parameter that is pushed against its bound rests there.
    """
    at = np.clip(start, low, high)
    reached = _total(scores, at)
    for _ in range(_ROUNDS if len(at) else 0):
        now = slopes(scores, at)
        slope, curve = np.nan_to_num(now.first.sum(axis=0)), np.nan_to_num(now.second.sum(axis=0))
        free = ~(((at <= low) & (slope < 0)) | ((at >= high) & (slope > 0)))
        step = np.zeros(len(at))
        step[free] = _ascent(slope[free], curve[np.ix_(free, free)])
        before, size = reached, 1.0
        while size > _SHORTEST:
            moved = np.clip(at + size * step, low, high)
            likely = _total(scores, moved)
            if likely > reached:
                at, reached = moved, likely
                break
            size /= 3
        if reached - before <= _SURE * (1 + abs(reached)):
            break
    return at, reached


def _ascent(slope: FloatArray, curve: FloatArray) -> FloatArray:
    """Step along each axis of the curvature by slope over size of the curvature, at most `_LONGEST`."""
    bend, axes = np.linalg.eigh(curve)
    along = axes.T @ slope / np.maximum(np.abs(bend), 1e-6)
    return np.asarray(axes @ np.clip(along, -_LONGEST, _LONGEST))


def without_each(
    scores_without: Callable[[int | None], Scores], at: FloatArray, low: FloatArray, high: FloatArray, blocks: int
) -> tuple[FloatArray, BoolArray]:
    """Return, for each block, the parameters that make all the others likeliest (blocks, p), and which are determined.

    scores_without: the likelihood to use where a block is left out; None: none is. A parameter is not determined where
    the likelihood is flat along it: those of blocks left out say nothing then.
    """
    if not len(at):
        return np.empty((blocks, 0)), np.empty(0, dtype=np.bool_)
    near = slopes(scores_without(None), at)
    bend, axes = np.linalg.eigh(-np.nan_to_num(near.second.sum(axis=0)))
    loading = np.abs(axes[:, bend <= _FLAT])
    determined = loading.max(axis=1, initial=0.0) < _LEANING
    found = [without(scores_without(block), at, low, high, block, near) for block in range(blocks)]
    return np.array(found), determined


def without(
    scores: Scores, at: FloatArray, low: FloatArray, high: FloatArray, block: int, near: Slopes | None = None
) -> FloatArray:
    """Return the parameters that make all blocks but one likeliest, from those of all blocks. near: the slopes there.

    By Newton's steps, of which two suffice, as one block in ten or more moves the estimate little. A step that does
    not improve is not taken.
    """
    near = near or slopes(scores, at)
    own = scores(at)
    curve = near.second.sum(axis=0) - near.second[block]
    here, likely = at, float(own.sum() - own[block])
    for _ in range(2):
        moved = np.clip(here + _newton(_slope_without(scores, here, block), curve), low, high)
        seen = scores(moved)
        better = float(seen.sum() - seen[block])
        if not better > likely:
            break
        here, likely = moved, better
    return here


def _slope_without(scores: Scores, at: FloatArray, block: int) -> FloatArray:
    slope = np.empty(len(at))
    for i, unit in enumerate(np.eye(len(at)) * _STEP):
        rise = scores(at + unit) - scores(at - unit)
        slope[i] = float(rise.sum() - rise[block]) / (2 * _STEP)
    return slope


def _newton(slope: FloatArray, curve: FloatArray) -> FloatArray:
    """Step to the top of the parabola, along directions that curve downwards; no longer than `_LONGEST`."""
    if not (np.all(np.isfinite(slope)) and np.all(np.isfinite(curve))):
        return np.zeros(len(slope))
    bend, axes = np.linalg.eigh(-curve)
    known = bend > _FLAT
    step = axes[:, known] @ ((axes[:, known].T @ slope) / bend[known])
    size = float(np.linalg.norm(step))
    return np.asarray(step if size <= _LONGEST else step * (_LONGEST / size))


def _total(scores: Scores, at: FloatArray) -> float:
    total = float(scores(at).sum())
    return total if math.isfinite(total) else -1e300
