"""SLO clauses: `ttft<500ms`, `tpot:p99<50ms`, `attainment>=99%`, `class=chat e2e<5s`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LimitMetric = Literal["ttft", "ttfo", "tpot", "max_gap", "e2e"]


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit on a quantity of each request, in seconds, compared with <=.

    `per_token_s` grows the limit with the request's input tokens.
    """

    metric: LimitMetric
    limit_s: float
    per_token_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """Token i is on time at scheduled + first_s + (i-1)*each_s; good where at least `share` are."""

    first_s: float
    each_s: float
    share: float = 0.9


@dataclass(frozen=True, slots=True)
class Objective:
    """What must hold over a class: a percentile limit, an attainment or an error rate.

    metric "attainment": at least `bound` of requests good; "error_rate": at most `bound` failed;
    a limit metric with `quantile`: that quantile at most `bound` seconds.
    """

    metric: str
    bound: float
    quantile: float | None = None


@dataclass(frozen=True, slots=True)
class ClassSlo:
    """All clauses that hold for one class ("" = every class)."""

    limits: tuple[Limit, ...] = ()
    deadline: Deadline | None = None
    objectives: tuple[Objective, ...] = ()


@dataclass(frozen=True, slots=True)
class Slo:
    """The SLO of a run: clauses as written, and resolved by class name.

    `for_class(name)` merges the common clauses with the class's own (own ones replace the same metric).
    """

    text: tuple[str, ...]
    common: ClassSlo
    by_class: tuple[tuple[str, ClassSlo], ...] = ()
