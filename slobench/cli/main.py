"""The `slobench` command: imports only the subcommand that is asked for, turns errors into exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

import typer

from slobench import __version__
from slobench.errors import SlobenchError

_COMMANDS = {
    "run": "Offer one workload once; report, files, verdict.",
    "capacity": "The highest load that still meets the SLO, as an interval.",
    "sweep": "Server settings × workloads × loads, resumable; the best config.",
    "compare": "What changed between runs, how much, how sure.",
    "gate": "The same as a verdict for CI: exit code, JUnit, Markdown.",
    "report": "Every report of a run again, from its files.",
    "plan": "The plan of a workload: digest, rates, lengths, sharing.",
    "serve": "Start a target and leave it running.",
    "selftest": "This machine's own limits: rate, tokens/s, streams, error of TTFT.",
    "doctor": "Is this machine, target, config ready; what to fix.",
}
GROUPS = {
    "trace": ("Recorded traffic: look, convert, fit a workload, sample.", "inspect convert fit sample"),
    "config": ("Resolved settings and their origin; JSON Schema.", "show schema"),
}
"""Command of several words -> its line, and the words that may follow."""


def build_app(words: Sequence[str]) -> typer.Typer:
    """The commands; only those among `words` are imported, the others stand in the list with their line."""
    app = typer.Typer(
        help="Load generator and SLO benchmarking harness for LLM inference servers.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if {*_COMMANDS, *GROUPS} & set(words) else None,  # the bare list needs no rich: 0.1 s
    )
    app.callback()(root)
    for name, line in _COMMANDS.items():
        command: Callable[..., None] = import_module(f"slobench.cli.{name}").command if name in words else _listed
        app.command(name, short_help=line)(command)
    for group, (line, names) in GROUPS.items():
        inner = typer.Typer(help=line, no_args_is_help=True)
        for name in names.split():
            made = getattr(import_module(f"slobench.cli.{group}"), name) if group in words else _listed
            inner.command(name)(made)
        app.add_typer(inner, name=group)
    return app


def _listed() -> None:
    """Stand for a command whose module was not asked for."""


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"slobench {__version__}")
        raise typer.Exit


def root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Load generator and SLO benchmarking harness for LLM inference servers."""


def spread_goodput(words: Sequence[str]) -> list[str]:
    """vLLM's `--goodput ttft:500 tpot:50` as one option a pair: an option of ours takes one value."""
    spread: list[str] = []
    inside = False
    for word in words:
        inside = word == "--goodput" or (inside and ":" in word and not word.startswith("-"))
        if word != "--goodput":
            spread += ["--goodput", word] if inside else [word]
    return spread


def main() -> None:
    """Run the command line; the exit code says how it went (docs/reference.md, exit codes)."""
    words = spread_goodput(sys.argv[1:])
    try:
        build_app(words)(args=words, prog_name="slobench")
    except SlobenchError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit)
