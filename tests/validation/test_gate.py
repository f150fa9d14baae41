"""The gate's error rates, in short; `python -m scripts.validate_gate` is the long form."""

from __future__ import annotations

import pytest

from slobench.config.margins import Margins
from slobench.metrics.compare import compare
from slobench.metrics.gate import Pair
from tests.stats.binomial import fewest, most
from tests.validation.gate import SMALL, arms_of, as_run, decide, experiment, worse_by_the_margin

EXPERIMENTS, SLOWER = 16, 10


@pytest.fixture(scope="module")
def same() -> list[list[Pair]]:
    """A server against itself."""
    return [experiment(SMALL, 1.0, seed) for seed in range(1, EXPERIMENTS + 1)]


def test_a_server_against_itself_hardly_ever_fails(same: list[list[Pair]]) -> None:
    """At most 1 % of 16, but for one case in a thousand; and most pass."""
    decisions = [decide(pairs).decision for pairs in same]
    assert decisions.count("FAIL") <= most(EXPERIMENTS, 0.01)
    assert decisions.count("PASS") >= EXPERIMENTS // 2


def test_steps_that_are_five_per_cent_longer_fail() -> None:
    """At least 95 % of 10, but for one case in a thousand."""
    decisions = [decide(as_run(SMALL, 1.05, seed)).decision for seed in range(1, SLOWER + 1)]
    assert decisions.count("FAIL") >= fewest(SLOWER, 0.95)


@pytest.mark.parametrize("key", ["tpot:p50", "ttft:p90"])
def test_what_is_worse_by_the_margin_seldom_passes(same: list[list[Pair]], key: str) -> None:
    """One metric truly worse by 5 %: at most 10 % of 16 pass, but for one case in a thousand."""
    decisions = [decide(worse_by_the_margin(pairs, key)).decision for pairs in same]
    assert decisions.count("PASS") <= most(EXPERIMENTS, 0.10)


def test_one_run_each_seldom_tells_a_server_from_itself() -> None:
    """`compare` of 24 pairs of runs: a false better or worse in at most 5 %, but for one case in a thousand."""
    seen = [next(arms_of(SMALL, 1.0, seed)) for seed in range(1, 25)]
    found = [compare([base], [[new]], Margins())[0] for base, new in seen]
    assert sum(bool(each.count("worse") + each.count("better")) for each in found) <= most(len(found), 0.05)


def test_one_run_each_tells_a_server_that_is_much_slower() -> None:
    """Steps 15 % longer: worse in at least 9 of 10."""
    seen = [next(arms_of(SMALL, 1.15, seed)) for seed in range(1, 11)]
    assert sum(compare([base], [[new]], Margins())[0].count("worse") > 0 for base, new in seen) >= 9
