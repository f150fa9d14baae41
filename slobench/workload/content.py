"""What prompts are made of: for each row the named streams of tokens that it begins with, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slobench.workload.mixing import mixed_array
from slobench.workload.variates import IntArray, child, raw

TokenCounts = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Contents:
    """Parts of the prompts of n rows, one after the other; read-only.

    Row i has the parts offsets[i] .. offsets[i+1]: for each the first `tokens` tokens of the stream named `key`. Equal
    keys are equal tokens in every process of a run, different keys differ from their first token on. Parts that are
    longer than the row's input_tokens are cut there; what is missing to it is unique to the row, and so is the whole
    prompt of a row without parts.

    offsets: int64, n + 1 of them, ascending. keys: int64. tokens: int32, at least 1 each.
    """

    offsets: IntArray
    keys: IntArray
    tokens: TokenCounts

    def __post_init__(self) -> None:
        for name, kind in (("offsets", np.int64), ("keys", np.int64), ("tokens", np.int32)):
            kept = np.ascontiguousarray(getattr(self, name), dtype=kind).view()
            kept.flags.writeable = False
            object.__setattr__(self, name, kept)
        bounds = (0, len(self.keys))
        if not len(self.offsets) or (self.offsets[0], self.offsets[-1]) != bounds or (self.counts < 0).any():
            raise ValueError(f"offsets expected from 0 up to the number of parts, {len(self.keys)}")
        if len(self.tokens) != len(self.keys) or (self.tokens < 1).any():
            raise ValueError("a number of tokens, at least 1, expected for each part")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def counts(self) -> IntArray:
        """Parts of each row."""
        return np.diff(self.offsets)

    @cached_property
    def rows(self) -> IntArray:
        """The row that each part belongs to."""
        return np.repeat(np.arange(len(self)), self.counts)

    @property
    def unique(self) -> bool:
        """Whether no row has a part, so that every prompt is unique from its first token on."""
        return not len(self.keys)

    def row(self, i: int) -> tuple[tuple[int, int], ...]:
        """Key and tokens of the parts of row i, in order."""
        low, high = int(self.offsets[i]), int(self.offsets[i + 1])
        return tuple(zip(self.keys[low:high].tolist(), self.tokens[low:high].tolist(), strict=True))

    def take(self, rows: NDArray[Any] | slice) -> Contents:
        """Rows picked by a mask, by positions or as a slice, in that order."""
        if isinstance(rows, slice) and rows.step in (None, 1):  # without a copy
            start, stop, _ = rows.indices(len(self))
            offsets = self.offsets[start : max(start, stop) + 1]
            parts = slice(int(offsets[0]), int(offsets[-1]))
            return Contents(offsets - offsets[0], self.keys[parts], self.tokens[parts])
        picked = np.arange(len(self))[rows]
        offsets = _offsets(self.counts[picked])
        # The kth part of a picked row stands k places behind its first one.
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[picked] - offsets[:-1], self.counts[picked])
        return Contents(offsets, self.keys[at], self.tokens[at])

    def joined(self, more: Contents) -> Contents:
        """These rows, and then those."""
        return Contents(
            np.concatenate([self.offsets, more.offsets[1:] + self.offsets[-1]]),
            np.concatenate([self.keys, more.keys]),
            np.concatenate([self.tokens, more.tokens]),
        )

    def then(self, more: Contents) -> Contents:
        """The same rows, each with its own parts and after them those of `more`."""
        if len(self) != len(more):
            raise ValueError(f"contents of {len(self)} and of {len(more)} rows")
        owners = np.concatenate([self.rows, more.rows])
        order = np.argsort(owners, kind="stable")
        return Contents(
            self.offsets + more.offsets,
            np.concatenate([self.keys, more.keys])[order],
            np.concatenate([self.tokens, more.tokens])[order],
        )

    def scattered(self, positions: IntArray, n: int) -> Contents:
        """These rows at `positions` (all different) of n rows; the others have no parts."""
        source = np.full(n, len(self))
        source[positions] = np.arange(len(self))
        return self.joined(Contents.none(1)).take(source)

    def cut(self, lengths: IntArray) -> Contents:
        """Leave out what lies behind the first `lengths` tokens of each row."""
        total = _offsets(self.tokens.astype(np.int64))
        starts = total[:-1] - total[self.offsets[:-1]][self.rows]
        tokens = np.minimum(self.tokens, lengths[self.rows] - starts)
        there = tokens > 0
        counts = np.bincount(self.rows[there], minlength=len(self))
        return Contents(_offsets(counts), self.keys[there], tokens[there].astype(np.int32))

    @cached_property
    def lengths(self) -> IntArray:
        """Tokens of all parts of each row."""
        total = _offsets(self.tokens.astype(np.int64))
        return total[self.offsets[1:]] - total[self.offsets[:-1]]

    @classmethod
    def none(cls, n: int) -> Contents:
        """Make n rows without parts."""
        return cls(np.zeros(n + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.int32))

    @classmethod
    def one_each(cls, keys: IntArray, tokens: IntArray) -> Contents:
        """Make rows of one part each; of none where its tokens are 0."""
        there = tokens > 0
        return cls(_offsets(there.astype(np.int64)), keys[there], tokens[there].astype(np.int32))

    @classmethod
    def of_blocks(cls, offsets: IntArray, keys: IntArray, input_tokens: IntArray, block_tokens: int) -> Contents:
        """Make rows of the blocks of a recorded prefix cache: one key for each `block_tokens` tokens of a prompt.

        The last block of a row ends with its prompt. Blocks that begin behind the end are left out; what the blocks do
        not reach is unique to the row.
        """
        return cls(offsets, keys, np.full(len(keys), block_tokens, np.int32)).cut(input_tokens)


def content_keys(seed: int, purpose: str, name: str, numbers: IntArray) -> IntArray:
    """Name streams by number: all different, and others for another seed, purpose or name (of the class)."""
    return mixed_array(numbers, int(raw(1, child(seed, f"content/{purpose}", name))[0]))


def _offsets(counts: IntArray) -> IntArray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
