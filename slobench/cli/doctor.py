"""`slobench doctor`: whether all is in place for a measurement."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer


def command(
    target: Annotated[
        str | None, typer.Option(help="Also this target: a name under targets/, a file or a URL.")
    ] = None,
    workload: Annotated[
        str | None, typer.Option(help="Also this workload: a name under workloads/, or a file.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at this machine, and at a target and a workload; say what to fix. Nothing is started."""
    import orjson

    from slobench.experiment.doctor import codes, diagnose, lines
    from slobench.names import first_exit

    checks = diagnose(target, workload)
    if json:
        typer.echo(orjson.dumps([asdict(check) for check in checks], option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo("\n".join(lines(checks)))
    raise typer.Exit(first_exit(codes(checks)))
