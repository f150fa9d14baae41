"""A hand-made run for the renderers: two classes, a load wave, a few hostile failures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from slobench.config.slo import ClassSlo, Limit, Objective, Slo
from slobench.metrics.summary import (
    ArrivalFacts,
    BurnPair,
    ErrorBudget,
    Estimate,
    Fidelity,
    Finding,
    LengthFacts,
    Load,
    ObjectiveResult,
    SharingFacts,
    SloResult,
    Summary,
    WindowText,
)
from slobench.records.schema import DERIVED, Records
from slobench.report.view import RunView

SECOND = 10**9
HOSTILE = (
    "<script>alert(1)</script> | `rm -rf` \x1b[31mred\x1b[0m [click](http://evil.example) ![x](y) \u202eevil @all #1"
)


def run_json(**changes: Any) -> dict[str, Any]:
    """Return a run.json as a trial writes it, before the report adds its part."""
    return {
        "schema": 1,
        "slobench": "0.1.0",
        "name": "chat-20261124-1200",
        "spec": {
            "workload": {
                "name": "chat",
                "about": "people chatting",
                "loop": {"mode": "open", "max_in_flight": 100_000},
                "classes": {
                    "chat": {"arrivals": {"process": "poisson", "rate": 10.0}},
                    "code": {"arrivals": {"process": "gamma", "rate": 2.0, "cv": 2.0}},
                },
                "duration": 60 * SECOND,
            },
            "target": {"kind": "sim", "talk": {"api": "completions", "stream": True}},
            "slo": ["ttft<500ms", "tpot<50ms", "attainment>=99%"],
        },
        "seed": 0,
        "plan": {"digest": "sha256:0123456789abcdef0123456789abcdef", "rows": 720, "rate": 12.0},
        "nonce": "00112233aabbccdd",
        "settings": {"requested": {"max_num_seqs": 256}, "observed": {"max_num_seqs": 256, "max_model_len": 8192}},
        "versions": {"python": "3.11.9", "numpy": "2.1.0"},
        "host": {"cpu_model": "Example CPU 3000", "cores": 16, "memory_bytes": 64 << 30},
        "server": {"model": "sim-8b", "url": "http://127.0.0.1:8123"},
        "clock": {"monotonic_ns": 5 * SECOND, "wall_ns": 1_800_000_000 * SECOND, "start_ns": 6 * SECOND},
        "workers": 1,
        "stamps": "kernel",
        "run": {"by": "duration", "duration_s": 60.0, "stop": "planned", "interrupted": False, "notes": []},
        "thresholds": {},
        **changes,
    }


def slo() -> Slo:
    """Return the parsed clauses of `run_json`."""
    limits = (Limit("ttft", 0.5), Limit("tpot", 0.05))
    return Slo(
        text=("ttft<500ms", "tpot<50ms", "attainment>=99%"),
        common=ClassSlo(limits=limits, objectives=(Objective("attainment", 0.99),)),
    )


def estimate(value: float | None, spread: float = 0.1, n: int = 612, n_eff: float = 34.0, note: str = "") -> Estimate:
    """Return an estimate with a relative interval."""
    if value is None:
        return Estimate(None)
    return Estimate(value, value * (1 - spread), value * (1 + spread), n, n_eff, round(n / n_eff, 1), note)


def share(value: float, low: float, high: float, n: int = 612, n_eff: float = 48.0) -> Estimate:
    """Return an attainment with its interval."""
    return Estimate(value, low, high, n, n_eff, round(n / n_eff, 1))


def rate(value: float, n: int = 612) -> Estimate:
    """Return a rate with its interval from the window's parts."""
    return Estimate(value, value * 0.93, value * 1.07, n)


