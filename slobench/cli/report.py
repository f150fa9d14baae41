"""`slobench report`: every report of a run again, from its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slobench.cli import options

if TYPE_CHECKING:
    from slobench.report.view import RunView


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a run, e.g. results/chat-1.", show_default=False)
    ],
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    slo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="Judge by these limits instead, e.g. 'ttft<300ms'; the files stay as they are. Repeatable.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Show a latency as another tool defines it too, e.g. tpot@vllm, itl@guidellm. Repeatable.",
            show_default=False,
        ),
    ] = None,
    export: options.Export = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The export's file, - for standard output.", show_default=False),
    ] = None,
) -> None:
    """Evaluate DIR again, write its tables and reports, print the report; recovers what a killed run left."""
    from slobench.metrics.peers import known
    from slobench.records.heap import keep_freed_memory
    from slobench.report.build import build_report
    from slobench.report.exports import write

    keep_freed_memory()
    exports = write.wanted(export or (), out)
    view = build_report(folder, slo=slo or None, peers=known(metric or ()))
    if exports.printed:
        typer.echo(write.printable(view, exports), nl=False)
    else:
        show(view, as_json=as_json, quiet=quiet)  # first: an export that this run cannot have must not cost its report
        for path in write.export(view, exports):
            typer.echo(f"written  {path}", err=True)
    raise typer.Exit(view.summary.exit)


def show(view: RunView, *, as_json: bool, quiet: bool) -> None:
    """Print a report to standard output: JSON, the verdict alone, or everything."""
    from slobench.cli.output import json_of, replace_unshowable

    replace_unshowable()
    if as_json:
        from slobench.report.summary import to_json

        typer.echo(json_of(to_json(view)))
    elif quiet:
        from slobench.report.words import clean

        typer.echo(clean(view.summary.verdict, 1000))
    else:
        from rich.console import Console

        from slobench.report.console import render

        render(view, Console(highlight=False))
