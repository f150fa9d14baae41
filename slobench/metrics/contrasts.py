"""The contrasts of two sets of runs: latencies, attainment and rates, class by class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from slobench.metrics.arm import ALL, Arm, Requests, common, same_plan
from slobench.metrics.columns import BoolArray, IntArray
from slobench.metrics.contrast import FEWEST, Change, Leaves, Unit, by_pairs, by_runs, by_windows, change, of_intervals
from slobench.metrics.estimate import FEW_MISSES, LONG_IN_E2E, Windows, share, table_of
from slobench.metrics.quantities import Quantity
from slobench.metrics.summary import Estimate
from slobench.metrics.window import BATCHES
from slobench.stats.intervals import student_interval
from slobench.stats.jackknife import Grouped
from slobench.stats.quantiles import FloatArray

Kind = Literal["latency", "share", "rate"]
STEEP = 12.0
"""Change of the log odds of being good with ln of a latency. Near the knee the odds fall with the load to the power of
about 25 (docs/capacity.md), and there a latency grows with the load to the power of about two."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """One quantity of one class on both sides. change: of ln(value), or of the share where kind says so."""

    of_class: str
    key: str
    kind: Kind
    base: Estimate
    new: Estimate
    change: Change


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The runs of one side, restricted to what is compared; windows of each run are numbered on."""

    runs: tuple[Requests, ...]
    lengths_s: tuple[float, ...]
    parts: tuple[IntArray, ...]
    optimistic: bool

    def of(self, name: str) -> Side:
        """Return the same of one class."""
        if name == ALL:
            return self
        kept = [one.of_class == name for one in self.runs]
        runs = tuple(one.take(rows) for one, rows in zip(self.runs, kept, strict=True))
        parts = tuple(part[rows] for part, rows in zip(self.parts, kept, strict=True))
        return Side(runs, self.lengths_s, parts, self.optimistic)

    def windows(self, rows: Sequence[BoolArray]) -> Windows:
        """Windows of the chosen rows of all runs."""
        chosen = [part[keep] + BATCHES * k for k, (part, keep) in enumerate(zip(self.parts, rows, strict=True))]
        return Windows(np.concatenate(chosen), BATCHES * len(self.runs), self.optimistic)


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Both sides, and what was counted as independent. paired: run k of both, and its windows, were offered the same
    requests at the same times. noise: sd assumed for ln(new/base) of a latency from one pair of runs to the next,
    where windows are the unit and cannot show it.
    """

    base: Side
    new: Side
    unit: Unit
    paired: bool
    noise: float = 0.0


def sides_of(base: Sequence[Arm], new: Sequence[Arm], run_noise: float = 0.0) -> Sides:
    """Pair runs of one plan where there are any, and choose the unit: pairs, runs, or windows where runs are few."""
    partners = [] if any(arm.closed for arm in (*base, *new)) else list(_partners(base, new))
    if partners:
        ours, theirs = zip(*(_restricted(*pair) for pair in partners), strict=True)
        unit: Unit = "pairs" if len(partners) >= FEWEST else "windows"
        return Sides(_joined(ours), _joined(theirs), unit, paired=True, noise=run_noise / math.sqrt(len(partners)))
    few = min(len(base), len(new)) < FEWEST
    whole = [_joined([_whole(arm) for arm in side]) for side in (base, new)]
    noise = run_noise / math.sqrt(min(len(base), len(new)))
    return Sides(whole[0], whole[1], "windows" if few else "runs", paired=False, noise=noise)


_Cut = tuple[Requests, tuple[float, float], float | None]


def _partners(base: Sequence[Arm], new: Sequence[Arm]) -> Iterator[tuple[Arm, Arm]]:
    left = list(new)
    for arm in base:
        partner = next((other for other in left if same_plan(arm, other)), None)
        if partner is not None:
            left.remove(partner)
            yield arm, partner


def _restricted(base: Arm, new: Arm) -> tuple[_Cut, _Cut]:
    ours, theirs = common(base.requests, new.requests)
    window = (max(base.window_s[0], new.window_s[0]), min(base.window_s[1], new.window_s[1]))
    return (ours, window, base.mean_e2e_s), (theirs, window, new.mean_e2e_s)


def _whole(arm: Arm) -> _Cut:
    return arm.requests, arm.window_s, arm.mean_e2e_s


def _joined(cuts: Sequence[_Cut]) -> Side:
    lengths = [end - start for _, (start, end), _ in cuts]
    parts = []
    for (requests, (start, _), _), length in zip(cuts, lengths, strict=True):
        where = (requests.at_s - start) / length * BATCHES if length > 0 else np.zeros(len(requests.at_s))
        parts.append(np.clip(np.nan_to_num(where), 0, BATCHES - 1).astype(np.int64))
    short = [
        mean is None or length < BATCHES * LONG_IN_E2E * mean for length, (*_, mean) in zip(lengths, cuts, strict=True)
    ]
    return Side(tuple(cut[0] for cut in cuts), tuple(lengths), tuple(parts), any(short))


def contrasts(base: Sequence[Arm], new: Sequence[Arm], shown: Sequence[Quantity], sides: Sides) -> Iterator[Contrast]:
    """Contrast every quantity of every class; those that either side lacks are left out."""
    classes = tuple(name for name in sides.base.runs[0].classes if name in sides.new.runs[0].classes)
    for name in classes:
        of = replace(sides, base=sides.base.of(name), new=sides.new.of(name))
        for found in (_attainment(of, name), _goodput(of, name), *(_latency(of, name, each) for each in shown)):
            if found is not None:
                yield found
    if sides.paired and sides.unit == "windows":
        return  # the plan decides the rates of an open loop, and their intervals would not see that it is the same
    for key in ("output_tokens", "finished"):
        rates = [[arm.rates.get(key) for arm in side] for side in (base, new)]
        found = _rate(key, rates[0], rates[1], sides)
        if found is not None:
            yield found


def _latency(sides: Sides, name: str, each: Quantity) -> Contrast | None:
    if not all(each.metric in one.seconds for side in (sides.base, sides.new) for one in side.runs):
        return None
    if sides.unit != "windows":
        logs = [np.array([each.log(one) for one in side.runs]) for side in (sides.base, sides.new)]
        return _over_runs(sides, name, each.key, "latency", logs)
    grouped = [_grouped(side, each) for side in (sides.base, sides.new)]
    if any(one is None for one in grouped):
        return None
    leaves = [_leaves(one, each) for one in grouped if one is not None]
    if not all(one.usable for one in leaves):
        return None
    table = {} if each.q is None else {each.statistic: each.q}
    estimates = [
        table_of(one, table, optimistic=side.optimistic)
        for one, side in zip([g for g in grouped if g], (sides.base, sides.new), strict=True)
    ]
    made = by_windows(leaves[0], leaves[1], paired=sides.paired, noise=sides.noise)
    ours, theirs = (one[each.statistic] for one in estimates)
    return Contrast(name, each.key, "latency", ours, theirs, made)


def _grouped(side: Side, each: Quantity) -> Grouped | None:
    rows = [one.ok & ~np.isnan(one.seconds[each.metric]) for one in side.runs]
    values = np.concatenate([one.seconds[each.metric][keep] for one, keep in zip(side.runs, rows, strict=True)])
    windows = side.windows(rows)
    if len(values) < 2 * windows.count:
        return None
    grouped = Grouped.sort(values, windows.of, windows.count)
    return None if np.any(grouped.sizes == 0) else grouped


def _leaves(grouped: Grouped, each: Quantity) -> Leaves:
    with np.errstate(divide="ignore"):
        if each.q is not None:
            return Leaves(float(np.log(grouped.quantile(each.q))), np.log(grouped.quantile_without_each(each.q)))
        sums = grouped.sums
        whole = sums.sum() / len(grouped.values)
        return Leaves(float(np.log(whole)), np.log((sums.sum() - sums) / (len(grouped.values) - grouped.sizes)))


def _attainment(sides: Sides, name: str) -> Contrast | None:
    judged = [[~np.isnan(one.good) for one in side.runs] for side in (sides.base, sides.new)]
    if not all(rows.any() for side in judged for rows in side):
        return None
    both = (sides.base, sides.new)
    if sides.unit != "windows":
        shares = [np.array([float(np.nanmean(one.good)) for one in side.runs]) for side in both]
        return _over_runs(sides, name, "attainment", "share", shares)
    estimates, leaves, misses = [], [], []
    for side, rows in zip(both, judged, strict=True):
        good = np.concatenate([one.good[keep] for one, keep in zip(side.runs, rows, strict=True)]) == 1
        windows = side.windows(rows)
        estimates.append(share(good, np.ones(len(good), np.bool_), windows, _risk(side, rows)))
        hits = np.bincount(windows.of[good], minlength=windows.count)
        sizes = np.bincount(windows.of, minlength=windows.count)
        rest = len(good) - sizes
        leaves.append(Leaves(float(good.mean()), (good.sum() - hits) / np.where(rest > 0, rest, np.nan)))
        misses.append(int(np.sum(~good)))
    noise = STEEP * sides.noise * _spread(leaves)
    if min(misses) >= FEW_MISSES and all(one.usable for one in leaves):
        made = by_windows(leaves[0], leaves[1], paired=sides.paired, noise=noise)
    else:
        spans = [_span(each) for each in estimates]
        if spans[0] is None or spans[1] is None:
            return None
        k = BATCHES * min(len(side.runs) for side in both)
        made = of_intervals(spans[0], spans[1], k, noise=noise)
    return Contrast(name, "attainment", "share", estimates[0], estimates[1], made)


def _span(seen: Estimate) -> tuple[float, float, float] | None:
    """(value, low, high), where there is an interval."""
    if seen.value is None or seen.low is None or seen.high is None:
        return None
    return seen.value, seen.low, seen.high


def _risk(side: Side, rows: Sequence[BoolArray]) -> FloatArray:
    """How close each judged request came to a miss: what shows the dependence of misses that are few."""
    metric = "e2e" if "e2e" in side.runs[0].seconds else "e2e_sent"
    return np.concatenate([one.seconds[metric][keep] for one, keep in zip(side.runs, rows, strict=True)])


def _spread(leaves: Sequence[Leaves]) -> float:
    """The larger p(1 - p) of two shares."""
    return max(one.value * (1 - one.value) for one in leaves)


def _goodput(sides: Sides, name: str) -> Contrast | None:
    """Good requests a second."""
    both = (sides.base, sides.new)
    if any(np.all(np.isnan(one.good)) or not np.any(one.good == 1) for side in both for one in side.runs):
        return None
    if sides.unit != "windows":
        logs = [
            np.log([float(np.sum(one.good == 1)) / s for one, s in zip(side.runs, side.lengths_s, strict=True)])
            for side in both
        ]
        return _over_runs(sides, name, "goodput", "rate", logs)
    leaves, estimates = [], []
    for side in both:
        windows = side.windows([one.good == 1 for one in side.runs])
        counts = np.bincount(windows.of, minlength=windows.count).astype(np.float64)
        length = sum(side.lengths_s)
        if np.any(counts.sum() == counts):
            return None
        k = windows.count
        leaf = Leaves(math.log(counts.sum() / length), np.log((counts.sum() - counts) / (length * (k - 1) / k)))
        leaves.append(leaf)
        estimates.append(_on_log(leaf.value, by_windows(leaf, leaf, paired=False), int(counts.sum()), side.optimistic))
    missed = max(float(np.nanmean(one.good == 0)) for side in both for one in side.runs)
    noise = sides.noise * min(1.0, STEEP * missed)
    made = by_windows(leaves[0], leaves[1], paired=sides.paired, noise=noise)
    return Contrast(name, "goodput", "rate", estimates[0], estimates[1], made)


def _on_log(value: float, twice: Change, n: int, optimistic: bool) -> Estimate:  # noqa: FBT001
    """Make an estimate of a logarithm; `twice`: its contrast with itself, whose error is root two times its own."""
    half = (twice.high - twice.value) / math.sqrt(2)
    note = "optimistic" if optimistic else ""
    return Estimate(math.exp(value), math.exp(value - half), math.exp(value + half), n, note=note)


def _rate(
    key: str, base: Sequence[tuple[float, float | None] | None], new: Sequence[tuple[float, float | None] | None],
    sides: Sides,
) -> Contrast | None:  # fmt: skip
    """Contrast a rate of the whole server, as each run's own report gives it."""
    known = [[rate for rate in side if rate is not None and rate[0] > 0] for side in (base, new)]
    if not all(known) or len(known[0]) < len(base) or len(known[1]) < len(new):
        return None
    logs = [np.log([value for value, _ in side]) for side in known]
    if sides.unit == "runs" or (sides.unit == "pairs" and len(logs[0]) == len(logs[1])):
        return _over_runs(sides, ALL, key, "rate", logs)
    errors = [[error for _, error in side if error is not None] for side in known]
    if min(map(len, logs)) > 1 or not all(errors):
        return None
    error = math.hypot(errors[0][0], errors[1][0], sides.noise)
    made = change(float(logs[1][0] - logs[0][0]), error, BATCHES - 1, "windows", BATCHES)
    ours, theirs = (_of_log(float(side[0]), error[0]) for side, error in zip(logs, errors, strict=True))
    return Contrast(ALL, key, "rate", ours, theirs, made)


def _of_log(value: float, error: float) -> Estimate:
    low, high = student_interval(value, error, BATCHES - 1)
    return Estimate(math.exp(value), math.exp(low), math.exp(high))


def _over_runs(sides: Sides, name: str, key: str, kind: Kind, values: Sequence[FloatArray]) -> Contrast | None:
    if not all(np.all(np.isfinite(each)) for each in values):
        return None
    made = by_pairs(values[0], values[1]) if sides.unit == "pairs" else by_runs(values[0], values[1])
    base, new = (_mean(each, kind) for each in values)
    return Contrast(name, key, kind, base, new, made)


def _mean(values: FloatArray, kind: Kind) -> Estimate:
    """Return the mean over runs with Student's interval; of logarithms the geometric one."""
    k, mean = len(values), float(values.mean())
    low, high = student_interval(mean, float(values.std(ddof=1)) / math.sqrt(k), k - 1)
    if kind == "share":
        return Estimate(mean, max(low, 0.0), min(high, 1.0), k)
    return Estimate(math.exp(mean), math.exp(low), math.exp(high), k)
