"""Whole runs in virtual time as records: the reference engine, met by a client that is never late by much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from slobench.config.arrivals import Gamma, Poisson
from slobench.config.lengths import LognormalLength
from slobench.config.load import load_target
from slobench.config.target import SimTarget
from slobench.engine.virtual import Offer, serve
from slobench.metrics.ask import Ask
from slobench.workload.arrivals import offsets_ns
from slobench.workload.lengths import draw
from slobench.workload.variates import child
from tests.metrics.conftest import Run

S = 10**9
GRACE_S = 30.0
INPUT = LognormalLength(mean=512, sigma=0.9, min=8, max=8000)
OUTPUT = LognormalLength(mean=220, sigma=0.8, min=1, max=2000)


@dataclass(frozen=True, slots=True)
class Load:
    """What is offered: requests/s for so long, gaps with this coefficient of variation (1 = Poisson)."""

    rate: float
    duration_s: float
    cv: float = 1.0


def served(load: Load, seed: int, slo: tuple[str, ...] = ("ttft<500ms", "tpot<30ms")) -> Run:
    """One run by duration, which goes on offering for the drain's grace, with the telemetry of a calm worker."""
    target = load_target("sim-reference").value
    assert isinstance(target, SimTarget)
    process = Poisson(rate=load.rate) if load.cv == 1 else Gamma(rate=load.rate, cv=load.cv)
    horizon_ns = round((load.duration_s + GRACE_S) * S)
    at = offsets_ns(process, n=None, horizon_ns=horizon_ns, rng=child(seed, "arrivals"))
    n = len(at)
    output = draw(OUTPUT, n, child(seed, "output"))
    found = serve(target.engine, Offer(at, draw(INPUT, n, child(seed, "input")), output), seed)
    rng = np.random.default_rng(seed)
    run = Run(at / S, ask=Ask(duration_s=load.duration_s, forces_length=True, ids_sent=True, timeout_s=120.0), slo=slo)
    _put(run, at, found, output, rng)
    _watch(run, load.duration_s, rng)
    return run


def _put(run: Run, at: np.ndarray, found: Any, output: np.ndarray, rng: np.random.Generator) -> None:
    """Times as a client sees them: sends 50 to 300 µs late, tokens 50 µs after they were made, all its replies ok."""
    started = at + rng.uniform(50e3, 300e3, len(at))
    run["started_ns"], run["connected_ns"], run["sent_ns"] = started, started + 1e3, started + 40e3
    first = np.maximum(found.first_token_ns, run["sent_ns"]) + 50e3
    last = np.maximum(found.last_token_ns + 50e3, first)
    for name in ("headers_ns", "first_token_ns", "first_output_ns"):
        run[name] = first.copy()
    run["last_token_ns"], run["end_ns"] = last, last + 100e3
    for name in ("output_tokens_planned", "output_tokens", "chunks"):
        run[name] = output.astype(float)
    nothing = {"index": np.int64, "t_ns": np.int64, "tokens": float, "bytes": np.int64, "channel": np.int8}
    run.chunks = {name: np.empty(0, kind) for name, kind in {**nothing, "lag_ns": np.int64, "coalesced": bool}.items()}


def _watch(run: Run, duration_s: float, rng: np.random.Generator) -> None:
    seconds, begun, ended = np.arange(1.0, duration_s), np.sort(run["started_ns"]), np.sort(run["end_ns"])
    open_then = [np.searchsorted(times, seconds * S, side="right") for times in (begun, ended)]
    run.sample("in_flight", open_then[0] - open_then[1], start=1.0)
    run.sample("heartbeat_overshoot_ns", rng.gamma(2, 60e3, round(duration_s * 20)), step=0.05)
    run.sample("cpu_s", np.arange(duration_s) * 0.2)
    run.sample("throttled_s", np.zeros(len(seconds)))
    run.sample("steal_share", np.zeros(len(seconds)))
    run.sample("gc_pause_ns", np.full(len(seconds) // 5, 2e6), step=5.0)
    run.sample("clock_steps", np.zeros(len(seconds)))
    run.sample("open_fds", np.full(len(seconds), 80))
    run.sample("fd_limit", np.full(len(seconds), 1024))
