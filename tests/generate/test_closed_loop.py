"""Closed loop: each user's next request is due when the last reply ended and the think time passed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slobench.generate.exchange import Exchange
from slobench.names import NULL, Outcome
from slobench.plan import Plan
from tests.generate.rig import MS, NEVER_ENDS, S, Simulation, plan_of, takes


def by_user(run: Simulation) -> dict[int, list[Exchange]]:
    """Exchanges of each user in the order in which they were sent."""
    users = defaultdict(list)
    for each in run.transport.sent:
        users[each.session].append(each)
    return users


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    users=st.integers(1, 9),
    turns=st.integers(1, 6),
    think_ns=st.sampled_from([0, 1, 5 * MS]),
    services=st.lists(st.integers(1, 20 * MS), min_size=1, max_size=9),
)
def test_t29_scheduled_is_the_last_end_plus_the_think_time(
    tmp_path: Path, users: int, turns: int, think_ns: int, services: list[int]
) -> None:
    """Whatever replies take: a user's first request is due at 0, each later one at end + think, and sent then."""
    run = Simulation(
        tmp_path,
        plan_of(None, rows=users * turns, users=users),
        lambda exchange, now_ns: now_ns + services[exchange.index % len(services)],
        think_ns=think_ns,
    )
    run.run()
    sent = by_user(run)
    assert sorted(sent) == list(range(users))
    for user, exchanges in sent.items():
        assert [each.index for each in exchanges] == [user + turn * users for turn in range(turns)]
        assert exchanges[0].scheduled_ns == 0
        for before, after in pairwise(exchanges):
            assert after.scheduled_ns == before.end_ns + think_ns
        assert all(each.started_ns == each.scheduled_ns for each in exchanges)
    assert run.transport.most_open == users
    assert run.load.finished


@pytest.mark.parametrize("users", [1, 7, 100])
def test_t27_as_many_are_in_flight_as_there_are_users(tmp_path: Path, users: int) -> None:
    """Without think time the plateau is exactly C from the first moment until the first user runs out."""
    run = Simulation(tmp_path, plan_of(None, rows=users * 10, users=users), takes(3 * MS))
    for at_ns in range(0, 29 * MS, MS // 2):
        run.run(at_ns)
        assert len(run.sender.in_flight) == users
    run.run()
    assert run.transport.most_open == users


def test_a_user_that_runs_out_leaves_the_others_to_go_on(tmp_path: Path) -> None:
    """Five rows for two users: the one with two turns stops, the other sends its third."""
    run = Simulation(tmp_path, plan_of(None, rows=5, users=2), takes(10 * MS))
    run.run(25 * MS)
    assert sorted(run.sender.in_flight) == [4]
    assert not run.load.finished
    run.run()
    assert {user: len(exchanges) for user, exchanges in by_user(run).items()} == {0: 3, 1: 2}
    assert run.load.finished


def test_stop_ends_thinking_and_waits_for_replies(tmp_path: Path) -> None:
    """After a stop no user goes on, one that thinks neither; the reply in flight is awaited."""
    run = Simulation(
        tmp_path,
        plan_of(None, rows=20, users=2),
        lambda exchange, now_ns: now_ns + (10 if exchange.session else 100) * MS,
        think_ns=50 * MS,
    )
    run.run(20 * MS)  # user 1 thinks until 60 ms, user 0 waits until 100 ms
    run.load.stop(60 * MS)
    run.run()
    assert run.outcomes() == {Outcome.OK: [1, 0]}
    assert run.load.finished


def test_a_cut_ends_the_replies_and_refills_nothing(tmp_path: Path) -> None:
    """The end of a cut request is no reason to send the next."""
    run = Simulation(tmp_path, plan_of(None, rows=20, users=4), lambda *_: NEVER_ENDS)
    run.run(S)
    run.load.stop(0)
    run.sender.cut()
    run.run()
    assert run.outcomes() == {Outcome.CUT: [0, 1, 2, 3]}
    assert run.load.finished


def test_a_stall_is_charged_to_the_request_that_it_delayed(tmp_path: Path) -> None:
    """The reply ended at 10 ms by its stamp; the loop stood still until 500 ms: the next is due at 10, sent at 500."""
    run = Simulation(tmp_path, plan_of(None, rows=2, users=1), takes(10 * MS))
    run.stalls = [(5 * MS, 500 * MS)]
    run.run()
    second = run.transport.sent[1]
    assert (second.scheduled_ns, second.started_ns) == (10 * MS, 500 * MS)


def sessions_of_users(*users: list[int | None]) -> Plan:
    """A closed plan of users, each given as the delays of its rows; None begins a session."""
    delays = [delay for rows in users for delay in rows]
    plan = plan_of(None, rows=len(delays), users=1)
    return replace(
        plan,
        session=np.repeat(np.arange(len(users)), [len(rows) for rows in users]),
        turn=np.concatenate([np.arange(len(rows)) for rows in users]).astype(np.int32),
        after=np.array([int(delay is not None) for delay in delays]),
        delay_ns=np.array([NULL if delay is None else delay for delay in delays]),
    )


def test_followers_have_a_time_to_think_of_their_own(tmp_path: Path) -> None:
    """Within a session its delay, between two sessions the loop's think time; users do not wait for each other."""
    plan = sessions_of_users([None, 50 * MS, 0, None], [None, None, 5 * MS])
    run = Simulation(tmp_path, plan, takes(100 * MS), think_ns=30 * MS)
    run.run()
    sent = {each.index: each.scheduled_ns // MS for each in run.transport.sent}
    assert sent == {0: 0, 1: 150, 2: 250, 3: 380, 4: 0, 5: 130, 6: 235}
    assert run.load.finished


@pytest.mark.parametrize(("goes_on", "sent"), [((), [0, 1, 4]), (("only",), [0, 1, 2, 3, 4])])
def test_after_a_failure_a_user_begins_the_next_session(
    tmp_path: Path, goes_on: tuple[str, ...], sent: list[int]
) -> None:
    """What would have followed is not sent, unless the class goes on."""
    plan = sessions_of_users([None, 10 * MS, 10 * MS, 10 * MS, None])
    run = Simulation(tmp_path, plan, takes(100 * MS), think_ns=30 * MS, goes_on=goes_on)
    run.transport.failing = {1: Outcome.HTTP_ERROR}
    run.run()
    assert [each.index for each in run.transport.sent] == sent
    assert run.transport.sent[-1].scheduled_ns == run.transport.sent[-2].scheduled_ns + 130 * MS
    assert run.load.finished
