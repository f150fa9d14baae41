"""What the prompts of a recording hold, as far as it says: blocks by their hashes, sessions by their history."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from slobench.names import NULL
from slobench.workload.content import Contents, content_keys
from slobench.workload.mixing import mixed_array, mixed_pair
from slobench.workload.traces.blocks import Segments, blocks_of
from slobench.workload.traces.schema import Trace
from slobench.workload.traces.sessions import turns_of
from slobench.workload.variates import IntArray

_ASKED, _SAID = 0xA5CED, 0x5A1D
_FINE, _MOST_PIECES = 16, 20_000_000


@dataclass(frozen=True, eq=False)
class Prompts:
    """How prompts of one recording are made, whichever part of it is replayed: equal hashes, equal tokens.

    digest: of the recording. segments: None where it has no blocks.
    """

    digest: str
    segments: Segments | None

    @classmethod
    def of(cls, trace: Trace) -> Prompts:
        """Look through a whole recording, before any of it is left out."""
        return cls(trace.digest, Segments.of(trace) if trace.has("blocks") else None)

    def contents(self, trace: Trace, seed: int) -> Contents:
        """What the prompts of a part of the recording begin with.

        Those with blocks: these. Others that belong to a session: a stream of its own, of which each prompt is a
        beginning; a prompt shorter than the one before it had its history cut, and begins anew.
        """
        n = len(trace)
        parts = Contents.none(n) if self.segments is None else self.segments.contents(trace)
        named = Contents(parts.offsets, content_keys(seed, "recorded", self.digest, parts.keys), parts.tokens)
        alone = np.diff(trace.lists("blocks")[0]) == 0 if trace.has("blocks") else np.ones(n, dtype=np.bool_)
        spoken = alone & (trace.numbers("session") != NULL)
        if not spoken.any():
            return named
        keys = content_keys(seed, "recorded session", self.digest, _histories(trace))
        return named.then(Contents.one_each(keys, np.where(spoken, trace.numbers("input_tokens"), 0)))


def salted(contents: Contents, turns: IntArray) -> Contents:
    """The same contents in other rounds of a loop, `turns` of each part: no key of one round is a key of another."""
    return replace(contents, keys=np.where(turns == 0, contents.keys, mixed_pair(contents.keys, turns)))


def cumulative(trace: Trace) -> Trace:
    """The trace with whole prompts in later turns, where the recorder wrote only what is new in each.

    A prompt is then the prompts and the replies of the turns before it, and what is new; its blocks, where there are
    some, name all of that in smaller pieces, for turns do not end where blocks do.
    """
    session = trace.numbers("session")
    if trace.history == "cumulative" or not (session != NULL).any():
        return replace(trace, history="cumulative")
    order = np.lexsort((trace.numbers("turn"), session))
    turn = np.where(session[order] == NULL, 0, turns_of(session[order]))
    # For each row, in that order, itself and all turns of its session before it.
    size = turn + 1
    at = np.cumsum(size) - size
    source = np.arange(int(size.sum())) - np.repeat(at - (np.arange(len(turn)) - turn), size)
    asked, said = (np.maximum(trace.numbers(name), 0)[order] for name in ("input_tokens", "output_tokens"))
    totals = np.add.reduceat((asked + said)[source], at) - said
    whole = np.empty(len(totals), dtype=np.int64)
    whole[order] = totals
    whole[trace.numbers("input_tokens") == NULL] = NULL
    full = replace(trace.with_numbers(input_tokens=whole), history="cumulative")
    if not trace.has("blocks"):
        return full
    spoken = _spoken(trace).take(order).take(source)
    counts = spoken.offsets[np.append(at, len(source))]
    contents = Contents(counts, spoken.keys, spoken.tokens)
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    piece = _piece(trace.block_tokens or 1, int(np.maximum(whole, 0).sum()))
    return replace(full.with_column("blocks", blocks_of(contents.take(back), whole, piece)), block_tokens=piece)


def _piece(block_tokens: int, tokens: int) -> int:
    """How many tokens a piece of a prompt has: 16, or what of it divides a block; more where they were too many."""
    size = math.gcd(block_tokens, _FINE)
    while tokens // size > _MOST_PIECES and block_tokens % (2 * size) == 0:
        size *= 2
    return size


def _spoken(trace: Trace) -> Contents:
    """Of each row: its blocks, what they leave of what is new in its prompt, and its reply."""
    offsets, ids = trace.lists("blocks")
    asked, said = trace.numbers("input_tokens"), np.maximum(trace.numbers("output_tokens"), 0)
    blocks = Contents.of_blocks(offsets, ids, asked, trace.block_tokens or 1)
    covered = np.zeros(len(trace), dtype=np.int64)
    np.add.at(covered, blocks.rows, blocks.tokens)
    own = mixed_pair(trace.numbers("session"), trace.numbers("turn"))
    rest = Contents.one_each(mixed_array(own, _ASKED), np.maximum(asked - covered, 0))
    return blocks.then(rest).then(Contents.one_each(mixed_array(own, _SAID), said))


def _histories(trace: Trace) -> IntArray:
    """A number for each row's session, and another one from each prompt on that is shorter than the one before it."""
    session, tokens = trace.numbers("session"), trace.numbers("input_tokens")
    order = np.lexsort((trace.numbers("turn"), session))
    ordered, lengths = session[order], tokens[order]
    cut = np.zeros(len(order), dtype=np.int64)
    cut[1:] = (ordered[1:] == ordered[:-1]) & (lengths[1:] < lengths[:-1])
    upto = np.cumsum(cut)
    cuts = np.empty(len(order), dtype=np.int64)
    cuts[order] = upto - upto[np.arange(len(order)) - np.maximum(turns_of(ordered), 0)]
    return mixed_pair(session, cuts)
