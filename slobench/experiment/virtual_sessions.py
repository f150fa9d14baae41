"""Open arrivals of sessions on the engine in virtual time: each probe on an engine of its own."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slobench.experiment.events import Event
from slobench.experiment.session_load import offered_for
from slobench.experiment.stream import BATCHES, Probe, Probed, futile
from slobench.experiment.virtual_judge import Judge
from slobench.experiment.virtual_probes import VirtualProbes
from slobench.experiment.virtual_stream import Sent, VirtualEngine, latencies
from slobench.generate.following import Following
from slobench.names import NULL
from slobench.pacer import NEVER
from slobench.plan import Plan, build_plan

_PARTS = 40  # of a probe, between which the caller has its turn


@dataclass(slots=True)
class _Offer:
    """A probe on its way. low: the first request that counts; high: the first that does not any more, once it came."""

    plan: Plan
    from_ns: int
    until_ns: int
    low: int | None = None
    high: int | None = None
    ended: int = 0  # of those that count


class VirtualSessions(VirtualProbes):
    """Sessions on the simulated engine (Stream): `rate` of a probe is their number a second."""

    def step(self, probe: Probe) -> Iterator[Event]:
        """Let sessions come until all requests of the window have ended: see Stream."""
        shaped = offered_for(self._workload, probe)
        engine, judge = self._begin(probe)
        plan = build_plan(shaped, probe.seed)
        engine.fits(plan)
        offer = _Offer(plan, shaped.warmup or 0, shaped.duration or NEVER)
        curtailed = False
        for _ in _serve(engine, offer):
            curtailed = probe.target is not None and self._is_futile(judge, engine.sent, offer, probe)
            if curtailed:
                break
            yield self._progress(engine.now_ns / 1e9)
        if offer.low is not None:
            self._done.append(self._result(judge, engine, offer, probe, curtailed=curtailed))
        self._elapsed_s += engine.now_ns / 1e9
        yield self._progress()

    def _is_futile(self, judge: Judge, sent: Sent, offer: _Offer, probe: Probe) -> bool:
        """Whether the probe cannot pass any more; its number of requests is known roughly beforehand."""
        assert probe.target is not None
        if offer.low is None:
            return False
        rows = sent.take(offer.low, offer.high or len(sent.scheduled_ns))
        there = rows.of(rows.last_ns >= 0)
        tally = judge.tallies(there, np.zeros(len(there.row), np.int64))["total"]
        n = max(probe.n, len(rows.row))
        return futile(sum(good for good, _ in tally), sum(judged for _, judged in tally), n, probe.target)

    def _result(self, judge: Judge, engine: VirtualEngine, offer: _Offer, probe: Probe, *, curtailed: bool) -> Probed:
        sent = engine.sent
        assert offer.low is not None
        high = offer.high or len(sent.scheduled_ns)
        every = sent.take(offer.low, high)
        rows = every.of(every.last_ns >= 0)
        batch_of = (rows.row - offer.low) * BATCHES // max(1, high - offer.low)
        parts = np.array_split(np.array(sent.in_flight[offer.low : high], dtype=np.float64), BATCHES)
        seen = latencies(rows)
        return Probed(
            probe=probe,
            digest=offer.plan.digest,
            tallies=judge.tallies(rows, batch_of),
            in_flight=tuple(float(part.mean()) for part in parts if len(part)),
            errors=0,
            start_s=self._elapsed_s + offer.from_ns / 1e9,
            end_s=self._elapsed_s + min(offer.until_ns, engine.now_ns) / 1e9,
            curtailed=curtailed,
            mean_e2e_s=seen.mean_e2e_s,
            p99_e2e_s=seen.p99_e2e_s,
            mean_ttft_s=seen.mean_ttft_s,
            mean_tpot_s=seen.mean_tpot_s,
        )


def _serve(engine: VirtualEngine, offer: _Offer) -> Iterator[None]:
    """Let requests come, first ones by the plan and others after those they wait for, until all that count have ended.

    Yields now and then.
    """
    plan = offer.plan
    assert plan.scheduled_ns is not None
    asked, following = list(engine.rows(plan)), Following(plan)
    fixed = np.flatnonzero(plan.scheduled_ns != NULL)
    due = list(zip(plan.scheduled_ns[fixed].tolist(), fixed.tolist(), strict=True))
    heapq.heapify(due)
    row_of: list[int] = []  # of the plan, by the engine's number
    part_ns = offer.until_ns // _PARTS + 1
    next_ns = part_ns
    while due or engine.core.running or engine.core.waiting:
        while due and due[0][0] <= engine.now_ns:
            at_ns, row = heapq.heappop(due)
            if offer.low is None and at_ns >= offer.from_ns:
                offer.low = len(row_of)
            if offer.high is None and at_ns >= offer.until_ns:
                offer.high = len(row_of)
            row_of.append(row)
            engine.arrive(at_ns, asked[row])
        ended = engine.step()
        if ended is None:
            engine.now_ns = due[0][0] if due else engine.now_ns
            continue
        for number in ended:
            offer.ended += offer.low is not None and offer.low <= number < (offer.high or len(row_of))
            for follower, at_ns in following.ended(row_of[number], engine.now_ns):
                heapq.heappush(due, (at_ns, follower))
        if offer.high is not None and offer.low is not None and offer.ended >= offer.high - offer.low:
            return
        if engine.now_ns >= next_ns:
            next_ns = engine.now_ns + part_ns
            yield
