"""`slobench run` as a user starts it, watched from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

PATIENCE_S = 90.0  # for what must come; nothing is judged by it
WORKER = "slobench.generate.worker"


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what must come."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, f"it never came: {what}"
        time.sleep(0.02)


@dataclass
class Run:
    """A run in progress, or what is left of it."""

    folder: Path
    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def end(self) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(PATIENCE_S)

    def json(self) -> dict[str, Any]:
        """What it printed."""
        found: dict[str, Any] = json.loads(self.out.read_text())
        return found

    def run_json(self) -> dict[str, Any]:
        """Its run.json."""
        found: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        return found

    def rows(self) -> dict[str, list[Any]]:
        """Its requests.parquet."""
        found: dict[str, list[Any]] = pq.read_table(self.folder / "requests.parquet").to_pydict()
        return found

    def children(self, mark: str = "") -> list[psutil.Process]:
        """Processes that it started, directly or not, whose command line holds `mark`."""
        found = []
        with suppress(psutil.NoSuchProcess):
            for each in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if mark in " ".join(each.cmdline()):
                        found.append(each)
        return found


@contextmanager
def running(folder: Path, *words: str) -> Iterator[Run]:
    """`slobench run WORDS --out folder`; whatever is left of it is killed in the end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    out, err = folder.with_name(f"{folder.name}.out"), folder.with_name(f"{folder.name}.err")
    command = [sys.executable, "-m", "slobench", "run", *words, "--out", str(folder)]
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=folder.parent, env=os.environ)
    run = Run(folder, process, out, err)
    try:
        yield run
    finally:
        left = run.children()
        process.kill()
        process.wait()
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def report(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """`slobench report --json`: exit code and JSON."""
    command = [sys.executable, "-m", "slobench", "report", str(folder), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def zeros(value: Any, path: str = "") -> list[str]:
    """Where a number that is exactly 0 stands in JSON."""
    if isinstance(value, dict):
        return [at for key, item in value.items() for at in zeros(item, f"{path}.{key}")]
    if isinstance(value, list):
        return [at for key, item in enumerate(value) for at in zeros(item, f"{path}[{key}]")]
    return [path] if isinstance(value, int | float) and not isinstance(value, bool) and value == 0 else []
