"""Rows of a class that replays a recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slobench.config.arrivals import Process
from slobench.config.recorded import Recorded, Spread
from slobench.config.session import LOOK_BACK
from slobench.config.workload import MAX_REQUESTS
from slobench.errors import ConfigError
from slobench.names import NULL
from slobench.units import format_duration_ns
from slobench.workload.arrivals import offsets_ns
from slobench.workload.content import Contents
from slobench.workload.rows import Rows
from slobench.workload.traces import ops
from slobench.workload.traces.prompts import Prompts, cumulative, salted
from slobench.workload.traces.read import format_of, read_trace
from slobench.workload.traces.schema import Trace
from slobench.workload.traces.sessions import renumbered, turns_of
from slobench.workload.variates import IntArray, child, raw

_POOL = "servegen"
_BY_TURN = 32  # bits of a turn in a key of session and turn


def recorded_rows(spec: Recorded, name: str, seed: int, horizon_ns: int | None) -> Rows:
    """Rows of a class that replays a recording: every record once, in the recorded order.

    horizon_ns: what would be due later, going by its recorded time, is left out. The rows' notes say what else is.
    The same for the same file, spec and seed. Raises ConfigError for a file that cannot be read, and where nothing of
    it is left.
    """
    source = cumulative(_read(spec, name, seed, horizon_ns))
    prompts = Prompts.of(source)
    trace = ops.sped_up(_picked(source, spec, name, seed), spec.speed)
    trace = _fitting(ops.scaled_tokens(trace, spec.scale_tokens, spec.block_tokens), spec)
    contents, n = prompts.contents(trace, seed), len(trace)
    trace = trace.without("blocks")
    if spec.process is None:
        trace, at = _as_recorded(trace, spec, name, seed, horizon_ns)
    else:
        trace, at = _by_process(trace, spec, spec.process, name, seed, horizon_ns)
    if spec.turns == "after-reply":
        order = _by_session(trace)
        trace, at = trace.take(order), at[order]
        rows = _following(trace, spec.speed)
    else:
        rows = _rows(trace)
    told = tuple(f"class {name}: {note}" for note in (*trace.notes, *rows.notes))
    return replace(rows, contents=_of_rounds(contents, at, n), notes=told)


def _read(spec: Recorded, name: str, seed: int, horizon_ns: int | None) -> Trace:
    """Read the file; of a client pool, sample only what is wanted."""
    path = Path(spec.file)
    kind = format_of(path) if spec.format == "auto" else spec.format
    if kind != _POOL:
        return read_trace(path, kind)
    to_ns = spec.to
    if horizon_ns is not None and spec.loop == 1 and spec.process is None:
        until = spec.from_ + round(horizon_ns * spec.speed)
        to_ns = until if to_ns is None else min(to_ns, until)
    drawn = int(raw(1, child(seed, "recorded/pool", name))[0])
    return read_trace(path, kind, seed=drawn, from_ns=spec.from_, to_ns=to_ns)


def _picked(trace: Trace, spec: Recorded, name: str, seed: int) -> Trace:
    """The records that are asked for and can be replayed."""
    if spec.label is not None:
        trace = ops.of_class(trace, spec.label)
    if (spec.from_ or spec.to is not None) and trace.format != _POOL:
        trace = ops.sliced(trace, spec.from_, spec.to)
    trace = _without(trace, trace.numbers("failed") == 1, "failed when they were recorded")
    unknown = (trace.numbers("input_tokens") == NULL) | (trace.numbers("output_tokens") == NULL)
    trace = _without(trace, unknown, "have no length")
    lengths = {each: trace.numbers(each) for each in ("input_tokens", "output_tokens")}
    empty = sum(int((column == 0).sum()) for column in lengths.values())
    if empty:
        trace = trace.with_numbers(**{each: np.maximum(column, 1) for each, column in lengths.items()})
        trace = _noted(trace, f"{empty} lengths of 0 tokens are replayed as 1")
    return _some(ops.thinned(trace, spec.keep, child(seed, "recorded/keep", name)), spec)


def _fitting(trace: Trace, spec: Recorded) -> Trace:
    if spec.max_tokens is None:
        return trace
    long = trace.numbers("input_tokens") + trace.numbers("output_tokens") > spec.max_tokens
    return _some(_without(trace, long, f"are longer than {spec.max_tokens} tokens"), spec)


def _without(trace: Trace, bad: NDArray[np.bool_], why: str) -> Trace:
    if not bad.any():
        return trace
    return _noted(trace.take(~bad), f"{bad.sum()} of {len(bad)} requests {why} and are left out")


def _noted(trace: Trace, note: str) -> Trace:
    return replace(trace, notes=(*trace.notes, note))


def _some(trace: Trace, spec: Recorded) -> Trace:
    """The trace, if there is anything in it."""
    if len(trace):
        return trace
    told = "".join(f"\n  {note}" for note in trace.notes)
    raise ConfigError(f"nothing of {spec.file} is left to replay{told}\n  expected  another part or label of it")


def _as_recorded(trace: Trace, spec: Recorded, name: str, seed: int, horizon_ns: int | None) -> tuple[Trace, IntArray]:
    """All rounds at their recorded times, and where each row stood in them."""
    if not trace.timed:
        raise ConfigError(
            f"class {name}: {spec.file} has no arrival times\n"
            "  expected  recorded.arrivals with a process, e.g. {process: poisson, rate: 5}"
        )
    rounds = spec.loop if horizon_ns is None else min(spec.loop, -(-horizon_ns // ops.period_ns(trace)))
    trace = _every_round(trace, rounds)
    spread = isinstance(spec.arrivals, Spread)
    if not spread and trace.bin_ns and len(np.unique(trace.numbers("arrival_ns"))) < len(trace) / 2:
        width = format_duration_ns(trace.bin_ns)
        trace = _noted(trace, f"requests come all at once every {width}: `arrivals: spread` undoes the recorder's bins")
    if spread:
        if not trace.bin_ns:
            trace = _noted(trace, "recorded times are exact: there are no bins to spread them in")
        trace = ops.spread_in_bins(trace, child(seed, "recorded/spread", name))
    if horizon_ns is not None:
        trace = ops.sliced(trace, 0, horizon_ns)
    return trace, np.arange(len(trace))


def _by_process(  # each is one fact of the class
    trace: Trace, spec: Recorded, process: Process, name: str, seed: int, horizon_ns: int | None
) -> tuple[Trace, IntArray]:
    """Sessions, and requests without one, in the recorded order at the times of a process, and where each row stood."""
    units = _units(trace)
    several = len(np.unique(units))
    if not trace.timed and several < len(trace) and spec.turns == "as-recorded":
        raise ConfigError(
            f"class {name}: {spec.file} has no times between the turns of a session\n  expected  turns: after-reply"
        )
    n = min(several * spec.loop, MAX_REQUESTS)
    due = offsets_ns(process, n=n, horizon_ns=horizon_ns, rng=child(seed, "arrivals", name))
    trace = _every_round(trace, -(-len(due) // several) if len(due) else 1)
    units, arrival = _units(trace), trace.numbers("arrival_ns")
    begun = np.full(int(units.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(begun, units, arrival)
    at = np.flatnonzero(units < len(due))
    times = due[units[at]] + arrival[at] - begun[units[at]]
    if horizon_ns is not None:
        at, times = at[times < horizon_ns], times[times < horizon_ns]
    order = np.argsort(times, kind="stable")
    return trace.take(at[order]).with_numbers(arrival_ns=times[order]), at[order]


def _every_round(trace: Trace, rounds: int) -> Trace:
    if len(trace) * rounds > MAX_REQUESTS:
        raise ConfigError(
            f"{len(trace) * rounds:,} recorded requests\n  expected  at most {MAX_REQUESTS:,}: a smaller part or loop"
        )
    return ops.looped(trace, rounds)


def _of_rounds(contents: Contents, at: IntArray, n: int) -> Contents | None:
    """What prompts begin with in a loop over n rows, keys of each round others; None where they are all unique."""
    if contents.unique:
        return None
    if len(at) == n and (at == np.arange(n)).all():
        return contents
    taken = contents.take(at % n)
    return salted(taken, np.repeat(at // n, taken.counts))


def _units(trace: Trace) -> IntArray:
    """Numbers of sessions and, among them, of requests without one, in the order in which they begin."""
    session = trace.numbers("session")
    alone = session == NULL
    # Beyond all numbers of sessions.
    own = np.arange(len(trace)) + int(np.max(session, initial=0)) + 1
    return renumbered(np.where(alone, own, session))


def _rows(trace: Trace) -> Rows:
    """Rows that are each due at their recorded time."""
    numbers = _units(trace)
    rows = Rows.single(trace.numbers("arrival_ns"), trace.numbers("input_tokens"), trace.numbers("output_tokens"))
    images = np.maximum(trace.numbers("images"), 0).astype(np.int32)
    return replace(rows, session=numbers, turn=turns_of(numbers).astype(np.int32), images=images)


def _by_session(trace: Trace) -> IntArray:
    """Positions of the rows by start of the session, session and turn."""
    return np.lexsort((np.maximum(trace.numbers("turn"), 0), _units(trace)))


def _following(trace: Trace, speed: float) -> Rows:
    """Rows that wait for what they waited for when they were recorded; the trace stands in order of sessions.

    Without a recorded delay it is what passed, as fast as all else, from the end of that to the request.
    """
    rows = _rows(trace)
    arrival = trace.numbers("arrival_ns")
    after = _after(trace, rows)
    elapsed = np.rint(np.maximum(trace.numbers("elapsed_ns"), 0) / speed).astype(np.int64)
    ended = np.full(len(rows), NULL)
    for back in range(1, LOOK_BACK + 1):
        at = np.flatnonzero(after >> (back - 1) & 1)
        ended[at] = np.maximum(ended[at], arrival[at - back] + elapsed[at - back])
    follows = after != 0
    told = trace.numbers("delay_ns")
    delay = np.where(told != NULL, told, np.maximum(arrival - np.where(follows, ended, 0), 0))
    guessed = follows & (told == NULL)
    notes: tuple[str, ...] = ()
    if guessed.any() and not trace.has("elapsed_ns"):
        notes = ("how long replies took is not recorded: turns wait after the reply what passed since the request",)
    return replace(
        rows,
        start_ns=np.where(follows, NULL, arrival),
        after=after,
        delay_ns=np.where(follows, delay, NULL),
        notes=notes,
    )


def _after(trace: Trace, rows: Rows) -> IntArray:
    """What each row waits for, as bits; for the one before it where what it waited for is not replayed."""
    later = rows.turn > 0
    after = later.astype(np.int64)
    if not trace.has("after"):
        return after
    listed = trace.there("after")
    offsets, turns = trace.lists("after")
    row = np.repeat(np.arange(len(rows)), np.diff(offsets))
    keys = (rows.session << _BY_TURN) + np.maximum(trace.numbers("turn"), 0)
    wanted = (rows.session[row] << _BY_TURN) + turns
    found = np.searchsorted(keys, wanted)
    back = row - found
    there = (keys[np.minimum(found, len(keys) - 1)] == wanted) & (back > 0) & (back <= LOOK_BACK)
    bits = np.zeros(len(rows), np.int64)
    np.bitwise_or.at(bits, row[there], np.int64(1) << (back[there] - 1))
    waits = np.diff(offsets) > 0
    return np.where(listed, np.where(waits & (bits == 0), after, bits), after)
