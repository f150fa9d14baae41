"""The live view in a terminal: four lines that redraw in place."""

from __future__ import annotations

import time
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from slobench.experiment.events import Progress, Searching, Step
from slobench.report import words
from slobench.report.console_search import search_picture

EVERY_S = 0.5


class Redrawn:
    """The current step and the last progress, redrawn at most twice a second; disappears when stopped."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._step = ""
        self._progress: Progress | None = None
        self._search: Searching | None = None
        self._drawn_s = 0.0

    def start(self) -> None:
        """Take over the lines below the cursor."""
        self._live.start()

    def stop(self) -> None:
        """Give the lines back, empty."""
        self._live.stop()

    def print_above(self, text: str) -> None:
        """Print a line that stays, above the view."""
        self._console.print(Text(text, "yellow"))

    def update(self, event: Step | Progress | Searching) -> None:
        """Take in an event; draws unless it has just drawn."""
        if isinstance(event, Step):
            self._step = words.clean(event.text)
        elif isinstance(event, Searching):
            self._search = event
        else:
            self._progress = event
        now_s = time.monotonic()
        if isinstance(event, Step) or now_s - self._drawn_s >= EVERY_S:
            self._drawn_s = now_s
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        width = self._console.width
        if self._search is not None:
            return search_picture(self._search, self._progress, width)
        return picture(self._step, self._progress, width)


def picture(step: str, progress: Progress | None, width: int) -> RenderableType:
    """Return the view as rich draws it; needs no terminal."""
    if progress is None:
        return Text.assemble(("… ", "cyan"), step)
    bar = Grid.grid(padding=(0, 1))
    done = progress.ended / progress.planned if progress.total_s is None else progress.elapsed_s / progress.total_s
    state = "draining" if progress.draining else step
    bar.add_row(
        Text(_clock(progress), "bold"),
        ProgressBar(total=1.0, completed=min(1.0, max(0.0, done)), width=max(10, min(40, width - 44))),
        Text(state, "yellow" if progress.draining else "dim", overflow="ellipsis", no_wrap=True),
    )
    facts = Grid.grid(padding=(0, 2))
    for _ in range(3):
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column(no_wrap=True, min_width=7)
    rate = f"{words.three(progress.achieved_rps)} of {words.three(progress.offered_rps)}"
    facts.add_row(
        *_pair("sent", sent_text(progress)),
        *_pair("req/s", rate, "bold yellow" if _behind(progress) else ""),
        *_pair("TTFT p50", words.seconds(progress.ttft_p50_s)),
    )
    facts.add_row(
        *_pair("in flight", f"{progress.in_flight:,}"),
        *_pair("finished/s", words.three(progress.finished_rps)),
        *_pair("TTFT p99", words.seconds(progress.ttft_p99_s)),
    )
    facts.add_row(
        *_pair("errors", f"{progress.errors:,}", "bold red" if progress.errors else ""),
        *_pair("attainment", words.percent(progress.attainment)),
        *_pair("", "last 10 s", "dim"),
    )
    return Group(bar, facts)


def _clock(progress: Progress) -> str:
    elapsed = f"{progress.elapsed_s:.0f} s"
    if progress.total_s is None:
        return elapsed
    left = max(0.0, progress.total_s - progress.elapsed_s)
    return f"{elapsed} of {progress.total_s:.0f} s, {left:.0f} s left" if left else f"{elapsed}, all offered"


def sent_text(progress: Progress) -> str:
    """Return `144/720`; `144` alone where the run ends by time."""
    by_time = progress.total_s is not None  # its plan holds more rows than will be sent
    return f"{progress.sent:,}" if by_time else f"{progress.sent:,}/{progress.planned:,}"


def _pair(name: str, value: str, style: str = "") -> tuple[Text, Text]:
    return Text(name), Text(value, style)


def _behind(progress: Progress) -> bool:
    return not progress.draining and progress.achieved_rps < 0.98 * progress.offered_rps
