"""`slobench plan`: what a workload would offer, without offering it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    workload: Annotated[str, typer.Argument(help="A name under workloads/, or a workload file.", show_default=False)],
    seed: Annotated[int, typer.Option(help="Root seed; arrivals, lengths and prompts draw from its children.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Replace a value, e.g. duration=10m. Repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the plan here, as an Arrow file.", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plan WORKLOAD and print its digest, rates, lengths and sharing; nothing is sent."""
    from slobench.config.load import load_workload
    from slobench.plan import build_plan
    from slobench.report.plan import describe, render, to_json

    loaded = load_workload(workload, set_ or ())
    plan = build_plan(loaded.value, seed)
    if out is not None:
        plan.save(out)
    facts = describe(plan, loaded.value, seed)
    typer.echo(to_json(facts) if json else render(facts))
