"""Latency of single requests, from their recorded times (docs/metrics.md, Per request)."""

from __future__ import annotations

import numpy as np

from slobench.metrics.columns import BoolArray, ChunkGroups, group_chunks, is_ok, number, slices
from slobench.names import CHANNELS, Channel
from slobench.records.schema import Columns
from slobench.stats.quantiles import FloatArray

NS = 1e9
_REPLIES = 4096  # whose events are looked at together: what is worked out then stays in the cache
REASONING = CHANNELS.index(Channel.REASONING)


def derive(requests: Columns, chunks: Columns) -> dict[str, FloatArray]:
    """Work out the derived columns, in seconds, one value per request; NaN where a quantity does not exist.

    TTFT counts from the scheduled time to the first token of any channel; null where none was seen, where
    the reply did not stream, and where reasoning was billed but not shown. E2E ends at the last token: a late
    usage chunk or [DONE] does not extend it; null unless the request succeeded.
    TPOT = (last - first token)/(n - 1), n without hidden reasoning; null where n <= 1 or all tokens came at once,
    never 0. `tpot_adjusted_s` divides by n - m where the first event carried m > 1 tokens.
    `max_gap_s` is the largest gap between two token events.
    """
    groups = group_chunks(requests, chunks)
    scheduled, sent = number(requests, "scheduled_ns"), number(requests, "sent_ns")
    last = number(requests, "last_token_ns")
    hidden = hidden_reasoning(requests, chunks, groups)
    first = np.where(hidden, np.nan, number(requests, "first_token_ns"))
    ended = np.where(is_ok(requests), last, np.nan)
    tpot, adjusted = _time_per_token(requests, hidden=hidden)
    return {
        "ttft_s": (first - scheduled) / NS,
        "ttfo_s": (number(requests, "first_output_ns") - scheduled) / NS,
        "tpot_s": tpot,
        "e2e_s": (ended - scheduled) / NS,
        "ttft_sent_s": (first - sent) / NS,
        "e2e_sent_s": (ended - sent) / NS,
        "send_lag_s": (number(requests, "started_ns") - scheduled) / NS,
        "max_gap_s": _max_gap(len(scheduled), chunks, groups),
        "tpot_adjusted_s": adjusted,
    }


def hidden_reasoning(requests: Columns, chunks: Columns, groups: ChunkGroups) -> BoolArray:
    """Find replies whose usage counts reasoning tokens that the stream did not show."""
    billed = np.nan_to_num(number(requests, "reasoning_tokens")) > 0
    if not billed.any() or not len(groups.row):
        return billed
    shown = np.zeros(len(billed), dtype=np.bool_)
    seen = np.asarray(chunks["channel"]) == REASONING
    shown[groups.row] = np.logical_or.reduceat(seen, groups.start)
    return billed & ~shown


def visible_tokens(requests: Columns, hidden: BoolArray) -> FloatArray:
    """Output tokens that could be seen arriving: without hidden reasoning."""
    n = number(requests, "output_tokens")
    return np.where(hidden, n - number(requests, "reasoning_tokens"), n)


def _time_per_token(requests: Columns, *, hidden: BoolArray) -> tuple[FloatArray, FloatArray]:
    first, last = number(requests, "first_token_ns"), number(requests, "last_token_ns")
    n = visible_tokens(requests, hidden)
    at_first = np.maximum(np.nan_to_num(number(requests, "first_chunk_tokens"), nan=1.0), 1.0)
    # One event, or several read at one instant: the time per token was not observable, which is not 0.
    observable = (last > first) & ~(number(requests, "chunks") <= 1)
    span = np.where(observable, last - first, np.nan) / NS
    return span / np.where(n > 1, n - 1, np.nan), span / np.where(n > at_first, n - at_first, np.nan)


def gaps_s(chunks: Columns, groups: ChunkGroups) -> FloatArray:
    """Time since the request's token event before, one value per chunk row; NaN at each request's first."""
    times = np.asarray(chunks["t_ns"], dtype=np.int64)
    gaps = np.empty(len(times))
    if len(times):
        np.subtract(times[1:], times[:-1], out=gaps[1:])
        gaps /= NS
        gaps[groups.start] = np.nan
    return gaps


def chosen_gaps_s(chunks: Columns, keep: BoolArray) -> FloatArray:
    """Return the times since the event before of the chosen chunk rows, none of them the first row; in slices."""
    times = np.asarray(chunks["t_ns"], dtype=np.int64)
    found, done = np.empty(int(np.count_nonzero(keep))), 0
    for part in slices(len(times)):
        first = max(part.start - 1, 0)
        gaps = np.diff(times[first : part.stop])[keep[first + 1 : part.stop]]
        np.divide(gaps, NS, out=found[done : done + len(gaps)])
        done += len(gaps)
    return found


def _max_gap(n: int, chunks: Columns, groups: ChunkGroups) -> FloatArray:
    largest = np.full(n, np.nan)
    times = np.asarray(chunks["t_ns"], dtype=np.int64)
    for part in slices(len(groups.row), _REPLIES):
        first, start = groups.start[part.start], groups.start[part]
        gaps = np.diff(times[first : groups.end[part][-1]], prepend=0)
        gaps[start - first] = -1  # the first event of a reply ends no gap
        found = np.maximum.reduceat(gaps, start - first)
        largest[groups.row[part]] = np.where(found < 0, np.nan, found / NS)
    return largest


def event_tokens(requests: Columns, chunks: Columns, groups: ChunkGroups) -> FloatArray:
    """Tokens of each chunk row: as the server said, else its share of what the reply's total leaves over.

    A reply without a total counts one token for each event whose tokens are not known (marked approximate).
    """
    said = np.asarray(chunks["tokens"], dtype=np.float64)
    if not len(groups.row):
        return said
    unknown = np.isnan(said)
    if not unknown.any():
        return said
    total = number(requests, "output_tokens")[groups.row]
    if unknown.all() and bool(np.all(np.isnan(total) | (total == groups.sizes))):
        return np.broadcast_to(1.0, len(said))  # the usual case; it takes no memory
    known = np.add.reduceat(np.nan_to_num(said), groups.start)
    missing = np.add.reduceat(unknown.astype(np.float64), groups.start)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = np.maximum(total - known, 0) / missing
    each = np.where(np.isnan(total), 1.0, each)
    return np.where(unknown, np.repeat(each, groups.sizes), said)


def tokens_per_event(requests: Columns, chosen: BoolArray) -> float | None:
    """Tokens over token events of the chosen requests; above 1.05 a gap is not an inter-token latency."""
    n, events = number(requests, "output_tokens"), number(requests, "chunks")
    counted = chosen & (events > 0) & (n > 0)
    total = float(events[counted].sum())
    return float(n[counted].sum()) / total if total else None
