"""A workload fitted to a trace: it is chosen, written, read back, drawn from, and what it loses is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.config.arrivals import Gamma, OnOff, Poisson, Varying
from slobench.config.lengths import ConstantLength, EmpiricalLength, LognormalLength, PairedLength
from slobench.config.load import load_workload
from slobench.errors import UsageError
from slobench.stats.held_out import choose, fit_model, lead
from slobench.stats.observed import observe
from slobench.stats.processes import GAMMA, HAWKES, MMPP, ON_OFF, POISSON, WEIBULL, AnyModel
from slobench.stats.processes import Varying as VaryingModel
from slobench.workload import fit_lengths as lengths_of
from slobench.workload.fit import TraceFit, distinct_times, fit_class, fit_trace, process_of, sample_of
from slobench.workload.fit_check import check_fit, lost
from slobench.workload.fit_file import to_yaml, workload_of
from slobench.workload.trace_facts import spearman
from slobench.workload.traces.read import read_trace
from slobench.workload.traces.schema import Trace, list_array, make_trace
from tests.stats.binomial import fewest
from tests.workload.processes import before, process

SHARED = Path(__file__).parents[2].parent / "shared" / "traces"
published = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/traces")
S = 10**9
BURSTY = {"process": "on-off", "on_rate": 8.0, "mean_on": "6s", "mean_off": "20s"}
fixed = settings(derandomize=True, deadline=None)


def bursty_trace(n: int | None = None, **more: Any) -> Trace:
    """On/off arrivals over 400 s with lognormal inputs and outputs of two kinds."""
    rng = np.random.default_rng(2)
    arrival = before(process(BURSTY), 400, 1)[:n]
    many = len(arrival)
    columns = {
        "arrival_ns": arrival,
        "input_tokens": np.clip(np.rint(rng.lognormal(6, 0.8, many)), 1, 3000).astype(np.int64),
        "output_tokens": np.where(rng.random(many) < 0.4, 400, rng.integers(20, 40, many)),
    }
    return make_trace(columns | more, format="test")


@pytest.fixture(scope="module")
def fitted() -> TraceFit:
    """The bursty trace, fitted once."""
    return fit_class(sample_of(bursty_trace(), 0), blocks=10)


def test_a_bursty_trace_is_on_and_off_and_gamma_loses(fitted: TraceFit) -> None:
    """The process chosen is on/off, or its like with two states; the lead over gamma is many standard errors."""
    gap = lead(fitted.arrivals, "gamma")
    assert fitted.process.process in {"on-off", "mmpp"}
    assert gap is not None
    assert gap[0] > 3 * gap[1]
    assert isinstance(fitted.input_tokens.spec, LognormalLength)
    assert fitted.input_tokens.spec.sigma == pytest.approx(0.8, rel=0.1)
    assert not fitted.paired


def test_the_workload_is_read_back_as_it_was_written(fitted: TraceFit, tmp_path: Path) -> None:
    """The YAML loads to the same value, lasts as long as the trace, and tells the fit's quality in `source`."""
    path = tmp_path / "like-it.yaml"
    workload = workload_of({"recorded": fitted}, "a trace/with spaces.csv")
    path.write_text(to_yaml(workload))
    assert load_workload(str(path)).value == workload
    assert workload.duration == round(fitted.sample.times[-1]) * S
    assert workload.name == "a-trace-with-spaces.csv"
    assert "held-out" in workload.source
    assert "null" not in path.read_text()


def test_what_is_drawn_from_the_workload_is_like_the_trace(fitted: TraceFit) -> None:
    """Rate, cv and quantiles of lengths are given back; every quantity is there with its range."""
    checks = {each.name: each for each in check_fit(fitted, 0)}
    for name in ("rate", "cv of gaps", "dispersion 10 s", "input p50", "input p99", "output mean"):
        assert checks[name].kept, name
        low, high = checks[name].low, checks[name].high
        assert low is not None
        assert high is not None
        assert low <= high


