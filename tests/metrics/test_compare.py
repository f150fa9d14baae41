"""Verdicts of a comparison: never a change without its size, never a size without how sure."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.config.margins import Margins, parse_margin
from slobench.metrics.arm import Arm
from slobench.metrics.comparable import changed, differences
from slobench.metrics.compare import Comparison, compare
from tests.metrics.arms import arm


def compared(base: list[Arm], new: list[Arm], margins: Margins | None = None, run_noise: float = 0.0) -> Comparison:
    return compare(base, [new], margins or Margins(), run_noise=run_noise)[0]


def verdicts(found: Comparison) -> dict[str, str]:
    return {row.contrast.key: row.verdict for row in found.rows if row.contrast.of_class == "all"}


def repeats(n: int, run: int = 0, **changes: float) -> list[Arm]:
    return [arm(seed=seed, run=run, **changes) for seed in range(1, n + 1)]


def test_the_same_server_is_the_same() -> None:
    """One run each, nothing assumed between runs: percentiles of 4,000 requests within 5 %."""
    found = compared([arm(n=4000)], [arm(n=4000, run=1)])
    assert set(verdicts(found).values()) == {"same"}
    assert (found.unit, found.paired) == ("windows", True)


def test_slower_is_worse_with_its_size() -> None:
    """10 % slower TPOT: its ratio, and E2E with it; TTFT is the same."""
    found = compared([arm(run=0)], [arm(run=1, tpot_s=0.022)])
    told = verdicts(found)
    assert told["tpot:p50"] == told["tpot:p99"] == "worse"
    assert told["ttft:p50"] == "same"
    row = next(row for row in found.rows if row.contrast.key == "tpot:p50")
    assert math.exp(row.contrast.change.value) == pytest.approx(1.1, rel=0.02)


def test_faster_is_better() -> None:
    """And a higher attainment is, though it is no latency."""
    found = verdicts(compared([arm(run=0, good=0.85)], [arm(run=1, tpot_s=0.018, good=0.97)]))
    assert found["tpot:p50"] == "better"
    assert found["attainment"] == "better"


def test_noise_between_runs_takes_the_verdict_of_one_run_each() -> None:
    """3 % assumed: 5 % slower is no verdict but a number of pairs; 15 % slower is one."""
    some = compared([arm(run=0)], [arm(run=1, tpot_s=0.021)], run_noise=0.03)
    row = next(row for row in some.rows if row.contrast.key == "tpot:p50")
    assert row.verdict == "cannot tell"
    assert row.needed is not None
    assert row.needed_unit == "pairs tell"
    assert verdicts(compared([arm(run=0)], [arm(run=1, tpot_s=0.023)], run_noise=0.03))["tpot:p50"] == "worse"


def test_few_requests_cannot_tell_and_say_how_many_would() -> None:
    """60 requests with much noise: more of them would."""
    found = compared([arm(n=60, noise=0.3)], [arm(n=60, noise=0.3, run=1)])
    row = next(row for row in found.rows if row.contrast.key == "ttft:p90")
    assert row.verdict == "cannot tell"
    assert row.needed is not None
    assert row.needed > 60
    assert row.needed_unit == "requests tell"


def test_no_verdict_below_the_least_that_counts() -> None:
    """1 % slower, surely: the same within 5 %; a finer least makes it worse."""
    sides = [arm(run=0, noise=0.001)], [arm(run=1, noise=0.001, tpot_s=0.0202)]
    assert verdicts(compared(*sides))["tpot:p50"] == "same"
    assert verdicts(compared(*sides, Margins(least=0.005)))["tpot:p50"] == "worse"


def test_three_pairs_are_the_unit_where_there_are_three() -> None:
    """Repeats with the same seeds pair up, whatever their order; the noise between runs is then seen, not assumed."""
    found = compared(repeats(4), list(reversed(repeats(4, run=1))), run_noise=0.5)
    assert (found.unit, found.paired, found.assumed) == ("pairs", True, None)
    assert verdicts(found)["tpot:p50"] == "same"
    assert compared(repeats(4), repeats(4, run=1, tpot_s=0.023)).unit == "pairs"


def test_runs_of_other_seeds_are_not_paired() -> None:
    """Three runs each of different draws: Welch's t over runs."""
    other = [arm(seed=seed, run=1) for seed in (11, 12, 13)]
    found = compared(repeats(3), other)
    assert (found.unit, found.paired) == ("runs", False)


def test_a_closed_loop_is_not_paired() -> None:
    """Its requests are sent when the server allows: the same rows do not come at the same times."""
    closed = [replace(each, closed=True) for each in (arm(run=0), arm(run=1))]
    assert not compared(closed[:1], closed[1:]).paired


def test_the_rates_of_a_pair_in_an_open_loop_are_left_out() -> None:
    """The plan decides them; unpaired runs show them."""
    keys = verdicts(compared([arm(run=0)], [arm(run=1)]))
    assert "output_tokens" not in keys
    unpaired = verdicts(compared([arm(run=0)], [arm(run=1, seed=5)]))
    assert "output_tokens" in unpaired


