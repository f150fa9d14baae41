"""What a prefix cache could find of prompts: by rule, not by measurement.

A prompt is looked up from its start: what is found is the longest beginning that it has in common with an earlier
prompt, in whole blocks. An infinite cache keeps everything; one of limited capacity gives up the longest unused block
first, the end of a prompt before its start. Neither knows that requests overlap in time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np

from slobench.workload.content import Contents
from slobench.workload.mixing import mixed_pair
from slobench.workload.variates import IntArray

_BLOCKS_AT_ONCE = 1 << 20
_DIGITS = 4  # of 256, that hold the index of any row of a plan
_PART_BITS = 31  # of a number of tokens


class Partial(Enum):
    """What becomes of the last block of a prompt, where the prompt does not fill it."""

    SERVER = "server"
    """It is never found, and a prompt's last token is always computed, for it gives the next one (vLLM)."""
    RECORDED = "recorded"
    """It has a hash as every other block has, and is found where the whole prompt is (Mooncake's traces)."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A server's prefix cache: tokens of a block, and how many blocks; None: not known."""

    block_tokens: int
    blocks: int | None = None


@dataclass(frozen=True, slots=True)
class Sharing:
    """How much of some prompts a cache finds."""

    requests: int
    tokens: int
    hit_tokens: int
    blocks: int
    hit_blocks: int

    @property
    def token_hit_rate(self) -> float:
        """Share of the prompts' tokens that are found; 0 where there are none."""
        return self.hit_tokens / self.tokens if self.tokens else 0.0

    @property
    def block_hit_rate(self) -> float:
        """Share of the prompts' blocks that are found; 0 where there are none."""
        return self.hit_blocks / self.blocks if self.blocks else 0.0


def hits(  # each is one fact of the cache
    contents: Contents,
    input_tokens: IntArray,
    block_tokens: int,
    order: IntArray | None = None,
    capacity_blocks: int | None = None,
    partial: Partial = Partial.SERVER,
    output_tokens: IntArray | None = None,
) -> Sharing:
    """How much of the prompts is found. order: positions of the rows in time; None: as they stand.

    output_tokens: of replies, which fill blocks of a limited cache too, all but the last token of each.
    """
    found = hit_tokens(contents, input_tokens, block_tokens, order, capacity_blocks, partial, output_tokens)
    return sharing_of(found, input_tokens, block_tokens, partial)


