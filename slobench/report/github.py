"""What GitHub Actions shows of a gate: annotations of the job, and the summary of the step."""

from __future__ import annotations

from collections.abc import Iterator

from slobench.experiment.gated import Gated
from slobench.names import Exit
from slobench.report.compare import quantity_name
from slobench.report.gate import page_of, verdict
from slobench.report.junit import numbers_of
from slobench.report.page_markdown import render

MOST_BYTES = 1_000_000
"""Of a step's summary; GitHub refuses a larger one whole (1 MiB)."""


def step_summary(gated: Gated) -> str:
    """Return the Markdown of the step's summary."""
    text = render(page_of(gated))
    return text if len(text.encode()) <= MOST_BYTES else text.encode()[:MOST_BYTES].decode(errors="ignore") + "\n…\n"


def workflow_commands(gated: Gated) -> Iterator[str]:
    """Yield workflow commands: an error for each metric that is worse, a notice or warning with the verdict."""
    word, meaning, tone = verdict(gated)
    for test in gated.judgement.tests:
        if test.decides and test.outcome == "worse" and gated.mode != "aa":
            yield _command("error", f"{quantity_name(test.quantity.key)} of {test.of_class} is worse", numbers_of(test))
    kind = {"good": "notice", "warn": "warning", "bad": "error"}[tone]
    also = "" if gated.exit == Exit.OK else f" (exit {int(gated.exit)})"
    yield _command(kind, f"slobench gate: {word}{also}", meaning or word)


def _command(kind: str, title: str, message: str) -> str:
    return f"::{kind} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    """Escape a message as the runner's toolkit does (actions/toolkit, command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
