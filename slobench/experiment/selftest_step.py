"""One step of the self-test: offer a fixed load to the null server, then hold what was recorded against its log."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
from numpy.typing import NDArray

from slobench.config.slo import ClassSlo, Slo
from slobench.config.target import NullTarget
from slobench.generate.job import Job
from slobench.generate.local_pool import LocalPool
from slobench.generate.pool import Pool, default_workers
from slobench.metrics import checks_instrument as checks
from slobench.metrics.ask import Ask
from slobench.metrics.case import Case
from slobench.metrics.columns import is_ok, number
from slobench.metrics.latency import derive
from slobench.metrics.slo import judge
from slobench.metrics.summary import Finding
from slobench.metrics.window import Window
from slobench.names import NULL
from slobench.plan import Plan
from slobench.records import counters as live
from slobench.records.assemble import assemble
from slobench.records.schema import Columns, Records
from slobench.stats.quantiles import FloatArray, inverted_cdf
from slobench.targets.base import RunningTarget
from slobench.targets.own import truth_of
from slobench.units import format_s
from slobench.workload.prompts import prompt_refs
from slobench.workload.variates import IntArray

Kind = Literal["requests", "tokens", "streams"]
Grade = Literal["good", "usable", "past"]

GOOD_S, USABLE_S = 1e-3, 5e-3
"""Limits of the TTFT error's p99: within the first a level is good, within the second usable."""
ON_TIME = 0.99
INPUT_TOKENS = 32
_LATE_S, _LATE_SHARE = 0.05, 0.01  # a reply is on time that ends so much, or this part of the step, after its schedule
_PATIENCE_S = 2.0  # what an overloaded step gets beyond its schedule, then it is cut
_END_S = 10.0  # what a worker gets from there to its end
_SERVER_BUSY = 0.9
_NS = 1e9


@dataclass(frozen=True, slots=True)
class Offered:
    """A load: due times in ns from the start, ascending, and output tokens, both by request."""

    due_ns: IntArray
    output_tokens: IntArray

    def plan(self) -> Plan:
        """The load as a plan of one class."""
        rows = np.arange(len(self.due_ns))
        zeros = np.zeros(len(rows), np.int64)
        return Plan(
            index=rows,
            scheduled_ns=self.due_ns,
            class_code=zeros.astype(np.int32),
            session=rows,
            turn=zeros.astype(np.int32),
            prompt=prompt_refs(rows, seed=0, name="selftest", shared_prefix_tokens=0),
            input_tokens=np.full(len(rows), INPUT_TOKENS),
            output_tokens=self.output_tokens,
            priority=np.full(len(rows), NULL),
            class_names=("selftest",),
        )


