"""Commands on a workload that replays a recording."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from slobench.cli.main import main
from tests.experiment.running import running
from tests.workload.traces.writing import put

ROWS = 40


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A workload of two classes of one file: every fifth request failed, those of `b` come in sessions of two."""
    lines = [json.dumps({"slobench_trace": 1, "block_tokens": 16})]
    for at in range(ROWS):
        row = {"arrival_s": at / 20, "input_tokens": 40 + at % 7, "output_tokens": 3, "class": "ab"[at % 2]}
        row |= {"blocks": [7, at % 4, 1000 + at], "failed": at % 5 == 4}
        if at % 2:
            row |= {"session": f"s{at // 4}", "elapsed_s": 0.01}
        lines.append(json.dumps(row))
    put(tmp_path / "log.jsonl", "\n".join(lines))
    text = "name: replay\nclasses:\n  a:\n    recorded: {file: log.jsonl, label: a}\n"
    return put(tmp_path / "w.yaml", text + "  b:\n    recorded: {file: log.jsonl, label: b, turns: after-reply}\n")


@dataclass(frozen=True)
class Done:
    exit_code: int
    output: str


def slobench(*words: str) -> Done:
    """Run a command in this process."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(output):
        patch.setattr("sys.argv", ["slobench", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    return Done(int(ended.value.code or 0), output.getvalue())


def test_a_plan_tells_what_was_left_out(recording: Path) -> None:
    """In text and in JSON; rates count every request that has a time of its own."""
    done = slobench("plan", str(recording))
    assert done.exit_code == 0
    assert "note      class a: 4 of 20 requests failed when they were recorded and are left out" in done.output
    assert "arrive  recorded" in done.output
    facts = json.loads(slobench("plan", str(recording), "--json").output)
    assert len(facts["notes"]) == 2
    assert facts["requests"] == 32
    assert facts["hit_rate_planned"] > 0.2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "--rate", "5"), "--rate: class a replays a recording at its own times"),
        (("run", "--arrivals", "poisson"), "--arrivals"),
        (("capacity", "--slo", "ttft<1s"), "class a replays a recording, whose load is what it was"),
    ],
)
def test_loads_that_cannot_be_set_are_refused(recording: Path, words: tuple[str, ...], told: str) -> None:
    """A recorded load is what it was; the error says what can be set instead."""
    done = slobench(words[0], str(recording), "--target", "sim", *words[1:], "--out", str(recording.parent / "out"))
    assert done.exit_code == 2
    assert told in done.output
    assert "expected" in done.output


def test_a_recording_is_offered_and_read_again(recording: Path) -> None:
    """Against the simulated engine: every record is sent, notes are kept, and the run is a trace of the same rows."""
    with running(recording.parent / "run", str(recording), "--target", "sim", "--quiet", "--workers", "1") as run:
        assert run.end() in {0, 3}  # a busy machine makes a run invalid, not wrong
    rows, kept = run.rows(), run.run_json()
    assert rows["outcome"] == ["ok"] * 32
    assert any("failed when they were recorded" in note for note in kept["run"]["notes"])
    text = "name: again\nclasses:\n  x:\n    recorded: {file: run}\n"
    again = json.loads(slobench("plan", str(put(recording.parent / "again.yaml", text)), "--json").output)
    before = json.loads(slobench("plan", str(recording), "--json").output)
    assert again["requests"] == before["requests"]
    total = sum(each["input_tokens"]["total"] for each in before["classes"].values())
    assert again["classes"]["x"]["input_tokens"]["total"] == total
    assert again["hit_rate_planned"] == pytest.approx(before["hit_rate_planned"], abs=0.03)  # order of sessions
