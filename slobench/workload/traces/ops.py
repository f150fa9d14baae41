"""What can be done with a trace before it is replayed: pure functions from trace to trace.

Times keep their origin, the start of the recording, so that parts of one trace stay beside each other.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from slobench.config.problems import clip
from slobench.errors import ConfigError
from slobench.names import NULL
from slobench.records.arrow import integers, text_array, text_values
from slobench.workload.mixing import mixed_pair
from slobench.workload.traces.schema import Trace, joined, list_array
from slobench.workload.variates import FloatArray, IntArray, uniforms

_LAST_NS = 2**61
_ROUND_BITS = 40  # of a session's number below that of its round: the same in every part of one trace


def labels(trace: Trace) -> dict[str, int]:
    """How many requests each label of the recorder has, most first; "" where there is none."""
    counted = pc.value_counts(trace.table["class"].combine_chunks())
    counts: dict[str, int] = {}
    for name, count in zip(text_values(counted.field("values")), integers(counted.field("counts")), strict=True):
        counts[name] = counts.get(name, 0) + int(count)
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def of_class(trace: Trace, label: str) -> Trace:
    """The requests of one label, or of those of which `label` is a part: "GPT-4" is part of "GPT-4/API log".

    Raises ConfigError, with the labels, where there are none.
    """
    known = labels(trace)
    picked = {name for name in known if name == label} or {name for name in known if label in name.split("/")}
    if not picked:
        found = ", ".join(f"{name or 'none'} ({count})" for name, count in [*known.items()][:10])
        raise ConfigError(f"no request of this trace has the label {clip(label)}\n  expected  one of {found}")
    found = integers(pc.is_in(trace.table["class"].combine_chunks(), value_set=text_array([*picked]))) == 1
    return trace.take(found | ("" in picked) & ~trace.there("class"))


def sliced(trace: Trace, start_ns: int, end_ns: int | None) -> Trace:
    """The requests from `start_ns` to before `end_ns` (None: to the end), `start_ns` being the new origin."""
    arrival = trace.numbers("arrival_ns")
    last = _LAST_NS if end_ns is None else end_ns
    low, high = np.searchsorted(arrival, [start_ns, last], side="left").tolist()
    part = replace(trace, table=trace.table.slice(low, max(0, high - low)))
    return part.with_numbers(arrival_ns=arrival[low : max(low, high)] - start_ns)


def sped_up(trace: Trace, factor: float) -> Trace:
    """The same requests in 1/factor of the time: arrivals, delays between turns and bins are divided by it.

    More load from the same requests: every gap shrinks, and what comes back within a minute comes back sooner. How
    long replies took is not the trace's and stays.
    """
    if factor == 1:
        return trace
    columns = {name: trace.numbers(name) for name in ("arrival_ns", "delay_ns") if trace.has(name)}
    if float(columns["arrival_ns"][-1]) / factor >= _LAST_NS:
        raise ConfigError(f"speed {factor:g} makes the trace last longer than 36 years\n  expected  a larger factor")
    faster = {
        name: np.where(column == NULL, NULL, np.rint(np.where(column == NULL, 0, column) / factor).astype(np.int64))
        for name, column in columns.items()
    }
    return replace(trace.with_numbers(**faster), bin_ns=round(trace.bin_ns / factor))


def thinned(trace: Trace, keep: float, rng: np.random.Generator) -> Trace:
    """Each session, and each request without one, kept with probability `keep`, whatever the others do.

    Less load at the same pace: gaps within a session stay, counts fall, and what bursts there were get smaller against
    chance (dispersion D becomes 1 + keep · (D - 1)). What different sessions shared is found less often.
    """
    if keep >= 1:
        return trace
    return trace.take(_units(trace, rng) < keep)


def _units(trace: Trace, rng: np.random.Generator) -> FloatArray:
    """A uniform number for each row, the same for all rows of a session."""
    session = trace.numbers("session")
    drawn = uniforms(len(trace), rng)
    rows = np.flatnonzero(session != NULL)
    if rows.size:
        _, first, code = np.unique(session[rows], return_index=True, return_inverse=True)
        drawn[rows] = drawn[rows[first]][code]
    return drawn


def spread_in_bins(trace: Trace, rng: np.random.Generator) -> Trace:
    """Arrivals at random places in the recorder's bins, in the recorded order; an exact trace stays what it is."""
    if not trace.bin_ns:
        return trace
    arrival = trace.numbers("arrival_ns")
    bins = np.rint(arrival / trace.bin_ns).astype(np.int64)
    places = uniforms(len(arrival), rng)
    # The rows stand in the order of their bins: so do the places, and within a bin in their own order.
    places = places[np.lexsort((places, bins))]
    spread = bins * trace.bin_ns + (places * trace.bin_ns).astype(np.int64)
    return replace(trace.with_numbers(arrival_ns=spread), bin_ns=0)


