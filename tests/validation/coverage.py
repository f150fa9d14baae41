"""How often the product's 95 % intervals hold the truth, on runs of the reference engine.

A run is what `slobench run` would have recorded over ten windows of 30 mean E2E: the window is chosen by
metrics.window, estimates and intervals are made by metrics.estimate. The truth for one run is the estimate pooled
over all other runs of its cell, which is independent of that run and has 1/sqrt(runs) of its error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

from slobench.metrics.ask import Ask
from slobench.metrics.estimate import latency_table, share, split
from slobench.metrics.summary import Estimate
from slobench.metrics.window import Window, choose
from slobench.stats.jackknife import Grouped
from tests.validation.reference import Latencies, run

CLAIM = 0.88  # docs/metrics.md, Intervals: what a 95 % interval without a label covers at least
CHANCE = 0.001  # of refuting a claim that just holds
GRACE_S = 30.0  # drain.grace
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
LATENCIES = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, slots=True)
class Cell:
    """One load of the reference engine; mean and p99 E2E set how long its runs are."""

    name: str
    rate: float
    cv: float  # of the gaps; 1 = Poisson
    mean_e2e_s: float
    p99_e2e_s: float

    @property
    def duration_s(self) -> float:
        """Warm-up of 2 x p99 E2E and ten windows of 30 mean E2E."""
        return 2 * self.p99_e2e_s + 300 * self.mean_e2e_s


CELLS = (
    Cell("Poisson, 60 % load", 12.0, 1, 2.47, 11.3),
    Cell("Poisson, knee of 99 %", 18.5, 1, 4.36, 19.9),
    Cell("Poisson, knee of 90 %", 20.1, 1, 5.34, 24.5),
    Cell("gamma cv 2, 60 % load", 12.0, 2, 2.59, 11.8),
    Cell("gamma cv 2, knee of 99 %", 15.4, 2, 3.42, 15.6),
    Cell("gamma cv 2, knee of 90 %", 18.6, 2, 4.80, 22.0),
)
PARTS = {"30": 1.0, "10": 1 / 3, "3": 1 / 10}  # mean E2E in one of the ten windows -> share of the run's window


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: estimates by length of window ("30") and name ("ttft p99"), and the values of its full window."""

    estimates: Mapping[str, Mapping[str, Estimate]]
    good: np.ndarray
    values: Mapping[str, np.ndarray]  # float32 s, without NaN


def simulate(cell: Cell, seed: int) -> Latencies:
    """One run, with the load that goes on after its window."""
    return run(cell.rate, cell.cv, cell.duration_s + min(2 * cell.p99_e2e_s, GRACE_S), seed)


def measure(cell: Cell, seen: Latencies) -> Measured:
    """Estimate as the product does."""
    n = len(seen.arrival_s)
    requests = {"scheduled_ns": seen.arrival_s * 1e9, "outcome": np.full(n, "ok"), "session": np.arange(n)}
    window = choose(requests, seen.e2e_s, Ask(duration_s=cell.duration_s))
    main = window.holds(seen.arrival_s)
    return Measured(
        {length: estimates(seen, shortened(window, part)) for length, part in PARTS.items()},
        seen.good[main],
        {name: values(seen, name)[main & ~np.isnan(values(seen, name))].astype(np.float32) for name in LATENCIES},
    )


def shortened(window: Window, part: float) -> Window:
    """The first part of a window."""
    end_s = window.start_s + part * window.length_s
    return Window(window.start_s, end_s, window.mean_e2e_s, window.p99_e2e_s, window.warmup_s, whole_run=False)


def estimates(seen: Latencies, window: Window) -> dict[str, Estimate]:
    """Attainment and latencies of the window, by name."""
    main = window.holds(seen.arrival_s)
    windows = split(window.batch(seen.arrival_s[main]), window.lengths_of_e2e())
    every = np.ones(int(main.sum()), dtype=np.bool_)
    found = {"attainment": share(seen.good[main], every, windows, seen.risk[main])}
    for name in LATENCIES:
        table = latency_table(values(seen, name)[main], windows, QUANTILES)
        found |= {f"{name} {key}": estimate for key, estimate in table.items() if key not in {"min", "max"}}
    return found


def values(seen: Latencies, name: str) -> np.ndarray:
    """One latency in s, by name."""
    return getattr(seen, f"{name}_s")


def truths(runs: list[Measured]) -> dict[str, np.ndarray]:
    """For each quantity and run, the value pooled over all other runs."""
    hits, sizes = (np.array([float(f(one.good)) for one in runs]) for f in (np.sum, len))
    found = {"attainment": (hits.sum() - hits) / (sizes.sum() - sizes)}
    for name in LATENCIES:
        each = [one.values[name] for one in runs]
        pooled = Grouped.sort(np.concatenate(each), np.repeat(np.arange(len(runs)), [len(x) for x in each]), len(runs))
        for key, q in QUANTILES.items():
            found[f"{name} {key}"] = pooled.quantile_without_each(q)
        sums = np.array([float(np.sum(x, dtype=np.float64)) for x in each])
        found[f"{name} mean"] = (sums.sum() - sums) / (pooled.sizes.sum() - pooled.sizes)
    return found


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many of the runs' intervals held the truth."""

    quantity: str
    length: str  # of a window, in mean E2E
    covered: int
    runs: int
    below: int  # truth under the interval
    above: int
    truth: float
    half_width: float  # median, relative for latencies, absolute for shares
    n_eff: float | None  # median
    without: int  # runs that gave no interval; they count as not covered

    @property
    def share(self) -> float:
        """Share of runs."""
        return self.covered / self.runs

    @property
    def refuted(self) -> bool:
        """The claim would give so few with a chance of at most CHANCE."""
        return self.covered < least_covered(self.runs)

    @property
    def claimed(self) -> bool:
        """Neither optimistic (short windows) nor approximate (TPOT p99) nor thin (p99.9)."""
        return self.length == "30" and not self.label

    @property
    def label(self) -> str:
        """What the product writes beside such an estimate, however long the windows."""
        return {"tpot p99": "approximate"}.get(self.quantity, "thin" if self.quantity.endswith("p99.9") else "")


def least_covered(runs: int, claim: float = CLAIM) -> int:
    """Of so many runs, the fewest that must be covered where the claim holds, but for one case in 1/CHANCE."""
    return next(k for k in range(runs + 1) if bdtr(k, runs, claim) > CHANCE)


def coverage(runs: list[Measured]) -> Iterator[Coverage]:
    """Count, for each length and quantity."""
    truth = truths(runs)
    for length in PARTS:
        for quantity, true in truth.items():
            yield counted(quantity, length, [one.estimates[length][quantity] for one in runs], true)


def counted(quantity: str, length: str, seen: list[Estimate], truth: np.ndarray) -> Coverage:
    """Compare each interval with its truth."""
    low = np.array([np.nan if one.low is None else one.low for one in seen])
    high = np.array([np.nan if one.high is None else one.high for one in seen])
    scale = 1.0 if quantity == "attainment" else float(truth.mean())
    sizes = [one.n_eff for one in seen if one.n_eff is not None]
    return Coverage(
        quantity=quantity,
        length=length,
        covered=int(np.sum((low <= truth) & (truth <= high))),
        runs=len(seen),
        below=int(np.sum(truth < low)),
        above=int(np.sum(truth > high)),
        truth=float(truth.mean()),
        half_width=float(np.nanmedian(high - low)) / 2 / scale,
        n_eff=float(np.median(sizes)) if sizes else None,
        without=int(np.sum(np.isnan(low))),
    )