def test_another_tools_run_is_compared_from_the_send() -> None:
    """It has no schedule: TTFT and E2E from the send on both sides."""
    foreign = arm(run=1, digest=None)
    seconds = {key: foreign.requests.seconds[key] for key in ("ttft_sent", "tpot", "e2e_sent")}
    foreign = replace(foreign, requests=replace(foreign.requests, seconds=seconds))
    keys = set(verdicts(compared([arm(run=0)], [foreign])))
    assert {"ttft_sent:p90", "e2e_sent:p50", "tpot:p50"} <= keys
    assert "ttft:p90" not in keys


def test_each_class_has_its_rows() -> None:
    """And the total."""
    found = compared([arm(classes=("chat", "code"))], [arm(classes=("chat", "code"), run=1)])
    assert {row.contrast.of_class for row in found.rows} == {"all", "chat", "code"}


def test_a_miss_or_two_give_an_interval_that_is_not_empty() -> None:
    """No miss in 1,000 requests on either side: equal attainments, and still some doubt."""
    found = compared([arm(good=1.0)], [arm(good=1.0, run=1)])
    row = next(row for row in found.rows if row.contrast.key == "attainment")
    assert row.contrast.change.low < 0 < row.contrast.change.high


@settings(max_examples=25)
@given(seed=st.integers(1, 10**6), slower=st.floats(0.8, 1.25), noise=st.floats(0.001, 0.2))
def test_both_ways_round_say_the_same(seed: int, slower: float, noise: float) -> None:
    """BASE and NEW swapped: ratios inverted, intervals mirrored, better for worse."""
    a = arm(seed=seed, noise=noise, n=300)
    b = arm(seed=seed, noise=noise, n=300, run=1, tpot_s=0.02 * slower)
    one, other = compared([a], [b], run_noise=0.01), compared([b], [a], run_noise=0.01)
    turned = {"better": "worse", "worse": "better", "same": "same", "cannot tell": "cannot tell"}
    for left, right in zip(one.rows, other.rows, strict=True):
        assert left.contrast.change.value == pytest.approx(-right.contrast.change.value, abs=1e-12)
        assert left.contrast.change.low == pytest.approx(-right.contrast.change.high, abs=1e-9)
        assert left.p == pytest.approx(right.p, abs=1e-9)
        assert left.verdict == turned[right.verdict]


@pytest.mark.parametrize("seed", range(5))
def test_all_rows_share_the_error(seed: int) -> None:
    """Twenty comparisons of one server with itself, nothing assumed and nothing between runs: no false verdict here."""
    base = arm(seed=seed + 1)
    news = [[arm(seed=seed + 1, run=run)] for run in range(1, 5)]
    found = compare([base], news, Margins(), run_noise=0.0)
    assert not any(row.verdict in {"worse", "better"} for each in found for row in each.rows)


def test_margins_of_single_metrics_hold() -> None:
    """The same within 20 % where 20 % is allowed for it, with noise that 5 % could not rule out."""
    margins = Margins(metrics={"ttft:p90": parse_margin("20%")})
    sides = [arm(n=600, noise=0.1)], [arm(n=600, noise=0.1, run=1)]
    assert verdicts(compared(*sides))["ttft:p90"] == "cannot tell"
    assert verdicts(compared(*sides, margins))["ttft:p90"] == "same"


def test_what_forbids_a_comparison_is_named() -> None:
    """Plan, workload, SLO, kind of target, an invalid run: each with both values."""
    base = [arm().identity]
    assert differences(base, [arm(run=1).identity]) == ()
    assert "seeds 1 and 2" in differences(base, [arm(seed=2).identity])[0]
    rate = {"name": "chat", "classes": {"chat": {"arrivals": {"process": "poisson", "rate": 12}}}}
    other = differences(base, [arm(digest="else", workload=rate).identity])
    assert other == ("workload classes.chat.arrivals.rate: 10 and 12",)
    assert differences(base, [arm(slo=("ttft<1s",)).identity]) == ("SLO: ttft<500ms and ttft<1s",)
    assert differences(base, [arm(manner={"target": "vllm", "API": "completions"}).identity]) == (
        "target: sim and vllm",
    )
    invalid = arm(valid=False, verdict="INVALID: V01 late").identity
    assert differences(base, [invalid])[0] == "run-1-0 is INVALID: V01 late"


def test_repeats_are_compared_by_their_sets_of_plans() -> None:
    """Ten against the first four of them: comparable; against others: not."""
    ten = [each.identity for each in repeats(10)]
    assert differences(ten, [each.identity for each in repeats(4, run=1)]) == ()
    assert differences(ten[:4], [each.identity for each in repeats(5)][4:]) != ()


def test_settings_that_differ_are_listed() -> None:
    """With both values, also where one side has none."""
    base, new = arm(settings={"a": "1", "b": "2"}).identity, arm(settings={"a": "1", "b": "3", "c": "4"}).identity
    assert changed(base, new) == (("b", "2", "3"), ("c", "–", "4"))


def test_an_empty_window_leaves_the_row_out() -> None:
    """Requests in half of the run only: no interval could be honest."""
    base = arm()
    early = base.requests.take(np.asarray(base.requests.at_s < 30.0))
    found = compared([replace(base, requests=early)], [arm(run=1)])
    assert "ttft:p90" not in verdicts(found)
