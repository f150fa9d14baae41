"""What of a trace a fitted class gives back, and what it does not: the record held against what the class draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slobench.names import NULL
from slobench.stats.quantiles import rank
from slobench.workload.arrivals import offsets_ns
from slobench.workload.fit import TraceFit
from slobench.workload.lengths import draw_lengths
from slobench.workload.trace_facts import SCALES_S, arrival_facts, correlation, spearman
from slobench.workload.traces.schema import Trace
from slobench.workload.variates import FloatArray, IntArray, child

DRAWS = 40
NEAR = 0.05
"""Share by which the record may lie outside of what is drawn; of correlations, the difference."""


@dataclass(frozen=True, slots=True)
class Check:
    """One quantity of the record, and the middle 95 % of it over draws of the class; None where there is none."""

    name: str
    recorded: float | None
    low: float | None
    high: float | None
    kept: bool


def check_fit(fit: TraceFit, seed: int) -> tuple[Check, ...]:
    """Hold the record against DRAWS draws as long as it."""
    end_s = float(fit.sample.times[-1])
    drawn = [_quantities(*_draw(fit, end_s, seed + k)) for k in range(DRAWS)]
    recorded = _quantities(fit.sample.times, fit.sample.inputs, fit.sample.outputs)
    return tuple(_check(name, value, [each[name] for each in drawn]) for name, value in recorded.items())


def lost(trace: Trace) -> list[str]:
    """What a fitted class never gives back, whatever the draws."""
    told = []
    if trace.has("blocks"):
        told.append("sharing: drawn prompts are unique; `recorded: {file: …}` replays what prompts had in common")
    session = trace.numbers("session")
    rows = session[session != NULL]
    if len(rows) > len(np.unique(rows)):
        told.append("sessions: every request is drawn alone; `recorded: {turns: after-reply}` replays turns")
    if trace.has("images"):
        told.append("images: requests are drawn without")
    return told


def _draw(fit: TraceFit, end_s: float, seed: int) -> tuple[FloatArray, IntArray, IntArray]:
    ns = offsets_ns(fit.process, n=None, horizon_ns=round(end_s * 1e9), rng=child(seed, "fit check"))
    output = fit.spec.output_tokens
    assert fit.spec.input_tokens is not None
    assert output is not None
    inputs, outputs = draw_lengths(fit.spec.input_tokens, output, len(ns), seed, "fit check")
    return ns / 1e9, inputs, outputs


def _quantities(times: FloatArray, inputs: IntArray, outputs: IntArray) -> dict[str, float | None]:
    facts = arrival_facts(times) if len(times) > 1 else arrival_facts(np.zeros(1))
    found: dict[str, float | None] = {"rate": facts.rate, "cv of gaps": facts.cv}
    found |= {f"dispersion {scale} s": facts.dispersion[str(scale)] for scale in SCALES_S}
    for name, lengths in (("input", inputs), ("output", outputs)):
        ordered = np.sort(lengths)
        found[f"{name} mean"] = float(ordered.mean()) if len(ordered) else None
        for q in (0.5, 0.9, 0.99):
            found[f"{name} p{q * 100:g}"] = float(ordered[rank(len(ordered), q)]) if len(ordered) else None
    enough = len(inputs) > 2
    found["rank correlation"] = spearman(inputs, outputs) if enough else None
    for name, lengths in (("input", inputs), ("output", outputs)):
        logs = np.log(np.maximum(lengths, 1)).astype(np.float64)
        found[f"{name} serial correlation"] = correlation(logs[1:], logs[:-1]) if enough else None
    return found


def _check(name: str, recorded: float | None, drawn: list[float | None]) -> Check:
    seen = sorted(each for each in drawn if each is not None and math.isfinite(each))
    if recorded is None or len(seen) < DRAWS // 2:
        return Check(name, recorded, None, None, kept=recorded is None)
    low, high = seen[rank(len(seen), 0.025)], seen[rank(len(seen), 0.975)]
    slack = NEAR if "correlation" in name else NEAR * abs(recorded)
    return Check(name, recorded, low, high, kept=low - slack <= recorded <= high + slack)
