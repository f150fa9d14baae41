"""What the shipped workloads say of themselves: plans give it, and the traces that they name have it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy.stats import chi2

from slobench.config.arrivals import Process, Varying
from slobench.config.find import names
from slobench.config.load import load_target, load_workload
from slobench.config.rates import Points, Spike, mean_of
from slobench.config.target import SimTarget
from slobench.config.workload import RequestClass, Workload
from slobench.plan import Plan, build_plan
from slobench.plan_sharing import found_tokens
from slobench.report.plan import describe, render
from slobench.stats.arrivals import counts, dispersion
from slobench.workload.clocks import clock_of
from tests.config.shipped import (
    BLOCK,
    FOLDER,
    LONG_ANSWER,
    FloatArray,
    Lengths,
    Recorded,
    azure,
    azure_recorded,
    busy_gaps,
    dialogues,
    documents,
    pool_lengths,
    pool_rates,
)

WORKLOADS = names("workload")
SEEDS = range(10)
LONGER = {
    "batch": "20s",
    "burst": "3h",
    "mixed-qos": "20m",
    "chat": "20m",
    "code-completion": "20m",
    "conversation": "30m",
    "agent": "1h",
    "reasoning": "1h",
    "rag": "10m",
    "diurnal": "24m",
    "spike": "5m",
}
"""How long the plans are that figures are measured in; rag and what varies: as shipped."""
PUBLISHED = {"agent", "batch"}
"""Fitted to figures of a paper, without a trace."""

NAMES = (
    r"rate|gap cv|dispersion in \d+ s|(?:input|output) (?:mean|p50|p90|p99)|turns mean|pause p50|hit rate"
    r"|questions of a document|peak/mean|lowest hour/highest hour"
)
FIGURE = re.compile(rf"({NAMES}) (\d+(?:\.\d+)?) → (\d+(?:\.\d+)?)")
DISTANCE = re.compile(r"of (gaps|inputs|outputs|new tokens|turns|pauses)(?: at the same rate)? (0\.\d+)")

recorded = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs ../shared/traces")


def said(name: str) -> dict[str, tuple[str, str]]:
    """Figures of a source: recorded and here, as written."""
    return {each: (there, here) for each, there, here in FIGURE.findall(load_workload(name).value.source)}


def distances_said(name: str) -> dict[str, float]:
    source = load_workload(name).value.source.partition("Distance (Kolmogorov and Smirnov)")[2].partition("Log-l")[0]
    return {each: float(value) for each, value in DISTANCE.findall(source)}


@cache
def plans(name: str) -> tuple[Workload, list[Plan]]:
    """A shipped workload over a longer time, by several seeds."""
    workload = load_workload(name, [f"duration={LONGER[name]}"]).value
    return workload, [build_plan(workload, seed) for seed in SEEDS]


def rows_of(name: str, plan: Plan) -> Plan:
    """What the source speaks of: all of it, or the interactive requests."""
    return plan.take(np.flatnonzero(plan.class_code == 0)) if name == "mixed-qos" else plan


def begun_s(plan: Plan) -> FloatArray:
    """When sessions begin, and requests that belong to none."""
    assert plan.scheduled_ns is not None
    return np.asarray(np.sort(plan.scheduled_ns[plan.turn == 0]) / 1e9)


def measured(name: str, workload: Workload, plan: Plan, figure: str) -> float:
    """One figure of one plan."""
    kind, _, of = figure.partition(" ")
    match kind:
        case "rate" | "gap" | "dispersion":
            return of_arrivals(begun_s(plan), figure)
        case "input" | "output":
            rows = rows_of(name, plan)
            return of_lengths(Lengths.of(rows.input_tokens if kind == "input" else rows.output_tokens), of)
        case "turns":
            return len(plan) / len(np.unique(plan.session))
        case "pause":
            assert plan.delay_ns is not None
            return float(np.median(plan.delay_ns[plan.delay_ns >= 0])) / 1e9
        case "hit":
            return float(found_tokens(plan, workload, BLOCK).sum() / plan.input_tokens.sum())
        case "questions":
            assert plan.contents is not None
            return len(plan) / len(np.unique(plan.contents.keys[plan.contents.offsets[:-1]]))
        case "peak/mean":
            shapes = [shape_of(spec) for spec in workload.classes.values()]
            return sum(each.peak for each in shapes) / sum(each.base for each in shapes)  # type: ignore[union-attr]
        case _:
            rates = sum(np.array([rate for _, rate in shape_of(spec).points]) for spec in workload.classes.values())  # type: ignore[union-attr]
            return float(rates.min() / rates.max())


def shape_of(spec: RequestClass) -> Points | Spike:
    assert isinstance(spec.arrivals, Varying)
    assert isinstance(spec.arrivals.rate, Points | Spike)
    return spec.arrivals.rate


def of_arrivals(at_s: FloatArray, figure: str) -> float:
    if figure == "rate":
        return len(at_s) / float(at_s[-1])
    if figure == "gap cv":
        gaps = np.diff(at_s)
        return float(gaps.std() / gaps.mean())
    return dispersion(counts(at_s, float(figure.split()[2]), 0.0, float(at_s[-1])))


def of_lengths(lengths: Lengths, of: str) -> float:
    return lengths.mean if of == "mean" else lengths.quantile(float(of[1:]) / 100)


def half_unit(text: str) -> float:
    """How far a figure may be from what it was rounded from: half of its last digit, or of its fourth."""
    digits = len(text.partition(".")[2])
    return max(0.5 * 10**-digits, 5e-4 * float(text)) * 1.001


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_plan_is_bit_stable(name: str) -> None:
    """The same workload and seed make the same bytes again; another seed makes others."""
    workload, again = load_workload(name).value, load_workload(name).value
    digest = build_plan(workload, 7).digest
    assert build_plan(again, 7).digest == digest
    assert build_plan(workload, 8).digest != digest


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_plan_is_told_in_80_columns(name: str) -> None:
    """What `slobench plan` prints of each fits a terminal, and has its classes and lengths."""
    workload = load_workload(name).value
    text = render(describe(build_plan(workload, 0), workload, 0))
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"class {each}: " in text for each in workload.classes)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_plan_is_one_that_the_simulated_target_can_be_offered(name: str) -> None:
    """No prompt with its reply is longer than the context of target sim; a run of 20 s has something to offer."""
    target = load_target("sim").value
    assert isinstance(target, SimTarget)
    plan = build_plan(load_workload(name).value, 0)
    assert int((plan.input_tokens + plan.output_tokens).max()) <= target.engine.max_model_len
    short = build_plan(load_workload(name, ["duration=20s"]).value, 0)
    assert short.due_ns is None or short.due_ns[0] < 20e9


@pytest.mark.parametrize("name", LONGER)
def test_a_source_has_figures_that_can_be_checked(name: str) -> None:
    """Every arrow of a source but the one that explains them stands in a figure that is measured here."""
    source = load_workload(name).value.source
    assert len(FIGURE.findall(source)) == source.count("→") - len(re.findall(r"[Rr]ecorded → here", source)) > 0


def test_every_fitted_workload_is_checked() -> None:
    """Those left out say that they were chosen or are of the documentation."""
    assert set(WORKLOADS) - set(LONGER) == {"quickstart", "stall"}


@pytest.mark.parametrize("name", LONGER)
def test_plans_have_what_the_source_says(name: str) -> None:
    """Each figure is the mean over ten seeds, within four standard errors of it and a rounding to three digits."""
    workload, drawn = plans(name)
    for figure, (_, here) in said(name).items():
        values = np.array([measured(name, workload, plan, figure) for plan in drawn])
        error = 4 * float(values.std(ddof=1)) / math.sqrt(len(values)) + max(half_unit(here), 5e-3 * float(here))
        assert abs(float(values.mean()) - float(here)) <= error, (figure, here, values.mean(), error)


@pytest.mark.parametrize("name", ["diurnal", "spike"])
def test_a_load_that_varies_does_so_as_its_shape_says(name: str) -> None:
    """Counts in stretches of 10 s are Poisson with the integral of the rate, over all seeds (chi-squared, 0.1 %)."""
    workload, drawn = plans(name)
    assert workload.duration is not None
    edges = np.arange(0, workload.duration / 1e9 + 1, 10.0)
    expected = np.zeros(len(edges) - 1)
    for spec in workload.classes.values():
        expected += np.diff(clock_of(shape_of(spec)).amount(edges)) * len(drawn)
    seen = sum(np.histogram(begun_s(plan), bins=edges)[0] for plan in drawn)
    assert float(((seen - expected) ** 2 / expected).sum()) < chi2.ppf(0.999, len(expected))


@pytest.mark.parametrize("name", ["agent", "conversation", "rag"])
def test_what_requests_have_in_common_is_planned(name: str) -> None:
    """A prefix cache finds most of the prompts of these, and nothing of the others'."""
    workload, (plan, *_) = plans(name)
    assert found_tokens(plan, workload).sum() > 0.5 * plan.input_tokens.sum()
    chat, (unique, *_) = plans("chat")
    assert not found_tokens(unique, chat).any()


