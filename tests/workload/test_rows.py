"""Rows of classes put together: by the start of their sessions, none torn apart."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.names import NULL
from slobench.workload.content import Contents
from slobench.workload.rows import Rows, merged

few = settings(deadline=None, max_examples=100)


def rows_of(sessions):
    """Rows of sessions given as (start, followers): a chain after each start."""
    order = sorted(sessions)
    start = np.concatenate([np.array([at, *[NULL] * more], np.int64) for at, more in order] or [np.empty(0, np.int64)])
    n = len(start)
    plain = Rows.single(start, np.arange(1, n + 1), np.ones(n, np.int64))
    follows = start == NULL
    return replace(
        plain,
        session=np.cumsum(~follows) - 1,
        turn=np.concatenate([np.arange(more + 1) for _, more in order] or [np.empty(0)]).astype(np.int32),
        after=follows.astype(np.int64),
        delay_ns=np.where(follows, 5, NULL),
    )


SESSIONS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=8)


@few
@given(st.lists(SESSIONS, min_size=1, max_size=3), st.none() | st.integers(0, 20))
def test_classes_are_merged_by_the_start_of_their_sessions(classes, n):
    """Starts ascend; sessions stay whole and in order, but for the last one of a cut plan."""
    made = [rows_of(each) for each in classes]
    rows, codes = merged(made, n)
    total = sum(map(len, made))
    assert len(rows) == len(codes) == (total if n is None else min(n, total))
    assert (np.diff(rows.start_ns[rows.start_ns != NULL]) >= 0).all()
    assert (np.diff(rows.session) >= 0).all()
    assert np.unique(rows.session).tolist() == list(range(len(np.unique(rows.session))))
    for session in range(int(rows.session.max(initial=-1)) + 1):
        mine = np.flatnonzero(rows.session == session)
        assert rows.turn[mine].tolist() == list(range(len(mine)))
        assert len(set(codes[mine].tolist())) == 1
        assert rows.start_ns[mine[0]] != NULL
        assert (rows.start_ns[mine[1:]] == NULL).all()


def test_rows_of_a_session_that_wait_for_none_stand_each_at_its_own_time():
    """Only what waits for others keeps a session together: recorded times come in order."""
    apart = replace(Rows.single(np.array([0, 9, 5]), *[np.ones(3, np.int64)] * 2), session=np.array([0, 0, 1]))
    rows, _ = merged([apart], None)
    assert rows.start_ns.tolist() == [0, 5, 9]
    assert rows.session.tolist() == [0, 1, 0]


def test_equal_starts_come_in_the_order_of_the_classes():
    """At one instant the first class's session comes first."""
    one, two = rows_of([(3, 1)]), rows_of([(3, 0), (1, 0)])
    _, codes = merged([one, two], None)
    assert codes.tolist() == [1, 0, 0, 1]


def test_contents_follow_their_rows():
    """What a prompt begins with is kept through taking and joining, also where a class has none."""
    mine = Contents.one_each(np.array([7, 8, 9]), np.array([1, 0, 3]))
    some = replace(Rows.single(np.array([4, 6, 8]), *[np.ones(3, np.int64)] * 2), contents=mine)
    rows, _ = merged([Rows.single(np.array([5]), *[np.ones(1, np.int64)] * 2), some], None)
    assert rows.contents is not None
    assert [rows.contents.row(i) for i in range(4)] == [((7, 1),), (), (), ((9, 3),)]


def test_columns_of_other_lengths_are_refused():
    """All columns of rows have one length."""
    with pytest.raises(ValueError, match="one length"):
        replace(rows_of([(1, 1)]), contents=Contents.none(3))
