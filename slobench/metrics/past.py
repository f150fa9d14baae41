"""Runs as a stored baseline keeps them: their percentiles, their attainment, and one sketch of each distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slobench.errors import ConfigError
from slobench.metrics.arm import Arm, Identity
from slobench.metrics.gate import Logs, attainment, logs
from slobench.metrics.quantities import Quantity
from slobench.stats.sketch import Sketch, from_json, merged, sketch

KIND, SCHEMA = "slobench-baseline", 1
METRICS = ("ttft", "tpot", "e2e")
KEPT = tuple(Quantity(metric, q) for metric in METRICS for q in (None, 0.5, 0.9, 0.95, 0.99))
MOST_RUNS = 50
"""Of a baseline file; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Past:
    """One earlier run. logs: class -> metric key -> ln s; attainment: class -> share; requests: in its window."""

    identity: Identity
    logs: Logs
    attainment: Mapping[str, float]
    requests: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """Earlier runs of one plan, oldest first. sketches: class -> metric -> seconds of all their requests."""

    runs: tuple[Past, ...]
    sketches: Mapping[str, Mapping[str, Sketch]] = field(default_factory=dict)


def past_of(arm: Arm, shown: Sequence[Quantity] = KEPT) -> Past:
    """Keep what a later comparison needs of a run."""
    classes = arm.requests.classes
    shares = {name: attainment(arm.requests, name) for name in classes}
    kept = {name: share for name, share in shares.items() if share is not None}
    return Past(arm.identity, logs(arm.requests, shown, classes), kept, len(arm.requests.index))


def sketches_of(arm: Arm) -> dict[str, dict[str, Sketch]]:
    """Sketch the distributions of a run, class by class."""
    found = {}
    for name in arm.requests.classes:
        mine = arm.requests.of(name)
        there = {metric: mine.seconds[metric][mine.ok] for metric in METRICS if metric in mine.seconds}
        found[name] = {metric: sketch(values) for metric, values in there.items() if not np.all(np.isnan(values))}
    return found


def added(baseline: Baseline | None, arms: Sequence[Arm]) -> Baseline:
    """Return the baseline with more runs. A run that is in it already, by name and start, is not added again."""
    before = baseline or Baseline(())
    known = {(past.identity.name, past.identity.started_s) for past in before.runs}
    fresh = [arm for arm in arms if (arm.identity.name, arm.identity.started_s) not in known]
    runs = (*before.runs, *(past_of(arm) for arm in fresh))[-MOST_RUNS:]
    parts = [before.sketches, *(sketches_of(arm) for arm in fresh)]
    return Baseline(runs, _merged(parts))


def _merged(parts: Sequence[Mapping[str, Mapping[str, Sketch]]]) -> dict[str, dict[str, Sketch]]:
    names = dict.fromkeys((name, metric) for part in parts for name, of in part.items() for metric in of)
    found: dict[str, dict[str, Sketch]] = {}
    for name, metric in names:
        found.setdefault(name, {})[metric] = merged(
            [part[name][metric] for part in parts if metric in part.get(name, {})]
        )
    return found


def to_json(baseline: Baseline) -> dict[str, Any]:
    """Return it as plain data: what all runs share once, then each run in a few lines; times in s."""
    latest = baseline.runs[-1].identity
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "plan": {"digest": latest.digest, "seed": latest.seed},
        "workload": dict(latest.workload),
        "slo": list(latest.slo),
        "manner": dict(latest.manner),
        "settings": dict(latest.settings),
        "runs": [_run(past) for past in baseline.runs],
        "sketches": {
            name: {metric: one.to_json() for metric, one in of.items()} for name, of in baseline.sketches.items()
        },
    }


def _run(past: Past) -> dict[str, Any]:
    identity = past.identity
    return {
        "name": identity.name,
        "started_s": identity.started_s,
        "verdict": identity.verdict[:200],
        "server": sorted(identity.server),
        "window_of_e2e": identity.window_of_e2e,
        "requests": past.requests,
        "attainment": dict(past.attainment),
        "seconds": {
            name: {key: float(f"{math.exp(value):.6g}") for key, value in of.items()} for name, of in past.logs.items()
        },
    }


def of_json(data: Any, source: str) -> Baseline:
    """Read what `to_json` made. ConfigError where it is something else, or of a later version."""
    if not isinstance(data, Mapping) or data.get("kind") != KIND:
        raise ConfigError(f"{source} is no baseline\n  expected  a file that `slobench gate --save-baseline` wrote")
    if not isinstance(data.get("schema"), int) or data["schema"] > SCHEMA:
        raise ConfigError(
            f"{source} has schema {data.get('schema')}, this slobench reads up to {SCHEMA}\n"
            "  expected  a newer slobench: pip install -U slobench"
        )
    try:
        sketches = {
            name: {metric: from_json(one) for metric, one in of.items()} for name, of in data["sketches"].items()
        }
        return Baseline(tuple(_pasts(data)), sketches)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{source} is a damaged baseline: {error}\n  expected  --save-baseline anew") from None


def _pasts(data: Mapping[str, Any]) -> Iterator[Past]:
    for run in data["runs"]:
        identity = Identity(
            name=str(run["name"]), digest=data["plan"]["digest"], seed=data["plan"]["seed"], workload=data["workload"],
            slo=tuple(data["slo"]), manner=data["manner"], settings=data["settings"], started_s=run["started_s"],
            verdict=str(run["verdict"]), server=frozenset(run["server"]), window_of_e2e=run["window_of_e2e"],
        )  # fmt: skip
        seconds = {name: {key: math.log(value) for key, value in of.items()} for name, of in run["seconds"].items()}
        yield Past(identity, seconds, {name: float(x) for name, x in run["attainment"].items()}, int(run["requests"]))
