"""Where the CPU of a run goes: worker, report and the rest, a token, by difference of two lengths.

    .venv/bin/python benchmarks/costs.py [--rounds 3] [--lengths 500 2500] [--tokens 64] [-- FLAGS OF slobench run]

Against the calibrated server, as fidelity.py. The worker's CPU is what it says itself (telemetry `cpu_s`), the
report is made once more to measure it, and the rest is the parent: planning, following the counters, waiting.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import fidelity
import pyarrow.compute as pc
import pyarrow.parquet as pq


def parts_once(lab: Path, args: argparse.Namespace, n: int) -> dict[str, float]:
    """CPU seconds of one run by process."""
    with tempfile.TemporaryDirectory(prefix="costs-") as text:
        folder = Path(text)
        server, port = fidelity.with_server(lab, args, folder / "truth.csv")
        slobench = Path(sys.executable).with_name("slobench")
        command = [slobench, "run", "--target", f"http://127.0.0.1:{port}", "--model", "tiny", "--arrivals", "poisson"]
        command += ["--rate", str(args.rate), "--requests", str(n), "--input-tokens", "64"]
        command += ["--output-tokens", str(args.tokens), "--out", "run", "--quiet", *args.flags]
        all_s, said = fidelity.cpu_of(command, folder)
        server.terminate()
        server.wait()
        if not (folder / "run" / "telemetry.parquet").exists():
            raise SystemExit(f"the run failed: {said}")
        telemetry = pq.ParquetFile(folder / "run" / "telemetry.parquet").read()
        cpu = telemetry.filter(pc.equal(telemetry["name"], "cpu_s"))
        by_worker = cpu.group_by("source").aggregate([("value", "max")])
        worker_s = pc.sum(by_worker["value_max"]).as_py()
        report_s, _ = fidelity.cpu_of([slobench, "report", "run"], folder)
    return {"worker": worker_s, "report": report_s, "parent": all_s - worker_s - report_s, "all": all_s}


def main() -> None:
    """Run the rounds, print µs a token and the fixed cost by process."""
    parser = fidelity.arguments(__doc__)
    parser.add_argument("flags", nargs="*", default=[])
    args = parser.parse_args()
    between = (args.lengths[1] - args.lengths[0]) * args.tokens
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="costs-lab-") as text:
        lab = Path(text)
        fidelity.build(lab)
        for _ in range(args.rounds):
            short, long = (parts_once(lab, args, n) for n in args.lengths)
            floor_short, floor_long = (fidelity.floor_once(lab, args, n).cpu_s for n in args.lengths)
            each = {name: (long[name] - short[name]) / between * 1e6 for name in short}
            found.append(each | {"floor": (floor_long - floor_short) / between * 1e6})
            print("  ".join(f"{name} {value:.2f}" for name, value in found[-1].items()), flush=True)
    for name in found[0]:
        print(f"{name}: {statistics.median(each[name] for each in found):.2f} µs a token")


if __name__ == "__main__":
    main()