def looped(trace: Trace, times: int) -> Trace:
    """The trace so many times over, each round after the other and one mean gap (or bin) later.

    Sessions and blocks of each round are others: nothing of an earlier round is found in a cache.
    """
    if times == 1:
        return trace
    period = period_ns(trace)
    if period * times >= _LAST_NS:
        raise ConfigError(f"{times} rounds of this trace last longer than 36 years\n  expected  fewer")
    session = trace.numbers("session")
    rounds = []
    for turn in range(times):
        part = trace.with_numbers(
            arrival_ns=trace.numbers("arrival_ns") + turn * period,
            session=np.where(session == NULL, NULL, session + (turn << _ROUND_BITS)),
        )
        rounds.append(_with_salted_blocks(part, turn) if turn and trace.has("blocks") else part)
    return joined(rounds)


def period_ns(trace: Trace) -> int:
    """From the start of one round of a loop to that of the next."""
    arrival = trace.numbers("arrival_ns")
    gap = int(arrival[-1] - arrival[0]) // max(1, len(arrival) - 1)
    period = int(arrival[-1]) + max(gap, trace.bin_ns, 1)
    return period if not trace.bin_ns else round(period / trace.bin_ns) * trace.bin_ns


def _with_salted_blocks(trace: Trace, turn: int) -> Trace:
    offsets, ids = trace.lists("blocks")
    return trace.with_column("blocks", list_array(offsets, mixed_pair(ids, np.full(1, turn)), np.diff(offsets) > 0))


def scaled_tokens(trace: Trace, factor: float, block_tokens: int | None = None) -> Trace:
    """Lengths times `factor`, at least 1, and blocks of `block_tokens` (None: of as many times the factor).

    Prompts with blocks are scaled as their blocks are, so that they keep their number and what they share.
    """
    if factor == 1 and block_tokens in {None, trace.block_tokens}:
        return trace
    size = trace.block_tokens
    columns = {name: trace.numbers(name) for name in ("input_tokens", "output_tokens")}
    scaled = {name: _scaled(column, factor) for name, column in columns.items()}
    if size is None:
        return trace.with_numbers(**scaled)
    new = max(1, round(size * factor)) if block_tokens is None else block_tokens
    given = columns["input_tokens"]
    whole, rest = given // size, given % size
    # A block that is begun stays begun: its last tokens are at least one.
    by_blocks = whole * new + np.where(rest > 0, np.clip(np.rint(rest * (new / size)).astype(np.int64), 1, new), 0)
    with_blocks = (np.diff(trace.lists("blocks")[0]) > 0) & (given != NULL)
    scaled["input_tokens"] = np.where(with_blocks, by_blocks, scaled["input_tokens"])
    return replace(trace.with_numbers(**scaled), block_tokens=new)


def _scaled(column: IntArray, factor: float) -> IntArray:
    scaled = np.rint(np.where(column == NULL, 0, column) * factor).astype(np.int64)
    # Nothing stays nothing: a reply without a token was a failure.
    return np.where(column == NULL, NULL, np.where(column > 0, np.maximum(scaled, 1), column))
