"""Is an objective met or missed, whatever the moment one looks: for runs that stop once it is clear.

Every objective is a share of requests that must be good (a percentile limit too). Its decision is sequential: the first
time that a confidence sequence of that share lies on one side of the objective. Two are followed, each with half of
alpha, since neither serves everywhere (docs/decisions/070-stopping.md): a betting sequence on the outcomes of
batches, and a beta-binomial mixture at the effective number of requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from slobench.metrics.columns import BoolArray
from slobench.stats.effective import design_effect
from slobench.stats.quantiles import FloatArray, rank
from slobench.stats.sequential import betting_sequence, mixture_interval

Decision = Literal["met", "missed"]

BATCH_OF_E2E = 10.0  # mean E2E in a batch: at the knee batches of 3 exclude the truth four times too often
STEP_PER_BATCH = 3  # steps in a batch; the mixture is looked at after whole steps
FIRST_STEP = 10
GROWTH = 1.05  # from one look of the mixture to the next: all of them together cost as much as a few dozen of the last
GROUPS = (5, 10)
NEARER = (1, 2)  # times the misses that the objective allows: so many that came closest show how misses would come
DISCOUNT = 1.59  # (t_9 / z)^2 at 99 %: the design effect is an estimate from ten windows
_PRIOR_FAILURES = 0.5


@dataclass(frozen=True, slots=True)
class Series:
    """The requests that an objective is about, in the order of their scheduled times.

    good: which of them met it. risk: how close each came to missing it (value/limit, +inf for a failure).
    warming: how many at the start belong to the warm-up: they may show that the objective is missed, never that it is
    met, for an empty server is faster than it will be.
    """

    good: BoolArray
    risk: FloatArray
    warming: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an objective stands. low, high: confidence sequence of the share at level 1 - alpha, None without data.

    after: how many requests the decision took.
    """

    share: float | None
    low: float | None
    high: float | None
    n: int
    batches: int
    decided: Decision | None = None
    after: int | None = None


def standing(series: Series, bound: float, batch: int, alpha: float) -> Standing:
    """Follow both sequences over the series in batches of `batch` requests; the first to decide decides."""
    whole = _follow(series, bound, batch, alpha)
    if not series.warming or whole.decided == "missed":
        return whole
    rest = slice(series.warming, None)
    return _follow(Series(series.good[rest], series.risk[rest]), bound, batch, alpha)


def _follow(series: Series, bound: float, batch: int, alpha: float) -> Standing:
    n = len(series.good)
    batches = n // batch
    outcomes = series.good[: batches * batch].reshape(batches, batch).mean(axis=1)
    betting = betting_sequence(outcomes, alpha / 2)
    step = max(batch // STEP_PER_BATCH, 1)
    mixed = set(_ends(step, n))
    low, high = 0.0, 1.0
    for end in sorted({*range(batch, n + 1, batch), *mixed}):
        if end % batch == 0:
            low, high = max(low, float(betting.low[end // batch - 1])), min(high, float(betting.high[end // batch - 1]))
        if end in mixed:
            below, above = _mixture(series, end, step, bound, alpha / 2)
            low, high = max(low, below), min(high, above)
        decided: Decision | None = "met" if low >= bound else "missed" if high < bound else None
        if decided:
            return Standing(float(series.good[:end].mean()), low, high, end, end // batch, decided, end)
    return Standing(float(series.good.mean()) if n else None, low if n else None, high if n else None, n, batches)


def _ends(step: int, n: int) -> Iterator[int]:
    """After how many requests the mixture is looked at: multiples of `step`, ever further apart."""
    k = FIRST_STEP
    while k * step <= n:
        yield k * step
        k = max(k + 1, round(k * GROWTH))


def _mixture(series: Series, end: int, step: int, bound: float, alpha: float) -> tuple[float, float]:
    """Interval of the share of the first `end` requests, counted as n_eff independent ones."""
    good = series.good[:end]
    near = [1 - times * (1 - bound) for times in NEARER if times * (1 - bound) < 1]
    n_eff = end / max(1.0, DISCOUNT * _design_effect(good, series.risk[:end], step, near))
    prior = (_PRIOR_FAILURES * bound / max(1 - bound, 1e-6), _PRIOR_FAILURES)
    return mixture_interval(float(good.mean()) * n_eff, n_eff, alpha, prior)


def _design_effect(good: BoolArray, risk: FloatArray, step: int, near: Sequence[float]) -> float:
    """Take the largest over few long and more short windows, of the misses and of those that came close to one.

    near: quantiles of the risk above which a request came close. Misses too few to show their own dependence are
    worth no more than those, which would be the misses if the limit were just so tight that the objective is met.
    """
    n = len(good)
    found = [1.0]
    marks = [~good, *(risk > np.partition(risk, rank(n, q))[rank(n, q)] for q in near)]
    for groups in GROUPS:
        size = n // step // groups * step
        if size:
            sizes = np.full(groups, size)
            found += [
                design_effect(mark[n - groups * size :].reshape(groups, size).sum(axis=1), sizes) or 1.0
                for mark in marks
            ]
    return max(found)
