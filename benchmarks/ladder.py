"""Up to which rate can a load generator's figures be believed? slobench, a floor client and its peers, rate by rate.

    .venv/bin/python benchmarks/ladder.py [TOOL ...] [--parts ladder costs edge apart modes workers] [--seconds 7]
    .venv/bin/python benchmarks/ladder.py --table benchmarks/history/ladder.jsonl [--page docs/benchmarks.md]

Against the calibrated server (fidelity/refserver.c), Poisson, replies of 64 tokens. Parts:
  ladder  rates 1.6 apart, replies in step and free, until two in a row are not usable; one that fails is tried once
          more, the better counts
  costs   three loads at 100 requests/s, whose differences are the CPU of a token, of a request, of starting up
  edge    slobench: rates 1.1 apart up to its saturation
  apart   slobench and the floor: the ladder in step, client and server on cores of their own
  modes   slobench and the floor: free and in step, 1 and 8 tokens an event, events of 64 B and 4 KiB, rates 2.56 apart
  workers slobench: 1, 2, 4, … workers against as many servers, as long as there is a core for each; rates 1.25 apart
Usable: at least 99 % of the rate achieved and of the requests served, TTFT p99 within 5 ms of the server's own. Where
a tool does not keep its schedule, its rate is allowed the chance of a Poisson count (2/√n) besides. Whether slobench
called its own run VALID stands beside that.
TOOL: a part of a name; without, all that are installed (scripts/peers.sh). Lines go to benchmarks/history/ladder.jsonl.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fidelity
import history
import ladder_page
from calibrated import Mode, measure
from peers import Arguments, Load, Tool, aiperf, evalscope, floor, guidellm, inference_perf, slobench_run, vllm

TOOLS = [each.TOOL for each in (slobench_run, floor, vllm, guidellm, aiperf, evalscope, inference_perf)]
RATE, STEP, LOWEST = 10.0, 1.6, -3  # a ladder's rates are RATE × STEP^k
EDGE_RATE, EDGE_STEP = 1000.0, 1.1
WORKER_RATE, WORKER_STEP = 1000.0, 1.25
TOKENS = 64
MOST_ERROR_MS, LEAST = 5.0, 0.99
ENDED = (0, 3)  # slobench ends with 3 where it calls its run INVALID; no peer does
COSTS = (Load(100, 200, 8), Load(100, 1000, 8), Load(100, 1000, 128))  # as fidelity.Cost takes them
MODES = [Mode(step, per, size) for step in (20, None) for per in (1, 8) for size in (64, 4096)]
STEP_AND_FREE = (Mode(), Mode(None))
OURS, FLOOR = "slobench", "floor"
PARTS = ("ladder", "costs", "edge", "apart", "modes", "workers")


def usable(figures: dict[str, Any]) -> bool:
    """Whether what the tool said of this run can be believed."""
    if figures.get("error") or figures["exit"] not in ENDED or figures.get("ttft_p99_ms") is None:
        return False
    chance = 0 if figures["schedule_known"] else 2 / math.sqrt(figures["requests"])
    return (
        figures["achieved_ratio"] >= LEAST - chance
        and figures["completed"] >= LEAST * figures["requests"]
        and abs(figures["ttft_p99_ms"] - figures["true_ttft_p99_ms"]) <= MOST_ERROR_MS
    )


class Ladder:
    """The measurements of one call, kept and printed as they come."""

    def __init__(self, lab: Path, seconds: int) -> None:
        self._lab = lab
        self._seconds = seconds
        self._series = datetime.now(UTC).isoformat(timespec="seconds")

    def once(self, tool: Tool, load: Load, mode: Mode, part: str) -> dict[str, Any]:
        """Measure, print, keep."""
        figures = {
            "part": part,
            "series": self._series,
            "servers": mode.servers,
            **measure(tool, load, mode, self._lab),
        }
        figures["usable"] = usable(figures)
        if figures.get("error") and not figures["exit"]:
            raise SystemExit(f"{tool.name} cannot be read: {figures['error']}\n  it said  {figures['log']}")
        line = history.append("ladder", figures)
        print(ladder_page.spoken(line), flush=True)
        return line

    def load(self, rate: float) -> Load:
        """Return a load of whole seconds, which is how inference-perf wants it, and 100 requests at least."""
        seconds = max(self._seconds, math.ceil(100 / rate))
        return Load(rate, round(rate * seconds), TOKENS)

    def climb(self, tool: Tool, mode: Mode, part: str) -> None:
        """Raise the rate until two in a row are not usable; go down from the first where that is not."""

        def holds(k: int) -> bool:
            return self._level(tool, RATE * STEP**k, mode, part)

        failed = int(not holds(tool.first))
        if failed:
            next((k for k in range(tool.first - 1, LOWEST - 1, -1) if holds(k)), None)
        _until_two_fail(map(holds, itertools.count(tool.first + 1)), failed)

    def edge(self, tool: Tool) -> None:
        """Go up in small steps until two in a row are not usable."""
        _until_two_fail(self._level(tool, EDGE_RATE * EDGE_STEP**k, Mode(), "edge") for k in itertools.count())

    def workers(self, tool: Tool) -> None:
        """As `edge`, with 1, 2, 4, … generator processes and as many servers."""
        for many in (2**k for k in range(len(os.sched_getaffinity(0)).bit_length() - 1)):
            several = replace(tool, arguments=_with_workers(tool, many))
            rates = (many * WORKER_RATE * WORKER_STEP**k for k in itertools.count())
            _until_two_fail(self._level(several, rate, Mode(servers=many), "workers") for rate in rates)

    def _level(self, tool: Tool, rate: float, mode: Mode, part: str) -> bool:
        load = self.load(float(f"{rate:.3g}"))
        return any(self.once(tool, load, mode, part)["usable"] for _ in range(2))

    def costs(self, tool: Tool) -> None:
        """Keep what a token, a request and a start cost in CPU."""
        for load in COSTS:
            self.once(tool, load, Mode(), "costs")

    def modes(self, tool: Tool) -> None:
        """Every way the server can answer, in large steps, until a rate is not usable."""
        for mode in MODES:
            next(k for k in itertools.count(5, 2) if not self._level(tool, RATE * STEP**k, mode, "modes"))


def _with_workers(tool: Tool, many: int) -> Arguments:
    return lambda load, url, folder: [*tool.arguments(load, url, folder), "--workers", str(many)]


def _until_two_fail(levels: Iterable[bool], failed: int = 0) -> None:
    for held in levels:
        failed = 0 if held else failed + 1
        if failed == 2:
            return


def measured(tools: list[Tool], parts: list[str], ladder: Ladder) -> None:
    """Measure every tool that is installed; say which are not."""
    for tool in tools:
        if not tool.program.exists():
            print(f"{tool.name}: not installed at {tool.program}, left out", flush=True)
            continue
        if "ladder" in parts:
            for mode in STEP_AND_FREE:
                ladder.climb(tool, mode, "ladder")
        if "costs" in parts:
            ladder.costs(tool)
        if "edge" in parts and tool.name == OURS:
            ladder.edge(tool)
        if "apart" in parts and tool.name in {OURS, FLOOR}:
            ladder.climb(tool, Mode(apart=True), "apart")
        if "workers" in parts and tool.name == OURS:
            ladder.workers(tool)
        if "modes" in parts and tool.name in {OURS, FLOOR}:
            ladder.modes(tool)


def main() -> None:
    """Measure or redraw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", nargs="*")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=int, default=7)
    parser.add_argument("--table", type=Path, help="Redraw from a history; measure nothing.")
    parser.add_argument("--page", type=Path, help="Write table and picture into this page, too.")
    args = parser.parse_args()
    if args.table is None:
        with tempfile.TemporaryDirectory(prefix="ladder-lab-") as text:
            lab = Path(text)
            fidelity.build(lab)
            tools = [replace(each, program=lab / each.program) if each is floor.TOOL else each for each in TOOLS]
            words = [word.lower() for word in args.tools]
            chosen = [each for each in tools if not words or any(word in each.name.lower() for word in words)]
            measured(chosen, args.parts, Ladder(lab, args.seconds))
    print(ladder_page.written(history.read(args.table or history.FOLDER / "ladder.jsonl"), args.page))


if __name__ == "__main__":
    main()
