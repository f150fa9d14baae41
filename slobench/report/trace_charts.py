"""The pictures of a trace: rate over time, lengths, lengths together."""

from __future__ import annotations

import numpy as np

from slobench.report.drawing import HALF, Figure, amount, clock
from slobench.report.series import Floats
from slobench.report.svg import Axis, Plot, linear_axis
from slobench.workload.trace_facts import JointFacts, LengthFacts, RateOverTime, TraceFacts

_SHADES = 5


def figures(facts: TraceFacts) -> tuple[Figure, ...]:
    """Every chart that the trace can fill, in reading order."""
    made = (
        None if facts.rate_over_time is None else rate_figure(facts.rate_over_time, facts.arrivals.rate),
        None if facts.input_tokens is None else _lengths("Input lengths", facts.input_tokens, "c0"),
        None if facts.output_tokens is None else _lengths("Output lengths", facts.output_tokens, "c1"),
        None if facts.joint is None else _joint(facts.joint),
    )
    return tuple(each for each in made if each is not None)


def rate_figure(over_time: RateOverTime, mean: float | None, fitted: tuple[Floats, Floats] | None = None) -> Figure:
    """Requests/s in windows, the mean as a line; fitted: times and rates of a model beside them."""
    rates = np.array(over_time.rates)
    edges = np.arange(len(rates) + 1, dtype=np.float64) * over_time.width_s
    plot = Plot(
        Axis(0.0, float(edges[-1]), show=clock, label="s since the first request"),
        linear_axis(rates, amount, "req/s", *([] if fitted is None else [float(fitted[1].max())])),
        title="arrivals over time",
    )
    plot.area(np.repeat(edges, 2)[1:-1], np.repeat(rates, 2), "c0")
    plot.steps(edges, rates, "c0")
    if fitted is not None:
        plot.line(*fitted, "c1")
    if mean is not None:
        plot.rule(mean, f"mean {amount(float(f'{mean:.3g}'))}", tone="soft")
    legend = () if fitted is None else (("stroke c0", "recorded"), ("stroke c1", "the model's rate"))
    return Figure("Arrivals over time", f"requests/s, {over_time.width_s:g} s each.", plot.svg(), legend)


def _lengths(title: str, facts: LengthFacts, tone: str) -> Figure:
    edges, counted = np.array(facts.edges), np.array(facts.counts, dtype=np.float64)
    plot = Plot(
        Axis(max(edges[0], 0.5), edges[-1], "log", amount, "tokens"),
        linear_axis(counted, amount, "requests"),
        width=HALF,
        title=title,
    )
    plot.stack(np.maximum(edges, 0.5), [(tone, counted)])
    for value in (facts.p50, facts.p99):
        plot.rule(max(value, 0.5), "", vertical=True, tone="soft")
    about = f"Requests by length; dashed: p50 {amount(facts.p50)} and p99 {amount(facts.p99)} tokens."
    return Figure(title, about, plot.svg(), size="half")


def _joint(facts: JointFacts) -> Figure:
    """One square a pair of bins, the darker the more requests it holds."""
    xs, ys = np.maximum(facts.input_edges, 0.5), np.maximum(facts.output_edges, 0.5)
    plot = Plot(
        Axis(float(xs[0]), float(xs[-1]), "log", amount, "input tokens"),
        Axis(float(ys[0]), float(ys[-1]), "log", amount, "output tokens"),
        height=320,
        title="input and output lengths",
    )
    counted = np.array(facts.counts, dtype=np.float64)
    level = np.ceil(_SHADES * np.sqrt(counted / max(counted.max(), 1.0)))
    for shade in range(1, _SHADES + 1):
        plot.squares(xs, ys, level == shade, f"s{shade}")
    correlation = "" if facts.spearman is None else f" Correlation of the ranks {facts.spearman:.2f}."
    return Figure("Lengths together", f"Output (up) by input (across); darker: more requests.{correlation}", plot.svg())
