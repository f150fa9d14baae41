"""A workload that is like a trace: arrivals and lengths chosen on what they were not fitted to."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import numpy as np

from slobench.config.arrivals import Constant, Gamma, Hawkes, Mmpp, OnOff, Poisson, Process, Varying, Weibull
from slobench.config.rates import Points
from slobench.config.workload import RequestClass
from slobench.errors import UsageError
from slobench.names import NULL
from slobench.records.arrow import text_values
from slobench.stats import processes
from slobench.stats.held_out import Choice, Fitted, choose
from slobench.workload.fit_lengths import LengthFit, fit_lengths, pairs, rounded
from slobench.workload.trace_facts import spearman
from slobench.workload.traces.ops import labels, spread_in_bins
from slobench.workload.traces.prompts import cumulative
from slobench.workload.traces.schema import Trace
from slobench.workload.variates import FloatArray, IntArray, child, uniforms

FEWEST = 100
SLOWEST, FASTEST = 1e-5, 1e5
"""Mean rates that are fitted, requests/s."""
EVEN = 0.02
"""Cv of the gaps below which arrivals are even."""
DEPENDENT = 0.1
"""Rank correlation of input and output from which they are drawn in pairs."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What of a trace is fitted: arrival times in s from 0, no two equal, and the lengths of the same requests."""

    times: FloatArray
    inputs: IntArray
    outputs: IntArray
    left_out: int
    step_ns: int


@dataclass(frozen=True, eq=False)
class TraceFit:
    """One class fitted. paired: whether its lengths are drawn in recorded pairs."""

    sample: Sample
    arrivals: Choice
    process: Process
    input_tokens: LengthFit
    output_tokens: LengthFit
    paired: bool
    spec: RequestClass


def sample_of(trace: Trace, seed: int) -> Sample:
    """Take what can be fitted: requests that were served, with both lengths; arrivals spread within their steps.

    Raises UsageError where there are too few, or no times.
    """
    if not trace.timed:
        raise UsageError("the trace has no times of arrival\n  expected  one that has, to fit arrivals to")
    whole = cumulative(trace)
    inputs, outputs = whole.numbers("input_tokens"), whole.numbers("output_tokens")
    usable = (whole.numbers("failed") == 0) & (inputs != NULL) & (outputs != NULL) & (inputs > 0) & (outputs > 0)
    rows = np.flatnonzero(usable)
    if len(rows) < FEWEST:
        raise UsageError(
            f"{len(rows)} requests with both lengths\n  expected  at least {FEWEST}, so that models can be told apart"
        )
    part = trace.take(rows)
    arrival, step = part.numbers("arrival_ns"), part.bin_ns
    if not (np.diff(arrival) == 0).any():
        step = 0
    elif step:
        arrival = spread_in_bins(part, child(seed, "fit")).numbers("arrival_ns")
    else:
        step = int(np.gcd.reduce(np.diff(arrival))) or 1
    if arrival[-1] == arrival[0]:
        raise UsageError("all requests of the trace come at once\n  expected  arrivals over some time")
    rate = len(arrival) / (float(arrival[-1] - arrival[0]) / 1e9)
    if not SLOWEST <= rate <= FASTEST:
        raise UsageError(
            f"{rate:.3g} requests/s on average\n"
            f"  expected  from {SLOWEST:g} to {FASTEST:g}; is the unit of the times right?"
        )
    times = distinct_times(arrival, step, seed)
    return Sample(times, inputs[rows], outputs[rows], len(trace) - len(rows), step)


