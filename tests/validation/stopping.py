"""Runs of the reference engine that stop by a rule: how often a decision is wrong, what intervals cover at the stop.

A run is looked at as `slobench run` looks at it: the rules are those of metrics.decide and experiment.stopping, the
window and the intervals those of metrics.window and metrics.estimate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from slobench.config.until import Decided, Precise, metric_of
from slobench.experiment.stopping import planned_looks
from slobench.metrics.ask import Ask
from slobench.metrics.decide import BATCH_OF_E2E, Series, standing
from slobench.metrics.estimate import latency_table, share, split
from slobench.metrics.looks import Width, half_width
from slobench.metrics.stopped import widened
from slobench.metrics.summary import Estimate
from slobench.metrics.window import choose
from slobench.stats.quantiles import inverted_cdf
from tests.stats.binomial import fewest
from tests.validation.reference import Latencies, run

RULE = Decided()
STOPPED_CLAIM = 0.8  # what 95 % intervals labelled "stopped when precise" cover at least, where most runs are stopped


@dataclass(frozen=True, slots=True)
class Load:
    """One load of the reference engine against one objective; side: where its attainment lies in a long run."""

    name: str
    rate: float
    cv: float  # of the gaps; 1 = Poisson
    objective: float
    side: Literal["above", "at", "below"]
    bound_s: float

    @property
    def wrong(self) -> tuple[str, ...]:
        """Decisions that are wrong; at the objective neither side may be decided more often than alpha."""
        return {"above": ("missed",), "at": ("met", "missed"), "below": ("met",)}[self.side]


LOADS = (
    Load("90 %, Poisson 17/s", 17.0, 1, 0.90, "above", 600),
    Load("90 %, Poisson 20.1/s", 20.1, 1, 0.90, "at", 1200),
    Load("90 %, gamma cv 2 18.6/s", 18.6, 2, 0.90, "at", 1200),
    Load("90 %, Poisson 21.5/s", 21.5, 1, 0.90, "below", 600),
    Load("99 %, Poisson 14/s", 14.0, 1, 0.99, "above", 900),
    Load("99 %, Poisson 18.5/s", 18.5, 1, 0.99, "at", 1200),
    Load("99 %, gamma cv 2 15.4/s", 15.4, 2, 0.99, "at", 1200),
    Load("99 %, Poisson 20.1/s", 20.1, 1, 0.99, "below", 600),
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What one run decided, and after how many seconds of load."""

    decided: str | None
    after_s: float


def decide(load: Load, seed: int) -> Decision:
    """Make one run, its batches sized by its first look; a decision is the same at whichever look it is seen."""
    seen = run(load.rate, load.cv, load.bound_s, seed)
    first = seen.arrival_s + seen.e2e_s < RULE.first_look / 1e9
    batch_s = max(RULE.batch / 1e9, BATCH_OF_E2E * float(seen.e2e_s[first].mean()))
    found = standing(series(seen), load.objective, round(load.rate * batch_s), RULE.alpha)
    return Decision(found.decided, load.bound_s if found.after is None else found.after / load.rate)


def series(seen: Latencies) -> Series:
    """The run as a series of outcomes."""
    warm_s = 2 * float(np.quantile(seen.e2e_s, 0.99, method="inverted_cdf"))
    return Series(seen.good, seen.risk, warming=int(np.sum(seen.arrival_s < warm_s)))


@dataclass(frozen=True, slots=True)
class Watched:
    """A load whose runs stop once they are precise."""

    rate: float
    cv: float
    bound_s: float


WATCHED = {
    "Poisson 12/s": Watched(12.0, 1, 1200),
    "gamma cv 2 12/s": Watched(12.0, 2, 1200),
    "Poisson 18.5/s": Watched(18.5, 1, 1200),
}
ASKED = Precise(
    within={
        **dict.fromkeys(("ttft:p90", "tpot:p50", "e2e:p50", "attainment"), 0.05),
        **dict.fromkeys(("ttft:p99", "tpot:p99"), 0.1),
    }
)
"""What each run is watched for, one metric after another; percentiles of the far tail need long to 5 %."""


@dataclass(frozen=True, slots=True)
class Look:
    """A look at `at_s`: what it found of the settled requests, and what the report would find if it ended the run."""

    at_s: float
    settled_s: float
    found: Mapping[str, Estimate]
    reported: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Run:
    """One watched run: its looks at a window that is long enough, and its values after a minute."""

    looks: tuple[Look, ...]
    values: Mapping[str, np.ndarray]


