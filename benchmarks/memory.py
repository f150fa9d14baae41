"""How much each process of a run grows: resident memory from the first minute to the last reply.

Usage: python benchmarks/memory.py [--seconds 270] [--rate 200] [--output-tokens 16] [--workers 1] [--from 60]
Offers a steady load to the simulated engine and samples every process of the run once a second.
Growth = the largest RSS after the `--from`th second less the RSS then; `anonymous` leaves mapped files out.
Each call adds a line to benchmarks/history/memory.jsonl; `ratio` is the largest RSS over the RSS then.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import history
import psutil

MB = 2**20
ROLES = {
    "slobench.generate.worker": "worker",
    "slobench.engine.server": "engine",
    "slobench.targets.guard": "guard",
    "slobench report": "report",
    "slobench run": "parent",
}


@dataclass(frozen=True)
class Sample:
    """Memory of one process in bytes, `at_s` after the run was started."""

    at_s: float
    rss: int
    anonymous: int


def role(process: psutil.Process) -> str:
    """What the process does in a run."""
    line = " ".join(process.cmdline())
    return next((name for mark, name in ROLES.items() if mark in line), "other")


def memory(process: psutil.Process) -> tuple[int, int]:
    """RSS, and its part that is no file's, in bytes."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    rss, anonymous = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon"))
    return rss, anonymous


def sample(run: subprocess.Popen[bytes]) -> dict[tuple[str, int], list[Sample]]:
    """Every process of the run by (role, pid), once a second until it ends."""
    seen: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    start = time.monotonic()
    whole = psutil.Process(run.pid)
    while run.poll() is None:
        with suppress(psutil.NoSuchProcess):
            for each in [whole, *whole.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess, OSError, KeyError):
                    seen[role(each), each.pid].append(Sample(time.monotonic() - start, *memory(each)))
        time.sleep(1)
    return seen


def main() -> int:
    """Run, sample, print a table; 1 where a process that generates grew by 50 MB or more."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=270)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--output-tokens", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--from", dest="since", type=float, default=60)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "slobench", "run", "--target", "sim", "--quiet", "--out", f"{folder}/run"]
        command += ["--rate", str(asked.rate), "--duration", f"{asked.seconds}s", "--input-tokens", "64"]
        command += ["--output-tokens", str(asked.output_tokens), "--workers", str(asked.workers)]
        with subprocess.Popen(command) as run:
            seen = sample(run)
    print(f"{'process':<10}{'pid':>8}{'samples':>9}{'RSS then':>10}{'largest':>10}{'growth':>9}{'anonymous':>11}  (MB)")
    worst = 0.0
    processes = []
    for (name, pid), samples in sorted(seen.items()):
        late = [each for each in samples if each.at_s >= asked.since] or samples[-1:]
        first, most = late[0], max(late, key=lambda each: each.rss)
        growth = (most.rss - first.rss) / MB
        anonymous = (max(each.anonymous for each in late) - first.anonymous) / MB
        print(
            f"{name:<10}{pid:>8}{len(samples):>9}{first.rss / MB:>10.1f}{most.rss / MB:>10.1f}"
            f"{growth:>9.1f}{anonymous:>11.1f}"
        )
        processes.append(
            {"process": name, "rss_mb": round(most.rss / MB, 1), "growth_mb": round(growth, 1),
             "ratio": round(most.rss / first.rss, 2)}
        )  # fmt: skip
        if name != "report":  # made after the last reply, in a process of its own
            worst = max(worst, growth)
    load = {"seconds": asked.seconds, "rate": asked.rate, "tokens": asked.output_tokens, "workers": asked.workers}
    history.append("memory", {**load, "worst_growth_mb": round(worst, 1), "processes": processes})
    print(f"largest growth of a process that serves the run: {worst:.1f} MB")
    return int(worst >= 50)


if __name__ == "__main__":
    sys.exit(main())
