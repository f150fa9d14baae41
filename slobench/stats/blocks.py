"""Treatments compared over blocks: each once in every block, so that what a block has in common drops out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from slobench.stats.intervals import student_quantile
from slobench.stats.quantiles import FloatArray

LEVEL = 0.95
_POWER = 0.9
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Against:
    """The best treatment against another. ahead: mean difference. p: that it is not ahead, adjusted for the choice.

    needed: blocks with which the same difference would be seen with chance 90 %; None: more than 1,000.
    """

    other: int
    ahead: float
    error: float
    low: float
    p: float
    needed: int | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The treatment with the highest mean, and how sure it is that no other is better.

    spread: standard deviation of one value, what treatment and block make of it taken out; dof: its degrees of freedom.
    """

    best: int
    against: tuple[Against, ...]
    spread: float
    dof: int

    @property
    def sure(self) -> float:
        """Confidence that it is the best of all; 1 where there is no other."""
        return 1.0 - max((each.p for each in self.against), default=0.0)


def choose(values: FloatArray) -> Chosen:
    """Pick the best row of values[treatment, block]. Raises ValueError below 2 blocks.

    Additive model of treatments and blocks, one error variance [Fisher 1935]. The best is named after the data were
    seen: of k treatments any of k - 1 wrong ones might come out ahead, so each p is multiplied by k - 1 (Bonferroni),
    and a wrong one is called the best at 95 % with chance 5 % at most.
    """
    k, blocks = values.shape
    if blocks < 2:
        raise ValueError(f"expected at least 2 blocks, got {blocks}")
    means = values.mean(axis=1)
    best = int(means.argmax())
    if k < 2:
        return Chosen(best, (), 0.0, 0)
    rest = values - means[:, None] - values.mean(axis=0)[None, :] + values.mean()
    dof = (k - 1) * (blocks - 1)
    spread = math.sqrt(float((rest**2).sum()) / dof)
    others = sorted((other for other in range(k) if other != best), key=lambda other: -means[other])
    return Chosen(
        best, tuple(_against(other, float(means[best] - means[other]), spread, (k, blocks)) for other in others),
        spread, dof,
    )  # fmt: skip


def choose_by_errors(means: FloatArray, errors: FloatArray, noise: float, dof: int) -> Chosen:
    """Pick the best of values seen once each: errors are their own, noise what two runs of one thing differ by."""
    k = len(means)
    best = int(means.argmax())
    others = sorted((other for other in range(k) if other != best), key=lambda other: -means[other])
    found = []
    for other in others:
        error = math.sqrt(float(errors[best] ** 2 + errors[other] ** 2) + noise**2)
        ahead = float(means[best] - means[other])
        needed = _needed(ahead, error / math.sqrt(2), k)
        found.append(_told(other, ahead, error, dof, k, needed))
    return Chosen(best, tuple(found), noise / math.sqrt(2), dof)


def _against(other: int, ahead: float, spread: float, size: tuple[int, int]) -> Against:
    k, blocks = size
    needed = _needed(ahead, spread, k)
    return _told(other, ahead, spread * math.sqrt(2 / blocks), (k - 1) * (blocks - 1), k, needed)


def _told(other: int, ahead: float, error: float, dof: int, k: int, needed: int | None) -> Against:
    from scipy.special import stdtr

    one = (0.0 if ahead > 0 else 0.5) if error <= 1e-12 else float(stdtr(dof, -ahead / error))
    low = ahead - student_quantile(dof, 1 - (1 - LEVEL) / (k - 1)) * error
    return Against(other, ahead, error, low, min(1.0, one * (k - 1)), needed)


def _needed(ahead: float, spread: float, k: int) -> int | None:
    """Fewest blocks that show a difference of `ahead`; by shifted quantiles of t, a little more than are needed."""
    if spread <= 1e-12:
        return 2 if ahead > 0 else None
    if not _shows(ahead, spread, k, _MOST):
        return None
    low, high = 1, _MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _shows(ahead, spread, k, middle) else (middle, high)
    return high


def _shows(ahead: float, spread: float, k: int, blocks: int) -> bool:
    dof = (k - 1) * (blocks - 1)
    wanted = student_quantile(dof, 1 - (1 - LEVEL) / (k - 1)) + student_quantile(dof, _POWER)
    return ahead >= wanted * spread * math.sqrt(2 / blocks)
