"""The tables of a report as plain values; console, Markdown and HTML each draw the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from slobench.metrics import peers
from slobench.metrics.summary import Estimate, LatencyTable, Load
from slobench.report import words
from slobench.report.view import RunView

Tone = Literal["", "strong", "good", "bad", "warn", "dim"]


@dataclass(frozen=True, slots=True)
class Cell:
    """Text and what it means; never markup."""

    text: str
    tone: Tone = ""
    indent: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; the first column is text, the others numbers unless named in `left`."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    left: frozenset[str] = frozenset()


BRIEF = ("mean", "p50", "p90", "p99")
BRIEF_METRICS = ("ttft", "tpot", "itl", "icl", "e2e")
MARKS = "*†‡§¶"
FAILURES = "with failures: a request without this time counts as +∞; interval, n and n_eff of that are in the JSON"


def latency_table(view: RunView, *, brief: bool, name: str | None = None) -> Table | None:
    """Percentiles of one class (default: the total) with interval, n, n_eff and D; None without data.

    brief: the metrics and quantiles of the console; else all that the summary has.
    """
    key = name or view.total
    metrics = view.summary.latency.get(key, {})
    adjusted = view.summary.latency_adjusted.get(key, {})
    limited = {limit.metric for limit in view.slo.common.limits} if view.slo else set()
    wanted = [m for m in ordered(metrics) if not brief or m in BRIEF_METRICS or m in limited or "@" in m]
    chosen = [
        (metric, quantile, estimate)
        for metric in wanted
        for quantile, estimate in metrics[metric].items()
        if (not brief or quantile in BRIEF) and not _nothing(metrics[metric])
    ]
    if not chosen:
        return None
    marks, common = _marks([estimate for _, _, estimate in chosen])
    differs = any(_differs(e, adjusted.get(m, {}).get(q)) for m, q, e in chosen)
    columns = (
        "",
        "",
        "value",
        "95 % interval",
        *(("with failures",) if differs else ()),
        "n",
        "n_eff",
        "D",
        *(("",) if marks else ()),
    )
    rows = tuple(
        _latency_row(metric, quantile, estimate, adjusted=adjusted if differs else None, marks=marks)
        for metric, quantile, estimate in chosen
    )
    legend = [f"{mark} {words.clean(note, 80)}" for note, mark in marks.items()]
    return Table(
        title="Latency of successful requests" + ("" if key == view.total else f": {words.clean(key, 60)}"),
        columns=columns,
        rows=_once(rows),
        notes=(
            *((f"intervals: {', '.join(common)}",) if common else ()),
            *((" · ".join(legend),) if legend else ()),
            *((FAILURES,) if differs else ()),
            *(f"{name}: {formula}" for name, formula in peers.formulas(wanted).items()),
        ),
    )


def ordered(metrics: LatencyTable | Iterable[str]) -> list[str]:
    """Metric keys in the order of a table: the known ones first."""
    known = [metric for metric in words.METRICS if metric in metrics]
    return known + [metric for metric in metrics if metric not in words.METRICS]


def _nothing(table: Mapping[str, Estimate]) -> bool:
    return all(estimate.value is None for estimate in table.values())


def _marks(chosen: Sequence[Estimate]) -> tuple[dict[str, str], list[str]]:
    """Return a mark for each word beside an estimate, and the words that all intervals share, which need none."""
    held = [_told(estimate) for estimate in chosen]
    kinds = list(dict.fromkeys(kind for told in held for kind in told))
    sure = [told for estimate, told in zip(chosen, held, strict=True) if estimate.low is not None]
    common = [kind for kind in kinds if sure and all(kind in told for told in sure)]
    rest = [kind for kind in kinds if kind not in common]
    return {kind: MARKS[i % len(MARKS)] * (1 + i // len(MARKS)) for i, kind in enumerate(rest)}, common


def _told(estimate: Estimate) -> tuple[str, ...]:
    """Return the words beside an estimate that its value does not show already."""
    return tuple(words.clean(note, 80) for note in words.notes_of(estimate) if not note.startswith(">"))


def _differs(estimate: Estimate, other: Estimate | None) -> bool:
    return other is not None and other.value is not None and words.latency(other) != words.latency(estimate)


def _latency_row(
    metric: str, quantile: str, estimate: Estimate, *, adjusted: LatencyTable | None, marks: Mapping[str, str]
) -> tuple[Cell, ...]:
    n, n_eff, design = words.weight(estimate)
    cells = [
        Cell(words.metric_name(metric), "strong"),
        Cell(quantile),
        Cell(words.latency(estimate), "strong" if quantile == "p99" else ""),
        Cell(words.latency_interval(estimate)),
    ]
    if adjusted is not None:
        other = adjusted.get(metric, {}).get(quantile)
        tone: Tone = "bad" if other and other.value is not None and math.isinf(other.value) else ""
        cells.append(Cell(words.latency(other) if other and _differs(estimate, other) else "", tone))
    thin = estimate.n_eff is not None and quantile.startswith("p") and _beyond(estimate.n_eff, quantile) < 10
    cells += [Cell(n, "dim"), Cell(n_eff, "warn" if thin else "dim"), Cell(design, "dim")]
    return (*cells, *((Cell("".join(marks.get(note, "") for note in _told(estimate))),) if marks else ()))


def _beyond(n_eff: float, quantile: str) -> float:
    try:
        return n_eff * (1 - float(quantile[1:]) / 100)
    except ValueError:
        return math.inf


def _once(rows: Iterable[tuple[Cell, ...]]) -> tuple[tuple[Cell, ...], ...]:
    """Blank a first cell that repeats the one above it."""
    result: list[tuple[Cell, ...]] = []
    above = ""
    for first, *rest in rows:
        result.append((Cell("") if first.text == above else first, *rest))
        above = first.text
    return tuple(result)


def class_latency_table(view: RunView) -> Table | None:
    """p50 and p99 of the main quantities of each class, with interval, n, n_eff and D; None for a single class."""
    if len(view.classes) < 2:
        return None
    chosen = [
        (name, metric, quantile, table[metric][quantile])
        for name, table in ((name, view.summary.latency.get(name, {})) for name in view.classes)
        for metric in ("ttft", "tpot", "e2e")
        for quantile in ("p50", "p99")
        if quantile in table.get(metric, {})
    ]
    marks, common = _marks([estimate for *_, estimate in chosen])
    rows = tuple(
        (Cell(words.clean(name, 60), "strong"), *_latency_row(metric, quantile, estimate, adjusted=None, marks=marks))
        for name, metric, quantile, estimate in chosen
    )
    return Table(
        "Latency by class",
        ("class", "", "", "value", "95 % interval", "n", "n_eff", "D", *(("",) if marks else ())),
        _once(rows),
        notes=(
            *((f"intervals: {', '.join(common)}",) if common else ()),
            *((" · ".join(f"{mark} {note}" for note, mark in marks.items()),) if marks else ()),
        ),
    )


def load_facts(load: Load) -> tuple[tuple[str, str], ...]:
    """Return what was offered and what the server took, as (name, value); tokens first."""
    return (
        ("output tok/s", _token_rate(load, "output_tokens_per_s")),
        ("offered", words.rate(load.offered_rps)),
        ("input tok/s", _token_rate(load, "input_tokens_per_s")),
        ("sent", words.rate(load.sent_rps)),
        ("total tok/s", _token_rate(load, "total_tokens_per_s")),
        ("finished", words.rate(load.finished_rps)),
        ("tokens/request", f"{words.count(load.input_tokens_mean)} in, {words.count(load.output_tokens_mean)} out"),
        ("in flight", f"{words.three(load.in_flight_mean)} mean, {words.count(load.in_flight_max)} max"),
        ("send lag p50", words.seconds(load.send_lag_p50_s)),
        ("connection wait p99", words.seconds(load.connection_wait_p99_s)),
        ("send lag p99", words.seconds(load.send_lag_p99_s)),
        ("arrivals cv", words.ABSENT if load.arrivals_cv is None else words.three(load.arrivals_cv)),
        ("send lag max", words.seconds(load.send_lag_max_s)),
        ("tokens per event", words.ABSENT if load.tokens_per_event is None else words.three(load.tokens_per_event)),
    )


LOAD_NOTE = "token rates with 95 % intervals from ten equal parts; send lag and connection wait count every request"


def _token_rate(load: Load, name: str) -> str:
    seen = load.intervals.get(name)
    interval = words.ABSENT if seen is None else words.rate_interval(seen)
    return words.three(getattr(load, name)) + (f" {interval}" if interval != words.ABSENT else "")


def class_load_table(view: RunView) -> Table | None:
    """One row a class: counts and rates; None for a single class."""
    if len(view.classes) < 2:
        return None
    columns = ("class", "planned", "sent", "ok", "offered/s", "finished/s", "in tok/s", "out tok/s")
    rows = []
    for name in view.shown:
        load = view.summary.load[name]
        counts = (load.planned, load.sent, load.ok)
        rates = (load.offered_rps, load.finished_rps, load.input_tokens_per_s, load.output_tokens_per_s)
        rows.append(
            (
                Cell(words.clean(name, 60), "strong"),
                *(Cell(words.count(value)) for value in counts),
                *(Cell(words.three(value)) for value in rates),
            )
        )
    return Table("Load by class", columns, tuple(rows))
