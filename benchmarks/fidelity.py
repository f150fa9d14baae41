"""What a request and a token cost slobench beside a floor client, and whether its times are the server's.

    .venv/bin/python benchmarks/fidelity.py [--rate 100] [--step-ms 20] [--requests 300 1100] [--tokens 64 320]
                                            [--rounds 3] [--receivers native python]

A calibrated server (fidelity/refserver.c) logs when it read each request and wrote its first and last token; a floor
client (fidelity/limclient.c) does the least that any client must. Both are built here with cc.
CPU of the process tree = start-up + requests x (a request + tokens x a token), so three loads tell the three apart:
few short replies, many short ones, many long ones. What is paid by the second goes with the requests.
The clients take turns at each load; ratios are of one round, and their median over the rounds is what counts: of a
token, and of a short reply with its request (a request alone costs the floor too little to divide by).
Each call adds a line to benchmarks/history/fidelity.jsonl.
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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import history
import numpy as np
import pyarrow.parquet as pq

HERE = Path(__file__).parent / "fidelity"
FLOOR = "floor"


class Load(NamedTuple):
    """How many requests, and the output tokens of each."""

    requests: int
    tokens: int


@dataclass(frozen=True)
class Run:
    """CPU seconds of one run and, for slobench, the generator's part of them, its verdict, and times against the log.

    Errors are reported less true, in ms.
    """

    cpu_s: float
    worker_s: float = 0.0
    verdict: str = ""
    ttft_p50_error_ms: float = 0.0
    ttft_p99_error_ms: float = 0.0
    tpot_p50_error_ms: float = 0.0
    send_lag_p99_ms: float = 0.0


@dataclass(frozen=True)
class Cost:
    """What a client's CPU goes into. reply_us: a request with the tokens of a short reply."""

    start_up_s: float
    request_us: float
    token_us: float
    reply_us: float

    @classmethod
    def solve(cls, loads: Sequence[Load], cpu_s: Sequence[float]) -> Cost:
        """Loads: few short replies, many short ones, many long ones."""
        (few, short), (many, _), (_, long) = loads
        token_s = (cpu_s[2] - cpu_s[1]) / many / (long - short)
        reply_s = (cpu_s[1] - cpu_s[0]) / (many - few)
        return cls(cpu_s[0] - few * reply_s, (reply_s - short * token_s) * 1e6, token_s * 1e6, reply_s * 1e6)


def build(folder: Path) -> None:
    """Compile both programs into `folder`."""
    for name, libraries in (("refserver", []), ("limclient", ["-lm"])):
        subprocess.run(["cc", "-O2", "-o", folder / name, HERE / f"{name}.c", *libraries], check=True)


