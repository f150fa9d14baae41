"""Validity checks of this side: was the load sent on time, and were replies timed rightly (V01 to V06)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slobench.metrics.ask import Step
from slobench.metrics.case import Case, Check, percent, worst
from slobench.metrics.columns import number, outcome_in
from slobench.metrics.summary import Finding
from slobench.names import Outcome
from slobench.stats.quantiles import inverted_cdf
from slobench.units import format_s

V01, V02, V03 = Check("V01", "instrument"), Check("V02", "instrument"), Check("V03", "instrument")
V04, V05, V06 = Check("V04", "instrument"), Check("V05", "instrument"), Check("V06", "instrument")


def send_lag(case: Case) -> Iterator[Finding]:
    """V01: how late requests were begun."""
    limits = case.ask.thresholds
    lag = case.derived["send_lag_s"][case.main]
    lag = lag[~np.isnan(lag)]
    if not len(lag):
        return
    text = f"the client is saturated; use --workers {case.ask.workers * 2} or another host"
    p99 = inverted_cdf(lag, 0.99)
    step = limits.v01_lag_of_s
    found = list(
        V01.graded(p99 / case.ttft_s, step, seen=f"send lag p99 {format_s(p99)}", limit=case.of_ttft, text=text)
    )
    late = float(np.mean(lag > limits.v01_late_of_s * case.ttft_s))
    if late > limits.v01_late_share and not any(finding.level == "invalid" for finding in found):
        seen = f"{percent(late)} of sends later than {case.of_ttft(limits.v01_late_of_s)}"
        found = [V01.past(seen, percent(limits.v01_late_share), text)]
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
            f"none of {len(due)} planned requests was sent",
            "99 %",
            "nothing was offered: the target did not start, or the run was ended before the first arrival",
        )
        return
    dropped = int(outcome_in(requests, {Outcome.DROPPED}).sum())
    lost = int(outcome_in(requests, {Outcome.LOST}).sum())
    if dropped:
        yield V02.past(
            f"{dropped} of {planned} requests dropped",
            "0",
            "more were in flight than max_in_flight allows: the server did not keep up, or the cap is too low",
        )
    if gone := case.ask.workers_lost:
        yield V02.past(
            f"{gone} of {case.ask.workers} generator processes lost, {lost} requests with them",
            "0",
            "less than planned was offered; their errors are in run.json",
        )
    elif lost:
        yield V02.past(
            f"{lost} of {planned} requests lost", "0", "the run was cut off (killed?) while they were in flight or due"
        )
    unsent = np.isnan(number(requests, "started_ns")) | outcome_in(requests, {Outcome.CLIENT})
    missing = float(np.sum(due & unsent)) / planned
    if not dropped and not lost and not gone:
        yield from V02.graded(
            missing,
            case.ask.thresholds.v02_unsent,
            seen=f"{percent(missing)} of planned requests not sent",
            limit=percent,
            text="the offered load was less than planned; see the errors",
        )


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
                text=f"this machine is too busy for the load; use --workers {case.ask.workers * 2} or another host",
            )

    yield from worst(each())


def processor(case: Case) -> Iterator[Finding]:
    """V04: CPU use, throttling, steal and garbage collection of the workers."""
    limits = case.ask.thresholds
    yield from worst(
        _rates(
            case,
            "cpu_s",
            limits.v04_cpu,
            "CPU of {source} {share} busy",
            "the client is nearly saturated; use more --workers",
        )
    )
    yield from worst(
        _rates(
            case,
            "throttled_s",
            limits.v04_throttled,
            "{source} throttled {share} of the time",
            "a CPU quota stops the client (cgroup); raise it",
        )
    )

    def steal() -> Iterator[Finding]:
        for _, _, shares in case.samples("steal_share"):
            mean = float(shares.mean())
            yield from V04.graded(
                mean, limits.v04_steal, seen=f"{percent(mean)} of the host's CPU time stolen", limit=percent,
                text="the hypervisor gives this machine's time to others; times may be off",
            )  # fmt: skip

    def pauses() -> Iterator[Finding]:
        for source, _, pause_ns in case.samples("gc_pause_ns"):
            p99 = inverted_cdf(pause_ns, 0.99) / 1e9
            yield from V04.graded(
                p99 / case.gap_s, limits.v04_gc_of_g, seen=f"garbage collection of {source} p99 {format_s(p99)}",
                limit=case.of_gap, text="the client stood still that long; use more --workers",
            )  # fmt: skip

    yield from worst(steal())
    yield from worst(pauses())


def _rates(case: Case, name: str, step: Step, seen: str, text: str) -> Iterator[Finding]:
    """Growth of a running total over the window, per second of it."""
    for source, at, value in case.samples(name):
        if len(at) < 2 or at[-1] <= at[0]:
            continue
        share = float((value[-1] - value[0]) / (at[-1] - at[0]))
        yield from V04.graded(
            share, step, seen=seen.format(source=source, share=percent(share)), limit=percent, text=text
        )


def coalescing(case: Case) -> Iterator[Finding]:
    """V05: first tokens whose receive time is uncertain; without kernel stamps, how late the loop looked."""
    limits = case.ask.thresholds
    bound = limits.v05_error_of_s * case.ttft_s
    if case.ask.stamps == "kernel":
        error = number(case.requests, "first_token_error_ns")[case.main] / 1e9
        seen_first = ~np.isnan(number(case.requests, "first_token_ns")[case.main])
        of, what = int(seen_first.sum()), "of first tokens uncertain by more than"
        share = float(np.sum(error[seen_first] > bound)) / of if of else 0.0
    else:
        share, what = _late_looks(case, bound), "of the time the event loop looked later than"
    yield from V05.graded(
        share,
        limits.v05_share,
        seen=f"{percent(share)} {what} {case.of_ttft(limits.v05_error_of_s)}",
        limit=percent,
        text="replies waited in the client before they were read, so TTFT is not exact; use more --workers",
    )


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
        if p99 > limits.v06_wait_of_s * case.ttft_s:
            limit = case.of_ttft(limits.v06_wait_of_s)
            yield V06.past(
                f"connection wait p99 {format_s(p99)}", limit, "requests waited in the client; use more --workers"
            )
        elif p99 > limits.v06_wait_s:
            yield V06.warning(
                f"connection wait p99 {format_s(p99)}", format_s(limits.v06_wait_s), "requests waited in the client"
            )
    known = new[~np.isnan(new)]
    opened = float(known.mean()) if len(known) else 0.0
    if case.ask.connection == "pooled" and opened > limits.v06_new:
        yield V06.warning(
            f"{percent(opened)} of requests opened a connection", percent(limits.v06_new),
            "connecting is part of their latency; a longer warm-up opens them before, or the server closes idle ones",
        )  # fmt: skip
    yield from worst(_descriptors(case))


def _descriptors(case: Case) -> Iterator[Finding]:
    limit_of = {source: float(value.min()) for source, _, value in case.samples("fd_limit", whole_run=True)}
    for source, _, value in case.samples("open_fds", whole_run=True):
        limit = limit_of.get(source, np.inf)
        most = float(value.max())
        seen = f"{source} had {most:.0f} of {limit:.0f} file descriptors open"
        if most >= limit:
            yield V06.past(seen, f"{limit:.0f}", "no more connections could be opened; raise `ulimit -n`")
        elif most > case.ask.thresholds.v06_fds * limit:
            yield V06.warning(seen, percent(case.ask.thresholds.v06_fds), "raise `ulimit -n`")