def test_a_wrong_process_is_seen_to_lose_the_bursts(fitted: TraceFit) -> None:
    """With Poisson arrivals of the same rate, cv and dispersion are not given back, and the rate is."""
    calm = Poisson(rate=len(fitted.sample.times) / float(fitted.sample.times[-1]))
    checks = {each.name: each for each in check_fit(replace(fitted, process=calm), 0)}
    assert checks["rate"].kept
    assert not checks["cv of gaps"].kept
    assert not checks["dispersion 10 s"].kept


def test_sharing_sessions_and_images_are_said_to_be_lost() -> None:
    """A trace with prefix blocks, turns and images has three lines, a plain one none."""
    n = 3
    rich = make_trace(
        {
            "arrival_ns": np.arange(n) * S,
            "input_tokens": np.full(n, 8),
            "output_tokens": np.full(n, 1),
            "session": np.array([0, 0, 1]),
            "images": np.array([1, 0, 0]),
            "blocks": list_array(np.array([0, 2, 4, 6]), np.array([1, 2, 1, 2, 1, 9])),
        },
        format="test",
        block_tokens=4,
    )
    assert [line.partition(":")[0] for line in lost(rich)] == ["sharing", "sessions", "images"]
    assert lost(bursty_trace()) == []


ROUND_TRIP: list[tuple[AnyModel, dict[str, Any], float]] = [
    (POISSON, {"process": "poisson", "rate": 4.0}, 300),
    (GAMMA, {"process": "gamma", "rate": 4.0, "cv": 2.0}, 300),
    (WEIBULL, {"process": "weibull", "rate": 4.0, "cv": 1.5}, 300),
    (HAWKES, {"process": "hawkes", "rate": 4.0, "branching": 0.5, "decay": 1.0}, 400),
    (MMPP, {"process": "mmpp", "rates": [9.0, 1.0], "mean_stay": ["5s", "10s"]}, 500),
    (ON_OFF,
     {"process": "on-off", "on_rate": 9.0, "on_cv": 1.5, "mean_on": "5s", "mean_off": "10s", "off_cv": 0.8}, 900),
    (VaryingModel(3, gamma=True),
     {"process": "varying", "cv": 1.4, "rate": {"shape": "points", "points": [["0s", 4], ["300s", 8], ["600s", 4]]}}, 600),
]  # fmt: skip


def refitted(model: AnyModel, spec: dict[str, Any], span_s: float, seed: int) -> tuple[int, int]:
    """Fit a record, draw from the fit, fit that; how many of the second intervals hold the first values, of how many."""
    first = fit_model(model, observe(distinct_times(before(process(spec), span_s, seed), 1, seed), 12))
    again = before(process_of(first, span_s), span_s, seed + 1)
    second = fit_model(model, observe(distinct_times(again, 1, seed), 12))
    held = [
        each.low is None or each.high is None or each.low <= was.value <= each.high
        for was, each in zip(first.parameters, second.parameters, strict=True)
    ]
    return sum(held), len(held)


@pytest.mark.parametrize(("model", "spec", "span_s"), ROUND_TRIP, ids=lambda each: getattr(each, "name", ""))
def test_fit_sample_fit_stays_within_the_intervals(model: AnyModel, spec: dict[str, Any], span_s: float) -> None:
    """Two records each: of the parameters that made the second sample, at most a fifth lie outside of its intervals."""
    counted = [refitted(model, spec, span_s, seed) for seed in (10, 20)]
    held, of = (sum(each) for each in zip(*counted, strict=True))
    assert held >= 0.8 * of


@published
@pytest.mark.long
def test_azure_code_comes_back_from_what_was_fitted_to_it() -> None:
    """On/off is chosen of seven samples of its fit too; of the parameters as many intervals hold as 95 % would give."""
    trace = read_trace(SHARED / "azure_llm_2023/AzureLLMInferenceTrace_code.csv")
    first = choose(sample_of(trace, 0).times)
    span_s = float(trace.numbers("arrival_ns")[-1]) / S
    made, held, of = process_of(first.chosen, span_s), 0, 0
    for seed in range(1, 8):
        again = choose(distinct_times(before(made, span_s, seed), 1, seed))
        assert again.chosen.model.name == "on/off"
        for was, each in zip(first.chosen.parameters, again.chosen.parameters, strict=True):
            if each.low is not None and each.high is not None:
                held, of = held + (each.low <= was.value <= each.high), of + 1
    assert held >= fewest(of, 0.95, 1e-3)


