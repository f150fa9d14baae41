"""A messy server, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slobench.targets.process import Command

TREE = Path(__file__).with_name("tree.py")
LIMIT_S = 30.0  # far above what anything here takes: reached only where the fact tested is false


def until(fact: Callable[[], bool]) -> bool:
    """Wait for a fact; whether it came true."""
    deadline = time.monotonic() + LIMIT_S
    while not (true := fact()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return true


def running(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@dataclass
class Mess:
    """The tree of tree.py, as it reports itself."""

    folder: Path

    @property
    def pids_file(self) -> Path:
        return self.folder / "pids"

    def argv(self, *modes: str) -> list[str]:
        return [sys.executable, str(TREE), str(self.pids_file), *modes]

    def command(self, *modes: str, stop_s: float = 20.0) -> Command:
        return Command(self.argv(*modes), {}, self.folder / "server.log", round(stop_s * 1e9))

    def entries(self) -> list[tuple[int, str]]:
        with contextlib.suppress(OSError):
            lines = self.pids_file.read_text().splitlines()
            return [(int(pid), name) for pid, name in (line.split() for line in lines)]
        return []

    def grown(self) -> bool:
        return until(lambda: len(self.entries()) == 2)

    def gone(self) -> bool:
        """Whether neither a process nor a segment of it is left."""
        return until(lambda: not any(running(pid) or Path("/dev/shm", name).exists() for pid, name in self.entries()))


@pytest.fixture
def mess(tmp_path: Path) -> Iterator[Mess]:
    """A messy server to start; what a failed test leaves of it is removed."""
    if not Path("/dev/shm").is_dir() or not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc and /dev/shm")
    mess = Mess(tmp_path)
    yield mess
    for pid, name in mess.entries():  # whatever a failed test left
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        Path("/dev/shm", name).unlink(missing_ok=True)
