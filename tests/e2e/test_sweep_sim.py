"""A sweep over real sockets and real time: servers shared by cells, one that does not start, a search, resuming.

The limits are wide, so that a busy machine makes few runs INVALID; a cell that is may be, and none may be missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

pytestmark = pytest.mark.smoke
BROKEN = {
    "kind": "command",
    "argv": [sys.executable, "-c", "print('no such model: x', flush=True); raise SystemExit(3)"],
}
LOAD = {"requests": 60, "warmup": "0s", "slo": ["ttft<5s", "tpot<500ms", "attainment>=50%"], "workers": 1}


def sweep(folder: Path, *words: str, **keys: object) -> tuple[int, dict, list[dict]]:
    """`slobench sweep`: exit code, JSON, the rows of its table."""
    (folder / "broken.yaml").write_text(yaml.safe_dump(BROKEN), "utf-8")
    file = folder / "experiment.yaml"
    plain = {"name": "live", "targets": ["sim"], "workloads": ["quickstart"], **LOAD}
    file.write_text(yaml.safe_dump({**plain, **keys}, sort_keys=False), "utf-8")
    argv = [sys.executable, "-m", "slobench", "sweep", str(file), "--out", str(folder / "out"), "--json", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=280, check=False, env=os.environ)
    assert done.stdout, done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout), pq.read_table(folder / "out" / "sweep.parquet").to_pylist()


def test_a_server_that_does_not_start_is_a_row_and_the_others_are_run(tmp_path: Path) -> None:
    """Exit 6; the cells of one config share a server; what failed is run again, alone, when resumed."""
    keys = {"targets": ["broken.yaml", "sim"], "rates": [20, 40]}
    code, found, rows = sweep(tmp_path, **keys)
    assert code == 6
    assert found["cells"]["failed"] == 2
    failed, ran = rows[:2], rows[2:]
    assert all(row["state"] == "failed" and row["error"] == "TargetStartError" for row in failed)
    assert all("no such model: x" in row["log_tail"] for row in failed)
    assert all(row["state"] in {"done", "invalid"} and row["requests"] for row in ran)
    assert ran[0]["server"] == ran[1]["server"]
    runs = [json.loads((tmp_path / "out" / row["folder"] / "run.json").read_text()) for row in ran]
    assert runs[0]["server"]["pid"] == runs[1]["server"]["pid"]
    assert runs[0]["nonce"] != runs[1]["nonce"]
    assert [run["plan"]["digest"] for run in runs] == [row["plan_digest"] for row in ran]
    kept = [row for row in ran if row["state"] == "done"]
    code, _, again = sweep(tmp_path, "--resume", **keys)
    assert code == 6
    assert [row for row in again if row["key"] in {each["key"] for each in kept}] == kept


def test_a_new_server_for_each_cell_and_none_left_behind(tmp_path: Path) -> None:
    _, _, rows = sweep(tmp_path, rates=[20, 40], restart="per-cell", saturation="never")
    assert rows[0]["server"] != rows[1]["server"]
    runs = [json.loads((tmp_path / "out" / row["folder"] / "run.json").read_text()) for row in rows]
    pids = [run["server"]["pid"] for run in runs]
    assert pids[0] != pids[1]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_search_on_a_lent_server(tmp_path: Path) -> None:
    """Stopped by its budget: a capacity, uncertified, and a server that served the search and was then stopped."""
    keys = {"requests": None, "capacity": {"start_rate": 40.0, "budget": "400", "precision": "20%"}}
    settings = {"grid": {"engine.max_num_seqs": [2]}}
    _, found, rows = sweep(tmp_path, settings=settings, **keys)
    assert found["by"] == "capacity"
    assert rows[0]["state"] in {"done", "invalid"}
    assert (tmp_path / "out" / rows[0]["folder"] / "capacity.html").is_file()
