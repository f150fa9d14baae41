"""The Benchmark Report v0.2 of llm-d-benchmark: one run's scenario and statistics, in its schema and units."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson

from slobench.metrics.columns import IntArray, number
from slobench.metrics.latency import event_tokens
from slobench.metrics.summary import Estimate
from slobench.report.exports.rows import Window, load_of, model_of, users_of, utc
from slobench.report.view import RunView
from slobench.stats.quantiles import FloatArray, inverted_cdf

VERSION = "0.2"
_QUANTILES = {
    "p0p1": 0.001,
    "p1": 0.01,
    "p5": 0.05,
    "p10": 0.1,
    "p25": 0.25,
    "p50": 0.5,
    "p75": 0.75,
    "p90": 0.9,
    "p95": 0.95,
    "p99": 0.99,
    "p99p9": 0.999,
}
_ISO = "%Y-%m-%dT%H:%M:%SZ"


def document(view: RunView) -> dict[str, Any]:
    """Return the report: latencies by slobench's definitions, from the scheduled time, of the window's requests.

    Intervals, attainment and verdict, for which the schema has no place, stand under `observability`.
    """
    return {
        "version": VERSION,
        "run": _run(view),
        "scenario": {"stack": [_server(view)], "load": _load(view)},
        "results": {"request_performance": {"aggregate": _aggregate(view)}, "observability": {"slobench": _more(view)}},
    }


def _hash(value: Any) -> str:
    return hashlib.md5(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), usedforsecurity=False).hexdigest()


def _run(view: RunView) -> dict[str, Any]:
    window, digest = view.summary.window, str(view.at("plan", "digest") or "")
    times = {"start": utc(view, window.start_s, _ISO), "end": utc(view, window.end_s, _ISO)}
    return {
        "uid": _hash([view.at("nonce"), view.name]),
        **({"eid": _hash(digest)} if digest else {}),
        "time": {
            **{key: value for key, value in times.items() if value is not None},
            "duration": f"PT{window.end_s - window.start_s:.9g}S",
        },
    }


def _server(view: RunView) -> dict[str, Any]:
    settings = view.at("settings") or {}
    kind = str(view.at("spec", "target", "kind") or "unknown")
    version = (settings.get("observed") or {}).get("version")
    return {
        "metadata": {"kind": "generic", "schema_version": "0.0.1", "label": kind, "cfg_id": _hash(_safe(settings))},
        "standardized": {"tool": kind, "tool_version": str(version or "unknown"), "model": {"name": model_of(view)}},
        "native": {
            "args": _safe((settings.get("requested") or {}).get("args") or {}),
            "config": _safe(settings.get("observed") or {}),
        },
    }


def _safe(value: Any) -> Any:
    """Return it as JSON would give it back."""
    return orjson.loads(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS))


def _load(view: RunView) -> dict[str, Any]:
    spec, requests = view.at("spec", "workload") or {}, view.records.requests
    rate, users = view.at("plan", "rate"), users_of(view)
    classes = (spec.get("classes") or {}).values()
    sessions = any(each.get("session") for each in classes)
    return {
        "metadata": {
            "schema_version": "0.0.1",
            "cfg_id": _hash(_safe(spec)),
            "description": str(spec.get("about") or spec.get("name") or "workload"),
        },
        "standardized": {
            "tool": "slobench",
            "tool_version": str(view.at("slobench") or "unknown"),
            "source": "sampled" if any(each.get("recorded") or each.get("text") for each in classes) else "random",
            "stage": 0,
            "input_seq_len": _lengths(number(requests, "input_tokens_planned")),
            "output_seq_len": _lengths(number(requests, "output_tokens_planned")),
            **({"multi_turn": {"enabled": True}} if sessions else {}),
            **({"rate_qps": rate} if rate and not users else {}),
            **({"concurrency": users} if users else {}),
        },
        "native": {"args": {"seed": view.at("seed")}, "config": _safe(spec)},
    }


def _lengths(tokens: FloatArray) -> dict[str, Any]:
    """Return a distribution in the schema's words: fixed, or other with its mean and range."""
    if not len(tokens):
        return {"distribution": "other", "value": 1}
    low, high = int(tokens.min()), int(tokens.max())
    if low == high:
        return {"distribution": "fixed", "value": max(low, 1)}
    return {
        "distribution": "other",
        "value": max(float(tokens.mean()), 1.0),
        "std_dev": float(tokens.std()),
        "min": low,
        "max": max(high, 1),
    }


