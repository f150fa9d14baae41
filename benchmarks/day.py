"""A day of load in virtual time: its plan, the engine, the spool of a client that is never late, and the report.

    .venv/bin/python benchmarks/day.py [--hours 24] [--rate 10] [--output-tokens 16]

`slobench run` offers in real time only, so the engine's own clock takes the place of the wall's: what it says of each
token is spooled with the writers that a worker uses, and `slobench report` does with it what it does with any run.
Said at the end: whether the report tells the engine's own times, how memory grew with the hours, and what it all took.
1 where the report differs from the engine, or memory grows for as long as the run goes on. In `make nightly`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import history
import numpy as np
import psutil
from growth import growth
from report import CHUNK, MB, NS, request_row

from slobench.config.flags import RunFlags, workload_from_flags
from slobench.config.load import load_target
from slobench.config.target import SimTarget
from slobench.engine.model import EngineCore, Request
from slobench.experiment.setup import Trial, first_run_json
from slobench.names import NULL
from slobench.plan import Plan, build_plan
from slobench.records.schema import WORKER_METRICS
from slobench.records.spool import SpoolWriter
from slobench.records.store import write_run_json

HOUR_NS = 3600 * NS
LATE_NS = 50_000
"""By how much this client sends late and reads late: less than any real one."""
BACKLOG_BYTES = 2**25
MOST_GROWTH_MB = 50.0
"""Of a day: what the plan's own rows and the engine's steps take is there from the beginning."""


@dataclass
class Day:
    """Serves a plan on an engine in virtual time, as a sequence of seconds of what a client would have spooled."""

    plan: Plan
    core: EngineCore
    steps_ns: list[int] = field(default_factory=list)  # ends of the steps from `forgotten` on
    forgotten: int = 0
    ended: list[tuple[int, int, int]] = field(default_factory=list)  # request, first and last step, of one second

    def seconds(self) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
        """Yield (second, replies that ended in it as (request, its first and last step))."""
        scheduled = np.asarray(self.plan.scheduled_ns).tolist()
        inputs, outputs = self.plan.input_tokens.tolist(), self.plan.output_tokens.tolist()
        first_step: dict[int, int] = {}
        now = arrived = second = 0
        while True:
            step = self.core.step(now)
            if step is None:
                if arrived == len(scheduled):
                    break
                now = scheduled[arrived] + LATE_NS
            else:
                now += step.duration_ns
                self.steps_ns.append(now)
                number = self.forgotten + len(self.steps_ns) - 1
                assert not step.preempted, "the reference engine reserves room for whole replies"
                first_step.update((request.index, number) for request in step.prefilled)
                self.ended += [(each.index, first_step.pop(each.index), number) for each in step.finished]
            while arrived < len(scheduled) and scheduled[arrived] + LATE_NS <= now:
                self.core.add(Request(arrived, inputs[arrived], outputs[arrived]))
                arrived += 1
            if now >= (second + 1) * NS:
                yield second, self.ended
                second, self.ended = now // NS, []
                oldest = min(first_step.values(), default=self.forgotten + len(self.steps_ns))
                del self.steps_ns[: oldest - self.forgotten]
                self.forgotten = oldest
        yield second, self.ended

    def times(self, first: int, last: int) -> np.ndarray:
        """When the tokens of a reply came, ns: one a step."""
        return np.array(self.steps_ns[first - self.forgotten : last + 1 - self.forgotten]) + LATE_NS


def spool(day: Day, writer: SpoolWriter) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Write what a client would have; return (TTFT by request in ns, (hour, memory in MB) as it went)."""
    scheduled = np.asarray(day.plan.scheduled_ns)
    ttft = np.full(len(scheduled), NULL)
    process, memory, next_look = psutil.Process(), list[tuple[float, float]](), 0
    for second, ended in day.seconds():
        for index, first, last in ended:
            at_ns = int(scheduled[index])
            times = day.times(first, last)
            rows = np.zeros(len(times), CHUNK)
            rows["index"], rows["t_ns"] = index, times
            rows["tokens"], rows["bytes"], rows["lag_ns"] = NULL, 180, LATE_NS
            writer.chunks.packed += rows.tobytes()
            writer.starts.add(index, at_ns, at_ns + LATE_NS // 2)
            row = request_row(index, at_ns, int(times[0]), int(times[-1]), len(times))
            writer.requests.add(row)
            ttft[index] = times[0] - at_ns
        for beat in range(20):
            at_ns = second * NS + beat * NS // 20
            writer.telemetry.add(at_ns, WORKER_METRICS.index("heartbeat_overshoot_ns"), 60_000)
        writer.telemetry.add(second * NS, WORKER_METRICS.index("cpu_s"), second * 0.1)
        writer.flush()
        while writer._waiting_bytes > BACKLOG_BYTES:  # noqa: SLF001 (virtual time runs ahead of the disk)
            time.sleep(0.01)
        if second >= next_look:
            memory.append((second / 3600, process.memory_info().rss / MB))
            next_look = second + 600
    return ttft, memory


def said(folder: Path) -> tuple[dict[str, object], float, float, float]:
    """Report the run; return (its summary, wall s, CPU s, peak memory in MB)."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "slobench", "report", str(folder), "--quiet"]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    run = json.loads((folder / "run.json").read_text())
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return run["summary"], wall_s, cpu_s, after.ru_maxrss / 1024


def main() -> int:
    """Offer a day, report it, hold both against each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--output-tokens", type=int, default=16)
    args = parser.parse_args()
    lengths = f"lognormal:mean={args.output_tokens},sigma=0.7,min=1,max={16 * args.output_tokens}"
    n = round(args.hours * 3600 * args.rate)
    flags = RunFlags(rate=str(args.rate), requests=n, input_tokens="128", output_tokens=lengths, slo=("ttft<500ms",))
    target = load_target("sim-reference").value
    assert isinstance(target, SimTarget)
    with tempfile.TemporaryDirectory(prefix="day-", dir=os.environ.get("SCRATCH")) as text:
        folder, start = Path(text), time.perf_counter()
        trial = Trial(workload_from_flags(flags).value, target, folder)
        plan = build_plan(trial.workload, 0)
        writer = SpoolWriter(folder / "spool", 0)
        plan.save(folder / "spool" / "plan.arrow")
        ttft, memory = spool(Day(plan, EngineCore(target.engine)), writer)
        writer.close(timeout_s=600)
        run = first_run_json(trial, plan, 1, ())
        end_ns = int(np.asarray(plan.scheduled_ns)[-1]) + 60 * NS
        run["run"] |= {"stop": "complete", "interrupted": False, "end_ns": end_ns}
        run["clock"] = {"monotonic_ns": 0, "wall_ns": 0, "start_ns": 0}
        run["stamps"] = "kernel"
        write_run_json(folder, run)
        served_s = time.perf_counter() - start
        summary, wall_s, cpu_s, peak_mb = said(folder)
    true = {q: float(np.quantile(ttft, x, method="inverted_cdf")) / 1e9 for q, x in (("p50", 0.5), ("p99", 0.99))}
    whole = summary["latency_full_run"]["all"]["ttft"]
    differs = [q for q in true if abs(whole[q]["value"] - true[q]) > 1e-9] + ["n"] * (whole["p50"]["n"] != len(ttft))
    grown = growth(np.array(memory)[len(memory) // 4 :], args.hours)
    figures = {
        "hours": args.hours, "requests": n, "plan_and_engine_s": round(served_s, 1), "report_s": round(wall_s, 1),
        "report_cpu_s": round(cpu_s, 1), "report_peak_mb": round(peak_mb), "engine_growth_mb": round(grown.value, 1),
        "ttft_p99_ms": round(true["p99"] * 1e3, 3), "verdict": summary["verdict"],
    }  # fmt: skip
    print(json.dumps(figures))
    print(
        f"memory while it was served: {grown} MB over the day; the report {'differs: ' if differs else 'agrees'}",
        *differs,
    )
    history.append("day", figures)
    return int(bool(differs) or grown.low > MOST_GROWTH_MB)


if __name__ == "__main__":
    sys.exit(main())
