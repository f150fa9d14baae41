"""A sweep before it runs: its cells in order, how long each takes and what it costs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from slobench.experiment.sweep_cells import Cells, Load, settings_text
from slobench.experiment.sweep_plan import Estimates, Expected, left_s
from slobench.report import words
from slobench.report.page import Page
from slobench.report.tables import Cell, Table
from slobench.units import format_s

_MOST = 200


def page_of(cells: Cells, done: Collection[str], *, virtual: bool) -> Page:
    """Put the plan on a page. done: keys of cells that need not run again."""
    expected = _expected(cells, done, virtual=virtual)
    total = total_text(expected)
    several = cells.experiment.repeats > 1
    rows = [
        (
            Cell(str(number)), Cell(each.cell.config.label, "strong"), Cell(words.clean(each.cell.workload_name, 30)),
            Cell(load_words(each.cell.load)), *([Cell(str(each.cell.repeat))] if several else []),
            Cell(_time(each.start_s) if each.start_s else ""), Cell("?" if each.run_s is None else _time(each.run_s)),
        )
        for number, each in enumerate(expected[:_MOST], 1)
    ]  # fmt: skip
    heads = ("#", "config", "workload", "load", *(("repeat",) if several else ()), "start", "run")
    left = len(expected) - len(rows)
    notes = ["start: of a server, where the cell before needs another one", *([f"and {left} more"] if left else [])]
    text = frozenset({"config", "workload", "load"})
    meaning = f"{len(expected)} cells to run, {total}"
    facts = [("configs", str(len(cells.configs))), ("cells", f"{len(cells.cells)}, {len(done)} of them done")]
    facts += [("left out", f"{cells.left_out} combinations that a condition forbids")] if cells.left_out else []
    facts += [("order", f"{cells.experiment.order}, restart {cells.experiment.restart}")]
    return Page(
        heading=cells.experiment.name,
        headline=meaning,
        word="PLAN",
        meaning=meaning,
        tone="good",
        facts=tuple(facts),
        tables=(_configs(cells), Table("Cells in order", heads, tuple(rows), tuple(notes), text)),
        statement=f"{cells.experiment.name}: {meaning}; nothing was run",
    )


def _configs(cells: Cells) -> Table:
    rows = [
        (
            Cell(each.label, "strong"),
            Cell(words.clean(each.target_name, 30)),
            Cell(words.clean(settings_text(each.values), 200)),
        )
        for each in cells.configs[:_MOST]
    ]
    left = len(cells.configs) - len(rows)
    notes = (f"and {left} more",) if left else ()
    return Table("Configs", ("", "target", "settings"), tuple(rows), notes, frozenset({"target", "settings"}))


def to_json(cells: Cells, done: Collection[str], *, virtual: bool) -> dict[str, Any]:
    """Return the plan as plain data; times in s, costs in $, null where they cannot be known."""
    expected = _expected(cells, done, virtual=virtual)
    seconds, more = left_s(expected)
    return {
        "schema": 1,
        "experiment": cells.experiment.model_dump(mode="json"),
        "left_out": cells.left_out,
        "seconds": seconds,
        "at_least": more,
        "cost": _cost(expected),
        "cells": [
            {
                "key": each.cell.key, "folder": each.cell.folder, "config": each.cell.config.label,
                "target": each.cell.config.target_name, "settings": dict(each.cell.config.values),
                "workload": each.cell.workload_name, "load_kind": each.cell.load.kind, "load": each.cell.load.value,
                "repeat": each.cell.repeat, "seed": each.cell.seed, "start_s": each.start_s, "run_s": each.run_s,
                "cost": each.cost,
            }
            for each in expected
        ],
    }  # fmt: skip


def _expected(cells: Cells, done: Collection[str], *, virtual: bool) -> list[Expected]:
    return Estimates(cells, virtual).of([cell for cell in cells.cells if cell.key not in done])


def _cost(expected: list[Expected]) -> float | None:
    known = [each.cost for each in expected if each.cost is not None]
    return sum(known) if known else None


def total_text(expected: list[Expected]) -> str:
    """`about 12 min 30 s, $4.20`."""
    seconds, more = left_s(expected)
    cost = _cost(expected)
    return f"{'at least' if more else 'about'} {_time(seconds)}" + ("" if cost is None else f", ${cost:.2f}")


def _time(seconds: float) -> str:
    return format_s(round(seconds, 1) if seconds < 10 else round(seconds))


def load_words(load: Load) -> str:
    """`4 requests/s`."""
    return {"rate": f"{load.value or 0:g} requests/s", "concurrency": f"{load.value or 0:g} users"}.get(
        load.kind, "own load" if load.kind == "own" else load.kind
    )
