"""A run's folder as a trace: replayed, it offers what was offered."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.names import Outcome
from slobench.plan import Plan, build_plan
from slobench.records.schema import CHUNKS, DERIVED, NULL, REQUESTS, TELEMETRY, Records
from slobench.records.store import write_parquet, write_plan, write_run_json
from slobench.workload.sharing import hits
from slobench.workload.traces.own import write_jsonl
from slobench.workload.traces.read import format_of, read_trace

S = 10**9
CHAT = {
    "arrivals": {"process": "gamma", "rate": 5, "cv": 2},
    "input_tokens": {"dist": "lognormal", "mean": 200, "sigma": 0.8, "max": 900},
    "output_tokens": {"dist": "uniform", "low": 1, "high": 40},
}


def finished(folder: Path, spec: dict[str, Any], *, unsent: int = 0, failed: int = 0, **seen: np.ndarray) -> Plan:
    """Write the files of a run of this workload in which each request took a second, or what is `seen`.

    The last `unsent` requests were not sent, the first `failed` ones had no reply.
    """
    workload = Workload.model_validate({"name": "w", **spec})
    plan = build_plan(workload, 0)
    n = len(plan)
    folder.mkdir()
    write_plan(folder, plan.to_arrow())
    scheduled = np.full(n, NULL) if plan.scheduled_ns is None else plan.scheduled_ns
    scheduled = np.where(scheduled == NULL, np.arange(n) * S, scheduled)
    times = {"scheduled_ns": scheduled, "end_ns": scheduled + S, **seen}
    requests: dict[str, Any] = {}
    for field in REQUESTS:
        requests[field.name] = np.full(n, "") if str(field.type) == "string" else np.full(n, np.nan)
    requests |= {name: np.where(column == NULL, np.nan, column.astype(float)) for name, column in times.items()}
    outcome = np.full(n, Outcome.OK.value, dtype="<U24")
    outcome[n - unsent :], outcome[:failed] = Outcome.UNSENT.value, Outcome.CONNECTION.value
    requests |= {"index": plan.index, "outcome": outcome, "session": plan.session}
    requests |= {"turn": plan.turn, "worker": np.zeros(n, np.int64)}
    requests |= {"input_tokens_planned": plan.input_tokens, "output_tokens_planned": plan.output_tokens}
    derived = {name: requests.pop(name) for name in DERIVED}
    empty = {name: np.empty(0, np.int64) for name in CHUNKS.names}
    telemetry = {field.name: np.empty(0, str if str(field.type) == "string" else float) for field in TELEMETRY}
    records = Records(requests, empty, telemetry)
    write_parquet(folder, records, derived, np.full(n, "main"), np.full(n, np.nan))
    write_run_json(folder, {"schema": 1, "spec": {"workload": workload.model_dump(mode="json")}})
    return plan


def replayed(path: Path, turns: str = "as-recorded", **limits: Any) -> Plan:
    """The plan of a workload of one class that replays the file."""
    spec = {"classes": {"a": {"recorded": {"file": str(path), "turns": turns}}}, "requests": 10**6, **limits}
    return build_plan(Workload.model_validate({"name": "again", **spec}), 7)


@pytest.mark.parametrize("converted", [False, True], ids=["folder", "own-jsonl"])
def test_a_run_exported_and_replayed_is_the_same_plan(tmp_path: Path, converted) -> None:
    """Times and lengths of every request, in order, from the folder or from the file it was converted to."""
    plan = finished(tmp_path / "run", {"classes": {"a": CHAT}, "duration": "60s"})
    path = tmp_path / "run"
    assert format_of(path) == "slobench"
    if converted:
        path = tmp_path / "run.jsonl"
        write_jsonl(read_trace(tmp_path / "run"), path)
    again = replayed(path)
    assert plan.scheduled_ns is not None
    assert again.scheduled_ns is not None
    first = plan.scheduled_ns[0]
    assert again.scheduled_ns.tolist() == (plan.scheduled_ns - first).tolist()
    for name in ("input_tokens", "output_tokens", "session", "turn"):
        assert getattr(again, name).tolist() == getattr(plan, name).tolist(), name


def test_sessions_come_back(tmp_path: Path) -> None:
    """Who waits for whom, delays, and what a cache of 16-token blocks finds."""
    steps = [
        {"name": "plan"},
        {"name": "left", "after": ["plan"], "delay": {"dist": "constant", "value": "300ms"}},
        {"name": "right", "after": ["plan"]},
        {"name": "join", "after": ["left", "right"]},
    ]
    session = {"turns": {"dist": "uniform", "low": 1, "high": 3}, "steps": steps}
    spec = {"classes": {"agent": {**CHAT, "session": session}}, "requests": 60}
    plan = finished(tmp_path / "run", spec)
    write_jsonl(read_trace(tmp_path / "run"), tmp_path / "run.jsonl")
    again = replayed(tmp_path / "run.jsonl", turns="after-reply")
    assert plan.after is not None
    assert again.after is not None
    for name in ("input_tokens", "output_tokens", "session", "turn", "after", "delay_ns"):
        assert getattr(again, name).tolist() == getattr(plan, name).tolist(), name
    assert plan.contents is not None
    assert again.contents is not None
    assert hits(again.contents, again.input_tokens, 16) == hits(plan.contents, plan.input_tokens, 16)


def test_a_shared_prefix_comes_back(tmp_path: Path) -> None:
    """What all prompts of a class begin with is one beginning in the replay too."""
    finished(tmp_path / "run", {"classes": {"a": {**CHAT, "shared_prefix_tokens": 64}}, "duration": "20s"})
    trace = read_trace(tmp_path / "run")
    offsets, names = trace.lists("blocks")
    long = np.flatnonzero(trace.numbers("input_tokens") > 80)
    first = [names[offsets[row] : offsets[row] + 4].tolist() for row in long]
    assert len(long) > 5
    assert all(each == first[0] for each in first)


def test_a_closed_loop_is_read_at_the_times_that_came_of_it(tmp_path: Path) -> None:
    """Scheduled times are those of the run; what was never due is left out and told; classes are labels."""
    spec: dict[str, Any] = {
        "loop": {"mode": "closed", "users": 2},
        "classes": {name: {key: CHAT[key] for key in ("input_tokens", "output_tokens")} for name in "ab"},
        "requests": 6,
    }
    due = np.array([0, 1, 2, 3, 4, NULL])
    plan = finished(tmp_path / "run", spec, scheduled_ns=np.where(due == NULL, NULL, due * S))
    trace = read_trace(tmp_path / "run")
    assert trace.numbers("arrival_ns").tolist() == [0, S, 2 * S, 3 * S, 4 * S]
    assert trace.numbers("session").tolist() == [0, 1, 0, 1, 0]
    assert trace.table["class"].to_pylist() == [plan.class_names[code] for code in plan.class_code[:5]]
    assert trace.notes[0].startswith("1 requests were planned and not offered")


def test_spare_requests_of_a_run_by_duration_were_not_offered(tmp_path: Path) -> None:
    """What was planned for a longer drain and never sent is no part of the traffic, failed requests are."""
    plan = finished(tmp_path / "run", {"classes": {"a": CHAT}, "duration": "20s"}, unsent=5, failed=3)
    trace = read_trace(tmp_path / "run")
    assert plan.scheduled_ns is not None
    assert trace.numbers("arrival_ns").tolist() == (plan.scheduled_ns - plan.scheduled_ns[0])[:-5].tolist()
    assert [note.split()[0] for note in trace.notes] == ["5", "3"]


def test_no_run_is_refused(tmp_path: Path) -> None:
    """A folder without a run, and one that a killed run left, say what to do."""
    with pytest.raises(ConfigError, match="holds no run and no client pool"):
        read_trace(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"no requests\.parquet(.|\n)*slobench report"):
        read_trace(tmp_path)


def test_nothing_of_a_plan_is_forgotten() -> None:
    """A new column of the plan must be read from a run too, or left out on purpose."""
    known = {"index", "scheduled_ns", "class_code", "session", "turn", "prompt", "input_tokens", "output_tokens"}
    known |= {"priority", "class_names", "after", "delay_ns", "patience_ns", "images", "contents", "notes"}
    assert {each.name for each in fields(Plan)} == known
