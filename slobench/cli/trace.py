"""`slobench trace`: look at recorded traffic, turn it into our own form, fit a workload to it, draw a new one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slobench.cli import options

if TYPE_CHECKING:
    from slobench.workload.traces.schema import Trace

Source = Annotated[Path, typer.Argument(help="A trace file, or a folder: a run's or a pool's.", show_default=False)]
Format = Annotated[str, typer.Option("--format", help="auto, or a name of docs/trace-formats.md.")]
Label = Annotated[str | None, typer.Option(help="Only requests with this label of the recorder.")]
From = Annotated[str | None, typer.Option("--from", help="Start of the part, from the first request, e.g. 10m.")]
Until = Annotated[str | None, typer.Option(help="End of the part.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="Of the format's reader, e.g. block_tokens=16; repeatable."),
]
Seed = Annotated[int, typer.Option(help="Seed of whatever is drawn.")]
Html = Annotated[Path | None, typer.Option(help="Also write a page with charts there.", show_default=False)]


def inspect(
    source: Source,
    format_: Format = "auto",
    label: Label = None,
    from_: From = None,
    until: Until = None,
    option: Options = None,
    html: Html = None,
    seed: Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Say what a trace holds: rate over time, burstiness at several scales, lengths, sharing, sessions, artefacts."""
    from slobench.report import console_trace, trace_page
    from slobench.workload.trace_facts import describe_trace

    facts = describe_trace(_part(source, format_, label, (from_, until), option), seed)
    page = trace_page.page_of(facts, source.name)
    if html is not None:
        _write_page(html, page)
    if as_json:
        _print_json(trace_page.to_json(facts, source.name))
        return
    from rich.console import Console

    _replace_unshowable()
    console_trace.render(page, facts, Console(highlight=False))


