"""`slobench plan` prints what a workload would offer."""

import json

import pytest
import typer
from typer.testing import CliRunner

from slobench.cli.plan import command
from slobench.plan import Plan

WORKLOAD = """
name: mix
duration: 60s
drain: {mode: grace, grace: 10s}
classes:
  steady:
    arrivals: {process: constant, rate: 5}
    input_tokens: {dist: constant, value: 64}
    output_tokens: {dist: uniform, low: 3, high: 5}
    shared_prefix_tokens: 16
"""


@pytest.fixture
def plan(tmp_path):
    """Run `plan` on a workload file, with more arguments."""
    path = tmp_path / "mix.yaml"
    path.write_text(WORKLOAD)
    app = typer.Typer()
    app.command()(command)
    return lambda *arguments: CliRunner().invoke(app, [str(path), *arguments])


def test_json_tells_digest_rates_lengths_and_sharing(plan, tmp_path):
    """The JSON's figures are those of the plan that is written beside it."""
    done = plan("--json", "--seed", "3", "--out", str(tmp_path / "plan.arrow"))
    assert done.exit_code == 0, done.output
    facts = json.loads(done.output)
    assert facts["digest"] == Plan.load(tmp_path / "plan.arrow").digest
    assert (facts["requests"], facts["unique_prompts"], facts["after_duration"]) == (350, 350, 50)
    steady = facts["classes"]["steady"]
    assert (steady["rate_asked"], steady["cv_asked"], steady["cv_planned"]) == (5, 0, 0)
    assert steady["rate_planned"] == pytest.approx(5)
    assert steady["input_tokens"]["total"] == 64 * 350
    assert (steady["output_tokens"]["min"], steady["output_tokens"]["max"]) == (3, 5)
    assert steady["shared_share"] == 16 / 64


def test_text_tells_the_same(plan):
    """The text names digest, counts, rate, lengths and sharing, and fits 80 columns."""
    done = plan()
    assert "350 over 69.8 s, 50 of them after the duration" in done.output
    assert "350 of 350 unique" in done.output
    assert "5/s (asked 5)" in done.output
    assert "16 tokens, 25.0% of the input" in done.output
    assert max(map(len, done.output.splitlines())) <= 80


def test_set_replaces_a_value(plan):
    """`--set` reaches the plan."""
    assert json.loads(plan("--json", "--set", "duration=10s").output)["requests"] == 100


def test_a_closed_loop_has_no_rates(plan):
    """In a closed loop the load follows from the users: rates are null, not 0."""
    sets = [
        "loop.mode=closed",
        "loop.users=4",
        "classes.steady.arrivals=null",
        "duration=null",
        "requests=12",
        "drain.mode=wait",
    ]
    facts = json.loads(plan("--json", *(part for each in sets for part in ("--set", each))).output)
    assert facts["sessions"] == 4
    assert "12 for 4 users" in plan(*(part for each in sets for part in ("--set", each))).output
    assert facts["span_s"] is None
    assert facts["classes"]["steady"]["rate_planned"] is None


def test_embeddings_have_no_output(plan):
    """A class whose replies have no tokens says so, and its rows plan none."""
    sets = ("--set", "classes.steady.api=embeddings", "--set", "classes.steady.output_tokens={dist: none}")
    text = plan(*sets).output
    assert "output  none" in text
    assert json.loads(plan("--json", *sets).output)["classes"]["steady"]["output_tokens"]["max"] == 0
