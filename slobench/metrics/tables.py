"""Latency tables by class: of successes, with failures as +inf, and over the whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from slobench.metrics.case import Case
from slobench.metrics.columns import (
    FAILED,
    TIMEOUTS,
    BoolArray,
    ChunkGroups,
    group_chunks,
    is_ok,
    outcome_in,
    seconds,
)
from slobench.metrics.estimate import QUANTILES, Windows, latency_table, noted
from slobench.metrics.latency import chosen_gaps_s, event_tokens, tokens_per_event
from slobench.metrics.peers import Replies, definition
from slobench.metrics.slo import CAN_BE_VACUOUS
from slobench.metrics.summary import Estimate, LatencyTable
from slobench.names import TokensSource
from slobench.records.schema import Columns
from slobench.stats.quantiles import FloatArray, inverted_cdf
from slobench.units import format_s

METRICS = ("ttft", "ttfo", "tpot", "max_gap", "e2e", "ttft_sent", "e2e_sent")
ONE_TOKEN_AN_EVENT = 1.05  # up to here a gap between events is an inter-token latency


@dataclass(frozen=True, slots=True)
class Gaps:
    """Pooled gaps between token events of successful replies.

    ok: by request, whether it succeeded. tokens: of each event, None where a gap's end is one token.
    """

    chunks: Columns
    groups: ChunkGroups
    ok: BoolArray
    tokens: FloatArray | None

    def of(self, chosen: BoolArray) -> BoolArray:
        """Return which events end a gap of the chosen requests."""
        keep = self.groups.spread(chosen & self.ok)
        keep[self.groups.start] = False
        return keep


@dataclass(frozen=True, slots=True)
class Source:
    """What the tables are made from."""

    case: Case
    windows: Windows
    gaps: Gaps
    quantiles: Mapping[str, float]
    approximate: bool  # tokens were counted as events

    @classmethod
    def of(cls, case: Case, windows: Windows) -> Source:
        """Pool the gaps and collect the quantiles that the SLO asks for beside the usual ones."""
        asked = {
            clause.quantile for one in (case.slo.common, *dict(case.slo.by_class).values())
            for clause in one.objectives if clause.quantile is not None
        }  # fmt: skip
        quantiles = {**QUANTILES, **{f"p{q * 100:g}": q for q in asked}}
        ordered = dict(sorted(quantiles.items(), key=lambda item: item[1]))
        counted = case.requests["tokens_source"][case.main & is_ok(case.requests)] == TokensSource.CHUNKS.value
        return cls(case, windows, _gaps(case), ordered, bool(np.any(counted)))

    def by_class(self, table_of: Callable[[BoolArray], LatencyTable]) -> dict[str, LatencyTable]:
        """Make the table of "all" and of each class; a lone class has that of all."""
        requests = self.case.requests
        every = table_of(np.ones(len(requests["index"]), dtype=np.bool_))
        names = np.unique(requests["class"])
        if len(names) <= 1:
            return {"all": every, **{str(name): every for name in names}}
        return {"all": every, **{str(name): table_of(requests["class"] == name) for name in names}}


def _gaps(case: Case) -> Gaps:
    requests, chunks = case.requests, case.records.chunks
    groups, ok = group_chunks(requests, chunks), is_ok(requests)
    each = tokens_per_event(requests, case.main & ok)
    alone = each is None or each <= ONE_TOKEN_AN_EVENT
    return Gaps(chunks, groups, ok, None if alone else event_tokens(requests, chunks, groups))


def successful(source: Source, *, steady: bool, peers: Sequence[str] = ()) -> dict[str, LatencyTable]:
    """Successful requests of the window, with intervals; percentiles of an overloaded server are marked.

    peers: metrics as other tools define them, by name, beside our own.
    """
    chosen = source.case.main & is_ok(source.case.requests)

    def table_of(mine: BoolArray) -> LatencyTable:
        both = (*_tables(source, chosen & mine, intervals=True), *_peer_tables(source, chosen & mine, peers))
        return {
            metric: {q: seen if steady else noted(seen, "not steady") for q, seen in table.items()}
            for metric, table in both
        }

    return source.by_class(table_of)


def full_run(source: Source) -> dict[str, LatencyTable]:
    """Successful requests of the whole run, warm-up and drain included: values and n only."""
    chosen = is_ok(source.case.requests)
    return source.by_class(lambda mine: dict(_tables(source, chosen & mine, intervals=False)))


def adjusted(source: Source) -> dict[str, LatencyTable]:
    """All due requests of the window, a failure = +inf; a quantile within the timed-out ones is `> timeout`."""
    case = source.case
    failed = case.main & outcome_in(case.requests, FAILED)
    chosen = failed | (case.main & is_ok(case.requests))

    def table_of(mine: BoolArray) -> LatencyTable:
        tables: dict[str, Mapping[str, Estimate]] = {}
        for metric in METRICS:
            values = np.where(failed, np.inf, case.derived[f"{metric}_s"])[chosen & mine]
            table = latency_table(values, _of(source.windows, chosen & mine), source.quantiles)
            if table:
                least = _at_least_s(case, metric, values, chosen & mine)
                marked = _mark(source, metric, table, _of(source.windows, chosen & mine))
                tables[metric] = {q: _censor(source, seen, q, least) for q, seen in marked}
        return tables

    return source.by_class(table_of)


def _at_least_s(case: Case, metric: str, values: FloatArray, chosen: BoolArray) -> FloatArray:
    """Return what each value is known to exceed or be: itself, or how long a timed-out request was waited for.

    Only for times that count from the schedule or the send: of TPOT and gaps a timeout says nothing.
    """
    if metric in CAN_BE_VACUOUS:
        return values[~np.isnan(values)]
    began = "sent_ns" if metric.endswith("_sent") else "scheduled_ns"
    waited = seconds(case.requests, "end_ns") - seconds(case.requests, began)
    timed_out = outcome_in(case.requests, TIMEOUTS) & ~np.isnan(waited)
    return np.where(timed_out[chosen], waited[chosen], values)[~np.isnan(values)]


def _censor(source: Source, seen: Estimate, name: str, least_s: FloatArray) -> Estimate:
    """Right-censored: a quantile that timeouts reach is beyond the same quantile of what is known of each request."""
    q = source.quantiles.get(name)
    if q is None or seen.value is None or np.isfinite(seen.value):
        return seen
    least = inverted_cdf(least_s, q)
    return noted(seen, f"> {format_s(least)}") if np.isfinite(least) else seen


def _tables(source: Source, chosen: BoolArray, *, intervals: bool) -> Iterator[tuple[str, Mapping[str, Estimate]]]:
    for metric in METRICS:
        values = source.case.derived[f"{metric}_s"][chosen]
        windows = _of(source.windows, chosen)
        table = latency_table(values, windows, source.quantiles, intervals=intervals)
        if table:
            yield metric, dict(_mark(source, metric, table, windows if intervals else None))
    keep = source.gaps.of(chosen)
    if not keep.any():
        return
    windows, tokens = source.windows, source.gaps.tokens
    if intervals:
        narrow = windows.of.astype(np.min_scalar_type(windows.count))
        windows = replace(windows, of=source.gaps.groups.spread(narrow)[keep])
    gaps_s, why = chosen_gaps_s(source.gaps.chunks, keep), windows if intervals else None
    metric = "itl" if tokens is None else "icl"
    table = latency_table(gaps_s, windows, source.quantiles, intervals=intervals)
    yield metric, dict(_mark(source, metric, table, why))
    if tokens is not None:
        each_s = gaps_s / np.maximum(tokens[keep], 1.0)
        spread = latency_table(each_s, windows, source.quantiles, intervals=intervals)
        yield "itl", {q: noted(seen, "gap/tokens") for q, seen in _mark(source, "itl", spread, why)}


def _peer_tables(
    source: Source, chosen: BoolArray, names: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, Estimate]]]:
    if not names:
        return
    replies = Replies.of(source.case.requests, source.case.records.chunks, source.gaps.groups)
    for name in names:
        found = definition(name).values(replies)
        mine = chosen[found.row] & ~np.isnan(found.seconds)
        windows = replace(source.windows, of=source.windows.of[found.row[mine]])
        table = latency_table(found.seconds[mine], windows, source.quantiles)
        if table:
            yield name, dict(_mark(source, name.partition("@")[0], table, windows))


def _mark(
    source: Source, metric: str, table: Mapping[str, Estimate], windows: Windows | None
) -> Iterator[tuple[str, Estimate]]:
    """TPOT's upper quantiles have intervals that cover less than they say; so has all that rests on event counts.

    A quantile without n_eff says why: by the `windows` it was judged by, None for the whole run.
    """
    for q, seen in table.items():
        tail = metric == "tpot" and source.quantiles.get(q, 0.0) >= 0.99 and seen.low is not None
        counted = metric == "tpot" and source.approximate
        marked = noted(seen, "approximate") if tail or counted else seen
        bare = q in source.quantiles and seen.n_eff is None
        yield q, noted(marked, _why(seen, windows)) if bare else marked


def _why(seen: Estimate, windows: Windows | None) -> str:
    if windows is None:
        return "no interval: whole run"
    if seen.n < 2 * windows.count:
        return f"no interval: fewer than {2 * windows.count}"
    if seen.low is None and seen.value is not None and np.isfinite(seen.value):
        return "no interval: a part of the window is empty"
    return "none beyond" if seen.value is not None and np.isfinite(seen.value) else "all failed"


def _of(windows: Windows, chosen: BoolArray) -> Windows:
    return Windows(windows.of[chosen], windows.count, windows.optimistic)
