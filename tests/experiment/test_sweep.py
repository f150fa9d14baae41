"""A sweep: every cell once, kept as it ends; what stops a curve; killed anywhere and gone on with, the same table."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from slobench.errors import ConfigError, RecordsError, TargetError
from slobench.experiment.events import Told
from slobench.experiment.sweep import SweepEnded, prepare, run_sweep
from slobench.experiment.sweep_cells import Cell, Cells
from slobench.experiment.sweep_file import Numbers, load
from slobench.experiment.sweep_live import Reports, failed
from slobench.experiment.sweep_result import result_of
from slobench.experiment.sweep_virtual import VirtualCells
from slobench.experiment.trial import Interrupts
from slobench.records.provenance import REDACTED
from tests.experiment.sweeps import Scripted, cells, steady, written

SEQS = {"grid": {"engine.max_num_seqs": [4, 64]}}


def ended(found: Cells, folder: Path, runner: Scripted, *, resume: bool = False) -> SweepEnded:
    """Run a sweep to its end."""
    prepare(folder, force=False, resume=resume)
    last = [*run_sweep(found, folder, runner, Interrupts(), resume=resume)][-1]
    assert isinstance(last, SweepEnded)
    return last


def good(cell: Cell) -> Numbers:
    del cell
    return Numbers(goodput_rps=5.0, attainment=1.0, slo_met=True)


def test_every_cell_is_run_once_and_is_a_row_in_the_plans_order(tmp_path: Path) -> None:
    found, runner = cells(tmp_path, settings=SEQS, rates=[1, 2], repeats=2), Scripted(good)
    last = ended(found, tmp_path / "out", runner)
    assert [cell.key for cell in runner.ran] == [cell.key for cell in found.cells]
    assert [row.key for row in last.rows] == [cell.key for cell in found.cells]
    table = pq.read_table(tmp_path / "out" / "sweep.parquet")
    assert table["set.engine.max_num_seqs"].to_pylist() == [4, 4, 64, 64, 64, 64, 4, 4]
    assert [*map(str, table["state"].to_pylist())] == ["done"] * 8


@pytest.mark.parametrize(
    ("stop", "seen", "skipped"),
    [
        ("slo", Numbers(slo_met=False), 2),
        ("slo", Numbers(slo_met=True, overloaded=True), 2),
        ("overload", Numbers(slo_met=False), 0),
        ("overload", Numbers(overloaded=True), 2),
        ("never", Numbers(slo_met=False, overloaded=True), 0),
        ("slo", Numbers(), 0),
    ],
)
def test_a_saturated_load_ends_its_own_curve_alone(tmp_path: Path, stop: str, seen: Numbers, skipped: int) -> None:
    """Loads 1, 2, 4, 8 of two configs; the first config shows `seen` at 2."""
    found = cells(tmp_path, settings=SEQS, rates=[8, 4, 2, 1], saturation=stop)
    runner = Scripted(lambda cell: seen if (cell.config.label, cell.load.value) == ("c01", 2) else good(cell))
    rows = ended(found, tmp_path / "out", runner).rows
    assert [(row.config, row.load) for row in rows if row.state == "skipped"] == [("c01", 4), ("c01", 8)][:skipped]
    assert all("at 2 requests/s" in row.reason for row in rows if row.state == "skipped")
    assert len(runner.ran) == 8 - skipped


def test_a_skipped_cell_leaves_the_ranking_by_cost(tmp_path: Path) -> None:
    """Its target has a price and GPUs like any other cell's."""
    priced = {"grid": {"price_per_hour": [3.0], "gpus": [2], **SEQS["grid"]}}
    found = cells(tmp_path, settings=priced, rates=[1, 2])
    runner = Scripted(lambda _: Numbers(slo_met=False, good_tokens_per_s=100.0))
    rows = ended(found, tmp_path / "out", runner).rows
    assert [row.state for row in rows] == ["done", "skipped"] * 2
    assert {(row.price_per_hour, row.gpus) for row in rows} == {(3.0, 2)}
    assert result_of(rows).by == "cost"


def test_failed_cells_are_rows_and_run_again_when_resumed_good_ones_are_not(tmp_path: Path) -> None:
    found, folder = cells(tmp_path, settings=SEQS, rates=[1, 2]), tmp_path / "out"
    broken = Scripted(lambda cell: "no such option" if cell.config.label == "c01" else good(cell))
    rows = ended(found, folder, broken).rows
    assert [row.state for row in rows] == ["failed", "failed", "done", "done"]
    assert (rows[0].error, rows[0].reason, rows[0].log_tail) == ("TargetStartError", "no such option", "last words")
    kept = steady(folder)[2:]
    mended = Scripted(lambda cell: Numbers(goodput_rps=9.0))
    rows = ended(found, folder, mended, resume=True).rows
    assert [cell.config.label for cell in mended.ran] == ["c01", "c01"]
    assert steady(folder)[2:] == kept
    assert [row.numbers.goodput_rps for row in rows] == [9.0, 9.0, 5.0, 5.0]


