"""A picture of ratios with their intervals: one line a metric, 1 = no change, the margin shaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slobench.report.drawing import Figure
from slobench.report.svg import Axis, Plot


@dataclass(frozen=True, slots=True)
class Line:
    """A ratio new/base with its interval; margin: what is allowed, as a ratio above 1, None where nothing is."""

    name: str
    ratio: float
    low: float
    high: float
    tone: str
    margin: float | None = None


def forest(lines: Sequence[Line], *, title: str, about: str, margin: float) -> Figure | None:
    """Draw them from top to bottom; None where there is none."""
    if not lines:
        return None
    ends = [abs(math.log(x)) for each in lines for x in (each.low, each.high) if 0 < x < math.inf]
    most = math.exp(min(max([*ends, math.log(margin) * 1.5]) * 1.08, math.log(8)))
    x = Axis(1 / most, most, "log" if most > 2 else "linear", _ratio, "new / base")
    n = len(lines)
    y = Axis(0.0, float(n), show=lambda _: "", label="")
    plot = Plot(x, y, height=46 + 26 * n, title=title)
    plot.shade(max(1 / margin, x.low), min(margin, x.high))
    plot.rule(1.0, "", vertical=True, tone="soft")
    for position, each in enumerate(lines):
        height = n - position - 0.62
        plot.line(np.array([each.low, each.high]), np.array([height, height]), f"{each.tone} thick")
        plot.dots(np.array([each.ratio]), np.array([height]), "ink big")
        plot.label(each.low if each.ratio > 1 else each.high, height, each.name, end=each.ratio > 1)
    return Figure(title, about, plot.svg())


def _ratio(value: float) -> str:
    return f"{value:.3g}×"
