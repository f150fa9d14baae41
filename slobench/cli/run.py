"""`slobench run`: offer one workload to one target, then report."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slobench.cli import options

if TYPE_CHECKING:
    from types import FrameType

    from slobench.config.flags import RunFlags
    from slobench.config.load import AnyTarget, Loaded
    from slobench.config.talk_flags import TalkFlags
    from slobench.config.workload import Workload
    from slobench.experiment.trial import Interrupts, Trial


def command(
    workload: options.WorkloadName = None,
    target: options.TargetName = "sim",
    model: options.ModelName = None,
    api: options.Api = None,
    arrivals: options.Arrivals = None,
    rate: options.Rate = None,
    burstiness: Annotated[
        float | None, typer.Option(help="vLLM's spelling of gamma arrivals: 1/cv².", rich_help_panel=options.LOAD)
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            "--max-concurrency",
            help="Users of a closed loop; with --rate a safety cap.",
            rich_help_panel=options.LOAD,
        ),
    ] = None,
    requests: options.Requests = None,
    duration: options.Duration = None,
    until_decided: Annotated[
        bool,
        typer.Option(
            help="Stop once the SLO is surely met or missed; --duration is the bound.", rich_help_panel=options.LOAD
        ),
    ] = False,
    until_precision: Annotated[
        str | None,
        typer.Option(
            help="Stop once intervals are this narrow: 5%, or ttft:p99=5%,attainment=1%.", rich_help_panel=options.LOAD
        ),
    ] = None,
    warmup: options.Warmup = None,
    input_tokens: options.InputTokens = None,
    output_tokens: options.OutputTokens = None,
    slo: options.SloClauses = None,
    goodput: options.Goodput = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Root seed; arrivals, lengths and prompts draw from its children.", rich_help_panel=options.LOAD
        ),
    ] = 0,
    drain: Annotated[str | None, typer.Option(help="wait, cut, or grace=30s.", rich_help_panel=options.LOAD)] = None,
    timeout: options.Timeouts = None,
    header: options.Headers = None,
    api_key_env: options.ApiKeyEnv = None,
    ignore_eos: options.IgnoreEos = None,
    insecure: options.Insecure = False,
    ca_bundle: options.CaBundle = None,
    repeats: Annotated[
        int,
        typer.Option(min=1, max=1000, help="Run it N times, each with a seed of its own.", rich_help_panel=options.RUN),
    ] = 1,
    workers: options.Workers = None,
    sets: options.Sets = None,
    out: options.Out = None,
    force: Annotated[bool, typer.Option(help="Replace the run that is in --out.", rich_help_panel=options.RUN)] = False,
    history: options.History = None,
    export: options.Export = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Offer one workload once; print a report, keep the records, end with a verdict."""
    from slobench.config.flags import RunFlags
    from slobench.config.talk_flags import TalkFlags
    from slobench.experiment.trial import Trial, default_folder

    if export:
        from slobench.report.exports.write import wanted

        wanted(export)
    loads = RunFlags(
        arrivals=arrivals,
        rate=rate,
        burstiness=burstiness,
        concurrency=concurrency,
        requests=requests,
        duration=duration,
        warmup=warmup,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        slo=tuple(slo or ()),
        goodput=tuple(goodput or ()),
        drain=drain,
        until_decided=until_decided,
        until_precision=until_precision,
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
        notes=(*offered.notes, *server.notes),
    )
    if repeats > 1:
        code: int = perform_repeats(trial, repeats, as_json=as_json, quiet=quiet, exports=export or ())
    else:
        perform(trial, quiet=quiet)
        code = report(trial.folder, as_json=as_json, quiet=quiet, exports=export or ())
    if history is not None:
        from slobench.experiment.arms import find_arms
        from slobench.experiment.baselines import append_history

        append_history(history, find_arms(str(trial.folder)))
    raise typer.Exit(code)


