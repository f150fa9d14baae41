"""Several runs of one workload, side by side: each value, and how sure the mean over repeats is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slobench.records.store import read_run_json
from slobench.report.words import clean, percent, rate, seconds
from slobench.stats.intervals import exact_binomial, expit, logit, student_quantile
from slobench.stats.jackknife import jackknife_t
from slobench.stats.quantiles import FloatArray

_LATENCIES = (("ttft", "p50"), ("ttft", "p90"), ("ttft", "p99"), ("tpot", "p50"), ("tpot", "p99"), ("e2e", "p50"))
_FEWEST = 3  # repeats below which no interval is given
_FEW_MISSES = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity over the repeats. low, high: 95 % interval over repeats, None with fewer than 3.

    The repeat is the unit, so n is their number: repeats have seeds of their own and are independent, which requests
    of one run are not (docs/metrics.md, Intervals). Latencies: the geometric mean of the repeats' own percentiles,
    Student's t on the log scale. Attainment: pooled over all requests, delete-one-repeat jackknife on the logit scale,
    or with fewer than 5 misses (or hits) the exact binomial at the repeats' summed n_eff. Rates: Student's t.
    """

    name: str
    values: tuple[float | None, ...]
    mean: float | None
    low: float | None
    high: float | None
    n: int = 0


@dataclass(frozen=True, slots=True)
class Repeats:
    """All repeats of a run: verdict and exit code of each, and the rows."""

    verdicts: tuple[str, ...]
    exits: tuple[int, ...]
    rows: tuple[Row, ...]


def over_repeats(folders: Sequence[Path]) -> Repeats:
    """Read the summaries of finished runs. Raises RecordsError where one has none."""
    summaries = [read_run_json(folder)["summary"] for folder in folders]
    rows = [_attainment([_of_all(s["slo"]) for s in summaries])]
    rows.append(_row("goodput_rps", [_total(s["slo"], "goodput_rps") for s in summaries], log=False))
    rows += [
        _row(f"{metric}_{quantile}_s", [_latency(s, metric, quantile) for s in summaries], log=True)
        for metric, quantile in _LATENCIES
    ]
    kept = tuple(row for row in rows if any(value is not None for value in row.values))
    return Repeats(tuple(s["verdict"] for s in summaries), tuple(int(s["exit"]) for s in summaries), kept)


def _of_all(by_class: Mapping[str, Any]) -> Mapping[str, Any]:
    return by_class.get("all") or (next(iter(by_class.values())) if len(by_class) == 1 else {})


def _total(by_class: Mapping[str, Any], key: str) -> float | None:
    value = _of_all(by_class).get(key)
    return float(value) if isinstance(value, int | float) else None


def _attainment(runs: Sequence[Mapping[str, Any]]) -> Row:
    """Pool the shares of all repeats."""
    values = tuple(run.get("attainment") for run in runs)
    hits = np.array([run.get("good") or 0 for run in runs], dtype=np.float64)
    sizes = np.array([run.get("population") or 0 for run in runs], dtype=np.float64)
    if any(value is None for value in values) or np.any(sizes == 0):
        return Row("attainment", values, None, None, None, len(runs))
    value = float(hits.sum() / sizes.sum())
    low, high = _share_interval(hits, sizes, [run.get("n_eff") for run in runs])
    return Row("attainment", values, value, low, high, len(runs))


def _share_interval(hits: FloatArray, sizes: FloatArray, worth: Sequence[float | None]) -> tuple[float | None, ...]:
    n, value = sizes.sum(), hits.sum() / sizes.sum()
    if len(hits) < _FEWEST:
        return None, None
    if min(hits.sum(), n - hits.sum()) < _FEW_MISSES:
        n_eff = sum(each or 0.0 for each in worth)
        return exact_binomial(value * n_eff, n_eff) if all(worth) else (None, None)
    clip = 1 / (2 * n)
    without = np.clip((hits.sum() - hits) / (n - sizes), clip, 1 - clip)
    ends = jackknife_t(logit(float(value)), np.array([logit(float(p)) for p in without]))
    return min(expit(ends[0]), float(value)), max(expit(ends[1]), float(value))


def _latency(summary: Mapping[str, Any], metric: str, quantile: str) -> float | None:
    value = (summary["latency"].get(metric) or {}).get(quantile, {}).get("value")
    return float(value) if isinstance(value, int | float) else None


def _row(name: str, values: Sequence[float | None], *, log: bool) -> Row:
    known = [value for value in values if value is not None and (value > 0 or not log)]
    if len(known) < len(values) or not known:
        return Row(name, tuple(values), None, None, None, len(values))
    scaled = [math.log(value) for value in known] if log else known
    back = math.exp if log else float
    n, mean = len(scaled), math.fsum(scaled) / len(scaled)
    if n < _FEWEST:
        return Row(name, tuple(values), back(mean), None, None, n)
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in scaled) / (n - 1) / n) * student_quantile(n - 1, 0.975)
    return Row(name, tuple(values), back(mean), back(mean - spread), back(mean + spread), n)


def render(repeats: Repeats) -> str:
    """Plain text: one line a repeat, then a table."""
    lines = [f"repeat {n}: {clean(verdict, 200)}" for n, verdict in enumerate(repeats.verdicts, 1)]
    lines += ["", f"{'':14}{'mean':>10}  {'95 % interval':>22}   each repeat's own"]
    for row in repeats.rows:
        name = row.name.removesuffix("_s").removesuffix("_rps").replace("_", " ").replace("ttft", "TTFT")
        name = name.replace("tpot", "TPOT").replace("e2e", "E2E")
        interval = "–" if row.low is None or row.high is None else f"[{_show(row, row.low)}, {_show(row, row.high)}]"
        each = ", ".join(_show(row, value) for value in row.values)
        lines.append(f"{name:14}{_show(row, row.mean):>10}  {interval:>22}   {each}")
    unit = f"n = {len(repeats.verdicts)} repeats: they are the unit of the intervals, not requests"
    lines += ["", f"{unit}; none is given under {_FEWEST}"]
    return "\n".join(lines) + "\n"


def _show(row: Row, value: float | None) -> str:
    if row.name == "attainment":
        return percent(None if value is None else min(max(value, 0.0), 1.0))
    return rate(value) if row.name.endswith("_rps") else seconds(value)
