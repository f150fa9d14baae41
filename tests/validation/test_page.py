"""What a validation writes into docs/validation.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.validate_statistics import block, page
from scripts.validation import replaced
from slobench.metrics.summary import Estimate
from tests.validation.capacity import Root, crossing, grid
from tests.validation.coverage import PARTS, Cell, Coverage, counted

ROOTS = [Root(0.9, 1, 20.3, 20.2, 20.4, 1_000_000), Root(0.9, 2, 18.6, 18.5, 18.7, 1_000_000)]


def seen(quantity: str, length: str, covered: int) -> Coverage:
    """Coverage of 400 runs."""
    return Coverage(quantity, length, covered, 400, 0, 400 - covered, 0.1, 0.05, 100.0, 0)


def test_cells_below_the_claim_are_marked_and_counted() -> None:
    """350 of 400 is below 88 % and no refutation, 330 is one; labelled intervals claim nothing."""
    found = [seen("attainment", length, 390) for length in PARTS]
    found += [seen("ttft p99", length, 350 if length == "30" else 100) for length in PARTS]
    found += [seen("e2e mean", length, 330) for length in PARTS]
    found += [seen("tpot p99", length, 300) for length in PARTS]
    text = page({"one cell": found}, ROOTS, 400)
    assert "| attainment | 97.5% (±5 points) |" in text
    assert "| TTFT p99 | 87.5%\\* (±5 %) |" in text
    assert "| TPOT p99 (approximate) | 75.0%\\* (±5 %) |" in text
    assert "3 claims, 2 of them seen below 88%" in text
    assert "1 refuted; the lowest is E2E mean with 82.5%" in text
    assert "| Poisson | 90% | 20.30 | 20.20 to 20.40 | 20.1 (+1.0%) | 1,000,000 |" in text


def test_results_replace_their_own_part_of_the_page() -> None:
    """The rest of the page stays as it is; a page without the marks is an error."""
    old = "# A\n<!-- x: begin -->\nold\n<!-- x: end -->\n## B\n"
    assert replaced(old, "x", "new") == "# A\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\n## B\n"
    with pytest.raises(SystemExit, match="has no lines"):
        replaced(old, "y", "new")


def test_runs_that_were_kept_are_not_simulated_again(tmp_path: Path) -> None:
    """A block is read back as it was made, each run with its own requests."""
    cell = Cell("tiny", 5.0, 1, 0.01, 0.5)
    made, again = block(cell, tmp_path, 1), block(cell, tmp_path, 1)
    assert len({len(run.arrival_s) for run in made}) > 1
    for one, other in zip(made, again, strict=True):
        assert np.array_equal(one.arrival_s, other.arrival_s)
        assert np.array_equal(one.tpot_s, other.tpot_s, equal_nan=True)
    assert [path.name for path in tmp_path.iterdir()] == ["5.0-1-1.npz"]


def test_an_interval_that_is_missing_covers_nothing() -> None:
    """Covered, truth below, truth above, none."""
    each = [Estimate(1.0, 0.9, 1.1), Estimate(1.2, 1.1, 1.3), Estimate(0.8, 0.7, 0.9), Estimate(1.0)]
    found = counted("ttft p50", "30", each, np.ones(4))
    assert (found.covered, found.below, found.above, found.without) == (1, 1, 1, 1)


def test_the_crossing_of_a_known_curve_is_found() -> None:
    """Attainment with odds of 9 at 20/s that fall as rate^-25 crosses 90 % at 20/s."""
    rates = grid(20.5)
    odds = 9 * (rates / 20) ** -25.0
    tally = np.stack([1e9 * odds / (1 + odds), np.full(len(rates), 1e9)], axis=1)
    assert np.exp(crossing(tally, 20.5, 0.9)) == pytest.approx(20, rel=1e-4)
    with pytest.raises(ValueError, match="does not cross"):
        crossing(tally, 20.5, 0.999)
