"""`slobench gate`: a verdict for CI on two targets, or on stored runs against a baseline."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slobench.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slobench.config.flags import RunFlags
    from slobench.config.margins import Margins
    from slobench.config.talk_flags import TalkFlags
    from slobench.config.workers import Workers
    from slobench.experiment.ab import AbAsk
    from slobench.experiment.gated import Gated

_BASELINE, _PAIRS, _TERMS, _OUTPUT = "Stored runs", "Pairs of runs", "What counts as worse", "Output"


def command(
    subject: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NEW...|WORKLOAD]",
            help="Run folders to judge; with --ab or --aa the workload, none: from flags.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="Run folders, a file of --save-baseline, or a history.", rich_help_panel=_BASELINE),
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=1, help="Only the last N runs of the baseline.", rich_help_panel=_BASELINE)
    ] = None,
    save_baseline: Annotated[
        Path | None, typer.Option(help="Add NEW to this file, small enough for git.", rich_help_panel=_BASELINE)
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(help="Append NEW to this file, e.g. results/history.parquet.", rich_help_panel=_BASELINE),
    ] = None,
    ab: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="BASE_TARGET NEW_TARGET",
            help="Run both in turn, pair by pair.",
            rich_help_panel=_PAIRS,
            show_default=False,
        ),
    ] = None,
    aa: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET", help="Run one against itself: the noise of this machine.", rich_help_panel=_PAIRS
        ),
    ] = None,
    base_set: Annotated[
        list[str] | None, typer.Option(help="A setting of the base target only: path=value.", rich_help_panel=_PAIRS)
    ] = None,
    new_set: Annotated[
        list[str] | None, typer.Option(help="A setting of the new target only: path=value.", rich_help_panel=_PAIRS)
    ] = None,
    virtual: Annotated[
        bool, typer.Option(help="Run sim targets in virtual time, in seconds.", rich_help_panel=_PAIRS)
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the first pair; each has the next.", rich_help_panel=_PAIRS)] = 0,
    margin: Annotated[
        list[str] | None,
        typer.Option(help="5%, or ttft:p90='10% or 20ms'; repeatable.", rich_help_panel=_TERMS, show_default=False),
    ] = None,
    margins: Annotated[Path | None, typer.Option(help="The same as a YAML file.", rich_help_panel=_TERMS)] = None,
    per_class: Annotated[
        bool, typer.Option(help="Every class decides, not only all together.", rich_help_panel=_TERMS)
    ] = False,
    pairs: Annotated[
        int | None, typer.Option(min=4, max=1000, help="Most pairs; default 10.", rich_help_panel=_TERMS)
    ] = None,
    model: options.ModelName = None,
    api: options.Api = None,
    arrivals: options.Arrivals = None,
    rate: options.Rate = None,
    requests: options.Requests = None,
    duration: options.Duration = None,
    input_tokens: options.InputTokens = None,
    output_tokens: options.OutputTokens = None,
    warmup: options.Warmup = None,
    slo: options.SloClauses = None,
    goodput: options.Goodput = None,
    timeout: options.Timeouts = None,
    header: options.Headers = None,
    api_key_env: options.ApiKeyEnv = None,
    ignore_eos: options.IgnoreEos = None,
    insecure: options.Insecure = False,
    ca_bundle: options.CaBundle = None,
    workers: options.Workers = None,
    sets: options.Sets = None,
    out: options.Out = None,
    force: Annotated[
        bool,
        typer.Option(help="Replace what is in --out; judge what is not comparable.", rich_help_panel=options.RUN),
    ] = False,
    resume: Annotated[bool, typer.Option(help="Go on with the pairs in --out.", rich_help_panel=options.RUN)] = False,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML there.", rich_help_panel=_OUTPUT)] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write Markdown there, for a comment.", rich_help_panel=_OUTPUT)
    ] = None,
    explain: Annotated[
        bool, typer.Option(help="Print the procedure with the numbers of this case.", rich_help_panel=_OUTPUT)
    ] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Decide whether NEW is worse than BASE: exit 0 passed, 5 regression, 7 could not decide."""
    from slobench.config.flags import RunFlags
    from slobench.config.margins import Margins, load_margins, with_flags
    from slobench.config.talk_flags import TalkFlags

    asked = with_flags(load_margins(margins) if margins else Margins(), margin or (), per_class=per_class, pairs=pairs)
    words = tuple(subject or ())
    _refuse_mixed(words, baseline=baseline, ab=ab, aa=aa, only_store=bool(save_baseline or history))
    if ab is None and aa is None:
        gated = _stored(words, baseline, asked, last=last, force=force, save=save_baseline, history=history)
        if gated is None:
            return
        raise typer.Exit(_show(gated, out, junit, markdown, explain=explain, as_json=as_json, quiet=quiet))
    loads = RunFlags(
        arrivals=arrivals, rate=rate, requests=requests, duration=duration, warmup=warmup, input_tokens=input_tokens,
        output_tokens=output_tokens, slo=tuple(slo or ()), goodput=tuple(goodput or ()),
    )  # fmt: skip
    talks = TalkFlags(
        model=model, api=api, api_key_env=api_key_env, ignore_eos=ignore_eos, insecure=insecure, ca_bundle=ca_bundle,
        headers=tuple(header or ()), timeouts=tuple(timeout or ()),
    )  # fmt: skip
    both = ab or (aa or "", aa or "")
    own = (tuple(base_set or ()), tuple(new_set or base_set or ()) if aa else tuple(new_set or ()))
    ask = _ask(words, both, (loads, talks), (tuple(sets or ()), *own), asked)
    placed = options.workers_of(workers)
    ask = _with(ask, out, seed=seed, workers=placed, aa=aa is not None, resume=resume)
    gated = _perform(ask, virtual=virtual, force=force, quiet=quiet)
    raise typer.Exit(_show(gated, ask.folder, junit, markdown, explain=explain, as_json=as_json, quiet=quiet))


