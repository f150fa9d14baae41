"""`slobench config show` and `slobench config schema`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class FileKind(StrEnum):
    """The kinds of configuration file."""

    WORKLOAD = "workload"
    TARGET = "target"
    SLO = "slo"
    EXPERIMENT = "experiment"
    MARGINS = "margins"


def show(
    workload: Annotated[str | None, typer.Argument(help="Workload: a name or a file.")] = None,
    target: Annotated[str | None, typer.Option("--target", help="Target: a name, a file or a URL.")] = None,
    slo: Annotated[
        list[str] | None, typer.Option("--slo", help="Clauses or the name of a preset, e.g. chat; repeatable.")
    ] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="path=value, over the file's; repeatable.")] = None,
) -> None:
    """Print the resolved workload and target, and where each value came from; the clauses of SLO presets."""
    from slobench.config.show import show_all

    typer.echo(show_all(workload, target, sets or [], slo or []), nl=False)


def schema(
    kind: Annotated[FileKind, typer.Argument(help="Which files the schema describes.")] = FileKind.WORKLOAD,
    out: Annotated[Path | None, typer.Option("--out", help="Write it to this file instead of printing it.")] = None,
) -> None:
    """Print or write the JSON Schema of workload, target, SLO preset, experiment or margins files, for editors."""
    from slobench.config.schema import write_schema

    typer.echo(write_schema(kind.value, out), nl=False)
