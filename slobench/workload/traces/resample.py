"""A new trace from pieces of a recorded one: the block bootstrap."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from slobench.errors import UsageError
from slobench.workload.traces.prompts import cumulative
from slobench.workload.traces.schema import Trace
from slobench.workload.variates import child, uniforms

_GONE = ("session", "turn", "delay_ns", "after", "blocks", "text")
NOTE = "pieces of a recording, drawn with replacement: sessions and prefixes are not in them"


def resampled(trace: Trace, *, seed: int, piece_ns: int, requests: int | None, duration_ns: int | None) -> Trace:
    """Put pieces of the recording, each as long as `piece_ns` and begun at random, one after the other.

    What happens within a piece stays as it was, bursts and lengths that belong together; what spans pieces is lost
    (Künsch, Annals of Statistics 17, 1989). Ends after so many requests or so much time. Raises UsageError where the
    recording has no times, or is shorter than a piece.
    """
    arrival = trace.numbers("arrival_ns")
    span = int(arrival[-1] - arrival[0]) if trace.timed else 0
    if span < piece_ns:
        raise UsageError(
            f"the trace lasts {span / 1e9:g} s, less than a piece of {piece_ns / 1e9:g} s\n"
            "  expected  a trace with times, and shorter pieces (--piece)"
        )
    rng = child(seed, "resample")
    rows, times, taken, at = [], [], 0, 0
    while (requests is None or taken < requests) and (duration_ns is None or at * piece_ns < duration_ns):
        if requests is not None and at > 1000 * (requests + 1):
            raise UsageError("too few requests in the pieces\n  expected  longer pieces (--piece)")
        begin = int(arrival[0]) + math.floor(float(uniforms(1, rng)[0]) * (span - piece_ns + 1))
        low, high = np.searchsorted(arrival, [begin, begin + piece_ns]).tolist()
        rows.append(np.arange(low, high))
        times.append(arrival[low:high] - begin + at * piece_ns)
        taken, at = taken + high - low, at + 1
    picked, due = np.concatenate(rows)[:requests], np.concatenate(times)[:requests]
    if duration_ns is not None:
        picked, due = picked[due < duration_ns], due[due < duration_ns]
    if not len(picked):
        raise UsageError("no request falls into this sample\n  expected  a longer one")
    part = cumulative(trace).take(picked).with_numbers(arrival_ns=due)
    for name in _GONE:
        part = part.without(name)
    return replace(part, block_tokens=None, notes=(*trace.notes, NOTE))
