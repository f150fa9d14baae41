"""The pictures of a sweep: throughput against speed per user, and against latency, with the front of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from slobench.experiment.sweep_result import Result
from slobench.experiment.sweep_values import Point, front, place_on
from slobench.report.drawing import HALF, Figure, amount, time_tick
from slobench.report.svg import Axis, Plot, linear_axis, log_axis

_MOST_LABELS = 12


def figures(result: Result) -> Iterator[Figure]:
    """Every chart that there is something for, of each workload."""
    workloads = list(dict.fromkeys(point.workload for point in result.points))
    for workload in workloads:
        points = [point for point in result.points if point.workload == workload]
        name = f"{workload}: " if len(workloads) > 1 else ""
        for axis, title in (
            ("per_user", "throughput and speed per user"),
            ("ttft_p90_s", "throughput and TTFT p90"),
        ):
            figure = _pareto(points, axis, title=f"{name}{title}")
            if figure is not None:
                yield figure


def _pareto(points: Sequence[Point], axis: str, *, title: str) -> Figure | None:
    placed = [(point, place_on(point, axis), point.throughput) for point in points]
    known = [(point, x, y) for point, x, y in placed if x is not None and y is not None]
    if len(known) < 2:
        return None
    xs, ys = np.array([x for _, x, _ in known]), np.array([y for _, _, y in known])
    unit = "GPU" if any(point.gpus for point in points) else "server"
    x_axis: Axis = (
        log_axis(xs, time_tick, "TTFT p90") if axis == "ttft_p90_s" else linear_axis(xs, amount, "tok/s per user")
    )
    plot = Plot(x_axis, linear_axis(ys, amount, f"tok/s/{unit}"), width=HALF, height=300, title=title)
    held = np.array([point.holds for point, _, _ in known])
    for chosen, tone in ((held, "c0 big"), (~held, "failed big")):
        if chosen.any():
            plot.dots(xs[chosen], ys[chosen], tone)
    on = front([point for point, _, _ in known], axis)
    line = sorted((float(place_on(p, axis) or 0), float(p.throughput or 0), p.config) for p in on)
    plot.line(np.array([x for x, _, _ in line]), np.array([y for _, y, _ in line]), "c2")
    for x, y, label in line[:_MOST_LABELS]:
        plot.label(x, y, label, end=x > (x_axis.low + x_axis.high) / 2)
    legend = (("dot c0", "SLO kept, or none given"), ("dot failed", "SLO missed or overloaded"), ("stroke c2", "front"))
    return Figure(
        title[0].upper() + title[1:],
        f"Each point a config at a load; output tok/s for each {unit}. On the line: no other is better in both.",
        plot.svg(),
        legend,
        size="half",
    )
