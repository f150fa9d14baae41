"""Contents: the parts of prompts as columns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.workload.content import Contents, content_keys

few = settings(deadline=None, max_examples=100)
PART = st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(1, 2**31 - 1))
ROWS = st.lists(st.lists(PART, max_size=4), max_size=12)


def contents_of(rows):
    """Contents of rows given as lists of (key, tokens)."""
    parts = [part for row in rows for part in row]
    return Contents(
        np.cumsum([0, *map(len, rows)]),
        np.array([key for key, _ in parts], np.int64),
        np.array([tokens for _, tokens in parts], np.int32),
    )


def rows_of(contents):
    """Contents back as lists."""
    return [list(contents.row(i)) for i in range(len(contents))]


@few
@given(ROWS)
def test_a_row_is_what_was_put_in(rows):
    """Each row has its parts in order."""
    made = contents_of(rows)
    assert rows_of(made) == rows
    assert len(made) == len(rows)
    assert made.counts.tolist() == list(map(len, rows))
    assert made.unique == (not any(rows))


@few
@given(ROWS, st.data())
def test_rows_are_taken_as_numpy_takes_them(rows, data):
    """By mask, positions and slices, contents give the rows that a list of rows gives."""
    made, n = contents_of(rows), len(rows)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    assert rows_of(made.take(mask)) == [row for row, there in zip(rows, mask, strict=True) if there]
    places = np.array(data.draw(st.lists(st.integers(0, max(0, n - 1)), max_size=10 if n else 0)), dtype=np.int64)
    assert rows_of(made.take(places)) == [rows[i] for i in places]
    cut = data.draw(st.slices(n))
    assert rows_of(made.take(cut)) == rows[cut]


@few
@given(ROWS, ROWS)
def test_joined_is_one_after_the_other(one, two):
    """Joined contents are those of the joined rows."""
    assert rows_of(contents_of(one).joined(contents_of(two))) == one + two


@few
@given(st.lists(st.tuples(st.lists(PART, max_size=3), st.lists(PART, max_size=3)), max_size=8))
def test_then_adds_parts_to_each_row(pairs):
    """Each row has its own parts and then the others'."""
    one, two = contents_of([a for a, _ in pairs]), contents_of([b for _, b in pairs])
    assert rows_of(one.then(two)) == [[*a, *b] for a, b in pairs]
    with pytest.raises(ValueError, match="rows"):
        one.then(contents_of([[]] * (len(pairs) + 1)))


@few
@given(ROWS, st.data())
def test_scattered_rows_stand_at_their_positions(rows, data):
    """The rows stand where they were put, and the others are empty."""
    n = len(rows) + data.draw(st.integers(0, 5))
    places = data.draw(st.permutations(range(n)))[: len(rows)]
    wanted = [[]] * n
    for place, row in zip(places, rows, strict=True):
        wanted[place] = row
    assert rows_of(contents_of(rows).scattered(np.array(places, np.int64), n)) == wanted


def test_one_part_each():
    """A part of no tokens is no part."""
    made = Contents.one_each(np.array([7, 8, 9]), np.array([3, 0, 1]))
    assert rows_of(made) == [[(7, 3)], [], [(9, 1)]]
    assert rows_of(Contents.none(2)) == [[], []]


def test_blocks_end_with_their_prompt():
    """The last block is as long as the rest of the prompt, and blocks behind its end are left out."""
    made = Contents.of_blocks(
        np.array([0, 3, 3, 5, 6]), np.array([1, 2, 3, 1, 4, 5]), np.array([2 * 512 + 6, 40, 512, 2000]), 512
    )
    assert rows_of(made) == [[(1, 512), (2, 512), (3, 6)], [], [(1, 512)], [(5, 512)]]


@pytest.mark.parametrize(
    ("offsets", "keys", "tokens"),
    [([], [], []), ([0, 2], [1], [1]), ([1, 1], [1], [1]), ([0, 2, 1, 2], [1, 2], [1, 1]), ([0, 1], [1], [0])],
)
def test_broken_columns_are_refused(offsets, keys, tokens):
    """Columns that do not belong together raise ValueError."""
    with pytest.raises(ValueError, match="expected"):
        Contents(np.array(offsets, np.int64), np.array(keys, np.int64), np.array(tokens, np.int32))
    with pytest.raises(ValueError, match="expected"):
        Contents(np.array([0, 1]), np.array([1]), np.array([1, 2]))


def test_keys_tell_streams_apart():
    """Keys are different for every number, and for another seed, purpose or class all others."""
    numbers = np.arange(-5000, 5000, dtype=np.int64)
    columns = [content_keys(*of, numbers) for of in [(0, "p", "a"), (1, "p", "a"), (0, "q", "a"), (0, "p", "b")]]
    assert len(np.unique(np.concatenate(columns))) == 4 * len(numbers)


def test_keys_are_pinned():
    """The same keys on every machine."""
    assert content_keys(1, "prefix", "chat", np.array([0, 1, -1])).tolist() == GOLDEN


GOLDEN = [-7207659991650058384, 1239755608960654324, -3065743845769831]
