"""OpenMetrics text of one run, for a Pushgateway, a textfile collector or a time-series import."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from slobench.metrics.summary import Estimate
from slobench.report.view import RunView
from slobench.report.words import clean

_BOUNDS = ("value", "low", "high")


def text(view: RunView) -> str:
    """Return the run's results as gauges, and its requests by outcome as a counter; ends with `# EOF`."""
    lines = [line for family in (_info, _verdict, _latency, _shares, _rates, _outcomes) for line in family(view)]
    return "\n".join([*lines, "# EOF", ""])


def _head(name: str, kind: str, help_: str, unit: str = "") -> Iterator[str]:
    yield f"# TYPE {name} {kind}"
    if unit:
        yield f"# UNIT {name} {unit}"
    yield f"# HELP {name} {help_}"


def _sample(name: str, labels: Mapping[str, object], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(str(each))}"' for key, each in labels.items())
    return f"{name}{{{inside}}} {_number(value)}"


def _escaped(value: str) -> str:
    return clean(value, 300).replace("\\", "\\\\").replace('"', '\\"')


def _number(value: float) -> str:
    return "+Inf" if math.isinf(value) and value > 0 else repr(float(value))


def _info(view: RunView) -> Iterator[str]:
    yield from _head("slobench_run", "info", "What the run was.")
    told = {
        "run": view.name,
        "workload": view.at("spec", "workload", "name") or "",
        "target": view.at("spec", "target", "kind") or "",
        "model": view.at("server", "model") or "",
        "plan": view.at("plan", "digest") or "",
        "version": view.at("slobench") or "",
        "verdict": view.summary.verdict,
    }
    yield _sample("slobench_run_info", told, 1)


def _verdict(view: RunView) -> Iterator[str]:
    yield from _head("slobench_valid", "gauge", "1: load and measurement were what they were meant to be.")
    yield _sample("slobench_valid", {"run": view.name}, float(view.summary.valid))
    yield from _head("slobench_exit", "gauge", "Exit code of the report.")
    yield _sample("slobench_exit", {"run": view.name}, float(view.summary.exit))


def _latency(view: RunView) -> Iterator[str]:
    name = "slobench_latency_seconds"
    yield from _head(
        name, "gauge", "Latency of the window's requests; bound: value, or an end of its 95 % interval.", "seconds"
    )
    populations = (("successful", view.summary.latency), ("with failures", view.summary.latency_adjusted))
    for population, tables in populations:
        for of_class, table in tables.items():
            for metric, quantiles in table.items():
                for quantile, seen in quantiles.items():
                    labels = {"class": of_class, "metric": metric, "population": population, "statistic": quantile}
                    yield from _estimate(name, view, labels, seen)


def _estimate(name: str, view: RunView, labels: Mapping[str, object], seen: Estimate) -> Iterator[str]:
    for bound in _BOUNDS:
        value = getattr(seen, bound)
        if value is not None:
            yield _sample(name, {"run": view.name, **labels, "bound": bound}, value)


def _shares(view: RunView) -> Iterator[str]:
    yield from _head(
        "slobench_attainment_ratio", "gauge", "Share of due requests within the SLO; limit: of it alone.", "ratio"
    )
    for of_class, result in view.summary.slo.items():
        for limit, seen in {"": result.attainment, **result.marginal}.items():
            yield from _estimate("slobench_attainment_ratio", view, {"class": of_class, "limit": limit}, seen)
    yield from _head("slobench_goodput_per_second", "gauge", "Good requests, or their tokens, a second.")
    for of_class, result in view.summary.slo.items():
        for of, seen in (("requests", result.goodput), ("tokens", result.good_tokens)):
            yield from _estimate("slobench_goodput_per_second", view, {"class": of_class, "of": of}, seen)


def _rates(view: RunView) -> Iterator[str]:
    yield from _head("slobench_rate_per_second", "gauge", "What was offered and what the server took, in the window.")
    names = {
        "offered_rps": "offered",
        "sent_rps": "sent",
        "finished_rps": "finished",
        "input_tokens_per_s": "input tokens",
        "output_tokens_per_s": "output tokens",
    }
    for of_class, load in view.summary.load.items():
        for field, of in names.items():
            seen = load.intervals.get(field) or Estimate(getattr(load, field))
            yield from _estimate("slobench_rate_per_second", view, {"class": of_class, "of": of}, seen)


def _outcomes(view: RunView) -> Iterator[str]:
    yield from _head("slobench_requests", "counter", "Planned requests of the whole run by how they ended.")
    for of_class, outcomes in view.summary.outcomes.items():
        for outcome, count in outcomes.items():
            yield _sample("slobench_requests_total", {"run": view.name, "class": of_class, "outcome": outcome}, count)