def budget(target: float, misses: int, allowed: float, kept: Estimate, worst: float) -> ErrorBudget:
    """Return the error budget of an attainment, its burn rising to a peak; no window is long enough for alarms."""
    used = [(1 - (x or 0.0)) / (1 - target) for x in (kept.value, kept.high, kept.low)]
    at = np.linspace(18.0, 52.2, 24)
    return ErrorBudget(
        f"attainment>={target * 100:g}%", target, misses, allowed, Estimate(*used, kept.n, kept.n_eff, kept.design_effect),
        width_s=10.2, at_s=tuple(at.tolist()), burn=(None, None, *(used[0] * (1 - worst * np.cos(at[2:] / 8))).tolist()),
        pairs=(
            BurnPair(14.4, 0.0617, 0.00514, None, None, None, "insufficient: 5.14 ms is less than 30 mean E2E (117 s)"),
            BurnPair(6.0, 0.37, 0.0308, None, None, None, "insufficient: 30.8 ms is less than 30 mean E2E (117 s)"),
            BurnPair(1.0, 4.44, 0.37, True, 6.1, 41.3),
        ),
    )  # fmt: skip


def load(**changes: Any) -> Load:
    """Return the load of one class."""
    values: dict[str, Any] = {
        "planned": 720, "sent": 720, "finished": 717, "ok": 703,
        "offered_rps": 12.1, "sent_rps": 12.1, "finished_rps": 11.9,
        "input_tokens_per_s": 6_210.0, "output_tokens_per_s": 2_640.0, "total_tokens_per_s": 8_850.0,
        "in_flight_mean": 43.2, "in_flight_max": 71,
        "send_lag_p50_s": 31e-6, "send_lag_p99_s": 214e-6, "send_lag_max_s": 1.9e-3,
        "connection_wait_p99_s": 180e-6, "arrivals_cv": 1.18, "tokens_per_event": 1.0,
        "input_tokens_mean": 513.0, "output_tokens_mean": 219.0,
        "intervals": {
            "input_tokens_per_s": rate(6_210.0), "output_tokens_per_s": rate(2_640.0), "total_tokens_per_s": rate(8_850.0)
        },
    }  # fmt: skip
    return Load(**(values | changes))


def slo_result(**changes: Any) -> SloResult:
    """Return the SLO result of one class."""
    values: dict[str, Any] = {
        "population": 624, "good": 598, "not_judged": 0, "left_out": 0, "vacuous": 3,
        "attainment": share(0.958, 0.921, 0.979),
        "attainment_admitted": share(0.977, 0.951, 0.991),
        "marginal": {"ttft<500ms": share(0.963, 0.93, 0.982), "tpot<50ms": share(0.9968, 0.981, 0.9996)},
        "binding": "ttft<500ms",
        "goodput": rate(11.5, n=598), "good_tokens": rate(2_512.0, n=598),
        "objectives": (ObjectiveResult("attainment>=99%", share(0.958, 0.921, 0.979), met=False, bound=0.99),),
        "met": False, "budgets": (budget(0.99, 26, 6.24, share(0.958, 0.921, 0.979), 0.5),),
    }  # fmt: skip
    return SloResult(**(values | changes))


def latency_table(scale: float = 1.0) -> dict[str, dict[str, Estimate]]:
    """Success-only latencies of one class."""
    shape = {"mean": 1.1, "p50": 0.9, "p90": 2.0, "p95": 2.8, "p99": 5.5}
    base = {"ttft": 0.081, "ttfo": 0.081, "tpot": 0.0184, "itl": 0.0181, "max_gap": 0.06, "e2e": 3.9}
    notes = {"p99": "thin"}
    return {
        metric: {
            q: estimate(scale * at * times, 0.08 if q != "p99" else 0.3, note=notes.get(q, ""))
            for q, times in shape.items()
        }
        for metric, at in base.items()
    }


def adjusted_table(scale: float = 1.0) -> dict[str, dict[str, Estimate]]:
    """Return the same where a failure counts as +inf: the 99th percentile is one."""
    table = latency_table(scale)
    return {
        metric: {
            **quantiles,
            "p99": Estimate(
                math.inf,
                n=624,
                n_eff=34.0,
                design_effect=18.4,
                note="thin, > 10 s" if metric in {"ttft", "e2e"} else "thin",
            ),
        }
        for metric, quantiles in table.items()
    }


