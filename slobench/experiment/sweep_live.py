"""The cells of a sweep on real servers in real time: each a run, or a search for a capacity, stored in its folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from slobench.config.secrets import resolve_secrets
from slobench.errors import ConfigError, SlobenchError, TargetDiedError, TargetError, WorkerError
from slobench.experiment.capacity import SearchEnded, find_capacity
from slobench.experiment.events import Event, Step, passed_on
from slobench.experiment.open_load import open_load
from slobench.experiment.setup import Trial, secrets_of
from slobench.experiment.sweep_ask import ask_of
from slobench.experiment.sweep_cells import Cell, Cells
from slobench.experiment.sweep_file import Row, State, row_of
from slobench.experiment.sweep_numbers import output_tokens_mean, searched, summarised
from slobench.experiment.sweep_server import Kept, Servers
from slobench.experiment.trial import Finished, Interrupts, run_trial
from slobench.names import Exit
from slobench.records.provenance import redact
from slobench.records.store import read_run_json


@dataclass(frozen=True, slots=True)
class CellEnded:
    """A cell has ended. row: None where the user interrupted it."""

    row: Row | None


@dataclass(frozen=True, slots=True)
class Reports:
    """How the reports of a cell are made. of_run: of a run's folder, returns its exit code; of_search: of a search."""

    of_run: Callable[[Path], int]
    of_search: Callable[[SearchEnded], object]


class LiveCells:
    """Runs cells one at a time; a server goes on from one to the next where both need the same."""

    def __init__(self, cells: Cells, folder: Path, interrupts: Interrupts, reports: Reports) -> None:
        self._cells, self._folder, self._interrupts, self._reports = cells, folder, interrupts, reports
        self._servers = Servers(cells.experiment, folder)

    def run(self, cell: Cell) -> Iterator[Event | CellEnded]:
        """Run a cell; the last thing yielded is CellEnded. What an unfinished or failed run left there is replaced."""
        began_s, kept, row = time.monotonic(), None, None
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            kept = yield from passed_on(self._servers.ready(cell), Kept)
            began_s = time.monotonic()
            offer = self._search if cell.load.kind == "capacity" else self._run
            row = yield from offer(cell, self._trial(cell, kept))
        except SlobenchError as error:
            row = self._failed(cell, error)
        finally:
            self._interrupts.offering = False
        if row is not None:
            row = replace(row, started=started, run_s=round(time.monotonic() - began_s, 3))
            if kept is not None:
                row = replace(row, server=kept.number, start_s=round(kept.start_s, 3))
        yield CellEnded(row)

    def close(self) -> Iterator[Event]:
        """Stop what still runs."""
        yield from self._servers.stop()

    def abandon(self) -> None:
        """Stop what still runs, at once and without a check."""
        self._servers.drop()

    def _trial(self, cell: Cell, kept: Kept) -> Trial:
        return Trial(
            workload=cell.workload,
            target=cell.config.target,
            folder=self._folder / cell.folder,
            seed=cell.seed,
            workers=self._cells.experiment.workers,
            force=True,
            running=kept.running,
        )

    def _run(self, cell: Cell, trial: Trial) -> Generator[Event, None, Row | None]:
        """Run it; None where the user interrupted it."""
        finished = yield from passed_on(run_trial(trial, self._interrupts), Finished)
        self._interrupts.offering = False
        yield Step(f"report of {cell.folder}")
        code = self._reports.of_run(trial.folder)
        if finished.interrupted:
            return None
        if code not in set(Exit) - {Exit.TOOL}:  # killed, say: there is no report to read
            raise WorkerError(f"no report of {trial.folder}\n  then      slobench report {trial.folder}")
        if finished.target_failure:
            raise TargetDiedError(finished.target_failure)
        if code == Exit.TARGET:
            raise TargetError("every request failed: see its report")
        run = read_run_json(trial.folder)
        summary = run["summary"]
        row = row_done(cell, "done" if summary["valid"] else "invalid", str(summary["verdict"]))
        return replace(row, plan_digest=run["plan"]["digest"], numbers=summarised(summary))

    def _search(self, cell: Cell, trial: Trial) -> Generator[Event, None, Row | None]:
        """Search for the capacity; None where the user interrupted it."""
        ask = ask_of(self._cells.experiment, cell, trial)
        ended = yield from passed_on(find_capacity(ask, self._interrupts, open_load), SearchEnded)
        self._interrupts.offering = False
        self._reports.of_search(ended)
        return row_of_search(cell, ended)

    def _failed(self, cell: Cell, error: SlobenchError) -> Row:
        """The server that a cell failed on is not trusted with the next one."""
        tail = self._servers.lost() if isinstance(error, TargetError) else ""
        self._servers.drop()
        return failed(cell, error, tail)


def failed(cell: Cell, error: SlobenchError, tail: str = "") -> Row:
    """Return the row of a cell that an error ended; no secret of its target is in it."""
    target, texts = cell.config.target, [*str(error).partition("\n")[::2]]
    headers = dict(target.talk.headers)
    with suppress(ConfigError):  # no key was found: none can stand there
        headers = resolve_secrets(target.talk)
    reason, rest = redact([texts[0], tail or texts[1]], secrets_of(Trial(cell.workload, target, Path()), headers))
    return replace(row_done(cell, "failed", ""), reason=reason[:500], log_tail=rest[-4000:], error=type(error).__name__)


def row_of_search(cell: Cell, ended: SearchEnded) -> Row | None:
    """Return the row of a capacity search; None where the user interrupted it."""
    found = ended.found
    if found.reason == "interrupted":
        return None
    spoiled = found.reason == "instrument"
    numbers = replace(searched(found), output_tokens_mean=output_tokens_mean(cell.workload, cell.seed))
    row = replace(row_done(cell, "invalid" if spoiled else "done", found.reason), numbers=numbers)
    return replace(row, reason="; ".join(found.instrument)[:500] or found.reason) if spoiled else row


def row_done(cell: Cell, state: State, verdict: str) -> Row:
    """Return the row of a cell that came to a verdict."""
    return row_of(cell, state, verdict=verdict[:500], reason=verdict[:500] if state == "invalid" else "")
