"""Checks whose findings are results: the server was not steady, or answered with errors (V07, V10)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slobench.metrics.case import Case, Check, percent
from slobench.metrics.columns import FAILED, OURS, is_ok, outcome_in, seconds
from slobench.metrics.load import in_flight, spans
from slobench.metrics.planned import planned_change
from slobench.metrics.summary import Finding
from slobench.metrics.window import BATCHES
from slobench.stats.quantiles import FloatArray
from slobench.stats.stationarity import Trend, slope_test

V07, V10 = Check("V07", "server"), Check("V10", "server")
ENOUGH = 5  # requests a batch, on average, under which a trend is no overload


@dataclass(frozen=True, slots=True)
class _Series:
    name: str
    trend: Trend
    decides: bool  # whether its growth means overload


def stationarity(case: Case) -> Iterator[Finding]:
    """V07: does the number in flight, or TTFT, drift over ten batches of the window.

    The two are one check, so the smaller p is doubled. Tenths of a window of 30 mean E2E remember each other: the
    number in flight forgets what it was within the E2E of a reply that is in flight, E[E2E^2]/E[E2E], as longer ones
    are met more often (half of it where requests do not wait for each other). Over a window that is the whole run
    the number in flight grows by itself at first; only a growing TTFT is overload there. Where the load itself was
    planned to change, drift accuses no one.
    """
    limits = case.ask.thresholds
    series = _series(case)
    if not series:
        return
    change = planned_change(case)
    if change is not None:
        yield from _as_planned(case, series, change)
        return
    enough = int(case.main.sum()) >= ENOUGH * BATCHES
    for one in series:
        p = min(one.trend.p * len(series), 1.0)
        grown = one.trend.slope > 0 and one.trend.last_over_first > limits.v07_ratio
        if p < limits.v07_p.past and grown and one.decides and enough:
            yield V07.past(
                f"OVERLOADED: {one.name} grew {one.trend.last_over_first:.3g}-fold, first to last third (p {p:.2g})",
                f"{limits.v07_ratio:g}-fold with p < {limits.v07_p.past:g}",
                "the server did not keep up with the load: percentiles grow with the length of the run",
                "offer less, or report that the server does not carry this load",
            )
            return
    least = min(series, key=lambda one: one.trend.p)
    p = min(least.trend.p * len(series), 1.0)
    if p < limits.v07_p.warning:
        yield V07.warning(
            f"{least.name} drifted, {least.trend.last_over_first:.3g}-fold from first to last third (p {p:.2g})",
            f"p < {limits.v07_p.warning:g}",
            "the server may not have been in a steady state: numbers may depend on when the window lies",
            "run longer, or with a longer --warmup; one level run in twenty is warned of by chance",
        )


def _as_planned(case: Case, series: list[_Series], change: tuple[float, float]) -> Iterator[Finding]:
    """Drift under a load that was planned to change: no fault, but no steady state to take percentiles of either."""
    least = min(series, key=lambda one: one.trend.p)
    if min(least.trend.p * len(series), 1.0) < case.ask.thresholds.v07_p.warning:
        yield V07.warning(
            f"{least.name} drifted, {least.trend.last_over_first:.3g}-fold from first to last third, "
            f"as the load was planned to change: {change[0]:.3g} to {change[1]:.3g} requests/s",
            "a load that is level over the window",
            "percentiles are of a mixture of loads; whether the server kept up with each cannot be told from drift",
            "read the charts over time, or offer each level as a run of its own",
        )


def _series(case: Case) -> list[_Series]:
    """Trends of the in-flight level and of TTFT (E2E where nothing streamed) over ten batches."""
    window = case.window
    batch = window.batch(seconds(case.requests, "scheduled_ns")[case.main])
    memory = _memory(case)
    found = []
    begin, end = spans(case.requests, ~np.isnan(seconds(case.requests, "started_ns")))
    if len(begin) and not case.ask.closed:  # the number of users is no finding
        levels, _ = in_flight(begin, end, np.linspace(window.start_s, window.end_s, BATCHES + 1))
        found.append(_Series("requests in flight", slope_test(levels, memory), decides=not window.whole_run))
    for name, label in (("ttft_s", "TTFT"), ("e2e_s", "E2E")):
        means = _batch_means(case.derived[name][case.main], batch)
        if means is not None:
            found.append(_Series(label, slope_test(means, memory), decides=True))
            break
    return found


def _memory(case: Case) -> float:
    """Mean E2E of a reply that is in flight at a random moment, in batches."""
    e2e = case.derived["e2e_s"][case.main]
    e2e = e2e[~np.isnan(e2e)]
    mean = float(e2e.mean()) if len(e2e) else 0.0
    return float(np.mean(e2e**2)) / mean / (case.window.length_s / BATCHES) if mean > 0 else 0.0


def _batch_means(values: FloatArray, batch: np.ndarray[tuple[int], np.dtype[np.int64]]) -> FloatArray | None:
    known = ~np.isnan(values)
    sizes = np.bincount(batch[known], minlength=BATCHES)
    if np.any(sizes == 0):
        return None
    return np.asarray(np.bincount(batch[known], weights=values[known], minlength=BATCHES) / sizes, dtype=np.float64)


def errors(case: Case) -> Iterator[Finding]:
    """V10: share of the window's requests that the server failed."""
    ours = outcome_in(case.requests, OURS)
    counted = case.main & ~ours
    n = int(counted.sum())
    failed = int(np.sum(counted & outcome_in(case.requests, FAILED)))
    if not n or not failed:
        return
    share, limits = failed / n, case.ask.thresholds.v10_errors
    seen = f"{failed} of {n} requests failed ({percent(share)})"
    text = "each counts as not good, and latencies of the others leave them out"
    if not np.any(is_ok(case.requests)):
        text = "no request succeeded: there is no latency to report"
    advice = "see the error table; allow more with an `error_rate` objective where failures are meant to happen"
    if share > limits.past and share > case.ask.allowed_error_share:
        yield V10.past(seen, percent(max(limits.past, case.ask.allowed_error_share)), text, advice)
    elif share > limits.warning:
        yield V10.warning(seen, percent(limits.warning), text, advice)
