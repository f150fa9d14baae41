"""Joining the clock of another host to ours, on clocks that are told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.generate.clocks import Offset, drift_of, error_of, measure_offset

S = 10**9


@dataclass
class Network:
    """A host whose clock is `ahead_ns` of ours and runs `ppm` too fast, some way off. Delays in ns, there and back."""

    ahead_ns: int
    delays: Iterator[tuple[int, int]]
    ppm: float = 0.0
    now: int = 5 * S
    asked: list[int] = field(default_factory=list)

    def now_ns(self) -> int:
        return self.now

    def ask(self) -> int:
        there, back = next(self.delays)
        self.now += there
        told = self.now + self.ahead_ns + round(self.now * self.ppm / 1e6)
        self.now += back
        self.asked.append(there + back)
        return told


def always(there: int, back: int) -> Iterator[tuple[int, int]]:
    while True:
        yield there, back


def test_the_same_delay_both_ways_gives_the_offset_itself() -> None:
    """Hours apart, and known to the nanosecond; the error that is stated is half the round trip."""
    far = Network(-3_600 * S, always(400_000, 400_000))
    assert measure_offset(far.ask, far.now_ns) == Offset(-3_600 * S, 800_000)
    assert Offset(0, 800_001).error_ns == 400_001


@given(
    st.integers(-(10**15), 10**15),
    st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8)), min_size=5, max_size=20),
)
def test_the_truth_is_within_the_error(ahead_ns: int, delays: list[tuple[int, int]]) -> None:
    """However unequal the ways are; and no exchange would have had a smaller error."""
    far = Network(ahead_ns, iter(delays))
    found = measure_offset(far.ask, far.now_ns, pings=len(delays))
    assert abs(found.offset_ns - ahead_ns) <= found.error_ns
    assert found.round_trip_ns == min(far.asked)


def test_a_late_answer_does_not_spoil_the_others() -> None:
    """39 exchanges wait 50 ms on one way; the one that did not is taken."""
    slow: list[tuple[int, int]] = [(50_000_000, 300_000)] * 39
    far = Network(7 * S, iter([*slow[:20], (300_000, 300_000), *slow[20:]]))
    assert measure_offset(far.ask, far.now_ns) == Offset(7 * S, 600_000)


def test_drift_is_seen_and_part_of_the_error() -> None:
    """A clock that runs 50 ppm fast for ten minutes is 30 ms ahead at the end, and its times are off by so much."""
    far = Network(2 * S, always(100_000, 100_000), ppm=50)
    before = measure_offset(far.ask, far.now_ns)
    far.now += 600 * S
    after = measure_offset(far.ask, far.now_ns)
    drift_ns = drift_of(before, after)
    assert drift_ns == pytest.approx(30_000_000, rel=0.001)
    assert error_of(before, after) == drift_ns + after.error_ns


@pytest.mark.parametrize(
    ("before", "after", "error_ns", "drift_ns"),
    [
        (Offset(0, 1000), None, 500, None),
        (Offset(0, 1000), Offset(0, 200), 500, 0),
        (Offset(0, 1000), Offset(-700, 200), 800, -700),
    ],
)
def test_the_larger_error_counts(before: Offset, after: Offset | None, error_ns: int, drift_ns: int | None) -> None:
    """That of the start, or what had drifted by the end and that one's own; a lost worker has only the first."""
    assert error_of(before, after) == error_ns
    assert drift_of(before, after) == drift_ns
