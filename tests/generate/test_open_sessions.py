"""Open arrivals of sessions: nothing waits but for what it was planned to wait for."""

from __future__ import annotations

import heapq
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slobench.generate.exchange import Exchange
from slobench.generate.following import Following
from slobench.names import NULL, Outcome
from slobench.plan import Plan
from tests.generate.rig import MS, NEVER_ENDS, S, Simulation, plan_of, takes

in_a_folder = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])

Session = tuple[int, list[tuple[int, int]]]
"""(start_ns, (after, delay_ns) of each row that follows the first)."""


def sessions_of(*sessions: Session) -> Plan:
    """A plan of sessions in order of their start."""
    start, session, after, delay_ns = [], [], [], []
    for number, (start_ns, followers) in enumerate(sessions):
        for waits, delay in [(0, NULL), *followers]:
            start.append(NULL if waits else start_ns)
            session.append(number)
            after.append(waits)
            delay_ns.append(delay if waits else NULL)
    plan = plan_of(start)
    return replace(plan, session=np.array(session), after=np.array(after), delay_ns=np.array(delay_ns))


def sent(run: Simulation) -> dict[int, int]:
    """When each request was scheduled, by index."""
    return {each.index: each.scheduled_ns for each in run.transport.sent}


def test_a_turn_is_scheduled_when_the_last_reply_ended_and_it_was_thought_about(tmp_path: Path) -> None:
    """Each follower leaves at the end of what it waits for + its delay, late for nobody."""
    plan = sessions_of((0, [(1, 50 * MS), (1, 0)]), (30 * MS, [(1, 10 * MS)]))
    run = Simulation(tmp_path, plan, takes(100 * MS))
    run.run()
    assert sent(run) == {0: 0, 1: 150 * MS, 2: 250 * MS, 3: 30 * MS, 4: 140 * MS}
    assert all(each.started_ns == each.scheduled_ns for each in run.transport.sent)
    assert run.load.finished
    assert sorted(run.transport.ended_sessions) == [0, 1]


def test_a_join_waits_for_the_last_of_its_branches(tmp_path: Path) -> None:
    """Two branches leave together, the join when the slower one ended."""
    service = {0: 10 * MS, 1: 40 * MS, 2: 90 * MS, 3: 5 * MS}
    plan = sessions_of((0, [(0b1, 20 * MS), (0b10, 0), (0b11, 7 * MS)]))
    run = Simulation(tmp_path, plan, lambda exchange, now_ns: now_ns + service[exchange.index])
    run.run()
    assert sent(run) == {0: 0, 1: 30 * MS, 2: 10 * MS, 3: 107 * MS}


def test_a_session_never_delays_the_start_of_another(tmp_path: Path) -> None:
    """Where no reply comes, every session still begins on time, and nothing follows."""
    plan = sessions_of(*[(k * 10 * MS, [(1, 0)]) for k in range(50)])
    run = Simulation(tmp_path, plan, lambda *_: NEVER_ENDS)
    run.run()
    assert sent(run) == {2 * k: k * 10 * MS for k in range(50)}
    assert not run.load.finished
    run.load.stop(0)
    run.sender.cut()
    assert run.load.finished
    assert run.outcomes() == {Outcome.CUT: [2 * k for k in range(50)]}


@st.composite
def a_session(draw: st.DrawFn) -> Session:
    """A start and followers, each waiting for some of the rows before it, up to five places back."""
    followers = []
    for place in range(1, draw(st.integers(1, 7))):
        back = draw(st.sets(st.integers(1, min(place, 5)), min_size=1))
        followers.append((sum(1 << (each - 1) for each in back), draw(st.integers(0, 50)) * MS))
    return draw(st.integers(0, 300)) * MS, followers


def expected(plan: Plan, service_ns: dict[int, int]) -> dict[int, int]:
    """Scheduled times by the definition: max over the ends of what it waits for, plus the delay."""
    assert plan.scheduled_ns is not None
    assert plan.after is not None
    assert plan.delay_ns is not None
    due: dict[int, int] = {}
    for row in range(len(plan)):
        waits = [row - 1 - bit for bit in range(62) if int(plan.after[row]) >> bit & 1]
        ends = [due[before] + service_ns[before] for before in waits]
        due[row] = max(ends) + int(plan.delay_ns[row]) if waits else int(plan.scheduled_ns[row])
    return due


@in_a_folder
@given(sessions=st.lists(a_session(), min_size=1, max_size=6), data=st.data())
def test_any_sessions_are_sent_by_the_definition(tmp_path: Path, sessions: list[Session], data: st.DataObject) -> None:
    """Whatever waits for whatever and however long replies take: each row is sent once, when it is due."""
    plan = sessions_of(*sorted(sessions, key=lambda each: each[0]))
    if plan.after is None:
        return
    service = {row: data.draw(st.integers(0, 200)) * MS for row in range(len(plan))}
    run = Simulation(tmp_path, plan, lambda exchange, now_ns: now_ns + service[exchange.index])
    run.run()
    due = expected(plan, service)
    assert sent(run) == due
    assert [each.started_ns - each.scheduled_ns for each in run.transport.sent] == [0] * len(plan)
    assert len(run.ended) == len(plan)
    assert sorted(run.transport.ended_sessions) == sorted(set(plan.session.tolist()))


@in_a_folder
@given(sessions=st.lists(a_session(), min_size=2, max_size=6), workers=st.integers(2, 3))
def test_workers_send_together_what_one_would(tmp_path: Path, sessions: list[Session], workers: int) -> None:
    """Shards of whole sessions need to know nothing of each other."""
    plan = sessions_of(*sorted(sessions, key=lambda each: each[0]))
    found: dict[int, int] = {}
    for worker in range(workers):
        shard = plan.shard(worker, workers)
        if len(shard):
            run = Simulation(tmp_path, shard, takes(30 * MS))
            run.run()
            found |= sent(run)
    assert found == expected(plan, dict.fromkeys(range(len(plan)), 30 * MS)) if plan.after is not None else found


