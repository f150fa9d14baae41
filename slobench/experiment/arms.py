"""Runs as comparisons see them, from run folders and from other tools' result files."""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slobench.errors import ConfigError, RecordsError, UsageError
from slobench.metrics import window
from slobench.metrics.arm import Arm, Identity, Requests
from slobench.metrics.ask import Ask
from slobench.metrics.window import BATCHES
from slobench.names import Outcome, Phase
from slobench.records import store
from slobench.records.foreign import ForeignRun, is_foreign, read_foreign
from slobench.stats.intervals import student_quantile

_IDLE = re.compile(r"(^|\.)(pid|port|url|base_url|log|started|start|ready_s|uptime\w*|created|root|nonce)$")
_LATENCIES = ("ttft", "ttfo", "tpot", "max_gap", "e2e", "ttft_sent", "e2e_sent")


def find_arms(spec: str) -> list[Arm]:
    """Read every run that a word of the command line means: a run folder, one of repeats, a glob, another tool's file.

    `FILE#2` picks the second run of a file that holds several. Raises UsageError where there is none.
    """
    magic = glob.has_magic(spec)
    paths = [Path(each) for each in sorted(glob.glob(spec))] if magic else [Path(spec)]  # noqa: PTH207 (absolute ones)
    found = [arm for path in paths for arm in _at(path)]
    if not found:
        raise UsageError(
            f"no run in {spec}\n  expected  folders that `slobench run` wrote, or other tools' result files"
        )
    return found


def _at(path: Path) -> Iterator[Arm]:
    if (path / "run.json").is_file():
        yield arm_of(path)
    elif repeats := run_folders(path):
        yield from map(arm_of, repeats)
    else:
        file, _, number = str(path).partition("#")
        if is_foreign(Path(file)):
            yield from map(_foreign, _picked(read_foreign(Path(file)), file, number))
        elif path.exists():
            raise UsageError(f"no run in {path}\n  expected  a folder that `slobench run` wrote, with run.json")
        else:
            raise UsageError(f"no such folder or file: {path}\n  expected  e.g. results/chat-1")


