"""What a gate decides of simulated servers: the product's own runs, pairs and looks, in virtual time.

A server is the reference engine (docs/metrics.md, Engine model) with two kinds of noise on its speed: one of each run
(a restart, a placement in memory) and one that drifts from run to run (the machine). Arms run in the order ABBA, so the
drift is what a pair has to cancel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from slobench.config.engine import Engine
from slobench.config.load import load_target
from slobench.config.margins import Margins
from slobench.config.slo import parse_slo
from slobench.config.target import SimTarget
from slobench.config.workload import Workload
from slobench.experiment.ab import order_of
from slobench.experiment.virtual_arm import Virtual, virtual_arm
from slobench.metrics.arm import Arm, Identity
from slobench.metrics.gate import Judgement, Pair, judge_pairs, pair_of, terms_of
from slobench.plan import build_plan

PAIRS = 10
MARGIN = 1.05
TERMS = terms_of(Margins())
DRIFT_KEPT = 0.8  # of the drift, from one run to the next


@dataclass(frozen=True, slots=True)
class System:
    """A server and its load. run_noise, drift: sd of the logarithm of its speed; tail: cv of a step's noise."""

    name: str
    rate: float
    cv: float = 1.0
    output_sigma: float = 0.8
    tail: float = 0.05
    run_noise: float = 0.005
    drift: float = 0.005
    requests: int = 1250
    part: float = 1.0  # of the experiments that are asked for

    @property
    def workload(self) -> Workload:
        """The reference workload at this load."""
        process: dict[str, Any] = {"process": "poisson"} if self.cv == 1 else {"process": "gamma", "cv": self.cv}
        lengths = {"dist": "lognormal", "mean": 220, "sigma": self.output_sigma, "min": 1, "max": 2000}
        prompts = {"dist": "lognormal", "mean": 512, "sigma": 0.9, "min": 8, "max": 8000}
        chat = {"arrivals": {**process, "rate": self.rate}, "input_tokens": prompts, "output_tokens": lengths}
        slo = ("ttft<500ms", "tpot<30ms", "attainment>=90%")
        return Workload.model_validate(
            {"name": "reference", "classes": {"chat": chat}, "requests": self.requests, "slo": slo}
        )


SYSTEMS = (
    System("reference engine, 70 % load", 14.0),
    System("heavier tails: gamma cv 2, outputs σ 1.2, step noise cv 0.3", 9.5, cv=2, output_sigma=1.2, tail=0.3),
    System("the first, noise of 1 % a run", 14.0, run_noise=0.01, drift=0.007, part=0.1),
    System("the first at its knee: attainment near 95 %", 19.4, part=0.1),
)
SMALL = replace(SYSTEMS[0], name="small", requests=260)


def experiment(system: System, slower: float, seed: int) -> list[Pair]:
    """Ten pairs: a server against itself, its steps `slower` times as long in the new arm."""
    return list(pairs_of(system, slower, seed))


def as_run(system: System, slower: float, seed: int) -> list[Pair]:
    """Only as many pairs as the gate itself would run."""
    pairs: list[Pair] = []
    for pair in pairs_of(system, slower, seed):
        pairs.append(pair)
        if decide(pairs).decision is not None:
            break
    return pairs


def pairs_of(system: System, slower: float, seed: int) -> Iterator[Pair]:
    """Run pair after pair."""
    for number, (base, new) in enumerate(arms_of(system, slower, seed), 1):
        yield pair_of(number, base, new, TERMS)


def arms_of(system: System, slower: float, seed: int) -> Iterator[tuple[Arm, Arm]]:
    """Run both arms of pair after pair."""
    workload, engine = system.workload, engine_of(system)
    what = Virtual(workload, parse_slo(workload.slo, tuple(workload.classes)), build_plan(workload, 0))
    rng = np.random.default_rng([seed, round(system.rate * 100), round(slower * 1000)])
    drift = rng.normal(0, system.drift)
    for number in range(1, PAIRS + 1):
        offered = replace(what, plan=build_plan(what.workload, 1000 * seed + number))
        arms = {}
        for name in order_of(number):
            drift = DRIFT_KEPT * drift + math.sqrt(1 - DRIFT_KEPT**2) * rng.normal(0, system.drift)
            factor = math.exp(drift + rng.normal(0, system.run_noise)) * (slower if name == "new" else 1.0)
            arms[name] = virtual_arm(offered, scaled(engine, factor), int(rng.integers(2**31)), Identity(name))
        yield arms["base"], arms["new"]


def engine_of(system: System) -> Engine:
    """The engine of targets/sim-reference.yaml, with this noise of a step."""
    target = load_target("sim-reference").value
    assert isinstance(target, SimTarget)
    step = target.engine.step.model_copy(update={"noise_cv": system.tail})
    return target.engine.model_copy(update={"step": step})


def scaled(engine: Engine, factor: float) -> Engine:
    """Every part of an iteration `factor` times as long."""
    names = ("base_ms", "token_ms", "kv_token_ms", "sequence_ms", "attention_ms")
    step = engine.step.model_copy(update={name: getattr(engine.step, name) * factor for name in names})
    return engine.model_copy(update={"step": step})


def decide(pairs: Sequence[Pair]) -> Judgement:
    """What the gate says, in the end."""
    return judge_pairs(pairs, TERMS)


def worse_by_the_margin(pairs: Sequence[Pair], key: str) -> list[Pair]:
    """The same pairs with one metric of the new arm truly worse by the margin."""
    return [
        replace(pair, new={**pair.new, "all": {**pair.new["all"], key: pair.new["all"][key] + math.log(MARGIN)}})
        for pair in pairs
    ]
