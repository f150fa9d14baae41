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
    text: str  # what it does to the numbers
    advice: str = ""  # what to do


@dataclass(frozen=True, slots=True)
class ObjectiveResult:
    """One SLO objective and whether it was met (None: could not be judged).

    bound: what `seen` was compared with; None where it is no number.
    """

    text: str
    seen: Estimate
    met: bool | None
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class BurnPair:
    """Two windows that end together, and whether the budget burned faster than `factor` in both at once.

    long_s, short_s: their lengths, scaled to the run. burning: None = insufficient, `note` says why.
    worst: the highest rate that both reached together; at_s: when, on the run's clock.
    """

    factor: float
    long_s: float
    short_s: float
    burning: bool | None
    worst: float | None
    at_s: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """How much of what an objective allows to miss was spent over the window, and how fast.

    target: share that must not miss. misses: how many did; allowed: how many might. used: misses/allowed, which is
    the burn rate over the whole window: 1 spends the budget exactly. burn: the rate over the last `width_s` at each
    of `at_s`, None where that holds too few requests; empty where no part of the window is long enough (`note`).
    """

    objective: str
    target: float
    misses: int
    allowed: float
    used: Estimate
    width_s: float | None = None
    at_s: tuple[float, ...] = ()
    burn: tuple[float | None, ...] = ()
    pairs: tuple[BurnPair, ...] = ()
    note: str = ""


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
    goodput: Estimate  # good requests/s
    good_tokens: Estimate  # tokens of good replies/s
    objectives: tuple[ObjectiveResult, ...] = ()
    met: bool | None = None  # None: no objective was given
    budgets: tuple[ErrorBudget, ...] = ()  # one for each objective


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
    intervals: Mapping[str, Estimate] = field(default_factory=dict)  # of rates that are a result: by their field's name


@dataclass(frozen=True, slots=True)
class ArrivalFacts:
    """A stream of arrivals by its numbers; None, or missing, where there are too few or the process has none.

    rate in 1/s; cv of the gaps; dispersion: width of the bins ("1s") -> variance over mean of the counts.
    """

    rate: float | None
    cv: float | None
    dispersion: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LengthFacts:
    """Tokens planned and counted of the successful requests of which the server gave a count."""

    n: int
    asked_mean: float
    counted_mean: float
    ratio: float | None  # counted / planned
    exact_share: float  # of the requests: counted as planned


@dataclass(frozen=True, slots=True)
class SharingFacts:
    """Prompt sharing of the whole run: the plan's in an endless prefix cache, and what the server's counters say.

    Shares of prompt tokens. planned: None where it is not known; measured: None without such counters. limited: the
    plan's in a cache of the server's `cache_blocks` blocks, None where it is not known.
    """

    planned: float | None
    measured: float | None
    block_tokens: int | None = None  # that the plan's is reckoned by
    cache_blocks: int | None = None
    limited: float | None = None

    @property
    def expected(self) -> float | None:
        """The plan's in a cache of the server's size, where that is known."""
        return self.planned if self.limited is None else self.limited


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One class (or "all"): what was asked for, what the plan drew, what was sent and counted, over the window.

    asked: of the arrival processes; None where there are none, or they promise nothing. In a session only the first
    request arrives. gap_distance: KS distance of sent gaps from planned ones.
    """

    asked: ArrivalFacts | None
    planned: ArrivalFacts | None
    sent: ArrivalFacts | None
    gap_distance: float | None
    input_tokens: LengthFacts | None
    output_tokens: LengthFacts | None
    sharing: SharingFacts | None = None


@dataclass(frozen=True, slots=True)
class WindowText:
    """The measurement window [start, end) in seconds on the run's clock, and how it was chosen."""

    start_s: float
    end_s: float
    mean_e2e_s: float | None
    p99_e2e_s: float | None
    whole_run: bool
    steady: bool | None


Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ServerSide:
    """What the server, its GPUs and the host told of themselves over the window; None: not told.

    Levels are over all replicas: requests added, the KV cache's usage that of the fullest one. Quantiles are the
    bucket (above, up to) of the server's own histogram in which they lie; the last one has no end.
    """

    replicas: int = 0
    running_mean: float | None = None
    running_max: float | None = None
    waiting_mean: float | None = None
    waiting_max: float | None = None
    kv_usage_mean: float | None = None
    kv_usage_max: float | None = None
    preemptions: float | None = None
    prefix_hit_share: float | None = None
    tokens_per_iteration: float | None = None
    iterations_per_s: float | None = None
    queue_mean_s: float | None = None
    queue_p50_s: Range | None = None
    queue_p99_s: Range | None = None
    prefill_mean_s: float | None = None
    prefill_p50_s: Range | None = None
    prefill_p99_s: Range | None = None
    decode_mean_s: float | None = None
    decode_p50_s: Range | None = None
    decode_p99_s: Range | None = None
    gpus: int = 0
    gpu_utilisation_mean: float | None = None
    gpu_memory_used_share_max: float | None = None
    gpu_power_w_mean: float | None = None  # of all GPUs together
    gpu_throttled_share: float | None = None  # of the samples, of any GPU
    gpu_energy_j: float | None = None
    j_per_output_token: float | None = None
    host_cpu_share_mean: float | None = None
    host_cpu_share_max: float | None = None
    telemetry_cpu_share: float | None = None  # of one core, taken by the sampling itself


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """Sessions of a class, over the whole run but for what is said to be of the window.

    begun: their first request was sent. complete: all their requests ended ok. broken_off: one failed or was given up.
    unfinished: neither, the run ended before. not_sent: requests that never came, as their session was broken off.
    per_s: begun in the window, a second. requests_mean: sent of each that began. e2e_s: from the scheduled time of the
    first request to the last token of the last reply, with all that lies between, of those that began in the window
    and are complete; by "mean", "p50" …
    """

    begun: int
    complete: int
    broken_off: int
    unfinished: int
    not_sent: int
    per_s: float
    requests_mean: float | None
    e2e_s: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class MachineUse:
    """How much of what this machine could offer in its self-test a run used.

    of: what it came nearest to its limit in: "requests/s", "tokens/s" or "requests in flight".
    """

    share: float
    of: str


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
    server: ServerSide | None = None  # None: the server told nothing, and no GPU or host was sampled
    fidelity: Mapping[str, Fidelity] = field(default_factory=dict)
    sessions: Mapping[str, SessionFacts] = field(default_factory=dict)  # classes whose requests follow one another
    machine: MachineUse | None = None  # None: it had no self-test