def _refuse_mixed(
    words: Sequence[str], *, baseline: str | None, ab: tuple[str, str] | None, aa: str | None, only_store: bool
) -> None:
    """Raise UsageError where the command line asks for nothing, or for two things at once."""
    from slobench.errors import UsageError

    ways = [flag for flag, given in (("--baseline", baseline), ("--ab", ab), ("--aa", aa)) if given]
    if len(ways) > 1:
        raise UsageError(f"{' and '.join(ways)} are different gates\n  expected  one of them")
    if not ways and not only_store:
        raise UsageError(
            "compared with what?\n"
            "  expected  gate NEW --baseline BASE, gate WORKLOAD --ab BASE_TARGET NEW_TARGET,\n"
            "            or gate WORKLOAD --aa TARGET"
        )
    if (baseline or not ways) and not words:
        raise UsageError("no new run\n  expected  gate NEW --baseline BASE, NEW a run folder")
    if (ab or aa) and len(words) > 1:
        raise UsageError(
            f"two workloads: {' '.join(words)}\n  expected  one, or none and --rate with the other load flags"
        )


def _stored(
    news: Sequence[str], baseline: str | None, margins: Margins, *, last: int | None, force: bool, save: Path | None,
    history: Path | None,
) -> Gated | None:  # fmt: skip
    """Judge stored runs, then keep them where that was asked; None where nothing was to be judged."""
    from slobench.experiment.baselines import append_history, save_baseline
    from slobench.experiment.gate import gate_stored, new_runs

    gated = None
    if baseline is not None:
        gated, arms = gate_stored(news, baseline, margins, last=last, force=force)
    else:
        arms = new_runs(news)
    if history is not None:
        append_history(history, arms)
    if save is not None and gated is not None and gated.judgement.decision == "FAIL":
        typer.echo(f"{save}: not added to, for the gate failed", err=True)
    elif save is not None:
        kept = save_baseline(save, arms)
        missing = max(0, 8 - len(kept.runs))
        more = f"; {missing} more are needed before it can decide" if missing else ""
        typer.echo(f"{save}: {len(kept.runs)} runs, {save.stat().st_size / 1000:.0f} kB{more}", err=True)
    return gated


