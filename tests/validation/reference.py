"""Runs of the reference engine in virtual time, as the product's own estimators see them (docs/metrics.md, Engine model)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slobench.config.arrivals import Gamma, Poisson
from slobench.config.lengths import LognormalLength
from slobench.config.load import load_target
from slobench.config.target import SimTarget
from slobench.engine.virtual import Offer, serve
from slobench.workload.arrivals import offsets_ns
from slobench.workload.lengths import draw
from slobench.workload.variates import child

S = 10**9
INPUT = LognormalLength(mean=512, sigma=0.9, min=8, max=8000)
OUTPUT = LognormalLength(mean=220, sigma=0.8, min=1, max=2000)
TTFT_LIMIT_S, TPOT_LIMIT_S = 0.5, 0.03


@dataclass(frozen=True, slots=True)
class Latencies:
    """One run, a value per request in order of arrival; tpot_s is NaN for one-token replies, which meet its limit."""

    arrival_s: np.ndarray
    ttft_s: np.ndarray
    tpot_s: np.ndarray
    e2e_s: np.ndarray

    @property
    def risk(self) -> np.ndarray:
        """Largest value over limit."""
        return np.fmax(self.ttft_s / TTFT_LIMIT_S, self.tpot_s / TPOT_LIMIT_S)

    @property
    def good(self) -> np.ndarray:
        """Which requests met both limits."""
        return self.risk <= 1


def offered(rate: float, cv: float, duration_s: float, seed: int) -> Offer:
    """Requests of the reference workload; gamma gaps with this coefficient of variation, 1 = Poisson."""
    arrivals = Poisson(rate=rate) if cv == 1 else Gamma(rate=rate, cv=cv)
    at = offsets_ns(arrivals, n=None, horizon_ns=round(duration_s * S), rng=child(seed, "arrivals"))
    n = len(at)
    return Offer(at, draw(INPUT, n, child(seed, "input")), draw(OUTPUT, n, child(seed, "output")))


def run(rate: float, cv: float, duration_s: float, seed: int) -> Latencies:
    """Serve `duration_s` of load from an empty engine."""
    work = offered(rate, cv, duration_s, seed)
    served = serve(engine(), work, seed)
    after_first = np.where(work.output_tokens > 1, work.output_tokens - 1, np.nan)
    return Latencies(
        arrival_s=work.arrival_ns / S,
        ttft_s=(served.first_token_ns - work.arrival_ns) / S,
        tpot_s=(served.last_token_ns - served.first_token_ns) / S / after_first,
        e2e_s=(served.last_token_ns - work.arrival_ns) / S,
    )


def engine():
    """The engine of targets/sim-reference.yaml."""
    target = load_target("sim-reference").value
    assert isinstance(target, SimTarget)
    return target.engine
