"""The pictures of a run: TTFT over time, distributions, throughput, requests in flight, send lag, errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from slobench.metrics.load import token_flow
from slobench.names import Outcome
from slobench.report import series, server_charts, words
from slobench.report.drawing import THIRD, Figure, Run, amount, share, time_tick, width_of
from slobench.report.svg import Axis, Plot, linear_axis, log_axis
from slobench.report.view import RunView

MOST_DOTS = 2_500
TONES = 6  # classes beyond share the last colour
NOT_FAILED = (Outcome.OK, Outcome.CANCELLED, Outcome.CUT, Outcome.UNSENT)


def figures(view: RunView) -> list[Figure]:
    """Every chart that the records can fill, in reading order."""
    requests = view.records.requests
    scheduled, ended = series.seconds(requests["scheduled_ns"]), series.seconds(requests["end_ns"])
    scheduled = np.where(requests["outcome"] == Outcome.UNSENT.value, np.nan, scheduled)
    seen = np.concatenate([scheduled, ended])
    seen = seen[np.isfinite(seen)]
    if not len(seen) or seen.max() <= 0:
        return []
    end_s = float(seen.max())
    bins = series.time_bins(end_s, int(np.isfinite(scheduled).sum()))
    run = Run(view, bins, end_s, scheduled, ended, _names(view))
    made = (
        _ttft(run),
        _burn(run),
        *server_charts.figures(run),
        *_distributions(run),
        _tokens(run),
        _rates(run),
        _in_flight(run),
        _send_lag(run),
        _errors(run),
    )
    return [figure for figure in made if figure is not None]


def _names(view: RunView) -> tuple[str, ...]:
    return view.classes or tuple(str(name) for name in np.unique(view.records.requests["class"]))


def _tone(position: int) -> str:
    return f"c{min(position, TONES - 1)}"


def _class_legend(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    if len(names) < 2:
        return ()
    return tuple((f"dot {_tone(i)}", words.clean(name, 40)) for i, name in enumerate(names))


def _limit_rules(run: Run, plot: Plot, metric: str, *, vertical: bool = False) -> None:
    for name, limit_s in run.view.limits_s(metric).items():
        prefix = f"{words.clean(name, 24)} " if name else ""
        plot.rule(limit_s, f"{prefix}limit {time_tick(limit_s)}", vertical=vertical)


def _ttft(run: Run) -> Figure | None:
    values = run.column("ttft_s")
    shown = np.flatnonzero(~np.isnan(values) & ~np.isnan(run.scheduled_s))
    if not len(shown):
        return None
    p50, p99 = series.quantiles_over_time(run.scheduled_s, values, run.bins, (0.5, 0.99))
    limits = run.view.limits_s("ttft").values()
    plot = run.plot(log_axis(values, time_tick, "TTFT", *limits), "TTFT over time", 270)
    kept = shown[series.thinned(len(shown), MOST_DOTS)]
    for position, name in enumerate(run.names):
        own = kept[run.of_class(name)[kept]]
        plot.dots(run.scheduled_s[own], values[own], _tone(position))
    outcome = run.view.records.requests["outcome"]
    failed = run.scheduled_s[np.isnan(values) & ~np.isin(outcome, [str(o) for o in NOT_FAILED])]
    plot.flags(failed[series.thinned(len(failed), MOST_DOTS)], "failed")
    plot.line(run.bins.centres, p50, "ink")
    plot.line(run.bins.centres, p99, "ink high")
    _limit_rules(run, plot, "ttft")
    thinned = (
        "" if len(kept) == len(shown) else f" {len(kept):,} of {len(shown):,} requests are drawn; the lines use all."
    )
    marks = (("flag failed", "failed before a token"),) if len(failed) else ()
    return Figure(
        "Time to first token, by scheduled time",
        f"Each dot is a request, each point of a line {width_of(run.bins)} of arrivals, without an interval.{thinned}",
        plot.svg(),
        (*_class_legend(run.names), ("stroke ink", "p50"), ("stroke ink high", "p99"), *marks),
    )


def _burn(run: Run) -> Figure | None:
    """How fast each class spends the error budget of its first objective."""
    shown = [name for name in run.view.shown if run.view.summary.slo[name].budgets] if run.view.summary.slo else []
    held = [(name, run.view.summary.slo[name].budgets[0]) for name in shown]
    held = [(name, budget) for name, budget in held if any(burn is not None for burn in budget.burn)]
    if not held:
        return None
    curves = [np.array([math.nan if burn is None else burn for burn in budget.burn]) for _, budget in held]
    plot = run.plot(
        linear_axis(np.concatenate(curves), words.multiple, "burn", 1.0), "error budget burn over time", 170
    )
    for (name, budget), curve in zip(held, curves, strict=True):
        tone = "ink" if name == run.view.total else _tone(run.names.index(name))
        plot.line(np.array(budget.at_s), curve, tone)
    plot.rule(1.0, "budget spent exactly")
    legend = [("stroke ink" if n == run.view.total else f"stroke {_tone(run.names.index(n))}", n) for n, _ in held]
    widths = sorted({budget.width_s or 0.0 for _, budget in held})
    return Figure(
        "Error budget burn",
        f"Share of requests that missed, over the share that may, in the {' or '.join(time_tick(w) for w in widths)} "
        "before each point. Above 1 for the whole window the objective is missed.",
        plot.svg(),
        tuple(
            (tone, words.clean(f"{name} {budget.objective}", 60))
            for (tone, name), (_, budget) in zip(legend, held, strict=True)
        ),
    )


def _distributions(run: Run) -> Iterator[Figure]:
    window = run.view.summary.window
    inside = (run.scheduled_s >= window.start_s) & (run.scheduled_s < window.end_s)
    for metric, about in (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "E2E")):
        values = run.column(f"{metric}_s")
        if not np.any(inside & ~np.isnan(values)):
            continue
        curves = []
        for name in run.names:
            own = inside & run.of_class(name)
            curves.append(series.distribution(values[own], int(own.sum())))
        ends = [float(y[-1]) for _, y in curves if len(y)]
        largest = int(inside.sum())
        limits = run.view.limits_s(metric).values()
        y = Axis(0.0, 1 - 1 / max(10, largest), "tail", share)
        plot = Plot(
            log_axis(values[inside], time_tick, "", *limits), y, width=THIRD, height=240, title=f"{about} distribution"
        )
        for position, (xs, ys) in enumerate(curves):
            plot.line(xs, np.minimum(ys, y.high), _tone(position))
        _limit_rules(run, plot, metric, vertical=True)
        below = " A curve that ends early has requests without this time." if min(ends) < 1 - 1e-9 else ""
        yield Figure(
            f"{about} distribution",
            f"Share of scheduled requests at most this long.{below}",
            plot.svg(),
            _class_legend(run.names),
            size="third",
        )


def _tokens(run: Run) -> Figure | None:
    flow = token_flow(run.view.records.requests, run.view.records.chunks)
    if not len(flow.at_s):
        return None
    rate = series.rate_over_time(flow.at_s, run.bins, flow.tokens)
    plot = run.half(linear_axis(rate, amount, "tok/s"), "output over time")
    edges = np.minimum(run.bins.edges, run.end_s)
    plot.area(np.repeat(edges, 2)[1:-1], np.repeat(rate, 2), "c0")
    plot.steps(edges, rate, "c0")
    return Figure("Output throughput", f"tok/s by receive time, {width_of(run.bins)} each.", plot.svg(), size="half")


def _rates(run: Run) -> Figure:
    offered = series.rate_over_time(run.scheduled_s, run.bins)
    outcome = run.view.records.requests["outcome"]
    done = series.rate_over_time(run.end_of_s[outcome == Outcome.OK.value], run.bins)
    y = linear_axis(np.concatenate([offered, done]), amount, "req/s")
    plot = run.half(y, "request rates over time")
    edges = np.minimum(run.bins.edges, run.end_s)
    plot.steps(edges, offered, "quiet")
    plot.steps(edges, done, "c1")
    return Figure(
        "Offered and finished",
        f"req/s, {width_of(run.bins)} each. Finished below offered for long: the queue grows.",
        plot.svg(),
        (("stroke quiet", "scheduled"), ("stroke c1", "finished ok")),
        size="half",
    )


def _in_flight(run: Run) -> Figure | None:
    started = series.seconds(run.view.records.requests["started_ns"])
    if np.all(np.isnan(started)):
        return None
    at = np.linspace(0, run.end_s, 400)
    level = series.in_flight(started, run.end_of_s, at)
    plot = run.plot(linear_axis(level, amount, "requests"), "requests in flight over time", 170)
    plot.area(at, level, "c3")
    plot.line(at, level, "c3")
    return Figure("Requests in flight", "Started and not yet ended.", plot.svg())


def _send_lag(run: Run) -> Figure | None:
    lag = run.column("send_lag_s")
    if not np.any(lag > 0):
        return None
    curves = series.quantiles_over_time(run.scheduled_s, np.maximum(lag, 1e-7), run.bins, (0.5, 0.99, 1.0))
    tightest = min(run.view.limits_s("ttft").values(), default=0.5)
    warning, past = _lag_steps(run.view)
    worst = float(np.nanmax(np.concatenate(curves)))
    near = [step * tightest for step in (warning, past) if step * tightest < 30 * worst]
    plot = run.plot(log_axis(np.concatenate(curves), time_tick, "send lag", *near), "send lag over time", 200)
    for curve, tone in zip(curves, ("c2", "c2 high", "quiet"), strict=True):
        plot.line(run.bins.centres, curve, tone)
    for step, name in ((warning, "warning"), (past, "invalid")):
        if step * tightest in near:
            plot.rule(
                step * tightest,
                f"{name} at p99 {time_tick(step * tightest)}",
                tone="limit" if name == "invalid" else "soft",
            )
    return Figure(
        "Send lag",
        f"How late the client began to send, over every send: p99 from {time_tick(warning * tightest)} on is a "
        f"warning, from {time_tick(past * tightest)} the client was too slow.",
        plot.svg(),
        (("stroke c2", "p50"), ("stroke c2 high", "p99"), ("stroke quiet", "max")),
    )


def _lag_steps(view: RunView) -> tuple[float, float]:
    warning, past = (view.at("thresholds", "v01_lag_of_s", key) for key in ("warning", "past"))
    return (
        warning if isinstance(warning, int | float) else 0.01,
        past if isinstance(past, int | float) else 0.05,
    )


def _errors(run: Run) -> Figure | None:
    outcome = run.view.records.requests["outcome"]
    kinds, counts = np.unique(outcome[~np.isin(outcome, [str(o) for o in NOT_FAILED])], return_counts=True)
    if not len(kinds):
        return None
    ordered = [str(kind) for kind in kinds[np.argsort(-counts, kind="stable")]]
    at = np.where(np.isnan(run.end_of_s), run.scheduled_s, run.end_of_s)
    layers = []
    for position, kind in enumerate(ordered):
        layers.append((f"e{min(position, 3)}", series.rate_over_time(at[outcome == kind], run.bins) * run.bins.width))
    total = np.sum([layer for _, layer in layers], axis=0)
    plot = run.plot(linear_axis(total, amount, "requests"), "failed requests over time", 170)
    plot.stack(np.minimum(run.bins.edges, run.end_s), layers)
    legend = tuple((f"box e{min(i, 3)}", words.clean(kind, 40)) for i, kind in enumerate(ordered))
    return Figure("Failed requests", f"By the time they ended, {width_of(run.bins)} each.", plot.svg(), legend)
