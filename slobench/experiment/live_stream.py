"""A stream on a real server: workers whose plan grows by a segment for each probe, on one clock, without a pause."""

from __future__ import annotations

import math
import shutil
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slobench.clock import ClockAnchor
from slobench.config.secrets import resolve_secrets
from slobench.config.slo import Slo
from slobench.errors import TargetDiedError, WorkerError
from slobench.experiment.events import Event, Progress
from slobench.experiment.live_probed import Limits, probed_of, share_of
from slobench.experiment.probes import Offered, empty_plan, moved, note_offered, store_probes
from slobench.experiment.setup import (
    Trial,
    begin,
    first_run_json,
    jobs_of,
    notes_on,
    observe,
    open_pool,
    secrets_of,
    told_seats,
)
from slobench.experiment.stream import Counted, Probe, Probed, futile
from slobench.experiment.telemetry import Watching, watch
from slobench.experiment.trial import Interrupts
from slobench.generate.pool import Pool
from slobench.plan import refuse_too_long
from slobench.records import counters as live
from slobench.records import probe_counts
from slobench.records.counters import Counters, Hist, Slot, Snapshot, quantile_s
from slobench.records.provenance import redact
from slobench.records.spool import FOLDER as SPOOL
from slobench.records.store import write_run_json
from slobench.segments import Start, build_segment
from slobench.targets.base import RunningTarget

_TICK_S = 0.1
_PROGRESS_S = 0.5
_LIVE_WINDOW_S = 10.0
_MARGIN_NS = 250_000_000  # from the order to extend to the first row, where nothing is being offered
_LEAD_NS = 500_000_000  # a step ends so long before its last row is due: the next one is planned and read in it
_ANSWER_S = 10.0
_FROZEN_NS = 60 * 10**9
_END_S = 15.0  # from the order to cut until a worker that does not end is killed


@dataclass(frozen=True, slots=True)
class StreamAsk:
    """What a stream is made of. trial: workload, target, folder, seed; counted: the shares of every probe."""

    trial: Trial
    slo: Slo
    counted: tuple[Counted, ...]
    asked: Interrupts


@dataclass(frozen=True, slots=True)
class _Pending:
    """A probe whose requests have not all ended. due: how many that count were sent or will be."""

    offered: Offered
    counts: Path
    due: int
    counted_ns: tuple[int, int]  # first and last counted arrival


def open_stream(ask: StreamAsk) -> LiveStream:
    """Start the target and the workers; blocks until both are ready.

    What an earlier stream left in the folder's spool, killed in the middle, is stored as its probes first.
    Raises SlobenchError for what the user can mend.
    """
    trial, folder = ask.trial, ask.trial.folder
    store_probes(folder)
    spool = folder / SPOOL
    headers = resolve_secrets(trial.target.talk)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, spool, ignore_errors=True)  # nothing was offered: the folder can be used again
        pool = open_pool(trial, spool)  # they import while the target starts
        stack.callback(pool.close)
        plan = empty_plan(tuple(trial.workload.classes))
        plan.save(spool / "plan.arrow")
        secret = secrets_of(trial, headers)
        run = first_run_json(trial, plan, pool.workers, secret)
        running = begin(trial, ask.slo, headers)
        stack.callback(running.stop)
        Counters.create(spool / live.FILE, pool.workers).close()
        shares = tuple(share_of(each) for each in ask.counted)
        jobs = jobs_of(trial, plan, ask.slo, running.endpoint, pool.workers, pool.fd_limit, run["nonce"])
        observe(run, running, secret)
        watching = watch(trial.target, running, spool)
        stack.callback(watching.sampler.end, reachable=False)
        run["run"]["notes"] += watching.notes
        anchor = ClockAnchor.take()
        epoch_ns = pool.start([replace(job, grows=True, shares=shares) for job in jobs])
        watching.sampler.go(epoch_ns)
        run["clock"] = {"monotonic_ns": anchor.monotonic_ns, "wall_ns": anchor.wall_ns, "start_ns": epoch_ns}
        run["hosts"] = told_seats(pool.seats())
        run["run"]["notes"] += notes_on(pool.seats())
        write_run_json(spool, run)
        stack.pop_all()
    return LiveStream(ask, pool, running, watching, run)


