"""Sessions of a run: how many began, how each ended, how long a whole one took (docs/metrics.md, Sessions)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slobench.metrics.case import Case
from slobench.metrics.columns import FAILED, BoolArray, IntArray, follows, is_ok, outcome_in, seconds
from slobench.metrics.estimate import latency_table, split
from slobench.metrics.summary import SessionFacts
from slobench.names import Outcome
from slobench.records.schema import Columns
from slobench.stats.quantiles import FloatArray

_BROKE = (FAILED - {Outcome.LOST}) | {Outcome.CANCELLED}
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Requests of some sessions, sorted by them: `of` numbers the session of each row."""

    rows: IntArray
    of: IntArray
    count: int

    @classmethod
    def by_session(cls, requests: Columns, chosen: BoolArray, *, users: bool) -> _Grouped:
        """Group the chosen requests; what belongs to users of a closed loop begins anew with each that follows none."""
        rows = np.flatnonzero(chosen)
        session, turn = np.asarray(requests["session"])[rows], np.asarray(requests["turn"])[rows]
        if users:
            rows = rows[np.lexsort((turn, session))]
            of = np.cumsum(~follows(requests)[rows]) - 1
            return cls(rows, of, int(of.max(initial=-1)) + 1)
        found, of = np.unique(session, return_inverse=True)
        return cls(rows, of, len(found))

    def number(self, mask: BoolArray) -> IntArray:
        """How many rows of each session are in a mask over all requests."""
        return np.bincount(self.of[mask[self.rows]], minlength=self.count)

    def least(self, values: FloatArray) -> FloatArray:
        """The least of each session's values; +inf where it has none."""
        found = np.full(self.count, np.inf)
        np.minimum.at(found, self.of, np.where(np.isnan(values[self.rows]), np.inf, values[self.rows]))
        return found


def session_facts(case: Case) -> Mapping[str, SessionFacts]:
    """Facts of each class that has requests which follow others."""
    requests = case.requests
    followed = follows(requests)
    names = sorted({str(name) for name in requests["class"][followed]})
    return {name: _facts(case, name) for name in names}


def _facts(case: Case, name: str) -> SessionFacts:
    requests = case.requests
    mine = requests["class"] == name
    grouped = _Grouped.by_session(requests, mine, users=case.ask.closed)
    outcome = np.asarray(requests["outcome"])
    rows = grouped.number(mine)
    unsent = grouped.number(outcome == Outcome.UNSENT.value)
    ok, broke = grouped.number(is_ok(requests)), grouped.number(outcome_in(requests, _BROKE))
    began_s = grouped.least(seconds(requests, "scheduled_ns"))
    begun = unsent < rows
    complete, broken = begun & (ok == rows), begun & (broke > 0)
    given_up = 0 if name in case.ask.goes_on else int(unsent[broken].sum())
    ends_s = -grouped.least(-(seconds(requests, "scheduled_ns") + case.derived["e2e_s"]))
    inside = begun & case.window.holds(began_s)
    took = complete & inside
    of_began = split(case.window.batch(began_s[took]), _lengths_of_session(case, ends_s - began_s, took))
    return SessionFacts(
        begun=int(begun.sum()),
        complete=int(complete.sum()),
        broken_off=int(broken.sum()),
        unfinished=int((begun & ~complete & ~broken).sum()),
        not_sent=given_up,
        per_s=float(inside.sum()) / case.window.length_s,
        requests_mean=float((rows - unsent)[begun].mean()) if begun.any() else None,
        e2e_s=latency_table((ends_s - began_s)[took], of_began, QUANTILES),
    )


def _lengths_of_session(case: Case, e2e_s: FloatArray, chosen: BoolArray) -> float:
    """Length of the window in mean times of whole sessions: what depends on each other lies that far apart."""
    mean = float(e2e_s[chosen].mean()) if chosen.any() else 0.0
    return case.window.length_s / mean if mean > 0 else np.inf
