"""While the generator runs: progress, the end of the offer, drain, interruption, a target that dies."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from slobench.config.workload import Workload
from slobench.experiment.events import Event, Notice, Progress, Step
from slobench.experiment.stopping import STOPPED, Reason, Stopping
from slobench.generate.pool import Pool
from slobench.plan import Plan
from slobench.records.counters import Counters, Hist, Slot, Snapshot, quantile_s

_TICK_S = 0.25
_PROGRESS_S = 0.5
_LIVE_WINDOW_S = 10.0
_FROZEN_NS = 60 * 10**9  # a worker that showed no heartbeat for so long is frozen, not busy
_CUT_PATIENCE_S = 15.0  # from the order to cut until a worker that does not end counts as lost


class Watched(Protocol):
    """The part of a running target that is watched."""

    def alive(self) -> bool:
        """Whether it still runs."""
        ...


class Asked(Protocol):
    """How often the user asked to stop."""

    count: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A started generator and what it is offering."""

    pool: Pool
    counters: Path
    epoch_ns: int
    plan: Plan
    workload: Workload
    closed: bool
    stopping: Stopping | None = None


@dataclass(frozen=True, slots=True)
class OfferEnd:
    """How it ended; end_ns on the run's clock."""

    stop: str  # complete | decided | precise | interrupted | target died | worker lost
    interrupted: bool
    end_ns: int
    stopped_ns: int | None = None  # when a rule ended the offer


