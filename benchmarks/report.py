"""What `slobench report` costs for large runs: seconds of CPU and wall, and peak resident memory.

    .venv/bin/python benchmarks/report.py [--requests 100000] [--tokens 256] [--profile]

The spool is made of invented replies with the writers that a worker uses, so it is what a run would have left: gaps,
sizes of events and read lags vary, as equal ones sort and compress in no time.
Anonymous memory is what the process itself took; the rest of the resident set are pages of the mapped spool.
Beside it pandas, which reads the tables that the report wrote and gives p50 and p99 of TTFT, TPOT and gaps: no intervals,
checks, pictures or files. Each call adds a line to benchmarks/history/report.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import history
import numpy as np
import psutil

from slobench.config.flags import RunFlags, workload_from_flags
from slobench.config.load import load_target
from slobench.experiment.setup import Trial, first_run_json
from slobench.names import NULL
from slobench.plan import build_plan
from slobench.records.buffers import CHUNK_ROW
from slobench.records.schema import SPOOL_CHUNKS, SPOOL_REQUESTS, WORKER_METRICS
from slobench.records.spool import SpoolWriter
from slobench.records.store import write_run_json

MB, NS = 2**20, 10**9
RATE, GAP_NS, JITTER_NS, TTFT_NS = 400.0, 20_000_000, 4_000_000, 80_000_000
CHUNK = np.dtype([(name, {"q": "i8", "b": "i1"}[kind]) for name, kind in SPOOL_CHUNKS.items()])

PLAIN = """
import sys, pandas
requests, chunks = (pandas.read_parquet(sys.argv[1] + name) for name in ("/requests.parquet", "/chunks.parquet"))
gaps = chunks.groupby("index")["t_ns"].diff()
span = chunks.groupby("index")["t_ns"].agg(["min", "max", "size"])
tpot = (span["max"] - span["min"]) / (span["size"] - 1)
ttft = span["min"] - requests.set_index("index")["scheduled_ns"]
print([values.quantile([0.5, 0.99]).tolist() for values in (ttft, tpot, gaps)])
"""


@dataclass
class Most:
    """The largest memory seen, in bytes."""

    rss: int = 0
    anonymous: int = 0


def write_run(folder: Path, n: int, tokens: int) -> float:
    """Make the folder of a run of `n` requests of `tokens` tokens each; return how many bytes its spool has."""
    flags = RunFlags(rate=str(RATE), requests=n, input_tokens="128", output_tokens=str(tokens), slo=("ttft<500ms",))
    trial = Trial(workload_from_flags(flags).value, load_target("sim").value, folder)
    plan = build_plan(trial.workload, 0)
    spool = folder / "spool"
    writer = SpoolWriter(spool, 0, backlog_bytes=1 << 40)
    plan.save(spool / "plan.arrow")
    scheduled = np.asarray(plan.scheduled_ns)
    first = scheduled + TTFT_NS + np.random.default_rng(0).exponential(20e6, n).astype(np.int64)
    last = first + (tokens - 1) * GAP_NS + JITTER_NS * (tokens > 1)
    end_ns = int(last.max()) + NS
    for second in range(end_ns // NS + 1):
        add_second(writer, (second * NS, (second + 1) * NS), (scheduled, first, last), tokens)
    writer.close(timeout_s=600)
    run = first_run_json(trial, plan, 1, ())
    run["run"] |= {"stop": "complete", "interrupted": False, "end_ns": end_ns}
    run["clock"] = {"monotonic_ns": 0, "wall_ns": 0, "start_ns": 0}
    run["stamps"] = "kernel"
    write_run_json(folder, run)
    return float(sum(path.stat().st_size for path in spool.iterdir()))


def add_second(
    writer: SpoolWriter, span: tuple[int, int], times: tuple[np.ndarray, np.ndarray, np.ndarray], tokens: int
) -> None:
    """What a worker spools in one second: begun and ended requests, token events, its heartbeats."""
    scheduled, first, last = times
    for index in np.flatnonzero((scheduled >= span[0]) & (scheduled < span[1])).tolist():
        writer.starts.add(index, int(scheduled[index]), int(scheduled[index]) + 40_000)
    # Of each reply, the tokens of this second, in the order of their times.
    alive = np.flatnonzero((first < span[1]) & (last >= span[0]))
    low = np.maximum(0, -((first[alive] - span[0]) // GAP_NS))
    high = np.minimum(tokens, -((first[alive] - span[1]) // GAP_NS))
    count = np.maximum(high - low, 0)
    rows = np.zeros(int(count.sum()), CHUNK)
    rows["index"] = np.repeat(alive, count)
    which = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
    random = np.random.default_rng(span[0])
    rows["t_ns"] = first[rows["index"]] + which * GAP_NS + random.integers(0, JITTER_NS, len(rows)) * (which > 0)
    rows["tokens"], rows["bytes"] = NULL, random.integers(170, 190, len(rows))
    rows["lag_ns"] = random.exponential(35_000, len(rows))
    writer.chunks.packed += rows[np.argsort(rows["t_ns"], kind="stable")].tobytes()
    for index in np.flatnonzero((last >= span[0]) & (last < span[1])).tolist():
        writer.requests.add(request_row(index, int(scheduled[index]), int(first[index]), int(last[index]), tokens))
    for beat in range(20):
        writer.telemetry.add(span[0] + beat * NS // 20, WORKER_METRICS.index("heartbeat_overshoot_ns"), 60_000)
    writer.telemetry.add(span[0], WORKER_METRICS.index("cpu_s"), span[0] / NS * 0.3)
    writer.flush()


def request_row(index: int, scheduled: int, first: int, last: int, tokens: int) -> list[int | str]:
    """One request that went well."""
    values: dict[str, int | str] = {
        "index": index, "scheduled_ns": scheduled, "started_ns": scheduled + 40_000,
        "connected_ns": scheduled + 41_000, "sent_ns": scheduled + 50_000, "headers_ns": first,
        "first_token_ns": first, "first_output_ns": first, "last_token_ns": last, "end_ns": last + 100_000,
        "input_tokens": 128, "output_tokens": tokens, "chunks": tokens, "reads": tokens, "http_status": 200,
        "error": "", "finish_reason": "length", "receive_lag_max_ns": 90_000,
    }  # fmt: skip
    codes = {"tokens_source": 0, "outcome": 0, "connection_new": 0, "reconnects": 0, "first_token_error_ns": 0}
    return [values.get(name, codes.get(name, NULL)) for name in SPOOL_REQUESTS]


def watch(pid: int, most: Most, ended: threading.Event) -> None:
    """Follow the memory of a process."""
    process = psutil.Process(pid)
    while not ended.wait(0.02):
        with suppress(psutil.NoSuchProcess, OSError, ValueError, KeyError):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            fields = dict(line.split(":", 1) for line in lines if ":" in line)
            most.rss = max(most.rss, int(fields["VmRSS"].split()[0]) * 1024)
            most.anonymous = max(most.anonymous, int(fields["RssAnon"].split()[0]) * 1024)


def main() -> None:
    """Make the run, report it, print what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--profile", action="store_true", help="Print where the time goes (it costs some itself).")
    args = parser.parse_args()
    assert CHUNK.itemsize == CHUNK_ROW.size
    with tempfile.TemporaryDirectory(prefix="report-", dir=os.environ.get("SCRATCH")) as text:
        folder = Path(text) / "run"
        folder.mkdir()
        spool_bytes = write_run(folder, args.requests, args.tokens)
        profiled = ["-m", "cProfile", "-s", "cumulative"] if args.profile else []
        command = [sys.executable, *profiled, "-m", "slobench", "report", str(folder), "--quiet"]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        report = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        most, ended = Most(), threading.Event()
        watcher = threading.Thread(target=watch, args=(report.pid, most, ended))
        watcher.start()
        said, _ = report.communicate()
        ended.set()
        wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        watcher.join()
        files = {path.name: round(path.stat().st_size / MB, 1) for path in folder.glob("*.parquet")}
        plain_s = cpu_s_of([sys.executable, "-c", PLAIN, str(folder)])
    print("\n".join(said.splitlines()[: 70 if args.profile else 3]))
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = {
        "requests": args.requests, "tokens": args.tokens, "exit": report.returncode,
        "spool_mb": round(spool_bytes / MB), "wall_s": round(wall_s, 1), "cpu_s": round(cpu_s, 1),
        "pandas_cpu_s": round(plain_s, 1), "ratio": round(cpu_s / plain_s, 2),
        "peak_rss_mb": round(most.rss / MB), "peak_anonymous_mb": round(most.anonymous / MB), "files_mb": files,
    }  # fmt: skip
    print(json.dumps(figures))
    if not args.profile:
        history.append("report", figures)


def cpu_s_of(command: list[str]) -> float:
    """CPU seconds of a command that must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
