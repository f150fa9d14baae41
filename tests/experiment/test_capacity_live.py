"""A search on a real server, stopped and killed in the middle, and taken up again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from slobench.names import Outcome
from slobench.records.store import load, read_run_json
from tests.experiment.running import until
from tests.generate.mock_server import MockServer, one_at_a_time

SERVICE_S = 0.01


@contextmanager
def searching(folder: Path, url: str, how: str) -> Iterator[subprocess.Popen[str]]:
    """A search in a process of its own; killed in the end where it is left."""
    command = [sys.executable, "-m", "tests.experiment.streaming", str(folder), url, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(process: subprocess.Popen[str], wanted: str) -> list[str]:
    """What it says until it says this."""
    assert process.stdout is not None
    said: list[str] = []
    while not said or said[-1] != wanted:
        line = process.stdout.readline()
        assert line, f"it ended without {wanted!r}, saying {said}"
        said.append(line.strip())
    return said


def capacity(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "capacity.json").read_text())
    return found


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_killed_search_is_taken_up_and_an_interrupted_one_ends_well(tmp_path: Path) -> None:
    """SIGKILL after three probes: no process is left, and --resume goes on with those three and new numbers.
    SIGINT then: what is in flight ends by itself, the file says so, and every probe is stored.
    """
    folder = tmp_path / "search"
    with MockServer(one_at_a_time(SERVICE_S)) as server:
        with searching(folder, server.url, "begin") as process:
            lines_until(process, "ended 3")
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            process.wait()
        until(lambda: not any(map(alive, children)), "the end of every process")
        before = capacity(folder)
        assert before["state"] == "running"
        assert len(before["probes"]) == 3
        with searching(folder, server.url, "resume") as process:
            said = lines_until(process, "ended 4")
            assert "resuming after 3 probes" in said
            process.send_signal(signal.SIGINT)
            lines_until(process, "reason interrupted")
            assert process.wait() == 0
        assert not any(seen.closed for seen in server.seen[-20:])  # none of the last ones was hung up on
    then = capacity(folder)
    assert then["probes"][:3] == before["probes"]
    numbers = [each["probe"]["number"] for each in then["probes"]]
    assert numbers == sorted(set(numbers))
    assert numbers[:4] == [0, 1, 2, 3]
    for each in then["probes"]:
        stored = folder / f"probe-{each['probe']['number']:02d}"
        assert read_run_json(stored)["probe"]["digest"] == each["digest"]
        assert set(load(stored).records.requests["outcome"].tolist()) <= {Outcome.OK, Outcome.CUT}
    assert not (folder / "spool").exists()
