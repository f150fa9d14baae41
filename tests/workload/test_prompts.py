"""Prompts: exact length, valid JSON, in range, and met by no server before."""

import hashlib
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.errors import ConfigError
from slobench.workload.prompts import PromptMaker, prompt_refs

NONCE = "0123456789abcdef"
OTHER = "0123456789abcdee"
BLOCK = 16  # tokens of a vLLM cache block
IDS = (100, 4000)
KINDS = st.sampled_from([IDS, (0, 256), (7, 128_000), None])
few = settings(deadline=None, max_examples=40)


def maker(*, seed=1, nonce=NONCE, token_ids=IDS, names=("a",), shared=None):
    """Make a PromptMaker, all but what is given as usual."""
    return PromptMaker(
        seed=seed, nonce=nonce, token_ids=token_ids, class_names=names, shared_prefix_tokens=shared or {}
    )


def pieces(prompt):
    """Return the tokens of a prompt: ids, or words."""
    value = json.loads(prompt)
    return value.split(" ") if isinstance(value, str) else value


def blocks(prompts, size=BLOCK):
    """Return the distinct first blocks."""
    return {tuple(pieces(prompt)[:size]) for prompt in prompts}


@few
@given(
    token_ids=KINDS,
    shared=st.integers(0, 300),
    code=st.integers(0, 1),
    n=st.one_of(st.integers(1, 400), st.integers(65_000, 140_000)),
    index=st.integers(0, 2**62),
)
def test_a_prompt_is_json_of_exactly_n_tokens_in_range(token_ids, shared, code, n, index):
    """Whatever is asked, a prompt parses as JSON and has exactly n ids within [low, high), or n plain words."""
    made = pieces(maker(token_ids=token_ids, names=("a", "b"), shared={"b": shared}).json(index, code, n))
    assert len(made) == n
    if token_ids:
        assert all(token_ids[0] <= piece < token_ids[1] for piece in made)
    else:
        assert all(piece.isascii() and piece.isalpha() for piece in made)


@pytest.mark.parametrize("token_ids", [IDS, (0, 256), None])
def test_no_two_prompts_of_a_run_share_their_first_block(token_ids):
    """20,000 prompts of one run have 20,000 different first blocks, and neighbours differ in their first token."""
    made = maker(token_ids=token_ids)
    prompts = [made.json(index, 0, 20) for index in range(20_000)]
    assert len(blocks(prompts)) == 20_000
    assert all(pieces(a)[0] != pieces(b)[0] for a, b in pairwise(prompts))


@pytest.mark.parametrize("token_ids", [IDS, (0, 256), None])
@pytest.mark.parametrize("change", [{"nonce": OTHER}, {"seed": 2}])
def test_no_two_runs_share_a_first_block(token_ids, change):
    """With another nonce, though it differs in one bit, or another seed, no first block comes again."""
    one = maker(token_ids=token_ids)
    two = maker(token_ids=token_ids, **change)
    first = blocks(one.json(index, 0, 20) for index in range(5000))
    assert not first & blocks(two.json(index, 0, 20) for index in range(5000))


@pytest.mark.parametrize(("token_ids", "n", "distinct"), [(IDS, 1, 3900), ((0, 256), 1, 256), ((0, 256), 2, 65_536)])
def test_short_prompts_repeat_none_before_all_are_used(token_ids, n, distinct):
    """As many prompts of n tokens are different as there are sequences of n tokens."""
    made = maker(token_ids=token_ids)
    assert len({made.json(index, 0, n) for index in range(distinct)}) == distinct


def test_prompts_of_a_few_tokens_are_unique_between_classes():
    """The index alone makes a prompt unique: two classes never send the same one."""
    made = maker(names=("a", "b"))
    assert len({made.json(index, index % 2, 3) for index in range(10_000)}) == 10_000


def test_the_seed_changes_the_whole_prompt():
    """Of two prompts that differ in the seed, fewer tokens agree by chance than 6 standard deviations, all along."""
    n = 4000
    one, two = (np.array(pieces(maker(seed=seed).json(0, 0, n))) for seed in (1, 2))
    for part in np.split(one == two, 4):
        expected = len(part) / 3900
        assert part.sum() < expected + 6 * np.sqrt(expected) + 1


def test_neighbours_differ_in_their_filler_too():
    """Two prompts of one run do not share their filler at the same place."""
    made = maker()
    one, two = (np.array(pieces(made.json(index, 0, 1000))) for index in (0, 1))
    assert (one == two)[BLOCK:].mean() < 0.01


@few
@given(token_ids=KINDS, prefix=st.integers(1, 200), n=st.integers(1, 500))
def test_a_shared_prefix_is_shared_and_the_rest_is_not(token_ids, prefix, n):
    """Requests of a class agree in its prefix as far as their length leaves room for the index, and differ after it."""
    made = maker(token_ids=token_ids, names=("a", "b"), shared={"a": prefix})
    one, two = pieces(made.json(10, 0, n)), pieces(made.json(11, 0, n))
    room = max(0, n - 8)  # the index takes at most 8 tokens
    same = min(prefix, room)
    assert one[:same] == two[:same]
    assert one != two
    if n >= prefix + 8:
        assert one[prefix] != two[prefix]
    assert pieces(made.json(10, 1, n))[:1] != one[:1] or n < 9


def test_shared_prefixes_differ_between_classes_and_between_runs():
    """Two classes, and two runs of one class, have prefixes of which no first block is the same."""
    shared = {"a": 64, "b": 64}
    one = maker(names=("a", "b"), shared=shared)
    two = maker(names=("a", "b"), shared=shared, nonce=OTHER)
    assert len(blocks([one.json(0, 0, 100), one.json(0, 1, 100), two.json(0, 0, 100), two.json(0, 1, 100)])) == 4


def test_prompts_are_pinned():
    """The same seed, nonce, class, index and length give the same bytes on every machine."""
    state = hashlib.sha256()
    for token_ids in (IDS, None):
        made = maker(token_ids=token_ids, names=("a", "b"), shared={"b": 50})
        for index in range(20):
            state.update(made.json(index, index % 2, 7 * index + 1))
    assert state.hexdigest() == GOLDEN


def test_references_tell_prompts_apart():
    """Prompt references are different for every index, and for another seed, class or shared prefix."""
    rows = np.arange(10_000, dtype=np.int64)
    columns = [
        prompt_refs(rows, seed=seed, name=name, shared_prefix_tokens=shared)
        for seed, name, shared in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 8)]
    ]
    assert len(np.unique(np.concatenate(columns))) == 4 * len(rows)


@pytest.mark.parametrize("nonce", ["", "abc", "G" * 16, "0123456789ABCDEF"])
def test_a_nonce_of_another_form_is_refused(nonce):
    """A nonce that is not 16 hexadecimal digits is an error."""
    with pytest.raises(ConfigError, match="16 hexadecimal"):
        maker(nonce=nonce)


GOLDEN = "a665b51c642dbb575013c8cfb40c49a61aabb7f92a640adc25de0c904c0bc402"
