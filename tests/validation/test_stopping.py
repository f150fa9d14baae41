"""Runs that stop by a rule, on the reference engine: in short here, in full with `make validate` or `-m long`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.stats.binomial import most
from tests.validation.stopping import LOADS, RULE, WATCHED, Load, Watched, coverage, decide, refuted_coverage, watched


def counted(load: Load, runs: int) -> dict[str | None, int]:
    """How many of the runs were decided which way."""
    found = [decide(load, seed).decided for seed in range(1, runs + 1)]
    return {each: found.count(each) for each in ("met", "missed", None)}


@pytest.mark.parametrize(
    ("load", "decided"),
    [(replace(LOADS[0], rate=14.0, bound_s=400), "met"), (replace(LOADS[3], bound_s=400), "missed")],
    ids=["above", "below"],
)
def test_what_is_clear_is_decided_in_minutes(load: Load, decided: str) -> None:
    """At 14/s nearly all requests are good, at 21.5/s half: of 8 runs of 400 s none is decided wrongly, most are."""
    found = counted(load, 8)
    assert found[decided] >= 5
    assert sum(found[wrong] for wrong in load.wrong) == 0


@pytest.mark.long
@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.name)
def test_decisions_are_wrong_no_more_often_than_alpha(load: Load) -> None:
    """In 200 runs; where the attainment is the objective, neither side is decided more often than that."""
    found = counted(load, 200)
    for wrong in load.wrong:
        assert found[wrong] <= most(200, RULE.alpha), found
    if load.side != "at":
        assert found[None] < 100


def test_intervals_of_runs_that_stopped_when_precise_hold_the_truth() -> None:
    """In 16 runs at 12/s, stopped within 400 s: as often as the claim says, but for one case in a thousand each."""
    runs = [watched(Watched(12.0, 1, 400), seed) for seed in range(1, 17)]
    assert any(each.stopped >= 0.9 for each in coverage(runs))
    assert not refuted_coverage(list(coverage(runs)), len(runs))


@pytest.mark.long
@pytest.mark.parametrize("name", WATCHED)
def test_intervals_of_stopped_runs_hold_the_truth(name: str) -> None:
    """In 200 runs."""
    runs = [watched(WATCHED[name], seed) for seed in range(1, 201)]
    assert not refuted_coverage(list(coverage(runs)), len(runs))
