"""Five minutes of Azure's recorded traffic at the simulated engine, over HTTP and in real time."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import yaml

from slobench.metrics.told import Told, grown
from slobench.records.store import load
from slobench.stats.arrivals import counts, dispersion
from tests.e2e.conftest import Run, argv
from tests.workload.traces.test_real import real

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

LAG_P99_S = 5e-3
SLICE_S = 300
TICK_NS = 100  # the recorder's


def records(path: Path, start_s: int) -> list[tuple[int, int, int]]:
    """(ns from the slice's start, tokens in, tokens out) of each record of the slice, in the order of the file."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))

    def ns(row: dict[str, str]) -> int:
        whole, _, fraction = row["TIMESTAMP"].partition(".")
        since = datetime.fromisoformat(whole) - datetime.fromisoformat("2023-11-16")
        return round(since.total_seconds()) * 10**9 + int(fraction.ljust(9, "0"))

    zero = ns(rows[0]) + start_s * 10**9
    timed = [(ns(row) - zero, int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in rows]
    return [each for each in timed if 0 <= each[0] < SLICE_S * 10**9]


def replayed(folder: Path, path: Path, start_s: int) -> Run:
    """The slice, offered to its end by one process, so that there is one order of sends."""
    recorded = {"file": str(path), "from": f"{start_s}s", "to": f"{start_s + SLICE_S}s"}
    spec = folder / "azure.yaml"
    spec.write_text(yaml.safe_dump({"name": "azure", "classes": {"a": {"recorded": recorded}}}))
    command = argv(folder / "run", "sim", [str(spec), "--workers", "1"])
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    return Run(done.returncode, done.stdout, done.stderr, folder / "run")


@pytest.mark.parametrize(("name", "start_s"), [("code", 600), ("conv", 0)])
def test_five_minutes_in_real_time(
    name: str, start_s: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Every record is sent once, in its order, with its lengths, and at its time within 5 ms (p99); the engine counts
    as many requests and tokens as were recorded. The code trace's minutes are its burstiest.
    """
    path = real(f"azure_llm_2023/AzureLLMInferenceTrace_{name}.csv")
    expected = records(path, start_s)
    done = replayed(tmp_path, path, start_s)
    assert done.code in (0, 3, 5), done.err
    rows = done.requests.sort_by("index")
    scheduled, started = (rows[each].to_numpy() for each in ("scheduled_ns", "started_ns"))
    lag_s = (started - scheduled) / 1e9
    p50, p99, most = (float(np.quantile(lag_s, q, method="inverted_cdf")) for q in (0.5, 0.99, 1))
    spread = [
        dispersion(counts(times / 1e9, 1.0, 0.0, float(SLICE_S)))
        for times in (np.array([at for at, _, _ in expected]), started)
    ]
    for what, value in {
        "requests": f"{len(expected):,}, {sum(row[1] for row in expected):,} tokens in",
        "dispersion of counts in 1 s, recorded and sent": "{:.2f}, {:.2f}".format(*spread),
        "send lag p50, p99, max": f"{p50 * 1e3:.3f}, {p99 * 1e3:.3f}, {most * 1e3:.3f} ms",
        "verdict": done.record["summary"]["verdict"],
    }.items():
        record_property(f"{name}: {what}", value)
        print(f"{name}: {what}: {value}")
    lengths = zip(rows["input_tokens_planned"].to_pylist(), rows["output_tokens_planned"].to_pylist(), strict=True)
    assert list(lengths) == [row[1:] for row in expected]
    assert np.abs(scheduled - np.array([row[0] for row in expected])).max() < TICK_NS
    assert set(rows["outcome"].to_pylist()) == {"ok"}
    assert (np.diff(started) >= 0).all()
    told = Told.of(load(done.folder).records.telemetry)
    for series, total in (
        ("requests_total", len(expected)),
        ("input_tokens_total", sum(row[1] for row in expected)),
        ("output_tokens_total", sum(row[2] for row in expected)),
    ):
        found = grown(told, series)
        assert found is not None
        assert (series, found.by) == (series, total)
    assert spread[1] == pytest.approx(spread[0], rel=0.05)
    assert (lag_s >= 0).all()
    assert p99 < LAG_P99_S
