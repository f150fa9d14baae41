"""Repeats side by side: means, intervals, and what is missing."""

from __future__ import annotations

import math
from pathlib import Path

import orjson
import pytest

from slobench.report.repeats import over_repeats, render


def run_folder(folder: Path, *, attainment: float, ttft_p50: float | None, n: int = 1000, n_eff: float = 50.0) -> Path:
    folder.mkdir()
    good = round(attainment * n)
    summary = {
        "verdict": "VALID",
        "exit": 0,
        "slo": {"all": {"attainment": good / n, "good": good, "population": n, "n_eff": n_eff, "goodput_rps": 10.0}},
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


def test_attainment_is_pooled_and_its_interval_a_jackknife_over_repeats(tmp_path: Path) -> None:
    """Repeats of other sizes weigh by their requests; leaving each out in turn gives the spread, on the logit scale."""
    sizes = ((0.9, 1000), (0.8, 500), (0.95, 2000), (0.85, 1500))
    folders = [run_folder(tmp_path / str(i), attainment=a, ttft_p50=1.0, n=n) for i, (a, n) in enumerate(sizes)]
    row = next(row for row in over_repeats(folders).rows if row.name == "attainment")
    good, total = sum(a * n for a, n in sizes), sum(n for _, n in sizes)
    odds = [math.log(p / (1 - p)) for p in ((good - a * n) / (total - n) for a, n in sizes)]
    middle = math.fsum(odds) / 4
    half = 3.1824463052842624 * math.sqrt(3 / 4 * math.fsum((x - middle) ** 2 for x in odds))  # t(0.975, 3 dof)
    centre = math.log(good / (total - good))
    assert row.mean == pytest.approx(good / total)
    assert row.low == pytest.approx(1 / (1 + math.exp(half - centre)))
    assert row.high == pytest.approx(1 / (1 + math.exp(-half - centre)))
    assert row.n == 4


def test_repeats_without_a_miss_are_not_certain(tmp_path: Path) -> None:
    """Three times 100 % has no spread: the interval is the exact binomial at the summed n_eff, not a point."""
    folders = [run_folder(tmp_path / str(n), attainment=1.0, ttft_p50=1.0) for n in range(3)]
    row = next(row for row in over_repeats(folders).rows if row.name == "attainment")
    assert row.high == 1.0
    assert row.low == pytest.approx(0.025 ** (1 / 150))


def test_the_table_says_what_its_intervals_rest_on(tmp_path: Path) -> None:
    """A percentile over repeats has no n_eff of its own: the table names the unit and how many there are."""
    folders = [run_folder(tmp_path / str(n), attainment=0.9, ttft_p50=float(n)) for n in (1, 2, 4)]
    assert "n = 3 repeats: they are the unit of the intervals" in render(over_repeats(folders))
