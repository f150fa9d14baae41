"""SLO clauses: `ttft<500ms`, `tpot:p99<50ms`, `attainment>=99%`, `class=chat e2e<5s`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from slobench.config.clause import (
    METRICS,
    NUMBER,
    Cancelled,
    CancelledAs,
    Clause,
    Deadline,
    Limit,
    LimitMetric,
    Objective,
    format_limit,
    parse_clause,
    quantity,
    unreadable,
)
from slobench.config.problems import clip, unknown
from slobench.errors import ConfigError

__all__ = [
    "METRICS",
    "Cancelled",
    "CancelledAs",
    "ClassSlo",
    "Clause",
    "Deadline",
    "Limit",
    "LimitMetric",
    "Objective",
    "Slo",
    "e2e_limit_s",
    "format_limit",
    "parse_clause",
    "parse_goodput",
    "parse_slo",
    "split_clauses",
    "tightest_gap_s",
    "tightest_ttft_s",
]

_CLASS = re.compile(r"class\s*=\s*([^\s,;]+)(?:\s+|$)")
_MAX_TEXT = 1000
C = TypeVar("C", bound=Limit | Deadline | Objective)


@dataclass(frozen=True, slots=True)
class ClassSlo:
    """All clauses that hold for one class ("" = every class)."""

    limits: tuple[Limit, ...] = ()
    deadline: Deadline | None = None
    objectives: tuple[Objective, ...] = ()
    cancelled: Cancelled | None = None

    @property
    def counts_cancelled(self) -> CancelledAs:
        """What a request counts as whose user disconnected."""
        return self.cancelled.counts if self.cancelled else "judged"

    @property
    def clauses(self) -> tuple[Limit | Deadline | Objective, ...]:
        """Limits, deadline and objectives in one."""
        return (*self.limits, *((self.deadline,) if self.deadline else ()), *self.objectives)


@dataclass(frozen=True, slots=True)
class Slo:
    """The SLO of a run: clauses as written, and resolved by class name."""

    text: tuple[str, ...]
    common: ClassSlo
    by_class: tuple[tuple[str, ClassSlo], ...] = ()

    def for_class(self, name: str) -> ClassSlo:
        """Merge the common clauses with the class's own; an own one replaces the common one of the same quantity."""
        own = dict(self.by_class).get(name)
        if own is None:
            return self.common
        return ClassSlo(
            _merge(self.common.limits, own.limits),
            own.deadline or self.common.deadline,
            _merge(self.common.objectives, own.objectives),
            own.cancelled or self.common.cancelled,
        )

    @property
    def clauses(self) -> tuple[Limit | Deadline | Objective, ...]:
        """Every limit, deadline and objective of every class."""
        return tuple(clause for slo in (self.common, *(slo for _, slo in self.by_class)) for clause in slo.clauses)


def _merge(common: tuple[C, ...], own: tuple[C, ...]) -> tuple[C, ...]:
    replaced = {quantity(clause) for clause in own}
    return (*(clause for clause in common if quantity(clause) not in replaced), *own)


def parse_slo(clauses: Sequence[str], class_names: Sequence[str] = ()) -> Slo:
    """Read SLO clauses, several in one text separated by `,` or `;`.

    `class=NAME` holds for the rest of its text, until another. With `class_names`, other names are refused.
    ConfigError for what cannot be read, or is said twice.
    """
    found: dict[str, list[Clause]] = {"": []}
    for text in clauses:
        for name, part in split_clauses(text):
            if name and class_names and name not in class_names:
                raise ConfigError(unknown(f"SLO {clip(text)}: no class named", name, class_names))
            clause = parse_clause(part)
            held = found.setdefault(name, [])
            twice = next((each for each in held if quantity(each) == quantity(clause)), None)
            if twice is not None:
                raise ConfigError(
                    f"SLO says two things of one quantity: {format_limit(twice)} and {format_limit(clause)}\n"
                    "  expected  each once for a class"
                )
            held.append(clause)
    common = _class_slo(found.pop(""))
    return Slo(tuple(clauses), common, tuple((name, _class_slo(held)) for name, held in found.items()))


def split_clauses(text: str) -> Iterator[tuple[str, str]]:
    """Yield (class, clause) of one text, "" = every class; a comma inside parentheses belongs to its clause."""
    if len(text) > _MAX_TEXT:
        raise unreadable(text, f"longer than {_MAX_TEXT} characters")
    name = ""
    for each in re.split(r"[,;](?![^()]*\))", text):
        part = each.strip()
        if match := _CLASS.match(part):
            name, part = match[1], part[match.end() :].strip()
        if not part:
            raise unreadable(text, "an empty clause")
        yield name, part


def _class_slo(clauses: Iterable[Clause]) -> ClassSlo:
    limits, deadlines, objectives, cancelled = [], [], [], None
    for clause in clauses:
        match clause:
            case Limit():
                limits.append(clause)
            case Deadline():
                deadlines.append(clause)
            case Objective():
                objectives.append(clause)
            case Cancelled():
                cancelled = clause
    return ClassSlo(tuple(limits), deadlines[0] if deadlines else None, tuple(objectives), cancelled)


def parse_goodput(pairs: Sequence[str]) -> tuple[str, ...]:
    """Turn vLLM's `ttft:500 tpot:50 e2el:5000` (ms) into clauses for `parse_slo`."""
    clauses = []
    for pair in pairs:
        match = re.fullmatch(rf"\s*(ttft|tpot|e2el)\s*:\s*({NUMBER})\s*", pair)
        if match is None or not 0 < float(match[2]) < 1e12:
            raise ConfigError(
                f"cannot read --goodput {clip(pair)}\n"
                "  expected  METRIC:MILLISECONDS, e.g. ttft:500 tpot:50\n"
                "  metrics   ttft, tpot, e2el"
            )
        clauses.append(f"{match[1].removesuffix('l')}<{match[2]}ms")
    return tuple(clauses)


def tightest_ttft_s(slo: Slo) -> float | None:
    """Return the smallest TTFT limit of any class in seconds (percentile and deadline limits too), None without one."""
    return min(_bounds(slo, {"ttft"}, first=True), default=None)


def tightest_gap_s(slo: Slo) -> float | None:
    """Return the smallest limit on TPOT, on a gap or on a deadline's pace in seconds, None without one."""
    return min(_bounds(slo, {"tpot", "max_gap"}, first=False), default=None)


def e2e_limit_s(slo: Slo) -> float | None:
    """Return the largest E2E limit of any class in seconds (a timeout below it would cut good replies), or None."""
    return max((bound for bound in _bounds(slo, {"e2e"}, first=None)), default=None)


def _bounds(slo: Slo, metrics: set[str], *, first: bool | None) -> Iterator[float]:
    for clause in slo.clauses:
        match clause:
            case Limit(metric, limit_s) if metric in metrics:
                yield limit_s
            case Objective(metric, bound) if metric in metrics:
                yield bound
            case Deadline(first_s, each_s) if first is not None:
                yield first_s if first else each_s
