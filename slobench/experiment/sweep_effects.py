"""What each setting does by itself: configs that differ in it alone, compared pair by pair."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from slobench.config.experiment import Scalar
from slobench.experiment.sweep_values import Point
from slobench.stats.intervals import student_quantile
from slobench.stats.paired import holm, paired_t

TARGET = "target"


@dataclass(frozen=True, slots=True)
class Effect:
    """A setting changed from one value to another: ratio of what configs are ranked by, on average over the rest.

    pairs: how many differ in it alone, repeat by repeat; 0: none does, and a straight line through the logarithms of
    all configs was taken. p: that it changes nothing, adjusted over all effects; None where it cannot be had.
    """

    workload: str
    setting: str
    before: Scalar
    after: Scalar
    ratio: float
    low: float | None
    high: float | None
    p: float | None
    pairs: int


def effects_of(ranked: Sequence[Point]) -> tuple[Effect, ...]:
    """Return the effect of each setting on each workload, every value against the first one."""
    found: list[Effect] = []
    for workload in dict.fromkeys(point.workload for point in ranked):
        of_one = [point for point in ranked if point.workload == workload and point.value]
        paired = [each for name in _factors(of_one) for each in _paired(of_one, name)]
        found += paired or _fitted(of_one)
    known = [each for each in found if each.p is not None]
    adjusted = dict(zip(map(id, known), holm([each.p or 0.0 for each in known]), strict=True)) if known else {}
    return tuple(replace(each, p=adjusted.get(id(each))) for each in found)


def _setting(point: Point) -> Mapping[str, Scalar]:
    return {TARGET: point.target, **point.settings}


def _factors(points: Sequence[Point]) -> list[str]:
    names = dict.fromkeys(name for point in points for name in _setting(point))
    return [name for name in names if len(_levels(points, name)) > 1]


def _levels(points: Sequence[Point], name: str) -> list[Scalar]:
    seen = {repr(value): value for point in points if name in (own := _setting(point)) for value in (own[name],)}
    values = list(seen.values())
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return sorted(values, key=lambda value: float(value or 0))
    return sorted(values, key=repr)


def _paired(points: Sequence[Point], name: str) -> Iterator[Effect]:
    """Each other value against the lowest one, over all that have both and are alike in the rest."""
    groups: dict[str, dict[str, Point]] = {}
    for point in points:
        own = dict(_setting(point))
        if name in own:
            value = repr(own.pop(name))
            groups.setdefault(repr(sorted(own.items(), key=lambda each: each[0])), {})[value] = point
    base, *others = _levels(points, name)
    for level in others:
        both = [
            (each[repr(base)], each[repr(level)]) for each in groups.values() if {repr(base), repr(level)} <= set(each)
        ]
        logs = [
            math.log(b.values[k] / a.values[k])
            for a, b in both
            for k in a.values
            if k in b.values and a.values[k] > 0 and b.values[k] > 0
        ]
        if logs:
            yield _effect(points[0].workload, name, (base, level), logs)


def _effect(workload: str, name: str, levels: tuple[Scalar, Scalar], logs: Sequence[float]) -> Effect:
    mean = math.fsum(logs) / len(logs)
    if len(logs) < 2:
        return Effect(workload, name, *levels, math.exp(mean), None, None, None, len(logs))
    seen = paired_t(np.array(logs))
    half = student_quantile(len(logs) - 1, 0.975) * seen.error
    p = 2 * min(seen.p, 1 - seen.p) if seen.sd else (1.0 if mean == 0 else 0.0)
    return Effect(workload, name, *levels, math.exp(mean), math.exp(mean - half), math.exp(mean + half), p, len(logs))


def _fitted(points: Sequence[Point]) -> Iterator[Effect]:
    """Each number from its lowest to its highest value, by least squares on all of them: where no two differ in one."""
    names = [name for name in _factors(points) if all(_is_number(_setting(point).get(name)) for point in points)]
    if not names or len(points) < len(names) + 3:
        return
    columns = np.array([[float(_setting(point)[name] or 0) for name in names] for point in points])
    for position in range(len(names)):
        column = columns[:, position]
        if column.min() > 0 and column.max() / column.min() >= 4:
            columns[:, position] = np.log(column)
    low, high = columns.min(axis=0), columns.max(axis=0)
    x = np.column_stack([np.ones(len(points)), (columns - low) / (high - low)])
    y = np.array([math.log(point.value or 1.0) for point in points])
    if np.linalg.matrix_rank(x) < x.shape[1]:
        return
    found = np.linalg.lstsq(x, y, rcond=None)[0]
    dof = len(points) - x.shape[1]
    variance = float(((y - x @ found) ** 2).sum()) / dof
    errors = np.sqrt(variance * np.diag(np.linalg.inv(x.T @ x)))
    for name, slope, error in zip(names, found[1:].tolist(), errors[1:].tolist(), strict=True):
        levels = _levels(points, name)
        half = student_quantile(dof, 0.975) * error
        ends = (math.exp(slope - half), math.exp(slope + half))
        yield Effect(points[0].workload, name, levels[0], levels[-1], math.exp(slope), *ends, _p(slope, error, dof), 0)


def _p(slope: float, error: float, dof: int) -> float:
    from scipy.special import stdtr

    return 2 * float(stdtr(dof, -abs(slope) / error)) if error > 0 else 0.0


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
