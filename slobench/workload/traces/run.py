"""A run of ours as a trace: what was offered, from plan.parquet and requests.parquet of its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slobench.config.session import LOOK_BACK
from slobench.names import NULL, Outcome
from slobench.records.arrow import arrow_array, integers, list_values, text_values
from slobench.records.store import read_plan, read_requests, read_run_json
from slobench.workload.content import Contents
from slobench.workload.mixing import mixed_array
from slobench.workload.traces.blocks import blocks_of
from slobench.workload.traces.files import fault
from slobench.workload.traces.schema import Trace, list_array, make_trace
from slobench.workload.variates import IntArray

BLOCK_TOKENS = 16
"""Blocks in which what prompts share is told: those of vLLM."""
_NUMBERS = (
    *("scheduled_ns", "session", "turn", "input_tokens", "output_tokens"),
    *("after", "delay_ns", "images"),
)
_SALT = 8  # pieces that a prompt keeps for its own index, where a prefix of its class would fill it
_PREFIX = 0x5AFE  # names the prefixes of classes


def is_run(path: Path) -> bool:
    """Whether a folder holds a run's files."""
    return path.is_dir() and any((path / name).exists() for name in ("requests.parquet", "run.json", "plan.parquet"))


def read(path: Path) -> Trace:
    """Read a run's planned requests at their scheduled times, with the lengths that were asked for.

    Requests that failed are as good as any: they were offered. What was not is left out: the spare requests of a run by
    duration, the end of a closed loop or of a session that stopped.
    """
    if not (path / "requests.parquet").exists():
        raise fault(path, None, "no requests.parquet", f"a run's folder; `slobench report {path}` makes it of a spool")
    plan, requests = read_plan(path), read_requests(path)
    numbers = {name: integers(plan[name].combine_chunks()) for name in _NUMBERS if name in plan.column_names}
    planned, seen = numbers["scheduled_ns"], _whole(requests["scheduled_ns"])
    scheduled = np.where(planned == NULL, seen, planned)
    end = _whole(requests["end_ns"])
    outcome = np.asarray(requests["outcome"])
    due = (scheduled != NULL) & (outcome != Outcome.UNSENT.value)
    columns: dict[str, Any] = {
        **{name: numbers[name] for name in ("input_tokens", "output_tokens", "images") if name in numbers},
        "arrival_ns": scheduled,
        "elapsed_ns": np.where((end == NULL) | ~due, NULL, end - scheduled),
        **_sessions(numbers),
    }
    contents = _contents(path, plan, numbers)
    if contents is not None:
        columns["blocks"] = blocks_of(contents, numbers["input_tokens"], BLOCK_TOKENS)
    classes = plan["class"].combine_chunks()
    columns["class"] = pa.DictionaryArray.from_arrays(classes.indices, classes.dictionary)
    if not due.all():
        rows = arrow_array(np.flatnonzero(due), pa.int64())
        columns = {
            name: column[due] if isinstance(column, np.ndarray) else column.take(rows)
            for name, column in columns.items()
        }
    size = None if contents is None else BLOCK_TOKENS
    notes = _notes(outcome[due], int((~due).sum()))
    return make_trace(columns, format="slobench", block_tokens=size, notes=notes)


def _notes(outcomes: NDArray[Any], never_due: int) -> list[str]:
    failed = int((outcomes != "ok").sum())
    notes = []
    if never_due:
        notes.append(f"{never_due} requests were planned and not offered; they are left out")
    if failed:
        notes.append(f"{failed} requests had no whole reply; they stay, as they were offered")
    return notes


def _whole(column: NDArray[Any]) -> IntArray:
    """Times that were read as floats, NULL for NaN."""
    nothing = np.isnan(column)
    return np.where(nothing, NULL, np.where(nothing, 0, column).astype(np.int64))


def _sessions(numbers: Mapping[str, IntArray]) -> dict[str, Any]:
    """Sessions with more than one request, and what their rows wait for."""
    session, turn = numbers["session"], numbers["turn"]
    if len(np.unique(session)) == len(session):
        return {}
    columns: dict[str, Any] = {"session": session, "turn": turn}
    if "after" in numbers:
        bits = [np.flatnonzero(numbers["after"] >> k & 1) for k in range(LOOK_BACK)]
        rows = np.concatenate(bits)
        back = np.repeat(np.arange(1, LOOK_BACK + 1), [len(each) for each in bits])
        order = np.lexsort((-back, rows))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(rows, minlength=len(session)))])
        columns["after"] = list_array(offsets, turn[rows[order]] - back[order])
    if "delay_ns" in numbers:
        columns["delay_ns"] = numbers["delay_ns"]
    return columns


def _contents(path: Path, plan: pa.Table, numbers: Mapping[str, IntArray]) -> Contents | None:
    """What prompts begin with: the plan's parts and, of classes with a prefix of their own, that."""
    run = read_run_json(path) if (path / "run.json").exists() else {}
    classes = run.get("spec", {}).get("workload", {}).get("classes", {})
    codes = plan["class"].combine_chunks()
    names = text_values(codes.dictionary)
    prefix = np.array([int(classes.get(name, {}).get("shared_prefix_tokens", 0)) for name in names], dtype=np.int64)
    code = integers(codes.indices)
    tokens = np.minimum(prefix[code], np.maximum(numbers["input_tokens"] - _SALT, 0))
    shared = Contents.one_each(mixed_array(code, _PREFIX), tokens)
    if {"content_key", "content_tokens"} <= set(plan.column_names):
        offsets, keys = list_values(plan["content_key"].combine_chunks())
        parts = Contents(offsets, keys, list_values(plan["content_tokens"].combine_chunks())[1])
        return shared.then(parts)
    return None if shared.unique else shared
