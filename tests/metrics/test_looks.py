"""A look at a run that is still going: what is settled, which objectives there are, when intervals are narrow enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from slobench.config.slo import parse_slo
from slobench.config.until import Decided, Precise, parse_precision
from slobench.metrics.ask import Ask
from slobench.metrics.looks import narrowness, objectives_of, settled, verdict
from slobench.metrics.stopped import marked, widened
from slobench.metrics.summary import Estimate
from slobench.stats.intervals import expit, logit
from tests.metrics.conftest import Run

SLO = parse_slo(("ttft<500ms", "attainment>=90%"))
RULE = Decided(batch="1s")


def test_only_what_came_before_the_first_open_request_is_settled(clean: Callable[..., Run]) -> None:
    """A slow reply holds back the quick ones behind it: to count those alone would be to leave out the slow."""
    run = clean()
    run["outcome"][500] = "lost"  # begun, no end yet
    run["outcome"][900:] = "unsent"
    found, until_s = settled(run.records(), 50.0)
    assert until_s == run["scheduled_ns"][500] / 1e9
    assert len(found.requests["index"]) == 500
    assert set(found.chunks["index"]) == set(range(500))


def test_what_no_file_can_show_yet_is_not_settled(clean: Callable[..., Run]) -> None:
    """Of a closed loop a start may not be on disk for two seconds."""
    run = clean()
    _, until_s = settled(run.records(), 30.0)
    assert until_s == 28.0


def test_every_objective_of_every_class_is_to_be_decided() -> None:
    """Common ones over all requests and in each class; a percentile limit is a share too."""
    slo = parse_slo(("attainment>=99%", "class=code ttft:p95<1s", "class=code error_rate<1%"), ("chat", "code"))
    asked = {each.text: each.bound for each in objectives_of(slo, ("chat", "code"))}
    assert asked == {
        "attainment>=99%": 0.99,
        "class=chat attainment>=99%": 0.99,
        "class=code attainment>=99%": 0.99,
        "class=code ttft:p95<1000ms": 0.95,
        "class=code error_rate<=1%": 0.99,
    }
    alone = parse_slo(("availability>=99.9%", "class=chat attainment>=90%"), ("chat",))
    assert [each.text for each in objectives_of(alone, ("chat",))] == ["availability>=99.9%", "attainment>=90%"]


@pytest.mark.parametrize("objective", ["attainment>=90%", "ttft:p90<500ms", "availability>=90%", "error_rate<10%"])
@pytest.mark.parametrize("broken", [False, True])
def test_each_kind_of_objective_is_decided(clean: Callable[..., Run], objective: str, *, broken: bool) -> None:
    """A clean run meets it; one whose replies fail misses it."""
    run = clean()
    if broken:
        run.fail(slice(0, None, 2), "http_error", status=500.0)
    slo = parse_slo(("ttft<500ms", objective))
    found = verdict(run.records(), slo, Ask(duration_s=60.0), RULE, ("chat",), {})
    assert found.decision == ("missed" if broken else "met")
    (size,) = found.sizes.values()
    # Batches of 10 x 0.12 s mean E2E = 1.2 s at 20/s, Poisson: within five standard deviations of 1200 arrivals.
    assert size == pytest.approx(24, rel=5 / np.sqrt(1200) + 0.05)


def test_one_missed_objective_misses_all_one_open_leaves_open(clean: Callable[..., Run]) -> None:
    """Met needs all of them."""
    run = clean()
    late = run["first_token_ns"][::7].copy() + 0.2e9
    run["first_token_ns"][::7] = late  # 14 % of the replies have a TTFT of 0.25 s
    ask = Ask(duration_s=60.0)

    def decided(*clauses: str) -> str | None:
        return verdict(run.records(), parse_slo(clauses), ask, RULE, ("chat",), {}).decision

    assert decided("ttft:p50<100ms", "ttft:p80<300ms") == "met"
    assert decided("ttft:p50<100ms", "ttft:p99<100ms") == "missed"
    assert decided("ttft:p50<100ms", "ttft:p86<100ms") is None


def test_sizes_of_batches_stay(clean: Callable[..., Run]) -> None:
    """A later look uses those of the first."""
    run = clean()
    found = verdict(run.records(), SLO, Ask(duration_s=60.0), RULE, ("chat",), {"attainment>=90%": 7})
    assert found.sizes == {"attainment>=90%": 7}


def test_too_few_replies_decide_nothing(clean: Callable[..., Run]) -> None:
    """Nineteen cannot set the length of a batch."""
    run = clean(duration=0.9)
    run.columns = {name: column[:19] for name, column in run.columns.items()}
    found = verdict(run.records(), SLO, Ask(duration_s=0.9), RULE, ("chat",), {})
    assert (found.decision, found.standings) == (None, {})


@pytest.mark.parametrize(("asked", "reached"), [("ttft:p50=1%,attainment=5%", True), ("ttft:p50=0.0001%", False)])
def test_intervals_are_measured_against_their_values(clean: Callable[..., Run], asked: str, *, reached: bool) -> None:
    """TTFT of 50 ms +- 1 ms: its median is known to 1 % soon, never to a millionth."""
    run = clean()
    rng = np.random.default_rng(1)
    run["first_token_ns"] = run["first_token_ns"] + rng.normal(0, 1e6, len(run["first_token_ns"]))
    rule = Precise(within=parse_precision(asked))
    found = narrowness(run.records(), SLO, Ask(duration_s=60.0), rule)
    assert found.long
    assert found.reached is reached
    ttft = next(each for each in found.widths if each.metric == "ttft:p50")
    assert ttft.seen.value == pytest.approx(0.05, abs=5e-4)
    assert ttft.half_width == pytest.approx((ttft.seen.high - ttft.seen.low) / 2 / ttft.seen.value)  # type: ignore[operator]


def test_a_short_window_is_never_precise(clean: Callable[..., Run]) -> None:
    """Under 30 mean E2E nothing is known of the dependence, however alike the replies are."""
    run = clean(rate=60.0, duration=3.0)
    rule = Precise(within={"e2e:p50": 0.5})
    found = narrowness(run.records(), SLO, Ask(duration_s=3.0), rule)
    assert (found.long, found.reached) == (False, False)
    assert found.widths[0].reached


def test_without_limits_attainment_is_not_asked(clean: Callable[..., Run]) -> None:
    """It is one of the metrics of `--until-precision 5%`, but no request could miss anything."""
    found = narrowness(clean().records(), parse_slo(()), Ask(duration_s=60.0), Precise(within=parse_precision("50%")))
    assert [each.metric for each in found.widths] == ["ttft:p90", "tpot:p50"]


def test_intervals_of_a_run_stopped_by_hand_say_so(clean: Callable[..., Run]) -> None:
    """Each one in every table, beside what else is to be said; a value without an interval has nothing to say."""
    run = clean()
    run["first_token_ns"][::20] += 0.6e9
    run.ask = replace(run.ask, stopped="stopped by hand")
    found = run.evaluate()
    for tables in (found.latency, found.latency_adjusted):
        for seen in (seen for table in tables["all"].values() for seen in table.values()):
            assert ("stopped by hand" in seen.note) is (seen.low is not None)
    result = found.results["all"]
    for seen in (result.attainment, *result.marginal.values(), *(each.seen for each in result.objectives)):
        assert "stopped by hand" in seen.note
    assert marked({"a": (Estimate(1.0),)}, "stopped when decided") == {"a": (Estimate(1.0),)}
    assert marked(Estimate(1.0, 0.5, 2.0), "") == Estimate(1.0, 0.5, 2.0)


def test_what_a_run_was_stopped_for_is_no_surer_than_its_widest_look(clean: Callable[..., Run]) -> None:
    """A look found +-20 % after 30 s, so 60 s are worth +-14 % however alike they look at the end; on the log scale.

    Only the metric that was looked at, and where the look was no wider nothing changes.
    """
    run = clean()
    rng = np.random.default_rng(1)
    run["first_token_ns"] = run["first_token_ns"] + rng.normal(0, 1e6, len(run["first_token_ns"]))
    narrow = run.evaluate().latency["chat"]["ttft"]
    run.ask = replace(run.ask, looked=(("ttft:p50", 0.2 * 30**0.5), ("ttft:p90", 1e-9)), stopped="stopped when precise")
    found = run.evaluate().latency
    assert found["all"] == found["chat"]
    seen, before = found["all"]["ttft"]["p50"], narrow["p50"]
    assert seen.value == before.value
    low, high = before.low, before.high
    assert low is not None
    assert high is not None
    factor = 0.2 * (30 / 60) ** 0.5 / ((high - low) / 2 / before.value)  # type: ignore[operator]
    assert factor > 2
    assert np.log(seen.high / seen.value) == pytest.approx(factor * np.log(high / before.value), rel=0.02)  # type: ignore[operator]
    assert np.log(seen.low / seen.value) == pytest.approx(factor * np.log(low / before.value), rel=0.02)  # type: ignore[operator]
    assert found["all"]["ttft"]["p90"].low == narrow["p90"].low
    assert found["all"]["ttft"]["p99"].low == narrow["p99"].low


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Estimate(0.9, 0.88, 0.92, n=1000), (expit(2 * logit(0.88) - logit(0.9)), expit(2 * logit(0.92) - logit(0.9)))),
        (Estimate(0.997, 0.98, 0.999, n=1000), (0.98, 0.999)),  # 3 misses: an exact interval
        (Estimate(1.0, 0.98, 1.0, n=1000), (0.98, 1.0)),
        (Estimate(0.9, 0.5, 0.99, n=1000), (0.5, 0.99)),  # wide enough already
        (Estimate(0.9, n=1000), (None, None)),
        (Estimate(None), (None, None)),
    ],
)
def test_a_share_is_widened_between_0_and_1(seen: Estimate, expected: tuple[float | None, float | None]) -> None:
    """On the logit scale, here by a factor of 2, and only where its interval is made on it."""
    found = widened(seen, 2 * 0.02 / 0.9 * 100**0.5, 100.0, share=True)
    assert (found.low, found.high) == pytest.approx(expected)
