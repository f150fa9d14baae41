"""What tests of sweeps share: an experiment from keys, a runner that needs no server, the columns that time leaves be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from slobench.config.load import load_experiment
from slobench.experiment.events import Event
from slobench.experiment.sweep_cells import Cell, Cells, cells_of
from slobench.experiment.sweep_file import Numbers, Row, row_of
from slobench.experiment.sweep_live import CellEnded

PLAIN = {"name": "e", "targets": ["sim"], "workloads": ["quickstart"]}
OF_THE_CLOCK = {"started", "start_s", "run_s"}


def written(folder: Path, **keys: object) -> Path:
    """An experiment file with these keys over the plain ones."""
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, **keys}, sort_keys=False), "utf-8")
    return path


def cells(folder: Path, **keys: object) -> Cells:
    """The cells of such an experiment."""
    return cells_of(load_experiment(str(written(folder, **keys))))


def steady(folder: Path) -> list[dict[str, Any]]:
    """The rows of sweep.parquet without what the clock made."""
    rows = pq.read_table(folder / "sweep.parquet").to_pylist()
    return [{key: value for key, value in row.items() if key not in OF_THE_CLOCK} for row in rows]


class Scripted:
    """A runner whose numbers are told by a function of the cell; it notes which cells ran."""

    def __init__(self, numbers: Callable[[Cell], Numbers | str]) -> None:
        self._numbers = numbers
        self.ran: list[Cell] = []

    def run(self, cell: Cell) -> Iterator[Event | CellEnded]:
        self.ran.append(cell)
        told = self._numbers(cell)
        yield CellEnded(row(cell, told))

    def close(self) -> Iterator[Event]:
        yield from ()

    def abandon(self) -> None:
        """Nothing runs."""


def row(cell: Cell, told: Numbers | str) -> Row:
    """The row of a cell with these numbers, or that failed with this reason."""
    if isinstance(told, str):
        return row_of(cell, "failed", reason=told, error="TargetStartError", log_tail="last words")
    return row_of(cell, "done", numbers=told, verdict="VALID", run_s=1.0)
