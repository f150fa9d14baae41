"""The report as one page: no script, nothing fetched, every foreign text escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from slobench.metrics.summary import Estimate
from slobench.report import charts, context, words
from slobench.report.hosts import hosts_table
from slobench.report.outcomes import error_table, outcome_counts
from slobench.report.server import server_facts, server_times
from slobench.report.sessions import session_table
from slobench.report.slo_tables import attainment_bound, budget_table, objective_line, slo_table
from slobench.report.tables import (
    LOAD_NOTE,
    Table,
    class_latency_table,
    class_load_table,
    latency_table,
    load_facts,
)
from slobench.report.traffic import traffic_tables
from slobench.report.view import RunView

MOST_ERRORS = 200
Fact = tuple[str, str, str]


def render(view: RunView) -> str:
    """Return report.html."""
    folder = resources.files(__package__) / "templates"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((folder / "report.html.j2").read_text("utf-8"))
    summary = view.summary
    load = summary.load.get(view.total)
    return template.render(
        style=Markup((folder / "report.css").read_text("utf-8")),  # noqa: S704 (ours, not a server's)
        heading=context.heading(view),
        name=words.clean(view.name, 200),
        state=_state(view),
        verdict=_verdict(summary.verdict),
        objective=objective_line(view),
        findings=summary.findings,
        facts=context.facts(view),
        notes=context.notes(view),
        statement=words.clean(summary.statement, 2000),
        tiles=tuple(_tiles(view)),
        slo=slo_table(view),
        budget=budget_table(view),
        latency=tuple(_latency_tables(view)),
        by_class=class_latency_table(view),
        load=load_facts(load) if load else (),
        load_note=LOAD_NOTE,
        class_load=class_load_table(view),
        sessions=session_table(view),
        server=server_facts(view),
        server_times=server_times(view),
        traffic=tuple(traffic_tables(view)),
        hosts=hosts_table(view),
        outcomes=tuple((outcome, words.count(n)) for outcome, n in outcome_counts(view)),
        errors=error_table(view, most=MOST_ERRORS),
        figures=charts.figures(view),
        settings=tuple(_settings(view)),
        details=tuple(_details(view)),
        files=view.files(),
        meanings=words.MEANINGS,
        version=words.clean(view.at("slobench") or "", 40),
        clean=words.clean,
        svg=Markup,
    )


def _state(view: RunView) -> str:
    if not view.summary.valid:
        return "invalid"
    return "warned" if view.summary.findings or view.summary.exit else "good"


def _verdict(verdict: str) -> tuple[str, str]:
    word, _, rest = verdict.partition(" ")
    return words.clean(word.rstrip(":"), 40), words.clean(rest, 1000)


def _tiles(view: RunView) -> Iterator[Fact]:
    """(name, value, small print) of the few numbers that most readers came for."""
    summary, total = view.summary, view.total
    slo, load, latency = summary.slo.get(total), summary.load.get(total), summary.latency.get(total, {})
    if slo is not None:
        yield "attainment", words.percent(slo.attainment.value, attainment_bound(slo)), _percent_print(slo.attainment)
        interval = words.rate_interval(slo.goodput)
        small = f"{words.rate(slo.good_tokens.value, 'tok/s')} in good replies"
        yield "goodput", words.rate(slo.goodput.value), small if interval == words.ABSENT else f"{interval} · {small}"
    if load is not None:
        yield "output", words.rate(load.output_tokens_per_s, "tok/s"), f"offered {words.rate(load.offered_rps)}"
    for metric, quantile in (("ttft", "p50"), ("ttft", "p99"), ("tpot", "p50"), ("tpot", "p99"), ("e2e", "p99")):
        estimate = latency.get(metric, {}).get(quantile)
        if estimate is not None and estimate.value is not None:
            small = _small_print(words.latency_interval(estimate), estimate)
            yield f"{words.metric_name(metric)} {quantile}", words.latency(estimate), small


def _percent_print(estimate: Estimate) -> str:
    interval = words.percent_interval(estimate)
    return _small_print(f"{interval} %" if interval != words.ABSENT else f"of {words.count(estimate.n)}", estimate)


def _small_print(interval: str, estimate: Estimate) -> str:
    """`[40.2, 44.0] ms · n_eff 34 · thin`: what an estimate's value cannot say itself."""
    _, n_eff, _ = words.weight(estimate)
    told = () if n_eff == words.ABSENT else (f"n_eff {n_eff}",)
    notes = (note for note in words.notes_of(estimate) if not note.startswith(">"))
    return " · ".join((*((interval,) if interval != words.ABSENT else ()), *told, *notes))


def _latency_tables(view: RunView) -> Iterator[Table]:
    whole = latency_table(view, brief=False)
    if whole:
        yield whole
    if len(view.classes) > 1:
        for name in view.classes:
            table = latency_table(view, brief=False, name=name)
            if table:
                yield table


def _settings(view: RunView) -> Iterator[tuple[str, str, str, bool]]:
    """Return (setting, requested, observed, differs) of the server, by dotted name."""
    requested = dict(_flat(view.at("settings", "requested")))
    observed = dict(_flat(view.at("settings", "observed")))
    for key in sorted({*requested, *observed}):
        asked, seen = requested.get(key), observed.get(key)
        differs = asked is not None and seen is not None and asked != seen
        yield words.clean(key, 120), words.clean(asked or words.ABSENT), words.clean(seen or words.ABSENT), differs


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, str(value)


def _details(view: RunView) -> Iterator[tuple[str, str]]:
    """(title, YAML) of what is kept for whoever repeats the run."""
    named = {
        "Workload": view.at("spec", "workload"),
        "Target": view.at("spec", "target"),
        "SLO": view.at("spec", "slo"),
        "Server": view.at("server"),
        "Client machine": view.at("host"),
        "Versions": view.at("versions"),
        "Plan": {"seed": view.at("seed"), "plan": view.at("plan"), "nonce": view.at("nonce")},
        "Clock": view.at("clock"),
        "Hosts": view.at("hosts"),
        "Thresholds of the checks": view.at("thresholds"),
    }
    for title, value in named.items():
        if value:
            yield title, yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=True, width=100)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {words.clean(key, 200): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return words.clean(value, 2000) if isinstance(value, str) else value