def _ask(
    words: Sequence[str],
    targets: tuple[str, str],
    flags: tuple[RunFlags, TalkFlags],
    sets: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
    margins: Margins,
) -> AbAsk:
    from slobench.cli.run import load_both
    from slobench.experiment.ab import AbAsk
    from slobench.experiment.setup import Trial, secrets_of
    from slobench.experiment.trial import default_folder
    from slobench.metrics.gate import terms_of
    from slobench.records.provenance import redact

    workload = words[0] if words else None
    common, *own = sets
    sides = [
        load_both(workload, flags[0], target, flags[1], [*common, *(f"target.{each}" for each in mine)])
        for target, mine in zip(targets, own, strict=True)
    ]
    (offered, base), (_, new) = sides
    names = [
        redact(
            " ".join((target, *mine)),
            secrets_of(Trial(offered.value, side.value, Path()), side.value.talk.headers),
        )
        for target, mine, (_, side) in zip(targets, own, sides, strict=True)
    ]
    return AbAsk(
        workload=offered.value,
        targets={"base": base.value, "new": new.value},
        names=(names[0], names[1]),
        folder=default_folder(offered.value, new.value),
        terms=terms_of(margins, streamed=base.value.talk.stream),
        notes=tuple(dict.fromkeys((*offered.notes, *base.notes, *new.notes))),
    )


def _with(ask: AbAsk, out: Path | None, *, seed: int, workers: Workers | None, aa: bool, resume: bool) -> AbAsk:
    from dataclasses import replace

    from slobench.errors import UsageError

    if resume and out is None:
        raise UsageError("--resume goes on with a gate\n  expected  --out DIR, its folder")
    return replace(ask, folder=out or ask.folder, seed=seed, workers=workers, aa=aa, resume=resume)


def _perform(ask: AbAsk, *, virtual: bool, force: bool, quiet: bool) -> Gated:
    """Run the pairs, showing what happens on standard error; Ctrl-C ends the gate and keeps its pairs."""
    from slobench.cli.run import interruptible, report
    from slobench.experiment.ab import Arms, ended_by_hand, refuse_ab, run_ab
    from slobench.experiment.ab_live import LiveArms, prepare
    from slobench.experiment.gated import Gated
    from slobench.experiment.trial import Interrupts
    from slobench.report.live import LiveView

    refuse_ab(ask)
    prepare(ask.folder, force=force, resume=ask.resume)
    interrupts = Interrupts()
    if virtual:
        from slobench.experiment.ab_virtual import VirtualArms

        arms: Arms = VirtualArms(ask)
    else:
        arms = LiveArms(ask, interrupts, lambda folder: report(folder, as_json=False, quiet=True, silent=True))
    found: Gated | None = None
    events = run_ab(ask, arms)
    with interruptible(interrupts), closing(events), LiveView(quiet=quiet) as view:
        try:
            for event in events:
                if isinstance(event, Gated):
                    found = event
                else:
                    view.show(event)
        except KeyboardInterrupt:  # between two arms, or a third time in one
            return ended_by_hand(ask)
    assert found is not None
    return found


def _show(
    gated: Gated, folder: Path | None, junit: Path | None, markdown: Path | None, *, explain: bool, as_json: bool,
    quiet: bool,
) -> int:  # fmt: skip
    """Write every report that was asked for, print one; the exit code."""
    from slobench.cli.output import show_page, write_json, write_pages, write_text
    from slobench.experiment.ab_file import keep_result
    from slobench.report import gate as gate_report
    from slobench.report.gate_explain import explain as explained
    from slobench.report.junit import render as render_junit
    from slobench.report.page_markdown import render as render_markdown

    page, data = gate_report.page_of(gated), gate_report.to_json(gated)
    if folder is not None:
        write_pages(folder, "gate", page)
        if gated.mode == "stored":
            write_json(folder / "gate.json", data)
        else:
            keep_result(folder, data)
    if junit is not None:
        write_text(junit, render_junit(gated))
    if markdown is not None:
        write_text(markdown, render_markdown(page))
    if os.environ.get("GITHUB_ACTIONS") == "true" or os.environ.get("GITHUB_STEP_SUMMARY"):
        _tell_github(gated)
    if explain and not as_json:
        sys.stdout.write(explained(gated))
    else:
        show_page(gate_report.page_of(gated, folder, stacked=True), data, as_json=as_json, quiet=quiet)
    return int(gated.exit)


def _tell_github(gated: Gated) -> None:
    from slobench.report.github import step_summary, workflow_commands

    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(step_summary(gated))
    for line in workflow_commands(gated):
        typer.echo(line, err=True)
