"""What was offered, what was sent, what came back: rates over the window, counts over the whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slobench.metrics.columns import (
    ENDED_EARLY,
    BoolArray,
    group_chunks,
    is_ok,
    number,
    outcome_in,
    seconds,
    slices,
)
from slobench.metrics.estimate import Windows
from slobench.metrics.latency import event_tokens, tokens_per_event
from slobench.metrics.rates import rate_of_sums
from slobench.metrics.summary import Estimate, Load
from slobench.metrics.window import Window
from slobench.names import Outcome
from slobench.records.schema import Columns
from slobench.stats.quantiles import FloatArray, inverted_cdf


@dataclass(frozen=True, slots=True)
class TokenFlow:
    """Output tokens as they arrived: one value per event (or per reply that did not stream).

    Tokens of failed replies are left out; those of replies that we ended were served all the same.
    """

    row: NDArray[np.integer]  # position of the request
    at_s: FloatArray
    tokens: FloatArray

    def of(self, chosen: BoolArray) -> TokenFlow:
        """Return the flow of the chosen requests."""
        if chosen.all():
            return self
        keep = chosen[self.row]
        return TokenFlow(self.row[keep], self.at_s[keep], self.tokens[keep])


def token_flow(requests: Columns, chunks: Columns) -> TokenFlow:
    """All output tokens with their receive times. Their sum is that of the replies' output tokens."""
    served = is_ok(requests) | outcome_in(requests, ENDED_EARLY)
    groups = group_chunks(requests, chunks)
    rows = groups.spread(np.arange(len(served), dtype=np.int32))
    at = np.asarray(chunks["t_ns"]) / 1e9
    tokens = event_tokens(requests, chunks, groups)
    if not served[groups.row].all():
        keep = groups.spread(served)
        rows, at, tokens = rows[keep], at[keep], tokens[keep]
    streamed = np.zeros(len(served), dtype=np.bool_)
    streamed[groups.row] = True
    whole = np.flatnonzero(served & ~streamed & (number(requests, "output_tokens") > 0))
    if not len(whole):
        return TokenFlow(rows, at, tokens)
    ended = seconds(requests, "last_token_ns")[whole]
    return TokenFlow(
        np.concatenate([rows, whole]),
        np.concatenate([at, np.where(np.isnan(ended), seconds(requests, "end_ns")[whole], ended)]),
        np.concatenate([tokens, number(requests, "output_tokens")[whole]]),
    )


def token_series(flow: TokenFlow, start_s: float, end_s: float, width_s: float = 1.0) -> tuple[float, FloatArray]:
    """(bucket width in s, tokens per bucket) over [start, end): equal buckets of about `width_s`, at least one.

    The buckets sum to the tokens of the span, and the highest rate is at least the mean, also under one second.
    """
    length = end_s - start_s
    buckets = max(round(length / width_s), 1)
    sums = np.zeros(buckets)
    for part in slices(len(flow.at_s)):
        at_s = flow.at_s[part]
        inside = (at_s >= start_s) & (at_s < end_s)
        where = np.minimum(((at_s[inside] - start_s) / length * buckets).astype(np.int64), buckets - 1)
        sums += np.bincount(where, weights=flow.tokens[part][inside], minlength=buckets)
    return length / buckets, sums


def in_flight(begin_s: FloatArray, end_s: FloatArray, edges_s: FloatArray) -> tuple[FloatArray, int]:
    """(time-averaged number in flight between consecutive edges, most at any time inside them).

    begin, end: one span per request, NaN-free; integrals are exact.
    """
    begun, ended = np.sort(begin_s), np.sort(end_s)
    area = _area(begun, edges_s) - _area(ended, edges_s)
    times = np.concatenate([begun, ended])
    order = np.argsort(times, kind="stable")  # at one instant arrivals first: the most that can have been open
    level = np.cumsum(np.concatenate([np.ones(len(begun)), -np.ones(len(ended))])[order])
    inside = (times[order] >= edges_s[0]) & (times[order] < edges_s[-1])
    before = int(np.searchsorted(begun, edges_s[0]) - np.searchsorted(ended, edges_s[0], side="right"))
    most = int(level[inside].max()) if inside.any() else before
    return np.diff(area) / np.diff(edges_s), max(most, before)


def _area(events: FloatArray, at: FloatArray) -> FloatArray:
    """Integral up to each time of how many events lie before it."""
    sums = np.concatenate([[0.0], np.cumsum(events)])
    k = np.searchsorted(events, at)
    return np.asarray(at * k - sums[k], dtype=np.float64)


def spans(requests: Columns, chosen: BoolArray) -> tuple[FloatArray, FloatArray]:
    """(begin, end) in s of the chosen requests that were begun; one without an end lasts to the run's last event."""
    begin, end = seconds(requests, "started_ns"), seconds(requests, "end_ns")
    begun = chosen & ~np.isnan(begin)
    latest = np.nanmax(np.concatenate([end[np.isfinite(end)], begin[begun], [0.0]]))
    return begin[begun], np.where(np.isnan(end[begun]), latest, end[begun])


def loads(requests: Columns, derived: Columns, flow: TokenFlow, window: Window, windows: Windows) -> Mapping[str, Load]:
    """Load of each class and of "all"; windows: the window's parts, for the intervals of token rates."""
    held = Measured(requests, derived, flow, window, windows)
    every = load(held, np.ones(len(requests["index"]), dtype=np.bool_))
    names = np.unique(requests["class"])
    if len(names) <= 1:
        return {"all": every, **{str(name): every for name in names}}
    parts = {str(name): load(held, requests["class"] == name) for name in names}
    return {"all": every, **parts}


