"""Plan segments: one clock over all of them, what is conditioned and what is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.config.arrivals import Burst, Constant, Gamma, Hawkes, OnOff, Poisson, Varying
from slobench.config.lengths import LognormalLength
from slobench.config.workload import RequestClass, Workload
from slobench.errors import ConfigError
from slobench.segments import Start, build_segment, shares


def workload(**arrivals) -> Workload:
    lengths = {
        "input_tokens": LognormalLength(mean=512, sigma=0.9, min=8, max=8000),
        "output_tokens": LognormalLength(mean=220, sigma=0.8, min=1, max=2000),
    }
    classes = {name: RequestClass(arrivals=process, **lengths) for name, process in arrivals.items()}
    return Workload(name="w", classes=classes, requests=1)


HAWKES = Hawkes(rate=1, branching=0.5, decay=1)
ON_OFF = OnOff(on_rate=4, mean_on="3s", mean_off="9s")
TWO = workload(a=Poisson(rate=3), b=Poisson(rate=1))


@settings(max_examples=20)
@given(
    process=st.sampled_from([Poisson(rate=1), Gamma(rate=1, cv=2), Constant(rate=1), HAWKES, ON_OFF]),
    vr=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_segments_go_on_where_the_last_one_ended(process, *, vr: bool, seed: int) -> None:
    """Indices count on, times never go back, and the next segment begins at or after the last arrival."""
    one = workload(only=process)
    first = build_segment(one, rate=20, n=300, settle=40, seed=seed, vr=vr, start=Start())
    second = build_segment(one, rate=25, n=200, settle=0, seed=seed + 1, vr=vr, start=first.next)
    assert len(first.plan) == 340
    assert len(second.plan) == 200
    assert np.array_equal(np.concatenate([first.plan.index, second.plan.index]), np.arange(540))
    due = np.concatenate([first.plan.scheduled_ns, second.plan.scheduled_ns])
    assert np.all(np.diff(due) >= 0)
    assert due[0] > 0
    assert first.next.index == 340
    assert first.plan.scheduled_ns[-1] <= first.next.at_ns <= second.plan.scheduled_ns[0]


def test_the_gap_over_a_joint_is_one_of_the_process() -> None:
    """Evenly spaced arrivals stay evenly spaced across segments."""
    one = workload(only=Constant(rate=1))
    first = build_segment(one, rate=20, n=10, settle=5, seed=0, vr=False, start=Start())
    second = build_segment(one, rate=20, n=10, settle=0, seed=1, vr=False, start=first.next)
    due = np.concatenate([first.plan.scheduled_ns, second.plan.scheduled_ns])
    assert set(np.diff(due)) == {50_000_000}


def test_poisson_gaps_over_joints_are_exponential() -> None:
    """The first gap of plain and of conditioned segments has the mean of all others."""
    for vr in (False, True):
        start, firsts = Start(), []
        for seed in range(500):
            segment = build_segment(TWO, rate=10, n=20, settle=0, seed=seed, vr=vr, start=start)
            firsts.append((segment.plan.scheduled_ns[0] - start.at_ns) / 1e9)
            start = segment.next
        # a uniform's minimum of 20 in 2 s: mean 2/21; an exponential gap: 1/10. sd of a mean of 500: about 4.5 %
        assert np.mean(firsts) == pytest.approx(2 / 21 if vr else 0.1, rel=4 * 0.0448)


def test_variance_reduction_fixes_counts_and_lengths() -> None:
    """n requests take n / rate seconds, each class has its share, lengths are spread as the distribution is."""
    segment = build_segment(TWO, rate=20, n=1000, settle=100, seed=3, vr=True, start=Start())
    plan = segment.plan.take(segment.plan.index >= segment.settle)
    began = segment.next.at_ns - 1000 * 50_000_000
    assert np.all(plan.scheduled_ns >= began)
    assert np.all(plan.scheduled_ns < segment.next.at_ns)
    assert np.bincount(plan.class_code).tolist() == [750, 250]
    plain = build_segment(TWO, rate=20, n=1000, settle=100, seed=3, vr=False, start=Start()).plan
    rows = plan.class_code == 0
    quarter = np.searchsorted(np.sort(plan.output_tokens[rows]), np.median(plan.output_tokens[rows]))
    assert quarter == pytest.approx(375, abs=12)
    assert plain.digest != segment.plan.digest


def test_variance_reduction_leaves_other_processes_alone() -> None:
    """Gamma arrivals keep their gaps: conditioning them on their number would make another process."""
    one = workload(only=Gamma(rate=1, cv=2))
    with_vr = build_segment(one, rate=20, n=500, settle=50, seed=4, vr=True, start=Start()).plan
    without = build_segment(one, rate=20, n=500, settle=50, seed=4, vr=False, start=Start()).plan
    assert np.array_equal(with_vr.scheduled_ns, without.scheduled_ns)
    assert not np.array_equal(with_vr.output_tokens, without.output_tokens)


def test_conditioned_arrivals_are_as_random_as_poisson_within_the_segment() -> None:
    """Counts in tenths of a segment vary as a multinomial's do, not less."""
    counted = []
    for seed in range(150):
        plan = build_segment(TWO, rate=20, n=1000, settle=0, seed=seed, vr=True, start=Start()).plan
        counted.append(np.bincount((plan.scheduled_ns // 5_000_000_000).astype(int), minlength=10)[:10])
    ratio = np.var(counted, axis=0, ddof=1).mean() / (1000 * 0.1 * 0.9)
    assert ratio == pytest.approx(1, abs=5 * np.sqrt(2 / (149 * 9)))  # chi-square with 149·9 degrees of freedom


def test_classes_keep_their_proportions() -> None:
    """A total rate is split as the nominal rates are."""
    assert shares(TWO) == {"a": 0.75, "b": 0.25}
    plan = build_segment(TWO, rate=40, n=20_000, settle=0, seed=5, vr=False, start=Start()).plan
    assert np.mean(plan.class_code == 1) == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / 20_000))
    assert (len(plan) - 1) / plan.scheduled_ns[-1] * 1e9 == pytest.approx(40, rel=5 / np.sqrt(20_000))


def test_a_bursty_process_keeps_its_mean_rate_and_its_times() -> None:
    """On-off arrivals at a total rate: that rate over many rounds, bursts as long as ever, and as dense as it takes."""
    rounds, rate = 2000, 8.0
    plan = build_segment(workload(only=ON_OFF), rate=rate, n=rounds * 96, settle=0, seed=5, vr=True, start=Start()).plan
    due_s = plan.scheduled_ns / 1e9
    # Of each round's 96 arrivals the variance is 2 · 96² and more: relative error of the sum √(2/rounds) and a tenth.
    assert len(plan) / due_s[-1] == pytest.approx(rate, rel=6 * 1.1 * np.sqrt(2 / rounds))
    silence = np.diff(due_s)[np.diff(due_s) > 0.5]  # 16 gaps of while on: e^-16 of those within a burst
    assert silence.mean() - 0.5 == pytest.approx(9, rel=6 / np.sqrt(len(silence)) + 0.01)


def test_a_load_that_is_meant_to_change_is_refused() -> None:
    """There is no level of a ramp to be found; the message names the class and what could be held."""
    ramp = Varying.model_validate({"rate": {"shape": "ramp", "from": 1, "to": 9, "over": "60s"}})
    with pytest.raises(ConfigError, match="class b has a load that is meant to change") as caught:
        shares(workload(a=Poisson(rate=1), b=ramp))
    assert "hawkes" in str(caught.value)


@pytest.mark.parametrize("vr", [False, True])
def test_recorded_pairs_of_lengths_stay_pairs(vr: bool) -> None:  # noqa: FBT001 (as pytest gives it)
    """An output from a list of pairs is that of its own input, in the requests that count and before them."""
    pairs = {100: 7, 200: 900, 300: 50}
    spec = RequestClass.model_validate(
        {
            "arrivals": {"process": "poisson", "rate": 1},
            "input_tokens": {"dist": "empirical", "values": list(pairs)},
            "output_tokens": {"dist": "paired", "values": list(pairs.values())},
        }
    )
    one = Workload(name="w", classes={"a": spec}, requests=1)
    plan = build_segment(one, rate=20, n=300, settle=60, seed=3, vr=vr, start=Start()).plan
    assert [pairs[each] for each in plan.input_tokens.tolist()] == plan.output_tokens.tolist()
    assert set(plan.input_tokens.tolist()) == set(pairs)


def test_a_burst_has_no_rate() -> None:
    """What has no rate is refused."""
    with pytest.raises(ConfigError, match="no arrival rate"):
        build_segment(workload(only=Burst()), rate=1, n=1, settle=0, seed=0, vr=False, start=Start())
