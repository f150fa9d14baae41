"""One run of a load generator against the calibrated server (fidelity/refserver.c): what it said and what was true."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from peers import FOLDER, Floats, Load, Said, Tool

FIRST_MS, GAP_MS, STEP_MS = 50, 10, 20
START_S = 1.5
"""Requests sent in this time from the first are not compared: every tool first fills caches and opens connections."""

LAUNCH = """
import json, os, sys
cores = sys.argv[2]
if cores:
    os.sched_setaffinity(0, map(int, cores.split(",")))
pid = os.posix_spawn(sys.argv[3], sys.argv[3:], os.environ)
_, status, used = os.wait4(pid, 0)
with open(sys.argv[1], "w") as file:
    json.dump([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024], file)
"""
"""A process between: what the kernel says of a child's memory begins with that of the process that started it."""


@dataclass(frozen=True)
class Mode:
    """How the server answers. step_ms: all running replies together, else each every GAP_MS a token by itself.

    event_bytes: 0 is an event with all the fields that vLLM sends, some 220 bytes. apart: the server has the first
    core to itself, the client the others; else the kernel places both. servers: processes that share one port, to
    which the kernel deals the connections out.
    """

    step_ms: float | None = STEP_MS
    per_event: int = 1
    event_bytes: int = 0
    apart: bool = False
    servers: int = 1

    def __str__(self) -> str:
        schedule = f"step {self.step_ms:g} ms" if self.step_ms else f"each by itself, {GAP_MS} ms a token"
        size = {0: "as vLLM's", 4096: "4 KiB"}.get(self.event_bytes, f"{self.event_bytes} B")
        tokens = "token" if self.per_event == 1 else "tokens"
        places = ", on cores of their own" * self.apart + f", {self.servers} servers" * (self.servers > 1)
        return f"{schedule}, {self.per_event} {tokens} an event, {size}{places}"

    def flags(self) -> list[str]:
        """Return refserver's flags."""
        asked = {"--step-ms": self.step_ms, "--per-chunk": self.per_event, "--event-bytes": self.event_bytes}
        fixed = ["--ttft-ms", str(FIRST_MS), "--itl-ms", str(GAP_MS), "--share", str(int(self.servers > 1))]
        return fixed + [word for key, value in asked.items() if value for word in (key, str(value))]

    def cores(self) -> tuple[str, str]:
        """Return those of the server and of the client, as words for LAUNCH; empty where they share all."""
        usable = sorted(os.sched_getaffinity(0))
        return (str(usable[0]), ",".join(map(str, usable[1:]))) if self.apart else ("", "")


