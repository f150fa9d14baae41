"""What every chart of a run is drawn with: its axes of time, the figure that holds it, how ticks are worded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slobench.report import words
from slobench.report.series import Bins, Floats
from slobench.report.svg import Axis, Plot
from slobench.report.view import RunView

HALF, THIRD = 470, 320


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart with its words; svg is markup made here, the rest is text."""

    title: str
    about: str
    svg: str
    legend: tuple[tuple[str, str], ...] = ()  # (CSS class, text)
    size: Literal["wide", "half", "third"] = "wide"


@dataclass(frozen=True, slots=True)
class Run:
    """What every chart needs, computed once."""

    view: RunView
    bins: Bins
    end_s: float
    scheduled_s: Floats
    end_of_s: Floats
    names: tuple[str, ...]

    def column(self, name: str) -> Floats:
        """A derived quantity of every request."""
        return np.asarray(self.view.derived[name], dtype=np.float64)

    def of_class(self, name: str) -> NDArray[np.bool_]:
        """Which requests are of a class."""
        return np.asarray(self.view.records.requests["class"] == name, dtype=np.bool_)

    def plot(self, y: Axis, title: str, height: int = 220) -> Plot:
        """Axes over the run's time, what lies outside the window greyed out."""
        window = self.view.summary.window
        plot = Plot(Axis(0.0, self.end_s, show=clock, label="s since start"), y, height=height, title=title)
        plot.shade(0.0, min(window.start_s, self.end_s), "warm-up")
        plot.shade(min(max(window.end_s, 0.0), self.end_s), self.end_s, "drain")
        return plot

    def half(self, y: Axis, title: str) -> Plot:
        """The same in half of the width."""
        window = self.view.summary.window
        plot = Plot(Axis(0.0, self.end_s, show=clock, label="s since start"), y, width=HALF, title=title)
        plot.shade(0.0, min(window.start_s, self.end_s))
        plot.shade(min(max(window.end_s, 0.0), self.end_s), self.end_s)
        return plot


def clock(value: float) -> str:
    """Return a time in s: `12`, `0.5`."""
    return f"{value:,.0f}" if value == int(value) else f"{value:.1f}"


def time_tick(value: float) -> str:
    """Return a tick: `50 ms`, not `50.0 ms`."""
    text = words.seconds(value)
    number, _, unit = text.partition(" ")
    return f"{number.rstrip('0').rstrip('.')} {unit}" if "." in number else text


def amount(value: float) -> str:
    """Return a number: `1,200`, `0.25`."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3g}"


def share(value: float) -> str:
    """Return a share in percent: `99.9 %`."""
    return f"{value * 100:.5g} %"


def width_of(bins: Bins) -> str:
    """Return the width of the bins: `5 s`."""
    return f"{bins.width:g} s"