def test_steps_of_an_agent_run_side_by_side() -> None:
    """Tools wait for the plan alone, the answer for both; the next turn for the answer."""
    _, (plan, *_) = plans("agent")
    assert plan.after is not None
    first = plan.after[: 4 if plan.turn[4] == 0 else 8].tolist()
    assert first == [0, 1, 2, 3, 1, 1, 2, 3][: len(first)]


def test_classes_of_mixed_qos_are_told_apart() -> None:
    """Each has a priority and limits of its own; the interactive one goes first."""
    classes = load_workload("mixed-qos").value.classes
    priorities = [spec.priority for spec in classes.values()]
    assert list(classes) == ["interactive", "agent", "batch"]
    assert priorities == sorted({each for each in priorities if each is not None})
    clauses = load_workload("mixed-qos").value.slo
    assert all(any(clause.startswith(f"class={name} ") for clause in clauses) for name in classes)


def recorded_as(name: str) -> Recorded:
    """What the trace of a workload has, each figure by its name."""
    if name == "chat":
        return azure_recorded("conv")
    if name in {"code-completion", "burst"}:
        return azure_recorded("code")
    if name == "mixed-qos":
        inputs, outputs, _ = azure("conv")
        short = outputs < LONG_ANSWER
        return Recorded(Lengths.of(inputs[short]), Lengths.of(outputs[short]))
    if name == "reasoning":
        return pool_lengths()
    if name == "rag":
        found = documents()
        more = {"hit rate": found.found, "questions of a document": float(found.asked.mean())}
        return Recorded(found.inputs, found.outputs, more=more)
    if name == "conversation":
        talks = dialogues()
        more = {"turns mean": float(talks.turns.mean()), "pause p50": float(np.median(talks.pauses_s))}
        return Recorded(talks.inputs, talks.outputs, more=more)
    rates = pool_rates()
    hours = rates.reshape(24, 6).mean(axis=1)
    more = {
        "peak/mean": float(rates.max() / rates.mean()),
        "lowest hour/highest hour": float(hours.min() / hours.max()),
    }
    return Recorded(Lengths.of(np.ones(1, np.int64)), Lengths.of(np.ones(1, np.int64)), more=more)


