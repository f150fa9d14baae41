"""A plan that grows while it is offered: one schedule over all joints, nothing lost, sent twice or kept for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slobench.clock import VirtualClock
from slobench.generate.bodies import Bodies
from slobench.generate.open_loop import OpenLoop
from slobench.generate.tally import Share, Shares, Tally
from slobench.generate.verdict import Rule
from slobench.names import Outcome
from slobench.plan import Plan
from slobench.records import probe_counts
from tests.generate.rig import MS, NEVER_ENDS, S, Simulation, job_of, plan_of, takes

in_a_folder = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
SHARES = (Share("total", ("only",), "all"), Share("e2e", ("only",), "rule", Rule((("e2e", 0.0015, 0.0),))))


def part_of(scheduled_ns: list[int], first: int) -> Plan:
    """Rows with these times, numbered from `first`."""
    plan = plan_of(scheduled_ns)
    index = np.arange(first, first + len(scheduled_ns))
    return Plan(**{**plan._columns(), "index": index, "session": index}, class_names=plan.class_names)  # type: ignore[arg-type]


def growing(folder: Path, first: list[int], **job: object) -> tuple[Simulation, OpenLoop]:
    run = Simulation(folder, plan_of(first), takes(MS), grows=True, **job)
    assert isinstance(run.load, OpenLoop)
    return run, run.load


def tally_of(folder: Path, *, counted_from: int, n: int) -> Tally:
    path = folder / f"counts-{counted_from}.bin"
    probe_counts.create(path, 1, len(SHARES))
    shares = Shares(SHARES, ("only",))
    return Tally(probe_counts.attach(path, 0), shares, counted_from=counted_from, n=n)


@in_a_folder
@given(
    segments=st.lists(st.lists(st.integers(0, 50 * MS), min_size=1, max_size=20), min_size=2, max_size=6),
    early=st.lists(st.integers(0, 200 * MS), min_size=6, max_size=6),
    stalls=st.lists(st.tuples(st.integers(0, 3 * S), st.integers(1, S // 2)), max_size=3),
)
def test_the_schedule_is_exact_over_every_joint(
    tmp_path: Path, segments: list[list[int]], early: list[int], stalls: list[tuple[int, int]]
) -> None:
    """Whenever a segment comes before its first row is due, each row is sent once, in order, at its time or late
    by a stall that is charged to it: the first of a segment is no later than any other.
    """
    planned = np.cumsum([gap for segment in segments for gap in segment]).tolist()
    edges = np.cumsum([0, *map(len, segments)]).tolist()
    run, load = growing(tmp_path, planned[: edges[1]])
    run.stalls = [(start, start + length) for start, length in stalls]
    for k, low in enumerate(edges[1:-1], start=1):
        run.run(max(run.clock.now_ns(), planned[low] - early[k]))
        if run.clock.now_ns() > planned[low]:
            return  # a stall swallowed the moment in which it was to come
        load.extend(part_of(planned[low : edges[k + 1]], low))
        assert len(run.sender.plan) == edges[k + 1] - len(run.transport.sent)  # what was sent is forgotten
    run.run()
    assert not load.finished
    load.stop(run.clock.now_ns())
    assert load.finished
    sent = run.transport.sent
    assert [each.index for each in sent] == list(range(len(planned)))
    assert [each.scheduled_ns for each in sent] == planned
    ends = {after for _, after in run.stalls}
    for each in sent:
        assert each.started_ns == each.scheduled_ns or (each.started_ns > each.scheduled_ns and each.started_ns in ends)


def test_a_segment_may_not_begin_before_the_last_row(tmp_path: Path) -> None:
    """The schedule never goes back."""
    _, load = growing(tmp_path, [0, 20 * MS])
    with pytest.raises(ValueError, match=r"begins at 19000000 ns, before the last row at 20000000"):
        load.extend(part_of([19 * MS], 2))


def test_rows_given_up_are_never_sent_and_others_go_on(tmp_path: Path) -> None:
    """What was not sent by then is given up; the next segment comes at its own times."""
    run, load = growing(tmp_path, [0, 10 * MS, 20 * MS, 30 * MS])
    run.run(15 * MS)
    load.curtail()
    assert not load.finished
    load.extend(part_of([25 * MS, 26 * MS], 4))
    run.run()
    assert [each.index for each in run.transport.sent] == [0, 1, 4, 5]
    assert [each.started_ns for each in run.transport.sent[2:]] == [25 * MS, 26 * MS]


def test_a_stop_ends_a_plan_that_grows(tmp_path: Path) -> None:
    """Rows at or after the stop are not sent, as in a plan that does not grow."""
    run, load = growing(tmp_path, [0, 10 * MS])
    load.extend(part_of([20 * MS, 30 * MS], 2))
    load.stop(25 * MS)
    run.run()
    assert [each.index for each in run.transport.sent] == [0, 1, 2]
    assert load.finished


def test_a_probe_counts_its_own_requests_by_batch_and_no_settling_ones(tmp_path: Path) -> None:
    """Two settling rows, then 20 that count, every fourth slower than its limit; then another probe."""
    run, load = growing(tmp_path, [], limits={"only": [("e2e", 0.0025, 0.0)]}, shares=SHARES)
    run.transport._service = lambda exchange, now_ns: now_ns + (2 * MS if exchange.index % 4 == 0 else MS)
    load.extend(part_of([k * 10 * MS for k in range(22)], 0), tally_of(tmp_path, counted_from=2, n=20))
    load.extend(part_of([k * 10 * MS for k in range(22, 32)], 22), tally_of(tmp_path, counted_from=22, n=10))
    run.run()
    first, then = (probe_counts.read(tmp_path / f"counts-{at}.bin") for at in (2, 22))
    assert (first.started, first.ended, first.failed, first.dropped, first.acted_on) == (20, 20, 0, 0, 20)
    assert first.tallies[0].tolist() == [[2, 2]] * 10
    slow = [sum(index % 4 == 0 for index in (2 + 2 * batch, 3 + 2 * batch)) for batch in range(10)]
    assert first.tallies[1].tolist() == [[2 - each, 2] for each in slow]
    assert first.means_s["e2e"] == pytest.approx((5 * 2 + 15 * 1) * 1e-3 / 20)
    assert first.last_ns == 210 * MS
    assert first.lag.sum() == first.e2e.sum() == 20
    assert first.in_flight.tolist() == [0.0] * 10
    assert (then.started, then.ended) == (10, 10)


def test_dropped_failed_and_open_requests_are_counted_as_what_they_are(tmp_path: Path) -> None:
    """At most three in flight and no reply ever: three are open, the others dropped; cut ones are in neither side."""
    run, load = growing(tmp_path, [], max_in_flight=3, shares=SHARES)
    run.transport._service = lambda *_: NEVER_ENDS
    load.extend(part_of([k * MS for k in range(10)], 0), tally_of(tmp_path, counted_from=0, n=10))
    run.run()
    counts = probe_counts.read(tmp_path / "counts-0.bin")
    assert (counts.started, counts.ended, counts.failed, counts.dropped, counts.acted_on) == (3, 7, 7, 7, 10)
    assert counts.in_flight.tolist() == [0, 1, 2, 0, 0, 0, 0, 0, 0, 0]
    run.sender.cut()
    cut = probe_counts.read(tmp_path / "counts-0.bin")
    assert (cut.ended, cut.failed) == (10, 7)
    assert cut.tallies[0].sum(axis=0).tolist() == [0, 7]
    assert {Outcome.CUT, Outcome.DROPPED} == run.outcomes().keys()


@pytest.mark.parametrize("forgotten", [0, 3, 12])
def test_bodies_made_ahead_stay_those_of_their_requests(tmp_path: Path, forgotten: int) -> None:
    """Whatever was made before the rows were renumbered, each request gets the body that it would get alone."""

    async def grow() -> list[bytes]:
        bodies = Bodies(plan_of(range(12)), job_of(tmp_path), VirtualClock())
        bodies.work_ahead()
        for row in range(forgotten):
            bodies.take(row)
        for _ in range(forgotten):
            await asyncio.sleep(0)
        grown = plan_of(range(12)).take(slice(forgotten, None)).joined(part_of(list(range(12, 20)), 12))
        bodies.replace_rows(grown, forgotten)
        for _ in range(20):
            await asyncio.sleep(0)
        return [bodies.take(row) for row in range(len(grown))]

    alone = Bodies(plan_of(range(20)), job_of(tmp_path), VirtualClock())
    assert asyncio.run(grow()) == [alone.take(row) for row in range(forgotten, 20)]


def test_counts_of_workers_are_added_up(tmp_path: Path) -> None:
    """Sums of counts and of what is in flight; the latest of what was sent."""
    path = tmp_path / "counts.bin"
    probe_counts.create(path, 2, 1)
    for worker in range(2):
        block = probe_counts.attach(path, worker)
        block.sent(worker, 4 + worker, 5 * MS, worker * S)
        block.judged(0, 3, good=worker == 1)
        block.took(20 * MS, [10 * MS, None, 20 * MS])
        block.ended(failed=worker == 1)
    counts = probe_counts.read(path)
    assert (counts.started, counts.ended, counts.failed, counts.last_ns) == (2, 2, 1, S)
    assert counts.in_flight[:3].tolist() == [4, 5, 0]
    assert counts.tallies[0, 3].tolist() == [1, 2]
    assert counts.means_s == {"ttft": 0.01, "tpot": None, "e2e": 0.02}
