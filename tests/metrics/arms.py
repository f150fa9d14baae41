"""Runs with known latencies, as comparisons see them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from slobench.metrics.arm import Arm, Identity, Requests
from slobench.metrics.gate import Pair

SECONDS = 60.0


@dataclass(frozen=True)
class Made:
    """How a run is made: lognormal latencies, each request's own factor common to all runs of one seed (the plan)."""

    seed: int = 1
    n: int = 1000
    ttft_s: float = 0.2
    tpot_s: float = 0.02
    spread: float = 0.3
    noise: float = 0.02  # of each request in each run
    good: float = 0.97
    run: int = 0
    classes: tuple[str, ...] = ("chat",)


def arm(made: Made | None = None, **changes: Any) -> Arm:
    """One run; what is no field of Made goes into its identity."""
    fields = {key: value for key, value in changes.items() if key in Made.__dataclass_fields__}
    rest = {key: value for key, value in changes.items() if key not in fields}
    made = replace(made or Made(), **fields)
    plan = np.random.default_rng(made.seed)
    own = np.random.default_rng([made.seed, made.run, 7])
    factor = plan.lognormal(0, made.spread, made.n)
    at = np.sort(plan.uniform(0, SECONDS, made.n))
    bad = plan.random(made.n) > made.good
    of_class = plan.choice(made.classes, made.n)
    ttft = made.ttft_s * factor * own.lognormal(0, made.noise, made.n)
    tpot = made.tpot_s * factor**0.5 * own.lognormal(0, made.noise, made.n)
    requests = Requests(
        np.arange(made.n),
        at,
        of_class.astype(np.str_),
        np.ones(made.n, np.bool_),
        np.where(bad, 0.0, 1.0),
        {"ttft": ttft, "tpot": tpot, "e2e": ttft + 100 * tpot, "ttft_sent": ttft, "e2e_sent": ttft + 100 * tpot},
    )
    identity = Identity(
        name=f"run-{made.seed}-{made.run}",
        digest=f"plan-{made.seed}-{made.n}",
        seed=made.seed,
        workload={"name": "chat", "classes": {"chat": {"arrivals": {"process": "poisson", "rate": 10}}}},
        slo=("ttft<500ms",),
        manner={"target": "sim", "API": "completions"},
        started_s=1.8e9 + 100 * made.run + made.seed,
        window_of_e2e=40.0,
    )
    identity = replace(identity, **rest)
    return Arm(
        identity, requests, (0.0, SECONDS), 1.0, rates={"output_tokens": (1000.0, 0.02), "finished": (10.0, None)}
    )


KEYS = ("tpot:p50", "tpot:p99", "ttft:p90", "ttft:p50", "ttft:p99", "e2e:p50", "e2e:p99")
BASE_S = {
    "tpot:p50": 0.02,
    "tpot:p99": 0.05,
    "ttft:p90": 0.3,
    "ttft:p50": 0.1,
    "ttft:p99": 0.6,
    "e2e:p50": 2.0,
    "e2e:p99": 9.0,
}


def pairs(
    n: int, effect: dict[str, float] | None = None, sd: float = 0.005, seed: int = 1, **changes: Any
) -> list[Pair]:
    """Pairs whose metrics differ by these logarithms, with this sd."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(1, n + 1):
        base = {key: math.log(BASE_S[key]) + rng.normal(0, 0.05) for key in KEYS}
        new = {key: value + (effect or {}).get(key, 0.0) + rng.normal(0, sd) for key, value in base.items()}
        made.append(Pair(number, {"all": base}, {"all": new}, {"all": (0.99, 0.99)}, **changes))
    return made
