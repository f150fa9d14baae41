"""Gates on a real vLLM: a server against itself, and against one that takes two requests at a time, not sixteen.

Every arm is a server process of its own. How often a gate errs is shown by simulation (docs/validation.md); here the
whole way is walked: two starts a pair, plans in common, findings of the real server, a verdict.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import TARGET, needs_vllm
from tests.report.test_gate import SCHEMA
from tests.report.xsd import faults

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]
LOAD = [
    *("--rate", "6", "--requests", "200", "--input-tokens", "64", "--output-tokens", "48"),
    *("--warmup", "3s", "--workers", "1"),
]


def gate(folder: Path, *words: str) -> tuple[int, dict, str]:
    """`slobench gate --ab` of the target with itself: exit code, JSON, standard error."""
    needs_vllm()
    command = [sys.executable, "-m", "slobench", "gate", "--ab", TARGET, TARGET, *LOAD, *words, "--out", str(folder)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, env=os.environ)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def told(found: dict, record_property: Callable[[str, object], None]) -> None:
    """Write down what decided."""
    record_property("verdict", f"{found['verdict']} after {found['pairs']} pairs, void {len(found['void'])}")
    for test in found["tests"]:
        ratio = test["ratio"]
        record_property(f"{test['metric']}", f"{ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]")


def test_vllm_against_itself_is_no_regression(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """The same version, the same settings, a light load, margins that five pairs on two shared cores can see."""
    light = ("--rate", "4", "--requests", "120", "--output-tokens", "24", "--pairs", "5")
    margins = ("--margin", "25%", "--margin", "tpot:p99=100%", "--margin", "ttft:p90=50%")
    code, found, said = gate(tmp_path / "aa", *light, *margins)
    told(found, record_property)
    assert found["verdict"] in {"PASS", "INCONCLUSIVE"}, said
    assert code == {"PASS": 0, "INCONCLUSIVE": 7}[found["verdict"]], said
    assert found["pairs"] >= 2


def test_vllm_with_two_sequences_is_a_regression(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Two at a time queue at this load: exit 5 at the first look, told by TTFT, with JUnit that is valid."""
    junit = tmp_path / "junit.xml"
    sides = ("--base-set", "args.max-num-seqs=16", "--new-set", "args.max-num-seqs=2")
    code, found, said = gate(tmp_path / "ab", *sides, "--junit", str(junit))
    told(found, record_property)
    assert code == 5, said
    assert found["verdict"] == "FAIL"
    assert next(test["ratio"]["value"] for test in found["tests"] if test["metric"] == "ttft:p90") > 1.5
    assert faults(junit.read_text(), SCHEMA) == []
