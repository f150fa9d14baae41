"""Capacity in sessions on the reference engine: a short form of scripts/validate_sessions.py, and the full one (long)."""

from __future__ import annotations

import pytest

from scripts.validate_sessions import page
from tests.validation.sessions import Search, accuracy, search, truth

TRUE = 11.7  # sessions/s, of 24 runs of 12,000 requests


def test_a_search_comes_near_the_truth() -> None:
    """Within 6 %, four standard deviations of what 40 searches showed, and never certified above it."""
    found = search(seed=7)
    assert found.rate == pytest.approx(TRUE, rel=0.06)
    assert found.certified is None or found.certified < TRUE * 1.02


def test_figures_are_what_they_say() -> None:
    """Two searches, one 10 % too high whose interval misses the truth, one exact."""
    seen = accuracy(10.0, [Search(11.0, 10.5, 11.5, 10.3, 100), Search(10.0, 9.5, 10.5, None, 300)])
    assert (seen.bias, seen.cover, seen.over, seen.overcertified) == (pytest.approx(0.05), 0.5, 0.5, 0.5)
    assert "| 10.00 | 2 | +5.00% ± 5.00% | 7.07% | 50.0% | 50.0% | 200 | 50% | 50.0% |" in page(seen)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_forty_searches_hold_what_is_published() -> None:
    """Intervals hold the truth in at least 80 % of 40 searches, and none certifies more than 1.02 of it in one of 20."""
    seen = accuracy(truth(TRUE, range(24), 12_000), [search(seed) for seed in range(1, 41)])
    assert seen.cover >= 0.8
    assert seen.overcertified <= 0.05
    assert seen.rmse <= 0.025
