"""Latency tables by class: of successes, with failures as +inf, and over the whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from slobench.metrics.case import Case
from slobench.metrics.columns import (
    FAILED,
    TIMEOUTS,
    BoolArray,
    IntArray,
    group_chunks,
    is_ok,
    outcome_in,
)
from slobench.metrics.estimate import QUANTILES, Windows, latency_table, noted
from slobench.metrics.latency import event_tokens, gaps_s, tokens_per_event
from slobench.metrics.summary import Estimate, LatencyTable
from slobench.names import TokensSource
from slobench.stats.quantiles import FloatArray
from slobench.units import format_s

METRICS = ("ttft", "ttfo", "tpot", "max_gap", "e2e", "ttft_sent", "e2e_sent")
ONE_TOKEN_AN_EVENT = 1.05  # up to here a gap between events is an inter-token latency
MANY_GAPS = 20_000_000  # above it gaps get no intervals: sorting them with their windows takes minutes


@dataclass(frozen=True, slots=True)
class Gaps:
    """Pooled gaps between token events of successful replies.

    row: position of the request; gap_s: the gap; per_token_s: the gap over the tokens that ended it.
    """

    row: IntArray
    gap_s: FloatArray
    per_token_s: FloatArray | None


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
    groups = group_chunks(requests, chunks)
    rows = groups.spread(np.arange(len(requests["index"]))).astype(np.int64)
    gap = gaps_s(chunks, groups)
    keep = ~np.isnan(gap)
    keep[keep] = is_ok(requests)[rows[keep]]
    each = tokens_per_event(requests, case.main & is_ok(requests))
    if each is None or each <= ONE_TOKEN_AN_EVENT:
        return Gaps(rows[keep], gap[keep], None)
    tokens = np.maximum(event_tokens(requests, chunks, groups)[keep], 1.0)
    return Gaps(rows[keep], gap[keep], gap[keep] / tokens)


def successful(source: Source, *, steady: bool) -> dict[str, LatencyTable]:
    """Successful requests of the window, with intervals; percentiles of an overloaded server are marked."""
    chosen = source.case.main & is_ok(source.case.requests)

    def table_of(mine: BoolArray) -> LatencyTable:
        return {
            metric: {q: seen if steady else noted(seen, "not steady") for q, seen in table.items()}
            for metric, table in _tables(source, chosen & mine, intervals=True)
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
    timed_out = case.main & outcome_in(case.requests, TIMEOUTS)
    chosen = failed | (case.main & is_ok(case.requests))

    def table_of(mine: BoolArray) -> LatencyTable:
        tables: dict[str, Mapping[str, Estimate]] = {}
        for metric in METRICS:
            values = np.where(failed, np.inf, case.derived[f"{metric}_s"])[chosen & mine]
            table = latency_table(values, _of(source.windows, chosen & mine), source.quantiles)
            if table:
                censored = int(np.sum(timed_out & mine)) / table["mean"].n
                tables[metric] = {q: _censor(source, seen, q, censored) for q, seen in _mark(source, metric, table)}
        return tables

    return source.by_class(table_of)


def _censor(source: Source, seen: Estimate, name: str, censored: float) -> Estimate:
    """Right-censored: among the slowest (1 - q) only timeouts are known to be, so the quantile is beyond them."""
    q = source.quantiles.get(name)
    timeout = source.case.ask.timeout_s
    if q is None or seen.value is None or np.isfinite(seen.value) or timeout is None or censored < 1 - q:
        return seen
    return replace(seen, note=", ".join(x for x in (seen.note, f"> {format_s(timeout)}") if x))


def _tables(source: Source, chosen: BoolArray, *, intervals: bool) -> Iterator[tuple[str, Mapping[str, Estimate]]]:
    for metric in METRICS:
        values = source.case.derived[f"{metric}_s"][chosen]
        table = latency_table(values, _of(source.windows, chosen), source.quantiles, intervals=intervals)
        if table:
            yield metric, dict(_mark(source, metric, table))
    keep = chosen[source.gaps.row]
    if not keep.any():
        return
    windows = Windows(source.windows.of[source.gaps.row[keep]], source.windows.count, source.windows.optimistic)
    sure = intervals and int(keep.sum()) <= MANY_GAPS
    table = latency_table(source.gaps.gap_s[keep], windows, source.quantiles, intervals=sure)
    yield ("itl" if source.gaps.per_token_s is None else "icl"), table
    if source.gaps.per_token_s is not None:
        spread = latency_table(source.gaps.per_token_s[keep], windows, source.quantiles, intervals=sure)
        yield "itl", {q: noted(seen, "gap/tokens") for q, seen in spread.items()}


def _mark(source: Source, metric: str, table: Mapping[str, Estimate]) -> Iterator[tuple[str, Estimate]]:
    """TPOT's upper quantiles have intervals that cover less than they say; so has all that rests on event counts."""
    for q, seen in table.items():
        tail = metric == "tpot" and source.quantiles.get(q, 0.0) >= 0.99 and seen.low is not None
        counted = metric == "tpot" and source.approximate
        yield q, noted(seen, "approximate") if tail or counted else seen


def _of(windows: Windows, chosen: BoolArray) -> Windows:
    return Windows(windows.of[chosen], windows.count, windows.optimistic)
