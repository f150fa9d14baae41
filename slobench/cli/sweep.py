"""`slobench sweep`: targets, settings, workloads and loads, each with each; resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slobench.cli import options

if TYPE_CHECKING:
    from slobench.experiment.sweep import Runner, SweepEnded
    from slobench.experiment.sweep_cells import Cells
    from slobench.experiment.trial import Interrupts


def command(
    experiment: Annotated[
        str,
        typer.Argument(help="A name under experiments/, or a YAML file; see `slobench config schema experiment`.",
                       show_default=False),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells, their time and cost; run none.")] = False,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="Run sim targets in virtual time: a fraction of a second a cell.")
    ] = False,
    sets: options.Sets = None,
    out: options.Out = None,
    force: Annotated[bool, typer.Option(help="Replace what is in --out.", rich_help_panel=options.RUN)] = False,
    resume: Annotated[
        bool,
        typer.Option(help="Go on with the sweep in --out: cells that are missing, failed or INVALID.",
                     rich_help_panel=options.RUN),
    ] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Run every cell of an experiment, keep each as it ends, and name the best config, or say which cannot be told."""
    from slobench.config.load import load_experiment
    from slobench.errors import UsageError
    from slobench.experiment.sweep import default_folder, prepare
    from slobench.experiment.sweep_ask import refuse
    from slobench.experiment.sweep_cells import cells_of

    if resume and out is None:
        raise UsageError("--resume goes on with a sweep\n  expected  --out DIR, its folder")
    if resume and force:
        raise UsageError("--resume goes on with a sweep, --force replaces it\n  expected  one of them")
    cells = cells_of(load_experiment(experiment, sets or []))
    refuse(cells, virtual=virtual)
    folder = out or default_folder(cells.experiment.name)
    if dry_run:
        _show_plan(cells, folder if resume else None, virtual=virtual, as_json=as_json)
        return
    prepare(folder, force=force, resume=resume)
    ended = _perform(cells, folder, virtual=virtual, resume=resume, quiet=quiet)
    raise typer.Exit(_show(ended, as_json=as_json, quiet=quiet))


def _show_plan(cells: Cells, folder: Path | None, *, virtual: bool, as_json: bool) -> None:
    from slobench.cli.output import show_page
    from slobench.experiment.sweep_file import AGAIN, belonging, load
    from slobench.report.sweep_plan import page_of, to_json

    rows = belonging(load(folder), cells, folder) if folder is not None else []
    done = {row.key for row in rows if row.state not in AGAIN}
    data = to_json(cells, done, virtual=virtual)
    show_page(page_of(cells, done, virtual=virtual), data, as_json=as_json, quiet=False)


def _perform(cells: Cells, folder: Path, *, virtual: bool, resume: bool, quiet: bool) -> SweepEnded:
    """Run the cells, showing what happens on standard error; Ctrl-C drains the run and ends the sweep."""
    from slobench.cli.run import interruptible
    from slobench.experiment.sweep import SweepEnded, run_sweep
    from slobench.experiment.sweep_file import load
    from slobench.experiment.trial import Interrupts
    from slobench.report.live import LiveView

    interrupts = Interrupts()
    runner: Runner = _runner(cells, folder, interrupts, virtual=virtual)
    found: SweepEnded | None = None
    with interruptible(interrupts), LiveView(quiet=quiet) as view:
        events = run_sweep(cells, folder, runner, interrupts, resume=resume, virtual=virtual)
        try:
            for event in events:
                if isinstance(event, SweepEnded):
                    found = event
                else:
                    view.show(event)
        except KeyboardInterrupt:
            events.close()
    return found or SweepEnded(cells, folder, tuple(load(folder)), interrupted=True)


def _runner(cells: Cells, folder: Path, interrupts: Interrupts, *, virtual: bool) -> Runner:
    from slobench.cli.run import report
    from slobench.experiment.sweep_live import LiveCells, Reports
    from slobench.experiment.sweep_virtual import VirtualCells
    from slobench.report.capacity import view_of
    from slobench.report.capacity_files import write_reports

    reports = Reports(
        of_run=lambda path: report(path, as_json=False, quiet=True, silent=True),
        of_search=lambda ended: write_reports(view_of(ended)),
    )
    kind = VirtualCells if virtual else LiveCells
    return kind(cells, folder, interrupts, reports)


def _show(ended: SweepEnded, *, as_json: bool, quiet: bool) -> int:
    """Write the reports and print one; the exit code."""
    from slobench.cli.output import show_page, write_json, write_pages
    from slobench.experiment.sweep_result import result_of
    from slobench.report.sweep import exit_of, page_of
    from slobench.report.sweep_json import to_json

    result = result_of(ended.rows)
    data = to_json(ended, result)
    write_pages(ended.folder, "sweep", page_of(ended, result))
    write_json(ended.folder / "sweep.json", data)
    show_page(page_of(ended, result, short=True), data, as_json=as_json, quiet=quiet)
    return int(exit_of(ended))
