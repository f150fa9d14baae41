"""What there is to say about a trace: arrivals, lengths, what they have in common, sharing, sessions, artefacts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from slobench.names import NULL
from slobench.stats.arrivals import counts, dispersion
from slobench.stats.quantiles import rank
from slobench.units import format_duration_ns
from slobench.workload.sharing import Partial, hits
from slobench.workload.traces.ops import labels, spread_in_bins
from slobench.workload.traces.prompts import Prompts, cumulative
from slobench.workload.traces.schema import Trace
from slobench.workload.variates import FloatArray, IntArray, child

SCALES_S = (1, 10, 60, 600)
FEWEST_WINDOWS = 10
_WIDTHS_S = (0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
_WINDOWS = 60
_BINS, _JOINT_BINS = 24, 14
_AT_THE_TOP = 0.01  # share of inputs at the longest that looks like a limit


@dataclass(frozen=True, slots=True)
class ArrivalFacts:
    """Rate in 1/s, cv of the gaps, variance over mean of counts by width in s; None where too little was seen."""

    rate: float | None
    cv: float | None
    dispersion: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class RateOverTime:
    """Requests/s in windows of one width, s, from the first arrival on; the last may be cut."""

    width_s: float
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LengthFacts:
    """Lengths in tokens of n requests, quantiles by rank ⌈qn⌉; edges of bins (the last included) and their counts."""

    n: int
    mean: float
    min: int
    p50: int
    p90: int
    p99: int
    max: int
    total: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class JointFacts:
    """Input and output lengths together: correlations of values and of ranks, counts by (input, output) bin."""

    n: int
    pearson: float | None
    spearman: float | None
    input_edges: tuple[float, ...]
    output_edges: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class SharingFacts:
    """What an infinite prefix cache with the recorder's blocks would find."""

    block_tokens: int
    blocks: int
    different_blocks: int
    block_hit_rate: float
    token_hit_rate: float


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """Sessions the recorder named: turns in each, time from one turn to the next, s."""

    sessions: int
    with_several_turns: int
    turns_mean: float
    turns_max: int
    gap_p50_s: float | None
    gap_p90_s: float | None


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """A whole trace. spread: arrivals as they may have been within the recorder's bins; None where it has none."""

    format: str
    rows: int
    failed: int
    span_s: float | None
    arrivals: ArrivalFacts
    spread: ArrivalFacts | None
    bin_s: float
    rate_over_time: RateOverTime | None
    input_tokens: LengthFacts | None
    output_tokens: LengthFacts | None
    joint: JointFacts | None
    sharing: SharingFacts | None
    sessions: SessionFacts | None
    classes: dict[str, int]
    images: int
    artefacts: tuple[str, ...]
    notes: tuple[str, ...]


def describe_trace(trace: Trace, seed: int = 0) -> TraceFacts:
    """Measure a trace. Lengths are those of requests that did not fail; seed: of the places in the recorder's bins."""
    whole = cumulative(trace)
    served = whole.numbers("failed") == 0
    inputs, outputs = (whole.numbers(name) for name in ("input_tokens", "output_tokens"))
    times = whole.numbers("arrival_ns").astype(np.float64) / 1e9
    spread = None
    if trace.timed and trace.bin_ns and _has_ties(times):
        moved = spread_in_bins(trace, child(seed, "inspect")).numbers("arrival_ns").astype(np.float64) / 1e9
        spread = arrival_facts(moved)
    facts = TraceFacts(
        format=trace.format,
        rows=len(trace),
        failed=int((~served).sum()),
        span_s=float(times[-1] - times[0]) if trace.timed else None,
        arrivals=arrival_facts(times) if trace.timed else ArrivalFacts(None, None, {}),
        spread=spread,
        bin_s=trace.bin_ns / 1e9,
        rate_over_time=rate_over_time(times) if trace.timed else None,
        input_tokens=length_facts(inputs[served & (inputs != NULL)]),
        output_tokens=length_facts(outputs[served & (outputs != NULL)]),
        joint=joint_facts(*_pairs(inputs, outputs, served)),
        sharing=_sharing(whole, inputs),
        sessions=_sessions(trace, times),
        classes=_labels(trace),
        images=int(np.maximum(whole.numbers("images"), 0).sum()),
        artefacts=(),
        notes=trace.notes,
    )
    return replace(facts, artefacts=tuple(_artefacts(facts, trace)))


