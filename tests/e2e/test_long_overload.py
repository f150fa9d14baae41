"""A real vLLM under a load that it cannot carry."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import TARGET, needs_vllm, run

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def test_a_load_that_it_cannot_carry(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """The wait in the server's queue is in the TTFT from the schedule, and the run is called overloaded (V07)."""
    needs_vllm()
    load = (
        "--arrivals",
        "constant",
        "--rate",
        "120",
        "--duration",
        "40s",
        "--drain",
        "cut",
        "--slo",
        "ttft<1s; attainment>=90%",
    )
    lengths = ("--input-tokens", "64", "--output-tokens", "64")
    done = run(tmp_path / "run", TARGET, *load, *lengths, "--set", "args.max-num-seqs=8")
    outcomes = Counter(done.column("outcome"))
    assert set(outcomes) <= {"ok", "cut", "unsent"}
    assert outcomes["cut"] > 0
    seen = [ttft for ttft in done.column("ttft_s") if ttft is not None]
    first, last = (statistics.median(part) for part in (seen[:50], seen[-50:]))
    record_property("TTFT p50 of the first 50, of the last 50", f"{first:.2f} s, {last:.2f} s")
    record_property("verdict", done.record["verdict"])
    assert last > 5 * first
    overloaded = next(finding for finding in done.record["findings"] if finding["code"] == "V07")
    assert overloaded["side"] == "server"
    assert done.code in (3, 4)