def run_folders(path: Path) -> list[Path]:
    """Return the run folders directly below a folder, `repeat-2` before `repeat-10`."""
    found = [each.parent for each in path.glob("*/run.json")] if path.is_dir() else []
    return sorted(found, key=lambda each: [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", each.name)])


def _picked(runs: list[ForeignRun], file: str, number: str) -> list[ForeignRun]:
    if number:
        if not number.isdigit() or not 1 <= int(number) <= len(runs):
            raise UsageError(f"no run {number} in {file}\n  expected  #1 to #{len(runs)}")
        return [runs[int(number) - 1]]
    if len(runs) > 1 and len({str(sorted(run.offered.items())) for run in runs}) > 1:
        raise UsageError(
            f"{file} holds {len(runs)} runs of different loads\n  expected  one of them: {file}#1 to {file}#{len(runs)}"
        )
    return runs


def arm_of(folder: Path) -> Arm:
    """Read a run folder. Raises RecordsError where it has not been reported on."""
    run = store.read_run_json(folder)
    summary = run.get("summary")
    if not isinstance(summary, Mapping):
        raise RecordsError(f"the run in {folder} has no report yet\n  then      slobench report {folder}")
    stored = store.load(folder)
    requests = stored.records.requests
    due = np.asarray(requests["outcome"] != Outcome.UNSENT.value)
    everything = Requests(
        np.asarray(requests["index"]),
        np.asarray(requests["scheduled_ns"], dtype=np.float64) / 1e9,
        np.asarray(requests["class"]),
        np.asarray(requests["outcome"] == Outcome.OK.value),
        np.asarray(stored.slo_met, dtype=np.float64),
        {name: stored.derived[f"{name}_s"] for name in _LATENCIES},
    )
    chosen = summary["window"]
    loop = (run.get("spec") or {}).get("workload", {}).get("loop") or {}
    return Arm(
        _identity(folder, run, summary),
        everything.take(due & (stored.phase == Phase.MAIN.value)),
        (float(chosen["start_s"]), float(chosen["end_s"])),
        chosen.get("mean_e2e_s"),
        closed=loop.get("mode") == "closed",
        rates=dict(_rates(summary.get("load") or {})),
    )


def _identity(folder: Path, run: Mapping[str, Any], summary: Mapping[str, Any]) -> Identity:
    spec, plan = run.get("spec") or {}, run.get("plan") or {}
    chosen = summary["window"]
    length, mean = float(chosen["end_s"]) - float(chosen["start_s"]), chosen.get("mean_e2e_s")
    clock = run.get("clock") or {}
    started = None
    if isinstance(clock.get("wall_ns"), int):
        started = (clock["wall_ns"] + (clock.get("start_ns") or 0) - (clock.get("monotonic_ns") or 0)) / 1e9
    return Identity(
        name=str(folder),
        digest=plan.get("digest"),
        seed=run.get("seed"),
        workload=spec.get("workload") or {},
        slo=tuple(str(clause) for clause in spec.get("slo") or ()),
        manner=_manner(run),
        settings=_settings(run),
        started_s=started,
        verdict=str(summary.get("verdict", "")),
        valid=bool(summary.get("valid")),
        server=frozenset(str(each["code"]) for each in summary.get("findings") or () if each["level"] == "server"),
        window_of_e2e=length / mean if mean else None,
    )


def _manner(run: Mapping[str, Any]) -> dict[str, str]:
    """What kind of server was asked, and how: numbers of different kinds do not mean the same."""
    target = (run.get("spec") or {}).get("target") or {}
    talk, server = target.get("talk") or {}, run.get("server") or {}
    forced = server.get("forces_length", talk.get("forces_length"))
    return {
        "target": str(target.get("kind")),
        "API": str(server.get("api") or talk.get("api")),
        "streaming": str(server.get("stream", talk.get("stream", True))),
        "length of replies forced": str(forced),
        "prompts as": "token ids" if (server.get("token_ids") or talk.get("token_ids")) else "text",
    }


def _settings(run: Mapping[str, Any]) -> dict[str, str]:
    """Everything known of server and machine that may explain a difference, by dotted name."""
    spec, settings = run.get("spec") or {}, run.get("settings") or {}
    host = run.get("host") or {}
    known = {
        "target": {key: value for key, value in (spec.get("target") or {}).items() if key not in {"kind", "about"}},
        "server": settings.get("observed") or {},
        "model": (run.get("server") or {}).get("model"),
        "machine": {key: host.get(key) for key in ("hostname", "cpu_model", "cpus", "cpu_governor", "kernel")},
        "slobench": run.get("slobench"),
        "workers": run.get("workers"),
        "stamps": run.get("stamps"),
        "versions": run.get("versions") or {},
    }
    return {key: value for key, value in flat(known) if not _IDLE.search(key)}


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield what nested settings hold: (dotted name, value as text)."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif value is not None:
        yield prefix, str(value)[:200]


def _rates(load: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, float | None]]]:
    """Rates of the whole server with the error of their logarithm, from their own interval over the window's parts."""
    half = student_quantile(BATCHES - 1, 0.975)
    for key, name in (("output_tokens", "output_tokens_per_s"), ("finished", "finished_rps")):
        value = load.get(name)
        seen = (load.get("intervals") or {}).get(name) or {}
        low, high = seen.get("low"), seen.get("high")
        error = math.log(high / low) / (2 * half) if low and high else None
        if isinstance(value, int | float) and value > 0:
            yield key, (float(value), error)


def _foreign(run: ForeignRun) -> Arm:
    """Another tool's run: its window is chosen as one of ours, its times count from the send."""
    n = len(run.start_s)
    if np.isnan(run.start_s).any():
        raise ConfigError(f"{run.name}: requests without a start\n  expected  the time at which each was sent")
    columns = {
        "index": np.arange(n),
        "scheduled_ns": run.start_s * 1e9,
        "outcome": np.where(run.ok, Outcome.OK.value, Outcome.HTTP_ERROR.value),
        "session": np.arange(n),
        "end_ns": (run.start_s + np.nan_to_num(run.e2e_s)) * 1e9,
    }
    chosen = window.choose(columns, run.e2e_s, Ask())
    seconds = {"ttft_sent": run.ttft_s, "tpot": run.tpot_s, "e2e_sent": run.e2e_s}
    everything = Requests(np.arange(n), run.start_s, np.full(n, "request"), run.ok, np.full(n, np.nan), seconds)
    identity = Identity(
        name=run.name, tool=run.tool, workload=run.offered, manner={"tool": run.tool}, settings=run.settings,
        verdict=f"not checked (made by {run.tool})", window_of_e2e=chosen.lengths_of_e2e(),
    )  # fmt: skip
    ended = run.start_s + np.nan_to_num(run.e2e_s)
    span = float(ended.max()) or 1.0
    rates: dict[str, tuple[float, float | None]] = {
        "output_tokens": (float(np.nansum(run.output_tokens)) / span, None),
        "finished": (float(run.ok.sum()) / span, None),
    }
    kept = everything.take(chosen.holds(run.start_s))
    return Arm(identity, kept, (chosen.start_s, chosen.end_s), chosen.mean_e2e_s, rates=rates)