def arrival_facts(times: FloatArray) -> ArrivalFacts:
    """Measure arrival times (s, ascending)."""
    gaps = np.diff(times)
    span = float(times[-1] - times[0]) if len(times) else 0.0
    if span <= 0:
        return ArrivalFacts(None, None, {str(scale): None for scale in SCALES_S})
    return ArrivalFacts(
        rate=len(gaps) / span,
        cv=float(gaps.std() / gaps.mean()) if len(gaps) > 1 else None,
        dispersion={str(scale): dispersion_at(times, scale) for scale in SCALES_S},
    )


def dispersion_at(times: FloatArray, width_s: float) -> float | None:
    """Variance over mean of counts in windows; None with fewer than ten windows or without an arrival."""
    counted = counts(times, width_s, float(times[0]), float(times[-1]))
    found = dispersion(counted) if len(counted) >= FEWEST_WINDOWS else math.nan
    return None if math.isnan(found) else found


def rate_over_time(times: FloatArray) -> RateOverTime | None:
    """Return requests/s in about sixty windows of a round width; None where no time passes."""
    span = float(times[-1] - times[0]) if len(times) else 0.0
    if span <= 0:
        return None
    width = next((each for each in _WIDTHS_S if each >= span / _WINDOWS), math.ceil(span / _WINDOWS))
    edges = np.minimum(np.arange(math.ceil(span / width) + 1) * width, span)
    counted, _ = np.histogram(times - times[0], edges)
    return RateOverTime(float(width), tuple((counted / np.diff(edges)).tolist()))


def length_facts(tokens: IntArray) -> LengthFacts | None:
    """Measure lengths; None where there are none."""
    if not len(tokens):
        return None
    ordered = np.sort(tokens)
    p50, p90, p99 = (int(ordered[rank(len(ordered), q)]) for q in (0.5, 0.9, 0.99))
    edges = log_edges(ordered, _BINS)
    counted, _ = np.histogram(ordered, edges)
    return LengthFacts(
        n=len(ordered),
        mean=float(ordered.mean()),
        min=int(ordered[0]),
        p50=p50,
        p90=p90,
        p99=p99,
        max=int(ordered[-1]),
        total=int(ordered.sum()),
        edges=tuple(edges.tolist()),
        counts=tuple(counted.tolist()),
    )


def joint_facts(inputs: IntArray, outputs: IntArray) -> JointFacts | None:
    """Measure pairs of lengths; None with fewer than two."""
    if len(inputs) < 2:
        return None
    edges = log_edges(inputs, _JOINT_BINS), log_edges(outputs, _JOINT_BINS)
    counted, _, _ = np.histogram2d(inputs, outputs, edges)
    return JointFacts(
        n=len(inputs),
        pearson=correlation(inputs.astype(np.float64), outputs.astype(np.float64)),
        spearman=correlation(_ranks(inputs), _ranks(outputs)),
        input_edges=tuple(edges[0].tolist()),
        output_edges=tuple(edges[1].tolist()),
        counts=tuple(tuple(row) for row in counted.astype(np.int64).tolist()),
    )


def correlation(a: FloatArray, b: FloatArray) -> float | None:
    """Pearson's correlation; None where one of them does not vary."""
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread > 0 else None


def spearman(inputs: IntArray, outputs: IntArray) -> float | None:
    """Correlation of the ranks; None where one does not vary."""
    return correlation(_ranks(inputs), _ranks(outputs))


