"""Repeats side by side: means, intervals, and what is missing."""

from __future__ import annotations

import math
from pathlib import Path

import orjson
import pytest

from slobench.report.repeats import over_repeats, render


def run_folder(folder: Path, *, attainment: float, ttft_p50: float | None) -> Path:
    folder.mkdir()
    summary = {
        "verdict": "VALID",
        "exit": 0,
        "slo": {"all": {"attainment": attainment, "goodput_rps": 10.0}},
        "latency": {"ttft": {"p50": {"value": ttft_p50}}},
    }
    (folder / "run.json").write_bytes(orjson.dumps({"schema": 1, "summary": summary}))
    return folder


def test_the_mean_of_latencies_is_geometric_and_its_interval_students(tmp_path: Path) -> None:
    """With repeats of 1, 2 and 4 the mean is 2 and the interval the t-interval of their logarithms."""
    folders = [run_folder(tmp_path / str(n), attainment=0.9, ttft_p50=float(n)) for n in (1, 2, 4)]
    row = next(row for row in over_repeats(folders).rows if row.name == "ttft_p50_s")
    half = math.log(2) / math.sqrt(3) * 4.302652729911275  # t(0.975, 2 dof), from tables
    assert row.mean == pytest.approx(2)
    assert row.low == pytest.approx(2 * math.exp(-half))
    assert row.high == pytest.approx(2 * math.exp(half))


def test_two_repeats_give_no_interval(tmp_path: Path) -> None:
    """A t-interval of two values says next to nothing, so none is given."""
    folders = [run_folder(tmp_path / str(n), attainment=0.9, ttft_p50=float(n)) for n in (1, 2)]
    assert all(row.low is None for row in over_repeats(folders).rows)


def test_a_repeat_without_a_value_leaves_no_mean(tmp_path: Path) -> None:
    """A mean over the repeats that happened to have a value would flatter the server."""
    folders = [run_folder(tmp_path / str(n), attainment=0.9, ttft_p50=n or None) for n in (0, 1, 2)]
    row = next(row for row in over_repeats(folders).rows if row.name == "ttft_p50_s")
    assert row.mean is None
    assert row.values == (None, 1.0, 2.0)
    assert "TTFT p50" in render(over_repeats(folders))
