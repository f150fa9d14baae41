"""A picture of ratios with their intervals: one line a metric, 1 = no change, what its margin allows shaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slobench.report import words
from slobench.report.drawing import Figure
from slobench.report.svg import Axis, Plot

_ROW = 26  # pixels; the page's style draws what is allowed as high
_LETTER = 6.5  # pixels of a letter of a name, on average
_HALF = 440  # pixels from 1 to either end of the axis
_MOST_LETTERS = 40


@dataclass(frozen=True, slots=True)
class Line:
    """A ratio new/base with its interval; margin: what is allowed, as a ratio above 1."""

    name: str
    ratio: float
    low: float
    high: float
    tone: str
    margin: float


def forest(lines: Sequence[Line], *, title: str, about: str) -> Figure | None:
    """Draw them from top to bottom; None where there is none."""
    if not lines:
        return None
    x = _axis(lines)
    n = len(lines)
    y = Axis(0.0, float(n), show=lambda _: "", label="")
    plot = Plot(x, y, height=46 + _ROW * n, title=title)
    for position, each in enumerate(lines):
        height = n - position - 0.5
        plot.line(np.array([1 / each.margin, each.margin]), np.array([height, height]), "allowed")
    plot.rule(1.0, "", vertical=True, tone="soft")
    for position, each in enumerate(lines):
        height = n - position - 0.5
        plot.line(np.array([each.low, each.high]), np.array([height, height]), f"{each.tone} thick")
        plot.dots(np.array([each.ratio]), np.array([height]), "ink big")
        before = each.low * each.high > 1  # on the side with more room
        name = words.clean(each.name, _MOST_LETTERS)
        plot.label(each.low if before else each.high, height, name, end=before)
    return Figure(title, about, plot.svg())


def _axis(lines: Sequence[Line]) -> Axis:
    """As far to both sides of 1 as the intervals and margins reach, and a name beyond."""
    ends = [abs(math.log(x)) for each in lines for x in (each.low, each.high) if 0 < x < math.inf]
    widest = max([*ends, *(math.log(each.margin) for each in lines), 0.01])
    name = 16 + _LETTER * min(max(len(each.name) for each in lines), _MOST_LETTERS)
    most = math.exp(min(widest / (1 - name / _HALF), math.log(8)))
    return Axis(1 / most, most, "log" if most > 2 else "linear", _ratio, "new / base")


def _ratio(value: float) -> str:
    return f"{value:.3g}×"
