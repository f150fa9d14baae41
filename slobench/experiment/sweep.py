"""A sweep: cell after cell, each kept as it ends; yields frozen events, the last one is SweepEnded."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from slobench.experiment.events import Event, Notice, Told, passed_on
from slobench.experiment.folder import Ours, unused_folder
from slobench.experiment.folder import prepare as prepare_for
from slobench.experiment.sweep_cells import Cell, Cells, settings_text
from slobench.experiment.sweep_file import AGAIN, FILE, Row, belonging, load, row_of, save
from slobench.experiment.sweep_live import CellEnded
from slobench.experiment.sweep_plan import Estimates, left_s
from slobench.experiment.trial import Interrupts
from slobench.units import format_s

_OURS = Ours(files=(FILE, "sweep.json", "sweep.md", "sweep.html"), folders=("cells", "servers"))


@dataclass(frozen=True, slots=True)
class SweepEnded:
    """The sweep is over, or was interrupted. rows: of the cells that have ended, in order."""

    cells: Cells
    folder: Path
    rows: tuple[Row, ...]
    interrupted: bool


class Runner(Protocol):
    """What runs a cell: on servers, or in virtual time."""

    def run(self, cell: Cell) -> Iterator[Event | CellEnded]:
        """Run a cell; the last thing yielded is CellEnded. Raises nothing for a cell that fails: that is a row."""
        ...

    def close(self) -> Iterator[Event]:
        """Stop what still runs."""
        ...

    def abandon(self) -> None:
        """Stop what still runs, without a word."""
        ...


def run_sweep(
    cells: Cells, folder: Path, runner: Runner, interrupts: Interrupts, *, resume: bool = False, virtual: bool = False
) -> Generator[Event | SweepEnded, None, None]:
    """Run every cell that has no row yet, or one of a failed run; sweep.parquet is whole after each.

    Ctrl-C ends the run that is under way, which then has no row, and the sweep. Raises ConfigError, RecordsError.
    """
    rows = {row.key: row for row in belonging(load(folder), cells, folder)} if resume else {}
    order = [cell.key for cell in cells.cells]
    todo = [cell for cell in cells.cells if cell.key not in rows or rows[cell.key].state in AGAIN]
    if rows:
        yield Notice(f"resuming: {len(cells.cells) - len(todo)} of {len(cells.cells)} cells are there")
    save(folder, list(rows.values()), order)
    estimates = Estimates(cells, virtual)
    interrupted, before = False, None
    try:
        for number, cell in enumerate(todo):
            stops = _stopped_by(cell, rows, cells)
            if stops is not None:
                rows[cell.key] = row_of(cell, "skipped", reason=stops)
                save(folder, list(rows.values()), order)
                yield Told(f"{_place(cell, order)} skipped: {stops}")
                continue
            yield Told(_heading(cell, order, estimates, todo[number:], before))
            row = (yield from passed_on(runner.run(cell), CellEnded)).row
            if row is None or interrupts.count:
                interrupted = True
                break
            rows[cell.key] = row
            save(folder, list(rows.values()), order)
            estimates.saw(cell, row)
            before = cell
            yield Told(f"  {told(row)}")
        yield from runner.close()
    finally:
        runner.abandon()
    found = sorted(rows.values(), key=lambda row: order.index(row.key))
    yield SweepEnded(cells, folder, tuple(found), interrupted)


def _stopped_by(cell: Cell, rows: dict[str, Row], cells: Cells) -> str | None:
    """Why a cell need not run: a lower load of its curve was too much already; None where it must."""
    stop = cells.experiment.saturation
    if stop == "never" or cell.load.value is None:
        return None
    for other in cells.cells:
        row = rows.get(other.key)
        if other.curve != cell.curve or other.load.value is None or other.load.value >= cell.load.value or row is None:
            continue
        if row.state == "done" and (row.saturated if stop == "slo" else bool(row.numbers.overloaded)):
            why = "overloaded" if row.numbers.overloaded else "the SLO is missed"
            return f"{why} at {load_text(row)} already"
    return None


def load_text(row: Row) -> str:
    """`4 requests/s`, `16 users`, `capacity`, `own load`."""
    match row.load_kind:
        case "rate":
            return f"{row.load:g} requests/s"
        case "concurrency":
            return f"{row.load:g} users"
        case "capacity":
            return "capacity"
        case _:
            return "own load"


def told(row: Row) -> str:
    """One line of what a cell came to."""
    numbers = row.numbers
    if row.state == "failed":
        return f"failed: {row.reason}"
    if row.load_kind == "capacity":
        rate = "none found" if numbers.capacity is None else f"{numbers.capacity:.3g} requests/s"
        return f"capacity {rate} ({row.verdict})"
    parts = [f"goodput {numbers.goodput_rps:.3g} req/s" if numbers.goodput_rps is not None else "no goodput"]
    if numbers.attainment is not None:
        parts.append(f"attainment {numbers.attainment:.2%}")
    return " · ".join([*parts, *(["overloaded"] if numbers.overloaded else []), row.verdict[:90]])


def _place(cell: Cell, order: Sequence[str]) -> str:
    where = f"cell {order.index(cell.key) + 1} of {len(order)}"
    return f"{where}: {cell.config.label} {settings_text(cell.config.values)} · {cell.workload_name} · {cell.load.text}"


def _heading(cell: Cell, order: Sequence[str], estimates: Estimates, todo: Sequence[Cell], before: Cell | None) -> str:
    seconds, more = left_s(estimates.of(todo, before))
    repeat = f" · repeat {cell.repeat}" if estimates.cells.experiment.repeats > 1 else ""
    left = f" · {'at least' if more else 'about'} {format_s(round(seconds))} left" if seconds >= 1 else ""
    return f"{_place(cell, order)}{repeat}{left}"


def prepare(folder: Path, *, force: bool, resume: bool) -> None:
    """Make the folder of a sweep; ConfigError where it holds something and neither flag is given."""
    prepare_for(folder, _OURS, force=force, resume=resume)


def default_folder(name: str) -> Path:
    """results/<time>-<experiment>, not used before."""
    return unused_folder(name)
