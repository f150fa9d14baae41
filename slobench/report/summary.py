"""The summary as JSON: what `run --json` prints and run.json keeps; non-finite numbers never reach it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from slobench.metrics.peers import formulas
from slobench.metrics.summary import (
    ErrorBudget,
    Estimate,
    Finding,
    LatencyTable,
    Load,
    SessionFacts,
    SloResult,
    Summary,
)
from slobench.report.view import RunView


def to_json(view: RunView) -> dict[str, Any]:
    """Return what a run says to a program: the keys of the command reference first, then more detail.

    Times in seconds, rates per second, shares in [0, 1]. An estimate whose value is infinite (failures or
    timeouts reach that quantile) has value null and `infinite: true`; an interval end that is null beside a
    number is unbounded.
    """
    rule = view.at("stopping")  # runs of earlier versions have none
    stopping = {} if rule is None else {"stopping": rule}
    return {**of_summary(view.summary, total=view.total), **stopping, "out": str(view.folder)}


def of_summary(summary: Summary, *, total: str = "all") -> dict[str, Any]:
    """Return the same without the folder: the part that is kept in run.json."""
    return {
        "verdict": summary.verdict,
        "exit": summary.exit,
        "findings": [_finding(finding) for finding in summary.findings],
        "slo": {name: _slo(result) for name, result in summary.slo.items()},
        "latency": _latency(summary.latency.get(total, {})),
        "load": _load(summary.load[total]) if total in summary.load else None,
        "errors": {outcome: dict(messages) for outcome, messages in summary.errors.items()},
        "valid": summary.valid,
        "exits": list(summary.exits),
        "statement": summary.statement,
        "window": _plain(summary.window),
        "outcomes": {name: dict(counts) for name, counts in summary.outcomes.items()},
        "load_by_class": {name: _load(load) for name, load in summary.load.items()},
        "latency_by_class": {name: _latency(table) for name, table in summary.latency.items()},
        "latency_with_failures": {name: _latency(table) for name, table in summary.latency_adjusted.items()},
        "latency_full_run": {name: _latency(table) for name, table in summary.latency_full_run.items()},
        "fidelity": {name: _number(asdict(each)) for name, each in summary.fidelity.items()},
        **(
            {"sessions": {name: _sessions(each) for name, each in summary.sessions.items()}} if summary.sessions else {}
        ),
        "tokens_source": dict(summary.tokens_source),
        "approximate_tokens": summary.approximate_tokens,
        **({"definitions": told} if (told := formulas(summary.latency.get(total, {}))) else {}),
        **({} if summary.machine is None else {"machine_use": asdict(summary.machine)}),
        **({} if summary.server is None else {"server": _told(asdict(summary.server))}),
    }


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was told; a range without an end has null for it."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, tuple):
            found[name] = [end if math.isfinite(end) else None for end in value]
        elif value is not None:
            found[name] = value
    return found


def _sessions(facts: SessionFacts) -> dict[str, Any]:
    e2e = {name: _estimate(estimate) for name, estimate in facts.e2e_s.items()}
    return {**{each.name: getattr(facts, each.name) for each in fields(facts)}, "e2e_s": e2e}


def _finding(finding: Finding) -> dict[str, Any]:
    return {key: getattr(finding, key) for key in ("code", "level", "seen", "limit", "text", "advice", "side")}


def _slo(result: SloResult) -> dict[str, Any]:
    estimate = _estimate(result.attainment)
    return {
        "attainment": estimate.pop("value"),
        "low": estimate.pop("low"),
        "high": estimate.pop("high"),
        "met": result.met,
        **estimate,
        "population": result.population,
        "good": result.good,
        "not_judged": result.not_judged,
        "left_out": result.left_out,
        "vacuous": result.vacuous,
        "attainment_admitted": _estimate(result.attainment_admitted),
        "marginal": {clause: _estimate(seen) for clause, seen in result.marginal.items()},
        "binding": result.binding,
        "goodput_rps": _number(result.goodput.value),
        "good_tokens_per_s": _number(result.good_tokens.value),
        "goodput": {"requests_per_s": _estimate(result.goodput), "tokens_per_s": _estimate(result.good_tokens)},
        "objectives": [
            {"text": objective.text, "met": objective.met, "seen": _estimate(objective.seen)}
            for objective in result.objectives
        ],
        "budgets": [_budget(each) for each in result.budgets],
    }


def _budget(budget: ErrorBudget) -> dict[str, Any]:
    """One error budget; a pair without a worst burn says why in its note."""
    return {
        "objective": budget.objective,
        "target": budget.target,
        "misses": budget.misses,
        "allowed": _number(budget.allowed),
        "used": _estimate(budget.used),
        "width_s": budget.width_s,
        "note": budget.note,
        "over_time": [{"at_s": at, "burn": burn} for at, burn in zip(budget.at_s, budget.burn, strict=True)],
        "pairs": [
            {**_plain(pair), "state": {True: "burning", False: "held", None: "insufficient"}[pair.burning]}
            for pair in budget.pairs
        ],
    }


def _load(load: Load) -> dict[str, Any]:
    shown = {key: _number(value) for key, value in asdict(load).items() if key != "intervals"}
    return {**shown, "intervals": {key: _estimate(seen) for key, seen in load.intervals.items()}}


def _latency(table: LatencyTable) -> dict[str, Any]:
    return {metric: {q: _estimate(seen) for q, seen in quantiles.items()} for metric, quantiles in table.items()}


def _estimate(estimate: Estimate) -> dict[str, Any]:
    shown = _plain(estimate)
    if not shown["note"]:
        del shown["note"]
    if estimate.value is not None and math.isinf(estimate.value):
        shown["infinite"] = True
    return shown


def _plain(value: Any) -> dict[str, Any]:
    return {key: _number(item) for key, item in asdict(value).items()}


def _number(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _number(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
