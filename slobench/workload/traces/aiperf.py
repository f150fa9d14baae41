"""AIPerf's multi-turn form of Mooncake traces: JSON lines, one a turn, of which later ones hold only what is new.

Keys session_id, input_length, output_length, hash_ids of 512 tokens each; timestamp (ms) in the first turn of a
session, delay (ms after the turn before) in the others [github.com/ai-dynamo/aiperf, docs].
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slobench.names import NULL
from slobench.workload.traces.lines import Key, Lines, read_lines
from slobench.workload.traces.mooncake import block_size, unused
from slobench.workload.traces.schema import Trace, make_trace
from slobench.workload.traces.sessions import numbered, turns_of
from slobench.workload.traces.vidur import UNTIMED
from slobench.workload.variates import FloatArray, IntArray

KEYS = ("session_id", "input_length", "output_length")
_MS = 10**6


def read(path: Path, *, block_tokens: int = 512) -> Trace:
    """Read sessions of AIPerf; a later turn's arrival is the one before it and its delay, which no reply took part in.

    Raises ConfigError where only some sessions have a timestamp.
    """
    lines = read_lines(
        path,
        [
            Key("session_id", "name", required=True),
            Key("input_length", "whole", required=True),
            Key("output_length", "whole", required=True),
            Key("timestamp", "number"),
            Key("delay", "number"),
            Key("hash_ids", "wholes"),
        ],
    )
    session = numbered(lines.texts("session_id"))
    turn = turns_of(session)
    times, delays = lines.reals("timestamp"), lines.reals("delay")
    first = turn == 0
    timed = bool((first & ~np.isnan(times)).any())
    if timed:
        lines.refuse(first & np.isnan(times), "no timestamp", "one in every session's first turn, or in none")
    else:
        times = np.where(first, 0.0, times)
    columns = {
        "arrival_ns": _arrivals(session, turn, times, np.where(np.isnan(delays), 0, delays)),
        "input_tokens": lines.wholes("input_length"),
        "output_tokens": lines.wholes("output_length"),
        "session": session,
        "turn": turn,
        "delay_ns": np.where(turn == 0, NULL, np.rint(np.where(np.isnan(delays), 0, delays) * _MS).astype(np.int64)),
        "blocks": lines.list_column("hash_ids"),
    }
    notes = unused(lines) + ([] if timed else [UNTIMED])
    size = _size(lines, columns["input_tokens"], block_tokens)
    return make_trace(columns, format="aiperf", block_tokens=size, history="delta", timed=timed, notes=notes)


def _size(lines: Lines, input_tokens: IntArray, block_tokens: int) -> int | None:
    if not len(lines.lists("hash_ids")[1]):
        return None
    return block_size(lines, "hash_ids", input_tokens, (block_tokens,))


def _arrivals(session: IntArray, turn: IntArray, times: FloatArray, delays: FloatArray) -> IntArray:
    """Arrivals in ns: the recorded ones, else those of the turn before and the delay."""
    origin = float(np.floor(np.nanmin(times)))
    arrival = np.empty(len(session), dtype=np.int64)
    last: dict[int, int] = {}
    rows = zip(session.tolist(), turn.tolist(), (times - origin).tolist(), delays.tolist(), strict=True)
    for row, (number, _, time, delay) in enumerate(rows):
        at = round(time * _MS) if time == time else last[number] + round(delay * _MS)  # noqa: PLR0124 (not NaN)
        last[number] = at
        arrival[row] = at
    return arrival