def figure_of(name: str, trace: Recorded, figure: str) -> float:
    """A figure of the trace."""
    if trace.more is not None and figure in trace.more:
        return trace.more[figure]
    kind, _, of = figure.partition(" ")
    if kind in {"input", "output"}:
        return of_lengths(trace.inputs if kind == "input" else trace.outputs, of)
    if trace.times is None:
        assert figure == "rate"
        return float(pool_rates().mean())
    if name == "code-completion":
        gaps = busy_gaps(trace.times)
        return 1 / float(gaps.mean()) if figure == "rate" else float(gaps.std() / gaps.mean())
    return of_arrivals(trace.times - trace.times[0], figure)


@recorded
@pytest.mark.parametrize("name", sorted(set(LONGER) - PUBLISHED))
def test_the_trace_has_what_the_source_says(name: str) -> None:
    """Each recorded figure is that of the trace, but for its last digit."""
    trace = recorded_as(name)
    for figure, (there, _) in said(name).items():
        assert figure_of(name, trace, figure) == pytest.approx(float(there), abs=half_unit(there)), figure


@recorded
@pytest.mark.parametrize("name", ["chat", "conversation", "code-completion", "burst", "rag", "reasoning"])
def test_plans_are_as_far_from_the_trace_as_the_source_says(name: str) -> None:
    """The distance of each distribution, but for the chance of the plans (Dvoretzky, Kiefer and Wolfowitz, 99.9 %)."""
    trace, distances = recorded_as(name), distances_said(name)
    assert {"inputs", "new tokens"} & set(distances)
    for kind, value in distances.items():
        there, here = COMPARED[kind](name, trace)
        chance = math.sqrt(math.log(2 / 0.001) / (2 * float(here.weights.sum())))
        assert there.distance(here) == pytest.approx(value, abs=chance + half_unit(f"{value}")), kind


