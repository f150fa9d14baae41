"""Half an hour at half of what this machine can offer, watched for growth of memory, open files, threads and send lag.

    .venv/bin/python benchmarks/soak.py [--minutes 30] [--rate R] [--workers 1]

The load is half of the envelope of `slobench selftest` (its requests/s and tokens/s together), or --rate; the target
is the simulated engine with steps of 10 ms that cost it little. Every process is looked at once a second, send lag
is taken from the run's own records. Open files are counted less the most requests that were in flight until then,
by the records: so many connections there must be, since an idle one is kept, and a longest queue is outdone now and
then for ever. Each quantity's growth over the run is fitted with its interval (growth.py); the first sixth, in which
caches fill, is left out. 1 where something grew by more than it may, or where the run is not VALID.
Each call adds a line to benchmarks/history/soak.jsonl. In `make nightly`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import history
import numpy as np
import psutil
import pyarrow.parquet as pq
from growth import Growth, growth
from memory import MB, role

from slobench.records import ceiling

TOKENS = 16
SHARE = 0.5
SETTLING = 1 / 6
WINDOW_S = 10.0  # of which the send lag's p99 is taken
TARGET = """
kind: sim
engine:
  step: {base_ms: 10, token_ms: 0.0005, kv_token_ms: 0, sequence_ms: 0, attention_ms: 0, noise_cv: 0}
  max_num_seqs: 8192
  max_num_batched_tokens: 65536
