"""The SLO of each class over the window: attainment, goodput, and what was asked of the class as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from slobench.config.slo import Objective, Slo, format_limit
from slobench.metrics.case import Case
from slobench.metrics.columns import FAILED, BoolArray, is_ok, number, outcome_in, rejected
from slobench.metrics.estimate import Windows, share
from slobench.metrics.slo import population
from slobench.metrics.summary import Estimate, Finding, LatencyTable, ObjectiveResult, SloResult


@dataclass(frozen=True, slots=True)
class _Class:
    """One class (or "all") of a run: its requests in the window, and what is known of them."""

    case: Case
    windows: Windows
    name: str
    inside: BoolArray
    adjusted: LatencyTable
    broken: tuple[Finding, ...]  # findings on the server's side

    def share(self, good: BoolArray, counted: BoolArray) -> Estimate:
        """Estimate a share, whose risk is how close requests came to a limit."""
        return share(good, counted, self.windows, self.case.judged.margin)


def results(
    case: Case, windows: Windows, adjusted: Mapping[str, LatencyTable], found: tuple[Finding, ...]
) -> dict[str, SloResult]:
    """Judge each class, and "all" by the objectives that hold for every class."""
    broken = tuple(finding for finding in found if finding.level == "server")
    table = {"all": _result(_Class(case, windows, "all", case.main, adjusted.get("all", {}), broken))}
    for name in (str(each) for each in np.unique(case.requests["class"])):
        inside = case.main & (case.requests["class"] == name)
        table[name] = _result(_Class(case, windows, name, inside, adjusted.get(name, {}), broken))
    return table


def _result(one: _Class) -> SloResult:
    requests, judged = one.case.requests, one.case.judged
    people = population(requests, judged, one.inside)
    good, counted = people.good, people.counted
    seconds = one.case.window.length_s
    attainment = one.share(good, counted)
    marginal = {
        clause: one.share(one.inside & (met == 1), one.inside & ~np.isnan(met))
        for clause, met in judged.marginal.items()
        if np.any(one.inside & ~np.isnan(met))
    }
    objectives = tuple(_objectives(one, attainment))
    decided = [objective.met for objective in objectives if objective.met is not None]
    return SloResult(
        population=int(counted.sum()),
        good=int(good.sum()),
        not_judged=people.not_judged,
        left_out=people.left_out,
        vacuous=people.vacuous,
        attainment=attainment,
        attainment_admitted=one.share(good, counted & ~rejected(requests)),
        marginal=marginal,
        binding=_binding(marginal),
        goodput_rps=int(good.sum()) / seconds,
        good_tokens_per_s=float(np.nansum(number(requests, "output_tokens")[good])) / seconds,
        objectives=objectives,
        met=all(decided) if decided else None,
    )


def _binding(marginal: Mapping[str, Estimate]) -> str | None:
    known = {clause: seen.value for clause, seen in marginal.items() if seen.value is not None}
    return min(known, key=lambda clause: known[clause]) if known else None


def asked_of(slo: Slo, name: str) -> tuple[Objective, ...]:
    """Return the objectives that hold for a class; those of "all" are the common ones."""
    return slo.common.objectives if name == "all" else slo.for_class(name).objectives


def _objectives(one: _Class, attainment: Estimate) -> Iterator[ObjectiveResult]:
    asked = asked_of(one.case.slo, one.name)
    for objective in asked:
        yield _judge(one, objective, attainment)
    if asked and one.broken:  # an overloaded or failing server has missed its SLO, whatever a short run's share says
        text = "no finding on the server's side: " + ", ".join(f"{f.code} {f.seen}" for f in one.broken)
        yield ObjectiveResult(text, Estimate(float(len(one.broken))), met=False)


def _judge(one: _Class, objective: Objective, attainment: Estimate) -> ObjectiveResult:
    text = format_limit(objective)
    if objective.metric == "attainment":
        value = attainment.value
        return ObjectiveResult(text, attainment, None if value is None else value >= objective.bound - 1e-12)
    if objective.metric == "error_rate":
        requests = one.case.requests
        failed = one.inside & outcome_in(requests, FAILED)
        seen = share(failed, failed | (one.inside & is_ok(requests)), one.windows)
        return ObjectiveResult(text, seen, None if seen.value is None else seen.value <= objective.bound + 1e-12)
    seen = one.adjusted.get(objective.metric, {}).get(quantile_name(objective.quantile or 0.0), Estimate(None))
    return ObjectiveResult(text, seen, None if seen.value is None else seen.value <= objective.bound)


def quantile_name(q: float) -> str:
    """`p99.9`."""
    return f"p{q * 100:g}"
