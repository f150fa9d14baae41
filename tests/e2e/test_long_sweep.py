"""Minutes of sweeps: six configs of a real vLLM, and fifty cells on real servers that leave nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from slobench.cli.run import report
from slobench.config.load import load_experiment
from slobench.experiment.events import Told
from slobench.experiment.sweep import prepare, run_sweep
from slobench.experiment.sweep_cells import cells_of
from slobench.experiment.sweep_file import load
from slobench.experiment.sweep_live import LiveCells, Reports
from slobench.experiment.trial import Interrupts
from tests.e2e.conftest import TARGET

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]
SHORT = {"name": "short", "classes": {"q": {
    "arrivals": {"process": "poisson", "rate": 4}, "input_tokens": {"dist": "constant", "value": 96},
    "output_tokens": {"dist": "constant", "value": 16}}}, "requests": 120, "slo": ["ttft<2s", "attainment>=90%"]}  # fmt: skip


def written(folder: Path, **keys: object) -> Path:
    """An experiment over the short workload."""
    (folder / "short.yaml").write_text(yaml.safe_dump(SHORT, sort_keys=False), "utf-8")
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({"name": "e", "workloads": ["short.yaml"], **keys}, sort_keys=False), "utf-8")
    return path


def test_six_configs_of_vllm(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """max_num_seqs × max_num_batched_tokens: a best is named, or what it is not told apart from; settings took hold."""
    grid = {"args.max-num-seqs": [1, 16], "args.max-num-batched-tokens": [256, 1024, 2048]}
    file = written(tmp_path, targets=[TARGET], settings={"grid": grid}, rates=[6], workers=1)
    argv = [sys.executable, "-m", "slobench", "sweep", str(file), "--out", str(tmp_path / "out"), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ)
    found = json.loads(done.stdout)
    record_property("summary", found["summary"])
    assert done.returncode in {0, 3}, done.stderr
    rows = pq.read_table(tmp_path / "out" / "sweep.parquet").to_pylist()
    assert len(rows) == 6
    assert found["verdict"] in {"BEST", "CANNOT TELL"}
    assert found["best"]
    if found["verdict"] == "CANNOT TELL":
        assert any(not rival["told_apart"] for rival in found["best"][0]["rivals"])
    for row in rows:
        run = json.loads((tmp_path / "out" / row["folder"] / "run.json").read_text())
        line = " ".join(run["settings"]["observed"]["argv"])
        assert f"--max-num-seqs {row['set.args.max-num-seqs']}" in line
        assert f"--max-num-batched-tokens {row['set.args.max-num-batched-tokens']}" in line


def test_fifty_cells_on_servers_leave_nothing_behind(tmp_path: Path) -> None:
    """A server and generator processes for each: descriptors, threads, children and memory are those after ten cells."""
    settings = {"grid": {"engine.max_num_seqs": [*range(8, 58)]}}
    keys = {
        "targets": ["sim"],
        "settings": settings,
        "rates": [20],
        "requests": 30,
        "workers": 1,
        "saturation": "never",
    }
    found, folder = cells_of(load_experiment(str(written(tmp_path, **keys)))), tmp_path / "out"
    prepare(folder, force=False, resume=False)
    reports = Reports(lambda path: report(path, as_json=False, quiet=True, silent=True), lambda _: None)
    interrupts, process, seen = Interrupts(), psutil.Process(), []
    for event in run_sweep(found, folder, LiveCells(found, folder, interrupts, reports), interrupts):
        if isinstance(event, Told):
            children = len(process.children(recursive=True))
            seen.append((process.num_fds(), process.num_threads(), children, process.memory_info().rss))
    assert all(row.state in {"done", "invalid"} for row in load(folder))
    assert len(load(folder)) == 50
    early, late = seen[20], seen[-2]  # at the same place in a cell: before it, with a server of the one before
    assert late[:3] <= early[:3]
    assert late[3] - early[3] < 16e6
    assert not process.children(recursive=True)
