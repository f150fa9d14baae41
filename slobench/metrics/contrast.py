"""How NEW differs from BASE in one quantity, with an interval: over pairs of runs, runs, or windows of one run each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from slobench.stats.intervals import student_interval
from slobench.stats.jackknife import standard_error
from slobench.stats.quantiles import FloatArray

Unit = Literal["pairs", "runs", "windows"]
FEWEST = 3
"""Runs on each side below which their windows are the unit: a t-interval of two values says nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """A difference (of logarithms, or of shares) with its 95 % interval and two-sided p.

    unit: what was counted as independent; n: how many of it.
    """

    value: float
    low: float
    high: float
    p: float
    unit: Unit
    n: int


def change(value: float, error: float, dof: float, unit: Unit, n: int) -> Change:
    """Make a change of an estimate and its standard error."""
    from scipy.special import stdtr

    low, high = student_interval(value, error, dof)
    p = 2 * float(stdtr(dof, -abs(value) / error)) if error > 0 else float(value == 0)
    return Change(value, low, high, min(p, 1.0), unit, n)


def by_pairs(base: FloatArray, new: FloatArray) -> Change:
    """Contrast run k of one with run k of the other, each pair of one plan: paired t."""
    differences = new - base
    k = len(differences)
    return change(float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(k), k - 1, "pairs", k)


def by_runs(base: FloatArray, new: FloatArray) -> Change:
    """Contrast runs that have no partner: Welch's t (Biometrika 34, 1947)."""
    parts = [float(side.var(ddof=1)) / len(side) for side in (base, new)]
    total = sum(parts)
    sizes = (len(base), len(new))
    weight = sum(part**2 / (n - 1) for part, n in zip(parts, sizes, strict=True))
    dof = total**2 / weight if weight > 0 else float(sum(sizes) - 2)
    return change(float(new.mean() - base.mean()), math.sqrt(total), dof, "runs", min(sizes))


@dataclass(frozen=True, slots=True)
class Leaves:
    """An estimate, and the same without each of its windows."""

    value: float
    without: FloatArray

    @property
    def usable(self) -> bool:
        """Whether every one of them exists."""
        return math.isfinite(self.value) and bool(np.all(np.isfinite(self.without)))


def by_windows(base: Leaves, new: Leaves, *, paired: bool, noise: float = 0.0) -> Change:
    """Contrast one run with one other by delete-one-window jackknife; paired: window k of both had the same requests.

    What differs from one run to the next (a restart, the machine) is in no window: `noise` is the standard deviation
    that is assumed for it, on the scale of the estimates; 0: the interval is of these two runs alone.
    """
    value, k = new.value - base.value, len(base.without)
    if paired:
        errors, sizes = [standard_error(new.without - base.without)], [k]
    else:
        errors, sizes = [standard_error(side.without) for side in (base, new)], [k, len(new.without)]
    total = math.hypot(*errors, noise)
    weight = sum(error**4 / (n - 1) for error, n in zip(errors, sizes, strict=True))
    dof = min(total**4 / weight, 1e6) if weight > 0 else float(k - 1)
    return change(value, total, dof, "windows", min(sizes))


def of_intervals(
    base: tuple[float, float, float], new: tuple[float, float, float], n: int, *, noise: float = 0.0
) -> Change:
    """Contrast two estimates (value, low, high) by their own intervals.

    The difference's interval is a root of squares of their halves (method of variance estimates recovery, Zou and
    Donner, Statistics in Medicine 27, 2008): for shares near 1, whose intervals are not symmetric.
    """
    from scipy.special import stdtr, stdtrit

    value, dof = new[0] - base[0], n - 1
    t = float(stdtrit(dof, 0.975))
    low = value - math.hypot(new[0] - new[1], base[2] - base[0], t * noise)
    high = value + math.hypot(new[2] - new[0], base[0] - base[1], t * noise)
    error = ((value - low) if value > 0 else (high - value)) / t  # of the side on which "no difference" lies
    p = 2 * float(stdtr(dof, -abs(value) / error)) if error > 0 else float(value == 0)
    return Change(value, low, high, min(p, 1.0), "windows", n)
