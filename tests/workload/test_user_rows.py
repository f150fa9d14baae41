"""Users of a closed loop who go through sessions: whole ones, one after another, as many requests each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.names import NULL
from slobench.plan import build_plan
from slobench.workload.session_rows import session_rows

S = 10**9
LENGTH = {"dist": "uniform", "low": 4, "high": 40}
ONE = {"input_tokens": LENGTH, "output_tokens": LENGTH}
CHAT = ONE | {"session": {"turns": {"dist": "uniform", "low": 1, "high": 5}, "think_time": "2s"}}
few = settings(deadline=None, max_examples=40)


def workload(users, requests, **classes):
    """A closed loop of these classes."""
    loop = {"mode": "closed", "users": users, "think_time": "1s"}
    return Workload.model_validate({"name": "x", "loop": loop, "requests": requests, "classes": classes})


@few
@given(users=st.integers(1, 6), more=st.integers(0, 90), mixed=st.booleans(), seed=st.integers(0, 100))
def test_users_go_through_whole_sessions(users, more, mixed, seed):
    """Each has its part of the requests; a follower has a delay and comes right after what it waits for."""
    plan = build_plan(workload(users, users + more, chat=CHAT, **({"one": ONE} if mixed else {})), seed)
    assert len(plan) == users + more
    assert plan.scheduled_ns is None
    counts = np.bincount(plan.session, minlength=users)
    assert counts.max() - counts.min() <= 1
    assert (np.diff(plan.session) >= 0).all()
    for user in range(users):
        mine = np.flatnonzero(plan.session == user)
        assert plan.turn[mine].tolist() == list(range(len(mine)))
        assert plan.after is None or plan.after[mine[0]] == 0
    if plan.after is not None:
        follows = plan.after != 0
        assert set(plan.after.tolist()) <= {0, 1}
        assert (plan.delay_ns[follows] == 2 * S).all()
        assert (plan.delay_ns[~follows] == NULL).all()
        assert (plan.class_code[np.flatnonzero(follows) - 1] == plan.class_code[follows]).all()


def test_sessions_are_those_of_the_class():
    """Alone in its class, session s belongs to user s modulo their number, its prompts growing as in an open loop."""
    made = workload(3, 60, chat=CHAT)
    plan = build_plan(made, 4)
    spec = made.classes["chat"]
    assert spec.session is not None
    rows = session_rows(spec, spec.session, "chat", 4, np.zeros(60, np.int64), None)
    for user in range(3):
        expected = rows.take(rows.session % 3 == user)
        mine = plan.session == user
        assert plan.input_tokens[mine].tolist() == expected.input_tokens[: mine.sum()].tolist()
        assert plan.after[mine].tolist() == expected.after[: mine.sum()].tolist()


def test_a_shard_has_whole_users():
    """Workers walk users apart from each other."""
    plan = build_plan(workload(5, 80, chat=CHAT, one=ONE), 1)
    shards = [plan.shard(worker, 2) for worker in range(2)]
    whole = shards[0].joined(shards[1])
    assert whole.take(np.argsort(whole.index, kind="stable")).digest == plan.digest


def test_sessions_that_fit_nowhere_are_refused():
    """A bound below the shortest request leaves no session at all."""
    with pytest.raises(ConfigError, match="fits its max_tokens"):
        build_plan(workload(2, 9, chat=CHAT | {"session": {"max_tokens": 2}}), 0)