@pytest.mark.parametrize("outcome", [Outcome.HTTP_ERROR, Outcome.CANCELLED, Outcome.TIMEOUT_TOTAL, Outcome.TRUNCATED])
def test_a_session_ends_with_its_first_failure(tmp_path: Path, outcome: Outcome) -> None:
    """What would follow is not sent, nor what waits for its delay; other sessions go on."""
    plan = sessions_of((0, [(0b1, 0), (0b10, 500 * MS), (0b11, 0)]), (0, [(1, 0)]))
    run = Simulation(tmp_path, plan, takes(100 * MS))
    run.transport.failing = {1: outcome}
    run.run()
    assert sent(run) == {0: 0, 1: 100 * MS, 4: 0, 5: 100 * MS}
    assert run.load.finished
    assert sorted(run.transport.ended_sessions) == [0, 1]


def test_a_class_may_go_on_after_a_failure(tmp_path: Path) -> None:
    """Then a failure is an end like any other."""
    plan = sessions_of((0, [(1, 10 * MS), (1, 10 * MS)]))
    run = Simulation(tmp_path, plan, takes(100 * MS), goes_on=("only",))
    run.transport.failing = {0: Outcome.HTTP_ERROR, 1: Outcome.CANCELLED}
    run.run()
    assert sent(run) == {0: 0, 1: 110 * MS, 2: 220 * MS}


@pytest.mark.parametrize(("goes_on", "begun"), [((), [0]), (("only",), [0, 3])])
def test_a_drop_is_a_failure(tmp_path: Path, goes_on: tuple[str, ...], begun: list[int]) -> None:
    """Above the safety stop a row is dropped and so, by default, is the rest of its session."""
    plan = sessions_of((0, []), (10 * MS, [(1, 5 * MS), (1, 100 * MS)]))
    run = Simulation(tmp_path, plan, takes(50 * MS), max_in_flight=1, goes_on=goes_on)
    run.run()
    assert [each.index for each in run.transport.sent] == begun
    assert run.outcomes()[Outcome.DROPPED] == ([1, 2] if goes_on else [1])
    assert run.load.finished


def test_a_stop_holds_for_what_follows_too(tmp_path: Path) -> None:
    """Nothing scheduled at or after the stop is sent, whether it begins a session or follows; replies are waited for."""
    plan = sessions_of(*[(k * 100 * MS, [(1, 50 * MS)] * 3) for k in range(5)])
    run = Simulation(tmp_path, plan, takes(60 * MS))
    run.run(250 * MS)
    run.load.stop(330 * MS)
    assert not run.load.finished
    run.run()
    due = expected(plan, dict.fromkeys(range(len(plan)), 60 * MS))
    assert sent(run) == {row: due_ns for row, due_ns in due.items() if due_ns < 330 * MS}
    assert run.load.finished


def test_a_stall_is_charged_and_not_passed_on(tmp_path: Path) -> None:
    """A follower that a stall held up is scheduled when it was due; a follower of it counts from its real end."""
    plan = sessions_of((0, [(1, 20 * MS), (1, 20 * MS)]))
    run = Simulation(tmp_path, plan, takes(30 * MS))
    run.stalls = [(40 * MS, 200 * MS)]
    run.run()
    assert sent(run) == {0: 0, 1: 50 * MS, 2: 250 * MS}
    assert [each.started_ns for each in run.transport.sent] == [0, 200 * MS, 250 * MS]


def test_many_sessions_are_followed_quickly() -> None:
    """What follows is found without looking at what does not: a plan of any length takes its time once."""
    n = 300_000
    after = (np.arange(n) % 3 != 0).astype(np.int64)
    plan = replace(plan_of([0] * n), session=np.arange(n) // 3, after=after, delay_ns=np.where(after, 1, NULL))
    following = Following(plan)
    heap = [(0, row) for row in range(0, n, 3)]
    seen = 0
    while heap:
        end_ns, row = heapq.heappop(heap)
        seen += 1
        for follower, due_ns in following.ended(row, end_ns):
            heapq.heappush(heap, (due_ns, follower))
    assert seen == n


def test_bodies_of_followers_are_made_when_their_time_is_known(tmp_path: Path) -> None:
    """Only first rows are made ahead in turn; a follower is asked for when it is due later."""
    plan = sessions_of((0, [(1, 50 * MS)]), (S, [(1, 0)]))
    run = Simulation(tmp_path, plan, takes(100 * MS))
    wanted: list[int] = []
    run.sender.bodies.want = wanted.append  # type: ignore[method-assign]
    run.run()
    assert wanted == [1]


def test_an_exchange_knows_when_its_user_gives_up(tmp_path: Path) -> None:
    """Patience counts from the scheduled time, for a follower from the time that it got; NULL never ends."""
    plan = replace(sessions_of((5 * MS, [(1, 10 * MS)]), (20 * MS, [])), patience_ns=np.array([NULL, 300 * MS, 7 * MS]))
    run = Simulation(tmp_path, plan, takes(30 * MS), until_first_token=("only",))
    run.stalls = [(40 * MS, 60 * MS)]
    run.run()
    seen: dict[int, Exchange] = {each.index: each for each in run.transport.sent}
    assert seen[0].give_up_ns == NULL
    assert seen[1].give_up_ns == 45 * MS + 300 * MS
    assert seen[2].give_up_ns == 27 * MS
    assert seen[2].until_first_token
