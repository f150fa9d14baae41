"""What an SLO asks of a load: shares of requests, each with the level that it must not fall below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slobench.config.slo import ClassSlo, Deadline, Limit, LimitMetric, Objective, Slo, format_limit
from slobench.errors import ConfigError
from slobench.experiment.stream import Counted

DEFAULT_TARGET = 0.99
TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One share that must be at least `target`; `name` is that of its Counted."""

    name: str
    target: float


@dataclass(frozen=True, slots=True)
class Asked:
    """What is counted in every probe, and which of it decides. `limits`: the shares that say what binds."""

    counted: tuple[Counted, ...]
    criteria: tuple[Criterion, ...]
    limits: tuple[str, ...]


def asked_of(slo: Slo, class_names: Sequence[str], *, target: float | None, per_class: bool) -> Asked:
    """Turn an SLO into shares.

    Attainment counts joint, over all requests whose class has limits; with `per_class` in each class, and every class
    must reach its target. A percentile objective is the share within its limit, an error rate the share that ended ok.
    The target is `target`, else the SLO's attainment objective, else 99 %.
    Raises ConfigError where the SLO asks for nothing, or for a share of 100 %.
    """
    names = tuple(class_names)
    limited = tuple(name for name in names if _limits(slo.for_class(name)) or _attainment(slo.for_class(name)))
    common = _attainment(slo.common)
    counted = [Counted(TOTAL, frozenset(limited or names), "all")]
    criteria: list[Criterion] = []
    if limited and not per_class:
        criteria.append(Criterion(TOTAL, target or common or DEFAULT_TARGET))
    own = dict(slo.by_class)
    for name in names:
        counted.append(Counted(f"class={name}", frozenset([name]), "all"))
        level = _attainment(own[name]) if name in own else None
        if name in limited and (per_class or level is not None):
            criteria.append(Criterion(f"class={name}", target or level or common or DEFAULT_TARGET))
    marginal = tuple(_marginals(slo, names))
    objectives = tuple(_objectives(slo, names, per_class=per_class))
    criteria += [Criterion(each.name, level) for each, level in objectives]
    if not criteria:
        raise ConfigError(
            "a capacity needs an SLO\n"
            "  expected  --slo, e.g. --slo 'ttft<500ms' --slo 'tpot<30ms' --slo 'attainment>=99%'"
        )
    for each in criteria:
        _refuse_extreme(each)
    return Asked((*counted, *marginal, *(each for each, _ in objectives)), tuple(criteria), tuple(_names(marginal)))


def _names(shares: Sequence[Counted]) -> Iterator[str]:
    return (each.name for each in shares)


def _limits(asked: ClassSlo) -> tuple[Limit | Deadline, ...]:
    return (*asked.limits, *((asked.deadline,) if asked.deadline else ()))


def _attainment(asked: ClassSlo) -> float | None:
    return next((each.bound for each in asked.objectives if each.metric == "attainment"), None)


def _marginals(slo: Slo, names: Sequence[str]) -> Iterator[Counted]:
    """Each limit alone, over all classes that have it, and in each class where there are several."""
    held: dict[Limit | Deadline, list[str]] = {}
    for name in names:
        for clause in _limits(slo.for_class(name)):
            held.setdefault(clause, []).append(name)
    for clause, holders in held.items():
        text = format_limit(clause)
        yield Counted(text, frozenset(holders), clause)
        if len(names) > 1:
            for name in holders:
                yield Counted(f"class={name} {text}", frozenset([name]), clause)


def _objectives(slo: Slo, names: Sequence[str], *, per_class: bool) -> Iterator[tuple[Counted, float]]:
    """Percentile and error-rate objectives as shares with their levels."""
    scopes = [("", frozenset(names), slo.common)] if not per_class else []
    scopes += [
        (f"class={name} ", frozenset([name]), slo.for_class(name) if per_class else own)
        for name in names
        if (own := dict(slo.by_class).get(name, ClassSlo())).objectives or per_class
    ]
    for prefix, classes, asked in scopes:
        for each in asked.objectives:
            if each.metric == "error_rate":
                yield Counted(prefix + format_limit(each), classes, "ok"), 1 - each.bound
            elif each.metric != "attainment":
                yield Counted(prefix + format_limit(each), classes, _as_limit(each)), each.quantile or 0.0


def _as_limit(objective: Objective) -> Limit:
    """The limit whose share is the percentile: p99 ≤ x and "99 % within x" are the same statement."""
    metric: LimitMetric = objective.metric  # type: ignore[assignment]  # all but attainment and error_rate
    return Limit(metric, objective.bound)


def _refuse_extreme(criterion: Criterion) -> None:
    if not 0 < criterion.target < 1:
        raise ConfigError(
            f"{criterion.name} of {criterion.target:.0%}: no load can be shown to keep it\n"
            "  expected  a target below 100 %, e.g. --target-attainment 99%"
        )
