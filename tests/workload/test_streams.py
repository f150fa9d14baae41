"""Streams: what prompts share is the same in every process of a run, and nothing else is."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.workload.content import Contents, content_keys
from slobench.workload.prompts import PromptMaker

NONCE, OTHER = "0123456789abcdef", "0123456789abcdee"
IDS = (100, 4000)
KINDS = st.sampled_from([IDS, (0, 256), (7, 128_000), None])
KEYS = st.integers(-(2**63), 2**63 - 1)
few = settings(deadline=None, max_examples=40)


def maker(*, seed=1, nonce=NONCE, token_ids=IDS, names=("a", "b"), shared=None):
    """Make a PromptMaker, all but what is given as usual."""
    return PromptMaker(
        seed=seed, nonce=nonce, token_ids=token_ids, class_names=names, shared_prefix_tokens=shared or {}
    )


def pieces(prompt):
    """Return the tokens of a prompt: ids, or words."""
    value = json.loads(prompt)
    return value.split(" ") if isinstance(value, str) else value


@few
@given(
    token_ids=KINDS,
    parts=st.lists(st.tuples(KEYS, st.one_of(st.integers(1, 40), st.integers(1, 70_000))), max_size=5),
    n=st.one_of(st.integers(1, 400), st.integers(65_000, 140_000)),
    shared=st.integers(0, 50),
)
def test_a_prompt_with_parts_has_exactly_n_tokens_in_range(token_ids, parts, n, shared):
    """Whatever its parts, a prompt is JSON with exactly n pieces in range."""
    made = pieces(maker(token_ids=token_ids, shared={"b": shared}).json(5, 1, n, parts))
    assert len(made) == n
    if token_ids:
        assert all(token_ids[0] <= piece < token_ids[1] for piece in made)
    else:
        assert all(piece.isascii() and piece.isalpha() for piece in made)


@few
@given(token_ids=KINDS, key=KEYS, short=st.integers(1, 300), more=st.integers(0, 70_000), before=st.integers(0, 40))
def test_a_part_is_the_beginning_of_its_stream(token_ids, key, short, more, before):
    """Equal keys are equal tokens: in two makers, two classes, any place of a prompt, and as far as the shorter goes."""
    one, two = maker(token_ids=token_ids), maker(token_ids=token_ids)
    whole = pieces(one.json(1, 0, short + more, [(key, short + more)]))
    lead = [(1, before)] if before else []
    placed = pieces(two.json(2, 1, before + short + 9, [*lead, (key, short)]))
    assert placed[before : before + short] == whole[:short]


@few
@given(token_ids=KINDS, keys=st.lists(KEYS, min_size=2, max_size=50, unique=True))
def test_streams_of_two_keys_differ_in_their_first_pieces(token_ids, keys):
    """The digits of a key, at most 8 pieces, tell it apart from every other one."""
    made = maker(token_ids=token_ids)
    assert len({made.json(0, 0, 8, [(key, 8)]) for key in keys}) == len(keys)


@pytest.mark.parametrize("token_ids", [IDS, (0, 256), None])
def test_streams_differ_from_their_first_token_on(token_ids):
    """As far as a vocabulary allows, and all along: no more tokens agree than chance has it."""
    made = maker(token_ids=token_ids)
    keys = content_keys(3, "test", "a", np.arange(400)).tolist()
    streams = np.array([pieces(made.json(0, 0, 64, [(key, 64)])) for key in keys])
    base = 792 if token_ids is None else token_ids[1] - token_ids[0]
    pairs = len(keys) ** 2 / 2 / base  # that agree by chance
    for k in (0, 1, 2, 3, 4, 30, 63):
        assert len(keys) - len(np.unique(streams[:, k])) < pairs + 6 * np.sqrt(pairs)
    agree = (streams[:-1, 16:] == streams[1:, 16:]).mean()
    assert agree < 6 / base + 0.01


@pytest.mark.parametrize("token_ids", [IDS, (0, 256), None])
@pytest.mark.parametrize("change", [{"nonce": OTHER}, {"seed": 2}])
def test_no_stream_comes_again_in_another_run(token_ids, change):
    """With another nonce or seed every stream has another first block."""
    keys = content_keys(3, "test", "a", np.arange(3000)).tolist()
    one, two = maker(token_ids=token_ids), maker(token_ids=token_ids, **change)
    first = {one.json(0, 0, 16, [(key, 16)]) for key in keys}
    assert not first & {two.json(0, 0, 16, [(key, 16)]) for key in keys}


@few
@given(token_ids=KINDS, key=KEYS, part=st.integers(1, 200), rest=st.integers(8, 100))
def test_what_comes_after_the_parts_is_unique(token_ids, key, part, rest):
    """Two requests with one part differ in the first token after it, and from those of another index everywhere."""
    made = maker(token_ids=token_ids)
    one, two = (pieces(made.json(index, 0, part + rest, [(key, part)])) for index in (10, 11))
    assert one[:part] == two[:part]
    assert one[part] != two[part]


def test_a_stream_is_no_unique_prompt():
    """No stream begins as a prompt without parts does."""
    made = maker()
    streams = {tuple(pieces(made.json(0, 0, 16, [(key, 16)]))) for key in range(3000)}
    assert not streams & {tuple(pieces(made.json(index, 0, 16))) for index in range(3000)}


def test_blocks_of_a_recording_are_shared_as_recorded():
    """Prompts of equal hashes have equal blocks, also the partial last one; of different hashes, none."""
    ids = [[1, 2, 3], [1, 2, 4], [1, 2, 3], [5]]
    numbers = np.array([number for row in ids for number in row])
    lengths = np.array([36, 40, 36, 16])
    contents = Contents.of_blocks(
        np.cumsum([0, *map(len, ids)]), content_keys(0, "recorded", "a", numbers), lengths, 16
    )
    made = maker()
    prompts = [pieces(made.json(i, 0, int(n), contents.row(i))) for i, n in enumerate(lengths)]
    assert prompts[0] == prompts[2]
    assert prompts[0][:32] == prompts[1][:32]
    assert prompts[0][32] != prompts[1][32]
    assert prompts[3][0] != prompts[0][0]


_CHILD = """
import sys, hashlib
from slobench.workload.prompts import PromptMaker
token_ids = eval(sys.argv[1])
made = PromptMaker(seed=1, nonce="0123456789abcdef", token_ids=token_ids, class_names=("a", "b"),
                   shared_prefix_tokens={"b": 50})