FINDINGS = (
    Finding(
        "V08", "warning", "workload", "window 51.2 s",
        "117 s (30 × mean E2E 3.90 s)",
        "Intervals rest on 10 batch means and are optimistic; use --duration 2m for honest ones.",
    ),
    Finding(
        "V10", "server", "server", "2.4 % of requests failed", "1 %",
        "The server refused or broke requests: they miss their SLO and stand in the error table.",
    ),
)  # fmt: skip


def summary(**changes: Any) -> Summary:
    """Return a summary with warnings, a missed objective, and failures."""
    values: dict[str, Any] = {
        "verdict": "VALID (warnings: V08; server: V10 errors)",
        "valid": True,
        "exit": 4,
        "exits": (4,),
        "findings": FINDINGS,
        "window": WindowText(7.8, 52.2, 3.9, 21.4, whole_run=False, steady=True),
        "load": {
            "chat": load(planned=600, sent=600, finished=598, ok=588, offered_rps=10.0, finished_rps=9.9),
            "code": load(planned=120, sent=120, finished=119, ok=115, offered_rps=2.1, finished_rps=2.0),
            "all": load(),
        },
        "slo": {
            "chat": slo_result(population=520, good=515, met=True, binding="tpot<50ms", vacuous=0,
                               attainment=share(0.9904, 0.972, 0.998),
                               objectives=(ObjectiveResult("attainment>=99%", share(0.9904, 0.972, 0.998), met=True, bound=0.99),),
                               budgets=(budget(0.99, 5, 5.2, share(0.9904, 0.972, 0.998), 0.2),)),
            "code": slo_result(population=104, good=83, goodput=rate(1.6, n=83),
                               budgets=(budget(0.99, 21, 1.04, share(0.798, 0.69, 0.88, 104, 20.0), 0.3),)),
            "all": slo_result(),
        },
        "latency": {"chat": latency_table(0.9), "code": latency_table(2.2), "all": latency_table()},
        "latency_adjusted": {"chat": adjusted_table(0.9), "code": adjusted_table(2.2), "all": adjusted_table()},
        "latency_full_run": {"all": {"ttft": {"p50": Estimate(0.075, n=703, note="no interval: whole run")}}},
        "errors": {
            "http_error": {"429 Too Many Requests": 12, f"500 {HOSTILE}": 2},
            "timeout_first_token": {"no token within 10 s": 3},
        },
        "outcomes": {"all": {"ok": 703, "http_error": 14, "timeout_first_token": 3}},
        "statement": (
            "offered 12.1 req/s (poisson, seed 0, vr off), window [7.8, 52.2) s, n 624, n_eff 48 (D 13), joint "
            "attainment 95.8 % [92.1, 97.9] of scheduled requests (errors and timeouts count against), TTFT from "
            "intended send time, TPOT = (last − first)/(n − 1) from usage, send lag p99 0.214 ms, verdict VALID"
        ),
        "tokens_source": {"usage": 703},
        "fidelity": {"all": traffic()},
    }  # fmt: skip
    return Summary(**(values | changes))


def traffic() -> Fidelity:
    """What a run that was true to its plan says of its traffic, but for shorter replies and a small cache."""
    return Fidelity(
        asked=ArrivalFacts(12.0, 1.0, {"1s": 1.0, "10s": 1.0, "60s": 1.0}),
        planned=ArrivalFacts(12.1, 1.02, {"1s": 0.97}),
        sent=ArrivalFacts(12.1, 1.019, {"1s": 0.971}),
        gap_distance=0.0012,
        input_tokens=LengthFacts(703, 512.0, 512.0, 1.0, 1.0),
        output_tokens=LengthFacts(703, 92.0, 88.2, 0.9587, 0.31),
        sharing=SharingFacts(0.374, 0.21, 16),
    )


