"""What is seen while a run is under way: a few lines that redraw in a terminal, one line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from slobench.experiment.events import Event, Notice, Progress, Searching, Step, Told
from slobench.report import words
from slobench.report.console_live import Redrawn, sent_text

PLAIN_EVERY_S = 5.0


class LiveView:
    """Shows a trial's events on standard error; a context manager.

    In a terminal it redraws at most twice a second (a redraw holds the interpreter for about 7 ms); else it
    prints a line for each step and notice, and one for progress every 5 s. quiet: notices only.
    """

    def __init__(
        self, *, stream: TextIO | None = None, quiet: bool = False, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._clock_s = clock_s
        self._last_line_s = -PLAIN_EVERY_S
        self._last_probe: int | None = None
        self._drawn = Redrawn(self._stream) if self._stream.isatty() and not quiet else None

    def __enter__(self) -> LiveView:
        if self._drawn:
            self._drawn.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            self._drawn.stop()

    def show(self, event: Event) -> None:
        """Take in one event; never raises for a stream that has gone away."""
        try:
            self._show(event)
        except (BrokenPipeError, ValueError):  # ValueError: the stream was closed
            self._quiet, self._drawn = True, None

    def _show(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._line(f"note: {words.clean(event.text, 1000)}")
        elif self._quiet:
            return
        elif isinstance(event, Told):
            self._line(words.clean(event.text, 1000))
        elif self._drawn:
            self._drawn.update(event)
        elif isinstance(event, Step):
            self._line(words.clean(event.text))
        elif isinstance(event, Searching):
            if event.now is not None and event.now.number != self._last_probe:
                self._last_probe = event.now.number
                self._line(search_line(event))
        elif self._clock_s() - self._last_line_s >= PLAIN_EVERY_S:
            self._last_line_s = self._clock_s()
            self._line(line(event))

    def _line(self, text: str) -> None:
        if self._drawn:
            self._drawn.print_above(text)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()


def line(progress: Progress) -> str:
    """Progress on one line: `12 s of 60 s · sent 144/720 · 12.0 req/s · in flight 31 · TTFT p50 …`."""
    rates = (progress.offered_rps, progress.achieved_rps, progress.finished_rps)
    parts = [
        clock(progress),
        f"sent {sent_text(progress)}",
        "offered {} sent {} finished {} req/s".format(*map(words.three, rates)),
        f"in flight {progress.in_flight:,}",
        f"TTFT p50 {words.seconds(progress.ttft_p50_s)} p99 {words.seconds(progress.ttft_p99_s)}",
    ]
    if progress.attainment is not None:
        parts.append(f"attainment {words.percent(progress.attainment)}")
    if progress.errors:
        parts.append(f"errors {progress.errors:,}")
    return " · ".join(parts)


def search_line(search: Searching) -> str:
    """A probe that begins: `refine 20.5 requests/s, 1,500 requests · so far 20.3 [19.5, 21.1] · about 4 min left`."""
    now = search.now
    begun = "" if now is None else f"{now.purpose} {words.three(now.rate)} {search.unit}, {now.n:,} requests"
    parts = [begun, f"{search.requests:,} requests so far"]
    if search.root is not None and search.low is not None and search.high is not None:
        parts.append(f"estimate {words.three(search.root)} [{words.three(search.low)}, {words.three(search.high)}]")
    elif search.bracket != (None, None):
        parts.append("between {} and {}".format(*("?" if b is None else words.three(b) for b in search.bracket)))
    if search.left_s is not None:
        parts.append(f"about {_about(search.left_s)} left")
    return " · ".join(part for part in parts if part)


def _about(seconds: float) -> str:
    return f"{max(1.0, seconds):.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def clock(progress: Progress) -> str:
    """`12 s of 60 s`, `63 s, draining`."""
    elapsed = f"{progress.elapsed_s:.0f} s"
    if progress.draining:
        return f"{elapsed}, draining"
    return elapsed if progress.total_s is None else f"{elapsed} of {progress.total_s:.0f} s"
