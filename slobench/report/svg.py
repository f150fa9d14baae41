"""A chart as SVG text: scales, axes and marks; colours are CSS classes, so a page can be light or dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slobench.report.series import Floats

LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 34
Kind = Literal["linear", "log", "tail"]


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from data to [0, 1]. tail: a share p at -log10(1 - p), so that 90, 99, 99.9 % are evenly spaced."""

    low: float
    high: float
    kind: Kind = "linear"
    show: Callable[[float], str] = str
    label: str = ""

    def place(self, values: Floats) -> Floats:
        """Positions in [0, 1], clipped; NaN stays."""
        low, high = self._scaled(np.array([self.low, self.high]))
        span = high - low or 1.0
        return np.asarray(np.clip((self._scaled(values) - low) / span, 0, 1), dtype=np.float64)

    def _scaled(self, values: Floats) -> Floats:
        if self.kind == "log":
            return np.log10(np.maximum(values, self.low))
        if self.kind == "tail":
            return -np.log10(np.maximum(1 - values, 1 - self.high))
        return np.asarray(values, dtype=np.float64)

    def ticks(self, most: int) -> list[float]:
        """Round values inside the scale."""
        if self.kind == "tail":
            return [p for p in (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999) if self.low <= p <= self.high]
        if self.kind == "log":
            return _log_ticks(self.low, self.high, most)
        step = _round_step((self.high - self.low) / max(1, most))
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _round_step(raw: float) -> float:
    if raw <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= raw * (1 - 1e-9))


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [s * 10.0**d for d in decades for s in steps if low * 0.999 <= s * 10.0**d <= high * 1.001]
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]


def log_axis(values: Floats, show: Callable[[float], str], label: str, *extra: float) -> Axis:
    """Return a logarithmic axis around positive values and `extra` ones that must be on it."""
    seen = np.concatenate([values[np.isfinite(values) & (values > 0)], np.array(extra, dtype=np.float64)])
    if not len(seen):
        return Axis(1e-3, 1.0, "log", show, label)
    low, high = float(seen.min()) / 1.15, float(seen.max()) * 1.25
    if high / low < 4:
        low, high = low / 1.6, high * 1.6
    return Axis(low, high, "log", show, label)


def linear_axis(values: Floats, show: Callable[[float], str], label: str, *extra: float) -> Axis:
    """Return an axis from 0 to a little above the largest value."""
    seen = np.concatenate([values[np.isfinite(values)], np.array([*extra, 0.0])])
    return Axis(0.0, float(seen.max()) * 1.08 or 1.0, "linear", show, label)


