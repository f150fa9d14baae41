"""Prompts of sessions that branch and join: what each begins with, so that equal histories are equal tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slobench.workload.content import Contents, content_keys
from slobench.workload.rows import Rows
from slobench.workload.variates import IntArray


@dataclass(frozen=True, eq=False)
class _Part:
    """The beginning of a stream, up to the reply of `last`: its tokens in each session that has it."""

    stream: int
    last: int
    tokens: IntArray


class Streams:
    """The streams of a session, found row by row: a row goes on with the stream of the last one that it waits for.

    Of several rows that follow the same one, the first goes on with its stream; each other begins one of its own.
    """

    def __init__(self) -> None:
        self._tip: list[int] = []  # of each stream, the row that was added last
        self._whole: list[list[_Part]] = []  # of each row, prompt and reply

    def add(self, waits: list[int], input_tokens: IntArray, output_tokens: IntArray) -> list[_Part]:
        """Parts of the prompt of the next row, which waits for these; tokens in the sessions that have it."""
        row, n = len(self._whole), len(input_tokens)
        parts: list[_Part] = []
        for before in waits:
            for part in self._whole[before]:
                at = next((i for i, each in enumerate(parts) if each.stream == part.stream), None)
                if at is None:
                    parts.append(part)
                elif parts[at].last < part.last:
                    parts[at] = part
        parts = [_Part(part.stream, part.last, part.tokens[:n]) for part in parts]
        if parts and self._tip[parts[-1].stream] == parts[-1].last:
            own = parts.pop()
        else:
            own = _Part(len(self._tip), row, np.zeros(n, np.int64))
            self._tip.append(row)
        self._tip[own.stream] = row
        prompt = own.tokens + input_tokens
        self._whole.append([*parts, _Part(own.stream, row, prompt + output_tokens)])
        return [*parts, _Part(own.stream, row, prompt)]


def history_of(rows: Rows, first: IntArray, size: IntArray, *, seed: int, name: str) -> tuple[IntArray, Contents]:
    """(tokens of each prompt with its history, what it begins with) for sessions of one shape and several lengths.

    first, size: of each session, its first row and how many it has; a shorter one is the beginning of a longer one.
    """
    order = np.argsort(-size, kind="stable")
    having = np.searchsorted(-size[order], -np.arange(int(size.max(initial=0))), side="left")
    streams = Streams()
    owners, numbers, tokens = [], [], []
    for place, count in enumerate(having.tolist()):
        mine = first[order[:count]] + place
        bits = int(rows.after[mine[0]])
        waits = [place - 1 - bit for bit in range(bits.bit_length() - 1, -1, -1) if bits >> bit & 1]
        for part in streams.add(waits, rows.input_tokens[mine], rows.output_tokens[mine]):
            owners.append(mine)
            numbers.append(np.full(count, part.stream))
            tokens.append(part.tokens)
    if not owners:
        return rows.input_tokens, Contents.none(0)
    owner, number, each = np.concatenate(owners), np.concatenate(numbers), np.concatenate(tokens)
    by_row = np.argsort(owner, kind="stable")
    owner, number, each = owner[by_row], number[by_row], each[by_row]
    counts = np.bincount(owner, minlength=len(rows))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    keys = np.empty(len(owner), np.int64)
    for stream in range(int(number.max()) + 1):
        of_stream = number == stream
        keys[of_stream] = content_keys(seed, f"session/{stream}", name, rows.session[owner[of_stream]])
    return np.add.reduceat(each, offsets[:-1]), Contents(offsets, keys, each.astype(np.int32))
