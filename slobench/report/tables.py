"""The tables of a report as plain values; console, Markdown and HTML each draw the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from slobench.metrics.summary import Estimate, LatencyTable, Load, ObjectiveResult, SloResult
from slobench.report import words
from slobench.report.view import ALL, RunView

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


def objective_line(view: RunView) -> Cell | None:
    """Return the SLO in three words, `SLO met`, `SLO MISSED (code)`; None where no objective was given."""
    judged = {name: view.summary.slo[name].met for name in view.shown if name in view.summary.slo}
    missed = [words.clean(name, 40) for name, met in judged.items() if met is False]
    if missed:
        where = [name for name in missed if name != ALL] if len(view.classes) > 1 else []
        return Cell("SLO MISSED" + (f" ({', '.join(where)})" if where else ""), "bad")
    return Cell("SLO met", "good") if any(judged.values()) else None


# --- SLO ---------------------------------------------------------------------------------------------------


def slo_table(view: RunView, *, brief: bool = False) -> Table | None:
    """Attainment and goodput of each class, under it each limit alone and each objective; None without classes.

    brief: of a total over several classes only the line itself and its objectives.
    """
    names = [name for name in view.shown if name in view.summary.slo]
    if not names:
        return None
    results = [view.summary.slo[name] for name in names]
    rows: list[tuple[Cell, ...]] = []
    for name, result in zip(names, results, strict=True):
        rows += _slo_rows(name, result, limits=not brief or len(names) == 1 or name != ALL)
    limited = any(result.marginal or result.objectives for result in results)
    return Table(
        title="SLO" if limited else "Served (no SLO was given: good = complete, without error)",
        columns=("class", "good/all", "attainment", "95 % interval", "n_eff/D", "good/s", ""),
        rows=tuple(rows),
        notes=tuple(_slo_notes(names, results)),
    )


def _slo_rows(name: str, result: SloResult, *, limits: bool) -> Iterable[tuple[Cell, ...]]:
    status = {True: Cell("met", "good"), False: Cell("MISSED", "bad"), None: Cell("")}[result.met]
    yield (
        Cell(words.clean(name, 60), "strong"),
        Cell(f"{words.count(result.good)}/{words.count(result.population)}"),
        Cell(words.percent(result.attainment.value), "strong"),
        Cell(words.percent_interval(result.attainment)),
        Cell(_worth(result.attainment), "dim"),
        Cell(words.three(result.goodput_rps)),
        status,
    )
    lone = len(result.marginal) == 1
    for clause, estimate in result.marginal.items() if limits else ():
        yield (
            Cell(words.clean(clause, 60), indent=True),
            Cell(""),
            Cell(words.percent(estimate.value)),
            Cell(words.percent_interval(estimate)),
            Cell(_worth(estimate), "dim"),
            Cell(""),
            Cell("binding", "dim") if clause == result.binding and not lone and estimate.value != 1 else Cell(""),
        )
    for objective in result.objectives:
        yield (
            Cell(words.clean(objective.text, 160), indent=True),
            Cell(""),
            *_objective_cells(objective),
            Cell(_worth(objective.seen) if objective.seen.n else "", "dim"),
            Cell(""),
            {True: Cell("met", "good"), False: Cell("MISSED", "bad"), None: Cell("unjudged", "warn")}[objective.met],
        )


def _objective_cells(objective: ObjectiveResult) -> tuple[Cell, Cell]:
    if objective.text.startswith(("attainment", "error_rate")):
        return Cell(words.percent(objective.seen.value)), Cell(words.percent_interval(objective.seen))
    if ":p" in objective.text.split("<")[0]:  # a percentile limit: seconds
        return Cell(words.latency(objective.seen)), Cell(words.latency_interval(objective.seen))
    return Cell(""), Cell("")


def _worth(estimate: Estimate) -> str:
    _, n_eff, _ = words.weight(estimate)
    if n_eff == words.ABSENT:
        return words.ABSENT
    return n_eff if estimate.design_effect is None else f"{n_eff}/{words.three(estimate.design_effect)}"


def _slo_notes(names: Sequence[str], results: Sequence[SloResult]) -> Iterable[str]:
    for name, result in zip(names, results, strict=True):
        prefix = f"{words.clean(name, 60)}: " if len(names) > 1 else ""
        facts = []
        if result.attainment_admitted.value is not None and result.attainment_admitted.value != result.attainment.value:
            facts.append(f"{words.percent(result.attainment_admitted.value)} of admitted requests (429, 503 left out)")
        if result.vacuous:
            facts.append(f"{words.count(result.vacuous)} met a TPOT or gap limit vacuously (one token)")
        if result.not_judged:
            facts.append(f"{words.count(result.not_judged)} could not be judged")
        if result.left_out:
            facts.append(f"{words.count(result.left_out)} cancelled or cut before any limit was due, left out")
        if facts:
            yield prefix + "; ".join(facts)
    last = results[-1]
    yield f"goodput {words.rate(last.goodput_rps)}, {words.rate(last.good_tokens_per_s, 'tok/s')} in good replies"
    kinds = sorted({result.attainment.note for result in results if result.attainment.note})
    if kinds:
        yield f"attainment intervals: {', '.join(words.clean(kind, 80) for kind in kinds)}"


# --- Latency -----------------------------------------------------------------------------------------------


def latency_table(view: RunView, *, brief: bool, name: str | None = None) -> Table | None:
    """Percentiles of one class (default: the total) with interval, n, n_eff and D; None without data.

    brief: the metrics and quantiles of the console; else all that the summary has.
    """
    key = name or view.total
    metrics = view.summary.latency.get(key, {})
    adjusted = view.summary.latency_adjusted.get(key, {})
    limited = {limit.metric for limit in view.slo.common.limits} if view.slo else set()
    wanted = [m for m in ordered(metrics) if not brief or m in BRIEF_METRICS or m in limited]
    chosen = [
        (metric, quantile, estimate)
        for metric in wanted
        for quantile, estimate in metrics[metric].items()
        if (not brief or quantile in BRIEF) and not _nothing(metrics[metric])
    ]
    if not chosen:
        return None
    notes = list(dict.fromkeys(_marked(e) for _, _, e in chosen if _marked(e)))
    common = notes[0] if len(notes) == 1 and all(_marked(e) for _, _, e in chosen if e.low is not None) else ""
    marks = {} if common else {note: MARKS[i % len(MARKS)] for i, note in enumerate(notes)}
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
            *((f"intervals: {words.clean(common, 80)}",) if common else ()),
            *((" · ".join(legend),) if legend else ()),
            *(("with failures: a request without this time counts as +∞",) if differs else ()),
        ),
    )


def ordered(metrics: LatencyTable | Iterable[str]) -> list[str]:
    """Metric keys in the order of a table: the known ones first."""
    known = [metric for metric in words.METRICS if metric in metrics]
    return known + [metric for metric in metrics if metric not in words.METRICS]


def _nothing(table: Mapping[str, Estimate]) -> bool:
    return all(estimate.value is None for estimate in table.values())


def _marked(estimate: Estimate) -> str:
    return "" if estimate.note.startswith(">") else estimate.note


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
    return (*cells, *((Cell(marks.get(_marked(estimate), "")),) if marks else ()))


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
    """One row a class, p50 and p99 of the main quantities; None for a single class."""
    if len(view.classes) < 2:
        return None
    metrics = [m for m in ("ttft", "tpot", "e2e") if any(m in view.summary.latency.get(c, {}) for c in view.classes)]
    quantiles = ("p50", "p99")
    rows = []
    for name in view.shown:
        table = view.summary.latency.get(name, {})
        estimates = [table.get(metric, {}).get(q) for metric in metrics for q in quantiles]
        rows.append(
            (Cell(words.clean(name, 60), "strong"), *(Cell(words.latency(e) if e else words.ABSENT) for e in estimates))
        )
    columns = ("class", *(f"{words.metric_name(metric)} {q}" for metric in metrics for q in quantiles))
    return Table("Latency by class", columns, tuple(rows))


# --- Load --------------------------------------------------------------------------------------------------


def load_facts(load: Load) -> tuple[tuple[str, str], ...]:
    """Return what was offered and what the server took, as (name, value); tokens first."""
    return (
        ("output tokens", words.rate(load.output_tokens_per_s, "tok/s")),
        ("offered", words.rate(load.offered_rps)),
        ("input tokens", words.rate(load.input_tokens_per_s, "tok/s")),
        ("sent", words.rate(load.sent_rps)),
        ("total tokens", words.rate(load.total_tokens_per_s, "tok/s")),
        ("finished", words.rate(load.finished_rps)),
        ("tokens a request", f"{words.count(load.input_tokens_mean)} in, {words.count(load.output_tokens_mean)} out"),
        ("in flight", f"{words.three(load.in_flight_mean)} mean, {words.count(load.in_flight_max)} max"),
        ("send lag p50", words.seconds(load.send_lag_p50_s)),
        ("connection wait p99", words.seconds(load.connection_wait_p99_s)),
        ("send lag p99", words.seconds(load.send_lag_p99_s)),
        ("arrivals cv", words.ABSENT if load.arrivals_cv is None else words.three(load.arrivals_cv)),
        ("send lag max", words.seconds(load.send_lag_max_s)),
        ("tokens per event", words.ABSENT if load.tokens_per_event is None else words.three(load.tokens_per_event)),
    )


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
