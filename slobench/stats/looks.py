"""A comparison that may be looked at several times: a share of the error at each look."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from slobench.stats.paired import PairedT, holm, paired_t
from slobench.stats.quantiles import FloatArray


@dataclass(frozen=True, slots=True)
class Look:
    """After so many pairs, a one-sided test at level alpha."""

    pairs: int
    alpha: float


LOOKS = (Look(4, 0.002), Look(7, 0.003), Look(10, 0.005))
"""The sum of alpha, 1 %, bounds the chance of any false rejection (Bonferroni over looks; Pocock, Biometrika 64, 1977,
on why repeated tests at one full level would not)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a difference counts: differences are ln(new / base), larger is worse.

    least: no smaller mean is a failure, however sure; margin: what a pass must rule out; bound: the level of
    the one-sided bound that must lie below the margin. `least` and `margin` hold for all metrics, or are one each.
    """

    looks: tuple[Look, ...] = LOOKS
    least: float | tuple[float, ...] = math.log(1.02)
    margin: float | tuple[float, ...] = math.log(1.05)
    bound: float = 0.95


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look saw: a test for each metric, which were rejected (Holm), and the decision; None: look again."""

    tests: tuple[PairedT, ...]
    rejected: tuple[bool, ...]
    decision: Literal["fail", "pass"] | None


def look_at(differences: FloatArray, alpha: float, rule: Rule) -> Looked:
    """Judge pairs at one look. differences: (metrics, pairs).

    "fail": some metric is rejected at alpha, Holm over metrics, and its mean is at least `rule.least`.
    "pass": the upper bound of every metric lies below `rule.margin` (non-inferiority): not being worse must be shown,
    an unclear result is neither.
    """
    tests = tuple(paired_t(each) for each in differences)
    rejected = tuple(p <= alpha for p in holm([test.p for test in tests]))
    least, margin = (np.broadcast_to(each, len(tests)).tolist() for each in (rule.least, rule.margin))
    if any(no and test.mean >= size for no, test, size in zip(rejected, tests, least, strict=True)):
        return Looked(tests, rejected, "fail")
    ruled_out = all(test.upper(rule.bound) < most for test, most in zip(tests, margin, strict=True))
    return Looked(tests, rejected, "pass" if ruled_out else None)


def look(differences: FloatArray, rule: Rule | None = None) -> Looked | None:
    """Judge the pairs so far at the looks that were planned, and stop at the first decision.

    differences: (metrics, pairs); pairs after the last planned look that was reached count nowhere, since a look
    that was not planned would add to the error. None before the first look.
    """
    rule = rule or Rule()
    pairs = np.shape(differences)[1]
    seen = None
    for planned in rule.looks:
        if planned.pairs <= pairs and (seen is None or seen.decision is None):
            seen = look_at(differences[:, : planned.pairs], planned.alpha, rule)
    return seen