def _aggregate(view: RunView) -> dict[str, Any]:
    window, requests, load = Window.of(view), view.records.requests, load_of(view)
    rows = window.rows[window.ok]
    n = number(requests, "output_tokens")[rows]
    e2e = view.derived["e2e_s"][rows]
    tokens = {
        "input_length": _statistics(number(requests, "input_tokens")[rows], "count"),
        "output_length": _statistics(n, "count"),
    }
    latency = {
        "time_to_first_token": _statistics(view.derived["ttft_s"][rows], "s"),
        "normalized_time_per_output_token": _statistics(e2e / np.where(n > 0, n, np.nan), "s/token"),
        "time_per_output_token": _statistics(view.derived["tpot_s"][rows], "s/token"),
        "inter_token_latency": _statistics(_gaps(view, window, rows), "s/token"),
        "request_latency": _statistics(e2e, "s"),
    }
    rates = (
        {}
        if load is None
        else {
            "input_token_rate": (load.input_tokens_per_s, "tokens/s"),
            "output_token_rate": (load.output_tokens_per_s, "tokens/s"),
            "total_token_rate": (load.total_tokens_per_s, "tokens/s"),
            "request_rate": (load.finished_rps, "queries/s"),
        }
    )
    return {
        "requests": {"total": len(window.rows), "failures": int((~window.ok).sum()), **_there(tokens)},
        "latency": _there(latency),
        "throughput": {key: {"units": unit, "mean": value} for key, (value, unit) in rates.items()},
    }


def _gaps(view: RunView, window: Window, rows: IntArray) -> FloatArray:
    """Gaps between token events, each over the tokens that ended it."""
    groups = window.replies.groups
    tokens = event_tokens(view.records.requests, view.records.chunks, groups)
    chosen = np.zeros(len(view.records.requests["index"]), dtype=np.bool_)
    chosen[rows] = True
    per_token: FloatArray = window.replies.gap_s / np.maximum(tokens, 1.0)
    kept: FloatArray = per_token[groups.spread(chosen)]
    return kept


def _there(found: Mapping[str, dict[str, Any] | None]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value is not None}


def _statistics(values: FloatArray, units: str) -> dict[str, Any] | None:
    """Return the schema's statistics; quantiles are inverse-ECDF. None without a value: the schema demands a mean."""
    seen = values[~np.isnan(values)]
    if not len(seen):
        return None
    return {
        "units": units,
        "mean": float(seen.mean()),
        "stddev": float(seen.std()),
        "min": float(seen.min()),
        **{name: float(inverted_cdf(seen, q)) for name, q in _QUANTILES.items()},
        "max": float(seen.max()),
    }


def _more(view: RunView) -> dict[str, Any]:
    """Return what the schema has no place for."""
    slo, latency = view.summary.slo.get(view.total), view.summary.latency.get(view.total, {})
    found: dict[str, Any] = _safe(
        {
            "verdict": view.summary.verdict,
            "statement": view.summary.statement,
            "attainment": None if slo is None else _plain(slo.attainment),
            "goodput": None if slo is None else _plain(slo.goodput),
            "intervals": {
                metric: {q: _plain(seen) for q, seen in table.items() if seen.low is not None}
                for metric, table in latency.items()
            },
        }
    )
    return found


def _plain(seen: Estimate) -> dict[str, Any]:
    return {key: value for key, value in asdict(seen).items() if value not in {None, ""}}