def test_process_of_words_every_parameter() -> None:
    """A model's parameters stand in the process that is made of it, times as durations."""
    times = distinct_times(before(process(BURSTY), 300, 3), 1, 3)
    seen = observe(times, 10)
    on_off = fit_model(ON_OFF, seen)
    made = process_of(on_off, float(times[-1]))
    values = {each.name: each.value for each in on_off.parameters}
    assert isinstance(made, OnOff)
    assert (made.on_rate, made.on_cv) == pytest.approx((values["on_rate"], values["on_cv"]), rel=1e-5)
    assert made.mean_off / S == pytest.approx(values["mean_off"], abs=1e-3)
    varying = process_of(fit_model(VaryingModel(3, gamma=False), seen), float(times[-1]))
    assert isinstance(varying, Varying)
    assert varying.rate.shape == "points"
    assert varying.rate.points[0][0] == 0
    gamma = process_of(fit_model(GAMMA, seen), float(times[-1]))
    assert isinstance(gamma, Gamma)


def test_labels_become_classes_of_their_own() -> None:
    """Two large labels are fitted apart, two small ones together are too few and are named as left out."""
    trace = bursty_trace()
    names = np.array(["chat log"] * len(trace), dtype=object)
    names[::2] = "code"
    names[:10:2], names[1:9:2] = "rare", "odd"
    labelled = trace.with_column("class", pa.array(names.tolist()))
    fits, notes = fit_trace(labelled, blocks=4, by_class=True)
    assert set(fits) == {"chat-log", "code"}
    assert "odd" in notes[0]
    assert "rare" in notes[0]
    workload = workload_of(fits, "two")
    assert [*workload.classes] == [*fits]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: bursty_trace(60), "60 requests with both lengths"),
        (lambda: replace(bursty_trace(), timed=False), "no times of arrival"),
        (lambda: bursty_trace().with_numbers(arrival_ns=np.zeros(len(bursty_trace()), np.int64)), "at once"),
    ],
)
def test_what_cannot_be_fitted_is_refused(make: Callable[[], Trace], told: str) -> None:
    """Too few requests, no times, all at once: an error that says so."""
    with pytest.raises(UsageError, match=told):
        sample_of(make(), 0)


def test_failures_are_left_out_and_ties_are_parted() -> None:
    """Requests that failed, or lack a length, are not fitted; whole seconds are spread, and no two are equal."""
    trace = bursty_trace()
    n = len(trace)
    failed = np.zeros(n, dtype=np.int64)
    failed[:7] = 1
    whole = trace.numbers("arrival_ns") // S * S
    columns = {
        "arrival_ns": whole,
        "failed": failed,
        **{name: trace.numbers(name) for name in ("input_tokens", "output_tokens")},
    }
    sample = sample_of(make_trace(columns, format="test", bin_ns=S), 0)
    assert (sample.left_out, sample.step_ns) == (7, S)
    assert (np.diff(sample.times) > 0).all()
    unnamed = sample_of(make_trace(columns, format="test"), 0)
    assert unnamed.step_ns == S
    assert (np.diff(unnamed.times) > 0).all()


@fixed
@given(st.lists(st.integers(0, 30), min_size=2, max_size=60), st.integers(1, 10**9))
def test_parted_times_keep_their_order_and_their_step(stamps: list[int], step: int) -> None:
    """Ascending, none equal, none further from its stamp than a step."""
    ns = np.sort(np.array(stamps, dtype=np.int64)) * step
    times = distinct_times(ns, step, 4)
    assert (np.diff(times) > 0).all()
    moved = times * 1e9 - (ns - ns[0])
    assert (np.abs(moved) <= step + 1).all()


