"""`slobench compare` and `slobench gate` from the command line, on the engine in virtual time and on stored runs."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from slobench.cli.main import main
from tests.experiment.folders import made
from tests.report.test_gate import SCHEMA
from tests.report.xsd import faults

LOAD = [
    *("--rate", "14", "--requests", "400", "--slo", "ttft<500ms"),
    *("--input-tokens", "lognormal:mean=200,sigma=0.6,max=2000"),
    *("--output-tokens", "lognormal:mean=40,sigma=0.5,max=400"),
]
SLOWER = ["--new-set", "engine.step.base_ms=7.5"]
AB = ["gate", "--ab", "sim-reference", "sim-reference", "--virtual", *LOAD]


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def slobench(*words: object) -> Done:
    """The command, in this process."""
    said, told = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(told):
        patch.setattr(sys, "argv", ["slobench", *map(str, words)])
        patch.setattr(os, "_exit", sys.exit)  # after Ctrl-C it would end the tests too
        with pytest.raises(SystemExit) as ended:
            main()
    texts = []
    for stream in (said, told):
        stream.seek(0)
        texts.append(stream.read())
    return Done(int(ended.value.code or 0), *texts)


def test_a_slower_engine_is_a_regression(tmp_path: Path) -> None:
    """Exit 5; JUnit, Markdown, gate.json and the page are there, and all say so."""
    junit, comment = tmp_path / "sub" / "junit.xml", tmp_path / "comment.md"
    out = tmp_path / "gate"
    done = slobench(*AB, *SLOWER, "--out", out, "--junit", junit, "--markdown", comment, "--json")
    assert done.code == 5, done.err
    data = json.loads(done.out)
    assert (data["verdict"], data["exit"], data["pairs"]) == ("FAIL", 5, 4)
    assert faults(junit.read_text(), SCHEMA) == []
    assert "**FAIL**" in comment.read_text()
    assert json.loads((out / "gate.json").read_text())["result"]["verdict"] == "FAIL"
    assert "FAIL" in (out / "gate.html").read_text()
    assert "pair 1, base (sim-reference), seed 0" in done.err
    assert "look at 4 pairs (alpha 0.002): FAIL" in done.err


def test_the_same_engine_is_none(tmp_path: Path) -> None:
    """Exit 0 or 7, never 5; quiet prints the verdict alone."""
    done = slobench(*AB, "--out", tmp_path / "gate", "--quiet")
    assert done.code in {0, 7}
    assert done.out.split()[0] in {"PASS", "INCONCLUSIVE"}
    assert done.err == ""


def test_the_noise_of_an_engine(tmp_path: Path) -> None:
    """Ten pairs, sd and detectable change of each metric; a margin that they could not see: exit 7."""
    noise = ["gate", "--aa", "sim-reference", "--virtual", *LOAD, "--out", tmp_path / "aa"]
    done = slobench(*noise, "--explain", "--margin", "30%")
    assert done.code == 0, done.out
    assert "10 pairs see a change of" in done.out
    done = slobench(*noise, "--quiet", "--resume", "--margin", "0.01%")
    assert done.code == 7
    assert done.out.startswith("TOO NOISY")


def test_an_explanation_has_the_numbers_of_the_case(tmp_path: Path) -> None:
    """Steps, alphas, every metric."""
    done = slobench(*AB, *SLOWER, "--out", tmp_path / "gate", "--explain")
    assert done.out.startswith("How this verdict came about")
    for part in ("α 0.002", "TPOT p50 of all:", "Exit code 5."):
        assert part in done.out


def test_github_is_told_where_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step's summary is appended to; annotations go to standard error, where the runner reads them too."""
    summary = tmp_path / "summary.md"
    summary.write_text("# before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    done = slobench(*AB, *SLOWER, "--out", tmp_path / "gate", "--quiet")
    assert summary.read_text().startswith("# before\n# gate")
    assert "::error title=slobench gate%3A FAIL (exit 5)::" in done.err


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """main-1 … main-9, and a slow run of the same plan."""
    folder = tmp_path_factory.mktemp("runs")
    for k in range(9):
        made(folder / f"main-{k + 1}", at_s=3600.0 * k)
    made(folder / "slow", slower=1.3, at_s=10**6)
    return folder


def test_a_baseline_file_and_a_history_grow_run_by_run(runs: Path, tmp_path: Path) -> None:
    """Saved one by one, as CI does on main; then a gate on either fails the slow run."""
    file, history = tmp_path / "baseline.json", tmp_path / "history.parquet"
    for k in range(9):
        done = slobench("gate", runs / f"main-{k + 1}", "--save-baseline", file, "--history", history)
        assert done.code == 0, done.err
    assert "9 runs" in done.err
    for baseline in (file, history):
        done = slobench("gate", runs / "slow", "--baseline", baseline, "--quiet")
        assert done.code == 5, done.out
    before = file.read_bytes()
    done = slobench("gate", runs / "slow", "--baseline", file, "--save-baseline", file, "--quiet")
    assert "not added to" in done.err
    assert file.read_bytes() == before
    assert "slobench gate NEW --baseline" in slobench("compare", file, runs / "slow").err
    done = slobench("gate", runs / "slow", "--baseline", file, "--last", "4", "--json")
    assert done.code == 7
    assert json.loads(done.out)["command"] == "slobench gate small --ab BASE_TARGET NEW_TARGET"


def test_margins_stand_in_a_file(runs: Path, tmp_path: Path) -> None:
    """90 % allowed, and 80 % the least that fails: the slow run passes."""
    margins = tmp_path / "margins.yaml"
    margins.write_text("margin: 90%\nleast: 80%\nattainment: 50%\n")
    done = slobench("gate", runs / "slow", "--baseline", f"{runs}/main-*", "--margins", margins, "--quiet")
    assert done.code == 0, done.out


def test_runs_are_compared(runs: Path, tmp_path: Path) -> None:
    """The slow run against one of main: worse; files are written; JSON has every row."""
    done = slobench("compare", runs / "main-1", runs / "slow", "--out", tmp_path / "cmp")
    assert done.code == 0, done.err
    assert done.out.startswith("WORSE")
    assert sorted(path.name for path in (tmp_path / "cmp").iterdir()) == ["compare.html", "compare.json", "compare.md"]
    data = json.loads(slobench("compare", runs / "main-1", runs / "slow", "--json").out)
    rows = {row["metric"]: row for row in data["comparisons"][0]["rows"]}
    assert rows["tpot:p50"]["verdict"] == "worse"
    assert rows["tpot:p50"]["ratio"]["value"] == pytest.approx(1.3, rel=0.1)


def test_a_run_is_compared_with_another_tools(runs: Path, tmp_path: Path) -> None:
    """Refused with what differs; by force from the send."""
    file = tmp_path / "vllm.json"
    n = 200
    file.write_text(
        json.dumps(
            {
                "request_throughput": 14.0, "request_rate": 14.0, "backend": "vllm", "duration": n / 14,
                "ttfts": [0.05 + 0.001 * (k % 17) for k in range(n)], "itls": [[0.02] * 20] * n, "output_lens": [21] * n,
                "errors": [""] * n, "start_times": [k / 14 for k in range(n)], "input_lens": [100] * n,
            }
        )
    )  # fmt: skip
    refused = slobench("compare", runs / "main-1", file)
    assert refused.code == 2
    assert "differs   target: sim and none" in refused.err
    forced = slobench("compare", runs / "main-1", file, "--force")
    assert forced.code == 0
    assert "TTFT from send" in forced.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gate"], "compared with what?"),
        (["gate", "--baseline", "x"], "no new run"),
        (["gate", "x", "--baseline", "y", "--ab", "sim", "sim"], "different gates"),
        (["gate", "a", "b", "--aa", "sim"], "two workloads"),
        (["gate", "nowhere", "--baseline", "nowhere"], "no such folder"),
        (["gate", "--aa", "sim", "--rate", "5", "--requests", "10", "--margin", "nan"], "cannot read"),
        (["gate", "--aa", "sim", "--rate", "5", "--requests", "10", "--resume"], "--out DIR"),
        (["gate", "--aa", "http://127.0.0.1:9", "--rate", "5", "--requests", "10", "--virtual"], "kind: sim"),
        (["compare", "nowhere", "elsewhere"], "no such folder"),
        (["compare", "a", "b", "--margin", "inf%"], "cannot read the share"),
    ],
)
def test_what_cannot_be_done_is_told_in_two_lines(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 2, what was wrong and what was expected; no traceback."""
    monkeypatch.chdir(tmp_path)
    done = slobench(*words)
    assert done.code == 2
    assert told in done.err
    assert "expected" in done.err
    assert "Traceback" not in done.err


def test_secrets_given_to_one_side_reach_no_file(tmp_path: Path) -> None:
    """A header of the new target: neither in gate.json nor in a report nor on the screen."""
    secret = "abc123secret"
    done = slobench(*AB, "--new-set", f"talk.headers.Authorization={secret}", "--out", tmp_path / "gate")
    assert secret not in done.out + done.err
    assert not [path for path in (tmp_path / "gate").iterdir() if secret in path.read_text()]


def test_ctrl_c_between_two_arms_keeps_the_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 130, the pairs so far are told, and the same command with --resume ends as an unbroken one."""
    from slobench.experiment.ab_virtual import VirtualArms

    run = VirtualArms.run
    monkeypatch.setattr(VirtualArms, "run", lambda self, number, name, seed: _until(run, self, number, name, seed))
    done = slobench(*AB, *SLOWER, "--out", tmp_path / "gate", "--quiet")
    assert done.code == 130
    assert done.out.startswith("INTERRUPTED  2 pairs measured")
    monkeypatch.setattr(VirtualArms, "run", run)
    resumed = slobench(*AB, *SLOWER, "--out", tmp_path / "gate", "--resume", "--json")
    whole = slobench(*AB, *SLOWER, "--out", tmp_path / "whole", "--json")
    assert json.loads(resumed.out)["tests"] == json.loads(whole.out)["tests"]
    assert resumed.code == whole.code == 5


def _until(run, arms, number, name, seed):
    if number == 3:
        raise KeyboardInterrupt
    return run(arms, number, name, seed)