"""
Samples = dict[tuple[str, int], list[tuple[float, float, float, float]]]
"""(at on CLOCK_MONOTONIC, RSS in MB, open files, threads) by (role, pid)."""

MOST = {"rss_mb": 16.0, "fds": 4.0, "threads": 0.5, "send_lag_p99_ms": 0.5}
"""How much each may grow over the whole run."""


@dataclass(frozen=True)
class Line:
    """How one quantity of one process went. flat: its interval ends below what it may grow by."""

    process: str
    quantity: str
    level: float
    grown: Growth

    @property
    def verdict(self) -> str:
        """Flat, growing, or not to be told from so short a run."""
        most = MOST[self.quantity]
        return "flat" if self.grown.high <= most else "GROWS" if self.grown.low > 0 else "cannot tell"


def rate_of(asked: float | None, workers: int) -> float:
    """The load in requests/s: as asked, or the share of the envelope; measures the envelope where there is none."""
    if asked is not None:
        return asked
    found = ceiling.load()
    if found is None:
        subprocess.run([sys.executable, "-m", "slobench", "selftest", "--workers", str(workers)], check=True)
        found = ceiling.load()
    assert found is not None
    part = min(workers / found.workers, 1.0)
    return round(SHARE * part / (1 / found.requests_per_s + TOKENS / found.tokens_per_s), 1)


def watched(command: list[str]) -> Samples:
    """Run a command, and sample each of its processes once a second."""
    seen: Samples = defaultdict(list)
    with subprocess.Popen(command) as run:
        whole = psutil.Process(run.pid)
        while run.poll() is None:
            with suppress(psutil.NoSuchProcess):
                for each in [whole, *whole.children(recursive=True)]:
                    with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                        now = (each.memory_info().rss / MB, float(each.num_fds()), float(each.num_threads()))
                        seen[role(each), each.pid].append((time.monotonic(), *now))
            time.sleep(1)
    return seen


def most_in_flight(folder: Path, start_s: float) -> list[np.ndarray]:
    """Of each worker, rows of a time on CLOCK_MONOTONIC in s and the most requests that it had in flight until then."""
    columns = ["worker", "started_ns", "end_ns"]
    table = pq.read_table(folder / "requests.parquet", columns=columns).to_pandas().dropna()
    found = []
    for _, mine in table.groupby("worker"):
        at_ns = np.concatenate([mine["started_ns"], mine["end_ns"]])
        order = np.argsort(at_ns, kind="stable")
        steps = np.repeat([1, -1], len(mine))[order]
        most = np.maximum.accumulate(np.cumsum(steps))
        found.append(np.column_stack([start_s + at_ns[order] / 1e9, most]))
    return found


def until(most: np.ndarray, at_s: np.ndarray) -> np.ndarray:
    """The second column of the last row before each time; 0 before the first."""
    last = np.searchsorted(most[:, 0], at_s, side="right") - 1
    return np.where(last >= 0, most[np.maximum(last, 0), 1], 0)


def lines_of(seen: Samples, start_s: float, minutes: float, most: list[np.ndarray]) -> list[Line]:
    """The growth of every process that lived through the run, between its settling and the end of the offer.

    start_s: of the run, on CLOCK_MONOTONIC.
    """
    span = (start_s + 60 * minutes * SETTLING, start_s + 60 * minutes)
    workers = sorted(pid for name, pid in seen if name == "worker")  # in the order in which they were started
    found = []
    for (name, pid), samples in sorted(seen.items()):
        rows = np.array([each for each in samples if span[0] <= each[0] < span[1]])
        if len(rows) < 0.9 * (span[1] - span[0]):
            continue  # the report, guards and what ended at the start
        mine = [most[workers.index(pid)]] if name == "worker" else most if name == "engine" else []
        rows[:, 2] -= sum((until(each, rows[:, 0]) for each in mine), np.zeros(len(rows)))
        for column, quantity in enumerate(("rss_mb", "fds", "threads"), start=1):
            grown = growth(rows[:, [0, column]], span[1] - span[0])
            found.append(Line(f"{name} {pid}", quantity, float(np.median(rows[:, column])), grown))
    return found


def lag_line(folder: Path, minutes: float) -> Line:
    """The growth of the send lag's p99 in windows of ten seconds, in ms."""
    table = pq.read_table(folder / "requests.parquet", columns=["scheduled_ns", "send_lag_s"]).to_pandas()
    at_s = table["scheduled_ns"] / 1e9
    table = table[(at_s >= 60 * minutes * SETTLING) & table["send_lag_s"].notna()]
    p99 = table.groupby(at_s[table.index] // WINDOW_S)["send_lag_s"].quantile(0.99) * 1e3
    rows = np.column_stack([p99.index.to_numpy() * WINDOW_S, p99.to_numpy()])
    return Line("run", "send_lag_p99_ms", float(np.median(rows[:, 1])), growth(rows, 60 * minutes * (1 - SETTLING)))


def main() -> int:
    """Soak, fit, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    rate = rate_of(args.rate, args.workers)
    with tempfile.TemporaryDirectory(prefix="soak-", dir=os.environ.get("SCRATCH")) as text:
        folder = Path(text)
        (folder / "engine.yaml").write_text(TARGET)
        command = [sys.executable, "-m", "slobench", "run", "--target", str(folder / "engine.yaml"), "--quiet"]
        command += ["--out", str(folder / "run"), "--rate", str(rate), "--duration", f"{args.minutes * 60:g}s"]
        command += ["--input-tokens", "32", "--output-tokens", str(TOKENS), "--workers", str(args.workers)]
        seen = watched(command)
        run = json.loads((folder / "run" / "run.json").read_text())
        most = most_in_flight(folder / "run", run["clock"]["start_ns"] / 1e9)
        lines = lines_of(seen, run["clock"]["start_ns"] / 1e9, args.minutes, most)
        lines.append(lag_line(folder / "run", args.minutes))
    print(f"{rate:g} requests/s × {TOKENS} tokens for {args.minutes:g} min; growth over the run with its 95 % interval")
    print(f"{'process':<16}{'quantity':<18}{'level':>10}  {'growth':<28}{'may grow':>9}")
    for each in lines:
        print(
            f"{each.process:<16}{each.quantity:<18}{each.level:>10.2f}  {each.grown!s:<28}"
            f"{MOST[each.quantity]:>9g}  {each.verdict}"
        )
    print(run["verdict"], *(f"{each['code']}: {each['seen']}" for each in run["findings"]), sep="\n  ")
    figures = {
        "minutes": args.minutes, "rate": rate, "tokens": TOKENS, "workers": args.workers, "verdict": run["verdict"],
        "growth": {f"{each.process.split()[0]} {each.quantity}": round(each.grown.value, 3) for each in lines},
        "not_flat": [f"{each.process} {each.quantity}: {each.verdict}" for each in lines if each.verdict != "flat"],
    }  # fmt: skip
    history.append("soak", figures)
    return int(any(each.verdict == "GROWS" for each in lines) or not run["summary"]["valid"])


if __name__ == "__main__":
    sys.exit(main())