@dataclass(slots=True)
class Plot:
    """Marks drawn over two axes, in order; `svg()` returns the picture."""

    x: Axis
    y: Axis
    width: int = 960
    height: int = 240
    title: str = ""
    _marks: list[str] = field(default_factory=list)
    _texts: list[str] = field(default_factory=list)  # above all marks

    def shade(self, start: float, end: float, text: str = "") -> None:
        """Grey out [start, end) of the x axis."""
        a, b = self._px(np.array([start, end]))
        if b - a < 1:
            return
        self._marks.append(f'<rect class="shade" x="{a:.1f}" y="{TOP}" width="{b - a:.1f}" height="{self._inner()}"/>')
        if text and b - a > 7 * len(text):
            middle = (a + b) / 2
            self._texts.append(_text("note", middle, self.height - BOTTOM - 7, "middle", text))

    def line(self, xs: Floats, ys: Floats, tone: str) -> None:
        """Draw a polyline, broken where y is NaN."""
        path, pen = [], "M"
        for x, y in zip(self._px(xs), self._py(ys), strict=True):
            if math.isnan(y) or math.isnan(x):
                pen = "M"
                continue
            path.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
        self._marks.append(f'<path class="line {tone}" d="{"".join(path)}"/>')

    def area(self, xs: Floats, ys: Floats, tone: str) -> None:
        """Draw the area between a curve and the x axis."""
        floor = self.height - BOTTOM
        points = [f"{x:.1f} {y:.1f}" for x, y in zip(self._px(xs), self._py(np.nan_to_num(ys)), strict=True)]
        if points:
            first, last = points[0].split()[0], points[-1].split()[0]
            self._marks.append(f'<path class="area {tone}" d="M{first} {floor}L{"L".join(points)}L{last} {floor}Z"/>')

    def band(self, xs: Floats, lows: Floats, highs: Floats, tone: str) -> None:
        """Draw the area between two curves."""
        there = [f"{x:.1f} {y:.1f}" for x, y in zip(self._px(xs), self._py(highs), strict=True)]
        back = [f"{x:.1f} {y:.1f}" for x, y in zip(self._px(xs), self._py(lows), strict=True)]
        self._marks.append(f'<path class="band {tone}" d="M{"L".join([*there, *reversed(back)])}Z"/>')

    def steps(self, edges: Floats, ys: Floats, tone: str) -> None:
        """One level per bin."""
        self.line(np.repeat(edges, 2)[1:-1], np.repeat(ys, 2), tone)

    def dots(self, xs: Floats, ys: Floats, tone: str) -> None:
        """Draw a point each, drawn as one path of round caps: a page of thousands stays small."""
        place = zip(self._px(xs), self._py(ys), strict=True)
        path = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in place if not (math.isnan(x) or math.isnan(y)))
        self._marks.append(f'<path class="dots {tone}" d="{path}"/>')

    def flags(self, xs: Floats, tone: str) -> None:
        """Draw a short mark at the upper edge for each x."""
        path = "".join(f"M{x:.1f} {TOP}v9" for x in self._px(xs) if not math.isnan(x))
        self._marks.append(f'<path class="flags {tone}" d="{path}"/>')

    def stack(self, edges: Floats, layers: Sequence[tuple[str, Floats]]) -> None:
        """Bars on the bins of `edges`, one layer on the other."""
        base = np.zeros(len(edges) - 1)
        left, right = self._px(edges[:-1]), self._px(edges[1:])
        for tone, layer in layers:
            low, high = self._py(base), self._py(base + layer)
            path = "".join(
                f"M{a + 0.5:.1f} {bottom:.1f}V{top:.1f}H{b - 0.5:.1f}V{bottom:.1f}Z"
                for a, b, bottom, top, value in zip(left, right, low, high, layer, strict=True)
                if value > 0
            )
            self._marks.append(f'<path class="bar {tone}" d="{path}"/>')
            base = base + layer

    def squares(self, xs: Floats, ys: Floats, filled: NDArray[np.bool_], tone: str) -> None:
        """Fill rectangles between edges: filled[i, j] that of the ith bin of x and the jth of y."""
        across, up = self._px(xs), self._py(ys)
        path = "".join(
            f"M{across[i]:.1f} {up[j]:.1f}H{across[i + 1]:.1f}V{up[j + 1]:.1f}H{across[i]:.1f}Z"
            for i, j in np.argwhere(filled)
        )
        self._marks.append(f'<path class="cell {tone}" d="{path}"/>')

    def rule(self, value: float, text: str, *, vertical: bool = False, tone: str = "limit") -> None:
        """Draw a dashed limit line with its name."""
        if vertical:
            x = self._px(np.array([value]))[0]
            end = x > self.width - RIGHT - 90
            self._marks.append(f'<path class="rule {tone}" d="M{x:.1f} {TOP}V{self.height - BOTTOM}"/>')
            at, anchor, y = (x - 5, "end", TOP + 11) if end else (x + 5, "start", TOP + 11)
        else:
            height = self._py(np.array([value]))[0]
            self._marks.append(f'<path class="rule {tone}" d="M{LEFT} {height:.1f}H{self.width - RIGHT}"/>')
            at, anchor = self.width - RIGHT - 4, "end"
            y = height - 5 if height > TOP + 16 else height + 13
        self._texts.append(_text(f"rule {tone}", at, y, anchor, text))

    def label(self, x: float, y: float, text: str, *, end: bool) -> None:
        """Write a name beside a point: before it where `end`, else after it."""
        at = float(self._px(np.array([x]))[0]) + (-9 if end else 9)
        self._texts.append(_text("note", at, float(self._py(np.array([y]))[0]) + 4, "end" if end else "start", text))

    def svg(self) -> str:
        """Return the <svg> element."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.title)}">'
            f"{self._grid()}{''.join(self._marks)}{self._frame()}{''.join(self._texts)}</svg>"
        )

    def _grid(self) -> str:
        floor, right = self.height - BOTTOM, self.width - RIGHT
        parts = []
        for tick in self.y.ticks(5 if self.y.kind != "log" else 6):
            y = self._py(np.array([tick]))[0]
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
            parts.append(_text("tick", LEFT - 7, y + 4, "end", self.y.show(tick)))
        for tick in self.x.ticks(max(3, self.width // (95 if self.x.kind == "linear" else 62))):
            x = self._px(np.array([tick]))[0]
            if self.x.kind != "linear":
                parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{floor}"/>')
            parts.append(_text("tick", x, floor + 15, "middle", self.x.show(tick)))
        return "".join(parts)

    def _frame(self) -> str:
        name = _text("axis", self.width - RIGHT, self.height - 4, "end", self.x.label) if self.x.label else ""
        return f'<path class="frame" d="M{LEFT} {self.height - BOTTOM}H{self.width - RIGHT}"/>{name}'

    def _inner(self) -> int:
        return self.height - TOP - BOTTOM

    def _px(self, values: Floats) -> Floats:
        return LEFT + self.x.place(values) * (self.width - LEFT - RIGHT)

    def _py(self, values: Floats) -> Floats:
        return self.height - BOTTOM - self.y.place(values) * self._inner()


def _text(tone: str, x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="{tone}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
