"""Closed loops: users, turns, and classes by share."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.workload.sessions import MAX_CLOSED_ROWS, classes_by_share, deal, turns_for


@given(users=st.integers(1, 50), n=st.integers(0, 500))
def test_users_take_turns(users, n):
    """Row i is turn i // users of user i % users, so each user's turns are 0, 1, 2 … without a gap."""
    session, turn = deal(n, users)
    for user in range(users):
        mine = turn[session == user].tolist()
        assert mine == list(range(len(mine)))
    assert (np.diff(turn) >= 0).all()


def test_a_closed_loop_by_time_has_turns_for_the_fastest_server():
    """60 s at 10 ms + 100 tokens of 1 ms + 90 ms of thinking is 300 turns of 200 ms, and one to start with."""
    assert turns_for(60 * 10**9, 90_000_000, users=4, mean_output_tokens=100) == 301


def test_turns_are_bounded_over_all_users():
    """A thousand users for a day of one-token replies are planned for 1,000 turns each, not for millions."""
    assert turns_for(86_400 * 10**9, 0, users=1000, mean_output_tokens=1) == MAX_CLOSED_ROWS // 1000
    assert turns_for(10**9, 0, users=1_000_000, mean_output_tokens=1) == 1


def test_classes_come_by_their_share():
    """A class of share 3 of 4 takes 3/4 of the requests, within 5 binomial standard errors."""
    n = 20_000
    codes = classes_by_share(n, {"small": 1.0, "large": 3.0}, seed=3)
    assert (codes == 1).sum() == pytest.approx(n * 3 / 4, abs=5 * math.sqrt(n * 3 / 16))


def test_a_class_that_is_added_only_takes_requests():
    """Where the new class does not come, the old ones stand as before."""
    old = classes_by_share(5000, {"a": 1.0, "b": 2.0}, seed=3)
    new = classes_by_share(5000, {"a": 1.0, "b": 2.0, "c": 1.0}, seed=3)
    assert (new == 2).any()
    assert (new[new != 2] == old[new != 2]).all()