state = hashlib.sha256()
for index in range(40):
    parts = [(index % 7 - 3, 5 * index + 1), (index << 55, 600)]
    state.update(made.json(index, index % 2, 30 * index + 1, parts))
print(state.hexdigest())
"""


@pytest.mark.parametrize("token_ids", [IDS, None])
def test_streams_are_the_same_in_another_process(token_ids):
    """A process of its own, with other hash seeds, makes the same bytes; they are pinned for every machine."""
    command = [sys.executable, "-c", _CHILD, repr(token_ids)]
    seen = {
        subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout.strip()
        for seed in ("1", "2")
    }
    state = hashlib.sha256()
    made = maker(token_ids=token_ids, shared={"b": 50})
    for index in reversed(range(40)):  # what was made before leaves no trace
        made.json(index, index % 2, 7, [(index % 7 - 3, 4)])
    for index in range(40):
        parts = [(index % 7 - 3, 5 * index + 1), (index << 55, 600)]
        state.update(made.json(index, index % 2, 30 * index + 1, parts))
    assert seen == {state.hexdigest()} == {GOLDEN[token_ids]}


def test_memory_of_streams_is_bounded(monkeypatch):
    """However many streams there are, only so many are kept."""
    monkeypatch.setattr("slobench.workload.prompts._HEADS", 100)
    made = maker()
    for key in range(1000):
        made.json(0, 0, 16, [(key, 16)])
    assert made._head.cache_info().currsize == 100


GOLDEN = {
    IDS: "116caa8388d8d65f4ff25902efc3e3a150fd17d4bfc5dfb95f77feb5adda3323",
    None: "998bc0e29fe21cecf00aa6044ec079da082187db03ad6147a2c986bcd17fcd46",
}
