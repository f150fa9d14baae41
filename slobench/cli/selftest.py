"""`slobench selftest`: what this client can be believed for on this machine."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Generator processes; default: the cores but one.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Half a minute, with coarser steps.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Try this client against a server that computes nothing; print and keep the envelope of what it can offer."""
    import orjson

    from slobench.experiment.selftest import QUICK, Envelope, Settings, run_selftest
    from slobench.experiment.selftest_step import Seen
    from slobench.generate.pool import default_workers
    from slobench.names import Exit
    from slobench.report import selftest

    settings = QUICK if quick else Settings()
    asked = workers or default_workers(local_target=True)
    typer.echo(selftest.opening(asked, settings.total_s), err=True)
    try:
        for event in run_selftest(asked, settings):
            match event:
                case Envelope():
                    text = orjson.dumps(selftest.to_json(event), option=orjson.OPT_INDENT_2).decode()
                    typer.echo(text if json else "\n".join(selftest.lines(event)))
                    raise typer.Exit(Exit.OK if event.complete and not event.busy else Exit.INVALID)
                case Seen():
                    typer.echo(f"  {selftest.progress(event)}", err=True)
                case _:
                    typer.echo(event.text, err=True)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