def load_both(
    workload: str | None, loads: RunFlags, target: str, talks: TalkFlags, sets: Sequence[str]
) -> tuple[Loaded[Workload], Loaded[AnyTarget]]:
    """The workload and the target that a command line means. Raises ConfigError, UsageError."""
    from slobench.config.fit import fitted
    from slobench.config.flags import apply_flags, workload_from_flags
    from slobench.config.load import load_target, load_workload, route_sets
    from slobench.config.talk_flags import apply_talk_flags

    for_workload, for_target = route_sets(sets)
    if workload is None:
        offered = workload_from_flags(loads, for_workload)
    else:
        offered = apply_flags(load_workload(workload, for_workload), loads)
    server = apply_talk_flags(load_target(target, for_target), talks)
    return fitted(offered, server), server


def perform(trial: Trial, *, quiet: bool) -> None:
    """Run the trial, showing what happens on standard error; Ctrl-C drains, twice ends."""
    from slobench.experiment.trial import Finished, Interrupts, run_trial
    from slobench.report.live import LiveView

    interrupts = Interrupts()
    with interruptible(interrupts), LiveView(quiet=quiet) as view:
        for event in run_trial(trial, interrupts):
            if not isinstance(event, Finished):
                view.show(event)


def perform_repeats(trial: Trial, repeats: int, *, as_json: bool, quiet: bool, exports: Sequence[str] = ()) -> int:
    """Run the trial `repeats` times into repeat-1, repeat-2 …; print them side by side; the exit code of all."""
    from dataclasses import asdict, replace

    import orjson

    from slobench.errors import SlobenchError
    from slobench.experiment.trial import prepare_folder
    from slobench.names import Exit, first_exit
    from slobench.report.repeats import over_repeats, render

    prepare_folder(trial.folder, force=trial.force)
    folders: list[Path] = []
    codes: set[Exit] = set()
    for number in range(1, repeats + 1):
        folder = trial.folder / f"repeat-{number}"
        try:
            perform(replace(trial, folder=folder, seed=trial.seed + number - 1), quiet=quiet)
            code = report(folder, as_json=False, quiet=True, silent=True, exports=exports)
        except KeyboardInterrupt:
            codes.add(Exit.INTERRUPTED)
            break
        except SlobenchError as error:
            if not folders:
                raise
            sys.stderr.write(f"error: repeat {number}: {error}\n")
            codes.add(error.exit)
            break
        if code not in set(Exit) - {Exit.TOOL}:  # killed, say: there is no report to count
            codes.add(Exit.TOOL)
            break
        folders.append(folder)
        codes.add(Exit(code))
        if code == Exit.INTERRUPTED:
            break
    if not folders:
        return first_exit(codes)
    found = over_repeats(folders)
    found_json = orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2)
    (trial.folder / "repeats.json").write_bytes(found_json)
    typer.echo(found_json.decode() if as_json else render(found), nl=as_json)
    return first_exit(codes)


@contextmanager
def interruptible(interrupts: Interrupts) -> Iterator[None]:
    """Count SIGINT and SIGTERM instead of ending at once, as long as something is being offered."""

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        interrupts.count += 1
        if not interrupts.offering or interrupts.count > 2:
            raise KeyboardInterrupt  # nothing was offered yet, or nobody will wait any longer

    before = {number: signal.signal(number, on_interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def report(folder: Path, *, as_json: bool, quiet: bool, silent: bool = False, exports: Sequence[str] = ()) -> int:
    """Make the report in a process of its own (its memory and its imports are not the generator's); its exit code."""
    command = [sys.executable, "-m", "slobench", "report", str(folder)]
    command += ["--json"] if as_json else []
    command += ["--quiet"] if quiet else []
    command += [f"--export={form}" for form in exports]
    stdout = subprocess.DEVNULL if silent else None
    return subprocess.run(command, stdout=stdout, check=False).returncode