class Server:
    """The calibrated server, in a `with` block; afterwards `cpu_s` and `rows`, one a finished request by its time."""

    def __init__(self, lab: Path, mode: Mode, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._logs = [log.with_suffix(f".{number}.csv") for number in range(mode.servers)]
        self._cores, _ = mode.cores()
        common = [str(lab / "refserver"), "--port", str(port), *mode.flags()]
        self._commands = [[*common, "--log", str(each)] for each in self._logs]
        self._processes: list[subprocess.Popen[str]] = []
        self.url = f"http://127.0.0.1:{port}"
        self.cpu_s = 0.0
        self.rows = np.empty((0, 4))

    def __enter__(self) -> Server:
        for command in self._commands:
            self._processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        for process in self._processes:
            if self._cores:
                os.sched_setaffinity(process.pid, map(int, self._cores.split(",")))
            self._await(psutil.Process(process.pid))
        return self

    def _await(self, process: psutil.Process) -> None:
        for _ in range(100):
            if any(each.status == psutil.CONN_LISTEN for each in process.net_connections("tcp")):
                return
            time.sleep(0.02)
        raise SystemExit(f"{self._commands[0][0]} does not listen at {self.url}")

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        self.cpu_s = sum(float(process.communicate()[1].split("cpu_s")[1]) for process in self._processes)
        keys = ("recv_ns", "first_ns", "last_ns", "tokens")
        every = (row for log in self._logs for row in csv.DictReader(log.open()) if row["status"] == "done")
        rows = sorted([int(row[key]) for key in keys] for row in every)
        self.rows = np.array(rows, dtype=np.float64).reshape(-1, 4)


def launched(command: list[str], folder: Path, limit_s: float, cores: str) -> tuple[int, float, float]:
    """Run a command to its end: exit code, CPU seconds of all that it waited for, MB of its largest process.

    cores: on which it may run; "": on all. The output is kept in folder/tool.log. One that takes longer than limit_s is killed with its whole group: exit -9,
    and nothing is known of its CPU.
    """
    found = folder / "used.json"
    ours = [sys.executable, "-I", "-S", "-c", LAUNCH, str(found), cores, *command]
    with (folder / "tool.log").open("wb") as log:
        process = subprocess.Popen(
            ours, cwd=folder, env=environment(folder), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if not found.exists():
        return -9, float("nan"), float("nan")
    code, cpu_s, peak_mb = json.loads(found.read_text())
    return code, cpu_s, peak_mb


def environment(folder: Path) -> dict[str, str]:
    """Nothing is asked of any hub; what earlier runs left on this machine has no part in the verdict."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HOME": str(FOLDER / "hub")}
    others = {"OPENAI_API_KEY": "none", "TOKENIZERS_PARALLELISM": "false", "XDG_STATE_HOME": str(folder / "state")}
    return {**os.environ, **offline, **others}


def measure(tool: Tool, load: Load, mode: Mode, lab: Path) -> dict[str, object]:
    """Run once; return the figures of a history's line."""
    with tempfile.TemporaryDirectory(prefix="ladder-") as text:
        folder = Path(text)
        (folder / "result").mkdir()
        start = time.perf_counter()
        with Server(lab, mode, folder / "truth.csv") as server:
            command = [str(tool.program), *tool.arguments(load, server.url, folder)]
            limit_s = 90 + 3 * load.requests / load.rate
            code, cpu_s, peak_mb = launched(command, folder, limit_s, mode.cores()[1])
        wall_s = time.perf_counter() - start
        facts: dict[str, object] = {
            "tool": tool.name, "version": tool.version(), "mode": str(mode), "rate": load.rate,
            "requests": load.requests, "tokens": load.tokens, "exit": code, "wall_s": round(wall_s, 2),
            "cpu_s": known(cpu_s), "peak_mb": known(peak_mb, 1), "server_cpu_s": round(server.cpu_s, 2),
        }  # fmt: skip
        try:
            said = tool.read(folder)
            return facts | compared(said, server.rows, load)
        except (OSError, KeyError, ValueError, IndexError) as error:
            last = (folder / "tool.log").read_text(errors="replace").strip().splitlines()[-3:]
            return facts | {"error": f"{type(error).__name__}: {error}"[:200], "log": " / ".join(last)[-400:]}


def known(value: float, digits: int = 3) -> float | None:
    """Absent is null."""
    return None if np.isnan(value) else round(float(value), digits)


def compared(said: Said, rows: Floats, load: Load) -> dict[str, object]:
    """Hold what the tool said of the requests after the first START_S against what the server logged of them."""
    if len(rows) < 2 or not len(said.start_s):
        return {"completed": len(said.start_s), "error": "no request was served"}
    recv, first, last, tokens = rows.T
    # A schedule that is not known is taken to have the mean rate asked for: short of it by chance as often as not.
    due_span_s = said.due_span_s if said.due_span_s is not None else (len(recv) - 1) / load.rate
    achieved = due_span_s / (np.ptp(recv) / 1e9)
    true = recv >= recv.min() + START_S * 1e9
    seen = said.start_s >= said.start_s.min() + START_S
    figures: dict[str, object] = {
        "completed": len(said.start_s), "compared": int(seen.sum()),
        "achieved_ratio": known(achieved, 4), "schedule_known": said.due_span_s is not None, "verdict": said.verdict,
    }  # fmt: skip
    several = true & (tokens > 1)
    pairs = {
        "true_ttft": (first - recv)[true] / 1e6,
        "ttft": said.ttft_ms[seen],
        "true_tpot": (last - first)[several] / (tokens[several] - 1) / 1e6,
        "tpot": said.tpot_ms[seen],
        "lag": said.lag_ms[seen] if said.lag_ms is not None else np.empty(0),
    }
    for name, values in pairs.items():
        there = values[np.isfinite(values)]
        for share in (50, 99):
            figures[f"{name}_p{share}_ms"] = known(np.percentile(there, share)) if len(there) else None
    return figures
