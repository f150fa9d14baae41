"""A new value against earlier ones: the level holds, and the interval is the textbook's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from slobench.stats.prediction import prediction_t
from tests.stats.binomial import most


def test_one_new_value_is_held_against_the_prediction_interval() -> None:
    """By hand: earlier 1..8, new 12: (12 - 4.5) / (s sqrt(1 + 1/8)), 7 degrees of freedom."""
    earlier = np.arange(1.0, 9.0)
    found = prediction_t(earlier, np.array([12.0]))
    error = earlier.std(ddof=1) * np.sqrt(1 + 1 / 8)
    assert found.difference == pytest.approx(7.5)
    assert found.error == pytest.approx(error)
    assert found.p == pytest.approx(stats.t.sf(7.5 / error, 7))
    assert found.upper(0.95) == pytest.approx(7.5 + stats.t.ppf(0.95, 7) * error)
    assert found.lower(0.95) == pytest.approx(7.5 - stats.t.ppf(0.95, 7) * error)


@pytest.mark.parametrize("m", [1, 4])
def test_the_level_holds(m: int) -> None:
    """20,000 tests of 8 values against m more of the same kind: 1 % rejected at most, but for one case in a thousand."""
    runs = 20_000
    draws = np.random.default_rng(m).normal(0, 1, (runs, 8 + m))
    rejected = sum(prediction_t(draw[:8], draw[8:]).p <= 0.01 for draw in draws)
    assert rejected <= most(runs, 0.01)


def test_values_without_spread_are_beyond_doubt() -> None:
    """All alike: any larger value is one, the same is none."""
    same = np.ones(8)
    assert prediction_t(same, np.array([1.1])).p == 0.0
    assert prediction_t(same, np.array([1.0])).p == 1.0


def test_too_few_values_are_an_error() -> None:
    """One earlier value has no spread; no new value nothing to test."""
    with pytest.raises(ValueError, match="at least 2 earlier"):
        prediction_t(np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="1 new one"):
        prediction_t(np.ones(3), np.ones(0))
