"""Clocks of other hosts against ours: how far apart, how sure, and how far they drifted (docs/decisions/026-ray.md)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

PINGS = 40


@dataclass(frozen=True, slots=True)
class Offset:
    """Another host's monotonic clock less ours, in ns; the true value lies within half a round trip of it."""

    offset_ns: int
    round_trip_ns: int

    @property
    def error_ns(self) -> int:
        """Half the round trip: the answer was read somewhere in it, nobody knows where."""
        return -(-self.round_trip_ns // 2)


def measure_offset(ask: Callable[[], int], now_ns: Callable[[], int] = time.monotonic_ns, pings: int = PINGS) -> Offset:
    """Ask the other host for its time, again and again; the exchange with the smallest round trip says most.

    As NTP does it (RFC 5905, §10): what lengthens a round trip, a queue or a busy process, does so on one way only.
    """
    best: Offset | None = None
    for _ in range(pings):
        sent_ns = now_ns()
        there_ns = ask()
        back_ns = now_ns()
        if best is None or back_ns - sent_ns < best.round_trip_ns:
            best = Offset(there_ns - (sent_ns + back_ns) // 2, back_ns - sent_ns)
    assert best is not None
    return best


def drift_of(before: Offset, after: Offset | None) -> int | None:
    """How far the other clock ran away from ours in between, in ns; None where it was not asked again."""
    return None if after is None else after.offset_ns - before.offset_ns


def error_of(before: Offset, after: Offset | None) -> int:
    """By how much times that were put on our clock by the first offset may be off it, in ns, until the last was taken.

    Its own error at the start; what it had drifted by the end, and that measurement's error, then.
    """
    if after is None:
        return before.error_ns
    return max(before.error_ns, abs(after.offset_ns - before.offset_ns) + after.error_ns)