@fixed
@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), min_size=1, max_size=120), st.integers(4, 150))
def test_pairs_are_recorded_ones_and_keep_both_spreads(both: list[tuple[int, int]], most: int) -> None:
    """No pair is made up, at most so many are kept, all of them where there is room."""
    inputs, outputs = (np.array(each, dtype=np.int64) for each in zip(*both, strict=True))
    first, second = lengths_of.pairs(inputs, outputs, most)
    kept = list(zip(first.values, second.values, strict=True))
    assert set(kept) <= set(both)
    assert min(len(both), most) / 2 <= len(kept) <= most
    if most >= len(both):
        assert sorted(kept) == sorted(both)


def test_thinned_pairs_keep_quantiles_and_correlation() -> None:
    """Of 20,000 pairs 1,000 are kept: means within 3 %, medians within 5 %, rank correlation within 0.05."""
    rng = np.random.default_rng(8)
    base = rng.normal(size=20_000)
    inputs = np.rint(np.exp(6 + base)).astype(np.int64) + 1
    outputs = np.rint(np.exp(4 + 0.5 * base + rng.normal(size=20_000))).astype(np.int64) + 1
    first, second = lengths_of.pairs(inputs, outputs)
    assert isinstance(first, EmpiricalLength)
    assert isinstance(second, PairedLength)
    for kept, whole in ((np.array(first.values), inputs), (np.array(second.values), outputs)):
        assert kept.mean() == pytest.approx(whole.mean(), rel=0.03)
        assert np.median(kept) == pytest.approx(np.median(whole), rel=0.05)
    assert spearman(np.array(first.values), np.array(second.values)) == pytest.approx(
        spearman(inputs, outputs), abs=0.05
    )


def test_lengths_of_no_known_shape_are_drawn_from_the_record() -> None:
    """A sawtooth is not forced into a formula; one length is constant."""
    odd = np.repeat(np.arange(10, 2_000, 199), 60)
    fitted = lengths_of.fit_lengths(odd)
    assert fitted.name == "empirical"
    assert isinstance(fitted.spec, EmpiricalLength)
    assert set(fitted.spec.values) == set(odd.tolist())
    assert lengths_of.fit_lengths(np.full(200, 7)).spec == ConstantLength(value=7)


def test_lengths_that_depend_are_drawn_in_pairs() -> None:
    """Outputs that follow inputs make a class of pairs, unless it is told not to."""
    trace = bursty_trace(500)
    tied = trace.with_numbers(output_tokens=trace.numbers("input_tokens") // 3 + 1)
    sample = sample_of(tied, 0)
    paired = fit_class(sample, blocks=4)
    assert paired.paired
    assert isinstance(paired.spec.output_tokens, PairedLength)
    kept = {each.name: each.kept for each in check_fit(paired, 0)}
    assert kept["rank correlation"]
    apart = fit_class(sample, blocks=4, paired=False)
    assert not isinstance(apart.spec.output_tokens, PairedLength)
    assert not {each.name: each.kept for each in check_fit(apart, 0)}["rank correlation"]


@published
def test_azures_code_trace_is_on_and_off() -> None:
    """The real file: on/off is chosen, gamma and Poisson are more than 0.2 nats an arrival and ten errors behind.

    The workload gives back rate, cv and lengths, and it is said that it does not give back the dispersion at 60 s.
    """
    fit = fit_class(sample_of(read_trace(SHARED / "azure_llm_2023" / "AzureLLMInferenceTrace_code.csv"), 0), blocks=12)
    assert isinstance(fit.process, OnOff)
    for name in ("gamma", "Poisson", "MMPP"):
        gap = lead(fit.arrivals, name)
        assert gap is not None
        assert gap[0] > 0.2
        assert gap[0] > 3 * gap[1]
    kept = {each.name: each.kept for each in check_fit(fit, 0)}
    assert kept["rate"]
    assert kept["input mean"]
    assert kept["output p99"]
    assert not kept["dispersion 1 s"]
    assert not kept["dispersion 60 s"]
