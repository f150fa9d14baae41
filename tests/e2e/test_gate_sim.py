"""A gate over real sockets and real time on the simulated engine: one against itself, one against a slower one.

The limits are wide, so that a busy machine voids no pair: what is judged is that the same never fails and that twice the
step time always does. How often a gate errs is shown by simulation (docs/validation.md).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slobench.experiment.ab_file import read
from tests.report.test_gate import SCHEMA
from tests.report.xsd import faults

pytestmark = pytest.mark.smoke
LOAD = [
    *("--rate", "30", "--requests", "150", "--input-tokens", "64", "--output-tokens", "16"),
    *("--slo", "ttft<5s", "--slo", "tpot<500ms", "--workers", "1"),
]


def gate(folder: Path, *words: str) -> tuple[int, dict, str]:
    """`slobench gate --ab sim sim`: exit code, JSON, standard error."""
    command = [sys.executable, "-m", "slobench", "gate", "--ab", "sim", "sim", *LOAD, *words, "--out", str(folder)]
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, timeout=280, check=False, env=os.environ
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def test_an_engine_against_itself_is_no_regression(tmp_path: Path) -> None:
    """Four pairs, every arm a stored run with the same plan and a nonce of its own."""
    code, found, said = gate(tmp_path / "aa", "--pairs", "4", "--margin", "50%", "--margin", "ttft:p90=100%")
    assert code in {0, 7}, said
    assert found["pairs"] >= 2
    runs = [json.loads(path.read_text()) for path in sorted((tmp_path / "aa").glob("pair-*/*/run.json"))]
    assert len({run["nonce"] for run in runs}) == len(runs)
    for number in range(1, found["pairs"] + 1):
        base, new = (
            json.loads((tmp_path / "aa" / f"pair-{number:02d}" / arm / "run.json").read_text())
            for arm in ("base", "new")
        )
        assert base["plan"]["digest"] == new["plan"]["digest"]
        first, second = ("base", "new") if number % 2 else ("new", "base")
        started = {"base": base["clock"]["start_ns"], "new": new["clock"]["start_ns"]}
        assert started[first] < started[second]
    assert len(read(tmp_path / "aa")["pairs"]) == found["pairs"] + len(found["void"])


def test_an_engine_with_steps_twice_as_long_is_a_regression(tmp_path: Path) -> None:
    """Exit 5, with JUnit that is valid to its schema."""
    junit = tmp_path / "junit.xml"
    code, found, said = gate(tmp_path / "ab", "--new-set", "engine.step.base_ms=12", "--junit", str(junit))
    assert code == 5, said
    assert found["verdict"] == "FAIL"
    ratio = next(test["ratio"]["value"] for test in found["tests"] if test["metric"] == "tpot:p50")
    assert ratio > 1.5
    assert faults(junit.read_text(), SCHEMA) == []
