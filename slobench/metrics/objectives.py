"""The SLO of each class over the window: attainment, goodput, and what was asked of the class as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from slobench.config.slo import Objective, Slo, format_limit
from slobench.metrics.budget import budget
from slobench.metrics.case import Case
from slobench.metrics.columns import FAILED, BoolArray, is_ok, number, outcome_in, rejected, seconds
from slobench.metrics.estimate import Windows, share
from slobench.metrics.rates import rate
from slobench.metrics.slo import population
from slobench.metrics.summary import ErrorBudget, Estimate, Finding, LatencyTable, ObjectiveResult, SloResult
from slobench.stats.quantiles import FloatArray


@dataclass(frozen=True, slots=True)
class _Class:
    """One class (or "all") of a run: its requests in the window, and what is known of them."""

    case: Case
    windows: Windows
    name: str
    inside: BoolArray
    adjusted: LatencyTable
    broken: tuple[Finding, ...]  # findings on the server's side

    def share(self, good: BoolArray, counted: BoolArray, risk: FloatArray | None = None) -> Estimate:
        """Estimate a share of requests.

        risk: how close each came to a miss, by default its largest value/limit, or its E2E where nothing has a limit.
        """
        if risk is None:
            margin = self.case.judged.margin
            risk = margin if np.any(np.isfinite(margin)) else self.case.derived["e2e_s"]
        return share(good, counted, self.windows, risk)

    def rate(self, amounts: FloatArray, chosen: BoolArray) -> Estimate:
        """Estimate what the chosen requests (by scheduled time) amount to a second."""
        return rate(amounts[chosen], self.windows.of[chosen], self.windows, self.case.window.length_s)


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
    attainment = one.share(good, counted)
    marginal = {
        clause: one.share(one.inside & (met == 1), one.inside & ~np.isnan(met))
        for clause, met in judged.marginal.items()
        if np.any(one.inside & ~np.isnan(met))
    }
    asked = tuple(_Asked.of(one, objective) for objective in asked_of(one.case.slo, one.name))
    objectives = tuple(_objectives(one, asked, attainment))
    decided = [objective.met for objective in objectives if objective.met is not None]
    tokens = np.nan_to_num(number(requests, "output_tokens"))
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
        goodput=one.rate(np.ones(len(good)), good),
        good_tokens=one.rate(tokens, good),
        objectives=objectives,
        met=all(decided) if decided else None,
        budgets=tuple(_budget(one, each, attainment) for each in asked),
    )


def _binding(marginal: Mapping[str, Estimate]) -> str | None:
    known = {clause: seen.value for clause, seen in marginal.items() if seen.value is not None}
    return min(known, key=lambda clause: known[clause]) if known else None


def asked_of(slo: Slo, name: str) -> tuple[Objective, ...]:
    """Return the objectives that hold for a class; those of "all" are the common ones."""
    return slo.common.objectives if name == "all" else slo.for_class(name).objectives


@dataclass(frozen=True, slots=True)
class _Asked:
    """An objective as a share: which requests count, which of them miss, and the share that must not."""

    objective: Objective
    counted: BoolArray
    missed: BoolArray
    target: float
    risk: FloatArray | None = None  # how close each request came to a miss; None: as for attainment

    @classmethod
    def of(cls, one: _Class, objective: Objective) -> _Asked:
        """Word the objective as a share. A percentile limit is one: of the requests that exceed it, 1 - q may."""
        requests, judged = one.case.requests, one.case.judged
        failed = outcome_in(requests, FAILED)
        ended = one.inside & (failed | is_ok(requests))
        bound = objective.bound
        match objective.metric:
            case "attainment":
                return cls(objective, one.inside & ~np.isnan(judged.met), judged.met != 1, bound)
            case "availability" | "error_rate":
                return cls(objective, ended, failed, bound if objective.metric == "availability" else 1 - bound)
        value = np.where(failed, np.inf, one.case.derived[f"{objective.metric}_s"])
        return cls(objective, ended & ~np.isnan(value), value > bound, objective.quantile or 0.0, value)


def _objectives(one: _Class, asked: tuple[_Asked, ...], attainment: Estimate) -> Iterator[ObjectiveResult]:
    for each in asked:
        yield _judge(one, each, attainment)
    if asked and one.broken:  # an overloaded or failing server has missed its SLO, whatever a short run's share says
        text = "no finding on the server's side: " + ", ".join(f"{f.code} {f.seen}" for f in one.broken)
        yield ObjectiveResult(text, Estimate(float(len(one.broken))), met=False)


def _judge(one: _Class, asked: _Asked, attainment: Estimate) -> ObjectiveResult:
    objective = asked.objective
    text, bound = format_limit(objective), objective.bound
    match objective.metric:
        case "attainment":
            seen, met = attainment, _at_least(attainment, bound)
        case "availability":
            seen = one.share(asked.counted & ~asked.missed, asked.counted)
            met = _at_least(seen, bound)
        case "error_rate":
            seen = one.share(asked.counted & asked.missed, asked.counted)
            met = None if seen.value is None else seen.value <= bound + 1e-12
        case metric:
            seen = one.adjusted.get(metric, {}).get(quantile_name(objective.quantile or 0.0), Estimate(None))
            met = None if seen.value is None else seen.value <= bound
    return ObjectiveResult(text, seen, met, bound)


def _at_least(seen: Estimate, bound: float) -> bool | None:
    return None if seen.value is None else seen.value >= bound - 1e-12


def _budget(one: _Class, asked: _Asked, attainment: Estimate) -> ErrorBudget:
    kept = attainment
    if asked.objective.metric != "attainment":
        kept = one.share(asked.counted & ~asked.missed, asked.counted, asked.risk)
    at_s = seconds(one.case.requests, "scheduled_ns")
    return budget(format_limit(asked.objective), asked.target, asked.missed, asked.counted, at_s, one.case.window, kept)


def quantile_name(q: float) -> str:
    """`p99.9`."""
    return f"p{q * 100:g}"
