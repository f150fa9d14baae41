"""Where a baseline comes from: run folders, a compact file in git, or the last runs of a history."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from slobench.errors import ConfigError, InvalidRunError, UsageError
from slobench.experiment.arms import find_arms
from slobench.metrics.arm import Arm, Identity
from slobench.metrics.past import Baseline, Past, added, of_json, past_of, to_json
from slobench.metrics.quantities import Quantity
from slobench.records import history
from slobench.records.whole import write_whole
from slobench.stats.changes import ChangePoint, change_points

MOST_BYTES = 200_000
REVISIONS = ("SLOBENCH_REVISION", "GITHUB_SHA", "CI_COMMIT_SHA")


def earlier_runs(spec: str, digest: str | None, shown: Sequence[Quantity], last: int | None) -> list[Past]:
    """Read the earlier runs that a word of the command line means, oldest first; of a history those of this plan."""
    path = Path(spec)
    if path.suffix == ".parquet":
        found = _from_history(path, digest)
    elif path.suffix == ".json" and path.is_file():
        found = list(load_baseline(path).runs)
    else:
        found = [past_of(arm, shown) for arm in find_arms(spec)]
        found.sort(key=lambda past: past.identity.started_s or 0.0)
    return found[-last:] if last else found


def load_baseline(path: Path) -> Baseline:
    """Read a file of `--save-baseline`. ConfigError where it is none."""
    try:
        return of_json(orjson.loads(path.read_bytes()), str(path))
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"cannot read {path}: {error}\n  expected  a file of --save-baseline") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}\n  expected  a file of --save-baseline") from None


def save_baseline(path: Path, arms: Sequence[Arm]) -> Baseline:
    """Add valid runs to a baseline file, made where it is not there; the oldest go where it would grow past 200 kB.

    Raises InvalidRunError for an invalid run, UsageError for one of another plan.
    """
    for arm in arms:
        if not arm.identity.valid:
            raise InvalidRunError(
                f"{arm.identity.name} is {arm.identity.verdict}\n  expected  a valid run in a baseline"
            )
    before = load_baseline(path) if path.exists() else None
    plans = {arm.identity.digest for arm in arms} | ({before.runs[-1].identity.digest} if before else set())
    if len(plans) > 1:
        raise UsageError(
            f"{path}: runs of {len(plans)} plans\n  expected  one plan: the same workload, seed and slobench"
        )
    baseline = added(before, arms)
    while len(data := _dumped(baseline)) > MOST_BYTES and len(baseline.runs) > 1:
        baseline = Baseline(baseline.runs[1:], baseline.sketches)
    write_whole(path, lambda aside: aside.write_bytes(data), "a file you may write to")
    return baseline


def _dumped(baseline: Baseline) -> bytes:
    """Return the file: a line for each part, so that git shows what changed."""
    data = to_json(baseline)
    runs = b",\n  ".join(orjson.dumps(run) for run in data.pop("runs"))
    head = orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS).removesuffix(b"}")
    return head + b',\n"runs": [\n  ' + runs + b"\n]}\n"


def append_history(path: Path, arms: Sequence[Arm]) -> int:
    """Add runs to a history; returns the number of rows."""
    return history.append(path, [row for arm in arms for row in _rows(arm)])


def _rows(arm: Arm) -> list[dict[str, Any]]:
    past, identity = past_of(arm), arm.identity
    common = {
        "started_s": identity.started_s,
        "run": identity.name,
        "revision": next((value for name in REVISIONS if (value := os.environ.get(name))), None),
        "digest": str(identity.digest),
        "workload": str(identity.workload.get("name", "")),
        "target": str(identity.manner.get("target", "")),
        "valid": identity.valid,
        "verdict": identity.verdict[:200],
        "window_of_e2e": identity.window_of_e2e,
        "requests": past.requests,
    }
    seen = [(name, key, math.exp(value)) for name, of in past.logs.items() for key, value in of.items()]
    seen += [(name, "attainment", share) for name, share in past.attainment.items()]
    return [{**common, "class": name, "metric": key, "value": value} for name, key, value in seen]


def _from_history(path: Path, digest: str | None) -> list[Past]:
    """Return the runs of one plan, in the order of their start."""
    runs: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for row in history.read(path).to_pylist():
        if digest is None or row["digest"] == digest:
            runs.setdefault((row["run"], row["started_s"] or 0.0), []).append(row)
    return [_past(rows) for _, rows in sorted(runs.items(), key=lambda item: item[0][1])]


def _past(rows: Sequence[Mapping[str, Any]]) -> Past:
    first = rows[0]
    identity = Identity(
        name=first["run"], digest=first["digest"], workload={"name": first["workload"]},
        manner={"target": first["target"]}, started_s=first["started_s"], verdict=first["verdict"],
        valid=first["valid"], window_of_e2e=first["window_of_e2e"],
    )  # fmt: skip
    logs: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["metric"] != "attainment":
            logs.setdefault(row["class"], {})[row["metric"]] = math.log(row["value"])
    shares = {row["class"]: row["value"] for row in rows if row["metric"] == "attainment"}
    return Past(identity, logs, shares, int(first["requests"]))


def changes_in(runs: Sequence[Past], shown: Sequence[Quantity]) -> list[tuple[str, str, str, ChangePoint]]:
    """(class, metric, first run of the new level, change) of every change of level in a series of runs."""
    found = []
    for name in runs[0].logs if runs else ():
        for each in shown:
            series = [past for past in runs if past.identity.valid and each.key in past.logs.get(name, {})]
            values = np.exp([past.logs[name][each.key] for past in series])
            found += [(name, each.key, series[one.index].identity.name, one) for one in change_points(values)]
    return found
