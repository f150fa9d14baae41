"""The SLO of each class over the window: attainment, goodput, and what was asked of the class as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from slobench.config.slo import Objective, Slo, format_limit
from slobench.metrics.case import Case
from slobench.metrics.columns import FAILED, BoolArray, is_ok, number, outcome_in, rejected
from slobench.metrics.estimate import Windows, share
from slobench.metrics.slo import population
from slobench.metrics.summary import Estimate, Finding, LatencyTable, ObjectiveResult, SloResult
from slobench.names import Outcome


def results(
    case: Case, windows: Windows, adjusted: Mapping[str, LatencyTable], found: tuple[Finding, ...]
) -> dict[str, SloResult]:
    """The result of each class and of "all" (whose objectives are those that no class has for itself)."""
    names = [str(name) for name in np.unique(case.requests["class"])]
    table = {"all": _result(case, windows, "all", adjusted, found)}
    for name in names:
        table[name] = _result(case, windows, name, adjusted, found)
    return table


def _result(
    case: Case, windows: Windows, name: str, adjusted: Mapping[str, LatencyTable], found: tuple[Finding, ...]
) -> SloResult:
    requests, judged = case.requests, case.judged
    inside = case.main if name == "all" else case.main & (requests["class"] == name)
    people = population(requests, judged, inside)
    good, counted = people.good, people.counted
    seconds = case.window.length_s
    attainment = share(good, counted, windows, judged.margin)
    marginal = {
        clause: share(inside & (met == 1), inside & ~np.isnan(met), windows, judged.margin)
        for clause, met in judged.marginal.items()
        if np.any(inside & ~np.isnan(met))
    }
    objectives = tuple(_objectives(case, windows, name, inside, attainment, adjusted.get(name, {}), found))
    decided = [objective.met for objective in objectives if objective.met is not None]
    good_tokens = np.nansum(number(requests, "output_tokens")[good])
    return SloResult(
        population=int(counted.sum()),
        good=int(good.sum()),
        not_judged=people.not_judged,
        left_out=people.left_out,
        vacuous=people.vacuous,
        attainment=attainment,
        attainment_admitted=share(good, counted & ~rejected(requests), windows, judged.margin),
        marginal=marginal,
        binding=_binding(marginal),
        goodput_rps=int(good.sum()) / seconds,
        good_tokens_per_s=float(good_tokens) / seconds,
        objectives=objectives,
        met=all(decided) if decided else None,
    )


def _binding(marginal: Mapping[str, Estimate]) -> str | None:
    known = {clause: seen.value for clause, seen in marginal.items() if seen.value is not None}
    return min(known, key=lambda clause: known[clause]) if known else None


def asked_of(slo: Slo, name: str) -> tuple[Objective, ...]:
    """The objectives that hold for a class; those of "all" are the common ones."""
    return slo.common.objectives if name == "all" else slo.for_class(name).objectives


def _objectives(
    case: Case,
    windows: Windows,
    name: str,
    inside: BoolArray,
    attainment: Estimate,
    table: LatencyTable,
    found: tuple[Finding, ...],
) -> Iterator[ObjectiveResult]:
    asked = asked_of(case.slo, name)
    for objective in asked:
        yield _judge(case, windows, objective, inside, attainment, table)
    broken = [finding for finding in found if finding.level == "server"]
    if asked and broken:  # an overloaded or failing server has missed its SLO, whatever a short run's share says
        text = "no finding on the server's side: " + ", ".join(f"{f.code} {f.seen}" for f in broken)
        yield ObjectiveResult(text, Estimate(float(len(broken))), met=False)


def _judge(
    case: Case, windows: Windows, objective: Objective, inside: BoolArray, attainment: Estimate, table: LatencyTable
) -> ObjectiveResult:
    text = format_limit(objective)
    if objective.metric == "attainment":
        value = attainment.value
        return ObjectiveResult(text, attainment, None if value is None else value >= objective.bound - 1e-12)
    if objective.metric == "error_rate":
        failed = outcome_in(case.requests, FAILED)
        seen = share(inside & failed, inside & (failed | is_ok(case.requests)), windows)
        return ObjectiveResult(text, seen, None if seen.value is None else seen.value <= objective.bound + 1e-12)
    seen = table.get(objective.metric, {}).get(quantile_name(objective.quantile or 0.0), Estimate(None))
    met = None if seen.value is None or math.isnan(seen.value) else seen.value <= objective.bound
    return ObjectiveResult(text, seen, met)


def quantile_name(q: float) -> str:
    """`p99.9`."""
    return f"p{q * 100:g}"


def unresolved(case: Case) -> bool:
    """Whether no request of the run succeeded although some were due."""
    due = case.requests["outcome"] != Outcome.UNSENT.value
    return bool(due.any()) and not bool(is_ok(case.requests).any())
