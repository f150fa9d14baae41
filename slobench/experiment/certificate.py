"""The certificate: whether one long probe shows, with 95 % confidence, that a load keeps its targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slobench.experiment.criteria import Criterion
from slobench.experiment.locate import Located
from slobench.experiment.steady import drifts, piles_up
from slobench.experiment.stream import BATCHES, Probed
from slobench.stats.effective import design_effect
from slobench.stats.intervals import exact_binomial

RECOMMENDED_N, LEAST_N = 10_000, 1_000
_BATCH_E2E = 3.0  # mean E2E that a batch must last at least
_FEW = 5  # misses below which batches say nothing of the design effect


@dataclass(frozen=True, slots=True)
class Bound:
    """One share of a certifying probe: seen, its one-sided 95 % lower bound, and what it rests on."""

    criterion: Criterion
    seen: float
    low: float
    n: int
    n_eff: float
    design_effect: float

    @property
    def holds(self) -> bool:
        """Whether the bound reaches the target."""
        return self.low >= self.criterion.target


def certificate_size(precision: float, rate: float, mean_e2e_s: float | None, found: Located | None) -> int:
    """Requests of a certificate: 10,000 at 3 %, fewer where less precision is asked, each batch 3 mean E2E long.

    At least so many, up to those 10,000, that a probe without a miss can pass: target^(n/D) <= 5 %.
    """
    n = max(RECOMMENDED_N * (0.03 / precision) ** 2, LEAST_N)
    if found is not None:
        n = max(n, math.ceil(found.fit.phi * math.log(0.05) / math.log(found.criterion.target)) + 1)
    return int(max(min(n, RECOMMENDED_N), BATCHES * _BATCH_E2E * (mean_e2e_s or 0.0) * rate))


def bounds(criteria: Sequence[Criterion], probed: Probed, found: Located | None) -> list[Bound]:
    """The lower bound of each criterion: exact binomial at n_eff = n/D, D from the spread of the batches.

    With fewer than 5 misses the batches cannot show D: at least that of the search's fit counts then.
    """
    result = []
    for each in criteria:
        tally = np.array(probed.tallies[each.name])
        good, n = int(tally[:, 0].sum()), int(tally[:, 1].sum())
        if n == 0:
            continue
        effect = design_effect(tally[:, 0], tally[:, 1]) or 1.0
        if n - good < _FEW:
            effect = max(effect, found.fit.phi if found else 1.0)
        n_eff = n / effect
        low, _ = exact_binomial(min(n_eff * good / n, n_eff), n_eff, level=0.90)
        result.append(Bound(each, good / n, low, n, n_eff, effect))
    return result


def certified(criteria: Sequence[Criterion], probed: Probed, found: Located | None) -> bool:
    """Whether every criterion's bound reaches its target, and requests did not pile up."""
    each = bounds(criteria, probed, found)
    return bool(each) and all(bound.holds for bound in each) and not (drifts(probed) or piles_up(probed))