def all_of(name: str, of: Callable[[Plan], FloatArray]) -> Lengths:
    return Lengths.of(np.concatenate([of(plan) for plan in plans(name)[1]]))


def gaps_of(name: str, trace: Recorded) -> tuple[Lengths, Lengths]:
    """Gaps in µs; of code while busy, at the recorded rate."""
    assert trace.times is not None
    there, factor = np.diff(trace.times), 1.0
    if name == "code-completion":
        there = busy_gaps(trace.times)
        factor = 2.5 * float(there.mean())
    here = all_of(name, lambda plan: np.rint(np.diff(begun_s(plan)) * factor * 1e6))
    return Lengths.of(np.rint(there * 1e6)), here


def pauses_of(name: str, trace: Recorded) -> tuple[Lengths, Lengths]:
    """Pauses in ms, the recorded ones a tenth and at most two minutes."""
    assert trace.more is not None
    there = Lengths.of(np.minimum(np.rint(dialogues().pauses_s * 100), 120_000))
    return there, all_of(name, lambda plan: np.rint(delays(plan) / 1e6))


def delays(plan: Plan) -> FloatArray:
    assert plan.delay_ns is not None
    return np.asarray(plan.delay_ns[plan.delay_ns >= 0].astype(np.float64))


COMPARED: dict[str, Callable[[str, Recorded], tuple[Lengths, Lengths]]] = {
    "gaps": gaps_of,
    "pauses": pauses_of,
    "inputs": lambda name, trace: (trace.inputs, all_of(name, lambda plan: plan.input_tokens)),
    "outputs": lambda name, trace: (trace.outputs, all_of(name, lambda plan: plan.output_tokens)),
    "new tokens": lambda name, _: (dialogues().new, all_of(name, lambda plan: plan.input_tokens[plan.turn == 0])),
    "turns": lambda name, _: (Lengths.of(dialogues().turns), all_of(name, lambda plan: np.bincount(plan.session))),
}


@recorded
def test_chat_in_two_classes_is_as_the_trace_parts() -> None:
    """A third of the answers have 300 tokens or more; their prompts are around 1070 tokens."""
    inputs, outputs, _ = azure("conv")
    long = outputs >= LONG_ANSWER
    spec = load_workload("chat").value.classes
    rates = {name: rate_of(each.arrivals) for name, each in spec.items()}
    assert rates["long-answer"] / sum(rates.values()) == pytest.approx(long.mean(), abs=5e-3)
    assert np.median(inputs[long]) == pytest.approx(1070, abs=0.5)


@recorded
def test_the_day_of_diurnal_is_that_of_the_pool() -> None:
    """Each hour's rate a quarter of the recorded one, and as much of the ten minutes explained as is said."""
    hours = pool_rates().reshape(24, 6).mean(axis=1)
    points = [shape_of(spec).points for spec in load_workload("diurnal").value.classes.values()]  # type: ignore[union-attr]
    here = sum(np.array([rate for _, rate in each]) for each in points)
    assert here == pytest.approx(hours * 4 / hours.mean(), abs=0.011)
    lines = np.interp(np.arange(144) / 6 + 1 / 12, np.arange(24) + 0.5, hours)
    left = float(((pool_rates() - lines) ** 2).sum() / ((pool_rates() - pool_rates().mean()) ** 2).sum())
    assert 1 - left == pytest.approx(0.88, abs=5e-3)


def rate_of(process: Process | None) -> float:
    return process.rate  # type: ignore[union-attr,return-value]


def test_the_mean_of_diurnal_is_what_it_says() -> None:
    """4 requests/s on average over the day."""
    rates = [mean_of(shape_of(spec)) for spec in load_workload("diurnal").value.classes.values()]
    assert sum(rates) == pytest.approx(4, rel=0.02)
