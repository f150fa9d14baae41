"""Rows of sessions: turns and steps, what each waits for, and prompts that grow with the history."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from slobench.config.content import Prefix
from slobench.config.session import Session, ordered, waits_of
from slobench.config.workload import MAX_REQUESTS, RequestClass
from slobench.errors import ConfigError
from slobench.names import NULL
from slobench.workload.content import Contents, content_keys
from slobench.workload.durations import draw_ns
from slobench.workload.history import history_of
from slobench.workload.lengths import draw, draw_lengths
from slobench.workload.prefix import ROOM, session_prefixes
from slobench.workload.rows import Rows
from slobench.workload.variates import IntArray, child


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each row of all sessions stands. first: of each session, its first row; size: of each, its rows.

    Of each row: session, place in it, turn and step.
    """

    first: IntArray
    size: IntArray
    session: IntArray
    place: IntArray
    turn: IntArray
    step: IntArray

    @classmethod
    def of(cls, turns: IntArray, steps: int) -> Layout:
        """Rows of sessions of so many turns, each of so many steps."""
        size = turns * steps
        first = np.cumsum(size) - size
        session = np.repeat(np.arange(len(turns)), size)
        place = np.arange(len(session)) - first[session]
        return cls(first, size, session, place, place // steps, place % steps)


def session_rows(spec: RequestClass, session: Session, name: str, seed: int, start_ns: IntArray, n: int | None) -> Rows:
    """Rows of the sessions that begin at `start_ns`; of as many of them as make `n` rows, where n is given.

    Raises ConfigError where they are more than a plan holds.
    """
    turns = draw(session.turns, len(start_ns), child(seed, "turns", name))
    if n is None:
        return _rows(spec, session, name, seed, start_ns, turns)
    steps = max(1, len(session.steps))
    enough = int(np.searchsorted(np.cumsum(turns) * steps, n)) + 1
    rows = _rows(spec, session, name, seed, start_ns[:enough], turns[:enough])
    while len(rows) < n and enough < len(start_ns):  # some were too long for max_tokens
        enough *= 2
        rows = _rows(spec, session, name, seed, start_ns[:enough], turns[:enough])
    return rows


def _rows(  # private, and each is one fact
    spec: RequestClass, session: Session, name: str, seed: int, start_ns: IntArray, turns: IntArray
) -> Rows:
    steps = max(1, len(session.steps))
    total = float(turns.sum()) * steps
    if total > MAX_REQUESTS:
        raise ConfigError(f"class {name}: {total:,.0f} requests in its sessions\n  expected  at most {MAX_REQUESTS:,}")
    at = Layout.of(turns, steps)
    input_tokens, output_tokens = _lengths(spec, session, name, seed, at)
    after, delay_ns = _after(session, at), _delays(session, name, seed, at)
    rows = replace(
        Rows.single(np.where(after == 0, start_ns[at.session] + delay_ns, NULL), input_tokens, output_tokens),
        session=at.session,
        turn=at.place.astype(np.int32),
        after=after,
        delay_ns=np.where(after == 0, NULL, delay_ns),
    )
    if session.history == "cumulative":
        rows = _with_history(rows, session, name, seed, at)
        rows = replace(rows, input_tokens=rows.input_tokens + spec.shared_prefix_tokens)
    if spec.prefix is not None:
        rows = _with_prefix(rows, spec.prefix, name, seed, on_top=session.history == "cumulative")
    return rows if session.max_tokens is None else _bounded(rows, session.max_tokens)


def _lengths(spec: RequestClass, session: Session, name: str, seed: int, at: Layout) -> tuple[IntArray, IntArray]:
    """New input tokens and output tokens of each row."""
    n = len(at.session)
    if not session.steps:
        return draw_lengths(*spec.lengths, n, seed, name)
    input_tokens, output_tokens = np.empty(n, np.int64), np.empty(n, np.int64)
    for number, step in enumerate(ordered(session.steps)):
        mine = at.step == number
        lengths = (step.input_tokens or spec.lengths[0], step.output_tokens or spec.lengths[1])
        input_tokens[mine], output_tokens[mine] = draw_lengths(*lengths, int(mine.sum()), seed, f"{name}/{step.name}")
    return input_tokens, output_tokens


def _after(session: Session, at: Layout) -> IntArray:
    first, later = (np.array(waits_of(session.steps, more_turns=more), dtype=np.int64) for more in (False, True))
    return np.where(at.turn == 0, first[at.step], later[at.step])


def _delays(session: Session, name: str, seed: int, at: Layout) -> IntArray:
    """Time from the end of what each row waits for to its own start; of a session's first steps, from its start."""
    delays = np.zeros(len(at.session), np.int64)
    for number, step in enumerate(ordered(session.steps)):
        mine = at.step == number
        delays[mine] = draw_ns(step.delay, int(mine.sum()), child(seed, "delay", f"{name}/{step.name}"))
    opens = np.array([not wait for wait in waits_of(session.steps, more_turns=False)])  # steps that begin a turn
    # One thought a turn, whatever number of steps it begins with.
    begins = (at.step == 0) & (at.turn > 0)
    thought = np.zeros(len(at.session), np.int64)
    thought[begins] = draw_ns(session.think_time, int(begins.sum()), child(seed, "think_time", name))
    of_turn = thought[at.first[at.session] + at.turn * len(opens)]
    return np.where(opens[at.step], delays + of_turn, delays)


def _with_history(rows: Rows, session: Session, name: str, seed: int, at: Layout) -> Rows:
    """Rows whose prompts begin with what was said before; what all prompts of the class begin with is not in it."""
    if session.steps:
        tokens, contents = history_of(rows, at.first, at.size, seed=seed, name=name)
    else:  # one stream a session, of which each prompt is a beginning
        said = rows.input_tokens + rows.output_tokens
        before = np.cumsum(said) - said
        tokens = before - before[at.first[at.session]] + rows.input_tokens
        keys = content_keys(seed, "session/0", name, np.arange(len(at.first)))
        contents = Contents.one_each(keys[at.session], tokens)
    return replace(rows, input_tokens=tokens, contents=contents)


def _with_prefix(rows: Rows, prefix: Prefix, name: str, seed: int, *, on_top: bool) -> Rows:
    """Rows whose prompts begin with what their session picked of the pool; on_top: it comes to their input tokens."""
    keys, tokens = session_prefixes(prefix, name, seed, int(np.max(rows.session, initial=-1)) + 1)
    own, input_tokens = tokens[rows.session], rows.input_tokens
    if on_top:
        input_tokens = input_tokens + own
    begun = Contents.one_each(keys[rows.session], np.clip(input_tokens - ROOM, 0, own))
    return replace(
        rows, input_tokens=input_tokens, contents=begun if rows.contents is None else begun.then(rows.contents)
    )


def _bounded(rows: Rows, max_tokens: int) -> Rows:
    """Sessions up to the first row that is too long; one without any row left is gone."""
    too_long = rows.input_tokens + rows.output_tokens > max_tokens
    first = np.full(int(np.max(rows.session, initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, rows.session[too_long], rows.turn[too_long].astype(np.int64))
    return rows.take(rows.turn < first[rows.session])
