"""The rows of all classes of a workload, put together: what a plan is made from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slobench.config.arrivals import Burst, mean_rate
from slobench.config.workload import MAX_REQUESTS, ClosedLoop, RequestClass, Workload
from slobench.errors import ConfigError
from slobench.workload.arrivals import offsets_ns
from slobench.workload.lengths import draw_lengths
from slobench.workload.rows import Rows, merged
from slobench.workload.session_rows import session_rows
from slobench.workload.sessions import classes_by_share, deal, turns_for
from slobench.workload.user_rows import user_rows
from slobench.workload.variates import IntArray, child

_PILOT = 1024  # requests whose output lengths stand for the rest where turns are counted


def open_rows(workload: Workload, seed: int) -> tuple[Rows, IntArray]:
    """Rows and class codes of an open loop, in order of the start of their sessions.

    Raises ConfigError for a burst beside other arrivals, and for too many rows.
    """
    classes = workload.classes
    bursts = [name for name, spec in classes.items() if isinstance(spec.arrivals, Burst)]
    if bursts and len(bursts) < len(classes):
        raise ConfigError(
            f"class {bursts[0]}: a burst takes all requests at once and leaves none to the other classes\n"
            "  expected  a burst for every class, or for none"
        )
    n = workload.requests
    if bursts and n is not None:
        return _burst(workload, n, seed)
    horizon_ns = None if workload.duration is None else workload.duration + _tail_ns(workload)
    # The fastest class first: its nth row bounds what is drawn of the others, and the result does not depend on it.
    found: dict[str, Rows] = {}
    for name in sorted(classes, key=lambda name: -_rate(classes[name])):
        found[name] = _class_rows(classes[name], name, seed, n=n, horizon_ns=horizon_ns)
        if n is not None and horizon_ns is None and len(found[name]) >= n:
            horizon_ns = int(np.max(found[name].start_ns)) + 1
    total = sum(map(len, found.values()))
    if total > MAX_REQUESTS and n is None:
        raise ConfigError(f"a plan of {total:,} requests\n  expected  at most {MAX_REQUESTS:,}")
    rows, codes = merged([found[name] for name in classes], n)
    if n is not None and len(rows) < n:
        rows = replace(rows, notes=(*rows.notes, f"{len(rows)} of the {n} requests asked for: recordings hold no more"))
    return rows, codes


def closed_rows(workload: Workload, seed: int) -> tuple[Rows, IntArray]:
    """Rows and class codes of a closed loop: every user's first turn, then every second one; of sessions by user."""
    loop = workload.loop
    assert isinstance(loop, ClosedLoop)
    n = workload.requests or _turns(workload, loop, seed) * loop.users
    if any(spec.session is not None for spec in workload.classes.values()):
        return user_rows(workload, loop.users, n, seed)
    rows, codes = _dealt(workload, n, seed)
    session, turn = deal(n, loop.users)
    return replace(rows, session=session, turn=turn.astype(np.int32)), codes


def _rate(spec: RequestClass) -> float:
    """How fast requests of a class come, as far as that is known."""
    return 0.0 if spec.arrivals is None else mean_rate(spec.arrivals)


def _tail_ns(workload: Workload) -> int:
    return 0 if workload.drain.mode == "cut" else workload.drain.grace


def _class_rows(spec: RequestClass, name: str, seed: int, *, n: int | None, horizon_ns: int | None) -> Rows:
    """Rows of one class of an open loop: at least its first `n`, of sessions that begin before the horizon."""
    if spec.recorded is not None:
        from slobench.workload.recorded import recorded_rows  # readers of all formats: only where one is needed

        rows = recorded_rows(spec.recorded, name, seed, horizon_ns)
        return rows if spec.api != "embeddings" else replace(rows, output_tokens=np.zeros(len(rows), np.int64))
    assert spec.arrivals is not None
    start_ns = offsets_ns(spec.arrivals, n=n, horizon_ns=horizon_ns, rng=child(seed, "arrivals", name))
    if spec.session is not None:
        return session_rows(spec, spec.session, name, seed, start_ns, n)
    return _single(spec, name, seed, start_ns)


def _single(spec: RequestClass, name: str, seed: int, start_ns: IntArray) -> Rows:
    """Rows of a class whose requests belong to no others."""
    return Rows.single(start_ns, *draw_lengths(*spec.lengths, len(start_ns), seed, name))


def _burst(workload: Workload, n: int, seed: int) -> tuple[Rows, IntArray]:
    """All requests, or sessions, at once."""
    (name, spec), *others = workload.classes.items()
    if not others and spec.session is not None:
        return merged([_class_rows(spec, name, seed, n=n, horizon_ns=None)], n)
    grouped = [name for name, each in workload.classes.items() if each.session is not None]
    if grouped:
        raise ConfigError(
            f"class {grouped[0]}: a burst of sessions cannot share its requests with other classes\n"
            "  expected  the burst as the only class, or arrivals with a rate"
        )
    return _dealt(workload, n, seed)


def _dealt(workload: Workload, n: int, seed: int) -> tuple[Rows, IntArray]:
    """Rows without a time, n in all, and the class of each, drawn by share."""
    codes = classes_by_share(n, {name: spec.share for name, spec in workload.classes.items()}, seed)
    counts = np.bincount(codes, minlength=len(workload.classes))
    each = [
        _single(spec, name, seed, np.zeros(count, np.int64))
        for (name, spec), count in zip(workload.classes.items(), counts.tolist(), strict=True)
    ]
    by_class, _ = merged(each, None)
    place = np.empty(n, np.int64)
    place[np.argsort(codes, kind="stable")] = np.arange(n)
    return replace(by_class.take(place), session=np.arange(n)), codes


def _turns(workload: Workload, loop: ClosedLoop, seed: int) -> int:
    """Turns of each user of a closed loop: enough for its duration by the bound of `turns_for`."""
    # Sums of Python, in a fixed order: a dot product rounds differently from machine to machine.
    total = sum(
        spec.share * int(draw_lengths(*spec.lengths, _PILOT, seed, name)[1].sum())
        for name, spec in workload.classes.items()
    )
    mean_output_tokens = total / _PILOT / sum(spec.share for spec in workload.classes.values())
    assert workload.duration is not None
    return turns_for(workload.duration, loop.think_time, users=loop.users, mean_output_tokens=mean_output_tokens)
