"""What a large recording costs: a million requests read and planned, in CPU seconds and in memory.

Usage: python benchmarks/traces.py [--rows 1000000]
Writes an Azure-like CSV file and a Mooncake-like file of JSON lines with hash_ids (as many blocks a request, and as
often shared, as in the published conversation trace) and plans a workload that replays each, in a process of its own.
Beside it the standard library, which splits or parses the same lines and keeps nothing. Each call adds a line to
benchmarks/history/traces.jsonl.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import history
import numpy as np

MOST_CPU_S, MOST_MB = 20.0, 1536.0


def write_azure(path: Path, rows: int) -> None:
    """Poisson arrivals with 7 digits of a second, lognormal lengths; CRLF."""
    rng = np.random.default_rng(1)
    ticks = np.cumsum(rng.exponential(1e7 / 5.53, rows)).astype(np.int64)
    inputs, outputs = (rng.lognormal(mu, 1, rows).astype(int) + 1 for mu in (6.6, 4.7))
    with path.open("w", newline="") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\r\n")
        for tick, given, made in zip(ticks.tolist(), inputs.tolist(), outputs.tolist(), strict=True):
            seconds, rest = divmod(tick, 10**7)
            day, second = divmod(seconds, 86_400)
            clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{rest:07}"
            file.write(f"2023-11-{1 + day:02} {clock},{given},{made}\r\n")


def write_mooncake(path: Path, rows: int) -> None:
    """24 blocks a request on average; 4 of 10 requests go on from the blocks of an earlier one."""
    rng = np.random.default_rng(2)
    inputs = np.minimum(rng.lognormal(8.74, 1.2, rows).astype(int) + 1, 130_000)
    outputs = rng.integers(1, 700, rows)
    earlier = rng.random(rows) < 0.4
    recent: list[list[int]] = []
    following = 1
    with path.open("w") as file:
        for row, (given, made, again) in enumerate(
            zip(inputs.tolist(), outputs.tolist(), earlier.tolist(), strict=True)
        ):
            n = -(-given // 512)
            ids = recent[int(rng.integers(len(recent)))][:n] if again and recent else [0]
            more = n - len(ids)
            ids = [*ids, *range(following, following + more)]
            following += more
            recent = [*recent[-999:], ids]
            line = {"timestamp": row // 10 * 3000, "input_length": given, "output_length": made, "hash_ids": ids}
            file.write(json.dumps(line) + "\n")


def plan(path: Path) -> None:
    """Read and plan one file; print what it took as JSON."""
    from slobench.config.workload import Workload
    from slobench.plan import build_plan

    before = time.process_time()
    begun = time.monotonic()
    classes = {"a": {"recorded": {"file": str(path), "arrivals": "spread"}}}
    built = build_plan(Workload.model_validate({"name": "w", "classes": classes}), 0)
    figures = {
        "rows": len(built),
        "parts": 0 if built.contents is None else len(built.contents.keys),
        "cpu_s": time.process_time() - before,
        "wall_s": time.monotonic() - begun,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


def plain(path: Path) -> float:
    """CPU seconds of reading the lines with csv or json."""
    before = time.process_time()
    with path.open() as file:
        for _ in csv.reader(file) if path.suffix == ".csv" else map(json.loads, file):
            pass
    return time.process_time() - before


def main() -> int:
    """Write, plan, print a table; 1 where a plan took more than 20 s of CPU or 1.5 GB."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--plan", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.plan is not None:
        plan(asked.plan)
        return 0
    worst = False
    figures: dict[str, object] = {"rows": asked.rows}
    heads = f"{'file':<16}{'size MB':>9}{'rows':>11}{'parts':>11}{'CPU s':>8}{'wall s':>8}{'RSS MB':>8}{'× plain':>9}"
    print(heads)
    with tempfile.TemporaryDirectory() as folder:
        for name, write in (("azure.csv", write_azure), ("mooncake.jsonl", write_mooncake)):
            path = Path(folder, name)
            write(path, asked.rows)
            command = [sys.executable, __file__, "--plan", str(path)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            size, ratio = path.stat().st_size / 2**20, found["cpu_s"] / plain(path)
            print(
                f"{name:<16}{size:>9.1f}{found['rows']:>11}{found['parts']:>11}"
                f"{found['cpu_s']:>8.1f}{found['wall_s']:>8.1f}{found['rss_mb']:>8.0f}{ratio:>9.2f}"
            )
            worst |= found["cpu_s"] > MOST_CPU_S or found["rss_mb"] > MOST_MB
            path.unlink()
            rounded = {key: round(found[key], 2) for key in ("cpu_s", "wall_s", "rss_mb")}
            figures[name] = {**rounded, "ratio": round(ratio, 2)}
    history.append("traces", figures)
    return int(worst)


if __name__ == "__main__":
    sys.exit(main())
