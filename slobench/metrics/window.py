"""The measurement window: which arrivals the numbers are about (docs/metrics.md, Window)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slobench.metrics.ask import Ask
from slobench.metrics.columns import BoolArray, IntArray, follows, seconds
from slobench.names import Outcome, Phase
from slobench.records.schema import Columns
from slobench.stats.quantiles import FloatArray, inverted_cdf

BATCHES = 10


@dataclass(frozen=True, slots=True)
class Window:
    """[start_s, end_s) on the run's clock, with what it was chosen from.

    mean_e2e_s, p99_e2e_s: of successful replies of the whole run; None where there was none.
    whole_run: a warm-up of 2 x p99 E2E would have left less than half.
    """

    start_s: float
    end_s: float
    mean_e2e_s: float | None
    p99_e2e_s: float | None
    warmup_s: float  # what the rule asked for
    whole_run: bool

    @property
    def length_s(self) -> float:
        """How long it is."""
        return self.end_s - self.start_s

    def holds(self, times_s: FloatArray) -> BoolArray:
        """Which times lie in it; NaN does not."""
        return np.asarray((times_s >= self.start_s) & (times_s < self.end_s), dtype=np.bool_)

    def batch(self, times_s: FloatArray, batches: int = BATCHES) -> IntArray:
        """Which of `batches` equal parts each time in the window lies in; a time outside is put in the nearest."""
        where = (times_s - self.start_s) / self.length_s * batches
        return np.fmin(np.fmax(where, 0), batches - 1).astype(np.int64)  # fmax: 0 for NaN

    def lengths_of_e2e(self) -> float:
        """Its length in mean E2E; +inf where no reply succeeded."""
        return self.length_s / self.mean_e2e_s if self.mean_e2e_s else np.inf


def choose(requests: Columns, e2e_s: FloatArray, ask: Ask) -> Window:
    """Choose the window: after a warm-up of max(asked, 2 x p99 E2E, p99 age), before the load ebbs away.

    The age of a request is the time since its session began: until then, sessions that will still send are missing.
    A run by duration ends its window there; one by count, p99 E2E before its last arrival (of a session); a closed loop
    where its first user runs out. Where less than half would remain, the window is the whole run.
    The window of a probe that is a part of a stream was chosen with its plan.
    """
    done = e2e_s[~np.isnan(e2e_s)]
    mean = float(done.mean()) if len(done) else None
    p99 = inverted_cdf(done, 0.99) if len(done) else None
    if ask.window_s is not None:
        return Window(*ask.window_s, mean, p99, ask.window_s[0], whole_run=False)
    warmup = max(ask.warmup_s, 2 * (p99 or 0.0), 0.0 if ask.closed else _age_s(requests))
    offered = _offered_until_s(requests, ask)
    by_count = ask.duration_s is None and not ask.closed
    end = offered - (p99 or 0.0) if by_count else offered
    if offered > 0 and end - warmup >= offered / 2:
        return Window(warmup, end, mean, p99, warmup, whole_run=False)
    return Window(0.0, _whole_end_s(requests, offered, p99, by_count=by_count), mean, p99, warmup, whole_run=True)


def phases(requests: Columns, window: Window) -> NDArray[np.str_]:
    """Return the phase of each planned request, by its scheduled time; one that never got a time is `drain`."""
    at = seconds(requests, "scheduled_ns")
    return np.where(
        at < window.start_s, Phase.WARMUP.value, np.where(window.holds(at), Phase.MAIN.value, Phase.DRAIN.value)
    )


def _offered_until_s(requests: Columns, ask: Ask) -> float:
    """When the full load ended: planned duration, last arrival, the first user without turns, an early end."""
    at = seconds(requests, "scheduled_ns")
    unsent = np.asarray(requests["outcome"] == Outcome.UNSENT.value)
    by_count = ask.duration_s is None and not ask.closed
    due = at[~unsent & ~np.isnan(at) & ~(follows(requests) & by_count)]  # no session begins after it: the load ebbs
    last = float(due.max()) if len(due) else 0.0
    if ask.closed:
        ran_out = _first_user_out_s(requests)
        limits = [x for x in (ask.duration_s, ran_out) if x is not None]
        if ask.interrupted or ask.target_died or ask.workers_lost or not limits:
            limits.append(last)
        return min(limits)
    if ask.duration_s is None:
        return last
    ended_early = ask.interrupted or bool(np.any(at[unsent] < ask.duration_s))  # a killed run says no more than this
    return min(ask.duration_s, last) if ended_early else ask.duration_s


def _age_s(requests: Columns) -> float:
    """Time since the beginning of their session that 99 % of requests do not exceed; 0 where none follows another."""
    followed = follows(requests)
    if not followed.any():
        return 0.0
    at = seconds(requests, "scheduled_ns")
    known = ~np.isnan(at)
    _, of = np.unique(np.asarray(requests["session"])[known], return_inverse=True)
    began = np.full(int(of.max(initial=-1)) + 1, np.inf)
    np.minimum.at(began, of, at[known])
    return inverted_cdf(np.where(followed[known], at[known] - began[of], 0.0), 0.99)


def _first_user_out_s(requests: Columns) -> float | None:
    """When the first user's last planned turn ended; None where every user had turns left."""
    end, session = seconds(requests, "end_ns"), np.asarray(requests["session"])
    if not len(end):
        return None
    users, of = np.unique(session, return_inverse=True)
    last = np.full(len(users), -np.inf)
    np.maximum.at(last, of, np.where(np.isnan(end), np.inf, end))  # a turn that never ended: not run out
    earliest = float(last.min())
    return earliest if np.isfinite(earliest) else None


def _whole_end_s(requests: Columns, offered: float, p99: float | None, *, by_count: bool) -> float:
    """End of a window that is the whole run: after the last arrival, or the last reply of a burst.

    Arrivals within one reply's time are a burst: a rate over their span would say nothing. Where sessions are counted,
    it reaches to their last request.
    """
    followed = follows(requests)
    if by_count and followed.any():
        offered = max(offered, float(np.nanmax(seconds(requests, "scheduled_ns"))))
    if by_count and offered <= (p99 or 0.0):
        end = seconds(requests, "end_ns")
        offered = max(offered, float(np.nanmax(end)) if np.isfinite(end).any() else 0.0)
    return (offered or 1.0) + 1e-9  # half-open: the last arrival is inside