@dataclass(frozen=True, slots=True)
class Measured:
    """What loads are worked out from."""

    requests: Columns
    derived: Columns
    flow: TokenFlow
    window: Window
    windows: Windows

    def sums(self, times_s: FloatArray, amounts: FloatArray) -> tuple[FloatArray, int]:
        """(amounts in each part of the window, how many there are that are not 0)."""
        n, sums = 0, np.zeros(self.windows.count)
        for part in slices(len(times_s)):
            at_s, amount = times_s[part], amounts[part]
            inside = self.window.holds(at_s) & (amount > 0)
            where = self.window.batch(at_s[inside], self.windows.count)
            sums += np.bincount(where, weights=amount[inside], minlength=self.windows.count)
            n += len(where)
        return sums, n

    def rate(self, *flows: tuple[FloatArray, int]) -> Estimate:
        """Estimate the rate over the window of all flows together, each as `sums` gives it."""
        total = np.sum([sums for sums, _ in flows], axis=0)
        return rate_of_sums(total, sum(n for _, n in flows), self.windows, self.window.length_s)


def load(held: Measured, chosen: BoolArray) -> Load:
    """Load of the chosen requests. Input tokens count when their prefill is done: at the first token."""
    requests, derived, window = held.requests, held.derived, held.window
    length = window.length_s
    due = chosen & (requests["outcome"] != Outcome.UNSENT.value)
    main = due & window.holds(seconds(requests, "scheduled_ns"))
    started, end = seconds(requests, "started_ns"), seconds(requests, "end_ns")
    sent = due & ~np.isnan(started) & ~outcome_in(requests, {Outcome.DROPPED})
    finished = sent & ~np.isnan(end)
    ok = chosen & is_ok(requests)
    in_window = held.flow.of(chosen)
    width, buckets = token_series(in_window, window.start_s, window.end_s)
    written = held.sums(in_window.at_s, in_window.tokens)
    read = held.sums(*_input_flow(requests, ok | (chosen & outcome_in(requests, ENDED_EARLY))))
    output, entered, total = held.rate(written), held.rate(read), held.rate(written, read)
    edges = np.array([window.start_s, window.end_s])
    levels, most = in_flight(*spans(requests, sent), edges)
    lag = derived["send_lag_s"][main & sent]
    lag = lag[~np.isnan(lag)]
    wait = _connection_wait_s(requests)[main & sent]
    return Load(
        planned=int(np.sum(chosen)),
        sent=int(np.sum(sent)),
        finished=int(np.sum(finished)),
        ok=int(np.sum(ok)),
        offered_rps=float(np.sum(main)) / length,
        sent_rps=float(np.sum(sent & window.holds(started))) / length,
        finished_rps=_first_to_last_rate(np.sort(end[finished & window.holds(end)])),
        input_tokens_per_s=entered.value or 0.0,
        output_tokens_per_s=output.value or 0.0,
        total_tokens_per_s=total.value or 0.0,
        in_flight_mean=float(levels[0]),
        in_flight_max=most,
        send_lag_p50_s=_none(inverted_cdf(lag, 0.5)),
        send_lag_p99_s=_none(inverted_cdf(lag, 0.99)),
        send_lag_max_s=float(lag.max()) if len(lag) else None,
        connection_wait_p99_s=_none(inverted_cdf(wait[~np.isnan(wait)], 0.99)),
        arrivals_cv=gaps_cv(started[main & sent]),
        tokens_per_event=tokens_per_event(requests, main & ok),
        input_tokens_mean=_mean(number(requests, "input_tokens")[main & ok]),
        output_tokens_mean=_mean(number(requests, "output_tokens")[main & ok]),
        output_tokens_per_s_max=float(buckets.max()) / width,
        intervals={"input_tokens_per_s": entered, "output_tokens_per_s": output, "total_tokens_per_s": total},
    )


def gaps_cv(times_s: FloatArray) -> float | None:
    """Coefficient of variation of the gaps between sends as they were; 1 for Poisson arrivals."""
    gaps = np.diff(np.sort(times_s[~np.isnan(times_s)]))
    return float(gaps.std() / gaps.mean()) if len(gaps) > 1 and gaps.mean() > 0 else None


def _connection_wait_s(requests: Columns) -> FloatArray:
    """Sent minus started, for requests that went over a connection already open."""
    wait = seconds(requests, "sent_ns") - seconds(requests, "started_ns")
    return np.where(number(requests, "connection_new") == 0, wait, np.nan)


def _input_flow(requests: Columns, served: BoolArray) -> tuple[FloatArray, FloatArray]:
    """(time in s, input tokens) of each served request, when its prefill was done."""
    first = seconds(requests, "first_token_ns")
    at = np.where(np.isnan(first), seconds(requests, "last_token_ns"), first)[served]
    counted = number(requests, "input_tokens")
    tokens = np.where(np.isnan(counted), number(requests, "input_tokens_planned"), counted)[served]
    known = ~np.isnan(tokens)
    return at[known], tokens[known]


def _first_to_last_rate(ends_s: FloatArray) -> float:
    """Completions a second, from the first to the last: a ramp before the first does not lower it."""
    span = float(ends_s[-1] - ends_s[0]) if len(ends_s) > 1 else 0.0
    return (len(ends_s) - 1) / span if span > 0 else 0.0


def _mean(values: FloatArray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _none(value: float) -> float | None:
    return None if np.isnan(value) else value
