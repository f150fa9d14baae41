"""What a plan says of its sessions and of how long replies are waited for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slobench.names import NULL
from slobench.plan import Plan
from slobench.units import format_s


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """Sessions of a class; requests_*: of one session. delay_mean_s: from what a request waits for to its own time."""

    sessions: int
    requests_mean: float
    requests_p50: int
    requests_p99: int
    requests_max: int
    followers: int
    joins: int  # requests that wait for several others
    delay_mean_s: float


@dataclass(frozen=True, slots=True)
class PatiencePlan:
    """Requests that are waited for so long and no longer; share: of all of the class."""

    share: float
    mean_s: float
    p50_s: float
    p99_s: float


def session_plan(rows: Plan) -> SessionPlan | None:
    """Sessions among the rows of one class; None where no row follows another."""
    if rows.after is None:
        return None
    follows = rows.after != 0
    # Of a closed loop's users each row that follows none begins a session.
    session = np.cumsum(~follows) if rows.scheduled_ns is None else rows.session
    _, sizes = np.unique(session, return_counts=True)
    p50, p99 = np.quantile(sizes, [0.5, 0.99], method="inverted_cdf").tolist()
    delays = np.zeros(1) if rows.delay_ns is None else np.where(rows.delay_ns == NULL, 0, rows.delay_ns)[follows]
    return SessionPlan(
        sessions=len(sizes),
        requests_mean=float(sizes.mean()),
        requests_p50=int(p50),
        requests_p99=int(p99),
        requests_max=int(sizes.max()),
        followers=int(follows.sum()),
        joins=int(((rows.after & (rows.after - 1)) != 0).sum()),
        delay_mean_s=float(delays.mean()) / 1e9,
    )


def patience_plan(rows: Plan) -> PatiencePlan | None:
    """Patience among the rows of one class; None where everybody waits."""
    if rows.patience_ns is None:
        return None
    waits_s = rows.patience_ns[rows.patience_ns != NULL] / 1e9
    p50, p99 = np.quantile(waits_s, [0.5, 0.99], method="inverted_cdf").tolist()
    return PatiencePlan(len(waits_s) / len(rows), float(waits_s.mean()), float(p50), float(p99))


def lines(sessions: SessionPlan | None, patience: PatiencePlan | None) -> list[str]:
    """Render for people."""
    found = []
    if sessions is not None:
        sizes = f"p50 {sessions.requests_p50}  p99 {sessions.requests_p99}  max {sessions.requests_max}"
        joins = f"; {sessions.joins} wait for several" if sessions.joins else ""
        found += [
            f"  talk    {sessions.sessions} sessions of mean {sessions.requests_mean:.3g} requests ({sizes})",
            f"  follow  {sessions.followers} requests, after mean {format_s(sessions.delay_mean_s)}{joins}",
        ]
    if patience is not None:
        times = f"mean {format_s(patience.mean_s)}  p50 {format_s(patience.p50_s)}  p99 {format_s(patience.p99_s)}"
        share = "all" if patience.share == 1 else f"{patience.share:.1%} of"
        found.append(f"  wait    {times}, {share} requests, then cancelled")
    return found