@dataclass(frozen=True, slots=True)
class Bench:
    """A null server that runs, what starts it, and how many generator processes are tried against it."""

    target: NullTarget
    running: RunningTarget
    workers: int
    folder: Path

    def planned_end_s(self, offered: Offered) -> FloatArray:
        """When the last token of each reply leaves by the server's schedule, in s from the start."""
        tokens = offered.output_tokens - 1
        return np.asarray((offered.due_ns + self.target.first_token + tokens * self.target.gap) / _NS, np.float64)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a step left. truth: recv_ns and first_ns of the null server by request, NaN where it saw none.

    server_cpu: seconds of CPU the null server used for each second of the step.
    """

    offered: Offered
    records: Records
    truth: NDArray[np.float64]
    server_cpu: float


@dataclass(frozen=True, slots=True)
class Seen:
    """One level, or a window of it: what came of it. Shares are of 1; CPU is of one core; None: nothing to tell from.

    on_time: replies that were whole within 1 % of the step of their schedule. why: what speaks against it.
    """

    kind: Kind
    level: float
    grade: Grade
    on_time: float | None
    send_lag_p99_s: float | None
    ttft_error_p50_s: float | None
    ttft_error_p99_s: float | None
    client_cpu: float | None
    server_cpu: float | None
    why: str = ""


def run_step(bench: Bench, offered: Offered, number: int) -> Ran:
    """Offer a load with fresh generator processes. Raises WorkerError where they cannot work."""
    folder = bench.folder / f"step-{number}"
    spool, plan, nonce = folder / "spool", offered.plan(), secrets.token_hex(8)
    pool = LocalPool(bench.workers, spool)
    try:
        plan.save(spool / "plan.arrow")
        live.Counters.create(spool / live.FILE, bench.workers).close()
        server = psutil.Process(bench.running.pid)
        epoch_ns = pool.start([_job(bench, spool, nonce, worker) for worker in range(bench.workers)])
        before = server.cpu_times()
        cut_ns = epoch_ns + round((bench.planned_end_s(offered).max() + _PATIENCE_S) * _NS)
        _await(pool, cut_ns)
        after, spent_s = server.cpu_times(), (time.monotonic_ns() - epoch_ns) / _NS
    finally:
        pool.close()
    truth = _truth(truth_of(bench.running.server.log), nonce, len(plan)) if bench.running.server else np.empty((0, 2))
    cpu_s = after.user + after.system - before.user - before.system
    return Ran(offered, assemble(folder, plan.to_arrow(), bench.workers), truth, cpu_s / spent_s)


def _job(bench: Bench, spool: Path, nonce: str, worker: int) -> Job:
    return Job(
        worker=worker,
        workers=bench.workers,
        plan=str(spool / "plan.arrow"),
        spool=str(spool),
        counters=str(spool / live.FILE),
        endpoint=bench.running.endpoint,
        seed=0,
        nonce=nonce,
        shared_prefix_tokens={"selftest": 0},
        limits={},
        closed=False,
        think_ns=0,
        max_in_flight=10**9,
    )


def _await(pool: Pool, cut_ns: int) -> None:
    cut = False
    while pool.running:
        pool.next_event(0.25)
        now_ns = time.monotonic_ns()
        if now_ns > cut_ns and not cut:
            pool.cut()
            cut = True
        if now_ns > cut_ns + _END_S * _NS:
            for worker in set(range(pool.workers)) - pool.ended.keys() - pool.lost.keys():
                pool.give_up(worker, "did not end")


def _truth(log: Path, nonce: str, n: int) -> NDArray[np.float64]:
    """Read recv_ns and first_ns by request of the step that had this nonce; ns on CLOCK_MONOTONIC, NaN: not seen."""
    found = np.full((n, 2), np.nan)
    for line in log.read_text().splitlines()[1:]:
        label, recv, first, *_ = line.split(",")
        run, _, index = label.rpartition("-")
        if run == nonce and int(first):
            found[int(index)] = int(recv), int(first)
    return found


def seen(bench: Bench, ran: Ran, kind: Kind, level: float, span_s: tuple[float, float]) -> Seen:
    """Judge the requests that were due in `span_s`, and how the workers fared meanwhile."""
    requests = ran.records.requests
    due_s = ran.offered.due_ns / _NS
    mine = (due_s >= span_s[0]) & (due_s < span_s[1])
    lag_s = (number(requests, "started_ns") - number(requests, "scheduled_ns"))[mine] / _NS
    error_s = ttft_error_s(requests, ran.truth)[mine]
    error_s = error_s[~np.isnan(error_s)]
    in_time = on_time(bench, ran)[mine]
    share = float(in_time.mean()) if len(in_time) else None
    p99 = inverted_cdf(np.abs(error_s), 0.99) if len(error_s) else None
    found = list(instrument_findings(ran.records, bench.workers, span_s))
    why = [f"{finding.code}: {finding.seen} > {finding.limit}" for finding in found]
    if share is not None and share < ON_TIME:
        why.insert(0, f"{share * 100:.1f} % of replies on time")
    if p99 is not None and p99 > USABLE_S:
        why.append(f"TTFT error p99 {format_s(p99)}")
    if why and ran.server_cpu > _SERVER_BUSY:
        why.append(f"the null server used {ran.server_cpu * 100:.0f} % of a core: perhaps it was the limit")
    usable = not why and p99 is not None
    lag_s = lag_s[~np.isnan(lag_s)]
    return Seen(
        kind=kind,
        level=level,
        grade=("good" if p99 is not None and p99 <= GOOD_S else "usable") if usable else "past",
        on_time=share,
        send_lag_p99_s=inverted_cdf(lag_s, 0.99) if len(lag_s) else None,
        ttft_error_p50_s=inverted_cdf(error_s, 0.5) if len(error_s) else None,
        ttft_error_p99_s=p99,
        client_cpu=_client_cpu(ran.records, span_s),
        server_cpu=ran.server_cpu,
        why="; ".join(why),
    )


def ttft_error_s(requests: Columns, truth: NDArray[np.float64]) -> FloatArray:
    """TTFT as recorded, from the send, minus that of the server: from its kernel's receipt to the first write."""
    recorded = number(requests, "first_token_ns") - number(requests, "sent_ns")
    return np.asarray((recorded - (truth[:, 1] - truth[:, 0])) / _NS, np.float64)


def on_time(bench: Bench, ran: Ran) -> NDArray[np.bool_]:
    """Which replies were whole by their schedule, two steps of the server and 1 % of the load's length allowed."""
    planned_s = bench.planned_end_s(ran.offered)
    allowed_s = 2 * bench.target.step / _NS + max(_LATE_S, _LATE_SHARE * float(planned_s.max()))
    last_s = number(ran.records.requests, "last_token_ns") / _NS
    in_time: NDArray[np.bool_] = is_ok(ran.records.requests) & (last_s <= planned_s + allowed_s)
    return in_time


def instrument_findings(records: Records, workers: int, span_s: tuple[float, float]) -> Iterator[Finding]:
    """What the checks of the generator itself (V01, V03 to V06) find past their second limit in a span of a step."""
    requests, none = records.requests, Slo((), ClassSlo())
    derived = derive(requests, records.chunks)
    window = Window(*span_s, mean_e2e_s=None, p99_e2e_s=None, warmup_s=0.0, whole_run=True)
    ask = Ask(workers=workers, cores=default_workers(local_target=True))
    judged = judge(requests, derived, records.chunks, none)
    case = Case.of(records, none, ask, derived=derived, judged=judged, window=window)
    for check in (checks.send_lag, checks.heartbeat, checks.processor, checks.coalescing, checks.connections):
        yield from (finding for finding in check(case) if finding.level == "invalid")


def _client_cpu(records: Records, span_s: tuple[float, float]) -> float | None:
    """CPU of the busiest worker in a span, of one core."""
    samples = records.telemetry
    at_s = samples["t_ns"] / _NS
    shares = []
    for source in np.unique(samples["source"]):
        # The samples come once a second: the ones just outside the span belong to it.
        mine = (samples["name"] == "cpu_s") & (samples["source"] == source)
        mine &= (at_s > span_s[0] - 1) & (at_s < span_s[1] + 1)
        if mine.sum() > 1:
            at, cpu = at_s[mine], samples["value"][mine]
            shares.append(float((cpu[-1] - cpu[0]) / (at[-1] - at[0])))
    return max(shares, default=None)
