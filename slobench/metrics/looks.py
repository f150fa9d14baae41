"""One look at a run that is still going: what of it is settled, how narrow its intervals are, what is decided."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from slobench.config.clause import Objective, format_limit
from slobench.config.slo import Slo
from slobench.config.until import ATTAINMENT, Decided, Precise, metric_of
from slobench.metrics import window
from slobench.metrics.ask import Ask
from slobench.metrics.columns import FAILED, BoolArray, is_ok, outcome_in, seconds
from slobench.metrics.decide import BATCH_OF_E2E, Decision, Series, Standing, standing
from slobench.metrics.estimate import Windows, latency_table, share, split
from slobench.metrics.latency import derive
from slobench.metrics.slo import has_limits, judge
from slobench.metrics.stopped import is_rare
from slobench.metrics.summary import Estimate
from slobench.names import Outcome
from slobench.records.schema import Columns, Records
from slobench.stats.quantiles import FloatArray

ENOUGH_TO_SIZE = 20  # replies whose mean E2E may set the length of a batch
NOT_ENDED = frozenset({Outcome.LOST, Outcome.UNSENT})
_UNFLUSHED_S = 2.0  # starts of a closed loop that no file shows yet


def settled(records: Records, at_s: float) -> tuple[Records, float]:
    """(the requests scheduled before the first one that has not ended yet, that time in s on the run's clock).

    at_s: the time of the look. Later ones are left out whether they have ended or not: the quick ones would be there
    and the slow ones not.
    """
    requests = records.requests
    due = seconds(requests, "scheduled_ns")
    waiting = outcome_in(requests, NOT_ENDED) & ~np.isnan(due)
    until = min(float(np.min(due[waiting], initial=np.inf)), at_s - _UNFLUSHED_S)
    keep = due < until
    chunks = records.chunks
    mine = np.isin(chunks["index"], requests["index"][keep])
    return (
        replace(
            records,
            requests={name: column[keep] for name, column in requests.items()},
            chunks={name: column[mine] for name, column in chunks.items()},
        ),
        until,
    )


@dataclass(frozen=True, slots=True)
class Width:
    """How sure a metric is: half_width is that of its 95 % interval over its value, None where it has no interval."""

    metric: str
    seen: Estimate
    half_width: float | None
    wanted: float

    @property
    def spread_counts(self) -> bool:
        """Whether later intervals may be held against this one: not where a share had too few misses for it."""
        return self.half_width is not None and not (self.metric == ATTAINMENT and is_rare(self.seen))

    @property
    def reached(self) -> bool:
        """Whether the interval is as narrow as was asked."""
        return self.half_width is not None and self.half_width <= self.wanted


@dataclass(frozen=True, slots=True)
class Narrowness:
    """Every metric that a run is to be sure of, over the window that it would have if it ended here.

    long: the window is as long as a run needs to be (docs/metrics.md, V08).
    """

    widths: tuple[Width, ...]
    long: bool

    @property
    def reached(self) -> bool:
        """Whether the run may stop."""
        return self.long and all(width.reached for width in self.widths)


def narrowness(records: Records, slo: Slo, ask: Ask, rule: Precise) -> Narrowness:
    """Estimate the metrics of `rule` on settled records; ask.duration_s is the time until which they are settled."""
    requests = records.requests
    derived = derive(requests, records.chunks)
    chosen = window.choose(requests, derived["e2e_s"], ask)
    inside = chosen.holds(seconds(requests, "scheduled_ns"))
    windows = split(chosen.batch(seconds(requests, "scheduled_ns")), chosen.lengths_of_e2e())
    judged = judge(requests, derived, records.chunks, slo)
    ok = inside & is_ok(requests)
    widths = []
    for name, wanted in rule.within.items():
        metric, quantile = metric_of(name)
        if metric == ATTAINMENT and not has_limits(slo):
            continue  # one of the default metrics, but nothing that a request could miss
        if metric == ATTAINMENT:
            seen = share(judged.met == 1, inside & ~np.isnan(judged.met), windows, judged.margin)
        else:
            table = latency_table(derived[f"{metric}_s"][ok], _of(windows, ok), {name: quantile or 0.5})
            seen = table.get(name, Estimate(None))
        widths.append(Width(name, seen, half_width(seen), wanted))
    long = not chosen.whole_run and chosen.lengths_of_e2e() >= ask.thresholds.v08_window_of_e2e
    return Narrowness(tuple(widths), long)


def _of(windows: Windows, chosen: BoolArray) -> Windows:
    return replace(windows, of=windows.of[chosen])


def half_width(seen: Estimate) -> float | None:
    """Half-width of an interval over its value; None where there is none."""
    if seen.value is None or seen.low is None or seen.high is None or not 0 < seen.value < math.inf:
        return None
    return (seen.high - seen.low) / 2 / seen.value


@dataclass(frozen=True, slots=True)
class Asked:
    """One objective of one class ("all": of all of them together)."""

    name: str
    objective: Objective

    @property
    def text(self) -> str:
        """`class=chat attainment>=99%`."""
        return f"class={self.name} {format_limit(self.objective)}" if self.name != "all" else self.share_text

    @property
    def share_text(self) -> str:
        """`attainment>=99%`."""
        return format_limit(self.objective)

    @property
    def bound(self) -> float:
        """The share of requests that must be good."""
        match self.objective.metric:
            case "attainment" | "availability":
                return self.objective.bound
            case "error_rate":
                return 1 - self.objective.bound
        return self.objective.quantile or 0.0


def objectives_of(slo: Slo, class_names: tuple[str, ...]) -> tuple[Asked, ...]:
    """List what must be decided: the common objectives over all requests, and each class's own."""
    every = [Asked("all", objective) for objective in slo.common.objectives]
    if len(class_names) > 1:
        every += [Asked(name, objective) for name in class_names for objective in slo.for_class(name).objectives]
    else:
        own = slo.for_class(class_names[0]).objectives
        every += [Asked("all", objective) for objective in own if objective not in slo.common.objectives]
    return tuple(every)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All objectives at one look. sizes: requests in a batch of each, fixed at the first look that could."""

    standings: Mapping[str, Standing]
    sizes: Mapping[str, int]

    @property
    def decision(self) -> Decision | None:
        """Missed where one objective is; met where all are."""
        decided = [each.decided for each in self.standings.values()]
        if "missed" in decided:
            return "missed"
        return "met" if decided and all(each == "met" for each in decided) else None


def verdict(
    records: Records, slo: Slo, ask: Ask, rule: Decided, class_names: tuple[str, ...], sizes: Mapping[str, int]
) -> Verdict:
    """Decide what can be decided on settled records; the chance of any wrong decision is at most rule.alpha.

    sizes: of an earlier look, {} at the first. alpha is shared out evenly (Bonferroni).
    """
    requests = records.requests
    derived = derive(requests, records.chunks)
    asked = objectives_of(slo, class_names)
    e2e = derived["e2e_s"][~np.isnan(derived["e2e_s"])]
    if len(e2e) < ENOUGH_TO_SIZE or not ask.duration_s:
        return Verdict({}, sizes)
    at_s = seconds(requests, "scheduled_ns")
    order = np.argsort(at_s, kind="stable")
    batch_s = max(rule.batch / 1e9, BATCH_OF_E2E * float(e2e.mean()))
    warm_s = max(ask.warmup_s, 2 * float(np.quantile(e2e, 0.99, method="inverted_cdf")))
    standings, fixed = {}, dict(sizes)
    for each, counted, good, risk in _series(records, derived, slo, asked):
        rows = order[(counted & (at_s >= ask.warmup_s))[order]]
        rate = len(rows) / (ask.duration_s - ask.warmup_s)
        size = fixed.setdefault(each.text, max(1, round(rate * batch_s)))
        series = Series(good[rows], risk[rows], warming=int(np.sum(at_s[rows] < warm_s)))
        standings[each.text] = standing(series, each.bound, size, rule.alpha / len(asked))
    return Verdict(standings, fixed)


def _series(
    records: Records, derived: Columns, slo: Slo, asked: tuple[Asked, ...]
) -> Iterator[tuple[Asked, BoolArray, BoolArray, FloatArray]]:
    """(objective, requests that count, which are good, how close each came to a miss)."""
    requests = records.requests
    judged = judge(requests, derived, records.chunks, slo)
    failed = outcome_in(requests, FAILED)
    ended = failed | is_ok(requests)
    for each in asked:
        mine = np.ones(len(ended), dtype=np.bool_) if each.name == "all" else requests["class"] == each.name
        metric = each.objective.metric
        if metric == ATTAINMENT:
            yield each, mine & ~np.isnan(judged.met), judged.met == 1, np.nan_to_num(judged.margin, posinf=np.inf)
        elif metric in {"availability", "error_rate"}:
            # Failures come with slowness: how slow replies hang together is how failures would.
            yield each, mine & ended, ~failed, np.where(failed, np.inf, np.nan_to_num(derived["e2e_s"]))
        else:
            value = np.where(failed, np.inf, derived[f"{metric}_s"])
            counted = mine & ended & ~np.isnan(value)
            yield each, counted, value <= each.objective.bound, value / each.objective.bound
