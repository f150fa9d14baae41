"""Which requests met their SLO: each limit on each request, and all of them together (docs/metrics.md, SLO)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slobench.config.slo import CancelledAs, ClassSlo, Deadline, Limit, Slo, format_limit
from slobench.metrics.columns import (
    ENDED_EARLY,
    FAILED,
    BoolArray,
    ChunkGroups,
    group_chunks,
    is_ok,
    number,
    outcome_in,
)
from slobench.metrics.latency import event_tokens
from slobench.names import Outcome
from slobench.records.schema import Columns
from slobench.stats.quantiles import FloatArray

CAN_BE_VACUOUS = ("tpot", "max_gap")


@dataclass(frozen=True, slots=True)
class Judged:
    """One value per request; NaN = not judged.

    met: 1 good, 0 not. vacuous: a TPOT or gap limit was met by a reply that has none.
    left_out: ended early by us before any limit was due, or not to count. unjudgeable: succeeded, but a limit's
    quantity cannot exist.
    margin: the largest value/limit (+inf for a failure): how close to missing, for the design effect.
    marginal: per clause of any class, what `met` would be with that clause alone.
    """

    met: FloatArray
    vacuous: BoolArray
    left_out: BoolArray
    unjudgeable: BoolArray
    margin: FloatArray
    marginal: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class _Clause:
    """One limit over the requests it is asked of: met 1/0/NaN by the rules above."""

    met: FloatArray
    vacuous: BoolArray
    margin: FloatArray


@dataclass(frozen=True, slots=True)
class _Case:
    """What limits are judged on."""

    requests: Columns
    derived: Columns
    chunks: Columns
    groups: ChunkGroups


def judge(requests: Columns, derived: Columns, chunks: Columns, slo: Slo) -> Judged:
    """Judge every request against the limits of its class.

    Good = all limits met (compared with <=). Failures are not good; ones ended early by us are judged on the limits
    already due (those whose users disconnected, where the SLO says nothing else); never-sent ones are outside. A class
    without limits is not judged where others have some, unless an attainment is asked of it; else success is all that
    is asked.
    """
    n = len(requests["index"])
    case = _Case(requests, derived, chunks, group_chunks(requests, chunks))
    limited = has_limits(slo)
    met, margin = np.full(n, np.nan), np.full(n, np.nan)
    vacuous, left_out, unjudgeable = (np.zeros(n, dtype=np.bool_) for _ in range(3))
    marginal: dict[str, FloatArray] = {}
    for name in np.unique(requests["class"]):
        mine = requests["class"] == name
        asked = slo.for_class(str(name))
        clauses = _clauses(case, asked)
        if not clauses and limited and not any(o.metric == "attainment" for o in asked.objectives):
            continue
        joint = _joint(requests, [clause.met for clause in clauses.values()], asked.counts_cancelled)
        met[mine] = joint[mine]
        for text, clause in clauses.items():
            column = marginal.setdefault(text, np.full(n, np.nan))
            column[mine] = _joint(requests, [clause.met], asked.counts_cancelled)[mine]
            vacuous |= clause.vacuous & mine
            margin = np.where(mine, np.fmax(margin, clause.margin), margin)
        early = outcome_in(requests, ENDED_EARLY) & mine
        left_out |= early & np.isnan(joint)
        unjudgeable |= mine & is_ok(requests) & np.isnan(joint)
        if asked.counts_cancelled == "missed":
            margin = np.where(mine & outcome_in(requests, {Outcome.CANCELLED}), np.inf, margin)
    margin = np.where(outcome_in(requests, FAILED), np.inf, margin)
    return Judged(met, vacuous & ~unjudgeable, left_out, unjudgeable, margin, marginal)


def has_limits(slo: Slo) -> bool:
    """Whether any class has a limit on each request."""
    return any(one.limits or one.deadline for one in (slo.common, *(one for _, one in slo.by_class)))


def _joint(requests: Columns, each: Sequence[FloatArray], cancelled: CancelledAs) -> FloatArray:
    """All limits of a request together, by outcome. cancelled: what one counts as whose user disconnected."""
    n = len(requests["index"])
    ok, early = is_ok(requests), outcome_in(requests, ENDED_EARLY)
    missed, unknown, due = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, bool)
    for met in each:
        missed |= met == 0
        unknown |= np.isnan(met)
        due |= ~np.isnan(met)
    of_ok = np.where(unknown, np.nan, np.where(missed, 0.0, 1.0))
    of_early = np.where(due, np.where(missed, 0.0, 1.0), np.nan)
    outside = requests["outcome"] == Outcome.UNSENT.value
    found = np.where(ok, of_ok, np.where(early, of_early, np.where(outside, np.nan, 0.0)))
    if cancelled == "judged":
        return found
    given_up = outcome_in(requests, {Outcome.CANCELLED})
    return np.where(given_up, 0.0 if cancelled == "missed" else np.nan, found)


def _clauses(case: _Case, asked: ClassSlo) -> dict[str, _Clause]:
    clauses = {format_limit(limit): _judge_limit(case, limit) for limit in asked.limits}
    if asked.deadline is not None:
        clauses[format_limit(asked.deadline)] = _judge_deadline(case, asked.deadline)
    return clauses


def allowed_s(requests: Columns, limit: Limit) -> FloatArray:
    """Return the limit on each request, grown with its input tokens (the server's count, else the plan's)."""
    if not limit.per_token_s:
        return np.full(len(requests["index"]), limit.limit_s)
    counted, planned = number(requests, "input_tokens"), number(requests, "input_tokens_planned")
    return limit.limit_s + limit.per_token_s * np.where(np.isnan(counted), planned, counted)


def _judge_limit(case: _Case, limit: Limit) -> _Clause:
    requests, value = case.requests, np.asarray(case.derived[f"{limit.metric}_s"])
    allowed = allowed_s(requests, limit)
    null = np.isnan(value)
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = value / allowed
    met = np.where(null, np.nan, (value <= allowed).astype(float))
    vacuous = np.zeros(len(value), dtype=np.bool_)
    if limit.metric in CAN_BE_VACUOUS:
        # A reply that streamed, or that had one token at most, has no gap to judge; another's is unknown.
        vacuous = (
            null
            & is_ok(requests)
            & (~np.isnan(number(requests, "first_token_ns")) | (number(requests, "output_tokens") <= 1))
        )
        met = np.where(vacuous, 1.0, met)
    early = outcome_in(requests, ENDED_EARLY)
    return _Clause(np.where(early, _due_early(case, limit, value, allowed), met), vacuous, margin)


def _due_early(case: _Case, limit: Limit, value: FloatArray, allowed: FloatArray) -> FloatArray:
    """Judge a limit on a request that we ended: 1 met, 0 missed before the end, NaN not due yet."""
    lived = (number(case.requests, "end_ns") - number(case.requests, "scheduled_ns")) / 1e9
    if limit.metric in ("ttft", "ttfo"):
        return np.where(~np.isnan(value), (value <= allowed).astype(float), np.where(lived > allowed, 0.0, np.nan))
    if limit.metric == "e2e":
        return np.where(lived > allowed, 0.0, np.nan)
    if limit.metric == "max_gap":
        silent = (number(case.requests, "end_ns") - number(case.requests, "last_token_ns")) / 1e9
        return np.where((value > allowed) | (silent > allowed), 0.0, np.nan)
    return np.full(len(value), np.nan)  # TPOT is due when the last token is


def _judge_deadline(case: _Case, deadline: Deadline) -> _Clause:
    """Token i is due at scheduled + first + (i-1)*each, without reset; good where enough were on time."""
    requests, groups = case.requests, case.groups
    scheduled, end = number(requests, "scheduled_ns"), number(requests, "end_ns")
    n = len(scheduled)
    on_time, seen = np.zeros(n), np.zeros(n)
    if len(groups.row):
        tokens = event_tokens(requests, case.chunks, groups)
        late_ns = np.asarray(case.chunks["t_ns"], dtype=np.float64) - groups.spread(scheduled)
        # tokens of an event that are on time: those whose deadline is at or after its arrival
        running = np.cumsum(tokens)
        base = running[groups.start] - tokens[groups.start]
        through = running - np.repeat(base, groups.sizes)
        first_in_time = np.ceil((late_ns / 1e9 - deadline.first_s) / deadline.each_s - 1e-9) + 1
        timely = np.clip(through - np.maximum(first_in_time, through - tokens + 1) + 1, 0, tokens)
        on_time[groups.row] = np.add.reduceat(timely, groups.start)
        seen[groups.row] = np.add.reduceat(tokens, groups.start)
    streamed = ~np.isnan(number(requests, "first_token_ns")) & (seen > 0)
    due = np.where(is_ok(requests), seen, _tokens_due(requests, deadline, (end - scheduled) / 1e9))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(due > 0, np.minimum(on_time, due) / due, np.nan)
        margin = deadline.share / share
    met = np.where(np.isnan(share), np.nan, (share >= deadline.share - 1e-9).astype(float))
    met = np.where(is_ok(requests) & ~streamed, np.nan, met)
    return _Clause(met, np.zeros(n, dtype=np.bool_), margin)


def _tokens_due(requests: Columns, deadline: Deadline, lived_s: FloatArray) -> FloatArray:
    """How many of the planned tokens had their deadline by then."""
    planned = number(requests, "output_tokens_planned")
    due: FloatArray = np.clip(np.floor((lived_s - deadline.first_s) / deadline.each_s + 1e-9) + 1, 0, planned)
    return due


@dataclass(frozen=True, slots=True)
class Population:
    """Requests that an attainment is about, and what was left out of it."""

    counted: BoolArray  # judged
    good: BoolArray
    not_judged: int
    left_out: int
    vacuous: int


def population(requests: Columns, judged: Judged, inside: BoolArray) -> Population:
    """Of the requests scheduled inside the window: who counts, who is good."""
    counted = inside & ~np.isnan(judged.met)
    return Population(
        counted=counted,
        good=counted & (judged.met == 1),
        not_judged=int(np.sum(inside & judged.unjudgeable)),
        left_out=int(np.sum(inside & judged.left_out)),
        vacuous=int(np.sum(inside & judged.vacuous & counted & is_ok(requests))),
    )
