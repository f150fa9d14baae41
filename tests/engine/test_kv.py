"""The KV cache: what is found again, what is evicted, and that no block is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.engine.kv import BlockNames, KvCache


def filled(cache: KvCache, hashes: list[int]) -> list[int]:
    """Take, name and give back one block for each hash."""
    cache.take(len(hashes))
    named = cache.name(hashes)
    cache.release(named, len(hashes) - len(named))
    return named


def test_blocks_that_nobody_holds_count_as_free_and_stay_findable():
    """Released blocks are free for anyone, yet found until their room is needed."""
    cache = KvCache(4, prefix_cache=True)
    filled(cache, [1, 2, 3])
    assert cache.free == 4
    assert cache.find([1, 2, 3, 4], 4) == (3, 3)


def test_what_is_forgotten_is_found_no_more_but_for_what_is_held():
    """A reset of the prefix cache leaves running requests their blocks, and the room as it was."""
    cache = KvCache(8, prefix_cache=True)
    filled(cache, [1, 2])
    cache.take(2)
    held = cache.name([3, 4])
    free = cache.free
    cache.forget()
    assert cache.free == free
    assert cache.find([1, 2], 2) == (0, 0)
    assert cache.find([3, 4], 2) == (2, 0)
    cache.release(held, 0)
    assert cache.free == 8


def test_a_prefix_is_found_only_up_to_its_first_missing_block_and_the_limit():
    """A block after a gap is not found, nor one beyond the limit."""
    cache = KvCache(8, prefix_cache=True)
    filled(cache, [1, 2, 4])
    assert cache.find([1, 2, 3, 4], 4) == (2, 2)
    assert cache.find([1, 2], 1) == (1, 1)


def test_the_longest_unused_block_is_evicted_first_and_the_end_of_a_prompt_before_its_start():
    """Eviction takes the older prompt first, from its end."""
    cache = KvCache(4, prefix_cache=True)
    filled(cache, [1, 2])
    filled(cache, [3, 4])
    cache.take(1)
    assert [cache.find([block], 1)[0] for block in (1, 2, 3, 4)] == [1, 0, 1, 1]
    cache.take(2)
    assert [cache.find([block], 1)[0] for block in (1, 2, 3, 4)] == [0, 0, 1, 0]


def test_a_held_block_is_never_evicted():
    """Taking every free block leaves a held one findable."""
    cache = KvCache(3, prefix_cache=True)
    filled(cache, [1, 2])
    cache.hold([1])
    cache.take(cache.free)
    assert cache.find([1, 2], 2) == (1, 0)
    assert cache.usage() == 1.0


def test_a_second_copy_of_a_block_stays_private():
    """Naming a block that is findable already names nothing, and releasing both copies loses no block."""
    cache = KvCache(4, prefix_cache=True)
    cache.take(2)
    first, second = cache.name([7]), cache.name([7])
    assert (first, second) == ([7], [])
    cache.release(first, 0)
    cache.release(second, 1)
    assert cache.free == 4
    assert cache.find([7], 1) == (1, 1)


@given(shared=st.lists(st.integers(0, 99), max_size=6), more=st.integers(0, 6), own=st.integers(-99, -20), at=st.data())
def test_names_of_blocks_are_a_list_that_is_not_written_down(shared, more, own, at):
    """Shared names and then its own, by place, by slice and in order, as a list of them has them."""
    n = len(shared) + more
    whole = [*shared, *range(own, own + more)]
    names = BlockNames(shared, own, n)
    assert list(names) == whole
    assert len(names) == n
    low, high = sorted((at.draw(st.integers(0, n + 2)), at.draw(st.integers(0, n + 2))))
    assert names[low:high] == whole[low:high]
    for k in range(n):
        assert names[k] == whole[k]
    with pytest.raises(IndexError):
        names[n]