def fit_class(
    sample: Sample,
    *,
    blocks: int | None = None,
    paired: bool | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> TraceFit:
    """Fit arrivals and lengths of one class. paired: whether lengths are drawn in pairs; None: where they depend."""
    arrivals = choose(sample.times, blocks=blocks, told=told)
    told("lengths")
    inputs, outputs = fit_lengths(sample.inputs), fit_lengths(sample.outputs)
    if paired is None:
        paired = abs(spearman(sample.inputs, sample.outputs) or 0.0) > DEPENDENT
    process = process_of(arrivals.chosen, float(sample.times[-1]))
    of_input, of_output = pairs(sample.inputs, sample.outputs) if paired else (inputs.spec, outputs.spec)
    spec = RequestClass(arrivals=process, input_tokens=of_input, output_tokens=of_output)
    return TraceFit(sample, arrivals, process, inputs, outputs, paired, spec)


def fit_trace(
    trace: Trace,
    *,
    seed: int = 0,
    blocks: int | None = None,
    paired: bool | None = None,
    by_class: bool = False,
    told: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, TraceFit], list[str]]:
    """Fit a trace as one class, or each of the recorder's labels as one; return them by name, and what was left out.

    Labels with too few requests are fitted together, as class `other`. Raises UsageError where nothing can be fitted.
    """
    if not by_class:
        return {"recorded": fit_class(sample_of(trace, seed), blocks=blocks, paired=paired, told=told)}, []
    names = text_values(trace.table["class"].combine_chunks()).astype(np.str_)
    fits: dict[str, TraceFit] = {}
    few: list[str] = []
    notes: list[str] = []
    for label in labels(trace):
        try:
            sample = sample_of(trace.take(names == label), seed)
        except UsageError:
            few.append(label)
            continue
        told(f"class {label}")
        fits[_class_name(label, fits)] = fit_class(sample, blocks=blocks, paired=paired, told=told)
    if few:
        try:
            sample = sample_of(trace.take(np.isin(names, few)), seed)
            fits[_class_name("other", fits)] = fit_class(sample, blocks=blocks, paired=paired, told=told)
        except UsageError:
            if not fits:
                raise
            notes.append(f"labels with fewer than {FEWEST} requests are left out: {', '.join(few)}")
    return fits, notes


def _class_name(label: str, taken: Container[str]) -> str:
    """Word a label as the name of a class, and no other's."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", label).strip("-_") or "unlabelled"
    return name if name not in taken else f"{name}-again"


def process_of(fitted: Fitted, end_s: float) -> Process:
    """Word a fitted model as the arrival process of a workload."""
    shown = {each.name: rounded(each.value) for each in fitted.parameters}
    match fitted.model:
        case processes.POISSON:
            return Poisson(rate=shown["rate"])
        case processes.GAMMA:
            if shown["cv"] <= EVEN:
                return Constant(rate=shown["rate"])
            return Gamma(rate=shown["rate"], cv=shown["cv"])
        case processes.WEIBULL:
            return Weibull(rate=shown["rate"], cv=shown["cv"])
        case processes.ON_OFF:
            lengths = {name: _s(shown[name]) for name in ("mean_on", "mean_off")}
            return OnOff(on_rate=shown["on_rate"], on_cv=shown["on_cv"], off_cv=shown["off_cv"], **lengths)
        case processes.MMPP:
            stays = (_s(shown["mean_busy"]), _s(shown["mean_calm"]))
            return Mmpp(rates=(shown["busy_rate"], shown["calm_rate"]), mean_stay=stays)
        case processes.HAWKES:
            return Hawkes(rate=shown["rate"], branching=shown["branching"], decay=shown["decay"])
        case model:
            assert isinstance(model, processes.Varying)
            at = np.linspace(0.0, end_s, model.knots).tolist()
            points = tuple((_s(t), shown[f"rate_{k}"]) for k, t in enumerate(at))
            return Varying(rate=Points(points=points), cv=shown.get("cv", 1.0))


def _s(seconds: float) -> Any:
    """Seconds as the configuration reads them, text with a unit: whole ms from a second on, else whole µs."""
    if seconds >= 1:
        return f"{round(seconds * 1e3)}ms"
    return f"{round(seconds * 1e6)}us" if seconds == 0 or seconds >= 1e-3 else f"{max(round(seconds * 1e9), 1)}ns"


def distinct_times(arrival: IntArray, step_ns: int, seed: int) -> FloatArray:
    """Times in s from 0, ties parted at random within a step (1 ns where times are exact)."""
    ns = arrival.astype(np.float64)
    ties = np.flatnonzero(np.diff(arrival) == 0)
    if len(ties):
        moved = np.unique(np.concatenate([ties, ties + 1]))
        ns[moved] += uniforms(len(moved), child(seed, "fit ties")) * max(step_ns, 1)
        ns.sort()
    times = (ns - ns[0]) / 1e9
    return np.asarray(np.maximum.accumulate(times + np.arange(len(times)) * math.ulp(float(times[-1]) or 1.0)))
