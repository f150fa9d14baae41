"""`slobench trace`: from a recorded file to a workload that is like it, and back to a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from slobench.cli import trace
from slobench.cli.main import GROUPS, build_app
from slobench.config.load import load_workload
from slobench.errors import SlobenchError
from slobench.plan import build_plan
from slobench.workload.traces.read import read_trace

Run = Callable[..., Any]
WORKLOAD = """
name: mix
requests: 300
classes:
  steady:
    arrivals: {process: gamma, rate: 5, cv: 2}
    input_tokens: {dist: lognormal, mean: 64, sigma: 0.5}
    output_tokens: {dist: uniform, low: 3, high: 9}
    prefix: {tokens: {dist: constant, value: 32}, pool: 4}
"""


@pytest.fixture
def run() -> Run:
    """Run one of the commands."""
    app = typer.Typer()
    for name in GROUPS["trace"][1].split():
        app.command(name)(getattr(trace, name))
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def drawn(run: Run, tmp_path: Path) -> Path:
    """A trace of 300 requests drawn from a workload."""
    (tmp_path / "mix.yaml").write_text(WORKLOAD)
    out = tmp_path / "drawn.jsonl"
    done = run("sample", tmp_path / "mix.yaml", "--seed", 3, "--out", out)
    assert done.exit_code == 0, done.output
    return out


def test_a_sample_is_what_the_workload_plans(drawn: Path, tmp_path: Path) -> None:
    """Times, lengths and class of the plan of the same seed, row by row; what prompts share is there as blocks."""
    recorded = read_trace(drawn)
    plan = build_plan(load_workload(str(tmp_path / "mix.yaml")).value, 3)
    assert plan.scheduled_ns is not None
    assert (recorded.numbers("arrival_ns") == plan.scheduled_ns - plan.scheduled_ns[0]).all()
    assert (recorded.numbers("input_tokens") == plan.input_tokens).all()
    assert (recorded.numbers("output_tokens") == plan.output_tokens).all()
    assert recorded.has("blocks")


def test_inspect_prints_writes_a_page_and_json(run: Run, drawn: Path, tmp_path: Path) -> None:
    """Text, HTML and JSON name the same number of requests; the JSON has its keys."""
    page = tmp_path / "page.html"
    done = run("inspect", drawn, "--html", page)
    assert done.exit_code == 0, done.output
    assert "300 requests" in done.output
    assert "300 requests" in page.read_text()
    facts = json.loads(run("inspect", drawn, "--json").output)
    assert (facts["rows"], facts["format"]) == (300, "slobench")
    gaps = np.diff(read_trace(drawn).numbers("arrival_ns"))
    assert facts["cv"] == pytest.approx(gaps.std(ddof=1) / gaps.mean(), rel=0.01)
    assert facts["block_hit_rate"] > 0.2


def test_a_part_and_a_label_are_picked(run: Run, drawn: Path) -> None:
    """--from, --until and --label; a part with nothing in it is an error that says so."""
    part = json.loads(run("inspect", drawn, "--from", "10s", "--until", "20s", "--json").output)
    assert 0 < part["rows"] < 300
    assert json.loads(run("inspect", drawn, "--label", "steady", "--json").output)["rows"] == 300
    with pytest.raises(SlobenchError, match="no request of"):
        raise_of(run("inspect", drawn, "--from", "10h"))


def raise_of(done: Any) -> None:
    """Raise what a command raised."""
    assert done.exception is not None
    raise done.exception


def test_convert_changes_and_writes(run: Run, drawn: Path, tmp_path: Path) -> None:
    """At twice the speed, doubled by a loop, as CSV: read again it is that; what was lost is a note."""
    out = tmp_path / "part.csv"
    done = run("convert", drawn, "--out", out, "--to", "csv", "--speed", 2, "--loop", 2)
    assert done.exit_code == 0, done.output
    again, before = read_trace(out), read_trace(drawn)
    assert len(again) == 600
    assert again.numbers("arrival_ns")[299] == pytest.approx(before.numbers("arrival_ns")[-1] / 2, abs=2)
    assert "not in this form: class, blocks" in done.stderr


def test_fit_writes_a_workload_that_can_be_planned(run: Run, drawn: Path, tmp_path: Path) -> None:
    """Text and JSON name the chosen model; the YAML is a workload; --lengths pairs makes pairs; a page is written."""
    out, page = tmp_path / "like-it.yaml", tmp_path / "fit.html"
    done = run("fit", drawn, "--out", out, "--blocks", 6, "--html", page)
    assert done.exit_code == 0, done.output
    assert "chosen" in done.output
    assert "What the workload gives back" in done.output
    assert "sharing: drawn prompts are unique" in done.output.replace("\n  ", " ")
    workload = load_workload(str(out)).value
    assert len(build_plan(workload, 0)) > 100
    assert "<svg" in page.read_text()
    found = json.loads(run("fit", drawn, "--blocks", 6, "--lengths", "pairs", "--json").output)
    one = found["classes"]["recorded"]
    assert one["model"] in {"gamma", "Weibull", "on/off"}
    assert one["paired"]
    assert [each["chosen"] for each in one["models"]].count(True) == 1
    assert "paired" in found["workload"]


def test_sample_of_a_trace_draws_pieces_of_it(run: Run, drawn: Path, tmp_path: Path) -> None:
    """As many requests as the trace by default, or for a duration; the note says what is lost."""
    out = tmp_path / "again.jsonl"
    done = run("sample", drawn, "--out", out, "--piece", "5s")
    assert done.exit_code == 0, done.output
    assert len(read_trace(out)) == 300
    assert "sessions and prefixes are not in them" in done.stderr
    run("sample", drawn, "--out", out, "--piece", "5s", "--duration", "20s")
    assert read_trace(out).numbers("arrival_ns")[-1] < 20 * 10**9


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("fit", "FILE", "--lengths", "some"), "--lengths 'some'"),
        (("inspect", "FILE", "--option", "x"), "NAME=VALUE"),
        (("inspect", "FILE", "--option", "colour=1"), "no option"),
        (("inspect", "FILE", "--format", "azur"), "no trace format"),
        (("sample", "FILE", "--out", "OUT", "--requests", 5, "--duration", "5s"), "both --requests and --duration"),
        (("sample", "no-such-thing", "--out", "OUT"), "no workload"),
        (("convert", "FILE", "--out", "OUT", "--to", "pdf"), "no form named"),
        (("inspect", "FILE", "--html", "/no/such/folder/x.html"), "cannot write"),
    ],
)
def test_mistakes_are_told_without_a_traceback(run: Run, drawn: Path, tmp_path: Path, words: tuple, told: str) -> None:
    """Each with what was expected."""
    names = {"FILE": drawn, "OUT": tmp_path / "out"}
    with pytest.raises(SlobenchError, match=told) as caught:
        raise_of(run(*(names.get(word, word) for word in words)))
    assert "expected" in str(caught.value) or "nearest" in str(caught.value)


def test_a_closed_loop_has_no_times_to_write_down(run: Run, tmp_path: Path) -> None:
    """Nor has a workload whose turns follow replies."""
    closed = tmp_path / "closed.yaml"
    closed.write_text(
        "name: c\nrequests: 8\nloop: {mode: closed, users: 2}\nclasses:\n  a:\n"
        "    input_tokens: {dist: constant, value: 4}\n    output_tokens: {dist: constant, value: 4}\n"
    )
    with pytest.raises(SlobenchError, match="depends on replies"):
        raise_of(run("sample", closed, "--out", tmp_path / "x"))


def test_the_group_is_listed_with_its_commands() -> None:
    """`slobench trace --help` names each; without the word nothing of it is imported."""
    listed = CliRunner().invoke(build_app(["trace"]), ["trace", "--help"]).output
    assert all(name in listed for name in GROUPS["trace"][1].split())
    assert "trace" in CliRunner().invoke(build_app([]), ["--help"]).output
