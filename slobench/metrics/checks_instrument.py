"""Validity checks of this side: was the load sent on time, and were replies timed rightly (V01 to V06, V16)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slobench.metrics.ask import Step
from slobench.metrics.case import Case, Check, more_workers, percent, worst
from slobench.metrics.columns import number, outcome_in, seconds
from slobench.metrics.load import in_flight, spans
from slobench.metrics.summary import Finding, MachineUse
from slobench.names import Outcome
from slobench.records.ceiling import Ceiling
from slobench.records.schema import RESERVED_FDS
from slobench.stats.quantiles import FloatArray, inverted_cdf
from slobench.units import format_s

V01, V02, V03 = Check("V01", "instrument"), Check("V02", "instrument"), Check("V03", "instrument")
V04, V05, V06 = Check("V04", "instrument"), Check("V05", "instrument"), Check("V06", "instrument")
V16 = Check("V16", "instrument")
RARE = 0.01  # what befalls fewer moments than this does not reach a p99


def send_lag(case: Case) -> Iterator[Finding]:
    """V01: how late requests were begun."""
    limits = case.ask.thresholds
    lag = case.derived["send_lag_s"][case.main]
    lag = lag[~np.isnan(lag)]
    if not len(lag):
        return
    text = "the client is saturated, and its lateness is part of every latency"
    advice = more_workers(case.ask)
    p99 = inverted_cdf(lag, 0.99)
    step = limits.v01_lag_of_s
    seen = f"send lag p99 {format_s(p99)}"
    found = list(V01.graded(p99 / case.ttft_s, step, seen=seen, limit=case.of_ttft, text=text, advice=advice))
    late = float(np.mean(lag > limits.v01_late_of_s * case.ttft_s))
    if late > limits.v01_late_share and not any(finding.level == "invalid" for finding in found):
        seen = f"{percent(late)} of sends later than {case.of_ttft(limits.v01_late_of_s)}"
        found = [V01.past(seen, percent(limits.v01_late_share), text, advice)]
    yield from found


def delivery(case: Case) -> Iterator[Finding]:
    """V02: was everything that was due sent; a drop or a lost worker invalidates by itself."""
    requests = case.requests
    due = requests["outcome"] != Outcome.UNSENT.value
    planned = int(due.sum())
    if not len(due):
        return
    if not planned:
        yield V02.past(
            f"none of {len(due)} planned requests was sent", "99 %",
            "nothing was offered, so there is nothing to report",
            "see why the target did not start, or why the run was ended before the first arrival",
        )  # fmt: skip
        return
    dropped = int(outcome_in(requests, {Outcome.DROPPED}).sum())
    lost = int(outcome_in(requests, {Outcome.LOST}).sum())
    if dropped:
        files = _files_were_the_limit(case)
        asked, more = (
            ("open files allow (`ulimit -n`)", "the limit of open files")
            if files
            else ("`max_in_flight` allows", "`loop.max_in_flight`")
        )
        yield V02.past(
            f"{dropped} of {planned} requests dropped", "0",
            f"more were in flight than {asked}: the server was spared load that it was to carry",
            f"offer less if the server did not keep up; raise {more} if it is meant to queue that much",
        )  # fmt: skip
    if gone := case.ask.workers_lost:
        yield V02.past(
            f"{gone} of {case.ask.workers} generator processes lost, {lost} requests with them", "0",
            "less than planned was offered, and replies in flight were never seen",
            "see run.json for how each ended (memory, a signal), mend that and run again",
        )  # fmt: skip
    elif lost:
        yield V02.past(
            f"{lost} of {planned} requests lost", "0",
            "the run was cut off while they were in flight or due: they count as not good, whatever the server did",
            "run again to the end (was it killed?)",
        )  # fmt: skip
    unsent = np.isnan(number(requests, "started_ns")) | outcome_in(requests, {Outcome.CLIENT})
    missing = float(np.sum(due & unsent)) / planned
    if not dropped and not lost and not gone:
        yield from V02.graded(
            missing, case.ask.thresholds.v02_unsent,
            seen=f"{percent(missing)} of planned requests not sent", limit=percent,
            text="the offered load was less than planned, and those requests count as not good",
            advice="see the messages of outcome `client` in the error table",
        )  # fmt: skip


def heartbeat(case: Case) -> Iterator[Finding]:
    """V03: how late a 50 ms timer fired in each worker: how late anything may have been seen."""

    def each() -> Iterator[Finding]:
        for source, _, overshoot_ns in case.samples("heartbeat_overshoot_ns"):
            p99 = inverted_cdf(overshoot_ns, 0.99) / 1e9
            yield from V03.graded(
                p99 / case.gap_s,
                case.ask.thresholds.v03_overshoot_of_g,
                seen=f"event loop of {source} late by p99 {format_s(p99)}",
                limit=case.of_gap,
                text="the client stood still that long: sends were late, and without kernel stamps tokens seem late",
                advice=more_workers(case.ask),
            )

    yield from worst(each())


def processor(case: Case) -> Iterator[Finding]:
    """V04: CPU use, throttling, steal and garbage collection of the workers."""
    limits = case.ask.thresholds
    yield from worst(
        _rates(
            case, "cpu_s", limits.v04_cpu, seen="CPU of {source} {share} busy",
            text="a client without spare time sends late and reads late when load comes in bursts",
            advice=more_workers(case.ask),
        )
    )  # fmt: skip
    yield from worst(
        _rates(
            case, "throttled_s", limits.v04_throttled, seen="{source} throttled {share} of the time",
            text="a CPU quota stops the client for tens of ms at a time: sends and reads in these were late",
            advice="raise the CPU quota of this container or service (cgroup cpu.max), or offer less",
        )
    )  # fmt: skip

    def steal() -> Iterator[Finding]:
        for _, _, shares in case.samples("steal_share"):
            mean = float(shares.mean())
            yield from V04.graded(
                mean, limits.v04_steal, seen=f"{percent(mean)} of the host's CPU time stolen", limit=percent,
                text="the hypervisor gave this machine's time to others: the client stood still meanwhile",
                advice="use a machine of its own, or one that is not oversubscribed",
            )  # fmt: skip

    yield from worst(steal())
    yield from worst(_collections(case))


def _rates(case: Case, name: str, step: Step, *, seen: str, text: str, advice: str) -> Iterator[Finding]:
    """Growth of a running total over the window, per second of it."""
    for source, at, value in case.samples(name):
        if len(at) < 2 or at[-1] <= at[0]:
            continue
        share = float((value[-1] - value[0]) / (at[-1] - at[0]))
        worded = seen.format(source=source, share=percent(share))
        yield from V04.graded(share, step, seen=worded, limit=percent, text=text, advice=advice)


def _collections(case: Case) -> Iterator[Finding]:
    for source, _, pause_ns in case.samples("gc_pause_ns"):
        wait = wait_exceeded(pause_ns / 1e9, case.window.length_s, RARE)
        yield from V04.graded(
            wait / case.gap_s, case.ask.thresholds.v04_gc_of_g, limit=case.of_gap,
            seen=f"garbage collection of {source} held up 1 % of moments by more than {format_s(wait)}",
            text="nothing was sent or read meanwhile", advice=more_workers(case.ask),
        )  # fmt: skip


def wait_exceeded(pauses_s: FloatArray, length_s: float, share: float) -> float:
    """Return the wait, in s, that a share of all moments of `length_s` exceeds, where nothing happens in the pauses.

    A moment u into a pause of p waits p - u, so waits longer than x fill sum(max(p - x, 0)).
    """
    left, total = share * length_s, 0.0
    ordered = np.sort(pauses_s)[::-1].tolist()
    for k, (pause, following) in enumerate(zip(ordered, [*ordered, 0.0][1:], strict=True), 1):
        total += pause
        if total - k * following > left:  # the wait lies between these two pauses: total - k * wait = left
            return float((total - left) / k)
    return 0.0


def coalescing(case: Case) -> Iterator[Finding]:
    """V05: first tokens whose receive time is uncertain; without kernel stamps, how late the loop looked."""
    limits = case.ask.thresholds
    bound = limits.v05_error_of_s * case.ttft_s
    if case.ask.stamps == "kernel":
        error = number(case.requests, "first_token_error_ns")[case.main] / 1e9
        seen_first = ~np.isnan(number(case.requests, "first_token_ns")[case.main])
        of, what = int(seen_first.sum()), "of first tokens uncertain by more than"
        share = float(np.sum(error[seen_first] > bound)) / of if of else 0.0
        advice = more_workers(case.ask)
    else:
        share, what = _late_looks(case, bound), "of the time the event loop looked later than"
        advice = f"use `--set talk.transport=fast` under Linux, which has kernel stamps; else {more_workers(case.ask)}"
    yield from V05.graded(
        share, limits.v05_share, seen=f"{percent(share)} {what} {case.of_ttft(limits.v05_error_of_s)}", limit=percent,
        text="replies waited in the client before they were read: their TTFT is too long by up to that much",
        advice=advice,
    )  # fmt: skip


def _late_looks(case: Case, bound_s: float) -> float:
    late = [overshoot_ns > bound_s * 1e9 for _, _, overshoot_ns in case.samples("heartbeat_overshoot_ns")]
    return max((float(each.mean()) for each in late), default=0.0)


def connections(case: Case) -> Iterator[Finding]:
    """V06: waiting for connections, opening new ones, running out of descriptors."""
    limits, requests = case.ask.thresholds, case.requests
    new = number(requests, "connection_new")[case.main]
    wait = ((number(requests, "sent_ns") - number(requests, "started_ns")) / 1e9)[case.main]
    pooled = wait[(new == 0) & ~np.isnan(wait)]
    if len(pooled):
        p99 = inverted_cdf(pooled, 0.99)
        seen, text = f"connection wait p99 {format_s(p99)}", "requests waited in the client before they left"
        if p99 > limits.v06_wait_of_s * case.ttft_s:
            yield V06.past(seen, case.of_ttft(limits.v06_wait_of_s), text, more_workers(case.ask))
        elif p99 > limits.v06_wait_s:
            yield V06.warning(seen, format_s(limits.v06_wait_s), text, more_workers(case.ask))
    known = new[~np.isnan(new)]
    opened = float(known.mean()) if len(known) else 0.0
    if case.ask.connection == "pooled" and opened > limits.v06_new:
        yield V06.warning(
            f"{percent(opened)} of requests opened a connection", percent(limits.v06_new),
            "connecting is part of their latency",
            "use a longer --warmup, which opens them before; raise the server's keep-alive time if it closes idle ones",
        )  # fmt: skip
    yield from worst(_descriptors(case))


def _files_were_the_limit(case: Case) -> bool:
    """Whether some worker had as many in flight as its limit of open files leaves for connections."""
    begun = ~np.isnan(seconds(case.requests, "started_ns"))
    for source, _, value in case.samples("fd_limit", whole_run=True):
        mine = begun & (np.asarray(case.requests["worker"]) == int(source.removeprefix("worker-")))
        begin, end = spans(case.requests, mine)
        if not len(begin):
            continue
        most = in_flight(begin, end, np.array([0.0, float(end.max()) + 1]))[1]
        if most >= value.min() - RESERVED_FDS:
            return True
    return False


def _descriptors(case: Case) -> Iterator[Finding]:
    limit_of = {source: float(value.min()) for source, _, value in case.samples("fd_limit", whole_run=True)}
    for source, _, value in case.samples("open_fds", whole_run=True):
        limit = limit_of.get(source, np.inf)
        most = float(value.max())
        seen = f"{source} had {most:.0f} of {limit:.0f} file descriptors open"
        advice = f"raise the limit: `ulimit -n {2 * most:.0f}`, the hard one as root"
        if most >= limit:
            yield V06.past(seen, f"{limit:.0f}", "no more connections could be opened: requests failed here", advice)
        elif most > (share := case.ask.thresholds.v06_fds) * limit:
            yield V06.warning(seen, percent(share), "with a few more, requests fail here, not at the server", advice)


@dataclass(frozen=True, slots=True)
class Offered:
    """What a client had to do in a window: requests sent and token events read a second, most requests in flight."""

    requests_per_s: float
    tokens_per_s: float
    streams: float

    def over(self, ceiling: Ceiling, workers: int) -> dict[str, float]:
        """Return each as a share of the ceiling, which fewer workers than it was tested with reach in proportion."""
        part = min(workers / ceiling.workers, 1.0)
        return {
            "requests/s": self.requests_per_s / (ceiling.requests_per_s * part),
            "tokens/s": self.tokens_per_s / (ceiling.tokens_per_s * part),
            "requests in flight": self.streams / (ceiling.streams * part),
        }


def machine_use(case: Case) -> MachineUse | None:
    """How near the load came to what this machine could offer in its own test; None where there was none."""
    ceiling, window = case.ask.ceiling, case.window
    if ceiling is None:
        return None
    begin, end = spans(case.requests, ~np.isnan(seconds(case.requests, "started_ns")))
    edges = np.array([window.start_s, window.end_s])
    offered = Offered(
        requests_per_s=float(np.sum(window.holds(seconds(case.requests, "started_ns")))) / window.length_s,
        tokens_per_s=float(np.sum(window.holds(np.asarray(case.records.chunks["t_ns"]) / 1e9))) / window.length_s,
        streams=in_flight(begin, end, edges)[1] if len(begin) else 0,
    )
    of_ceiling = offered.over(ceiling, case.ask.workers)
    name = max(of_ceiling, key=lambda each: of_ceiling[each])
    return MachineUse(of_ceiling[name], name)


def headroom(case: Case) -> Iterator[Finding]:
    """V16: the load against what this machine could offer in its own test; silent where there was none."""
    use = machine_use(case)
    if use is None:
        return
    yield from V16.graded(
        use.share, case.ask.thresholds.v16_ceiling, limit=percent,
        seen=f"{use.of} at {percent(use.share)} of what this machine could offer in its self-test",
        text="near its ceiling the client itself adds to latency", advice=more_workers(case.ask),
    )  # fmt: skip
