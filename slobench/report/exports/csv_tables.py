"""CSV: one row a class, metric and quantile; or one row a request."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from slobench.metrics.summary import Estimate, LatencyTable
from slobench.records.schema import REQUESTS
from slobench.records.store import read_requests
from slobench.report.view import RunView
from slobench.report.words import clean

COLUMNS = (
    *("run", "class", "metric", "population", "quantile", "unit", "value", "low", "high"),
    *("n", "n_eff", "design_effect", "note"),
)
_RATES = {
    "offered_rps": "1/s", "sent_rps": "1/s", "finished_rps": "1/s", "input_tokens_per_s": "tokens/s",
    "output_tokens_per_s": "tokens/s", "total_tokens_per_s": "tokens/s",
}  # fmt: skip


def summary_csv(view: RunView) -> str:
    """Return latencies, attainment, goodput and rates of every class; empty = none, inf = failures reach it."""
    return _text(COLUMNS, _rows(view))


def requests_csv(view: RunView) -> str:
    """Return requests.parquet as text: its columns in its order, empty = null."""
    columns = read_requests(view.folder)
    return _text(REQUESTS.names, zip(*(columns[name].tolist() for name in REQUESTS.names), strict=True))


def _rows(view: RunView) -> Iterator[tuple[Any, ...]]:
    summary = view.summary
    for population, tables in (("successful", summary.latency), ("with failures", summary.latency_adjusted)):
        for name, table in tables.items():
            for metric, quantile, seen in _latencies(table):
                yield (view.name, name, metric, population, quantile, "s", *_cells(seen))
    for name, result in summary.slo.items():
        shares = {"attainment": result.attainment, "attainment_admitted": result.attainment_admitted}
        shares |= {f"attainment: {clause}": seen for clause, seen in result.marginal.items()}
        for metric, seen in shares.items():
            yield (view.name, name, metric, "due", "", "share", *_cells(seen))
        yield (view.name, name, "goodput", "due", "", "1/s", *_cells(result.goodput))
        yield (view.name, name, "good_tokens", "due", "", "tokens/s", *_cells(result.good_tokens))
    for name, load in summary.load.items():
        for metric, unit in _RATES.items():
            seen = load.intervals.get(metric) or Estimate(getattr(load, metric))
            yield (view.name, name, metric, "window", "", unit, *_cells(seen))


def _latencies(table: LatencyTable) -> Iterator[tuple[str, str, Estimate]]:
    for metric, quantiles in table.items():
        for quantile, seen in quantiles.items():
            yield metric, quantile, seen


def _cells(seen: Estimate) -> tuple[Any, ...]:
    return seen.value, seen.low, seen.high, seen.n, seen.n_eff, seen.design_effect, seen.note


def _text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> str:
    """One value; what a spreadsheet would run as a formula gets a quote before it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        shown = clean(value)
        return f"'{shown}" if shown[:1] in {"=", "+", "-", "@"} else shown
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 2**53
        return str(int(value)) if whole else repr(float(value))  # infinite: inf
    return str(value)
