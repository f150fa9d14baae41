"""Capacity in real time: the engine over HTTP against itself in virtual time, and a real vLLM twice."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from slobench.names import Exit
from tests.e2e.conftest import TARGET, needs_vllm
from tests.experiment.running import report

pytestmark = pytest.mark.long

# Steps of 10 to 35 ms: long against what a busy event loop adds to them, short against the length of a probe.
ENGINE = {
    "step": {"base_ms": 10, "token_ms": 0.01, "kv_token_ms": 0, "sequence_ms": 1, "attention_ms": 0, "noise_cv": 0.05},
    "max_num_seqs": 64,
    "max_num_batched_tokens": 2048,
    "prefix_cache": False,
}
SHORT = ("--input-tokens", "lognormal:mean=64,sigma=0.5,max=256", "--output-tokens", "uniform:low=4,high=12")
SHORT_SLO = ("--slo", "ttft<400ms", "--slo", "tpot<22.5ms", "--slo", "attainment>=90%")


@dataclass(frozen=True)
class Found:
    """What a search printed, and its folder."""

    code: int
    folder: Path
    capacity: dict[str, Any]

    @property
    def interval(self) -> tuple[float, float]:
        """Of the capacity, 95 %; from 0 to infinity where there is none."""
        low, high = self.capacity["low"], self.capacity["high"]
        return low or 0.0, math.inf if high is None else high

    @property
    def half_width(self) -> float:
        """Of ln(capacity)."""
        low, high = self.interval
        return math.log(high / low) / 2 if low else math.inf


def capacity(folder: Path, target: str, *words: str) -> Found:
    """`slobench capacity --json` to its end."""
    command = [sys.executable, "-m", "slobench", "capacity", "--target", target, "--out", str(folder), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["capacity"]
    assert done.returncode in {Exit.OK, Exit.UNDECIDED}, (done.returncode, found["instrument"], done.stderr[-2000:])
    return Found(done.returncode, folder, found)


def overlap(one: Found, other: Found) -> bool:
    """Whether the intervals have a value in common."""
    return max(one.interval[0], other.interval[0]) <= min(one.interval[1], other.interval[1])


@pytest.mark.timeout(900)
def test_real_time_finds_what_virtual_time_finds(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The same target file over HTTP and in virtual time: both intervals are finite and have a value in common; the
    report of each probe that ended counts as the search did.
    """
    target = tmp_path / "engine.yaml"
    target.write_text(yaml.safe_dump({"kind": "sim", "engine": ENGINE}))
    words = (*SHORT, *SHORT_SLO, "--start-rate", "32", "--precision", "5%")
    virtual = capacity(tmp_path / "virtual", str(target), "--virtual", *words)
    live = capacity(tmp_path / "live", str(target), "--budget", "6m", *words)
    for name, found in (("virtual", virtual), ("real time", live)):
        record_property(f"capacity, {name}", "{:.1f} [{:.1f}, {:.1f}]".format(found.capacity["rate"], *found.interval))
    assert virtual.half_width <= 0.05
    assert live.half_width <= 0.15
    assert overlap(virtual, live)
    refined = [each for each in live.capacity["probes"] if each["purpose"] == "refine"]
    for each in refined[:2]:
        _, shown = report(live.folder / f"probe-{each['number']:02d}")
        assert (shown["slo"]["all"]["good"], shown["slo"]["all"]["n"]) == (each["good"], each["n"])


@pytest.mark.timeout(3000)
def test_a_real_vllm_twice(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Replies of 16 tokens, 12 minutes each: an interval within ±10 %, twice, and the two overlap."""
    needs_vllm()
    words = ("--input-tokens", "lognormal:mean=64,sigma=0.5,max=256", "--output-tokens", "16")
    slo = ("--slo", "ttft<1s", "--slo", "tpot<100ms", "--slo", "attainment>=90%")
    search = ("--precision", "10%", "--budget", "12m", "--start-rate", "16")
    found = [
        capacity(tmp_path / f"search-{seed}", TARGET, *words, *slo, *search, "--seed", str(seed)) for seed in (1, 2)
    ]
    for each in found:
        text = "{:.2f} [{:.2f}, {:.2f}]".format(each.capacity["rate"], *each.interval)
        record_property(f"capacity, {each.folder.name}", text)
    assert all(each.half_width <= 0.10 for each in found)
    assert overlap(*found)
