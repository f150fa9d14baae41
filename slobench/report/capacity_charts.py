"""The pictures of a capacity search: attainment over load with its band, and the probes in order."""

from __future__ import annotations

import numpy as np

from slobench.report import capacity_text as text
from slobench.report import words
from slobench.report.capacity import CapacityView
from slobench.report.drawing import Figure
from slobench.report.svg import Axis, Plot


def figures(view: CapacityView) -> list[Figure]:
    """Every chart that there is something for."""
    made = (_curve(view), _probes(view))
    return [figure for figure in made if figure is not None]


def _loads(view: CapacityView, low: float, high: float) -> Axis:
    return Axis(low, high, show=lambda rate: text.load(view, rate), label=text.unit(view))


def _curve(view: CapacityView) -> Figure | None:
    found = view.found
    if not found.curve or found.rate is None:
        return None
    curve = np.array([(each.rate, each.share, each.low, each.high) for each in found.curve])
    key = found.criterion.name
    seen = [each for each in view.history.done if each.probe.purpose in {"refine", "certify"} and each.n(key)]
    shares = [each.attainment(key) or 0.0 for each in seen]
    bottom = max(0.0, min([*shares, found.criterion.target]) - 0.1)
    wide = [each.probe.rate for each in seen] + [found.rate]
    inside = (curve[:, 0] >= min(wide) * 0.97) & (curve[:, 0] <= max(wide) * 1.03)
    curve = curve[inside]
    x = _loads(view, float(curve[0, 0]), float(curve[-1, 0]))
    plot = Plot(x, Axis(bottom, 1.0, show=_percent, label="attainment"), height=340, title="attainment over load")
    plot.band(curve[:, 0], curve[:, 2], curve[:, 3], "c0")
    if found.low is not None and found.high is not None:
        plot.shade(max(found.low, x.low), min(found.high, x.high), "95 %")
    plot.line(curve[:, 0], curve[:, 1], "c0")
    fit = [(each.probe.rate, each.attainment(key) or 0.0) for each in seen if each.probe.number in found.used]
    rest = [(each.probe.rate, each.attainment(key) or 0.0) for each in seen if each.probe.purpose == "certify"]
    for points, tone in ((fit, "ink big"), (rest, "c2 big")):
        if points:
            plot.dots(np.array([p[0] for p in points]), np.array([p[1] for p in points]), tone)
    plot.rule(found.criterion.target, f"target {words.percent(found.criterion.target)}")
    plot.rule(found.rate, f"{text.name(view)} {text.load(view, found.rate)}", vertical=True, tone="soft")
    legend = (("stroke c0", "fit, with its 95 % band"), ("dot ink", "refining probe"), ("dot c2", "certifying probe"))
    return Figure(
        "Attainment by load",
        f"Share of good requests ({text.target(view)}); grey: 95 % interval of the {text.name(view)}.",
        plot.svg(),
        legend if rest else legend[:2],
    )


def _probes(view: CapacityView) -> Figure | None:
    done = [each for each in view.history.done if each.probe.purpose != "floor"]
    if len(done) < 2:
        return None
    rates = [each.probe.rate for each in done]
    end_s = max(each.end_s for each in done)
    y = Axis(min(rates) / 1.15, max(rates) * 1.15, "log", lambda rate: text.load(view, rate), text.unit(view))
    plot = Plot(Axis(0.0, end_s * 1.02, show=_clock, label="s of load"), y, height=200, title="loads in order")
    tones = {"bracket": "c5", "warmup": "c5", "refine": "c0", "certify": "c2"}
    for each in done:
        span = np.array([each.start_s, max(each.end_s, each.start_s + 0.004 * end_s)])
        plot.line(span, np.array([each.probe.rate] * 2), f"{tones[each.probe.purpose]} thick")
    if view.found.rate is not None:
        plot.rule(view.found.rate, text.name(view), tone="soft")
    legend = (("stroke c5", "bracket, warm-up"), ("stroke c0", "refine"), ("stroke c2", "certify"))
    return Figure("Loads in order", "What was offered when, while requests counted.", plot.svg(), legend)


def _percent(share: float) -> str:
    return f"{share * 100:.4g} %"


def _clock(seconds: float) -> str:
    return f"{seconds:,.0f}"
