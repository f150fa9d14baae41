"""A vLLM that slobench starts itself: it fails, is killed, or loses us, and nothing is lost or left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from slobench.targets.guard import descendants, marked
from slobench.targets.shm import segments
from tests.e2e.conftest import TARGET, Run, argv, marks_of, needs_vllm, run

pytestmark = pytest.mark.smoke

LOAD = ("--rate", "4", "--duration", "40s", "--input-tokens", "32", "--output-tokens", "16")
# Evenly spaced and longer than the gaps: some are in flight at any time.
STEADY = (
    "--arrivals",
    "constant",
    "--rate",
    "5",
    "--duration",
    "40s",
    "--input-tokens",
    "32",
    "--output-tokens",
    "100",
)
LIMIT_S = 200.0


@pytest.fixture(autouse=True)
def _vllm_is_here() -> None:
    needs_vllm()


def until(fact: Callable[[], bool], limit_s: float = LIMIT_S) -> bool:
    """Wait for a fact; whether it came true."""
    deadline = time.monotonic() + limit_s
    while not (true := fact()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return true


def server_of(process: subprocess.Popen[str]) -> int | None:
    """The pid of the vLLM that a run has started."""
    for pid in descendants(process.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and any(word.endswith(b"/vllm") for word in words):
            return pid
    return None


def started(folder: Path, load: Sequence[str] = LOAD) -> subprocess.Popen[str]:
    """A run in the background."""
    return subprocess.Popen(
        argv(folder, TARGET, load), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def offering(folder: Path) -> bool:
    """Whether requests of the run have been recorded."""
    return any(path.stat().st_size > 2000 for path in (folder / "spool").glob("w*requests*"))


def test_a_bad_argument(tmp_path: Path) -> None:
    """An option that vLLM does not know ends the run with exit 6, the cause, its log, and no process left."""
    done = run(tmp_path / "run", TARGET, *LOAD, "--set", "args.no-such-option=1")
    assert done.code == 6
    assert "bad argument" in done.err
    assert "--no-such-option" in done.err
    assert "unrecognized arguments" in (tmp_path / "run" / "server.log").read_text()


def test_the_server_is_killed_during_the_run(tmp_path: Path) -> None:
    """SIGKILL of vLLM's API server: exit 6, each planned request is a row, no process or segment of it is left."""
    before = segments()
    with started(tmp_path / "run", STEADY) as process:
        assert until(lambda: offering(tmp_path / "run"))
        pid = server_of(process)
        assert pid is not None
        (mark,) = marks_of(pid)
        assert len(marked(mark)) > 1  # the engine and its worker are processes of their own
        os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=LIMIT_S)
    done = Run(process.returncode, out, err, tmp_path / "run")
    assert done.code == 6, done.err
    assert "killed by SIGKILL" in done.err
    assert marked(mark) == []
    assert segments() - before == set()
    planned = done.record["plan"]["rows"]
    outcomes = Counter(done.column("outcome"))
    assert done.column("index") == list(range(planned))
    assert outcomes["ok"] > 0
    assert set(outcomes) <= {"ok", "connection", "unsent"}, outcomes
    assert outcomes["connection"] > 0
    failed = done.requests.filter([outcome not in ("ok", "unsent") for outcome in done.column("outcome")])
    assert all(value is None for value in failed["e2e_s"].to_pylist())


def test_we_are_killed_during_the_run(tmp_path: Path) -> None:
    """SIGKILL of slobench: vLLM goes too, and `report` makes the whole report from what was written."""
    before = segments()
    folder = tmp_path / "run"
    with started(folder) as process:
        assert until(lambda: offering(folder))
        pid = server_of(process)
        assert pid is not None
        (mark,) = marks_of(pid)
        time.sleep(3)
        process.kill()
        process.wait()
    assert until(lambda: marked(mark) == [], 60)
    assert until(lambda: segments() - before == set(), 10)
    again = [sys.executable, "-m", "slobench", "report", str(folder), "--json"]
    reported = subprocess.run(again, capture_output=True, text=True, timeout=120, check=False)
    done = Run(reported.returncode, reported.stdout, reported.stderr, folder)
    assert json.loads(done.out)["verdict"]
    assert done.column("index") == list(range(done.record["plan"]["rows"]))
    assert Counter(done.column("outcome"))["ok"] >= 8  # 3 s at 4 a second, less the last second


def test_an_interrupted_run_stops_its_server(tmp_path: Path) -> None:
    """Ctrl-C: replies in flight are awaited, the report is made, the server goes, exit 130."""
    with started(tmp_path / "run") as process:
        assert until(lambda: offering(tmp_path / "run"))
        pid = server_of(process)
        assert pid is not None
        (mark,) = marks_of(pid)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_S)
    done = Run(process.returncode, out, err, tmp_path / "run")
    assert done.code == 130, done.err
    assert marked(mark) == []
    outcomes = Counter(done.column("outcome"))
    assert set(outcomes) == {"ok", "unsent"}
