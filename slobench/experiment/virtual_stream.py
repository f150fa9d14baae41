"""The simulated engine in virtual time as a stream: one engine, never emptied between the steps of a search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slobench.config.engine import Engine
from slobench.config.slo import Slo
from slobench.config.workload import Workload
from slobench.engine.kv import BlockNames
from slobench.engine.model import EngineCore, Request
from slobench.errors import ConfigError
from slobench.experiment.events import Event, Progress
from slobench.experiment.stream import BATCHES, Counted, Probe, Probed, futile
from slobench.experiment.virtual_judge import Break, IntArray, Judge, Rows, StepClock, needs_tokens
from slobench.plan import Plan
from slobench.plan_sharing import prompt_blocks
from slobench.segments import Segment, Start, build_segment

_PARTS = 40  # of a probe, between which the caller has its turn


@dataclass(slots=True)
class Sent:
    """Everything offered so far, one entry a request; -1 = not there yet."""

    class_code: list[int] = field(default_factory=list)
    scheduled_ns: list[int] = field(default_factory=list)
    input_tokens: list[int] = field(default_factory=list)
    output_tokens: list[int] = field(default_factory=list)
    first_ns: list[int] = field(default_factory=list)
    last_ns: list[int] = field(default_factory=list)
    first_step: list[int] = field(default_factory=list)
    last_step: list[int] = field(default_factory=list)
    probe: list[int] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)  # found by each arrival

    def take(self, low: int, high: int) -> Rows:
        """Rows low .. high, whether ended or not."""

        def column(values: list[int]) -> IntArray:
            return np.array(values[low:high], dtype=np.int64)

        return Rows(
            np.arange(low, low + len(self.scheduled_ns[low:high])),
            np.array(self.class_code[low:high], np.int32),
            column(self.scheduled_ns),
            column(self.first_ns),
            column(self.last_ns),
            column(self.first_step),
            column(self.last_step),
            column(self.input_tokens),
            column(self.output_tokens),
        )


@dataclass(slots=True)
class _Pending:
    """A probe on its way: the rows that count."""

    probe: Probe
    digest: str
    low: int
    high: int
    curtailed: bool = False


class Row(NamedTuple):
    """A request as the engine sees it; blocks: names of those of its prompt and reply."""

    class_code: int
    input_tokens: int
    output_tokens: int
    priority: int
    blocks: Sequence[int]


class VirtualEngine:
    """An engine with a clock of its own that serves whatever is due by then, and notes when tokens came."""

    def __init__(self, spec: Engine, workload: Workload, seed: int, *, each_token: bool) -> None:
        self.core = EngineCore(spec, seed)
        self.clock = StepClock()
        self.sent = Sent()
        self.now_ns = 0
        self.probe = -1  # whose requests arrive
        self._each_token = each_token
        self._open: dict[int, int] = {}
        self._spec, self._workload = spec, workload
        self._named = 0  # blocks of all prompts so far

    def rows(self, plan: Plan) -> Iterator[Row]:
        """Yield what the engine is told of each request of a plan."""
        columns = (plan.class_code, plan.input_tokens, plan.output_tokens, plan.priority)
        return map(Row, *(column.tolist() for column in columns), self._blocks(plan))

    def _blocks(self, plan: Plan) -> Iterable[Sequence[int]]:
        """Names of the blocks of each prompt and its reply; none where nothing can be found again."""
        size = self._spec.block_tokens
        shared = prompt_blocks(plan, self._workload, size) if self._spec.prefix_cache else ()
        if not any(shared):
            return [()] * len(plan)
        counts = (plan.input_tokens + plan.output_tokens) // size
        first = -np.cumsum(counts) - self._named  # downwards: what is shared has names from 0 up
        self._named += int(counts.sum())
        return map(BlockNames, shared, first.tolist(), counts.tolist())

    def arrive(self, due_ns: int, asked: Row) -> None:
        """Take in a request that is due now."""
        class_code, input_tokens, output_tokens, priority, blocks = asked
        sent = self.sent
        row = len(sent.scheduled_ns)
        sent.class_code.append(class_code)
        sent.scheduled_ns.append(due_ns)
        sent.input_tokens.append(input_tokens)
        sent.output_tokens.append(output_tokens)
        sent.probe.append(self.probe)
        sent.in_flight.append(len(self.core.running) + self.core.waiting)
        for column in (sent.first_ns, sent.last_ns, sent.first_step, sent.last_step):
            column.append(-1)
        # An embedding takes the step that reads its input, as the first token does.
        self.core.add(Request(row, input_tokens, max(1, output_tokens), max(0, priority), blocks))

    def step(self) -> list[int] | None:
        """Run one step of the engine; the rows that ended with it, None where there was nothing to run."""
        step = self.core.step(self.now_ns)
        if step is None:
            return None
        self.now_ns += step.duration_ns
        number, sent = self.core.steps, self.sent
        if self._each_token:
            self.clock.end_ns.append(self.now_ns)
            self._open |= {r.index: number - 1 for r in step.preempted if sent.first_ns[r.index] >= 0} | self._open
        for request in step.prefilled:
            row = request.index
            if sent.first_ns[row] < 0:
                sent.first_ns[row], sent.first_step[row] = self.now_ns, number
            elif row in self._open:
                self.clock.breaks.setdefault(row, []).append(Break(self._open.pop(row), number))
        for request in step.finished:
            sent.last_ns[request.index], sent.last_step[request.index] = self.now_ns, number
        return [request.index for request in step.finished]

    def fits(self, plan: Plan) -> None:
        """Raise ConfigError where a request could never run."""
        longest = int(np.max(plan.input_tokens + plan.output_tokens, initial=0))
        if longest > self.core.max_model_len:
            raise ConfigError(
                f"a request of {longest} tokens is longer than the engine's context of {self.core.max_model_len}\n"
                "  expected  shorter input_tokens or output_tokens (max: bounds a distribution)"
            )


class VirtualStream:
    """An open loop on the engine in virtual time."""

    def __init__(
        self,
        spec: Engine,
        workload: Workload,
        slo: Slo,
        counted: Sequence[Counted],
        seed: int,
        store: Path | None = None,
    ) -> None:
        """Begin empty. store: where `close` writes every request, as parquet."""
        self._workload, self._store = workload, store
        self._engine = VirtualEngine(spec, workload, seed, each_token=needs_tokens(counted, slo))
        self._judge = Judge(slo, tuple(workload.classes), tuple(counted), self._engine.clock)
        self._next = Start()
        self._pending: list[_Pending] = []

    def step(self, probe: Probe) -> Iterator[Event]:
        """Offer a probe: see Stream."""
        segment = build_segment(
            self._workload,
            rate=probe.rate,
            n=probe.n,
            settle=round(probe.rate * probe.settle_s),
            seed=probe.seed,
            vr=probe.vr,
            start=Start(),  # so that the digest says nothing of when it is offered
        )
        began, self._engine.probe = self._next, probe.number
        self._engine.fits(segment.plan)
        low = len(self._engine.sent.scheduled_ns) + segment.settle
        pending = _Pending(probe, segment.plan.digest, low, low + probe.n)
        part = max(1, len(segment.plan) // _PARTS)
        for first in range(0, len(segment.plan), part):
            self._serve(segment, first, first + part, began.at_ns)
            # Where it would go on if it ended here.
            self._next = Start(len(self._engine.sent.scheduled_ns), self._engine.now_ns)
            if probe.target is not None and self._is_futile(pending, probe.target):
                pending.curtailed = True
                break
            yield self._progress()
        else:
            self._next = Start(began.index + segment.next.index, began.at_ns + segment.next.at_ns)
        self._pending.append(pending)

    def finished(self) -> list[Probed]:
        """Probes that have ended since the last call: see Stream."""
        ended = []
        while self._pending and (self._pending[0].curtailed or self._has_ended(self._pending[0])):
            ended.append(self._result(self._pending.pop(0)))
        return ended

    def drain(self) -> Iterator[Event]:
        """Serve what is in flight: see Stream."""
        while self._engine.step() is not None:
            pass
        self._next = Start(self._next.index, max(self._next.at_ns, self._engine.now_ns))
        yield self._progress()

    def now_s(self) -> float:
        """Time on the virtual clock."""
        return self._engine.now_ns / 1e9

    def close(self) -> None:
        """Write what was offered, where that was asked."""
        if self._store is not None:
            save_requests([self._engine.sent], tuple(self._workload.classes), self._store)

    def _serve(self, segment: Segment, first: int, end: int, began_ns: int) -> None:
        """Let rows arrive and time pass until the last of them has."""
        engine, plan = self._engine, segment.plan.take(slice(first, end))
        assert plan.scheduled_ns is not None
        for due_ns, asked in zip((plan.scheduled_ns + began_ns).tolist(), engine.rows(plan), strict=True):
            while engine.now_ns < due_ns:
                if engine.step() is None:
                    engine.now_ns = due_ns
            engine.arrive(due_ns, asked)

    def _ended(self, pending: _Pending) -> tuple[Rows, IntArray]:
        """Counted rows that have ended, and the batch of each."""
        rows = self._engine.sent.take(pending.low, min(pending.high, len(self._engine.sent.scheduled_ns)))
        there = np.flatnonzero(rows.last_ns >= 0)
        return rows.of(there), np.minimum(there * BATCHES // pending.probe.n, BATCHES - 1)

    def _has_ended(self, pending: _Pending) -> bool:
        last = self._engine.sent.last_ns[pending.low : pending.high]
        return len(last) == pending.probe.n and min(last) >= 0

    def _is_futile(self, pending: _Pending, target: float) -> bool:
        rows, batch_of = self._ended(pending)
        if not len(batch_of):
            return False
        tally = self._judge.tallies(rows, batch_of)["total"]
        return futile(sum(good for good, _ in tally), sum(n for _, n in tally), pending.probe.n, target)

    def _result(self, pending: _Pending) -> Probed:
        rows, batch_of = self._ended(pending)
        found = self._engine.sent.in_flight[pending.low : pending.high]
        seen = latencies(rows)
        parts = np.array_split(np.array(found, dtype=np.float64), BATCHES)
        return Probed(
            probe=pending.probe,
            digest=pending.digest,
            tallies=self._judge.tallies(rows, batch_of),
            in_flight=tuple(float(part.mean()) for part in parts if len(part)),
            errors=0,
            start_s=self._engine.sent.scheduled_ns[pending.low] / 1e9,
            end_s=self._engine.sent.scheduled_ns[min(pending.high, len(self._engine.sent.scheduled_ns)) - 1] / 1e9,
            curtailed=pending.curtailed,
            mean_e2e_s=seen.mean_e2e_s,
            p99_e2e_s=seen.p99_e2e_s,
            mean_ttft_s=seen.mean_ttft_s,
            mean_tpot_s=seen.mean_tpot_s,
        )

    def _progress(self) -> Progress:
        core, sent = self._engine.core, len(self._engine.sent.scheduled_ns)
        in_flight = len(core.running) + core.waiting
        return virtual_progress(self.now_s(), sent, in_flight)


class Latencies(NamedTuple):
    """What a probe says of latency, in seconds; None where nothing was seen."""

    mean_e2e_s: float | None
    p99_e2e_s: float | None
    mean_ttft_s: float | None
    mean_tpot_s: float | None


def latencies(rows: Rows) -> Latencies:
    """Latencies over some rows."""
    if not len(rows.row):
        return Latencies(None, None, None, None)
    tpot = rows.tpot_s[~np.isnan(rows.tpot_s)]
    return Latencies(
        float(rows.e2e_s.mean()),
        float(np.quantile(rows.e2e_s, 0.99, method="inverted_cdf")),
        float(rows.ttft_s.mean()),
        float(tpot.mean()) if len(tpot) else None,
    )


def virtual_progress(elapsed_s: float, sent: int, in_flight: int) -> Progress:
    """What is known of a virtual stream at a moment."""
    return Progress(
        elapsed_s=elapsed_s,
        total_s=None,
        offered_rps=0.0,
        achieved_rps=0.0,
        finished_rps=0.0,
        in_flight=in_flight,
        planned=sent,
        sent=sent,
        ended=sent - in_flight,
        ttft_p50_s=None,
        ttft_p99_s=None,
        attainment=None,
        errors=0,
        draining=False,
    )


def save_requests(parts: Sequence[Sent], class_names: tuple[str, ...], path: Path) -> None:
    """Write what was offered in virtual time: one row a request, times in ns on its probe's clock, null = not yet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = {"probe": "probe", "scheduled_ns": "scheduled_ns", "first_ns": "first_token_ns", "last_ns": "last_token_ns"}
    names |= {name: name for name in ("input_tokens", "output_tokens")}
    columns = {
        column: pa.array([None if v < 0 else v for part in parts for v in getattr(part, field)], pa.int64())
        for field, column in names.items()
    }
    columns["class"] = pa.array([class_names[code] for part in parts for code in part.class_code], pa.string())
    pq.write_table(pa.table(columns), path)
