"""A stored baseline: what it decides, what it keeps in a file, how small that file stays."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.config.margins import Margins
from slobench.errors import ConfigError
from slobench.metrics.gate import terms_of
from slobench.metrics.past import KEPT, MOST_RUNS, Baseline, Past, added, of_json, past_of, to_json
from slobench.metrics.stored import FEWEST, judge_stored
from tests.metrics.arms import BASE_S, arm
from tests.stats.binomial import most

TERMS = terms_of(Margins())


def past(run: int, effect: float = 0.0, sd: float = 0.005, share: float = 0.99, **identity: object) -> Past:
    """One earlier run, drawn around BASE_S."""
    rng = np.random.default_rng(run)
    logs = {key: math.log(value) + effect + rng.normal(0, sd) for key, value in BASE_S.items()}
    made = replace(arm().identity, name=f"run-{run}", **identity)
    return Past(made, {"all": logs}, {"all": share + rng.normal(0, 1e-4)}, 700)


EARLIER = [past(run) for run in range(1, 11)]


def test_seven_runs_decide_nothing() -> None:
    """And say how many are missing."""
    judged = judge_stored(EARLIER[: FEWEST - 1], [past(20)], TERMS)
    assert judged.decision == "INCONCLUSIVE"
    assert judged.reasons == ("7 earlier valid runs of this plan: 1 more are needed",)


def test_the_same_passes_and_worse_fails() -> None:
    """Within the noise: PASS; 10 % worse: FAIL with the metric."""
    assert judge_stored(EARLIER, [past(20)], TERMS).decision == "PASS"
    judged = judge_stored(EARLIER, [past(20, effect=math.log(1.1))], TERMS)
    assert judged.decision == "FAIL"
    assert any(reason.startswith("tpot:p50 of all is ") for reason in judged.reasons)


def test_a_noisy_baseline_rules_nothing_out() -> None:
    """10 % from run to run: neither."""
    noisy = [past(run, sd=0.1) for run in range(1, 11)]
    assert judge_stored(noisy, [past(20, sd=0.1)], TERMS).decision == "INCONCLUSIVE"


def test_several_new_runs_narrow_the_bound() -> None:
    """Four new runs: the error is sd times the root of 1/10 + 1/4."""
    one = judge_stored(EARLIER, [past(20)], TERMS).tests[0]
    four = judge_stored(EARLIER, [past(20 + k) for k in range(4)], TERMS).tests[0]
    assert math.log(four.high / four.low) < math.log(one.high / one.low)


def test_a_drop_of_attainment_fails() -> None:
    """Five points."""
    judged = judge_stored(EARLIER, [past(20, share=0.94)], TERMS)
    assert judged.decision == "FAIL"
    assert judged.attainment[0].failed


def test_a_server_that_breaks_anew_fails() -> None:
    """Overloaded now, and never before; where most earlier runs were, it is no news."""
    broken = frozenset({"V07"})
    assert judge_stored(EARLIER, [past(20, server=broken)], TERMS).decision == "FAIL"
    before = [past(run, server=broken) for run in range(1, 11)]
    assert judge_stored(before, [past(20, server=broken)], TERMS).decision == "PASS"


def test_a_run_like_the_others_hardly_ever_fails() -> None:
    """1,000 gates of 8 earlier runs against a ninth: at most 1 % fail, but for one case in a thousand."""
    runs = 1000
    failed = 0
    for k in range(runs):
        earlier = [past(100 * k + run, sd=0.02) for run in range(FEWEST)]
        failed += judge_stored(earlier, [past(100 * k + 50, sd=0.02)], TERMS).decision == "FAIL"
    assert failed <= most(runs, 0.01)


def test_a_baseline_is_read_back_as_it_was_written() -> None:
    """Runs, attainment and sketches, through JSON; six digits of each time."""
    baseline = added(None, [arm(run=run, classes=("chat", "code")) for run in range(3)])
    again = of_json(orjson.loads(orjson.dumps(to_json(baseline))), "x.json")
    assert again.sketches == baseline.sketches
    for one, other in zip(again.runs, baseline.runs, strict=True):
        assert one.identity.name == other.identity.name
        assert one.attainment == other.attainment
        for name, logs in other.logs.items():
            assert one.logs[name] == pytest.approx(logs, abs=1e-5)


def test_a_run_is_not_added_twice() -> None:
    """By name and start."""
    baseline = added(None, [arm()])
    assert len(added(baseline, [arm(), arm(run=1)]).runs) == 2


def test_the_sketch_holds_the_percentiles_of_all_runs_to_one_per_cent() -> None:
    """Pooled over three runs."""
    arms = [arm(run=run) for run in range(3)]
    sketch = added(None, arms).sketches["all"]["ttft"]
    values = np.concatenate([each.requests.seconds["ttft"] for each in arms])
    for q in (0.5, 0.9, 0.99):
        assert sketch.quantile(q) == pytest.approx(float(np.quantile(values, q, method="inverted_cdf")), rel=0.0101)


def test_fifty_runs_of_four_classes_stay_below_200_kb() -> None:
    """The size that a file in git may have."""
    arms = [arm(run=run, classes=("a", "b", "c", "d"), spread=1.5) for run in range(MOST_RUNS + 5)]
    baseline = added(None, arms)
    assert len(baseline.runs) == MOST_RUNS
    assert baseline.runs[-1].identity.name == arms[-1].identity.name
    assert len(orjson.dumps(to_json(baseline))) < 200_000


@pytest.mark.parametrize(
    "change", [{"kind": "other"}, {"schema": 2}, {"runs": [{}]}, {"sketches": {"all": {"ttft": {}}}}]
)
def test_what_is_no_baseline_is_refused(change: dict[str, object]) -> None:
    """Another kind, a later version, damage."""
    data = {**to_json(added(None, [arm()])), **change}
    with pytest.raises(ConfigError):
        of_json(data, "x.json")


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_what_is_kept_is_what_the_run_says(seed: int) -> None:
    """Each kept statistic is that of the requests."""
    one = arm(seed=seed, n=200)
    kept = past_of(one).logs["all"]
    for each in KEPT:
        values = one.requests.seconds[each.metric]
        want = values.mean() if each.q is None else np.quantile(values, each.q, method="inverted_cdf")
        assert math.exp(kept[each.key]) == pytest.approx(float(want))


def test_an_empty_baseline_decides_nothing() -> None:
    """No earlier run at all."""
    assert judge_stored(Baseline(()).runs, [past(1)], TERMS).decision == "INCONCLUSIVE"
