"""The requests that an export holds: those that the report's numbers rest on."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from slobench.metrics.columns import FAILED, BoolArray, IntArray, group_chunks, is_ok, outcome_in, seconds
from slobench.metrics.peers import Replies
from slobench.metrics.summary import Load
from slobench.report.view import RunView


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Requests scheduled in the measurement window that succeeded or failed, in the order of their start.

    rows: their positions among the records. ok: of those, which succeeded. length_s: of the window.
    """

    rows: IntArray
    ok: BoolArray
    length_s: float
    replies: Replies

    @classmethod
    def of(cls, view: RunView) -> Window:
        """Choose them as the report does; what was not sent, given up or cut is left out."""
        requests, chosen = view.records.requests, view.summary.window
        at = seconds(requests, "scheduled_ns")
        good = is_ok(requests)
        with np.errstate(invalid="ignore"):
            inside = (at >= chosen.start_s) & (at < chosen.end_s) & (good | outcome_in(requests, FAILED))
        replies = Replies.of(requests, view.records.chunks, group_chunks(requests, view.records.chunks))
        rows = np.flatnonzero(inside)
        began = np.where(np.isnan(replies.started), at, replies.started)[rows]
        rows = rows[np.argsort(began, kind="stable")]
        return cls(rows, good[rows], chosen.end_s - chosen.start_s, replies)


def load_of(view: RunView) -> Load | None:
    """Return what the whole run offered and took."""
    return view.summary.load.get(view.total)


def model_of(view: RunView) -> str:
    """Return the model's name in requests; the target's kind where a run never learned it."""
    return str(view.at("server", "model") or view.at("spec", "target", "kind") or "unknown")


def users_of(view: RunView) -> int | None:
    """Return the users of a closed loop; None in an open one."""
    loop = view.at("spec", "workload", "loop") or {}
    return int(loop["users"]) if loop.get("mode") == "closed" and loop.get("users") else None


def utc(view: RunView, at_s: float, form: str) -> str | None:
    """Return a time on the run's clock as wall-clock time (UTC); None where the run has no anchor."""
    clock = view.at("clock") or {}
    wall, monotonic, start = (clock.get(key) for key in ("wall_ns", "monotonic_ns", "start_ns"))
    if wall is None or monotonic is None or start is None:
        return None
    return time.strftime(form, time.gmtime((wall - monotonic + start) / 1e9 + at_s))
