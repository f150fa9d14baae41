"""What a sweep will take, before and while it runs: time and cost of each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slobench.config.load import public
from slobench.config.workload import ClosedLoop
from slobench.experiment.sweep_cells import Cell, Cells
from slobench.experiment.sweep_file import Row

_START_S: Mapping[str, float] = {"sim": 1.5, "null-server": 1.5, "remote": 0.5, "command": 60.0, "vllm": 90.0}
"""A first guess by kind of target; a start that was seen replaces it."""
_RUN_S = 6.0  # worker processes, the drain, the report
_SEARCH_REQUESTS = 30_000  # of a search at 3 %: between what 90 % and 99 % take (docs/validation.md)
_VIRTUAL_REQUESTS_PER_S = 4_000.0


@dataclass(frozen=True, slots=True)
class Expected:
    """What one cell takes. run_s: None where a closed loop's end cannot be known. cost: $, None without a price."""

    cell: Cell
    start_s: float
    run_s: float | None
    cost: float | None


@dataclass(slots=True)
class Estimates:
    """Expectations that learn from what was seen. seen: s of each finished row."""

    cells: Cells
    virtual: bool = False
    starts: dict[str, list[float]] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)
    runs: list[float] = field(default_factory=list)

    def saw(self, cell: Cell, row: Row) -> None:
        """Learn from a row."""
        if row.state not in {"done", "invalid"} or row.run_s is None:
            return
        self.runs.append(row.run_s)
        expected = self.run_s(cell, learnt=False)
        if expected:
            self.ratios.append(row.run_s / expected)
        if row.start_s is not None:
            self.starts.setdefault(cell.config.target_name, []).append(row.start_s)

    def run_s(self, cell: Cell, *, learnt: bool = True) -> float | None:
        """Return how long the run of a cell takes; None where it cannot be known yet."""
        asked = _asked_s(cell, self.cells.experiment.capacity, virtual=self.virtual)
        if asked is None:
            return sum(self.runs) / len(self.runs) if self.runs and learnt else None
        scale = sum(self.ratios) / len(self.ratios) if self.ratios and learnt else 1.0
        return asked * scale

    def of(self, cells: Sequence[Cell], before: Cell | None = None) -> list[Expected]:
        """Return what each of these cells takes, one after another; `before`: the cell whose server runs."""
        found = []
        for cell in cells:
            start_s = 0.0 if self.virtual or not self._starts(before, cell) else self._start_s(cell)
            run_s = self.run_s(cell)
            price = public(cell.config.target).get("price_per_hour")
            cost = None if price is None or run_s is None else (start_s + run_s) / 3600 * price
            found.append(Expected(cell, start_s, run_s, cost))
            before = cell
        return found

    def _start_s(self, cell: Cell) -> float:
        seen = self.starts.get(cell.config.target_name)
        return sum(seen) / len(seen) if seen else _START_S[cell.config.target.kind]

    def _starts(self, before: Cell | None, cell: Cell) -> bool:
        if before is None or before.config.key != cell.config.key:
            return True
        restart = self.cells.experiment.restart
        return restart == "per-cell" or (restart == "per-repeat" and before.repeat != cell.repeat)


def _asked_s(cell: Cell, capacity: object, *, virtual: bool) -> float | None:
    workload = cell.workload
    rate = workload.offered_rate()
    if cell.load.kind == "capacity":
        requests: float | None = _SEARCH_REQUESTS
        budget = getattr(capacity, "budget", None)
        if budget is not None:
            from slobench.config.search_flags import parse_budget

            most, seconds = parse_budget(budget)
            if seconds is not None:
                return seconds if not virtual else None
            requests = most
        assert requests is not None
        return requests / (_VIRTUAL_REQUESTS_PER_S if virtual else rate)
    if virtual:
        return (workload.requests or workload.expected_requests()) / _VIRTUAL_REQUESTS_PER_S
    if workload.duration is not None:
        return workload.duration / 1e9 + _RUN_S
    if isinstance(workload.loop, ClosedLoop) or not rate or workload.requests is None:
        return None
    return workload.requests / rate + _RUN_S


def left_s(expected: Sequence[Expected]) -> tuple[float, bool]:
    """Return the seconds of all together, and whether some are not known: then it is at least so much."""
    known = [each.start_s + each.run_s for each in expected if each.run_s is not None]
    return sum(known), len(known) < len(expected)
