"""What the server and its GPUs told over the run: queue, batch and KV cache, under the latency that they explain."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slobench.metrics.told import Put, Told
from slobench.records.schema import GPU, SERVER
from slobench.report.drawing import Figure, Run, amount, share, width_of
from slobench.report.series import Bins, Floats, time_bins
from slobench.report.svg import linear_axis

MOST_POINTS = 600


def figures(run: Run) -> Iterator[Figure]:
    """Every chart that the samples can fill."""
    told = Told.of(run.view.records.telemetry)
    if not told.by_name:
        return
    for figure in (_queue(run, told), _cache(run, told), _steps(run, told), _gpu(run, told), _power(run, told)):
        if figure is not None:
            yield figure


def _curve(run: Run, told: Told, name: str, put: Put, source: str = SERVER) -> tuple[Floats, Floats] | None:
    """(times, level) of a quantity, thinned to what a picture can show."""
    at = told.times(name, source, 0.0, run.end_s + 1e-9)
    level = told.level(name, at, put, source) if len(at) > 1 else None
    if level is None:
        return None
    kept = np.unique(np.linspace(0, len(at) - 1, min(len(at), MOST_POINTS)).astype(np.int64))
    return at[kept], level[kept]


def _every(run: Run) -> str:
    interval_s = run.view.at("telemetry", "interval_s")
    return f", sampled every {interval_s:g} s" if isinstance(interval_s, int | float) else ""


def _queue(run: Run, told: Told) -> Figure | None:
    curves = [(name, _curve(run, told, name, "sum")) for name in ("running", "waiting")]
    held = [(name, curve) for name, curve in curves if curve is not None]
    if not held:
        return None
    levels = np.concatenate([level for _, (_, level) in held])
    plot = run.plot(linear_axis(levels, amount, "requests"), "the server's queue and batch over time", 190)
    tones = {"running": "c0", "waiting": "c1"}
    for name, (at, level) in held:
        plot.area(at, level, tones[name])
        plot.line(at, level, tones[name])
    return Figure(
        "Queue and batch of the server",
        f"Requests in its batch and in its queue, by its own count{_every(run)}.",
        plot.svg(),
        tuple(
            (f"stroke {tones[name]}", {"running": "in the batch", "waiting": "in the queue"}[name]) for name, _ in held
        ),
    )


def _cache(run: Run, told: Told) -> Figure | None:
    curve = _curve(run, told, "kv_usage", "max")
    if curve is None:
        return None
    at, level = curve
    plot = run.half(linear_axis(level, share, "used"), "KV cache in use over time")
    plot.area(at, level, "c3")
    plot.line(at, level, "c3")
    put_back = _times_of(told, "preemptions_total", run.end_s)
    plot.flags(put_back, "failed")
    return Figure(
        "KV cache in use",
        "Of the fullest replica." + (" Marks: requests were put back to free it." if len(put_back) else ""),
        plot.svg(),
        (("flag failed", "preemptions"),) if len(put_back) else (),
        size="half",
    )


def _times_of(told: Told, name: str, end_s: float) -> Floats:
    """When a total was found to have grown."""
    grown = [one.at[1:][np.diff(one.total()) > 0] for one in told.series(name)]
    at = np.unique(np.concatenate([np.empty(0), *grown]))
    return np.asarray(at[(at >= 0) & (at <= end_s)], dtype=np.float64)


def _bins(run: Run, told: Told, name: str) -> Bins:
    """Bins no finer than what was sampled."""
    return time_bins(run.end_s, 20 * max(1, len(told.times(name, SERVER, 0.0, run.end_s))))


def _steps(run: Run, told: Told) -> Figure | None:
    bins = _bins(run, told, "iteration_tokens_count")
    edges = np.minimum(bins.edges, run.end_s)
    tokens, steps = told.gained("iteration_tokens_sum", edges), told.gained("iteration_tokens_count", edges)
    if tokens is None or steps is None:
        return None
    mean = np.divide(tokens, steps, out=np.full(len(steps), np.nan), where=steps > 0)
    if np.isnan(mean).all():
        return None
    plot = run.half(linear_axis(mean, amount, "tokens"), "tokens per iteration over time")
    plot.steps(edges, mean, "c2")
    return Figure(
        "Tokens per iteration",
        f"Prompt and output tokens of one step of the engine, mean of {width_of(bins)}.",
        plot.svg(),
        size="half",
    )


def _gpu(run: Run, told: Told) -> Figure | None:
    curve = _curve(run, told, "gpu_utilisation", "mean", GPU)
    if curve is None:
        return None
    plot = run.half(linear_axis(curve[1], share, "busy", 1.0), "GPU utilisation over time")
    plot.line(*curve, "c4")
    return Figure("GPU utilisation", "Share of time in which a kernel ran, mean of all GPUs.", plot.svg(), size="half")


def _power(run: Run, told: Told) -> Figure | None:
    curve = _curve(run, told, "gpu_power_w", "sum", GPU)
    if curve is None:
        return None
    plot = run.half(linear_axis(curve[1], amount, "W"), "GPU power over time")
    plot.line(*curve, "c5")
    held = _curve(run, told, "gpu_throttled", "max", GPU)
    throttled = held[0][held[1] > 0] if held is not None else np.empty(0)
    plot.flags(throttled, "failed")
    return Figure(
        "GPU power",
        "All GPUs together." + (" Marks: clocks were held down by power or heat." if len(throttled) else ""),
        plot.svg(),
        (("flag failed", "throttled"),) if len(throttled) else (),
        size="half",
    )