def log_edges(values: IntArray, bins: int) -> FloatArray:
    """Edges of bins of about equal ratio over whole numbers, each half way between two of them."""
    low, high = float(max(values.min(), 1)), float(max(values.max(), 1))
    inner = np.unique(np.floor(np.geomspace(low, high + 1, bins + 1)[1:-1]))
    inner = inner[(inner > low) & (inner <= high)] - 0.5
    return np.concatenate([[min(float(values.min()), low) - 0.5], inner, [high + 0.5]])


def _ranks(values: IntArray) -> FloatArray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place], dtype=np.float64)


def _pairs(inputs: IntArray, outputs: IntArray, served: np.ndarray) -> tuple[IntArray, IntArray]:
    both = served & (inputs != NULL) & (outputs != NULL)
    return inputs[both], outputs[both]


def _has_ties(times: FloatArray) -> bool:
    return bool((np.diff(times) == 0).any())


def _labels(trace: Trace) -> dict[str, int]:
    return labels(trace) if trace.has("class") else {}


def _sharing(trace: Trace, inputs: IntArray) -> SharingFacts | None:
    """Of all requests in their order; None where the recorder wrote no blocks."""
    if not trace.has("blocks") or trace.block_tokens is None:
        return None
    known = np.maximum(inputs, 0)
    found = hits(Prompts.of(trace).contents(trace, 0), known, trace.block_tokens, partial=Partial.RECORDED)
    return SharingFacts(
        block_tokens=trace.block_tokens,
        blocks=found.blocks,
        different_blocks=found.blocks - found.hit_blocks,
        block_hit_rate=found.block_hit_rate,
        token_hit_rate=found.token_hit_rate,
    )


def _sessions(trace: Trace, times: FloatArray) -> SessionFacts | None:
    session = trace.numbers("session")
    rows = np.flatnonzero(session != NULL)
    if not len(rows):
        return None
    _, turns = np.unique(session[rows], return_counts=True)
    order = rows[np.lexsort((times[rows], session[rows]))]
    gaps = np.diff(times[order])[session[order][1:] == session[order][:-1]] if trace.timed else np.empty(0)
    ordered = np.sort(gaps)
    return SessionFacts(
        sessions=len(turns),
        with_several_turns=int((turns > 1).sum()),
        turns_mean=float(turns.mean()),
        turns_max=int(turns.max()),
        gap_p50_s=float(ordered[rank(len(ordered), 0.5)]) if len(ordered) else None,
        gap_p90_s=float(ordered[rank(len(ordered), 0.9)]) if len(ordered) else None,
    )


def _artefacts(facts: TraceFacts, trace: Trace) -> list[str]:
    """What looks like the recorder's doing rather than the traffic's."""
    told = []
    if not trace.timed:
        told.append("no times of arrival: rate, cv and dispersion are not known")
    elif trace.bin_ns >= 10**9 and facts.spread is not None:
        whole = "whole seconds" if trace.bin_ns == 10**9 else f"in bins of {format_duration_ns(trace.bin_ns)}"
        told.append(
            f"arrival times are {whole}: the cv of the gaps and dispersion below that width are the recorder's; "
            f"spread within the bins the cv is {facts.spread.cv or 0:.2f}"
        )
    elif facts.spread is not None:
        told.append(f"some arrivals fall together because times are in steps of {format_duration_ns(trace.bin_ns)}")
    if facts.input_tokens is not None and facts.input_tokens.n >= 100:
        longest = facts.input_tokens.max
        inputs = trace.numbers("input_tokens")
        top = float((inputs >= longest * 0.999).sum()) / facts.input_tokens.n
        if top > _AT_THE_TOP and longest > facts.input_tokens.min:
            told.append(f"{top:.1%} of inputs are at the longest, {longest} tokens: a context limit cut them")
    if facts.failed:
        told.append(f"{facts.failed} of {facts.rows} requests failed: they count as arrivals, their lengths do not")
    return told
