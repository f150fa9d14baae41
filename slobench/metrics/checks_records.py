"""Check of the records themselves (V13): nothing counted twice or not at all, and no time runs backwards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slobench.metrics.case import Case, Check, percent
from slobench.metrics.columns import number
from slobench.metrics.load import spans
from slobench.metrics.summary import Finding
from slobench.names import OUTCOMES
from slobench.units import format_s

V13 = Check("V13", "instrument")
FEW_SAMPLES = 20  # of requests in flight, under which their mean says nothing
FAULT = "report it as a fault of slobench, with the run's folder"
CLOCK_ORDER = (
    (("scheduled_ns", "started_ns", "sent_ns"), 0),
    # A stamp is carried over from wall time by two clock reads; a client stopped between them dates it early.
    (("headers_ns", "first_token_ns", "last_token_ns", "end_ns"), 10_000_000),
)  # names, and by how many ns they may disagree


def accounting(case: Case) -> Iterator[Finding]:
    """V13, over the whole run: nothing counted twice or not at all, and no time runs backwards."""
    requests = case.requests
    known = np.isin(requests["outcome"], [str(outcome) for outcome in OUTCOMES])
    index = np.asarray(requests["index"])
    wrong = int(np.sum(~known)) + len(index) - len(np.unique(index))
    if wrong:
        yield V13.past(
            f"{wrong} requests without one outcome",
            "0",
            "the records are damaged: no sum over them can be trusted",
            FAULT,
        )
    backwards = _backwards(case)
    if backwards:
        yield V13.past(
            f"{backwards} requests with times out of order", "0", "no time in these records can be trusted",
            f"see that this machine's clock source is sound (`slobench doctor`), else {FAULT}",
        )  # fmt: skip
    yield from _clock_steps(case)
    off = little(case)
    if off is not None:
        yield from V13.graded(
            off, case.ask.thresholds.v13_little, limit=percent,
            seen=f"requests in flight differ by {percent(off)} between the workers' counts and the records",
            text="Little's law does not hold: some requests are counted wrongly, or never ended",
            advice=FAULT,
        )  # fmt: skip


def _clock_steps(case: Case) -> Iterator[Finding]:
    """Steps of the wall clock, in which the kernel stamps what comes in; the monotonic clock has none."""
    most = case.ask.thresholds.v13_clock_steps
    steps = {source: value for source, _, value in case.samples("wall_step_ns", whole_run=True)}
    reads = sum(float(value.max()) for _, _, value in case.samples("clock_steps", whole_run=True))
    times = max((len(value) for value in steps.values()), default=0)
    if max(times, reads) <= most:
        return
    largest = max((float(np.max(np.abs(value))) for value in steps.values()), default=0.0)
    seen = f"the wall clock was set {times} times, by up to {format_s(largest / 1e9)}" if times else (
        f"{reads:.0f} reads with a kernel stamp that cannot be true: the clock was set, or we stood still for 5 s"
    )  # fmt: skip
    yield V13.past(
        seen, f"{most:g}",
        "what was received just then is dated wrongly by as much, and wall-clock times of the run are off",
        "let the clock be slewed, not set (chrony without makestep), during runs; see `validity.v13_clock_steps`",
    )  # fmt: skip


def _backwards(case: Case) -> int:
    wrong = np.zeros(len(case.requests["index"]), dtype=np.bool_)
    for names, slack_ns in CLOCK_ORDER:
        last = np.full(len(wrong), -np.inf)
        for name in names:
            now = number(case.requests, name)
            wrong |= now < last - slack_ns
            last = np.fmax(last, now)
    return int(wrong.sum())


def little(case: Case) -> float | None:
    """Relative difference of mean in-flight by the workers' samples and, at the same moments, by the records.

    An end is counted by a worker up to a few ms after its stamp; that much is no difference.
    """
    requests = case.requests
    sampled = recorded = slack = 0.0
    for source, at, value in case.samples("in_flight", whole_run=True):
        mine = requests["worker"] == int(source.rpartition("-")[2])
        begin, end = spans(requests, mine)
        if not len(begin) or len(at) < FEW_SAMPLES:
            continue
        during = (at >= begin.min()) & (at <= end.max())
        moments = at[during]
        begun, ended = (np.searchsorted(np.sort(times), moments, side="right") for times in (begin, end))
        open_then = begun - ended
        sampled += float(value[during].sum())
        recorded += float(open_then.sum())
        slack += len(moments) * len(begin) / max(float(end.max() - begin.min()), 1e-9) * 0.002
    if recorded <= 0:
        return None
    return max(abs(sampled - recorded) - slack, 0.0) / recorded
