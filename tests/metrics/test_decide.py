"""Decisions on an objective while a run goes on; the share of wrong ones is simulated in tests/validation."""

from __future__ import annotations

import numpy as np
import pytest

from slobench.metrics.decide import FIRST_STEP, STEP_PER_BATCH, Series, standing
from tests.stats.binomial import most

ALPHA = 0.05


def coins(n: int, share: float, seed: int) -> Series:
    """Independent requests of which so many are good; how close they came is independent too."""
    rng = np.random.default_rng(seed)
    risk = rng.random(n) / share  # above 1: not good
    return Series(risk <= 1, risk)


@pytest.mark.parametrize(("share", "decided"), [(0.99, "met"), (0.7, "missed")])
def test_what_is_clear_is_decided_by_few_requests(share: float, decided: str) -> None:
    """Of independent requests 99 % or 70 % good, against 90 %: all of 30 runs are decided, and rightly."""
    found = [standing(coins(4000, share, seed), 0.9, 60, ALPHA) for seed in range(30)]
    assert {each.decided for each in found} == {decided}
    assert all(each.after == each.n < 4000 for each in found)


def test_at_the_objective_few_are_decided_either_way() -> None:
    """Exactly 90 % good: each side is decided in no more than alpha of 150 runs, whatever the number of looks."""
    found = [standing(coins(6000, 0.9, seed), 0.9, 60, ALPHA).decided for seed in range(150)]
    assert found.count("met") <= most(150, ALPHA)
    assert found.count("missed") <= most(150, ALPHA)


def test_a_decision_stays_when_more_comes() -> None:
    """It is the first one that counts: looking later at more requests gives the same, after as many requests."""
    series = coins(6000, 0.98, 1)
    whole = standing(series, 0.9, 60, ALPHA)
    assert whole.after is not None
    for n in (whole.after, whole.after + 1, 5000):
        assert standing(Series(series.good[:n], series.risk[:n]), 0.9, 60, ALPHA) == whole
    before = standing(Series(series.good[: whole.after - 1], series.risk[: whole.after - 1]), 0.9, 60, ALPHA)
    assert before.decided is None


def test_too_little_says_nothing() -> None:
    """Nothing at all, and less than one batch."""
    assert standing(coins(0, 1, 0), 0.9, 60, ALPHA).share is None
    few = standing(coins(FIRST_STEP * (60 // STEP_PER_BATCH) - 1, 1.0, 0), 0.9, 300, ALPHA)
    assert (few.low, few.high, few.batches, few.decided) == (0.0, 1.0, 0, None)


def test_misses_in_spells_take_longer_than_misses_at_random() -> None:
    """The same 2 % misses, in one spell of 40 instead of scattered: not yet decided where scattered ones are."""
    n = 2000
    rng = np.random.default_rng(5)
    scattered, together = np.ones(n, bool), np.ones(n, bool)
    scattered[rng.choice(n, 40, replace=False)] = False
    together[700:740] = False
    found = [standing(Series(good, np.where(good, 0.5, 2.0)), 0.95, 300, ALPHA) for good in (scattered, together)]
    assert [each.decided for each in found] == ["met", None]


def test_near_misses_in_spells_take_longer_too() -> None:
    """No miss at all, but replies that come near the limit come together: they are worth less than independent ones."""
    n = 1000
    rng = np.random.default_rng(6)
    calm = rng.random(n) * 0.5
    spells = calm.copy()
    for start in (150, 820):
        spells[start : start + 100] += 0.5
    good = np.ones(n, bool)
    found = [standing(Series(good, risk), 0.95, 150, ALPHA) for risk in (calm, spells)]
    assert [each.decided for each in found] == ["met", None]


def test_a_warm_up_can_show_a_miss_but_never_that_all_is_well() -> None:
    """An empty server is fast: its first replies are left out of a "met", and only of that."""
    n = 3000
    good = np.ones(n, bool)
    risk = np.random.default_rng(7).random(n)
    assert standing(Series(good, risk), 0.9, 60, ALPHA).decided == "met"
    assert standing(Series(good, risk, warming=n), 0.9, 60, ALPHA).decided is None
    assert standing(Series(~good, risk + 1, warming=n), 0.9, 60, ALPHA).decided == "missed"