def convert(
    source: Source,
    out: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    to: Annotated[str, typer.Option(help="jsonl (ours), csv (Vidur's columns) or mooncake.")] = "jsonl",
    format_: Format = "auto",
    label: Label = None,
    from_: From = None,
    until: Until = None,
    option: Options = None,
    keep: Annotated[float, typer.Option(help="Thinning: keep each session, or request, with this probability.")] = 1.0,
    speed: Annotated[float, typer.Option(help="Divide times between requests by it.")] = 1.0,
    spread: Annotated[bool, typer.Option("--spread", help="Arrivals at random places in the recorder's bins.")] = False,
    scale_tokens: Annotated[float, typer.Option(help="Multiply lengths, and blocks with them, by it.")] = 1.0,
    block_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a prefix block in the new trace.")] = None,
    loop: Annotated[int, typer.Option(min=1, help="So many times over, with new sessions and prefixes.")] = 1,
    rename: Annotated[
        list[str] | None, typer.Option(metavar="LABEL=NEW", help="Give a label another name; repeatable.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Write a trace, or a part of it, in another form: sliced, thinned, sped up, spread, scaled, looped."""
    from slobench.workload.traces.convert import Changes, changed, write

    trace = _part(source, format_, label, (from_, until), option)
    changes = Changes(keep, speed, spread, scale_tokens, block_tokens, loop, tuple(rename or ()))
    new = changed(trace, changes, seed)
    for note in (*new.notes, *write(new, to, out)):
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{out}  {len(new)} requests")


def fit(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="Write the workload here, e.g. like-it.yaml.")] = None,
    by_class: Annotated[bool, typer.Option("--by-class", help="A class for each label of the recorder.")] = False,
    lengths: Annotated[
        str, typer.Option(help="pairs: recorded (input, output) pairs; apart: two distributions; auto: as they depend.")
    ] = "auto",
    blocks: Annotated[int | None, typer.Option(min=4, max=200, help="Blocks of time, each left out in turn.")] = None,
    format_: Format = "auto",
    label: Label = None,
    from_: From = None,
    until: Until = None,
    option: Options = None,
    html: Html = None,
    seed: Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Choose models of arrivals and lengths by held-out likelihood; print and write the workload that is like it."""
    from slobench.errors import UsageError
    from slobench.report import console_page, fit_page
    from slobench.workload.fit import fit_trace
    from slobench.workload.fit_check import check_fit, lost
    from slobench.workload.fit_file import to_yaml, workload_of

    if lengths not in {"auto", "pairs", "apart"}:
        raise UsageError(f"--lengths {lengths!r}\n  expected  auto, pairs or apart")
    trace = _part(source, format_, label, (from_, until), option)
    paired = {"auto": None, "pairs": True, "apart": False}[lengths]
    told = _progress()
    fits, notes = fit_trace(trace, seed=seed, blocks=blocks, paired=paired, by_class=by_class, told=told)
    told("draws of the fitted workload")
    checks = {name: check_fit(each, seed) for name, each in fits.items()}
    told("")
    name = source.name.split(".")[0]
    text = to_yaml(workload_of(fits, name))
    if out is not None:
        _write(out, text)
    every = (*trace.notes, *notes, *lost(trace))
    view = fit_page.FitView(source.name, fits, checks, every, text, "" if out is None else str(out))
    page = fit_page.page_of(view)
    if html is not None:
        _write_page(html, page)
    if as_json:
        _print_json(fit_page.to_json(view))
        return
    from rich.console import Console

    _replace_unshowable()
    console_page.render(page, Console(highlight=False))


def sample(
    source: Annotated[str, typer.Argument(help="A workload (name or YAML file), or a trace.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The file to write, in our own form.", show_default=False)],
    requests: Annotated[int | None, typer.Option(min=1, help="So many requests.")] = None,
    duration: Annotated[str | None, typer.Option(help="Or so long, e.g. 10m; neither: as the workload says.")] = None,
    piece: Annotated[str, typer.Option(help="Of a trace: length of the pieces drawn from it.")] = "60s",
    format_: Format = "auto",
    seed: Seed = 0,
) -> None:
    """Write a synthetic trace: drawn from a workload, or put together from pieces of a recorded trace."""
    from slobench.errors import UsageError
    from slobench.units import parse_duration_ns
    from slobench.workload.traces.own import write_jsonl

    if requests is not None and duration is not None:
        raise UsageError("both --requests and --duration\n  expected  one of them, or neither")
    duration_ns = None if duration is None else parse_duration_ns(duration)
    if _is_trace(source):
        from slobench.workload.traces.read import read_trace
        from slobench.workload.traces.resample import resampled

        trace = read_trace(Path(source), format_)
        if requests is None and duration_ns is None:
            requests = len(trace)
        new = resampled(trace, seed=seed, piece_ns=parse_duration_ns(piece), requests=requests, duration_ns=duration_ns)
    else:
        from slobench.config.load import load_workload
        from slobench.experiment.trace_sample import planned_trace

        workload = load_workload(source).value
        new = planned_trace(workload, seed=seed, requests=requests, duration_ns=duration_ns)
    write_jsonl(new, out)
    for note in new.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{out}  {len(new)} requests")


def _is_trace(source: str) -> bool:
    path = Path(source)
    return path.exists() and path.suffix not in {".yaml", ".yml"}


def _part(
    source: Path, format_: str, label: str | None, part: tuple[str | None, str | None], option: list[str] | None
) -> Trace:
    """Read a trace; only the label and the part asked for. Raises ConfigError where nothing is left."""
    from slobench.errors import ConfigError
    from slobench.units import parse_duration_ns
    from slobench.workload.traces.ops import of_class, sliced
    from slobench.workload.traces.read import read_trace

    trace = read_trace(source, format_, **_options(option or []))
    if label is not None:
        trace = of_class(trace, label)
    begin, end = part
    if begin is not None or end is not None:
        trace = sliced(trace, parse_duration_ns(begin or 0), None if end is None else parse_duration_ns(end))
    if not len(trace):
        raise ConfigError(f"no request of {source} lies in this part\n  expected  another --from, --until or --label")
    return trace


def _options(given: list[str]) -> dict[str, object]:
    """Read NAME=VALUE pairs; a value is a whole number, a number or text."""
    from slobench.errors import UsageError

    found: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--option: cannot read {text!r}\n  expected  NAME=VALUE, e.g. block_tokens=16")
        for kind in (int, float, str):
            try:
                found[name] = kind(value)
                break
            except ValueError:
                continue
    return found


def _progress() -> Callable[[str], None]:
    """Show what is being done on one line of a terminal; nothing elsewhere."""

    def told(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2K{f'fitting: {text}' if text else ''}")
            sys.stderr.flush()

    return told


def _write(path: Path, text: str) -> None:
    from slobench.errors import RecordsError

    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise RecordsError(f"cannot write {path}: {error.strerror}\n  expected  a folder that exists") from None


def _write_page(path: Path, page: object) -> None:
    from slobench.report import page_html
    from slobench.report.page import Page

    assert isinstance(page, Page)
    _write(path, page_html.render(page))


def _print_json(data: object) -> None:
    import orjson

    typer.echo(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode())


def _replace_unshowable() -> None:
    """Keep a terminal that cannot show "≤" from losing the report."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
