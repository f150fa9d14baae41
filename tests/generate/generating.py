"""Generates a workload with real worker processes, without the parent of `slobench run`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slobench.config.workload import Workload
from slobench.generate.local_pool import LocalPool
from slobench.generate.pool import Pool, Seat
from slobench.plan import Plan, build_plan
from slobench.records.assemble import assemble
from slobench.records.counters import Counters, Slot
from slobench.records.schema import Columns, Records
from slobench.wire.endpoint import Endpoint
from tests.generate.rig import job_of

PATIENCE_S = 120.0  # for a hang; nothing is judged by it


@dataclass(frozen=True)
class Generated:
    """A run that has ended."""

    plan: Plan
    records: Records
    pool: Pool
    epoch_ns: int
    started: int  # by the live counters
    seats: list[Seat]

    @property
    def requests(self) -> Columns:
        return self.records.requests


def open_workload(process: dict[str, Any], requests: int, *, output_tokens: int = 4) -> Workload:
    """An open loop of short requests of two lengths."""
    lengths = {"dist": "uniform", "low": 4, "high": 32}
    chat = {"arrivals": process, "input_tokens": lengths, "output_tokens": {"dist": "constant", "value": output_tokens}}
    return Workload.model_validate({"name": "test", "requests": requests, "classes": {"chat": chat}})


def closed_workload(users: int, requests: int, think_time: str = "0s") -> Workload:
    """A closed loop of short requests."""
    chat = {"input_tokens": {"dist": "constant", "value": 8}, "output_tokens": {"dist": "constant", "value": 2}}
    loop = {"mode": "closed", "users": users, "think_time": think_time}
    return Workload.model_validate({"name": "test", "requests": requests, "loop": loop, "classes": {"chat": chat}})


def generate(
    folder: Path,
    workload: Workload,
    url: str,
    *,
    workers: int,
    pool_of: Callable[[int, Path], Pool] = LocalPool,
    meanwhile: Callable[[Any, Counters], None] = lambda *_: None,
    **job: Any,
) -> Generated:
    """Run to the end; `meanwhile` is called with the pool and the counters again and again while it runs."""
    pool = pool_of(workers, folder / "spool")
    try:
        plan = build_plan(workload, seed=11)
        plan.save(folder / "spool" / "plan.arrow")
        Counters.create(folder / "spool" / "counters.bin", workers).close()
        settings = {
            "endpoint": Endpoint(url=url, model="tiny", token_ids=(100, 4000)),
            "closed": plan.scheduled_ns is None,
            "think_ns": getattr(workload.loop, "think_time", 0),
        } | job
        epoch_ns = pool.start([job_of(folder, worker=each, workers=workers, **settings) for each in range(workers)])
        with Counters.open(folder / "spool" / "counters.bin") as counters:
            give_up = time.monotonic() + PATIENCE_S
            while pool.running:
                assert time.monotonic() < give_up, "the workers never ended"
                pool.next_event(0.05)
                meanwhile(pool, counters)
            started = counters.snapshot().total(Slot.STARTED)
        seats = pool.seats(ended=True)
    finally:
        pool.close()
    return Generated(plan, assemble(folder, plan.to_arrow(), workers), pool, epoch_ns, started, seats)
