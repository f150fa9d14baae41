"""A cell of a sweep as the search for a capacity that it means; and what can be refused before anything starts."""

from __future__ import annotations

from pathlib import Path

from slobench.config.experiment import Experiment
from slobench.config.search_flags import parse_budget
from slobench.config.slo import parse_slo
from slobench.config.target import SimTarget
from slobench.errors import ConfigError
from slobench.experiment.capacity import CapacityAsk, Wanted, ask_for
from slobench.experiment.endpoints import refuse_unjudgeable, refuse_unsendable
from slobench.experiment.search_state import Budget, Settings
from slobench.experiment.setup import Trial
from slobench.experiment.stopping import refuse_undecidable
from slobench.experiment.sweep_cells import Cell, Cells
from slobench.experiment.virtual_arm import refuse as refuse_in_virtual_time


def ask_of(experiment: Experiment, cell: Cell, trial: Trial, *, virtual: bool = False) -> CapacityAsk:
    """Return the search that a cell asks for. Raises ConfigError where it cannot be made."""
    asked = experiment.capacity
    assert asked is not None
    settings = Settings(
        criteria=(),
        start_rate=asked.start_rate or cell.workload.offered_rate(),
        precision=asked.precision,
        max_probes=asked.max_probes,
        max_rate=10_000,
        seed=cell.seed,
        budget=Budget(*parse_budget(asked.budget)) if asked.budget else Budget(),
    )
    if not 0 < settings.start_rate <= settings.max_rate:
        raise ConfigError(
            f"workload {cell.workload_name}: a search from {settings.start_rate:g} requests/s\n"
            "  expected  capacity.start_rate above 0 and at most 10000"
        )
    return ask_for(trial, Wanted(target=asked.target, virtual=virtual), settings)


def refuse(cells: Cells, *, virtual: bool) -> None:
    """Raise ConfigError for the first cell that cannot be run, as far as can be known before its server runs."""
    experiment = cells.experiment
    seen = set()
    for cell in cells.cells:
        if (cell.config.key, cell.workload_name, cell.load) in seen:
            continue
        seen.add((cell.config.key, cell.workload_name, cell.load))
        target, workload = cell.config.target, cell.workload
        if virtual and not isinstance(target, SimTarget):
            raise ConfigError(
                f"--virtual runs the simulated engine in virtual time; {cell.config.target_name} is of kind "
                f"{target.kind}\n  expected  targets of kind sim"
            )
        slo = parse_slo(workload.slo, tuple(workload.classes))
        refuse_undecidable(workload, slo)
        refuse_unjudgeable(slo, workload, target.talk)
        refuse_unsendable(workload, target.talk)
        if virtual and cell.load.kind != "capacity":
            refuse_in_virtual_time(workload, slo)
        if cell.load.kind == "capacity":
            ask_of(experiment, cell, Trial(workload, target, Path()), virtual=virtual)