def watched(load: Watched, seed: int) -> Run:
    """Make one run and look at it at the planned times."""
    seen = run(load.rate, load.cv, load.bound_s, seed)
    looks = []
    for at_s in (*planned_looks(ASKED, load.bound_s), load.bound_s):
        found, reported = estimates(seen, settled_s(seen, at_s)), estimates(seen, at_s)
        if found is not None and reported is not None:
            looks.append(Look(at_s, settled_s(seen, at_s), found, reported))
    late = seen.arrival_s >= 60
    return Run(tuple(looks), {name: values(seen, name)[late].astype(np.float32) for name in ASKED.within})


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often intervals of one metric hold the truth.

    at_stop: as reported at the look that stopped the run; narrow: without the widening; fixed: in runs of the median
    length that nothing stopped. stopped: share of runs that a look stopped before the bound.
    """

    metric: str
    stopped: float
    median_s: float
    at_stop: float
    narrow: float
    fixed: float


def coverage(runs: Sequence[Run]) -> Iterator[Coverage]:
    """Of each metric, in the runs that were stopped; the truth is the value pooled over all runs."""
    for name, wanted in ASKED.within.items():
        pooled = np.concatenate([each.values[name] for each in runs]).astype(np.float64)
        quantile = metric_of(name)[1]
        truth = float(pooled.mean()) if quantile is None else inverted_cdf(pooled[~np.isnan(pooled)], quantile)
        stops = [stop for each in runs if (stop := stopped(each, name, wanted)) is not None]
        if not stops:
            continue
        median_s = float(np.median([look.at_s for look, _ in stops]))
        at_median = [look for each in runs for look in each.looks if look.at_s == nearest(each, median_s)]
        yield Coverage(
            name,
            len(stops) / len(runs),
            median_s,
            float(np.mean([holds(reported, truth) for _, reported in stops])),
            float(np.mean([holds(look.reported[name], truth) for look, _ in stops])),
            float(np.mean([holds(look.reported[name], truth) for look in at_median])),
        )


def refuted_coverage(found: Sequence[Coverage], runs: int) -> list[Coverage]:
    """Metrics whose intervals hold the truth too seldom (0.1 % point) in the runs they stopped, if those are half."""
    return [
        each
        for each in found
        if each.stopped >= 0.5
        and round(each.at_stop * each.stopped * runs) < fewest(round(each.stopped * runs), STOPPED_CLAIM)
    ]


def stopped(one: Run, name: str, wanted: float) -> tuple[Look, Estimate] | None:
    """Return the look that stops a run for one metric, and what the report then says; None: its bound ends it."""
    spread = 0.0
    for look in one.looks[:-1]:
        half = half_width(look.found[name])
        if half is None:
            continue
        if Width(name, look.found[name], half, wanted).spread_counts:
            spread = max(spread, half * look.settled_s**0.5)
        if half <= wanted:
            return look, widened(look.reported[name], spread, look.at_s, share=name == "attainment")
    return None


def nearest(one: Run, at_s: float) -> float:
    """The time of the look next to `at_s`."""
    return min((look.at_s for look in one.looks), key=lambda each: abs(each - at_s))


def holds(seen: Estimate, truth: float) -> bool:
    """Whether the interval holds the truth; one that does not exist does not."""
    return seen.low is not None and seen.high is not None and seen.low <= truth <= seen.high


def settled_s(seen: Latencies, at_s: float) -> float:
    """The time before which every request has ended, as a look at `at_s` finds it."""
    open_then = (seen.arrival_s < at_s) & (seen.arrival_s + seen.e2e_s > at_s)
    return min(float(np.min(seen.arrival_s[open_then], initial=np.inf)), at_s)


def estimates(seen: Latencies, until_s: float) -> dict[str, Estimate] | None:
    """Estimate every metric over the window of a run that ended at `until_s`; None where it is too short."""
    known = seen.arrival_s < until_s
    n = int(known.sum())
    requests = {"scheduled_ns": seen.arrival_s[known] * 1e9, "outcome": np.full(n, "ok"), "session": np.arange(n)}
    ask = Ask(duration_s=until_s)
    window = choose(requests, seen.e2e_s[known], ask)
    if window.whole_run or window.lengths_of_e2e() < ask.thresholds.v08_window_of_e2e:
        return None
    main = window.holds(seen.arrival_s)
    windows = split(window.batch(seen.arrival_s), window.lengths_of_e2e())
    inside = replace(windows, of=windows.of[main])
    out = {}
    for name in ASKED.within:
        quantile = metric_of(name)[1]
        if quantile is None:
            out[name] = share(seen.good, main, windows, seen.risk)
        else:
            out[name] = latency_table(values(seen, name)[main], inside, {name: quantile}).get(name, Estimate(None))
    return out


def values(seen: Latencies, name: str) -> np.ndarray:
    """One value per request of the metric that `name` is a quantile or a share of."""
    metric, quantile = metric_of(name)
    return np.asarray(seen.good if quantile is None else getattr(seen, f"{metric}_s"), dtype=np.float64)
