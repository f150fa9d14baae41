"""Prompts rebuilt from hashes and sessions: equal hashes are equal tokens, in few parts, whatever part is replayed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.names import NULL
from slobench.workload.content import Contents
from slobench.workload.prompts import PromptMaker
from slobench.workload.sharing import Partial, hits
from slobench.workload.traces.blocks import blocks_of, text_blocks
from slobench.workload.traces.prompts import Prompts, cumulative
from slobench.workload.traces.read import read_trace
from slobench.workload.traces.schema import Trace, list_array, make_trace
from tests.workload.traces.strategies import traces
from tests.workload.traces.writing import AIPERF, jsonl, put


def of_blocks(rows: list[tuple[int, list[int]]], size: int = 4, **columns: list[int]) -> Trace:
    """A trace of (input tokens, blocks), a second apart."""
    offsets = np.cumsum([0, *(len(blocks) for _, blocks in rows)])
    ids = np.array([each for _, blocks in rows for each in blocks], dtype=np.int64)
    return make_trace(
        {
            "arrival_ns": np.arange(len(rows)) * 10**9,
            "input_tokens": np.array([tokens for tokens, _ in rows]),
            "output_tokens": np.ones(len(rows), dtype=np.int64),
            "blocks": list_array(offsets, ids, np.diff(offsets) > 0),
            **{name: np.array(values) for name, values in columns.items()},
        },
        format="mooncake",
        block_tokens=size,
    )


def tokens_of(contents: Contents, input_tokens: list[int], *, nonce: str = "0123456789abcdef") -> list[list[int]]:
    """The prompts as a server would see them, as token ids."""
    maker = PromptMaker(seed=3, nonce=nonce, token_ids=(100, 60_000), class_names=["a"], shared_prefix_tokens={})
    prompts = [maker.json(row, 0, n, contents.row(row)) for row, n in enumerate(input_tokens)]
    return [orjson.loads(prompt) for prompt in prompts]


chains = st.lists(
    st.lists(st.integers(0, 1), max_size=6).map(
        lambda path: [2 ** (i + 1) + sum(path[: i + 1]) for i in range(len(path))]
    ),
    min_size=1,
    max_size=8,
)


@given(lists=chains, left=st.integers(0, 3))
def test_equal_hashes_are_equal_tokens_and_others_differ(lists: list[list[int]], left: int) -> None:
    """Two prompts agree exactly as long as their hashes do: to the token, in prompts as they are sent."""
    size = 4
    rows = [(max(1, size * len(blocks) - left), blocks) for blocks in lists]
    trace = of_blocks(rows, size)
    sent = tokens_of(Prompts.of(trace).contents(trace, 3), [n for n, _ in rows])
    for a in range(len(rows)):
        assert len(sent[a]) == rows[a][0]
        for b in range(a):
            same = common(lists[a], lists[b])
            least = min(same * size, len(sent[a]), len(sent[b]))
            assert sent[a][:least] == sent[b][:least]
            if least < min(len(sent[a]), len(sent[b])):
                assert sent[a][least] != sent[b][least]


def common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@given(trace=traces())
def test_few_parts_share_what_all_blocks_share(trace: Trace) -> None:
    """Runs of blocks as one stream, unique ends left out: every cache finds what it would find of single blocks."""
    trace = trace.without("session") if trace.has("session") else trace
    input_tokens, size = trace.numbers("input_tokens"), trace.block_tokens or 16
    few = Prompts.of(trace).contents(trace, 0)
    all_of_them = Contents.of_blocks(*trace.lists("blocks"), input_tokens, size)
    assert len(few.keys) <= len(all_of_them.keys)
    for block in (size, 16):
        for kind in Partial:
            assert hits(few, input_tokens, block, partial=kind) == hits(all_of_them, input_tokens, block, partial=kind)


@given(trace=traces(), data=st.data())
def test_a_part_of_a_trace_has_the_prompts_of_the_whole(trace: Trace, data: st.DataObject) -> None:
    """Whichever rows are replayed, their parts are those that they have in the whole trace."""
    prompts = Prompts.of(trace)
    picked = np.array(data.draw(st.lists(st.booleans(), min_size=len(trace), max_size=len(trace))))
    whole, part = prompts.contents(trace, 5), prompts.contents(trace.take(picked), 5)
    if trace.has("session"):  # epochs of a session's history count from its first row that is there
        return
    assert [part.row(i) for i in range(len(part))] == [whole.row(i) for i in np.flatnonzero(picked)]


def test_hashes_that_name_no_prefix_are_streams_of_their_own() -> None:
    """A hash of a chunk alone, wherever it stands, holds the same tokens."""
    trace = of_blocks([(8, [1, 2]), (8, [3, 2]), (4, [2])])
    sent = tokens_of(Prompts.of(trace).contents(trace, 3), [8, 8, 4])
    assert sent[0][4:] == sent[1][4:] == sent[2]
    assert sent[0][:4] != sent[1][:4]


def test_another_trace_has_other_tokens() -> None:
    """Ids are numbers from 0 in many traces; the same number in another recording is another block."""
    a, b = of_blocks([(8, [0, 1])] * 2), of_blocks([(8, [0, 1])] * 3)
    assert a.digest != b.digest
    keys = [Prompts.of(each).contents(each, 3).keys[0] for each in (a, b)]
    assert keys[0] != keys[1]


def test_a_session_is_one_stream_until_its_history_is_cut() -> None:
    """Each prompt begins with the one before it; a shorter one begins anew, and so do other sessions."""
    trace = of_blocks([(5, []), (9, []), (7, []), (12, []), (6, [])], session=[0, 0, 0, 0, 1])
    sent = tokens_of(Prompts.of(trace).contents(trace, 3), [5, 9, 7, 12, 6])
    assert sent[1][:5] == sent[0]
    assert sent[3][:7] == sent[2]
    assert sent[2][0] != sent[1][0]
    assert sent[4][0] not in {sent[0][0], sent[2][0]}


def test_deltas_become_whole_prompts(tmp_path: Path) -> None:
    """Each later turn holds prompts and replies before it, and what is new; blocks name all of that."""
    trace = read_trace(put(tmp_path / "a.jsonl", jsonl(AIPERF)))
    whole = cumulative(trace)
    assert whole.history == "cumulative"
    assert whole.numbers("input_tokens").tolist() == [1000, 600, 1000 + 100 + 300, 1000 + 100 + 300 + 40 + 30]
    offsets, names = whole.lists("blocks")
    rows = [names[low:high].tolist() for low, high in pairwise(offsets)]
    assert whole.block_tokens == 16
    assert [len(each) for each in rows] == [63, 38, 88, 92]
    assert rows[0][:32] == rows[1][:32] == rows[2][:32]  # block 0 leads all
    assert rows[2][:62] == rows[0][:62]
    assert rows[2][62] != rows[0][62]  # 8 tokens of the prompt, then the reply
    assert rows[3][:87] == rows[2][:87]
    sent = tokens_of(Prompts.of(whole).contents(whole, 3), whole.numbers("input_tokens").tolist())
    assert sent[3][:1392] == sent[2][:1392]
    assert sent[2][:512] == sent[0][:512]


@given(trace=traces(blocks=False), data=st.data())
def test_totals_of_deltas_are_running_sums(trace: Trace, data: st.DataObject) -> None:
    """Of each session: input of all turns so far and output of all before."""
    from dataclasses import replace

    whole = cumulative(replace(trace, history="delta"))
    session, turn = trace.numbers("session").tolist(), trace.numbers("turn").tolist()
    asked, said = trace.numbers("input_tokens").tolist(), trace.numbers("output_tokens").tolist()
    for row, total in enumerate(whole.numbers("input_tokens").tolist()):
        before = [
            i for i in range(len(trace)) if session[row] != NULL and session[i] == session[row] and turn[i] < turn[row]
        ]
        assert total == asked[row] + sum(asked[i] + said[i] for i in before)


@given(
    rows=st.lists(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 40)), max_size=4), min_size=1, max_size=6),
    more=st.integers(0, 20),
    size=st.sampled_from([1, 7, 16]),
)
def test_blocks_of_parts_share_what_the_parts_share(rows: list, more: int, size: int) -> None:
    """Parts turned into blocks: a cache of that block size finds the same whole blocks."""
    offsets = np.cumsum([0, *map(len, rows)])
    flat = [part for row in rows for part in row]
    contents = Contents(offsets, np.array([k for k, _ in flat], np.int64), np.array([t for _, t in flat], np.int32))
    input_tokens = np.array([max(1, sum(t for _, t in row) + more) for row in rows])
    column = blocks_of(contents, input_tokens, size)
    made = make_trace(
        {"arrival_ns": np.arange(len(rows)), "input_tokens": input_tokens, "blocks": column}, format="slobench"
    )
    again = Contents.of_blocks(*made.lists("blocks"), input_tokens, size)
    assert hits(again, input_tokens, size) == hits(contents, input_tokens, size)


def test_pieces_of_text() -> None:
    """Whole pieces only; each name stands for all up to its end."""
    a, b = text_blocks("abcdefgh" + "x", 4), text_blocks("abcdefgh", 4)
    assert a == b
    assert len(a) == 2
    assert text_blocks("zbcdefgh", 4)[1] != a[1]
    assert text_blocks("abc", 4) == []


@pytest.mark.parametrize("seeds", [(1, 2)])
def test_another_seed_has_other_tokens(seeds: tuple[int, int]) -> None:
    """Runs with other seeds share no cache."""
    trace = of_blocks([(8, [0, 1])] * 2)
    one, other = (Prompts.of(trace).contents(trace, seed).keys.tolist() for seed in seeds)
    assert not set(one) & set(other)
