"""Error budgets: what is allowed, what was spent, how fast, and when a window is too short to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.metrics.budget import LEAST_REQUESTS, MONTH_S, PAIRS, budget
from slobench.metrics.summary import ErrorBudget, Estimate
from slobench.metrics.window import Window

S = 10**9


def window(length_s: float, mean_e2e_s: float | None = 0.01, start_s: float = 0.0) -> Window:
    return Window(start_s, start_s + length_s, mean_e2e_s, mean_e2e_s, 0.0, whole_run=False)


def spend(missed: Any, length_s: float, target: float = 0.9, mean_e2e_s: float | None = 0.01) -> ErrorBudget:
    """Spend a budget on requests spread evenly over a window."""
    missed = np.asarray(missed, dtype=np.bool_)
    n = len(missed)
    at_s = (np.arange(n) + 0.5) * length_s / max(n, 1)
    seen = Estimate(1 - missed.mean(), 0.8, 0.95, n, n / 4, 4.0) if n else Estimate(None)
    return budget("attainment", target, missed, np.ones(n, np.bool_), at_s, window(length_s, mean_e2e_s), seen)


def test_used_is_misses_over_allowed_ones_with_the_interval_turned_round() -> None:
    """30 misses of 1,000 at a target of 99 % are three times the budget; the interval is the attainment's."""
    missed = np.arange(1000) < 30
    at_s, every = np.linspace(0, 9.99, 1000), np.ones(1000, np.bool_)
    seen = budget(
        "x", 0.99, missed, every, at_s, window(10.0), Estimate(0.97, 0.94, 0.985, 1000, 50.0, 20.0, "optimistic")
    )
    assert seen.allowed == pytest.approx(10)
    assert (seen.misses, seen.used.value) == (30, pytest.approx(3))
    assert (seen.used.low, seen.used.high) == (pytest.approx(1.5), pytest.approx(6))
    assert (seen.used.n, seen.used.n_eff, seen.used.design_effect, seen.used.note) == (1000, 50.0, 20.0, "optimistic")


def test_requests_outside_the_population_spend_nothing() -> None:
    """Only counted requests count, as misses and as requests."""
    missed, counted = np.ones(200, np.bool_), np.arange(200) % 2 == 0
    seen = budget("x", 0.5, missed, counted, np.linspace(0, 9.9, 200), window(10.0), Estimate(0.0, n=100))
    assert (seen.misses, seen.allowed) == (100, pytest.approx(50))


@given(missed=st.lists(st.booleans(), min_size=1, max_size=400), target=st.sampled_from([0.5, 0.9, 0.99]))
def test_burn_over_time_is_the_share_in_each_stretch(missed: list[bool], target: float) -> None:
    """Each point is what its own stretch missed over what it may; the curve never leaves the window."""
    seen = spend(missed, 20.0, target)
    at = (np.arange(len(missed)) + 0.5) * 20.0 / len(missed)
    for end, burn in zip(seen.at_s, seen.burn, strict=True):
        inside = (at > end - (seen.width_s or 0)) & (at <= end)
        assert end <= 20.0 + 1e-9
        if inside.sum() >= LEAST_REQUESTS:
            assert burn == pytest.approx(np.asarray(missed)[inside].mean() / (1 - target))
        else:
            assert burn is None


def test_the_alarm_windows_shrink_with_the_run() -> None:
    """14.4 (1 h, 5 min), 6 (6 h, 30 min) and 1 (3 d, 6 h) of a budget of 30 days, in the same proportion of the run."""
    pairs = spend(np.zeros(100), MONTH_S / 1000).pairs
    assert [(pair.factor, pair.long_s, pair.short_s) for pair in pairs] == [
        (14.4, pytest.approx(3.6), pytest.approx(0.3)),
        (6.0, pytest.approx(21.6), pytest.approx(1.8)),
        (1.0, pytest.approx(259.2), pytest.approx(21.6)),
    ]


def test_a_window_under_30_mean_e2e_or_50_requests_is_insufficient() -> None:
    """The reason is told; a state is neither burning nor held."""
    short = spend(np.zeros(100_000), 8640.0, mean_e2e_s=1.0).pairs
    assert [pair.burning for pair in short] == [None, None, False]  # 6 h become 72 s, 30 min only 6 s
    assert short[0].note == "insufficient: 1 s is less than 30 mean E2E (30 s)"
    few = spend(np.zeros(200), 8640.0).pairs
    assert [pair.burning for pair in few] == [None, None, None]
    assert few[2].note == "insufficient: fewer than 50 requests in 72 s"


