"""What a run or a search comes to, as the numbers of a sweep's row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from slobench.config.slo import Slo
from slobench.config.workload import Workload
from slobench.experiment.found import Found
from slobench.experiment.session_load import has_sessions
from slobench.experiment.sweep_file import Numbers
from slobench.metrics.arm import Arm
from slobench.plan import Plan, build_plan
from slobench.stats.quantiles import FloatArray

_QUANTILES = {
    "ttft_p50_s": ("ttft", "p50"), "ttft_p90_s": ("ttft", "p90"), "ttft_p99_s": ("ttft", "p99"),
    "tpot_p50_s": ("tpot", "p50"), "tpot_p99_s": ("tpot", "p99"),
    "e2e_p50_s": ("e2e", "p50"), "e2e_p99_s": ("e2e", "p99"),
}  # fmt: skip
_SERVER = ("running_mean", "waiting_mean", "kv_usage_mean", "preemptions")
_LOAD = ("offered_rps", "finished_rps", "output_tokens_per_s", "output_tokens_mean")


def summarised(summary: Mapping[str, Any]) -> Numbers:
    """Take the numbers from the summary that a report keeps in run.json."""
    results, load = summary["slo"], summary.get("load") or {}
    result = results.get("all") or next(iter(results.values()))
    latency, server = summary["latency"], summary.get("server") or {}
    goodput = result["goodput"]["requests_per_s"]
    quantiles = {
        name: (latency.get(metric) or {}).get(quantile, {}).get("value")
        for name, (metric, quantile) in _QUANTILES.items()
    }
    met = [each["met"] for each in results.values() if each["met"] is not None]
    return Numbers(
        requests=result["population"],
        attainment=result["attainment"],
        attainment_low=result["low"],
        attainment_high=result["high"],
        slo_met=all(met) if met else None,
        overloaded=any(each["code"] == "V07" and each["level"] == "server" for each in summary["findings"]),
        goodput_rps=goodput["value"],
        goodput_low=goodput["low"],
        goodput_high=goodput["high"],
        good_tokens_per_s=result["good_tokens_per_s"],
        **{name: load.get(name) for name in _LOAD},
        **quantiles,
        **{name: server.get(name) for name in _SERVER},
    )


def searched(found: Found) -> Numbers:
    """Take the numbers from a capacity search."""
    target = found.criterion.target
    return Numbers(
        attainment=target, capacity=found.rate, capacity_low=found.low, capacity_high=found.high,
        certified=found.certified,
    )  # fmt: skip


def output_tokens_mean(workload: Workload, seed: int) -> float | None:
    """Return the mean length of the workload's replies, tokens; None of sessions, whose turns a capacity counts not."""
    if has_sessions(workload):
        return None
    plan = build_plan(workload, seed)
    return float(plan.output_tokens.mean()) if len(plan) else None


def from_arm(arm: Arm, plan: Plan, slo: Slo) -> Numbers:
    """Take the numbers from a run in virtual time: no interval is known, and none of the server's own numbers."""
    requests, (start_s, end_s) = arm.requests, arm.window_s
    length_s, n = end_s - start_s, len(requests.index)
    tokens = np.asarray(plan.output_tokens[requests.index], dtype=np.float64)
    good = requests.good == 1.0
    ends = requests.at_s + requests.seconds["e2e"]
    span_s = float(ends.max() - ends.min()) if n > 1 else 0.0
    taken = (n - 1) / n / span_s if span_s else None  # first to last completion
    quantiles = {
        name: _quantile(requests.seconds[metric], float(q[1:]) / 100) for name, (metric, q) in _QUANTILES.items()
    }
    attainment = float(good.mean()) if n else None
    return Numbers(
        requests=n,
        attainment=attainment,
        slo_met=_met(slo, attainment, requests.seconds),
        overloaded="V07" in arm.identity.server,
        goodput_rps=float(good.sum()) / length_s,
        good_tokens_per_s=float(tokens[good].sum()) / length_s,
        offered_rps=n / length_s,
        finished_rps=None if taken is None else n * taken,
        output_tokens_per_s=None if taken is None else float(tokens.sum()) * taken,
        output_tokens_mean=float(tokens.mean()) if n else None,
        **quantiles,
    )


def _quantile(values: FloatArray, share: float) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share, method="inverted_cdf")) if len(known) else None


def _met(slo: Slo, attainment: float | None, seconds: Mapping[str, FloatArray]) -> bool | None:
    """Whether the objectives for all requests hold; None where there is none. Nothing fails in virtual time."""
    seen = []
    for each in slo.common.objectives:
        if each.metric == "attainment" and attainment is not None:
            seen.append(attainment >= each.bound)
        elif each.quantile is not None and each.metric in seconds:
            value = _quantile(seconds[each.metric], each.quantile)
            seen.append(value is not None and value <= each.bound)
    return all(seen) if seen else None
