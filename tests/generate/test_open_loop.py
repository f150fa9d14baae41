"""Open loop: absolute deadlines, lateness charged and never passed on, nothing waits for a reply."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slobench.names import NULL, Outcome
from slobench.pacer import NEVER
from slobench.records.counters import Slot
from tests.generate.rig import EPOCH_NS, MS, NEVER_ENDS, OneAtATime, S, Simulation, plan_of, takes

in_a_folder = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_t23_a_stall_delays_sends_and_is_charged_from_the_schedule(tmp_path: Path) -> None:
    """A stall of 2 s sends what fell into it late, in order, dated by the plan; what follows is on time again."""
    planned = np.arange(1000) * 10 * MS
    run = Simulation(tmp_path, plan_of(planned), takes(1 * MS))
    run.stalls = [(3 * S, 5 * S)]
    run.run()
    sent = run.transport.sent
    assert [each.index for each in sent] == list(range(1000))
    assert [each.scheduled_ns for each in sent] == planned.tolist()
    assert [row["scheduled_ns"] for row in run.ended] == planned.tolist()
    swallowed = (planned >= 3 * S) & (planned < 5 * S)
    assert [each.started_ns for each in sent] == np.where(swallowed, 5 * S, planned).tolist()
    assert run.counters.snapshot().total(Slot.LAG_MAX_NS) == 2 * S


@pytest.mark.parametrize(("rate", "seconds"), [(50, 1800), (5000, 2)], ids=["T22: half an hour", "T24: each 200 us"])
def test_t22_t24_lateness_of_one_wake_up_never_reaches_the_next(tmp_path: Path, rate: int, seconds: int) -> None:
    """However long it runs and however dense it is, a request's lag is at most its own wake-up's and never negative."""
    rng = np.random.default_rng(1)
    planned = np.cumsum(np.round(rng.exponential(S / rate, rate * seconds)).astype(np.int64))
    wakes = iter(rng.integers(0, 300_000, 2 * len(planned)).tolist())  # 0 to 0.3 ms late
    run = Simulation(tmp_path, plan_of(planned), takes(20 * MS), late=wakes.__next__)
    run.run()
    lags = np.array([each.started_ns for each in run.transport.sent]) - planned
    assert len(lags) == len(planned)
    assert lags.min() >= 0
    assert lags.max() < 300_000  # the latest wake-up alone


@in_a_folder
@given(
    gaps=st.lists(st.integers(0, 50 * MS), min_size=1, max_size=60),
    stalls=st.lists(st.tuples(st.integers(0, S), st.integers(1, S // 2)), max_size=4),
)
def test_no_request_is_early_lost_or_out_of_order(
    tmp_path: Path, gaps: list[int], stalls: list[tuple[int, int]]
) -> None:
    """Under any plan and any stalls each row is sent once, in order, at its time or when the stall ended."""
    planned = np.cumsum(gaps)
    run = Simulation(tmp_path, plan_of(planned), takes(MS))
    run.stalls = [(start, start + length) for start, length in stalls]
    run.run()
    assert [each.index for each in run.transport.sent] == list(range(len(gaps)))
    ends = {after for _, after in run.stalls}
    for each, due_ns in zip(run.transport.sent, planned.tolist(), strict=True):
        assert each.scheduled_ns == due_ns
        assert each.started_ns == due_ns or (each.started_ns > due_ns and each.started_ns in ends)


def test_t21_one_permit_at_the_server_shows_in_the_latency_as_the_queue_formula_says(tmp_path: Path) -> None:
    """500 ms of service, one at a time, 10 requests/s: request k takes 0.5 (k + 1) - 0.1 k s; none waits with us."""
    run = Simulation(tmp_path, plan_of(np.arange(8) * 100 * MS), OneAtATime(500 * MS))
    run.run()
    rows = sorted(run.ended, key=lambda row: row["index"])
    assert [row["end_ns"] - row["scheduled_ns"] for row in rows] == [
        500 * MS * (k + 1) - 100 * MS * k for k in range(8)
    ]
    assert rows[-1]["end_ns"] - rows[-1]["scheduled_ns"] == 3300 * MS
    assert all(row["started_ns"] == row["scheduled_ns"] for row in rows)
    assert run.transport.most_open == 7  # the eighth leaves at 0.7 s, when one reply has ended


def test_t21_a_wait_on_our_side_is_in_the_scheduled_latency_only(tmp_path: Path) -> None:
    """Where the client stood still, latency from the send hides what latency from the schedule charges."""
    run = Simulation(tmp_path, plan_of(np.arange(100) * 10 * MS), takes(5 * MS))
    run.stalls = [(0, 2 * S)]
    run.run()
    assert {row["end_ns"] - row["started_ns"] for row in run.ended} == {5 * MS}
    assert [row["end_ns"] - row["scheduled_ns"] for row in run.ended] == [2005 * MS - 10 * MS * k for k in range(100)]


def test_the_pacer_is_armed_on_the_machine_clock_and_the_transport_told_on_the_run_clock(tmp_path: Path) -> None:
    """The next send stands in both places, each on its own clock; NEVER once all is sent."""
    run = Simulation(tmp_path, plan_of([5 * MS, 9 * MS]), takes(MS))
    assert (run.pacer.due_ns, run.transport.next_send_ns) == (EPOCH_NS + 5 * MS, 5 * MS)
    run.run(6 * MS)
    assert (run.pacer.due_ns, run.transport.next_send_ns) == (EPOCH_NS + 9 * MS, 9 * MS)
    run.run()
    assert (run.pacer.due_ns, run.transport.next_send_ns, run.load.finished) == (NEVER, NEVER, True)


def test_stop_offers_nothing_scheduled_at_or_after_its_time(tmp_path: Path) -> None:
    """A stop keeps what is due before it, even late, and replies in flight are still waited for."""
    run = Simulation(tmp_path, plan_of(np.arange(10) * 10 * MS), takes(30 * MS))
    run.stalls = [(25 * MS, 70 * MS)]
    run.load.stop(50 * MS)
    run.run()
    assert [each.index for each in run.transport.sent] == [0, 1, 2, 3, 4]
    assert run.load.finished
    assert run.outcomes() == {Outcome.OK: [0, 1, 2, 3, 4]}


def test_a_later_stop_does_not_take_an_earlier_one_back(tmp_path: Path) -> None:
    """The earliest stop holds."""
    run = Simulation(tmp_path, plan_of(np.arange(10) * 10 * MS), takes(MS))
    run.load.stop(20 * MS)
    run.load.stop(90 * MS)
    run.run()
    assert len(run.transport.sent) == 2


def test_a_cut_ends_what_is_in_flight_and_sends_nothing_more(tmp_path: Path) -> None:
    """Each request in flight gets one end record, `cut`, with no token time."""
    run = Simulation(tmp_path, plan_of(np.arange(10) * 10 * MS), lambda *_: NEVER_ENDS)
    run.run(35 * MS)
    run.load.stop(0)
    run.sender.cut()
    run.run()
    assert run.outcomes() == {Outcome.CUT: [0, 1, 2, 3]}
    assert {row["end_ns"] for row in run.ended} == {35 * MS}
    assert {row["first_token_ns"] for row in run.ended} == {NULL}
    assert run.load.finished
    assert not run.sender.in_flight
    assert run.counters.snapshot().total(Slot.FAILED) == 0


def test_arrivals_above_the_safety_stop_are_dropped_and_said(tmp_path: Path) -> None:
    """A drop is a record of its own, never begun; when there is room again requests are sent again."""
    run = Simulation(tmp_path, plan_of(np.arange(10) * 10 * MS), takes(45 * MS), max_in_flight=3)
    run.run()
    found = run.outcomes()
    # 0, 1, 2 leave; 3 and 4 (30, 40 ms) meet three in flight; 0 has ended at 45 ms, 1 at 55 ms, 2 at 65 ms.
    assert (found[Outcome.DROPPED], sorted(found[Outcome.OK])) == ([3, 4, 8, 9], [0, 1, 2, 5, 6, 7])
    dropped = [row for row in run.ended if row["index"] in {3, 4, 8, 9}]
    assert [row["end_ns"] for row in dropped] == [30 * MS, 40 * MS, 80 * MS, 90 * MS]
    for column in ("started_ns", "sent_ns", "first_token_ns", "last_token_ns", "http_status", "output_tokens"):
        assert {row[column] for row in dropped} == {NULL}, column
    seen = run.counters.snapshot()
    assert (seen.total(Slot.DROPPED), seen.total(Slot.STARTED), seen.total(Slot.ENDED)) == (4, 6, 6)
    assert run.transport.most_open == 3


def test_t28_a_burst_is_all_in_flight_before_the_first_reply(tmp_path: Path) -> None:
    """Planned at one time, sent at one time, whatever their number."""
    run = Simulation(tmp_path, plan_of([0] * 500), takes(1))
    run.run(0)
    assert run.transport.most_open == 500
    assert {each.started_ns for each in run.transport.sent} == {0}
