"""Sharing: what a prefix cache finds is what the prompts themselves have in common."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slobench.workload.content import Contents, content_keys
from slobench.workload.prompts import PromptMaker
from slobench.workload.sharing import Partial, block_ids, common_tokens, hit_tokens, hits

MOONCAKE = Path(__file__).parents[2].parent / "shared" / "traces" / "mooncake"
few = settings(deadline=None, max_examples=60)
# Few keys and lengths, so that rows have much in common.
ROW = st.tuples(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 12)), max_size=4), st.integers(1, 40))
ROWS = st.lists(ROW, min_size=1, max_size=12)
SIZES = st.integers(1, 9)
MAKER = PromptMaker(seed=1, nonce="0123456789abcdef", token_ids=(0, 10**6), class_names=("a",), shared_prefix_tokens={})


def columns(rows):
    """Contents and input tokens of rows given as (parts, input tokens)."""
    parts = [part for row, _ in rows for part in row]
    contents = Contents(
        np.cumsum([0, *(len(row) for row, _ in rows)]),
        content_keys(0, "test", "a", np.array([key for key, _ in parts], np.int64)),
        np.array([tokens for _, tokens in parts], np.int32),
    )
    return contents, np.array([length for _, length in rows])


def prompts(contents, lengths):
    """The tokens that are really sent."""
    return [json.loads(MAKER.json(i, 0, int(n), contents.row(i))) for i, n in enumerate(lengths)]


def common(one, two):
    """Length of the common beginning of two lists."""
    return next((k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


class Cache:
    """A cache of whole blocks by their tokens, kept in a list from the longest unused to the newest."""

    def __init__(self, block, capacity, *, counts_rest):
        self._block, self._capacity, self._counts_rest = block, capacity, counts_rest
        self._held = []

    def ask(self, tokens, *, whole, reply=0):
        """Tokens found of a prompt, which is kept then; `whole`: it has nothing of its own; and so is its reply."""
        size = self._block
        ends = list(range(size, len(tokens) + 1, size))
        if self._counts_rest and len(tokens) % size:
            ends.append(len(tokens))
        names = [tuple(tokens[:end]) if end % size == 0 or whole else object() for end in ends]
        most = len(ends) if self._counts_rest else (len(tokens) - 1) // size
        found = 0
        while found < most and names[found] in self._held:
            found += 1
        filled = (len(tokens) + max(reply - 1, 0)) // size - len(tokens) // size
        names += [object() for _ in range(filled)]
        self._held = [name for name in self._held if name not in names] + names[::-1]
        del self._held[: max(0, len(self._held) - self._capacity)]
        return min(found * size, len(tokens))


@few
@given(ROWS)
def test_common_tokens_are_those_of_the_prompts(rows):
    """The longest common beginning with an earlier row is the one of the tokens that are sent."""
    contents, lengths = columns(rows)
    made = prompts(contents, lengths)
    expected = [max((common(made[i], made[k]) for k in range(i)), default=0) for i in range(len(made))]
    assert common_tokens(contents, lengths).tolist() == expected


@settings(deadline=None, max_examples=300)
@given(rows=ROWS, block=SIZES, capacity=st.one_of(st.none(), st.integers(1, 60)), partial=st.sampled_from(Partial))
@example(rows=[([(1, 1)], 2), ([(1, 1)], 1)], block=2, capacity=None, partial=Partial.RECORDED)
@example(rows=[([(1, 32)], 32), ([(1, 18)], 18), ([(1, 18)], 18)], block=16, capacity=9, partial=Partial.RECORDED)
def test_hits_are_those_of_a_cache_of_the_prompts(rows, block, capacity, partial):
    """An infinite cache and one that forgets find what a plain cache of the sent tokens finds."""
    contents, lengths = columns(rows)
    recorded = partial is Partial.RECORDED
    cache = Cache(block, 10**9 if capacity is None else capacity, counts_rest=recorded)
    made = prompts(contents, lengths)
    whole = contents.lengths >= lengths
    expected = [cache.ask(prompt, whole=whole[i]) for i, prompt in enumerate(made)]
    assert hit_tokens(contents, lengths, block, None, capacity, partial).tolist() == expected
    total = hits(contents, lengths, block, None, capacity, partial)
    assert (total.tokens, total.hit_tokens) == (lengths.sum(), sum(expected))
    assert total.hit_blocks == sum(-(-found // block) for found in expected)
    assert total.blocks == sum(-(-n // block) if recorded else n // block for n in lengths.tolist())


@few
@given(rows=ROWS, block=SIZES, capacity=st.one_of(st.none(), st.integers(1, 40)), data=st.data())
def test_replies_take_room(rows, block, capacity, data):
    """Blocks that replies fill, their last tokens left out, are kept as those of prompts are, and are nobody else's."""
    contents, lengths = columns(rows)
    replies = np.array(data.draw(st.lists(st.integers(0, 30), min_size=len(rows), max_size=len(rows))))
    cache = Cache(block, 10**9 if capacity is None else capacity, counts_rest=False)
    asked = zip(prompts(contents, lengths), replies.tolist(), strict=True)
    expected = [cache.ask(prompt, whole=False, reply=reply) for prompt, reply in asked]
    found = hit_tokens(contents, lengths, block, None, capacity, output_tokens=replies)
    assert found.tolist() == expected
    turned = np.arange(len(rows))[::-1]
    there = columns([rows[i] for i in turned])
    back = hit_tokens(contents, lengths, block, turned, capacity, output_tokens=replies)
    assert back[turned].tolist() == hit_tokens(*there, block, None, capacity, output_tokens=replies[turned]).tolist()


