"""`slobench capacity`: the highest load that still meets the SLO, as an interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from slobench.cli import options

if TYPE_CHECKING:
    from slobench.experiment.capacity import CapacityAsk, SearchEnded
    from slobench.experiment.search_state import Settings

_SEARCH = "Search"


def command(
    workload: options.WorkloadName = None,
    target: options.TargetName = "sim",
    model: options.ModelName = None,
    api: options.Api = None,
    arrivals: Annotated[
        str | None,
        typer.Option(
            help="poisson, constant, gamma:cv=2, weibull:cv=2, on-off:mean_on=20s,mean_off=40s, "
            "hawkes:branching=0.5,decay=1.",
            rich_help_panel=options.LOAD,
        ),
    ] = None,
    input_tokens: options.InputTokens = None,
    output_tokens: options.OutputTokens = None,
    warmup: options.Warmup = None,
    slo: options.SloClauses = None,
    goodput: options.Goodput = None,
    concurrency: Annotated[
        bool, typer.Option(help="Search over the users of a closed loop: max_users.", rich_help_panel=_SEARCH)
    ] = False,
    target_attainment: Annotated[
        str | None,
        typer.Option(help="Share of good requests to keep; default: the SLO's, else 99%.", rich_help_panel=_SEARCH),
    ] = None,
    per_class: Annotated[
        bool, typer.Option(help="Every class must keep the target, not only all together.", rich_help_panel=_SEARCH)
    ] = False,
    precision: Annotated[
        str, typer.Option(help="Half-width of the 95 % interval that ends the search.", rich_help_panel=_SEARCH)
    ] = "3%",
    start_rate: Annotated[
        float | None,
        typer.Option(
            help="First load to try; default: the workload's own, 1 request/s from flags, 8 users.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    max_rate: Annotated[
        float, typer.Option(help="Highest load to try, requests/s or users.", rich_help_panel=_SEARCH)
    ] = 10_000,
    max_probes: Annotated[
        int, typer.Option(min=4, max=1000, help="Most refining probes.", rich_help_panel=_SEARCH)
    ] = 24,
    budget: Annotated[
        str | None,
        typer.Option(help="The most to spend: a time, 12m, or requests, 20000.", rich_help_panel=_SEARCH),
    ] = None,
    virtual: Annotated[
        bool, typer.Option(help="Run a sim target's engine in virtual time, in seconds.", rich_help_panel=_SEARCH)
    ] = False,
    vr: Annotated[
        bool,
        typer.Option("--vr/--no-vr", help="Variance reduction in the probes of the search.", rich_help_panel=_SEARCH),
    ] = True,
    seed: Annotated[int, typer.Option(help="Root seed; every probe has a child of it.", rich_help_panel=_SEARCH)] = 0,
    timeout: options.Timeouts = None,
    header: options.Headers = None,
    api_key_env: options.ApiKeyEnv = None,
    ignore_eos: options.IgnoreEos = None,
    insecure: options.Insecure = False,
    ca_bundle: options.CaBundle = None,
    workers: options.Workers = None,
    sets: options.Sets = None,
    out: options.Out = None,
    force: Annotated[bool, typer.Option(help="Replace what is in --out.", rich_help_panel=options.RUN)] = False,
    resume: Annotated[
        bool,
        typer.Option(help="Go on with the search in --out; its probes are used again.", rich_help_panel=options.RUN),
    ] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the highest load at which the SLO still holds, with an interval, and certify a load below it."""
    from slobench.cli.run import load_both
    from slobench.config.flags import RunFlags
    from slobench.config.search_flags import parse_budget, parse_share
    from slobench.config.talk_flags import TalkFlags
    from slobench.errors import UsageError
    from slobench.experiment.capacity import Wanted, ask_for
    from slobench.experiment.search_state import Budget, Settings
    from slobench.experiment.setup import Trial
    from slobench.experiment.trial import default_folder

    if resume and out is None:
        raise UsageError("--resume goes on with a search\n  expected  --out DIR, its folder")
    rate: str | float | None = start_rate
    if concurrency:
        rate = "inf"
    elif workload is None and start_rate is None:
        rate = 1.0
    loads = RunFlags(
        arrivals=arrivals,
        rate=rate,
        concurrency=1 if concurrency else None,
        requests=None if workload else 1,
        warmup=warmup,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        slo=tuple(slo or ()),
        goodput=tuple(goodput or ()),
    )
    talks = TalkFlags(
        model=model,
        api=api,
        api_key_env=api_key_env,
        ignore_eos=ignore_eos,
        insecure=insecure,
        ca_bundle=ca_bundle,
        headers=tuple(header or ()),
        timeouts=tuple(timeout or ()),
    )
    offered, server = load_both(workload, loads, target, talks, sets or [])
    trial = Trial(
        workload=offered.value,
        target=server.value,
        folder=out or default_folder(offered.value, server.value),
        seed=seed,
        workers=options.workers_of(workers),
        force=force,
        notes=server.notes,
    )
    wanted = Wanted(
        target=None if target_attainment is None else parse_share(target_attainment, "--target-attainment", most=1.0),
        per_class=per_class,
        virtual=virtual,
        users=concurrency,
        resume=resume,
    )
    settings = Settings(
        criteria=(),
        start_rate=start_rate or (8.0 if concurrency else offered.value.offered_rate()),
        precision=parse_share(precision, "--precision", most=0.5),
        max_probes=max_probes,
        max_rate=max_rate,
        seed=seed,
        vr=vr,
        budget=Budget(*parse_budget(budget)) if budget else Budget(),
    )
    ask = ask_for(trial, wanted, settings)
    _refuse_start(settings)
    ended = perform(ask, quiet=quiet)
    raise typer.Exit(show(ended, as_json=as_json, quiet=quiet))


def _refuse_start(settings: Settings) -> None:
    from slobench.errors import UsageError

    if not 0 < settings.start_rate <= settings.max_rate:
        raise UsageError(
            f"a search from {settings.start_rate:g} to at most {settings.max_rate:g}\n"
            "  expected  --start-rate above 0 and not above --max-rate"
        )


def perform(ask: CapacityAsk, *, quiet: bool) -> SearchEnded:
    """Search, showing what happens on standard error; Ctrl-C ends the search and keeps what it has found."""
    from slobench.cli.run import interruptible
    from slobench.experiment.capacity import SearchEnded, find_capacity
    from slobench.experiment.open_load import open_load
    from slobench.experiment.trial import Interrupts
    from slobench.report.live import LiveView

    interrupts = Interrupts()
    ended: SearchEnded | None = None
    with interruptible(interrupts), LiveView(quiet=quiet) as view:
        for event in find_capacity(ask, interrupts, open_load):
            if isinstance(event, SearchEnded):
                ended = event
            else:
                view.show(event)
    assert ended is not None
    return ended


def show(ended: SearchEnded, *, as_json: bool, quiet: bool) -> int:
    """Write the reports and print the result; the exit code."""
    from slobench.cli.output import json_of, replace_unshowable
    from slobench.experiment.capacity import result_json
    from slobench.report.capacity import exit_of, view_of
    from slobench.report.capacity_files import write_reports
    from slobench.report.capacity_text import result_line

    view = view_of(ended)
    write_reports(view)
    if as_json:
        found = result_json(ended.ask, ended.history, ended.found)
        typer.echo(json_of({**found, "exit": int(exit_of(view)), "out": str(view.folder)}))
    elif quiet:
        typer.echo(result_line(view))
    else:
        from rich.console import Console

        from slobench.report.console_capacity import render

        replace_unshowable()
        render(view, Console(highlight=False))
    return int(exit_of(view))
