"""Runs of the reference engine that stop by a rule: how often a decision is wrong, what intervals cover at the stop.

A run is looked at as `slobench run` looks at it: the rules are those of metrics.decide and experiment.stopping, the
window and the intervals those of metrics.window and metrics.estimate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from slobench.config.until import Decided, Precise, metric_of
from slobench.experiment.stopping import planned_looks
from slobench.metrics.ask import Ask
from slobench.metrics.decide import BATCH_OF_E2E, Series, standing
from slobench.metrics.estimate import latency_table, share, split
from slobench.metrics.summary import Estimate
from slobench.metrics.window import choose
from tests.validation.reference import Latencies, run

RULE = Decided()


@dataclass(frozen=True, slots=True)
class Load:
    """One load of the reference engine: its attainment in a long run, and how long its runs may get."""

    rate: float
    cv: float
    attainment: float
    mean_e2e_s: float
    p99_e2e_s: float
    bound_s: float


def decisions(load: Load, objective: float, runs: int) -> Counter[str | None]:
    """What was decided in so many runs of `load`: "met", "missed" or None."""
    return Counter(decide(run(load.rate, load.cv, load.bound_s, seed), load, objective) for seed in range(runs))


def decide(seen: Latencies, load: Load, objective: float) -> str | None:
    """One run, its batches sized by its first look; a decision holds at whichever look it is seen."""
    first = seen.arrival_s + seen.e2e_s < RULE.first_look / 1e9
    batch_s = max(RULE.batch / 1e9, BATCH_OF_E2E * float(seen.e2e_s[first].mean()))
    size = round(load.rate * batch_s)
    return standing(series(seen), objective, size, RULE.alpha).decided


def series(seen: Latencies) -> Series:
    """The run as a series of outcomes."""
    warm_s = 2 * float(np.quantile(seen.e2e_s, 0.99, method="inverted_cdf"))
    return Series(seen.good, seen.risk, warming=int(np.sum(seen.arrival_s < warm_s)))


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a run stopped by precision: when, at which look, with which estimates; stopped False at its bound."""

    at_s: float
    look: int
    stopped: bool
    estimates: Mapping[str, Estimate]


def until_precise(seen: Latencies, rule: Precise, bound_s: float) -> Stop:
    """Look at a run at the planned times until it is precise enough; the estimates are those of its report."""
    looks = planned_looks(rule, bound_s)
    for number, at_s in enumerate(looks, 1):
        found = estimates(seen, settled_s(seen, at_s), rule)
        if found is not None and all(width(found[name]) <= wanted for name, wanted in rule.within.items()):
            final = estimates(seen, at_s, rule)
            return Stop(at_s, number, True, final if final is not None else found)
    return Stop(bound_s, len(looks), False, estimates(seen, bound_s, rule) or {})


def settled_s(seen: Latencies, at_s: float) -> float:
    """The time before which every request has ended, as a look at `at_s` finds it."""
    open_then = (seen.arrival_s < at_s) & (seen.arrival_s + seen.e2e_s > at_s)
    return min(float(np.min(seen.arrival_s[open_then], initial=np.inf)), at_s)


def estimates(seen: Latencies, until_s: float, rule: Precise) -> dict[str, Estimate] | None:
    """Estimate the metrics of the rule over the window of a run that ended at `until_s`; None where it is too short."""
    known = seen.arrival_s < until_s
    requests = {"scheduled_ns": seen.arrival_s[known] * 1e9, "outcome": np.full(int(known.sum()), "ok")}
    ask = Ask(duration_s=until_s)
    window = choose({**requests, "session": np.arange(int(known.sum()))}, seen.e2e_s[known], ask)
    if window.whole_run or window.lengths_of_e2e() < ask.thresholds.v08_window_of_e2e:
        return None
    main = window.holds(seen.arrival_s)
    windows = split(window.batch(seen.arrival_s), window.lengths_of_e2e())
    return dict(_estimates(seen, main, windows, rule))


def _estimates(seen: Latencies, main: np.ndarray, windows, rule: Precise) -> Iterator[tuple[str, Estimate]]:
    inside = replace(windows, of=windows.of[main])
    for name in rule.within:
        metric, quantile = metric_of(name)
        if quantile is None:
            yield name, share(seen.good, main, windows, seen.risk)
        else:
            values = getattr(seen, f"{metric}_s")[main]
            yield name, latency_table(values, inside, {name: quantile})[name]


def width(seen: Estimate) -> float:
    """Half-width of an interval over its value, +inf where there is none."""
    if seen.value is None or seen.low is None or seen.high is None:
        return np.inf
    return (seen.high - seen.low) / 2 / seen.value
