"""The values that every report is made from: estimates with their uncertainty, findings, a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["warning", "invalid", "server"]
Side = Literal["instrument", "workload", "server"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and how sure it is; never a bare float.

    value: None where there is no data; +inf where failures (or censored timeouts) reach the quantile.
    low, high: 95 % interval, None where none can be given.
    n: requests it rests on; n_eff: how many independent ones they are worth; design_effect: n / n_eff.
    note: "", or words that belong beside the number: "optimistic", "approximate", "thin", "> 120 s".
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    n_eff: float | None = None
    design_effect: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One validity check that did not pass (metrics.md §6)."""

    code: str  # "V01"
    level: Level  # warning: past the first limit; invalid: past the second; server: a result, not a fault of ours
    side: Side
    seen: str  # "send lag p99 31 ms"
    limit: str  # "25 ms (5 % of the 500 ms TTFT limit)"
    text: str  # what it does to the numbers, and what to do


@dataclass(frozen=True, slots=True)
class ObjectiveResult:
    """One SLO objective and whether it was met (None: could not be judged)."""

    text: str
    seen: Estimate
    met: bool | None


@dataclass(frozen=True, slots=True)
class SloResult:
    """One class (or "all") against its SLO over the measurement window."""

    population: int
    good: int
    not_judged: int
    left_out: int  # planned cancellations and cuts with no limit due
    vacuous: int  # null TPOT or gap that met its limit vacuously
    attainment: Estimate
    attainment_admitted: Estimate
    marginal: Mapping[str, Estimate]  # clause text -> attainment of that limit alone
    binding: str | None  # the clause with the lowest marginal attainment
    goodput_rps: float
    good_tokens_per_s: float
    objectives: tuple[ObjectiveResult, ...] = ()
    met: bool | None = None  # None: no objective was given


@dataclass(frozen=True, slots=True)
class Load:
    """What was offered, what the server took, over the window (rates) and the whole run (counts)."""

    planned: int
    sent: int
    finished: int
    ok: int
    offered_rps: float  # scheduled arrivals in the window / its length
    sent_rps: float
    finished_rps: float  # first to last completion
    input_tokens_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    in_flight_mean: float
    in_flight_max: int
    send_lag_p50_s: float | None
    send_lag_p99_s: float | None
    send_lag_max_s: float | None
    connection_wait_p99_s: float | None
    arrivals_cv: float | None
    tokens_per_event: float | None
    input_tokens_mean: float | None
    output_tokens_mean: float | None
    output_tokens_per_s_max: float | None = None  # the highest second's (at least the mean)


@dataclass(frozen=True, slots=True)
class WindowText:
    """The measurement window [start, end) in seconds on the run's clock, and how it was chosen."""

    start_s: float
    end_s: float
    mean_e2e_s: float | None
    p99_e2e_s: float | None
    whole_run: bool
    steady: bool | None


LatencyTable = Mapping[str, Mapping[str, Estimate]]  # metric -> "mean" | "p50" | "p99" ... -> estimate


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything a report prints; class names as keys, "all" for the total."""

    verdict: str  # the whole verdict line
    valid: bool
    exit: int
    exits: tuple[int, ...]  # every code that holds
    findings: tuple[Finding, ...]
    window: WindowText
    load: Mapping[str, Load]
    slo: Mapping[str, SloResult]
    latency: Mapping[str, LatencyTable]  # success-only, in the window
    latency_adjusted: Mapping[str, LatencyTable]  # a failure = +inf
    latency_full_run: Mapping[str, LatencyTable]  # value and n only, whole run
    errors: Mapping[str, Mapping[str, int]]  # outcome -> message -> occurrences, whole run
    outcomes: Mapping[str, Mapping[str, int]]  # class -> outcome -> count, whole run
    statement: str  # metrics.md §10: the line that can be read alone
    tokens_source: Mapping[str, int] = field(default_factory=dict)
    approximate_tokens: bool = False