class LiveStream:
    """Load on a running target, stepped from probe to probe (experiment/stream.py, Stream).

    One Ctrl-C gives up what has not been sent and ends the step; a second one ends what is in flight.
    step and drain raise TargetDiedError and WorkerError; what was recorded until then is stored by `close`.
    """

    def __init__(
        self, ask: StreamAsk, pool: Pool, running: RunningTarget, watching: Watching, run: dict[str, Any]
    ) -> None:
        self._ask = ask
        self._pool = pool
        self._running = running
        self._watching = watching
        self._epoch_ns: int = run["clock"]["start_ns"]
        self._run = run
        self._spool = ask.trial.folder / SPOOL
        self._counters = Counters.open(self._spool / live.FILE)
        self._next = Start()
        self._last_ns = 0  # when the last row is due
        self._rows = 0  # that were sent or dropped, or will be
        self._pending: deque[_Pending] = deque()
        self._seen: deque[tuple[float, Snapshot]] = deque()
        self._next_progress_s = 0.0
        self._rate = 0.0
        self._cut = self._closed = False

    # Stream

    def step(self, probe: Probe) -> Iterator[Event]:
        """Offer a probe right after what was offered before; see Stream."""
        if self._interrupted():
            return
        pending, going = self._offer(probe), True
        while going:
            try:
                yield from self._tick()
            except GeneratorExit:
                self._curtail(pending)
                raise
            if self._interrupted():
                self._curtail(pending)
                return
            if probe.target is not None and self._is_futile(pending, probe.target):
                pending, going = self._curtail(pending), False
            else:
                going = self._now_ns() < self._last_ns - _LEAD_NS
        self._pending.append(pending)

    def finished(self) -> list[Probed]:
        """Probes that have ended since the last call, in order."""
        found = []
        while self._pending:
            pending = self._pending[0]
            counts = probe_counts.read(pending.counts)
            if counts.ended < pending.due:
                break
            limits = Limits.of(self._ask.slo, self._ask.trial.workload.validity)
            found.append(probed_of(pending.offered, counts, pending.counted_ns, self._ask.counted, limits))
            self._pending.popleft()
            pending.counts.unlink()
        return found

    def drain(self) -> Iterator[Event]:
        """Offer nothing until everything in flight has ended."""
        while True:
            yield from self._tick(draining=True)
            seen = self._counters.snapshot()
            sent = seen.total(Slot.STARTED)
            if seen.total(Slot.ENDED) >= sent and sent + seen.total(Slot.DROPPED) >= self._rows:
                return

    def now_s(self) -> float:
        """Time on the stream's clock."""
        return self._now_ns() / 1e9

    def close(self) -> None:
        """Stop offering, end what is in flight, let go of the target, store every probe as a run of its own."""
        if self._closed:
            return
        self._closed = True
        try:
            self._end_workers()
        finally:
            failure = self._running.failure()
            self._run["hosts"] = told_seats(self._pool.seats(ended=True))
            self._pool.close()
            self._counters.close()
            self._watching.sampler.end(reachable=failure is None)
            self._running.stop()
        self._run["telemetry"] = redact(self._watching.told(), secrets_of(self._ask.trial, {}))
        ends = list(self._pool.ended.values())
        self._run["run"] |= {
            "target_died": failure is not None,
            "interrupted": self._interrupted(),
            "end_ns": self._now_ns(),
            "workers_lost": {str(worker): why for worker, why in self._pool.lost.items()},
            "spool_error": next((end["spool_error"] for end in ends if end["spool_error"]), None),
        }
        self._run |= {name: next((end.get(name) for end in ends), None) for name in ("stamps", "receiver")}
        write_run_json(self._spool, self._run)
        store_probes(self._ask.trial.folder)

    # Offering

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._epoch_ns

    def _offer(self, probe: Probe) -> _Pending:
        """Plan the probe's segment and hand it to the workers."""
        workload = self._ask.trial.workload
        settle = math.ceil(probe.rate * probe.settle_s)
        segment = build_segment(
            workload, rate=probe.rate, n=probe.n, settle=settle, seed=probe.seed, vr=probe.vr, start=Start()
        )
        refuse_too_long(segment.plan, self._running.endpoint)
        at = Start(self._next.index, max(self._next.at_ns, self._now_ns() + _MARGIN_NS))
        plan = moved(segment.plan, at.index, at.at_ns)
        offered = Offered(probe, segment.plan.digest, at.index, at.at_ns, len(plan), settle)
        path = note_offered(self._spool, offered, plan)
        counts = self._spool / f"counts-{probe.number:04d}.bin"
        probe_counts.create(counts, self._pool.workers, len(self._ask.counted))
        self._pool.extend(path, counts, counted_from=at.index + settle, n=probe.n)
        assert plan.scheduled_ns is not None
        self._next = Start(at.index + segment.next.index, at.at_ns + segment.next.at_ns)
        self._last_ns = int(plan.scheduled_ns[-1])
        self._rows += len(plan)
        self._rate = probe.rate
        return _Pending(offered, counts, probe.n, (int(plan.scheduled_ns[settle]), self._last_ns))

    def _interrupted(self) -> bool:
        return self._ask.asked.count > 0

    def _is_futile(self, pending: _Pending, target: float) -> bool:
        counts = probe_counts.read(pending.counts)
        good, judged = counts.tallies[self._total].sum(axis=0).tolist()
        return futile(good, judged, pending.offered.probe.n, target)

    @property
    def _total(self) -> int:
        """Which share is all requests together."""
        names = [each.name for each in self._ask.counted]
        return names.index("total") if "total" in names else 0

    def _curtail(self, pending: _Pending) -> _Pending:
        """Give up what has not been sent."""
        self._pool.curtail()
        self._hear_all("curtailed")
        seen = self._counters.snapshot()
        self._rows = seen.total(Slot.STARTED) + seen.total(Slot.DROPPED)
        self._last_ns = self._now_ns()
        self._next = Start(self._next.index, self._last_ns)
        offered = replace(pending.offered, curtailed=True)
        note_offered(self._spool, offered)
        counts = probe_counts.read(pending.counts)
        first_ns = pending.counted_ns[0]
        last_ns = first_ns if counts.last_ns is None else counts.last_ns
        return replace(pending, offered=offered, due=counts.acted_on, counted_ns=(first_ns, last_ns))

    def _hear_all(self, event: str) -> None:
        """Wait until every worker has said this."""
        waiting = set(range(self._pool.workers)) - self._pool.lost.keys() - self._pool.ended.keys()
        give_up_s = time.monotonic() + _ANSWER_S
        while waiting:
            heard = self._pool.next_event(_TICK_S)
            if heard is not None and heard.event == event:
                waiting.discard(heard.worker)
            waiting -= self._pool.lost.keys()
            if time.monotonic() > give_up_s:
                raise WorkerError(f"generator process {min(waiting)} gave no answer for {_ANSWER_S:.0f} s")

    # Watching

    def _tick(self, *, draining: bool = False) -> Iterator[Event]:
        """Wait a moment; raise where the stream cannot go on."""
        self._pool.next_event(_TICK_S)
        snapshot = self._counters.snapshot()
        if not self._running.alive():
            raise TargetDiedError(self._running.failure() or "the server ended")
        silent_ns = self._now_ns() - snapshot.slots[:, Slot.HEARTBEAT_NS]
        for worker in np.flatnonzero(silent_ns > _FROZEN_NS).tolist():
            self._pool.give_up(worker, f"gave no sign for {_FROZEN_NS / 1e9:.0f} s")
        if self._pool.lost:
            worker, why = next(iter(self._pool.lost.items()))
            raise WorkerError(f"generator process {worker} was lost: {why}\n  expected  all of them to the end")
        if self._ask.asked.count >= 2 and not self._cut:
            self._cut = True
            self._pool.cut()
        now_s = time.monotonic()
        if now_s >= self._next_progress_s:
            self._next_progress_s = now_s + _PROGRESS_S
            self._seen.append((now_s, snapshot))
            while len(self._seen) > 1 and now_s - self._seen[0][0] > _LIVE_WINDOW_S:
                self._seen.popleft()
            yield self._progress(draining=draining)

    def _progress(self, *, draining: bool) -> Progress:
        (before_s, before), (now_s, now) = self._seen[0], self._seen[-1]
        per_s = 1 / (now_s - before_s) if now_s > before_s else 0.0

        def gained(slot: Slot) -> int:
            return now.total(slot) - before.total(slot)

        ttft = now.histogram(Hist.TTFT) - before.histogram(Hist.TTFT)
        judged = gained(Slot.JUDGED)
        return Progress(
            elapsed_s=max(0.0, self.now_s()),
            total_s=None,
            offered_rps=0.0 if draining else self._rate,
            achieved_rps=gained(Slot.STARTED) * per_s,
            finished_rps=gained(Slot.ENDED) * per_s,
            in_flight=now.total(Slot.STARTED) - now.total(Slot.ENDED),
            planned=self._rows,
            sent=now.total(Slot.STARTED),
            ended=now.total(Slot.ENDED),
            ttft_p50_s=quantile_s(ttft, 0.5),
            ttft_p99_s=quantile_s(ttft, 0.99),
            attainment=gained(Slot.GOOD) / judged if judged else None,
            errors=gained(Slot.FAILED) + gained(Slot.DROPPED),
            draining=draining,
        )

    def _end_workers(self) -> None:
        self._pool.stop(0)
        seen = self._counters.snapshot()
        if seen.total(Slot.ENDED) < seen.total(Slot.STARTED):
            self._pool.cut()
        give_up_s = time.monotonic() + _END_S
        while self._pool.running and time.monotonic() < give_up_s:
            self._pool.next_event(_TICK_S)
        for worker in range(self._pool.workers):
            if worker not in self._pool.ended and worker not in self._pool.lost:
                self._pool.give_up(worker, f"did not end within {_END_S:.0f} s of the order to")
