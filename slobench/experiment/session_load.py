"""Loads of sessions for a search: how many requests each brings, how long they go on coming, a probe as a workload."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slobench.config.arrivals import at_rate
from slobench.config.session import Session
from slobench.config.workload import ClosedLoop, Drain, Workload
from slobench.errors import ConfigError
from slobench.experiment.stream import Probe
from slobench.names import NULL
from slobench.segments import shares
from slobench.workload.lengths import draw
from slobench.workload.rows import Rows
from slobench.workload.session_rows import session_rows
from slobench.workload.variates import child

_PILOT = 2_000  # sessions of a class whose waits stand for all
_SIZED = 100_000  # and those whose sizes do


@dataclass(frozen=True, slots=True)
class Extent:
    """What one arrival brings, of all classes together.

    requests: on average. waits_s: planned waits (think time, tools) between the start of its session and a request,
    that 99 % of requests do not exceed; replies: how many replies lie between, in the same way.
    """

    requests: float = 1.0
    waits_s: float = 0.0
    replies: int = 0


def has_sessions(workload: Workload) -> bool:
    """Whether any request follows another."""
    return any(spec.session is not None for spec in workload.classes.values())


def rate_unit(workload: Workload) -> str:
    """What arrivals are: sessions where all begin some, where only some do arrivals."""
    kinds = {spec.session is None for spec in workload.classes.values()}
    return "arrivals/s" if len(kinds) == 2 else "requests/s" if True in kinds else "sessions/s"


def refuse_in_virtual_time(workload: Workload) -> None:
    """Raise ConfigError for what the engine in virtual time does not do: patience, and sessions of a closed loop."""
    for name, spec in workload.classes.items():
        if spec.session is not None and isinstance(workload.loop, ClosedLoop):
            raise ConfigError(
                f"class {name}: users in virtual time send one request after another, not whole sessions\n"
                "  expected  no `session`, an open loop, or real time (without --virtual)"
            )
        if spec.patience is not None:
            raise ConfigError(
                f"class {name}: nobody loses patience with the engine in virtual time, which serves every request\n"
                "  expected  no `patience`, or real time (without --virtual)"
            )


def extent_of(workload: Workload) -> Extent:
    """Measure the sessions of a workload on a pilot. Raises ConfigError where a class has no rate that can be held."""
    mean, waits, replies, weights = 0.0, [], [], []
    for name, share in shares(workload).items():
        spec = workload.classes[name]
        if spec.session is None:
            mean += share
            waits.append(np.zeros(1))
            replies.append(np.zeros(1))
            weights.append(np.array([share]))
            continue
        rows = session_rows(spec, spec.session, name, 0, np.zeros(_PILOT, np.int64), None)
        mean += share * (_mean_size(spec.session, name) or len(rows) / _PILOT)
        waited, depth = _behind(rows)
        waits.append(waited / 1e9)
        replies.append(depth)
        weights.append(np.full(len(rows), share / _PILOT))
    weight = np.concatenate(weights)
    return Extent(mean, _quantile(np.concatenate(waits), weight), round(_quantile(np.concatenate(replies), weight)))


def _mean_size(session: Session, name: str) -> float | None:
    """Requests of a session on average; None where they end by their length in tokens."""
    if session.max_tokens is not None:
        return None
    return float(draw(session.turns, _SIZED, child(0, "turns", name)).mean()) * max(1, len(session.steps))


def _behind(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """(planned waits in ns, replies) on the longest way from the start of its session to each row."""
    waited, depth = [0] * len(rows), [0] * len(rows)
    delays = np.where(rows.delay_ns == NULL, 0, rows.delay_ns).tolist()
    for row, bits in enumerate(rows.after.tolist()):
        before = [row - 1 - bit for bit in range(bits.bit_length()) if bits >> bit & 1]
        waited[row] = max((waited[each] for each in before), default=0) + delays[row]
        depth[row] = max((depth[each] + 1 for each in before), default=0)
    return np.array(waited, np.float64), np.array(depth, np.float64)


def _quantile(values: np.ndarray, weight: np.ndarray, q: float = 0.99) -> float:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][np.searchsorted(share, q)])


def offered_for(workload: Workload, probe: Probe) -> Workload:
    """The workload as one probe offers it: arrivals at its rate, warm for `settle_s`, and long enough for its n.

    The classes keep the proportions of their arrivals. A lone request (n = 1) is one without followers.
    """
    parts = shares(workload)
    classes = {
        name: spec.model_copy(update={"arrivals": at_rate(spec.arrivals, parts[name] * probe.rate)})
        for name, spec in workload.classes.items()
        if spec.arrivals is not None
    }
    length_ns = round((probe.settle_s + probe.n / (probe.rate * probe.requests_each)) * 1e9)
    alone = probe.n == 1
    return workload.model_copy(
        update={
            "classes": classes,
            "requests": 1 if alone else None,
            "duration": None if alone else length_ns,
            "warmup": None if alone else round(probe.settle_s * 1e9),
            "drain": Drain(),
            "until": None,
        }
    )
