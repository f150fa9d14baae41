"""`slobench serve`: a target, started and left running."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    target: Annotated[str, typer.Argument(help="A name under targets/, a target file or a URL.", show_default=False)],
    port: Annotated[int | None, typer.Option(help="Port to serve on; else the target's, or a free one.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Replace a value, e.g. args.max-num-seqs=8. Repeatable."),
    ] = None,
    log: Annotated[Path, typer.Option(help="Where the server's output goes.")] = Path("results/serve/server.log"),
    json: Annotated[bool, typer.Option("--json", help="Print what was observed as JSON.")] = False,
) -> None:
    """Start TARGET, print where it listens, and leave it running until Ctrl-C or SIGTERM."""
    from slobench.experiment.serving import serve

    sets = [*(set_ or ()), *([f"port={port}"] if port is not None else ())]
    serve(target, sets, log, say=lambda text: typer.echo(text, err=True), show=typer.echo, as_json=json)
