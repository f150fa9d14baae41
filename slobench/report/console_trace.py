"""Small charts of a trace in a terminal: rate over time as a line of blocks, lengths as bars."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from slobench.report import words
from slobench.report.console import print_drawing
from slobench.report.console_page import render as render_page
from slobench.report.page import Page
from slobench.workload.trace_facts import LengthFacts, TraceFacts

_LEVELS = " ▁▂▃▄▅▆▇█"
_BAR = 36
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def render(page: Page, facts: TraceFacts, console: Console) -> None:
    """Print a trace's page and, where someone looks at it, its charts."""
    render_page(page, console)
    if console.is_terminal:
        print_drawing(lambda: _draw(facts, console), console)


def spark(values: Sequence[float]) -> str:
    """Return one block for each value, as high as it is against the largest."""
    top = max(values, default=0.0)
    return "".join(_LEVELS[round(value / top * 8) if value > 0 and top > 0 else 0] for value in values)


def bar(share: float, width: int = _BAR) -> str:
    """Return a bar as long as a share of the width, in eighths of a column."""
    whole, rest = divmod(round(share * width * 8), 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _draw(facts: TraceFacts, console: Console) -> None:
    over_time = facts.rate_over_time
    if over_time is not None:
        console.print()
        console.print(Text(f"Requests/s, {over_time.width_s:g} s each", "bold cyan"))
        line = Text.assemble((spark(over_time.rates), "cyan"), (f"  most {words.three(max(over_time.rates))}", "dim"))
        console.print(Padding(line, (0, 0, 0, 2)))
    for name, lengths in (("Input", facts.input_tokens), ("Output", facts.output_tokens)):
        if lengths is not None:
            console.print()
            console.print(Text(f"{name} lengths, tokens", "bold cyan"))
            for row in _bars(lengths):
                console.print(Padding(row, (0, 0, 0, 2)))


def _bars(lengths: LengthFacts, most: int = 12) -> list[Text]:
    """Neighbouring bins put together, so that a dozen rows hold them."""
    step = -(-len(lengths.counts) // most)
    groups = [
        (lengths.edges[at], lengths.edges[min(at + step, len(lengths.counts))], sum(lengths.counts[at : at + step]))
        for at in range(0, len(lengths.counts), step)
    ]
    top = max(count for *_, count in groups)
    rows = []
    for low, high, count in groups:
        label = f"{int(low + 0.5):>7,} – {int(high - 0.5):<7,}"
        rows.append(Text.assemble((label, "dim"), (bar(count / top), "cyan"), f" {words.percent(count / lengths.n)}"))
    return rows