def test_an_alarm_needs_both_windows() -> None:
    """A bad spell as long as the short window burns there, but not over the long one; a longer one burns in both."""
    n, length = 864_000, 8640.0  # 100 requests/s; factor 14.4: 12 s and 1 s; factor 6: 72 s and 6 s
    at = (np.arange(n) + 0.5) * length / n
    brief = spend((at > 4000) & (at <= 4001), length, target=0.99)
    assert brief.pairs[0].burning is False  # 1 s of misses is 8.3 % of 12 s: 8.3 < 14.4
    assert brief.pairs[0].worst == pytest.approx(100 / 12, rel=0.01)
    longer = spend((at > 4000) & (at <= 4003), length, target=0.99)
    assert longer.pairs[0].burning is True
    assert longer.pairs[0].at_s == pytest.approx(4003, abs=0.02)
    assert longer.pairs[0].worst == pytest.approx(25, rel=0.01)


def test_a_steady_burn_of_one_spends_the_budget_exactly() -> None:
    """Misses at the allowed rate: used 1, no alarm above a factor of 6."""
    seen = spend(np.arange(864_000) % 100 == 0, 8640.0, target=0.99)
    assert seen.used.value == pytest.approx(1)
    assert [pair.burning for pair in seen.pairs[:2]] == [False, False]


@pytest.mark.parametrize(
    ("n", "target", "why"), [(100, 1.0, "a target of 100 % leaves no budget"), (0, 0.9, "no request")]
)
def test_without_a_budget_there_is_no_burn(n: int, target: float, why: str) -> None:
    """Nothing to spend, or nobody to spend it: no number, and why."""
    seen = spend(np.zeros(n), 10.0, target)
    assert seen.used.value is None
    assert why in seen.used.note
    assert seen.pairs == ()


def test_without_any_reply_only_requests_are_counted() -> None:
    """Where no reply succeeded there is no mean E2E, and all misses still burn."""
    seen = spend(np.ones(2000), 20.0, 0.9, mean_e2e_s=None)
    assert seen.used.value == pytest.approx(10)
    assert seen.burn
    assert all(burn == pytest.approx(10) for burn in seen.burn)


def test_each_objective_has_its_budget(clean: Callable[..., Any]) -> None:
    """Attainment, availability, error rate and percentiles: what may miss is 1 - target, and each counts its own."""
    run = clean()
    run.fail(slice(None, None, 20), "http_error", status=500)
    late = np.arange(len(run["index"])) % 10 == 1
    run["first_token_ns"] = run["first_token_ns"] + late * 0.06 * S
    run["last_token_ns"] = run["last_token_ns"] + late * 0.06 * S
    run.slo = ("ttft<100ms", "attainment>=90%", "availability>=99%", "ttft:p95<100ms", "class=chat e2e:p50<1s")
    result = run.evaluate().results["chat"]
    n = result.population
    used = {each.objective: (each.misses, each.allowed / n, each.used.value) for each in result.budgets}
    bad, failed = n - result.good, round(n / 20)
    assert used["attainment>=90%"] == (bad, pytest.approx(0.1), pytest.approx(bad / n / 0.1))
    assert used["availability>=99%"] == (pytest.approx(failed, abs=1), pytest.approx(0.01), pytest.approx(5, rel=0.02))
    assert used["ttft:p95<100ms"] == (bad, pytest.approx(0.05), pytest.approx(bad / n / 0.05))
    assert used["e2e:p50<1000ms"] == (pytest.approx(failed, abs=1), pytest.approx(0.5), pytest.approx(0.1, rel=0.02))


def test_pairs_are_those_of_the_workbook() -> None:
    """2 % of 30 days in an hour is 14.4, 5 % in 6 hours is 6, 10 % in 3 days is 1."""
    assert [(share * MONTH_S / long) for share, (_, long, _) in zip((0.02, 0.05, 0.1), PAIRS, strict=True)] == [
        pytest.approx(factor) for factor, _, _ in PAIRS
    ]
    assert all(short == pytest.approx(long / 12) for _, long, short in PAIRS)
