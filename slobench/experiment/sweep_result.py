"""What a sweep found: the best config of each workload and how sure it is, what each setting does, the fronts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from slobench.experiment.sweep_effects import Effect, effects_of
from slobench.experiment.sweep_file import Row
from slobench.experiment.sweep_values import By, Point, best_loads, by_what, points_of
from slobench.stats.blocks import LEVEL, Chosen, choose, choose_by_errors
from slobench.stats.intervals import student_quantile

RUN_NOISE = 0.03
"""What two runs of one server are taken to differ by where no repeat shows it (as `slobench compare` takes it)."""
_DOF = 9  # of a run's own interval: ten windows


@dataclass(frozen=True, slots=True)
class Rival:
    """A config beside the best. ahead: ratio of the best to it, at least `low`; p: that it is as good or better.

    told_apart: p <= 5 %. needed: repeats that would tell; None: more than 1,000, or they cannot.
    """

    point: Point
    ahead: float
    low: float
    p: float
    needed: int | None

    @property
    def told_apart(self) -> bool:
        """Whether the best is surely better."""
        return self.p <= 1 - LEVEL + 1e-12


@dataclass(frozen=True, slots=True)
class Best:
    """The best config of a workload. sure: confidence that no other is better, None where nothing can be said.

    assumed: one run each, and a noise taken for what repeats would show. untested: configs with fewer repeats.
    limited: it met its SLO at the highest load that was offered, so that more might do as well.
    """

    workload: str
    point: Point
    sure: float | None
    rivals: tuple[Rival, ...]
    repeats: int
    assumed: bool
    untested: tuple[Point, ...]
    limited: bool

    @property
    def told(self) -> bool:
        """Whether it is the best at 95 %."""
        return self.sure is not None and self.sure >= LEVEL - 1e-12 and not self.untested


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that reports say. ranked: each config at its best load, by workload, best first."""

    by: By
    points: tuple[Point, ...]
    ranked: tuple[Point, ...]
    best: tuple[Best, ...]
    effects: tuple[Effect, ...]


def result_of(rows: Sequence[Row]) -> Result:
    """Work out what the rows of a sweep say."""
    by = by_what(rows)
    points = points_of(rows, by)
    ranked = best_loads(points)
    workloads = list(dict.fromkeys(point.workload for point in ranked))
    best = tuple(each for name in workloads for each in _best([p for p in ranked if p.workload == name], points))
    return Result(by, tuple(points), tuple(ranked), best, effects_of(ranked))


def _best(ranked: Sequence[Point], points: Sequence[Point]) -> Iterator[Best]:
    """Name the best of a workload; configs that hold their SLO come before those that miss it."""
    if not ranked or not ranked[0].value:
        return
    held = [point for point in ranked if point.holds == ranked[0].holds and point.value]
    most = max(len(point.values) for point in held)
    whole = [point for point in held if len(point.values) == most]
    repeats = sorted(set.intersection(*(set(point.values) for point in whole)))
    if len(repeats) < most:  # each lacks another one
        whole = [point for point in whole if set(point.values) == set(whole[0].values)]
        repeats = sorted(whole[0].values)
    if len(repeats) >= 2:
        chosen = choose(np.array([[math.log(point.values[k]) for k in repeats] for point in whole]))
    else:
        chosen = choose_by_errors(
            np.array([math.log(point.value or 1.0) for point in whole]), np.array([_error(p) for p in whole]),
            RUN_NOISE, _DOF,
        )  # fmt: skip
    top = whole[chosen.best]
    yield Best(
        workload=top.workload,
        point=top,
        sure=chosen.sure if len(whole) > 1 else None,
        rivals=_rivals(whole, chosen),
        repeats=len(repeats),
        assumed=len(repeats) < 2,
        untested=tuple(point for point in held if point not in whole),
        limited=_limited(top, points),
    )


def _rivals(whole: Sequence[Point], chosen: Chosen) -> tuple[Rival, ...]:
    return tuple(
        Rival(whole[each.other], math.exp(each.ahead), math.exp(each.low), each.p, each.needed)
        for each in chosen.against
    )


def _error(point: Point) -> float:
    """Standard error of the logarithm of a single run's value, by its own interval; 0 where it has none."""
    numbers = point.rows[0].numbers
    low, high = (
        (numbers.capacity_low, numbers.capacity_high)
        if point.load_kind == "capacity"
        else (numbers.goodput_low, numbers.goodput_high)
    )
    return math.log(high / low) / (2 * student_quantile(_DOF, 0.975)) if low and high and math.isfinite(high) else 0.0


def _limited(point: Point, points: Sequence[Point]) -> bool:
    if point.load is None or not point.holds:
        return False
    return point.load == max(each.load for each in points if each.workload == point.workload and each.load is not None)
