"""Prompt blocks: their names made of what prompts hold, and the few streams of tokens that stand for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slobench.workload.content import Contents
from slobench.workload.mixing import mixed_pair
from slobench.workload.traces.schema import Trace, list_array
from slobench.workload.variates import IntArray


def blocks_of(contents: Contents, input_tokens: IntArray, block_tokens: int) -> pa.Array:
    """The blocks of each prompt that its parts fill, each named by what of which streams stands in it."""
    row, tokens = contents.rows, contents.tokens.astype(np.int64)
    ends = np.cumsum(tokens)
    before = np.concatenate([np.zeros(1, np.int64), ends])[contents.offsets[:-1]]  # in all rows before this one
    start = ends - tokens - before[row]
    end = np.minimum(start + tokens, input_tokens[row])
    # Parts cut where blocks end: each piece lies in one block.
    first, beyond = start // block_tokens, -(-end // block_tokens)
    pieces = np.maximum(beyond - first, 0)
    part = np.repeat(np.arange(len(row)), pieces)
    block = np.arange(len(part)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + first[part]
    low, high = np.maximum(start[part], block * block_tokens), np.minimum(end[part], (block + 1) * block_tokens)
    place = (low % block_tokens) * (block_tokens + 1) + high - low
    names = mixed_pair(mixed_pair(contents.keys[part], low - start[part]), place)
    opens = np.ones(len(part), dtype=np.bool_)
    opens[1:] = (row[part][1:] != row[part][:-1]) | (block[1:] != block[:-1])
    at = np.flatnonzero(opens)
    if not len(at):
        return pa.nulls(len(contents), pa.list_(pa.int64()))
    named = np.add.reduceat(names.view(np.uint64), at).view(np.int64)
    filled = np.add.reduceat(high - low, at)
    owner = row[part][at]
    whole = filled == np.minimum(block_tokens, input_tokens[owner] - block[at] * block_tokens)
    counts = np.bincount(owner[whole], minlength=len(contents))
    return list_array(np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), named[whole], counts > 0)


def text_blocks(text: str, characters: int) -> list[int]:
    """Names of the whole pieces of so many characters that a text has, each of it and all before it."""
    whole = range(0, len(text) - characters + 1, characters)
    return pieces(text[at : at + characters].encode("utf-8", "replace") for at in whole)


def pieces(chunks: Iterable[bytes]) -> list[int]:
    """Names of the pieces of a prompt, each of it and all before it."""
    names, name = [], b""
    for chunk in chunks:
        name = blake2b(name + chunk, digest_size=8).digest()
        names.append(int.from_bytes(name, "little", signed=True))
    return names


@dataclass(frozen=True, eq=False)
class Segments:
    """Blocks that always come together, found in a whole recording: one stream of tokens stands for each run of them.

    ids: the names of all blocks, ascending; None where they are 0, 1, 2, … anyway. opens: of each, whether a stream
    begins with it. once: of each, whether it comes only once, so that what it holds is known to nobody else.
    """

    ids: IntArray | None
    opens: NDArray[np.bool_]
    once: NDArray[np.bool_]

    @classmethod
    def of(cls, trace: Trace) -> Segments:
        """Find them: a block goes on with the stream of the one before it where neither is ever without the other.

        The end of a prompt parts no blocks: a stream can be taken in part.
        """
        offsets, names = trace.lists("blocks")
        dense = bool(len(names)) and int(names.min()) >= 0 and int(names.max()) < 2 * len(names)
        ids = None if dense else np.unique(names)
        code = names.astype(np.int32) if ids is None else np.searchsorted(ids, names).astype(np.int32)
        n = int(names.max()) + 1 if ids is None else len(ids)
        first = _first(offsets, len(names))
        before = np.roll(code, 1)
        before[first] = -1
        pred = np.full(n, -1, dtype=np.int32)
        pred[code] = before
        opens = np.zeros(n, dtype=np.bool_)
        opens[code[first]] = True
        opens[code[pred[code] != before]] = True
        inner = ~first
        succ = np.full(n, -1, dtype=np.int32)
        succ[before[inner]] = code[inner]
        forks = np.zeros(n, dtype=np.bool_)
        forks[before[inner][succ[before[inner]] != code[inner]]] = True
        opens |= (pred >= 0) & forks[pred]
        return cls(ids, opens, np.bincount(code, minlength=n) == 1)

    def codes(self, names: IntArray) -> IntArray:
        """Positions of blocks in `opens` and `once`."""
        return names if self.ids is None else np.searchsorted(self.ids, names)

    def contents(self, trace: Trace) -> Contents:
        """What prompts begin with, by runs of blocks; keys are the names of the blocks that open them.

        A prompt's end that comes only once is left out: it is unique anyway.
        """
        offsets, names = trace.lists("blocks")
        size = trace.block_tokens or 1
        counts = np.diff(offsets)
        row = np.repeat(np.arange(len(trace)), counts)
        code = self.codes(names)
        starts = np.flatnonzero(self.opens[code] | _first(offsets, len(names)))
        owner = row[starts]
        place = starts - offsets[owner]
        tokens = trace.numbers("input_tokens")[owner] - place * size
        blocks = np.diff(np.append(starts, len(names)))
        last = np.append(owner[1:] != owner[:-1], True) if len(owner) else np.empty(0, np.bool_)
        taken = np.minimum(blocks * size, tokens)
        kept = (taken > 0) & ~(last & self.once[code[starts]])
        owned = np.bincount(owner[kept], minlength=len(trace))
        at = np.concatenate([np.zeros(1, np.int64), np.cumsum(owned)])
        return Contents(at, names[starts[kept]], taken[kept].astype(np.int32))


def _first(offsets: IntArray, n: int) -> NDArray[np.bool_]:
    """Which of n values open a list."""
    first = np.zeros(n, dtype=np.bool_)
    first[offsets[:-1][np.diff(offsets) > 0]] = True
    return first