def with_server(lab: Path, step_ms: float, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start the calibrated server on a port of its own."""
    port = 20_000 + os.getpid() % 20_000
    command: list[str | Path] = [lab / "refserver", "--port", str(port), "--step-ms", str(step_ms), "--log", log]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    return server, port


def cpu_of(command: Sequence[str | Path], cwd: Path) -> tuple[float, str]:
    """Run a command to its end: CPU seconds of it and its children, and what it printed.

    What earlier runs left on this machine has no part in a verdict.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    alone = {**os.environ, "XDG_STATE_HOME": str(cwd / "state")}
    done = subprocess.run(command, cwd=cwd, env=alone, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout + done.stderr


def quantile(values_ms: np.ndarray, q: float) -> float:
    """By the inverse ECDF, as slobench gives them."""
    return float(np.quantile(values_ms, q, method="inverted_cdf"))


def run_once(lab: Path, args: argparse.Namespace, load: Load, receiver: str) -> Run:
    """One run of slobench against the calibrated server."""
    with tempfile.TemporaryDirectory(prefix="fidelity-") as text:
        folder = Path(text)
        log = folder / "truth.csv"
        server, port = with_server(lab, args.step_ms, log)
        command: list[str | Path] = [
            Path(sys.executable).with_name("slobench"),
            "run",
            "--target",
            f"http://127.0.0.1:{port}",
        ]
        command += ["--model", "tiny", "--arrivals", "poisson", "--rate", str(args.rate)]
        command += ["--requests", str(load.requests), "--input-tokens", "64", "--output-tokens", str(load.tokens)]
        command += ["--set", f"talk.receiver={receiver}", "--out", "run", "--quiet", *args.flags]
        # The server's CPU is not in the sum: it is waited for after the reading.
        cpu_s, said = cpu_of(command, folder)
        server.terminate()
        server.wait()
        if not (folder / "run" / "requests.parquet").exists():
            raise SystemExit(f"the run failed: {said}")
        truth = [row for row in csv.DictReader(log.open()) if row["status"] == "done"]
        table = pq.read_table(folder / "run" / "requests.parquet").to_pandas()
        telemetry = pq.read_table(folder / "run" / "telemetry.parquet").to_pandas()
        verdict = json.loads((folder / "run" / "run.json").read_text())["verdict"]
    recv, first, last, tokens = (
        np.array([int(row[key]) for row in truth]) for key in ("recv_ns", "first_ns", "last_ns", "tokens")
    )
    ok = table[table["outcome"] == "ok"]
    true_ttft, ttft = (first - recv) / 1e6, ok["ttft_sent_s"].to_numpy() * 1e3
    return Run(
        cpu_s,
        float(telemetry[telemetry["name"] == "cpu_s"].groupby("source")["value"].max().sum()),
        verdict,
        quantile(ttft, 0.5) - quantile(true_ttft, 0.5),
        quantile(ttft, 0.99) - quantile(true_ttft, 0.99),
        quantile(ok["tpot_s"].to_numpy() * 1e3, 0.5) - quantile((last - first) / (tokens - 1) / 1e6, 0.5),
        quantile(ok["send_lag_s"].to_numpy() * 1e3, 0.99),
    )


def floor_once(lab: Path, args: argparse.Namespace, load: Load) -> Run:
    """One run of the floor client, which prints its own CPU."""
    with tempfile.TemporaryDirectory(prefix="fidelity-") as text:
        server, port = with_server(lab, args.step_ms, Path(text) / "truth.csv")
        _, said = cpu_of([lab / "limclient", str(port), str(args.rate), *map(str, load)], Path(text))
        server.terminate()
        server.wait()
    match = re.search(r"cpu_s ([0-9.]+)", said)
    if match is None:
        raise SystemExit(f"the floor client failed: {said}")
    return Run(float(match[1]))


def round_of(lab: Path, args: argparse.Namespace, loads: Sequence[Load]) -> dict[str, list[Run]]:
    """Each client at each load, in turn."""
    found: dict[str, list[Run]] = {name: [] for name in (FLOOR, *args.receivers)}
    for load in loads:
        for name, runs in found.items():
            run = floor_once(lab, args, load) if name == FLOOR else run_once(lab, args, load, name)
            runs.append(run)
            print(json.dumps({"client": name, **load._asdict(), **_rounded(asdict(run))}), flush=True)
    return found


def _rounded(values: Mapping[str, object]) -> dict[str, object]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}


def figures_of(rounds: Sequence[Mapping[str, Sequence[Run]]], loads: Sequence[Load]) -> dict[str, object]:
    """Medians over the rounds, by client."""
    found: dict[str, object] = {}
    costs = [{name: Cost.solve(loads, [run.cpu_s for run in runs]) for name, runs in each.items()} for each in rounds]
    for name in rounds[0]:
        values = {key: statistics.median(asdict(each[name])[key] for each in costs) for key in asdict(costs[0][name])}
        if name != FLOOR:
            parts = [Cost.solve(loads, [run.worker_s for run in each[name]]) for each in rounds]
            values["worker_request_us"] = statistics.median(part.request_us for part in parts)
            values["worker_token_us"] = statistics.median(part.token_us for part in parts)
            for key in ("reply_us", "token_us"):
                ratio = statistics.median(getattr(each[name], key) / getattr(each[FLOOR], key) for each in costs)
                values[key.replace("_us", "_ratio")] = ratio
            last = [asdict(each[name][1]) for each in rounds]
            values |= {key: statistics.median(run[key] for run in last) for key in last[0] if key.endswith("_ms")}
        found[name] = _rounded(values)
    return found


def arguments() -> argparse.Namespace:
    """The load, the receivers and the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--step-ms", type=float, default=20)
    parser.add_argument("--requests", type=int, nargs=2, default=[300, 1100])
    parser.add_argument("--tokens", type=int, nargs=2, default=[64, 320])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--receivers", nargs="+", choices=["native", "python"], default=["native", "python"])
    parser.add_argument("--forget", action="store_true", help="add no line to the history")
    parser.add_argument("flags", nargs="*", default=[], help="flags of slobench run, after --")
    return parser.parse_args()


def main() -> None:
    """Run the rounds, print the medians, keep them."""
    args = arguments()
    (few, many), (short, long) = args.requests, args.tokens
    loads = [Load(few, short), Load(many, short), Load(many, long)]
    with tempfile.TemporaryDirectory(prefix="fidelity-lab-") as text:
        lab = Path(text)
        build(lab)
        rounds = [round_of(lab, args, loads) for _ in range(args.rounds)]
    figures = figures_of(rounds, loads)
    for name, values in figures.items():
        print(name, json.dumps(values))
    if not args.forget:
        load = {"rate_per_s": args.rate, "step_ms": args.step_ms, "requests": args.requests, "tokens": args.tokens}
        history.append("fidelity", {**load, "rounds": args.rounds, **figures})


if __name__ == "__main__":
    main()
