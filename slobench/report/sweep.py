"""A sweep as a page: the best config and how sure it is, every config, what each setting does, what did not run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slobench.experiment.sweep import SweepEnded, load_text
from slobench.experiment.sweep_cells import settings_text
from slobench.experiment.sweep_effects import Effect
from slobench.experiment.sweep_result import RUN_NOISE, Best, Result, Rival
from slobench.experiment.sweep_values import By, Point, cost_of, fronts
from slobench.names import Exit, first_exit
from slobench.report import words
from slobench.report.page import Page
from slobench.report.sweep_charts import figures
from slobench.report.tables import Cell, Table, Tone

BY: dict[By, str] = {
    "goodput": "goodput",
    "capacity": "capacity",
    "cost": "$/1M good tokens",
}
MEANINGS = {
    "goodput": "good requests a second, geometric mean over repeats; a config stands at the best of its loads",
    "ahead": "ratio of the best to this one; at least what stands in brackets (95 %, all configs together)",
    "p": "chance of such an effect by noise alone, over all effects together (Holm)",
    "effect": "ratio of what configs are ranked by, over all that differ in this setting alone",
}
_MOST = 12
_SHORT_ROWS = 20


def page_of(ended: SweepEnded, result: Result, *, short: bool = False) -> Page:
    """Put a sweep on a page. short: what fits a terminal of 80 columns."""
    word, meaning, tone = verdict(ended, result)
    tables = [
        _ranking(result, short=short),
        *(() if short else (_loads(result),)),
        _front(result),
        _effects(result),
        _not_done(ended),
    ]
    return Page(
        heading=f"{ended.cells.experiment.name}: {len(ended.cells.configs)} configs",
        headline=f"{ended.cells.experiment.name}: {word}",
        word=word,
        meaning=meaning,
        tone=tone,
        facts=tuple(_facts(ended, result)),
        tables=tuple(table for table in tables if table is not None),
        statement=statement(ended, result),
        notes=tuple(_notes(ended, result)),
        figures=tuple(figures(result)),
        meanings=MEANINGS,
        facts_title="What was run",
        files=f"{ended.folder}: sweep.parquet, sweep.json, sweep.md, sweep.html, cells/" if short else "",
    )


def exit_of(ended: SweepEnded) -> Exit:
    """130 interrupted, 6 a cell failed, 3 a run is INVALID, else 0."""
    states = {row.state for row in ended.rows}
    codes = {Exit.INTERRUPTED} if ended.interrupted else set()
    codes |= {Exit.TARGET} if "failed" in states else set()
    codes |= {Exit.INVALID} if "invalid" in states else set()
    return first_exit(codes)


def verdict(ended: SweepEnded, result: Result) -> tuple[str, str, Tone]:
    """(word, meaning, tone) of the whole sweep."""
    if not result.best:
        why = "none has anything good" if result.points else "none counts"
        return "NOTHING TO RANK", f"{_counts(ended)}; {why}", "bad"
    meaning = "; ".join(said(best, result) for best in result.best)
    if ended.interrupted:
        return "INTERRUPTED", f"so far {meaning}", "warn"
    if all(best.told or not best.rivals for best in result.best):
        return "BEST", meaning, "good"
    return "CANNOT TELL", meaning, "warn"


def said(best: Best, result: Result) -> str:
    """Word the best config of a workload, and how sure it is."""
    many = len(result.best) > 1
    head = f"{best.workload}: " if many else ""
    what = f"{head}{config_text(best.point)}{_at(best.point)}, {value_text(best.point.value, result.by)}"
    if not best.rivals and not best.untested:
        return f"{what} (no other config to compare)"
    if best.told:
        return f"{what}, the best with {words.percent(best.sure)} confidence"
    open_ = [rival for rival in best.rivals if not rival.told_apart]
    others = ", ".join(rival.point.config for rival in open_[:_MOST])
    more = f" and {len(open_) - _MOST} more" if len(open_) > _MOST else ""
    parts = [f"not told apart from {others}{more}: {_needed(open_)}"] if open_ else []
    if best.untested:
        parts.append(f"{', '.join(point.config for point in best.untested)} lack repeats")
    return f"{what}; {'; '.join(parts)}"


def _needed(open_: Sequence[Rival]) -> str:
    known = [rival.needed for rival in open_ if rival.needed is not None]
    if len(known) < len(open_):
        return "so alike that 1,000 repeats would not tell" if not known else (
            f"{max(known)} repeats would tell some, not all"
        )  # fmt: skip
    return f"about {max(known)} repeats would tell"


def config_text(point: Point) -> str:
    """`c03 (max_num_seqs=64)`."""
    return words.clean(f"{point.config} ({settings_text(point.settings)})" if point.settings else
                       f"{point.config} ({point.target})", 200)  # fmt: skip


def _at(point: Point) -> str:
    return "" if point.load is None else f" at {load_text(point.rows[0])}"


def value_text(value: float | None, by: By) -> str:
    """Word what configs are ranked by."""
    if by == "cost":
        cost = cost_of(value)
        return words.ABSENT if cost is None else f"${cost:.3g} for 1M good tokens"
    return f"{BY[by]} {words.rate(value)}"


def _short_value(value: float | None, by: By) -> str:
    if by == "cost":
        cost = cost_of(value)
        return words.ABSENT if cost is None else f"${cost:.3g}"
    return words.ABSENT if value is None else words.three(value)


def _ranking(result: Result, *, short: bool) -> Table | None:
    if not result.ranked:
        return None
    several = len({point.workload for point in result.ranked}) > 1
    targets = len({point.target for point in result.ranked}) > 1
    heads = (*(("workload",) if several else ()), "config", *(("target",) if targets else ()), "settings", "load",
             BY[result.by], "ahead", "SLO")  # fmt: skip
    more = () if short else ("attainment", "TTFT p90", "TPOT p50", "tok/s/unit", "n")
    rows = []
    for point in result.ranked[: _SHORT_ROWS if short else None]:
        cells = [Cell(words.clean(point.workload, 30))] if several else []
        cells += [Cell(point.config, "strong"), *([Cell(words.clean(point.target, 30))] if targets else [])]
        cells += [Cell(words.clean(settings_text(point.settings), 60)), Cell(_load(point))]
        cells += [Cell(_short_value(point.value, result.by)), _ahead(point, result), _slo(point)]
        if not short:
            cells += [
                Cell(words.percent(point.mean("attainment"))),
                Cell(words.seconds(point.mean("ttft_p90_s"))),
                Cell(words.seconds(point.mean("tpot_p50_s"))),
                Cell(_number(point.throughput)),
                Cell(str(len(point.rows))),
            ]
        rows.append(tuple(cells))
    left = len(result.ranked) - len(rows)
    notes = (f"and {left} more in sweep.md",) if left > 0 else ()
    title = f"Configs by {BY[result.by]}, best first"
    return Table(title, (*heads, *more), tuple(rows), notes, frozenset({"config", "target", "settings", "load", "SLO"}))


def _ahead(point: Point, result: Result) -> Cell:
    """How far the best is ahead of this one."""
    for best in result.best:
        if best.point is point:
            return Cell("best" if best.told else "first", "good" if best.told else "warn")
        for rival in best.rivals:
            if rival.point is point:
                text = f"{rival.ahead:.3f}× [{rival.low:.3f}]"
                return Cell(text, "" if rival.told_apart else "warn")
    return Cell("", "dim")


def _slo(point: Point) -> Cell:
    n = len(point.rows)
    for word, count in (
        ("overloaded", sum(bool(row.numbers.overloaded) for row in point.rows)),
        ("missed", sum(row.numbers.slo_met is False for row in point.rows)),
    ):
        if count:
            return Cell(word if count == n else f"{word} {count} of {n}", "bad")
    return Cell("met", "good") if all(row.numbers.slo_met for row in point.rows) else Cell(words.ABSENT, "dim")


def _load(point: Point) -> str:
    return load_text(point.rows[0])


def _number(value: float | None) -> str:
    return words.ABSENT if value is None else words.three(value)


def _loads(result: Result) -> Table | None:
    """Every config at every load, with what the server says of itself: why a load was too much."""
    if len({point.load for point in result.points}) < 2:
        return None
    rows = []
    for point in sorted(result.points, key=lambda each: (each.workload, each.config, each.load or 0)):
        kv = point.mean("kv_usage_mean")
        rows.append((
            Cell(words.clean(point.workload, 30)), Cell(point.config, "strong"), Cell(_load(point)),
            Cell(_number(point.mean("goodput_rps"))), Cell(words.percent(point.mean("attainment"))), _slo(point),
            Cell(words.seconds(point.mean("ttft_p90_s"))), Cell(words.seconds(point.mean("tpot_p50_s"))),
            Cell(_number(point.throughput)), Cell(_number(point.mean("running_mean"))),
            Cell(_number(point.mean("waiting_mean"))), Cell(words.percent(kv)),
        ))  # fmt: skip
    heads = ("workload", "config", "load", "goodput", "attainment", "SLO", "TTFT p90", "TPOT p50", "tok/s/unit",
             "running", "waiting", "KV use")  # fmt: skip
    return Table("Every load", heads, tuple(rows), (), frozenset({"config", "load", "SLO"}))


def _front(result: Result) -> Table | None:
    names = {"per_user": "per user", "ttft_p90_s": "TTFT p90"}
    on = {names[axis]: {id(point) for point in found} for axis, found in fronts(result.points).items()}
    points = [point for point in result.points if any(id(point) in each for each in on.values())]
    if not points:
        return None
    several = len({point.workload for point in result.points}) > 1
    rows = []
    for point in sorted(points, key=lambda each: -(each.throughput or 0)):
        name = f"{point.workload} {point.config}" if several else point.config
        marks = ", ".join(name for name, each in on.items() if id(point) in each)
        rows.append((
            Cell(words.clean(name, 40), "strong"), Cell(_load(point)), Cell(_number(point.throughput)),
            Cell(_number(point.per_user)), Cell(words.seconds(point.mean("ttft_p90_s"))), Cell(marks),
        ))  # fmt: skip
    unit = "GPU" if any(point.gpus for point in result.points) else "server"
    heads = ("config", "load", f"tok/s/{unit}", "tok/s/user", "TTFT p90", "unbeaten in")
    note = "no other point has both more throughput and more speed per user (or a lower TTFT)"
    return Table("Pareto front", heads, tuple(rows), (note,), frozenset({"load", "unbeaten in"}))


def _effects(result: Result) -> Table | None:
    if not result.effects:
        return None
    several = len({each.workload for each in result.effects}) > 1
    rows = []
    for each in result.effects:
        cells = [Cell(words.clean(each.workload, 30))] if several else []
        cells += [Cell(words.clean(each.setting.rpartition(".")[2], 40), "strong")]
        cells += [Cell(words.clean(f"{each.before} → {each.after}", 40)), Cell(f"{each.ratio:.3f}×")]
        interval = words.ABSENT if each.low is None or each.high is None else f"[{each.low:.3f}, {each.high:.3f}]"
        cells += [Cell(interval), Cell(_p(each)), Cell(str(each.pairs) if each.pairs else "fit")]
        rows.append(tuple(cells))
    heads = (*(("workload",) if several else ()), "setting", "change", "effect", "95 %", "p", "pairs")
    what = "good tokens for a $" if result.by == "cost" else BY[result.by]
    note = f"on {what}, on average over the other settings as they were run; p by Holm"
    return Table("What each setting does", heads, tuple(rows), (note,), frozenset({"setting", "change"}))


def _p(effect: Effect) -> str:
    if effect.p is None:
        return words.ABSENT
    return "< 0.001" if effect.p < 0.001 else f"{effect.p:.3f}"


def _not_done(ended: SweepEnded) -> Table | None:
    rows = [row for row in ended.rows if row.state != "done"]
    if not rows:
        return None
    shown = [
        (
            Cell(row.config, "strong"), Cell(f"{row.workload} {load_text(row)} r{row.repeat}"),
            Cell(row.state, "dim" if row.state == "skipped" else "bad"),
            Cell(words.clean(": ".join(part for part in (row.error, row.reason) if part), 120)),
        )
        for row in rows[:_SHORT_ROWS]
    ]  # fmt: skip
    left = len(rows) - len(shown)
    notes = (f"and {left} more in sweep.parquet",) if left else ()
    return Table(
        "Not counted", ("config", "cell", "state", "why"), tuple(shown), notes, frozenset({"cell", "state", "why"})
    )


def _counts(ended: SweepEnded) -> str:
    states = ("done", "invalid", "failed", "skipped")
    counted = {state: sum(row.state == state for row in ended.rows) for state in states}
    told = ", ".join(f"{n} {state}" for state, n in counted.items() if n) or "none yet"
    missing = len(ended.cells.cells) - len(ended.rows)
    return f"{len(ended.cells.cells)} cells: {told}" + (f", {missing} missing" if missing else "")


def _facts(ended: SweepEnded, result: Result) -> Iterator[tuple[str, str]]:
    experiment = ended.cells.experiment
    yield "cells", _counts(ended)
    yield "targets", ", ".join(experiment.targets)
    if experiment.settings is not None:
        yield "settings", ", ".join(experiment.settings.paths)
    yield "workloads", ", ".join(experiment.workloads)
    yield "repeats", f"{experiment.repeats}, {experiment.order}, servers restarted {experiment.restart}"
    yield "ranked by", BY[result.by]
    if ended.cells.left_out:
        yield "left out", f"{ended.cells.left_out} combinations that a condition forbids"


def _notes(ended: SweepEnded, result: Result) -> Iterator[str]:
    states = [row.state for row in ended.rows]
    if "failed" in states:
        yield f"failed cells: {states.count('failed')}; --out {ended.folder} --resume runs them again"
    if "invalid" in states:
        yield f"INVALID runs, which do not count: {states.count('invalid')}; --resume runs them again"
    if any(best.assumed and best.rivals for best in result.best):
        yield (
            f"one run of each config: {RUN_NOISE:.0%} is assumed for what two runs of one server differ by; "
            "`repeats: 3` or more shows it"
        )
    if any(not best.point.holds for best in result.best):
        yield "no config keeps the SLO at any load that was offered; lower rates would tell more"
    yield from (note for best in result.best for note in _at_the_grids_end(best))


def _at_the_grids_end(best: Best) -> Iterator[str]:
    """Say where the rates that were offered, and not the servers, decide the order."""
    point = best.point
    if point.load_kind != "rate" or not point.holds:
        return
    if best.limited:
        yield (
            f"{best.workload}: {point.config} keeps the SLO at the highest rate that was offered; "
            "higher rates, or `capacity: {}`, would tell more"
        )
    alike = [each.point.config for each in best.rivals if not each.told_apart and each.point.load == point.load]
    if alike and not best.limited:
        yield (
            f"{best.workload}: {', '.join([point.config, *alike[:_MOST]])} all serve {load_text(point.rows[0])} and "
            "not the next higher rate; rates between, or `capacity: {}`, would tell more"
        )


def statement(ended: SweepEnded, result: Result) -> str:
    """Say it all in one line that can be read alone."""
    word, meaning, _ = verdict(ended, result)
    return f"{ended.cells.experiment.name} ({_counts(ended)}), ranked by {BY[result.by]}: {word}: {meaning}"
