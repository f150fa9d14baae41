"""Hold what slobench reports against what a calibrated server did; measure what a token costs.

    .venv/bin/python benchmarks/fidelity.py [--rate 100] [--tokens 64] [--step-ms 20] [--lengths 500 2500] [--rounds 3]

A calibrated server (fidelity/refserver.c) logs when it read each request and wrote its first and last token;
a floor client (fidelity/limclient.c) does the least that any client must. Both are built here with cc.
slobench and the floor run in turn; CPU per token is the difference of the two lengths, the median of the rounds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

HERE = Path(__file__).parent / "fidelity"


@dataclass(frozen=True)
class Run:
    """CPU seconds of the whole process tree and, for slobench, truth and report in ms."""

    cpu_s: float
    figures: dict[str, float]


def build(folder: Path) -> None:
    """Compile both programs into `folder`."""
    for name, libraries in (("refserver", []), ("limclient", ["-lm"])):
        subprocess.run(["cc", "-O2", "-o", folder / name, HERE / f"{name}.c", *libraries], check=True)


def with_server(lab: Path, args: argparse.Namespace, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start the calibrated server on a port of its own."""
    port = 20_000 + os.getpid() % 20_000
    command = [lab / "refserver", "--port", str(port), "--step-ms", str(args.step_ms), "--log", log]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    return server, port


def cpu_of(command: list[str | Path], cwd: Path) -> tuple[float, str]:
    """Run a command to its end: CPU seconds of it and its children, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout + done.stderr


def quantiles(name: str, values_ms: np.ndarray) -> dict[str, float]:
    """p50 and p99 by the inverse ECDF, as slobench gives them."""
    found = np.quantile(values_ms, [0.5, 0.99], method="inverted_cdf")
    return {f"{name}_p50": float(found[0]), f"{name}_p99": float(found[1])}


def slobench_once(lab: Path, args: argparse.Namespace, n: int) -> Run:
    """One run of slobench against the calibrated server."""
    with tempfile.TemporaryDirectory(prefix="fidelity-") as text:
        folder = Path(text)
        log = folder / "truth.csv"
        server, port = with_server(lab, args, log)
        command = [Path(sys.executable).with_name("slobench"), "run", "--target", f"http://127.0.0.1:{port}"]
        command += ["--model", "tiny", "--arrivals", "poisson", "--rate", str(args.rate), "--requests", str(n)]
        command += ["--input-tokens", "64", "--output-tokens", str(args.tokens), "--out", "run", "--quiet"]
        # The server's CPU is not in the sum: it is waited for after the reading.
        cpu_s, said = cpu_of(command, folder)
        server.terminate()
        server.wait()
        rows = [row for row in csv.DictReader(log.open()) if row["status"] == "done"]
        table = pq.read_table(folder / "run" / "requests.parquet").to_pandas()
    recv, first, last = (np.array([int(row[key]) for row in rows]) for key in ("recv_ns", "first_ns", "last_ns"))
    tokens = np.array([int(row["tokens"]) for row in rows])
    ok = table[table["outcome"] == "ok"]
    figures = quantiles("true_ttft", (first - recv) / 1e6) | quantiles("ttft", ok["ttft_sent_s"].to_numpy() * 1e3)
    figures |= quantiles("true_tpot", (last - first) / (tokens - 1) / 1e6)
    figures |= quantiles("tpot", ok["tpot_s"].to_numpy() * 1e3) | quantiles("lag", ok["send_lag_s"].to_numpy() * 1e3)
    print(json.dumps({"slobench": n, "cpu_s": round(cpu_s, 3), **{k: round(v, 3) for k, v in figures.items()}}))
    print(f"  {said.strip().splitlines()[-1]}", flush=True)
    return Run(cpu_s, figures)


def floor_once(lab: Path, args: argparse.Namespace, n: int) -> Run:
    """One run of the floor client, which prints its own CPU."""
    with tempfile.TemporaryDirectory(prefix="fidelity-") as text:
        server, port = with_server(lab, args, Path(text) / "truth.csv")
        _, said = cpu_of([lab / "limclient", str(port), str(args.rate), str(n), str(args.tokens)], Path(text))
        server.terminate()
        server.wait()
    match = re.search(r"cpu_s ([0-9.]+)", said)
    if match is None:
        raise SystemExit(f"the floor client failed: {said}")
    print(json.dumps({"floor": n, "cpu_s": float(match[1])}), flush=True)
    return Run(float(match[1]), {})


def arguments(about: str | None) -> argparse.ArgumentParser:
    """The load, the two lengths and the rounds, which every comparison with the floor takes."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--step-ms", type=float, default=20)
    parser.add_argument("--lengths", type=int, nargs=2, default=[500, 2500])
    parser.add_argument("--rounds", type=int, default=3)
    return parser


def main() -> None:
    """Run the rounds, print the table."""
    parser = arguments(__doc__)
    args = parser.parse_args()
    ours, floors, longest = [], [], []
    between = (args.lengths[1] - args.lengths[0]) * args.tokens
    with tempfile.TemporaryDirectory(prefix="fidelity-lab-") as text:
        lab = Path(text)
        build(lab)
        for _ in range(args.rounds):
            short, floor_short = slobench_once(lab, args, args.lengths[0]), floor_once(lab, args, args.lengths[0])
            long, floor_long = slobench_once(lab, args, args.lengths[1]), floor_once(lab, args, args.lengths[1])
            ours.append((long.cpu_s - short.cpu_s) / between * 1e6)
            floors.append((floor_long.cpu_s - floor_short.cpu_s) / between * 1e6)
            longest.append(long.figures)
    median = {key: statistics.median(run[key] for run in longest) for key in longest[0]}
    for name in ("ttft_p50", "ttft_p99", "tpot_p50"):
        print(f"{name}: true {median['true_' + name]:.3f} ms, reported {median[name]:.3f} ms")
    print(f"send lag p99 {median['lag_p99']:.3f} ms")
    ratio = statistics.median(o / f for o, f in zip(ours, floors, strict=True))
    print(
        f"CPU a token: slobench {statistics.median(ours):.1f} µs, floor {statistics.median(floors):.1f} µs, ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