class _Watch:
    """The state of one offer: when to stop, drain, cut; advanced by `tick`."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        workload = offer.workload
        due_ns = offer.plan.due_ns
        self.duration_ns = workload.duration
        # Sessions go on after the last of them began, nobody knows how long.
        last_ns = None if due_ns is None or offer.plan.after is not None else int(due_ns[-1])
        self.total_ns = self.duration_ns if self.duration_ns is not None else last_ns
        self.stop = "complete"
        self.stopped = False  # no more arrivals were ordered
        self.stopped_ns: int | None = None
        self.cut_at_s: float | None = None
        self.draining = False
        self.target_dead = False
        self._set_cut()

    def _set_cut(self) -> None:
        """Fix when the drain policy ends what is in flight; None: never."""
        drain = self.offer.workload.drain
        self._cut_ns: int | None = None
        if drain.mode != "wait" and self.total_ns is not None:
            self._cut_ns = self.total_ns + (drain.grace if drain.mode == "grace" else 0)

    def now_ns(self) -> int:
        return time.monotonic_ns() - self.offer.epoch_ns

    def tick(self, asked: int, *, target_alive: bool, seen: Snapshot) -> Iterator[Event]:
        now_ns, pool = self.now_ns(), self.offer.pool
        if not target_alive and not self.target_dead:
            self.target_dead = True
            self.stop = "target died"
            self._end_offer(now_ns)
            yield Notice("the target died: nothing more is offered")
        if pool.lost and self.stop == "complete":
            self.stop = "worker lost"  # the others go on: their rows are still good
        if asked >= 1 and self.stop != "interrupted":
            self.stop = "interrupted"
            self._end_offer(now_ns)
            yield Step("interrupted: waiting for replies in flight (Ctrl-C again ends them)")
        if asked >= 2 and self.cut_at_s is None:
            self._cut()
        if self.offer.stopping is not None and not self.stopped and not self.draining:
            yield from self._heed(self.offer.stopping.tick(now_ns), now_ns, seen)
        if self.duration_ns is not None and now_ns >= self.duration_ns and not self.stopped:
            self._end_offer(self.duration_ns + self._tail_ns(seen))
        if self._cut_ns is not None and now_ns >= self._cut_ns and self.cut_at_s is None:
            self._cut()
        if self.total_ns is not None and now_ns >= self.total_ns and not self.draining:
            self.draining = True
            yield Step("draining")

    def _heed(self, reason: Reason | None, now_ns: int, seen: Snapshot) -> Iterator[Event]:
        """End the offer here where a rule says so: with a tail, as a run whose duration this was."""
        if reason is None:
            return
        self.stop = "precise" if reason == "precise" else "decided"
        self.stopped_ns = self.total_ns = now_ns
        self._set_cut()
        self._end_offer(now_ns + self._tail_ns(seen))
        yield Notice(STOPPED[reason])

    def give_up(self, why: str, *, workers: Iterable[int] | None = None) -> None:
        """Count workers that have not ended (default: all of those) as lost."""
        pool = self.offer.pool
        for worker in range(pool.workers) if workers is None else workers:
            if worker not in pool.ended and worker not in pool.lost:
                pool.give_up(worker, why)

    def give_up_frozen(self, seen: Snapshot) -> None:
        """Give up on workers that have not shown a heartbeat for long: they would hold up the run for ever."""
        silent_ns = self.now_ns() - seen.slots[:, Slot.HEARTBEAT_NS]
        frozen = [worker for worker, ns in enumerate(silent_ns.tolist()) if ns > _FROZEN_NS]
        self.give_up(f"gave no sign for {_FROZEN_NS / 1e9:.0f} s", workers=frozen)

    def _tail_ns(self, seen: Snapshot) -> int:
        """How long a run by duration goes on offering, so that its last replies meet no emptying server."""
        drain = self.offer.workload.drain
        if drain.mode == "cut":
            return 0
        p99_s = quantile_s(seen.histogram(Hist.E2E), 0.99)
        return drain.grace if p99_s is None else round(min(2 * p99_s * 1e9, drain.grace))

    def _end_offer(self, at_ns: int) -> None:
        self.stopped = True
        self.offer.pool.stop(at_ns)

    def _cut(self) -> None:
        self.cut_at_s = time.monotonic()
        self.offer.pool.cut()


def offer(what: Offer, target: Watched, asked: Asked) -> Iterator[Event | OfferEnd]:
    """Follow a started generator to its end; the last event is OfferEnd."""
    watch = _Watch(what)
    seen: deque[tuple[float, Snapshot]] = deque()
    next_progress = 0.0
    with Counters.open(what.counters) as counters:
        while what.pool.running:
            what.pool.next_event(_TICK_S)
            now = time.monotonic()
            snapshot = counters.snapshot()
            yield from watch.tick(asked.count, target_alive=target.alive(), seen=snapshot)
            if watch.cut_at_s is not None and now - watch.cut_at_s > _CUT_PATIENCE_S:
                watch.give_up(f"did not end within {_CUT_PATIENCE_S:.0f} s of the order to")
            else:
                watch.give_up_frozen(snapshot)
            if now >= next_progress:
                next_progress = now + _PROGRESS_S
                seen.append((now, snapshot))
                while len(seen) > 1 and now - seen[0][0] > _LIVE_WINDOW_S:
                    seen.popleft()
                yield _progress(watch, seen)
        seen.append((time.monotonic(), counters.snapshot()))
        yield _progress(watch, seen)
    if what.pool.lost and watch.stop == "complete":
        watch.stop = "worker lost"
    yield OfferEnd(watch.stop, watch.stop == "interrupted", watch.now_ns(), watch.stopped_ns)


def _progress(watch: _Watch, seen: deque[tuple[float, Snapshot]]) -> Progress:
    (before_s, before), (now_s, now) = seen[0], seen[-1]
    elapsed_s = watch.now_ns() / 1e9
    span_s = min(now_s - before_s, elapsed_s) if len(seen) > 1 else elapsed_s

    def gained(slot: Slot) -> int:
        return now.total(slot) - (before.total(slot) if len(seen) > 1 else 0)

    plan = watch.offer.plan
    due_ns = None if plan.after is not None else plan.due_ns  # what follows a reply is due when it came
    due = 0
    if due_ns is not None:
        upto = due_ns.searchsorted([round((elapsed_s - span_s) * 1e9), round(elapsed_s * 1e9)])
        due = int(upto[1] - upto[0])
    ttft = now.histogram(Hist.TTFT) - (before.histogram(Hist.TTFT) if len(seen) > 1 else 0)
    judged = gained(Slot.JUDGED)
    rate = 1 / span_s if span_s > 0 else 0.0
    return Progress(
        elapsed_s=max(0.0, elapsed_s),
        total_s=None if watch.total_ns is None else watch.total_ns / 1e9,
        offered_rps=(due if due_ns is not None else gained(Slot.STARTED)) * rate,
        achieved_rps=gained(Slot.STARTED) * rate,
        finished_rps=gained(Slot.ENDED) * rate,
        in_flight=now.total(Slot.IN_FLIGHT),
        planned=now.total(Slot.PLANNED),
        sent=now.total(Slot.STARTED),
        ended=now.total(Slot.ENDED),
        ttft_p50_s=quantile_s(ttft, 0.5),
        ttft_p99_s=quantile_s(ttft, 0.99),
        attainment=gained(Slot.GOOD) / judged if judged else None,
        errors=gained(Slot.FAILED) + gained(Slot.DROPPED),
        draining=watch.draining or watch.stopped,
    )
