"""A comparison as a page and as JSON: every quantity on both sides, its ratio, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slobench.config.margins import Margins, format_margin
from slobench.experiment.compare import Compared
from slobench.metrics.arm import Arm
from slobench.metrics.compare import LEVEL, Comparison, Row, sizes
from slobench.metrics.contrast import Change
from slobench.metrics.summary import Estimate
from slobench.report import words
from slobench.report.drawing import Figure
from slobench.report.forest import Line, forest
from slobench.report.page import Page
from slobench.report.tables import Cell, Table, Tone

TONES: Mapping[str, Tone] = {"worse": "bad", "better": "good", "same": "dim", "cannot tell": "warn"}
NAMES = {
    "attainment": "attainment",
    "goodput": "goodput",
    "output_tokens": "output tok/s",
    "finished": "finished req/s",
}
_CHART_TONES = {"worse": "failed", "better": "c2", "same": "c0", "cannot tell": "c5"}
_MOST_SETTINGS = 30
MEANINGS = {
    "new/base": "ratio with its 95 % interval; of attainment the difference in points",
    "worse, better": "p ≤ 5 % over all rows together (Holm), and a change of at least the least that counts",
    "same": "the whole 95 % interval lies within the margin",
    "cannot tell": "neither: the number says how much data would, by the root-of-n rule",
}


def page_of(compared: Compared, folder: Path | None = None, *, stacked: bool = False) -> Page:
    """Put a comparison on a page. stacked: intervals under their values, so that 80 columns hold a row."""
    found = compared.comparisons
    word, meaning, tone = verdict(found)
    tables = [table for each in found for table in (_table(each, compared.margins, stacked=stacked), _settings(each))]
    return Page(
        heading=f"{compared.names[0]} → {', '.join(compared.names[1:])}",
        headline=f"{compared.names[0]} → {', '.join(compared.names[1:])}",
        word=word,
        meaning=meaning,
        tone=tone,
        facts=tuple(_facts(compared)),
        tables=tuple(table for table in tables if table is not None),
        statement=statement(compared),
        notes=tuple(dict.fromkeys(note for each in found for note in notes(each))),
        figures=tuple(figure for each in found if (figure := _figure(each, compared.margins))),
        meanings=MEANINGS,
        files="" if folder is None else f"{folder}: compare.json, compare.md, compare.html",
    )


def verdict(found: tuple[Comparison, ...]) -> tuple[str, str, Tone]:
    """(word, meaning, tone) of all comparisons together."""
    counts = {word: sum(each.count(word) for each in found) for word in ("worse", "better", "same", "cannot tell")}
    told = ", ".join(f"{n} {word}" for word, n in counts.items() if n) or "nothing to compare"
    if counts["worse"] and counts["better"]:
        return "MIXED", told, "warn"
    if counts["worse"]:
        return "WORSE", told, "bad"
    if counts["better"]:
        return "BETTER", told, "good"
    if counts["cannot tell"] or not counts["same"]:
        return "CANNOT TELL", told, "warn"
    return "SAME", told, "good"


def notes(found: Comparison) -> Iterator[str]:
    """Say what limits a comparison."""
    for each in found.refused:
        yield f"compared by force: {each}"
    if found.assumed is not None:
        taken = f"{found.assumed * 100:.2g} % is assumed for it" if found.assumed else "nothing is assumed for it"
        yield (
            f"too few runs to see what differs from one run of a server to the next: {taken} (--run-noise; "
            "`slobench gate --aa` measures it); three runs on each side, or better `slobench gate --ab`, show it"
        )
    if not found.paired:
        yield "the runs were offered different requests, so part of the difference is theirs"
    if any("optimistic" in side.note for row in found.rows for side in (row.contrast.base, row.contrast.new)):
        yield "optimistic: windows shorter than 30 mean E2E; intervals are too narrow"


def _facts(compared: Compared) -> Iterator[tuple[str, str]]:
    for name, runs in zip(("base", *(f"new {k}" for k in range(1, len(compared.news) + 1))),
                          (compared.base, *compared.news), strict=True):  # fmt: skip
        yield name if len(compared.news) > 1 or name == "base" else "new", _runs(runs)
    first = compared.comparisons[0]
    yield "unit", unit(first)
    margins = compared.margins
    single = "".join(f"; {key} {format_margin(each)}" for key, each in margins.metrics.items())
    yield "margin", f"{format_margin(margins.margin)}{single}; attainment {margins.attainment * 100:g} points"
    yield "least that counts", f"{margins.least * 100:g} %"


def _runs(runs: tuple[Arm, ...]) -> str:
    first = runs[0].identity
    plans = {arm.identity.digest for arm in runs}
    told = [first.name if len(runs) == 1 else f"{len(runs)} runs, {first.name} …", words.clean(first.verdict, 60)]
    if first.digest is not None:
        told.append(f"plan {first.digest.removeprefix('sha256:')[:12]}" if len(plans) == 1 else f"{len(plans)} plans")
    return " · ".join(told)


def unit(found: Comparison) -> str:
    """What was counted as independent."""
    n = found.rows[0].contrast.change.n if found.rows else 0
    plan = "offered the same requests at the same times" if found.paired else "of different draws"
    sizes = "{:,} and {:,} requests".format(*found.requests)
    return {
        "pairs": f"{n} pairs of runs, each {plan} ({sizes})",
        "runs": f"{n} runs at least, {plan} ({sizes})",
        "windows": f"{n} windows of each run, {plan} ({sizes})",
    }[found.unit]


def _table(found: Comparison, margins: Margins, *, stacked: bool) -> Table | None:
    if not found.rows:
        return None
    many = len({row.contrast.of_class for row in found.rows}) > 1
    columns = (*(("class",) if many else ()), "", "base", "new", "new/base", "")
    rows: list[tuple[Cell, ...]] = []
    above = ""
    for row in found.rows:
        contrast = row.contrast
        name = "" if contrast.of_class == above else contrast.of_class
        above = contrast.of_class
        head = ((Cell(words.clean(name, 60), "strong"),) if many else (), Cell(quantity_name(contrast.key), "strong"))
        word, needed = said(row, margins)
        if stacked:
            word = word.removesuffix(" points")  # its column says so
        parts = (_side(row, contrast.base), _side(row, contrast.new), _change(row))
        if stacked:
            rows.append((*head[0], head[1], *(Cell(value) for value, _ in parts), Cell(word, TONES[row.verdict])))
            blank = (Cell(""),) * len(head[0])
            rows.append((*blank, Cell(""), *(Cell(interval, "dim") for _, interval in parts), Cell(needed, "dim")))
        else:
            told = f"{word}: {needed}" if needed else word
            rows.append((*head[0], head[1], *(Cell(_one(a, b)) for a, b in parts), Cell(told, TONES[row.verdict])))
    note = f"95 % intervals; unit: {unit(found)}; p over all rows by Holm"
    return Table(f"{_short(found.base)} → {_short(found.new)}", columns, tuple(rows), (note,), frozenset({""}))


def _short(names: tuple[str, ...]) -> str:
    return words.clean(names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more", 70)


def quantity_name(key: str) -> str:
    """`TTFT p90` for `ttft:p90`."""
    metric, _, statistic = key.partition(":")
    return f"{words.metric_name(metric)} {statistic}" if statistic else NAMES.get(key, key)


def _side(row: Row, seen: Estimate) -> tuple[str, str]:
    """(value, interval) in one unit."""
    if row.contrast.kind == "latency":
        return words.seconds(seen.value), _present(words.latency_interval(seen))
    if row.contrast.kind == "share":
        return words.percent(seen.value), _present(words.percent_interval(seen))
    return words.three(seen.value or 0.0), _present(words.rate_interval(seen))


def _one(value: str, interval: str) -> str:
    """`20.0 [19.8, 20.1] ms`: the unit once."""
    number, _, unit = value.rpartition(" ")
    return f"{number or value} {interval}" if unit and interval.endswith(f" {unit}") else f"{value} {interval}".strip()


def _present(interval: str) -> str:
    return "" if interval == words.ABSENT else interval


def _change(row: Row) -> tuple[str, str]:
    seen = row.contrast.change
    if row.contrast.kind == "share":
        return f"{points(seen.value)} points", f"[{seen.low * 100:+.2f}, {seen.high * 100:+.2f}]"
    value, low, high = _ratios(seen)
    return f"{value:.3f}", f"[{low:.3f}, {high:.3f}]"


def points(difference: float) -> str:
    """`+0.42`, of a difference of shares."""
    return f"{difference * 100 + 0.0:+.2f}".replace("-0.00", "+0.00")


def _ratios(seen: Change) -> tuple[float, float, float]:
    value, low, high = (math.exp(max(min(x, 50.0), -50.0)) for x in (seen.value, seen.low, seen.high))
    return value, low, high


def said(row: Row, margins: Margins) -> tuple[str, str]:
    """Word a verdict with its size, never the one without the other; and what would tell, "" where it is told."""
    seen = row.contrast.change
    share = row.contrast.kind == "share"
    if row.verdict in {"worse", "better"}:
        size = f"{seen.value * 100:+.1f} points" if share else f"{math.expm1(seen.value) * 100:+.1f} %"
        return f"{row.verdict} {size}", ""
    if row.verdict == "same":
        own = margins.metrics.get(row.contrast.key, margins.margin)
        return f"same within {f'{margins.attainment * 100:g} points' if share else format_margin(own)}", ""
    if row.needed is None:
        return "cannot tell", "too near the margin"
    return "cannot tell", f"{row.needed:,} {row.needed_unit}"


def _settings(found: Comparison) -> Table | None:
    if not found.settings:
        return None
    rows = tuple(tuple(Cell(words.clean(text, 80)) for text in setting) for setting in found.settings[:_MOST_SETTINGS])
    more = len(found.settings) - _MOST_SETTINGS
    notes_ = (f"and {more} more",) if more > 0 else ()
    return Table("What else differs", ("setting", "base", "new"), rows, notes_, frozenset({"base", "new"}))


def _figure(found: Comparison, margins: Margins) -> Figure | None:
    lines = []
    for row in found.rows:
        contrast = row.contrast
        if contrast.kind == "share":
            continue
        name = (
            quantity_name(contrast.key)
            if contrast.of_class == "all"
            else f"{contrast.of_class} {quantity_name(contrast.key)}"
        )
        allowed = math.exp(sizes(contrast, margins)[0])
        lines.append(Line(name, *_ratios(contrast.change), _CHART_TONES[row.verdict], allowed))
    return forest(
        lines,
        title=f"{_short(found.base)} → {_short(found.new)}",
        about="Ratio of NEW to BASE with its 95 % interval; grey: the margin. Red: worse, blue-grey: cannot tell.",
    )


def statement(compared: Compared) -> str:
    """Say it all in one line that can be read alone."""
    found = compared.comparisons[0]
    sent = any(row.contrast.key.startswith("ttft_sent") for row in found.rows)
    origin = "the send" if sent else "intended send time"
    word, meaning, _ = verdict(compared.comparisons)
    return (
        f"{compared.names[0]} against {', '.join(compared.names[1:])}: {unit(found)}, TTFT from {origin}, "
        "TPOT = (last − first)/(n − 1), latencies of successful requests, attainment of scheduled requests (errors and "
        f"timeouts count against), verdicts at {LEVEL:.0%} over {sum(len(each.rows) for each in compared.comparisons)} "
        f"rows and from {compared.margins.least * 100:g} % on: {word} ({meaning})"
    )


def to_json(compared: Compared) -> dict[str, Any]:
    """Return the comparison as plain data: seconds, shares, ratios; null where a number is not known."""
    word, meaning, _ = verdict(compared.comparisons)
    return {
        "schema": 1,
        "verdict": word,
        "summary": meaning,
        "margins": compared.margins.model_dump(mode="json"),
        "comparisons": [_comparison(each) for each in compared.comparisons],
        "statement": statement(compared),
    }


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "base": list(found.base),
        "new": list(found.new),
        "unit": found.unit,
        "paired": found.paired,
        "run_noise": found.assumed,
        "requests": list(found.requests),
        "forced": list(found.refused),
        "notes": list(notes(found)),
        "settings": [{"name": name, "base": base, "new": new} for name, base, new in found.settings],
        "rows": [_row(row) for row in found.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    contrast, seen = row.contrast, row.contrast.change
    share = contrast.kind == "share"
    scaled = (seen.value, seen.low, seen.high) if share else _ratios(seen)
    return {
        "class": contrast.of_class,
        "metric": contrast.key,
        "base": estimate_json(contrast.base),
        "new": estimate_json(contrast.new),
        "difference" if share else "ratio": dict(zip(("value", "low", "high"), map(finite, scaled), strict=True)),
        "p": finite(row.p),
        "verdict": row.verdict,
        "needed": row.needed,
        "needed_unit": row.needed_unit or None,
    }


def estimate_json(seen: Estimate) -> dict[str, Any]:
    """Return an estimate as plain data."""
    shown = {key: finite(getattr(seen, key)) for key in ("value", "low", "high", "n", "n_eff")}
    return shown | ({"note": seen.note} if seen.note else {})


def finite(value: float | None) -> float | None:
    """Return null for what JSON cannot hold."""
    return None if value is None or not math.isfinite(value) else value