def records(n: int = 720, seconds: float = 60.0, seed: int = 1) -> tuple[Records, dict[str, np.ndarray]]:
    """Return requests and chunks that look like a loaded server, and their derived columns."""
    rng = np.random.default_rng(seed)
    scheduled = np.sort(rng.uniform(0, seconds * 1e9, n))
    classes = np.where(rng.random(n) < 5 / 6, "chat", "code")
    wave = 1 + 1.5 * np.exp(-(((scheduled / 1e9 - 0.7 * seconds) / (0.08 * seconds)) ** 2))
    ttft = rng.lognormal(np.log(0.07), 0.5, n) * wave * np.where(classes == "code", 2.2, 1)
    outcome = np.full(n, "ok", dtype="U24")
    outcome[rng.choice(n, 14, replace=False)] = "http_error"
    outcome[rng.choice(np.flatnonzero(outcome == "ok"), 3, replace=False)] = "timeout_first_token"
    ok = outcome == "ok"
    tokens = np.clip(rng.lognormal(np.log(90), 0.7, n), 2, 800).round()
    tpot = rng.lognormal(np.log(0.018), 0.15, n)
    lag = rng.lognormal(np.log(3e-5), 0.8, n)
    first = np.where(ok, scheduled + ttft * 1e9, np.nan)
    last = first + tpot * (tokens - 1) * 1e9
    end = np.where(ok, last + 1e6, scheduled + np.where(outcome == "http_error", 5e6, 10e9))
    requests: dict[str, np.ndarray] = {
        "index": np.arange(n), "class": classes, "session": np.arange(n), "turn": np.zeros(n, int),
        "worker": np.zeros(n, int), "backend": np.full(n, ""), "scheduled_ns": scheduled,
        "started_ns": scheduled + lag * 1e9, "connected_ns": scheduled + lag * 1e9 + 2e4,
        "sent_ns": scheduled + lag * 1e9 + 5e4, "headers_ns": first - 1e5, "first_token_ns": first,
        "first_output_ns": first, "last_token_ns": last, "end_ns": end,
        "input_tokens_planned": np.full(n, 512.0), "output_tokens_planned": tokens,
        "input_tokens": np.where(ok, 512.0, np.nan), "output_tokens": np.where(ok, tokens, np.nan),
        "first_chunk_tokens": np.where(ok, 1.0, np.nan), "outcome": outcome, "error": np.where(ok, "", HOSTILE[:40]),
    }  # fmt: skip
    each = np.where(ok, tokens, 0).astype(int)
    owner = np.repeat(np.arange(n), each)
    place = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    at = first[owner] + tpot[owner] * place * 1e9
    chunks = {
        "index": owner, "t_ns": at.astype(np.int64), "tokens": np.ones(len(owner)),
        "bytes": np.full(len(owner), 180), "channel": np.zeros(len(owner), np.int8),
        "lag_ns": np.full(len(owner), 20_000), "coalesced": np.zeros(len(owner), bool),
    }  # fmt: skip
    null = np.full(n, np.nan)
    derived = dict.fromkeys(DERIVED, null) | {
        "ttft_s": np.where(ok, ttft, np.nan), "ttfo_s": np.where(ok, ttft, np.nan),
        "tpot_s": np.where(ok, tpot, np.nan), "e2e_s": (last - scheduled) / 1e9,
        "ttft_sent_s": np.where(ok, ttft, np.nan), "e2e_sent_s": (last - scheduled) / 1e9,
        "send_lag_s": lag, "max_gap_s": np.where(ok, tpot * 3, np.nan),
    }  # fmt: skip
    telemetry = {name: np.empty(0) for name in ("t_ns", "source", "name", "labels", "value")}
    return Records(requests=requests, chunks=chunks, telemetry=telemetry), derived


def view(folder: Path = Path("results/chat-20261124-1200"), **changes: Any) -> RunView:
    """Return a whole run in memory."""
    recorded, derived = records()
    values: dict[str, Any] = {
        "folder": folder, "run": run_json(), "summary": summary(), "records": recorded, "derived": derived, "slo": slo(),
    }  # fmt: skip
    return RunView(**(values | changes))
