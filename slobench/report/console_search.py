"""The live view of a capacity search in a terminal: bracket, probes, fitted curve with its band, time left."""

from __future__ import annotations

import math

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from slobench.experiment.events import Progress, Searching, SeenProbe
from slobench.report import words

_ROWS = 9
_LAST = 8  # probes listed
_PHASES = ("bracket", "refine", "certify")


def search_picture(search: Searching, progress: Progress | None, width: int) -> RenderableType:
    """Return the view as rich draws it; needs no terminal."""
    parts: list[RenderableType] = [_head(search), _now(search, progress)]
    body = Grid.grid(padding=(0, 3))
    probes = _probes(search)
    if search.curve and width >= 70:
        body.add_row(probes, _plot(search, min(60, width - 40)))
        parts.append(body)
    else:
        parts.append(probes)
    return Group(*parts)


def _head(search: Searching) -> Text:
    """`bracket ✓  refine  certify    estimate 20.3 [19.5, 21.1] ±3.9 % of 3 %    about 4 min left`."""
    place = _PHASES.index(search.phase) if search.phase in _PHASES else 0
    text = Text()
    for i, phase in enumerate(_PHASES):
        text.append(f"{phase}{' ✓' if i < place else ''}  ", "bold cyan" if i == place else "dim")
    if search.root is not None and search.low is not None and search.high is not None:
        half = math.log(search.high / search.low) / 2 if search.low > 0 else math.inf
        text.append(f"  {words.three(search.root)} {search.unit}", "bold")
        text.append(f" [{words.three(search.low)}, {words.three(search.high)}]")
        if search.phase == "refine":
            text.append(f"  ±{words.percent(half)} of {words.percent(search.precision)}", "dim")
    if search.left_s is not None:
        text.append(f"   about {search.left_s / 60:.0f} min left", "dim")
    return text


def _now(search: Searching, progress: Progress | None) -> Text:
    parts = []
    if search.now is not None:
        parts.append(f"{search.now.purpose} at {words.three(search.now.rate)} {search.unit}, {search.now.n:,} requests")
    if progress is not None:
        parts += [f"{progress.elapsed_s:.0f} s", f"in flight {progress.in_flight:,}"]
        if progress.ttft_p99_s is not None:
            parts.append(f"TTFT p99 {words.seconds(progress.ttft_p99_s)}")
        if progress.attainment is not None:
            parts.append(f"attainment {words.percent(progress.attainment)} over 10 s")
        if progress.errors:
            parts.append(f"errors {progress.errors:,}")
    return Text(" · ".join(parts))


def _probes(search: Searching) -> Grid:
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(justify="right", style="dim")
    grid.add_column(style="dim")
    grid.add_column(justify="right")
    grid.add_column(justify="right")
    for each in [one for one in search.probes if one.purpose != "floor"][-_LAST:]:
        grid.add_row(str(each.number), each.purpose, words.three(each.rate), _share(each, search.target))
    return grid


def _share(probe: SeenProbe, target: float) -> Text:
    if probe.attainment is None:
        return Text(words.ABSENT)
    return Text(words.percent(probe.attainment), "green" if probe.attainment >= target else "red")


def _plot(search: Searching, width: int) -> Text:
    """Attainment over load in characters: ─ the curve, · its band, ● probes, ┄ the target."""
    seen = [each for each in search.probes if each.purpose == "refine" and each.attainment is not None]
    rates = [each.rate for each in seen] + ([search.root] if search.root is not None else [])
    low, high = min(rates) * 0.98, max(rates) * 1.02
    bottom = max(0.0, min([each.attainment or 0.0 for each in seen] + [search.target]) - 0.05)
    cells = [[" "] * width for _ in range(_ROWS)]

    def row(share: float) -> int:
        return min(_ROWS - 1, max(0, round((1 - share) / (1 - bottom) * (_ROWS - 1))))

    def put(rate: float, share: float, mark: str) -> None:
        x = round((rate - low) / (high - low) * (width - 1))
        if 0 <= x < width and share >= bottom - 0.02:
            cells[row(share)][x] = mark

    cells[row(search.target)] = ["┄"] * width
    known = np.array(search.curve)
    for rate in np.linspace(max(low, known[0, 0]), min(high, known[-1, 0]), width).tolist():
        share, share_low, share_high = (float(np.interp(rate, known[:, 0], known[:, k])) for k in (1, 2, 3))
        put(rate, share_low, "·")
        put(rate, share_high, "·")
        put(rate, share, "─")
    for each in seen:
        put(each.rate, each.attainment or 0.0, "●")
    lines = ["".join(line) for line in cells]
    labels = [f"{words.percent(1.0):>7} ", *["        "] * (_ROWS - 2), f"{words.percent(bottom):>7} "]
    axis = f"        {words.three(low)}{words.three(high):>{max(1, width - len(words.three(low)))}}"
    return Text("\n".join([*(label + line for label, line in zip(labels, lines, strict=True)), axis]), "cyan")