def test_no_secret_reaches_the_row_of_a_failed_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers repeat the key that they refuse, and commands their environment."""
    target = {
        "kind": "remote",
        "url": "http://127.0.0.1:9",
        "talk": {"api_key_env": "K", "headers": {"x-team": "s3cr"}},
    }
    (tmp_path / "far.yaml").write_text(yaml.safe_dump(target))
    monkeypatch.setenv("K", "sk-0123456789")
    (cell,) = cells(tmp_path, targets=[str(tmp_path / "far.yaml")], rates=[1]).cells
    row = failed(cell, TargetError("HTTP 401 for s3cr\n  it said  bad key sk-0123456789"))
    assert (row.reason, row.log_tail) == (f"HTTP 401 for {REDACTED}", f"  it said  bad key {REDACTED}")
    assert failed(cell, TargetError("x"), tail="Bearer sk-0123456789").log_tail == REDACTED
    monkeypatch.delenv("K")
    assert failed(cell, ConfigError("talk.api_key_env: K is not set\n  see s3cr")).log_tail == f"  see {REDACTED}"


def test_an_experiment_may_grow_but_not_become_another(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    ended(cells(tmp_path, settings=SEQS, rates=[1]), folder, Scripted(good))
    more = Scripted(good)
    grown = {"grid": {"engine.max_num_seqs": [2, 4, 64]}}
    rows = ended(cells(tmp_path, settings=grown, rates=[1, 2]), folder, more, resume=True).rows
    assert len(more.ran) == 4
    assert [row.config for row in rows] == ["c01", "c01", "c02", "c02", "c03", "c03"]
    with pytest.raises(ConfigError, match="belongs to another sweep"):
        ended(cells(tmp_path, settings=grown, rates=[3]), folder, Scripted(good), resume=True)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sweep.parquet").write_text("not a table")
    with pytest.raises(ConfigError, match="not empty"):
        prepare(tmp_path / "out", force=False, resume=False)
    with pytest.raises(RecordsError, match="cannot read"):
        load(tmp_path / "out")
    with pytest.raises(ConfigError, match="began"):
        load(tmp_path)
    prepare(tmp_path / "out", force=True, resume=False)
    assert not (tmp_path / "out" / "sweep.parquet").exists()


def test_an_interrupted_cell_has_no_row(tmp_path: Path) -> None:
    found, folder, interrupts = cells(tmp_path, settings=SEQS, rates=[1, 2]), tmp_path / "out", Interrupts()

    def stopping(cell: Cell) -> Numbers:
        interrupts.count += cell.load.value == 2
        return good(cell)

    prepare(folder, force=False, resume=False)
    last = [*run_sweep(found, folder, Scripted(stopping), interrupts)][-1]
    assert isinstance(last, SweepEnded)
    assert last.interrupted
    assert len(last.rows) == len(load(folder)) == 1


# ---- in virtual time, by the command itself

TWELVE = {
    "settings": {"grid": {"engine.max_num_seqs": [4, 64], "engine.max_num_batched_tokens": [512, 8192]}},
    "rates": [10, 30, 60],
    "requests": 250,
    "warmup": "1s",
}


def in_virtual_time(found: Cells, folder: Path, look: Callable[[], object] = lambda: None) -> list[Any]:
    """Run a sweep in this process; what `look` saw at each line that was told."""
    prepare(folder, force=False, resume=False)
    runner = VirtualCells(found, folder, Interrupts(), Reports(of_run=lambda _: 0, of_search=lambda _: None))
    events = run_sweep(found, folder, runner, Interrupts(), virtual=True)
    return [look() for event in events if isinstance(event, Told)]


def command(file: Path, out: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "slobench", "sweep", str(file), "--virtual", "--out", str(out), *words]


def rows_in(folder: Path) -> int:
    try:
        return int(pq.read_metadata(folder / "sweep.parquet").num_rows)
    except (OSError, ValueError):
        return 0


def run_until(argv: list[str], folder: Path, rows: int, number: int) -> int:
    """Start the command and send it a signal once so many rows are there; its exit code."""
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if rows_in(folder) >= rows:
                process.send_signal(number)
                break
            time.sleep(0.002)
        return process.wait()


def test_killed_at_random_points_and_resumed_the_table_is_that_of_an_unbroken_sweep(tmp_path: Path) -> None:
    file, broken, unbroken = written(tmp_path, **TWELVE), tmp_path / "broken", tmp_path / "unbroken"
    in_virtual_time(cells(tmp_path, **TWELVE), unbroken)
    drawn, kills = random.Random(os.urandom(8)), 0  # any points must do
    for rows in sorted(drawn.sample(range(1, 11), 2)):
        resume = ["--resume"] if (broken / "sweep.parquet").exists() else []
        kills += run_until(command(file, broken, *resume), broken, rows, signal.SIGKILL) == -signal.SIGKILL
    again = subprocess.run(command(file, broken, "--resume", "--json"), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert kills >= 1
    assert steady(broken) == steady(unbroken)
    assert json.loads(again.stdout)["cells"]["planned"] == len(steady(broken)) == 12


def test_ctrl_c_ends_with_130_and_the_table_is_whole(tmp_path: Path) -> None:
    file, folder = written(tmp_path, **TWELVE), tmp_path / "out"
    code = run_until(command(file, folder), folder, 2, signal.SIGINT)
    assert code == 130
    assert 2 <= rows_in(folder) < 12
    assert (folder / "sweep.html").is_file()
    assert (
        subprocess.run(command(file, folder, "--resume", "--quiet"), capture_output=True, check=False).returncode == 0
    )
    assert rows_in(folder) == 12


def test_fifty_cells_leave_descriptors_threads_and_memory_flat(tmp_path: Path) -> None:
    """In one process: what ten cells take is all that fifty take (but for 16 MB of an allocator's mood)."""
    settings = {"grid": {"engine.max_num_seqs": [*range(8, 58)]}}
    found, folder = cells(tmp_path, settings=settings, rates=[20], requests=150), tmp_path / "out"
    process = psutil.Process()
    seen = in_virtual_time(found, folder, lambda: (process.num_fds(), process.num_threads(), process.memory_info().rss))
    early, late = seen[20], seen[-1]
    assert len(load(folder)) == 50
    assert late[0] <= early[0]
    assert late[1] <= early[1]
    assert late[2] - early[2] < 16e6
