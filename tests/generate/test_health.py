"""The worker's watch on itself: what it samples, and that the spool is flushed each second, come what may."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

import pytest

from slobench.clock import VirtualClock
from slobench.generate.exchange import ReadCounters
from slobench.generate.health import BEAT_NS, Health
from slobench.records.counters import Counters, Slot
from slobench.records.schema import WORKER_METRICS
from tests.generate.rig import MS, Rows, S


class Spool:
    """A spool that counts its flushes."""

    lost_rows = 3

    def __init__(self, clock: VirtualClock) -> None:
        self.telemetry = Rows()
        self.flushed_ns: list[int] = []
        self._clock = clock

    def flush(self) -> None:
        self.flushed_ns.append(self._clock.now_ns())

    def named(self, name: str) -> list[tuple[int, float]]:
        return [(t, value) for t, code, value in self.telemetry.rows if WORKER_METRICS[code] == name]


@pytest.mark.parametrize("every", [1, 2, 7, 12], ids=lambda n: f"one beat in {n} is heard")
def test_the_spool_is_flushed_each_second_however_many_beats_are_swallowed(tmp_path: Path, every: int) -> None:
    """Between two flushes lies a second and at most the wait for the next beat that is heard."""
    Counters.create(tmp_path / "c", 1).close()
    clock = VirtualClock()
    spool, reads = Spool(clock), ReadCounters(reads=11, unstamped=2, clock_steps=1)
    counters = Counters.attach(tmp_path / "c", 0)
    health = Health(clock, spool, counters, reads, lambda: 5, clock.now_ns)  # type: ignore[arg-type]  # Spool
    step_ns = BEAT_NS * every
    for due_ns in range(0, 10 * S + 1, step_ns):
        clock.advance_to(due_ns + MS // 2)
        health.beat(due_ns)
    health.close()
    gaps = [after - before for before, after in zip(spool.flushed_ns, spool.flushed_ns[1:], strict=False)]
    assert len(spool.flushed_ns) >= 10
    assert max(gaps) <= S + step_ns
    overshoots = [value for _, value in spool.named("heartbeat_overshoot_ns")]
    assert set(overshoots) == {MS // 2}
    assert {value for _, value in spool.named("in_flight")} == {5}
    with Counters.open(tmp_path / "c") as live:
        seen = live.snapshot()
    wanted = {Slot.IN_FLIGHT: 5, Slot.READS: 11, Slot.UNSTAMPED: 2, Slot.CLOCK_STEPS: 1, Slot.SPOOL_LOST: 3}
    assert {slot: seen.total(slot) for slot in wanted} == wanted


def test_each_second_has_one_sample_of_every_kind(tmp_path: Path) -> None:
    """CPU, descriptors and reads once a second and once at the end; collections as they happen, and none after."""
    Counters.create(tmp_path / "c", 1).close()
    clock = VirtualClock()
    spool = Spool(clock)
    callbacks = len(gc.callbacks)
    health = Health(clock, spool, Counters.attach(tmp_path / "c", 0), ReadCounters(), lambda: 0, clock.now_ns)  # type: ignore[arg-type]
    for due_ns in range(0, 3 * S, BEAT_NS):
        clock.advance_to(due_ns)
        health.beat(due_ns)
    gc.collect()
    health.close()
    kinds = Counter(WORKER_METRICS[code] for _, code, _ in spool.telemetry.rows)
    assert {kinds[name] for name in ("cpu_s", "in_flight", "reads", "open_fds", "fd_limit")} == {4}
    assert kinds["heartbeat_overshoot_ns"] == 3 * S // BEAT_NS
    assert kinds["gc_pause_ns"] >= 1
    assert len(gc.callbacks) == callbacks


def test_collections_before_the_start_are_none_of_the_run(tmp_path: Path) -> None:
    """A worker collects all garbage while it prepares: that pause is no sample, one after the first beat is."""
    Counters.create(tmp_path / "c", 1).close()
    clock = VirtualClock()
    spool = Spool(clock)
    health = Health(clock, spool, Counters.attach(tmp_path / "c", 0), ReadCounters(), lambda: 0, clock.now_ns)  # type: ignore[arg-type]
    gc.collect()
    assert spool.named("gc_pause_ns") == []
    health.beat(0)
    gc.collect()
    health.close()
    assert len(spool.named("gc_pause_ns")) >= 1


class Wall:
    """A wall clock that runs at a rate of its own, is set at times, and may be read late."""

    def __init__(self, clock: VirtualClock, *, slew: float = 0.0, steps: dict[int, int] | None = None) -> None:
        self._clock, self._slew, self._steps = clock, slew, steps or {}
        self.read_takes_ns = 0

    def __call__(self) -> int:
        now_ns = self._clock.now_ns()
        set_ns = sum(by for at, by in self._steps.items() if at <= now_ns)
        self._clock.advance_to(now_ns + self.read_takes_ns)
        return 10**18 + round(now_ns * (1 + self._slew)) + set_ns


@pytest.mark.parametrize(
    ("slew", "steps", "seen"),
    [
        (0.0, {}, []),
        (500e-6, {}, []),  # as fast as ntpd slews
        (1 / 12, {}, []),  # and chrony
        (0.0, {S: 128 * MS}, [128 * MS]),  # the least that ntpd sets at once
        (0.0, {S: -200 * MS}, [-200 * MS]),
        (0.0, {S: MS // 2}, []),
        (0.0, {S: 3600 * S, 2 * S: -3600 * S}, [3600 * S, -3600 * S]),
    ],
)
@pytest.mark.parametrize("every", [1, 10])
def test_a_wall_clock_that_is_set_is_seen_and_one_that_is_slewed_is_not(
    tmp_path: Path, every: int, slew: float, steps: dict[int, int], seen: list[int]
) -> None:
    """One sample for each step, also where nine beats of ten are lost."""
    Counters.create(tmp_path / "c", 1).close()
    clock = VirtualClock()
    spool, wall = Spool(clock), Wall(clock, slew=slew, steps=steps)
    health = Health(clock, spool, Counters.attach(tmp_path / "c", 0), ReadCounters(), lambda: 0, wall)  # type: ignore[arg-type]
    for due_ns in range(0, 4 * S, BEAT_NS * every):
        clock.advance_to(due_ns)
        health.beat(due_ns)
    health.close()
    slewed_ns = slew * BEAT_NS * every + 2
    assert [round(value) for _, value in spool.named("wall_step_ns")] == [
        pytest.approx(by, abs=slewed_ns) for by in seen
    ]


def test_a_stop_between_two_readings_is_no_step(tmp_path: Path) -> None:
    """A process that is stopped between reading the two clocks cannot tell their offset, and does not try."""
    Counters.create(tmp_path / "c", 1).close()
    clock = VirtualClock()
    spool, wall = Spool(clock), Wall(clock)
    health = Health(clock, spool, Counters.attach(tmp_path / "c", 0), ReadCounters(), lambda: 0, wall)  # type: ignore[arg-type]
    for beat in range(60):
        clock.advance_to(max(beat * BEAT_NS, clock.now_ns()))
        wall.read_takes_ns = 5 * MS if beat % 7 == 3 else 0
        health.beat(beat * BEAT_NS)
    health.close()
    assert spool.named("wall_step_ns") == []