def sharing_of(found: IntArray, input_tokens: IntArray, block_tokens: int, partial: Partial) -> Sharing:
    """Sum over rows, of which `hit_tokens` has found so much."""
    whole = input_tokens if partial is Partial.SERVER else input_tokens + block_tokens - 1
    hit = found if partial is Partial.SERVER else found + block_tokens - 1
    return Sharing(
        requests=len(found),
        tokens=int(input_tokens.sum()),
        hit_tokens=int(found.sum()),
        blocks=int((whole // block_tokens).sum()),
        hit_blocks=int((hit // block_tokens).sum()),
    )


def hit_tokens(  # as `hits`
    contents: Contents,
    input_tokens: IntArray,
    block_tokens: int,
    order: IntArray | None = None,
    capacity_blocks: int | None = None,
    partial: Partial = Partial.SERVER,
    output_tokens: IntArray | None = None,
) -> IntArray:
    """Tokens of each row that are found, in whole blocks (under Partial.RECORDED the last one may be shorter)."""
    if order is not None:
        found = np.empty(len(input_tokens), np.int64)
        replies = None if output_tokens is None else output_tokens[order]
        found[order] = hit_tokens(
            contents.take(order), input_tokens[order], block_tokens, None, capacity_blocks, partial, replies
        )
        return found
    most = input_tokens - 1 if partial is Partial.SERVER else input_tokens
    if partial is Partial.RECORDED:
        contents, input_tokens = _filled_up(contents, input_tokens, block_tokens)
    if capacity_blocks is None:
        common = common_tokens(contents, input_tokens)
    else:
        kept = input_tokens if output_tokens is None else input_tokens + np.maximum(output_tokens - 1, 0)
        each = _found_in_lru(contents, input_tokens, kept // block_tokens, block_tokens, capacity_blocks)
        common = np.fromiter(each, np.int64, len(input_tokens))
    if partial is Partial.SERVER:
        return np.minimum(common, most) // block_tokens * block_tokens
    return np.minimum(common // block_tokens * block_tokens, most)


def common_tokens(contents: Contents, input_tokens: IntArray) -> IntArray:
    """Length of the longest beginning that each row has in common with any row before it, in tokens."""
    contents = contents.cut(input_tokens)
    nodes = _nodes(contents)
    order = np.argsort(nodes, kind="stable")  # rows of one node stay in order
    lengths, first = contents.tokens[order].astype(np.int64), np.ones(len(nodes), bool)
    first[1:] = np.diff(nodes[order]) != 0
    # The longest so far within each node: nodes are lifted above each other, so that the maximum starts anew.
    lift = np.cumsum(first) << _PART_BITS
    before = np.zeros(len(nodes), np.int64)
    before[1:] = (np.maximum.accumulate(lift + lengths) - lift)[:-1]
    before[first] = 0
    found = np.zeros(len(nodes) + 1, np.int64)
    found[order + 1] = np.minimum(lengths, before)
    # A part that is not found whole has none behind it that was met before.
    total = np.cumsum(found)
    return np.asarray(total[contents.offsets[1:]] - total[contents.offsets[:-1]])


def distinct_prompts(contents: Contents, input_tokens: IntArray, index: IntArray) -> int:
    """Return how many different prompts there are at least, in a vocabulary of 256 pieces; a larger one has more.

    Prompts of the same parts differ by what their index is in the digits that there is room for (PromptMaker).
    """
    contents = contents.cut(input_tokens)
    own = input_tokens - contents.lengths
    short = np.flatnonzero(own < _DIGITS)  # with more, no two indices have the same digits
    last = contents.offsets[1:][short] - 1
    some = contents.counts[short] > 0
    name = np.zeros(len(short), np.int64)
    name[some] = mixed_pair(_nodes(contents)[last[some]], contents.tokens[last[some]].astype(np.int64))
    digits = index[short] % 256 ** own[short]
    return len(input_tokens) - len(short) + len(np.unique(mixed_pair(name, own[short] << 32 | digits)))


def block_ids(contents: Contents, input_tokens: IntArray, block_tokens: int) -> tuple[IntArray, IntArray]:
    """Offsets by row and chain ids of the whole blocks that are made of parts.

    Two ids are equal where all tokens from the start of the prompt to the block's end are.
    """
    contents = contents.cut(input_tokens)
    nodes, lengths = _nodes(contents), contents.lengths
    counts = lengths // block_tokens
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    rows = np.repeat(np.arange(len(counts)), counts)
    end = (np.arange(offsets[-1]) - offsets[rows] + 1) * block_tokens  # of the block, in its row
    # The part that the block's last token is in: row by row, all parts lie one after the other.
    ends = np.cumsum(contents.tokens, dtype=np.int64)
    at = np.searchsorted(ends, (np.cumsum(lengths) - lengths)[rows] + end)
    return offsets, mixed_pair(nodes[at], end)


def _nodes(contents: Contents) -> IntArray:
    """Name where each part stands: equal where its own key and, whole, all parts before it are."""
    nodes = np.empty(len(contents.keys), np.int64)
    rows = np.flatnonzero(contents.counts)
    parents = np.zeros(len(rows), np.int64)
    level = 0
    while len(rows):
        at = contents.offsets[rows] + level
        here = nodes[at] = mixed_pair(parents, contents.keys[at])
        level += 1
        more = contents.counts[rows] > level
        rows, parents = rows[more], mixed_pair(here[more], contents.tokens[at[more]].astype(np.int64))
    return nodes


def _found_in_lru(
    contents: Contents, input_tokens: IntArray, filled: IntArray, block_tokens: int, capacity: int
) -> Iterator[int]:
    """Tokens of each row that a cache of `capacity` blocks finds; filled: blocks that it and its reply take there."""
    held: OrderedDict[int, int] = OrderedDict()  # name -> blocks, the longest unused first
    used = 0
    for row, (ids, rest) in enumerate(_rows_in_blocks(contents, input_tokens, filled, block_tokens)):
        found = 0
        for block in ids:
            if block not in held:
                break
            found += 1
        yield found * block_tokens
        used += rest + len(ids)
        if rest:
            held[-1 - row] = rest  # blocks that are nobody else's have one name
        for block in reversed(ids):
            used -= held.pop(block, 0)
            held[block] = 1
        while used > capacity:
            oldest, blocks = held.popitem(last=False)
            used -= blocks
            if used < capacity and blocks > 1:  # the run of unique blocks is given up in part
                held[oldest] = capacity - used
                held.move_to_end(oldest, last=False)
                used = capacity


def _rows_in_blocks(
    contents: Contents, input_tokens: IntArray, filled: IntArray, block_tokens: int
) -> Iterator[tuple[list[int], int]]:
    """Names (from 0 up) of the blocks of each row that may be found, and the number of its others."""
    edges = np.cumsum(filled) // _BLOCKS_AT_ONCE
    for part in np.split(np.arange(len(filled)), np.flatnonzero(np.diff(edges)) + 1):
        piece = contents.take(slice(part[0], part[-1] + 1)) if len(part) else contents
        offsets, ids = block_ids(piece, input_tokens[part], block_tokens)
        names = (ids & np.int64(2**63 - 1)).tolist()
        for (low, high), whole in zip(pairwise(offsets.tolist()), filled[part].tolist(), strict=True):
            yield names[low:high], whole - (high - low)


def _filled_up(contents: Contents, input_tokens: IntArray, block_tokens: int) -> tuple[Contents, IntArray]:
    """Lengthen prompts to whole blocks; where parts reach to the end, the rest is a block of a name of its own."""
    contents = contents.cut(input_tokens)
    rest = input_tokens % block_tokens
    whole = (contents.lengths == input_tokens) & (rest > 0)
    last = contents.offsets[1:][whole] - 1
    keys = np.zeros(len(input_tokens), np.int64)
    keys[whole] = mixed_pair(_nodes(contents)[last], contents.tokens[last].astype(np.int64))
    ends = Contents.one_each(keys, np.where(whole, block_tokens, 0))
    kept = contents.cut(np.where(whole, input_tokens - rest, input_tokens))
    return kept.then(ends), input_tokens + -rest % block_tokens
