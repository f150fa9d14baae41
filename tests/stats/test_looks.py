"""Looking three times keeps the chance of a false alarm, and finds what should be found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slobench.stats.looks import LOOKS, Rule, look, look_at
from tests.stats.binomial import fewest, most

METRICS = 3
RULE = Rule()


def experiments(runs: int, effect: tuple[float, ...], sd: float, seed: int) -> np.ndarray:
    """Log ratios (runs, metrics, 10 pairs) whose metrics share half of their variance."""
    rng = np.random.default_rng(seed)
    common = rng.normal(0, sd, (runs, 1, 10))
    own = rng.normal(0, sd, (runs, METRICS, 10))
    return (common + own) / math.sqrt(2) + np.reshape(effect, (1, METRICS, 1))


def decisions(draws: np.ndarray, rule: Rule = RULE) -> dict[str | None, int]:
    """Count the decisions."""
    seen = [look(draw, rule) for draw in draws]
    found = [one.decision for one in seen if one is not None]
    assert len(found) == len(draws)
    return {key: found.count(key) for key in ("fail", "pass", None)}


def test_the_levels_of_the_looks_add_up_to_one_per_cent() -> None:
    """4, 7 and 10 pairs at .002, .003 and .005."""
    assert [(each.pairs, each.alpha) for each in LOOKS] == [(4, 0.002), (7, 0.003), (10, 0.005)]
    assert sum(each.alpha for each in LOOKS) == pytest.approx(0.01)


@pytest.mark.parametrize("sd", [0.01, 0.04])
def test_no_difference_fails_in_at_most_one_per_cent(sd: float) -> None:
    """2,000 comparisons of a thing with itself, three metrics, three looks."""
    assert decisions(experiments(2000, (0, 0, 0), sd, 1))["fail"] <= most(2000, 0.01)


def test_the_bound_on_the_error_holds_without_a_least_difference() -> None:
    """Also where any difference would count, and nothing stops the looks early."""
    rule = Rule(least=0.0, margin=-math.inf)
    assert decisions(experiments(4000, (0, 0, 0), 0.04, 2), rule)["fail"] <= most(4000, 0.01)


def test_five_per_cent_worse_fails() -> None:
    """One metric 5 % worse with 1.6 % a pair: a failure in at least 95 %."""
    found = decisions(experiments(1000, (0, math.log(1.05), 0), 0.016, 3))
    assert found["fail"] >= fewest(1000, 0.95)


def test_a_sure_but_small_difference_does_not_fail() -> None:
    """1 % worse and known to 0.1 %: rejected, below the least difference, and within the margin."""
    draws = experiments(200, (0.01, 0, 0), 0.001, 4)
    assert decisions(draws)["pass"] == 200
    assert all(look_at(draw, 0.01, RULE).rejected[0] for draw in draws[:, :, :7])


@pytest.mark.parametrize("sd", [0.005, 0.02, 0.05])
def test_what_is_worse_by_the_margin_passes_in_at_most_ten_per_cent(sd: float) -> None:
    """Three looks at a 95 % bound let through at most 15 % (Bonferroni), and in fact at most 10 %."""
    assert decisions(experiments(2000, (math.log(1.05), 0, 0), sd, 5))["pass"] <= most(2000, 0.10)


def test_noise_that_hides_the_margin_is_no_pass() -> None:
    """At 15 % a pair nothing can be ruled out: most comparisons end undecided, and hardly any fails."""
    found = decisions(experiments(1000, (0, 0, 0), 0.15, 6))
    assert found[None] >= fewest(1000, 0.8)
    assert found["fail"] <= most(1000, 0.01)


def test_only_planned_looks_are_taken() -> None:
    """Three pairs give no look; five are judged as the first four; the first decision stands."""
    draws = experiments(1, (0.5, 0, 0), 0.001, 7)[0]
    assert look(draws[:, :3]) is None
    early, later = look(draws[:, :4]), look(draws)
    assert early is not None
    assert early.decision == "fail"
    assert later == early
    noisy = experiments(1, (0, 0, 0), 0.3, 8)[0]
    assert look(noisy[:, :4]) == look(noisy[:, :6])
    assert look(noisy[:, :4]) != look(noisy[:, :7])
