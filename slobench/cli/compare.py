"""`slobench compare`: what changed between two runs or more, how much, and how sure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slobench.cli import options


def command(
    base: Annotated[
        str,
        typer.Argument(
            help="A run folder, one of --repeats, a quoted glob, or a result file of vLLM, GuideLLM or AIPerf.",
            show_default=False,
        ),
    ],
    new: Annotated[
        list[str], typer.Argument(help="The same; several are each compared with BASE.", show_default=False)
    ],
    margin: Annotated[
        list[str] | None,
        typer.Option(
            help="What still counts as the same: 5%, or ttft:p90='10% or 20ms'; repeatable.", show_default=False
        ),
    ] = None,
    run_noise: Annotated[
        str, typer.Option(help="What two runs of one server are taken to differ by, where few runs cannot show it.")
    ] = "3%",
    force: Annotated[bool, typer.Option(help="Compare what differs in more than the server, and say so.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write compare.json, compare.md and compare.html there.", show_default=False),
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare runs: both values of every metric, their ratio with an interval, and a verdict with its size."""
    from slobench.cli.output import show_page, write_json, write_pages
    from slobench.config.margins import Margins, parse_percent, with_flags
    from slobench.experiment.compare import compare_runs
    from slobench.report.compare import page_of, to_json

    margins = with_flags(Margins(), margin or (), per_class=False, pairs=None)
    noise = 0.0 if run_noise.strip() in {"0", "0%"} else parse_percent(run_noise, most=1.0)
    compared = compare_runs(base, new, margins, force=force, run_noise=noise)
    page, data = page_of(compared), to_json(compared)
    if out is not None:
        write_pages(out, "compare", page)
        write_json(out / "compare.json", data)
    show_page(page_of(compared, out, stacked=True), data, as_json=as_json, quiet=quiet)
