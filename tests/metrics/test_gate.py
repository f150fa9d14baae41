"""The gate's verdict on pairs: what fails, what passes, what stays open, what does not count."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.config.margins import Margins, parse_margin
from slobench.errors import ConfigError
from slobench.metrics.gate import Pair, judge_pairs, looks_of, pair_of, sizes_of, terms_of
from slobench.metrics.quantities import quantity
from slobench.stats.looks import LOOKS
from tests.metrics.arms import arm, pairs

TERMS = terms_of(Margins())


def decision(found: list[Pair], terms=TERMS) -> str | None:
    return judge_pairs(found, terms).decision


def test_nothing_is_decided_before_the_first_look() -> None:
    """Three pairs give no verdict, and say when the next look is."""
    judged = judge_pairs(pairs(3), TERMS)
    assert (judged.decision, judged.pairs, judged.next_look) == (None, 3, 4)


def test_the_same_passes_and_ten_per_cent_worse_fails() -> None:
    """At the first look, with the metric and its size in the reason."""
    assert decision(pairs(4)) == "PASS"
    judged = judge_pairs(pairs(4, {"tpot:p99": math.log(1.1)}), TERMS)
    assert judged.decision == "FAIL"
    assert judged.reasons == (f"tpot:p99 of all is {(judged.tests[1].ratio - 1) * 100:.2g} % worse",)
    assert judged.tests[1].ratio == pytest.approx(1.1, rel=0.02)


def test_what_is_sure_but_small_does_not_fail() -> None:
    """1 % worse, known to 0.05 %: significant, below the least, and within the margin."""
    judged = judge_pairs(pairs(4, {"tpot:p50": 0.01}, sd=0.0005), TERMS)
    assert judged.decision == "PASS"
    assert judged.tests[0].p < 0.002


def test_noise_that_hides_the_margin_is_inconclusive_with_the_pairs_it_takes() -> None:
    """20 % a pair: after ten pairs no verdict, and a number of pairs for each open metric."""
    judged = judge_pairs(pairs(10, sd=0.2), TERMS)
    assert judged.decision == "INCONCLUSIVE"
    assert judged.reasons
    assert all("would see 5 %" in reason for reason in judged.reasons)


def test_the_first_decision_stands() -> None:
    """What comes after a look that decided changes nothing."""
    early = pairs(4)
    later = [replace(pair, number=pair.number + 4) for pair in pairs(6, {"tpot:p50": 1.0}, seed=2)]
    assert judge_pairs([*early, *later], TERMS) == judge_pairs(early, TERMS)


def test_pairs_between_looks_count_nowhere() -> None:
    """Five or six pairs are judged as the first four."""
    noisy = pairs(7, sd=0.1)
    assert judge_pairs(noisy[:5], TERMS).tests == judge_pairs(noisy[:4], TERMS).tests


def test_void_pairs_do_not_count() -> None:
    """A pair that the instrument spoiled is left out and named."""
    found = pairs(5)
    found[1] = replace(found[1], void="new: INVALID: V01", new={"all": dict.fromkeys(found[1].new["all"], 9.0)})
    judged = judge_pairs(found, TERMS)
    assert judged.decision == "PASS"
    assert judged.pairs == 4
    assert judged.void == ("pair 2: new: INVALID: V01",)


def test_what_only_the_new_server_shows_fails_at_once() -> None:
    """Overload, errors or a restart of NEW alone: no look is needed."""
    found = pairs(2)
    found[1] = replace(found[1], server="V10 in pair 2")
    judged = judge_pairs(found, TERMS)
    assert judged.decision == "FAIL"
    assert "V10 in pair 2" in judged.reasons[0]


def attained(base: list[float], new: list[float]) -> list[Pair]:
    found = pairs(len(base))
    return [
        replace(pair, attainment={"all": both}) for pair, both in zip(found, zip(base, new, strict=True), strict=True)
    ]


def test_a_drop_of_attainment_fails_from_one_point_on() -> None:
    """Two points surely: FAIL. Half a point surely: no. Two points in doubt: no."""
    assert decision(attained([0.99] * 4, [0.970, 0.971, 0.969, 0.970])) == "FAIL"
    assert decision(attained([0.99] * 4, [0.985, 0.9851, 0.9849, 0.985])) == "PASS"
    assert decision(attained([0.99] * 4, [0.99, 0.99, 0.92, 0.98])) == "PASS"


def test_a_metric_that_is_missing_in_some_run_never_passes() -> None:
    """TTFT p90 was not seen once: what is left may fail, but not pass."""
    found = pairs(10)
    new = {key: value for key, value in found[2].new["all"].items() if key != "ttft:p90"}
    found[2] = replace(found[2], new={"all": new})
    judged = judge_pairs(found, TERMS)
    assert judged.decision == "INCONCLUSIVE"
    assert judged.reasons[0] == "all ttft:p90: not seen in every run"
    worse = [replace(p, new={"all": {**p.new["all"], "tpot:p50": p.new["all"]["tpot:p50"] + 0.1}}) for p in found]
    assert decision(worse) == "FAIL"


def test_an_absolute_margin_lets_small_times_grow() -> None:
    """TPOT p50 of 20 ms and 8 % more: a failure at 5 %, none where 10 ms more are allowed."""
    found = pairs(10, {"tpot:p50": math.log(1.08)})
    assert decision(found) == "FAIL"
    lenient = terms_of(Margins(metrics={"tpot:p50": parse_margin("5% or 10ms")}))
    assert decision(found, lenient) == "PASS"
    assert decision(pairs(10, {"tpot:p50": math.log(1.3)}), lenient) == "FAIL"


@given(base_s=st.floats(1e-4, 10), absolute_ms=st.floats(0.1, 1000), relative=st.floats(0.5, 50))
def test_the_margin_is_the_larger_of_the_two(base_s: float, absolute_ms: float, relative: float) -> None:
    """And the least that fails never exceeds it."""
    terms = terms_of(Margins(margin=parse_margin(f"{relative:.6f}% or {absolute_ms:.3f}ms")))
    margin, least = sizes_of(terms, "ttft:p90", base_s)
    allowed = max(terms.margins.margin.relative, terms.margins.margin.absolute_s / base_s)
    assert margin == pytest.approx(math.log1p(allowed))
    assert 0 < least <= margin + 1e-12


@settings(max_examples=50)
@given(factor=st.floats(0.01, 100), seed=st.integers(0, 2**31), effect=st.floats(-0.2, 0.2), sd=st.floats(1e-4, 0.2))
def test_only_ratios_matter(factor: float, seed: int, effect: float, sd: float) -> None:
    """A clock that runs `factor` times as fast gives the same verdict."""
    found = pairs(10, {"tpot:p50": effect}, sd=sd, seed=seed)

    def faster(pair: Pair) -> Pair:
        return replace(
            pair,
            base={"all": {key: value + math.log(factor) for key, value in pair.base["all"].items()}},
            new={"all": {key: value + math.log(factor) for key, value in pair.new["all"].items()}},
        )

    one, other = judge_pairs(found, TERMS), judge_pairs([faster(pair) for pair in found], TERMS)
    assert one.decision == other.decision
    assert [test.outcome for test in one.tests] == [test.outcome for test in other.tests]


def test_classes_decide_only_where_that_is_asked() -> None:
    """A class that is 10 % worse fails with per_class, and is shown without."""

    def with_class(pair: Pair, effect: float) -> Pair:
        slow = {key: value + effect for key, value in pair.new["all"].items()}
        return replace(pair, base={**pair.base, "code": pair.base["all"]}, new={**pair.new, "code": slow})

    found = [with_class(pair, math.log(1.1)) for pair in pairs(4)]
    judged = judge_pairs(found, TERMS)
    assert judged.decision == "PASS"
    assert {test.outcome for test in judged.tests if test.of_class == "code" and not test.decides} == {"worse"}
    assert decision(found, terms_of(Margins(per_class=True))) == "FAIL"


def test_better_is_said_and_passes() -> None:
    """10 % faster in one metric."""
    judged = judge_pairs(pairs(4, {"tpot:p50": -math.log(1.1)}), TERMS)
    assert judged.decision == "PASS"
    assert judged.tests[0].outcome == "better"


def test_more_pairs_move_the_looks_and_keep_the_error() -> None:
    """40, 70 and 100 % of the pairs; the shares of alpha stay."""
    assert looks_of(10) == LOOKS
    for most in (4, 5, 7, 15, 40, 1000):
        looks = looks_of(most)
        assert [look.alpha for look in looks] == [look.alpha for look in LOOKS]
        assert looks[-1].pairs == most
        assert 2 <= looks[0].pairs <= looks[1].pairs <= looks[2].pairs


def test_the_family_follows_the_margins() -> None:
    """A metric with a margin of its own joins; without streaming it is E2E; an unknown one is an error."""
    assert [each.key for each in terms_of(Margins()).family] == ["tpot:p50", "tpot:p99", "ttft:p90"]
    joined = terms_of(Margins(metrics={"e2e:p95": parse_margin("10%")}))
    assert [each.key for each in joined.family] == ["tpot:p50", "tpot:p99", "ttft:p90", "e2e:p95"]
    assert [each.key for each in terms_of(Margins(), streamed=False).family] == ["e2e:p50", "e2e:p90"]
    with pytest.raises(ConfigError, match="cannot read metric"):
        terms_of(Margins(family=("latency",)))


@pytest.mark.parametrize("text", ["ttft:p0", "ttft:p100", "ttft:pnan", "speed:p50", "ttft", "ttft:p", "ttft:50"])
def test_metrics_that_do_not_exist_are_refused(text: str) -> None:
    """What is no quantile in (0, 100) of a known metric."""
    with pytest.raises(ConfigError):
        quantity(text)


def test_a_pair_is_measured_on_the_requests_in_both_windows() -> None:
    """Rows that only one window holds count on neither side."""
    base, new = arm(run=0), arm(run=1)
    late = replace(new, requests=new.requests.take(new.requests.at_s > 30.0))
    pair = pair_of(1, base, late, TERMS)
    other = pair_of(1, replace(base, requests=base.requests.take(base.requests.at_s > 30.0)), late, TERMS)
    assert pair == other
    assert pair.void == ""


def test_an_invalid_arm_voids_its_pair() -> None:
    """With the verdict of the arm."""
    pair = pair_of(3, arm(), arm(run=1, valid=False, verdict="INVALID: V01"), TERMS)
    assert pair.void == "new: INVALID: V01"


def test_findings_of_both_servers_are_no_failure_of_one() -> None:
    """V07 in both arms says nothing of NEW; V10 in NEW alone does."""
    base = arm(server=frozenset({"V07"}))
    assert pair_of(1, base, arm(run=1, server=frozenset({"V07"})), TERMS).server == ""
    assert pair_of(1, base, arm(run=1, server=frozenset({"V07", "V10"})), TERMS).server == "V10 in pair 1"
