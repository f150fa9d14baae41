"""A closed loop on the engine in virtual time: each probe N users on an engine of its own."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

from slobench.config.workload import ClosedLoop, Workload
from slobench.experiment.events import Event
from slobench.experiment.stream import BATCHES, Probe, Probed
from slobench.experiment.virtual_probes import VirtualProbes
from slobench.experiment.virtual_stream import Row, VirtualEngine, latencies
from slobench.plan import Plan, build_plan
from slobench.workload.class_content import with_known_prefixes

_TURNS = 64  # of every user in a block of the plan


class VirtualUsers(VirtualProbes):
    """Users on the simulated engine (Stream): `rate` of a probe is their number, and each probe begins from empty."""

    def step(self, probe: Probe) -> Iterator[Event]:
        """Let N users send until n requests have counted and ended: see Stream."""
        engine, judge = self._begin(probe)
        loop = self._workload.loop
        assert isinstance(loop, ClosedLoop)
        plans = _blocks(self._workload, users=round(probe.rate), seed=probe.seed)
        digest, low = _serve(engine, plans, probe, loop.think_time)
        rows = engine.sent.take(low, low + probe.n)
        batch_of = np.arange(probe.n) * BATCHES // probe.n
        seen = latencies(rows)
        began_s = self._elapsed_s
        self._elapsed_s += engine.now_ns / 1e9
        self._done.append(
            Probed(
                probe=probe,
                digest=digest,
                tallies=judge.tallies(rows, batch_of),
                in_flight=(),
                errors=0,
                mean_e2e_s=seen.mean_e2e_s,
                p99_e2e_s=seen.p99_e2e_s,
                start_s=began_s + float(rows.scheduled_ns[0]) / 1e9,
                end_s=began_s + float(rows.scheduled_ns[-1]) / 1e9,
                mean_ttft_s=seen.mean_ttft_s,
                mean_tpot_s=seen.mean_tpot_s,
            )
        )
        yield self._progress()


def _blocks(workload: Workload, *, users: int, seed: int) -> Iterator[Plan]:
    """Plan after plan of some turns of every user."""
    assert isinstance(workload.loop, ClosedLoop)
    loop = workload.loop.model_copy(update={"users": users})
    extent = {"loop": loop, "requests": users * _TURNS, "duration": None}
    shaped = with_known_prefixes(workload).model_copy(update={**extent, "until": None})
    block = 0
    while True:
        yield build_plan(shaped, seed * 1_000_003 + block)
        block += 1


def _serve(engine: VirtualEngine, plans: Iterator[Plan], probe: Probe, think_ns: int) -> tuple[str, int]:
    """Run the users until the n-th request that counts has ended; the first block's digest, the first such row."""
    plan = next(plans)
    digest = plan.digest
    rows: Iterator[Row] = iter(())
    due = [(0, user) for user in range(round(probe.rate))]
    low: int | None = None
    missing = probe.n
    sent = engine.sent
    while missing > 0:
        while due and due[0][0] <= engine.now_ns:
            row = next(rows, None)
            if row is None:
                engine.fits(plan)
                rows = engine.rows(plan)
                plan = next(plans)
                row = next(rows)
            at_ns, _ = heapq.heappop(due)
            if low is None and at_ns >= probe.settle_s * 1e9:
                low = len(sent.scheduled_ns)
            engine.arrive(at_ns, row)
        ended = engine.step()
        if ended is None:
            engine.now_ns = due[0][0]
            continue
        for index in ended:
            heapq.heappush(due, (engine.now_ns + think_ns, index))
            missing -= low is not None and low <= index < low + probe.n
    assert low is not None
    return digest, low
