"""Run folders as `slobench run` leaves them, made of the simulated engine in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from slobench.config.load import load_target, public
from slobench.config.target import SimTarget
from slobench.config.workload import Workload
from slobench.engine.virtual import Offer, serve
from slobench.metrics.ask import Ask
from slobench.metrics.evaluate import summarise
from slobench.plan import build_plan
from slobench.records import store
from slobench.records.schema import REQUESTS, Records
from slobench.report.summary import of_summary
from tests.metrics.conftest import Run
from tests.metrics.virtual import _put
from tests.validation.gate import scaled

SLO = ("ttft<500ms", "tpot<30ms")
WORKLOAD = Workload.model_validate(
    {
        "name": "small",
        "classes": {
            "chat": {
                "arrivals": {"process": "poisson", "rate": 14},
                "input_tokens": {"dist": "lognormal", "mean": 200, "sigma": 0.6, "max": 2000},
                "output_tokens": {"dist": "lognormal", "mean": 40, "sigma": 0.5, "max": 400},
            }
        },
        "requests": 400,
        "slo": SLO,
    }
)
START_S = 1_800_000_000.0


def made(folder: Path, *, seed: int = 1, slower: float = 1.0, at_s: float = 0.0, **changes: Any) -> Path:
    """Write a run folder; `at_s`: when it was started, after START_S; changes: keys of run.json."""
    target = load_target("sim-reference").value
    assert isinstance(target, SimTarget)
    plan = build_plan(WORKLOAD, seed)
    assert plan.scheduled_ns is not None
    noise = int(at_s) + 1000 * seed
    offer = Offer(plan.scheduled_ns, plan.input_tokens, plan.output_tokens)
    found = serve(scaled(target.engine, slower), offer, noise)
    ask = Ask(forces_length=True, ids_sent=True, timeout_s=120.0, seed=seed)
    run = Run(plan.scheduled_ns / 1e9, ask=ask, slo=SLO)
    _put(run, plan.scheduled_ns, found, plan.output_tokens, np.random.default_rng(noise))
    evaluation = run.evaluate()
    folder.mkdir(parents=True, exist_ok=True)
    whole = Records({**_nothing(len(plan)), **run.columns}, run.built_chunks(), run.records().telemetry)
    store.write_parquet(folder, whole, evaluation.derived, evaluation.phase, evaluation.slo_met)
    content: dict[str, Any] = {
        "schema": 1,
        "name": "small",
        "spec": {"workload": public(WORKLOAD), "target": public(target), "slo": list(SLO)},
        "seed": seed,
        "plan": {"digest": plan.digest, "rows": len(plan)},
        "settings": {"requested": {}, "observed": {"slower": slower, "pid": 1}},
        "server": {"model": "sim", "api": "completions", "stream": True, "forces_length": True},
        "host": {"hostname": "box", "cpu_model": "Example", "cpus": 4},
        "clock": {"monotonic_ns": 0, "wall_ns": round((START_S + at_s) * 1e9), "start_ns": 0},
        "summary": of_summary(summarise(evaluation)),
    }
    store.write_run_json(folder, content | changes)
    return folder


def _nothing(n: int) -> dict[str, Any]:
    """Null in every column that such a run has nothing for."""
    numbers = [field.name for field in REQUESTS if not pa.types.is_string(field.type)]
    return {field.name: np.full(n, np.nan) if field.name in numbers else np.full(n, "") for field in REQUESTS}


def in_turn(folder: Path, pairs: int, *, slower: float = 1.0, apart: bool = False) -> tuple[Path, Path]:
    """Two folders of runs; ABBA, or all of one before all of the other where `apart`."""
    for k in range(pairs):
        order = ("base", "new") if k % 2 == 0 else ("new", "base")
        for turn, name in enumerate(order):
            at_s = 100.0 * k + 10_000.0 * (name == "new") if apart else 100.0 * k + 40.0 * turn
            made(folder / name / f"repeat-{k + 1}", seed=k + 1, slower=slower if name == "new" else 1.0, at_s=at_s)
    return folder / "base", folder / "new"
