"""Qwen-Bailian traces: JSON lines of chat requests with parents and the hashes of prompt blocks.

Keys chat_id, parent_chat_id (-1: none), timestamp (s), input_length, output_length, type, turn, hash_ids of 16 tokens
each [github.com/alibaba-edu/qwen-bailian-usagetraces-anon; Wang et al. 2025, ATC].
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from slobench.names import NULL
from slobench.workload.traces.lines import Key, Lines, read_lines
from slobench.workload.traces.mooncake import block_size, unused
from slobench.workload.traces.schema import Trace, list_array, make_trace
from slobench.workload.traces.sessions import turns_of
from slobench.workload.traces.vidur import in_ns
from slobench.workload.variates import IntArray

KEYS = ("chat_id", "parent_chat_id", "timestamp", "input_length", "output_length")
_BLOCK_TOKENS = 16


def read(path: Path, *, block_tokens: int = _BLOCK_TOKENS) -> Trace:
    """Read a Bailian trace: a session is a chat with all that continues it, its label the type of the request."""
    lines = read_lines(
        path,
        [
            Key("chat_id", "name", required=True),
            Key("parent_chat_id", "name"),
            Key("timestamp", "number", required=True),
            Key("input_length", "whole", required=True),
            Key("output_length", "whole", required=True),
            Key("type", "text"),
            Key("turn", "whole"),
            Key("hash_ids", "wholes"),
        ],
    )
    arrival = in_ns(lines.reals("timestamp"))
    session, parent, orphans = _linked(lines, np.argsort(arrival, kind="stable"))
    turn = _turns(session, arrival)
    columns = {
        "arrival_ns": arrival,
        "input_tokens": lines.wholes("input_length"),
        "output_tokens": lines.wholes("output_length"),
        "class": lines.text_column("type"),
        "session": session,
        "turn": turn,
        "after": _after(turn, parent),
        "blocks": lines.list_column("hash_ids"),
    }
    has_blocks = len(lines.lists("hash_ids")[1]) > 0
    size = block_size(lines, "hash_ids", columns["input_tokens"], (block_tokens,)) if has_blocks else None
    notes = unused(lines)
    if orphans:
        notes.append(f"{orphans} requests continue a chat that is not in this file; they begin sessions of their own")
    return make_trace(columns, format="bailian", block_tokens=size, notes=notes)


def _linked(lines: Lines, order: IntArray) -> tuple[IntArray, IntArray, int]:
    """Session and row of the parent (NULL: none) of each row, and how many parents are missing."""
    ids, parents = lines.texts("chat_id"), lines.texts("parent_chat_id")
    session, parent = np.empty(len(ids), dtype=np.int64), np.full(len(ids), NULL)
    row_of: dict[str | None, int] = {}
    orphans = 0
    for row in order.tolist():
        above = parents[row]
        if above in row_of and above is not None:
            parent[row] = row_of[above]
            session[row] = session[row_of[above]]
        else:
            orphans += above not in {None, "-1"}
            session[row] = row
        row_of[ids[row]] = row
    return session, parent, orphans


def _turns(session: IntArray, arrival: IntArray) -> IntArray:
    order = np.argsort(arrival, kind="stable")
    turn = np.empty(len(session), dtype=np.int64)
    turn[order] = turns_of(session[order])
    return turn


def _after(turn: IntArray, parent: IntArray) -> pa.Array:
    """The turn of the parent, where it is not the one before."""
    above = np.where(parent == NULL, NULL, turn[np.maximum(parent, 0)])
    told = (above != NULL) & (above != turn - 1)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(told)])
    return list_array(offsets, above[told], told)