@few
@given(rows=ROWS, block=SIZES, data=st.data())
def test_order_is_the_order_in_time(rows, block, data):
    """Rows in another order of time give what the rows in that order give."""
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    contents, lengths = columns(rows)
    there = columns([rows[i] for i in order])
    for capacity in (None, 5):
        found = hit_tokens(contents, lengths, block, order, capacity)
        assert found[order].tolist() == hit_tokens(*there, block, None, capacity).tolist()


@few
@given(rows=ROWS, block=SIZES)
def test_block_ids_are_equal_where_all_tokens_up_to_their_end_are(rows, block):
    """Two whole blocks of parts have one id where the prompts agree up to their end, and only there."""
    contents, lengths = columns(rows)
    offsets, ids = block_ids(contents, lengths, block)
    made = prompts(contents, lengths)
    shared = np.minimum(contents.lengths, lengths) // block
    assert np.diff(offsets).tolist() == shared.tolist()
    names = {}
    for i, prompt in enumerate(made):
        for k in range(shared[i]):
            names.setdefault(int(ids[offsets[i] + k]), set()).add(tuple(prompt[: (k + 1) * block]))
    assert all(len(tokens) == 1 for tokens in names.values())
    assert len(names) == len({tokens for each in names.values() for tokens in each})


def test_a_partial_block_counts_by_convention():
    """A server finds whole blocks, and never a prompt's last token; a recorded hash of a rest counts as a block."""
    contents, lengths = columns([([(1, 20)], 20), ([(1, 20)], 20), ([(1, 16)], 16)])
    server = hits(contents, lengths, 16)
    assert (server.blocks, server.hit_blocks, server.hit_tokens) == (3, 1, 16)
    recorded = hits(contents, lengths, 16, partial=Partial.RECORDED)
    assert (recorded.blocks, recorded.hit_blocks, recorded.hit_tokens) == (5, 3, 36)


def test_nothing_shared_is_nothing_found():
    """Unique prompts have no hits; no prompts have rates of 0."""
    total = hits(Contents.none(5), np.full(5, 100), 16)
    assert (total.blocks, total.hit_blocks, total.token_hit_rate) == (30, 0, 0.0)
    empty = hits(Contents.none(0), np.empty(0, np.int64), 16, None, 3)
    assert (empty.block_hit_rate, empty.token_hit_rate) == (0.0, 0.0)


@pytest.mark.skipif(not MOONCAKE.exists(), reason="no recorded traces beside the checkout")
@pytest.mark.parametrize(
    ("name", "blocks", "block_rate", "token_rate"),
    [("conversation", 288_500, 0.3664, 0.3736), ("synthetic", 121_877, 0.6396, 0.6512)],
)
def test_mooncake_hit_rates(name, blocks, block_rate, token_rate):
    """The hit rates of Mooncake's traces with an infinite cache, as one counts them from their hashes."""
    with (MOONCAKE / f"{name}_trace.jsonl").open() as lines:
        rows = [json.loads(line) for line in lines]
    lengths = np.array([row["input_length"] for row in rows])
    ids = np.array([number for row in rows for number in row["hash_ids"]])
    contents = Contents.of_blocks(
        np.cumsum([0, *(len(row["hash_ids"]) for row in rows)]), content_keys(0, "recorded", "", ids), lengths, 512
    )
    total = hits(contents, lengths, 512, partial=Partial.RECORDED)
    assert total.blocks == blocks
    assert total.block_hit_rate == pytest.approx(block_rate, abs=5e-5)
    assert total.token_hit_rate == pytest.approx(token_rate, abs=5e-5)
    fine = hits(contents, lengths, 16)  # a server with small blocks finds a little more
    assert token_rate - 0.001 < fine.token_hit_rate < token_rate + 0.001
    assert hits(contents, lengths, 512, None, blocks, Partial.RECORDED) == total
