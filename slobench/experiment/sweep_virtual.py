"""The cells of a sweep on the simulated engine in virtual time: a fraction of a second each; only rows are kept."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

from slobench.config.slo import parse_slo
from slobench.config.target import SimTarget
from slobench.errors import SlobenchError
from slobench.experiment.capacity import SearchEnded, find_capacity
from slobench.experiment.events import Event, passed_on
from slobench.experiment.open_load import open_load
from slobench.experiment.setup import Trial
from slobench.experiment.sweep_ask import ask_of
from slobench.experiment.sweep_cells import Cell, Cells
from slobench.experiment.sweep_file import Row
from slobench.experiment.sweep_live import CellEnded, Reports, failed, row_done, row_of_search
from slobench.experiment.sweep_numbers import from_arm
from slobench.experiment.trial import Interrupts
from slobench.experiment.virtual_arm import Virtual, virtual_arm
from slobench.metrics.arm import Identity
from slobench.plan import build_plan
from slobench.workload.variates import child, raw


class VirtualCells:
    """Runs each cell on an engine that begins empty; the noise of its steps is the config's own."""

    def __init__(self, cells: Cells, folder: Path, interrupts: Interrupts, reports: Reports) -> None:
        self._cells, self._folder, self._interrupts, self._reports = cells, folder, interrupts, reports

    def run(self, cell: Cell) -> Iterator[Event | CellEnded]:
        """Run a cell; the last thing yielded is CellEnded."""
        began_s, row = time.monotonic(), None
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            row = (yield from self._search(cell)) if cell.load.kind == "capacity" else self._run(cell)
        except SlobenchError as error:
            row = failed(cell, error)
        finally:
            self._interrupts.offering = False
        if row is not None:
            row = replace(row, started=started, run_s=round(time.monotonic() - began_s, 3))
        yield CellEnded(row)

    def close(self) -> Iterator[Event]:
        """Nothing runs."""
        yield from ()

    def abandon(self) -> None:
        """Nothing runs."""

    def _run(self, cell: Cell) -> Row:
        target = cell.config.target
        assert isinstance(target, SimTarget)
        slo = parse_slo(cell.workload.slo, tuple(cell.workload.classes))
        plan = build_plan(cell.workload, cell.seed)
        noise = int(raw(1, child(cell.seed, "engine noise", cell.config.key))[0] >> 2)
        arm = virtual_arm(
            Virtual(cell.workload, slo, plan), target.engine, noise, Identity(cell.folder, seed=cell.seed)
        )
        row = row_done(cell, "done" if arm.identity.valid else "invalid", arm.identity.verdict)
        return replace(row, plan_digest=plan.digest, numbers=from_arm(arm, plan, slo))

    def _search(self, cell: Cell) -> Generator[Event, None, Row | None]:
        trial = Trial(cell.workload, cell.config.target, self._folder / cell.folder, cell.seed, force=True)
        ask = ask_of(self._cells.experiment, cell, trial, virtual=True)
        ended = yield from passed_on(find_capacity(ask, self._interrupts, open_load), SearchEnded)
        self._reports.of_search(ended)
        return row_of_search(cell, ended)
