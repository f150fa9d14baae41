"""Clocks are passed in: the machine's, or a virtual one that jumps to the next event."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Now, in integer nanoseconds; never goes back."""

    def now_ns(self) -> int:
        """Return the time in ns."""
        ...


class EpochClock(Clock, Protocol):
    """CLOCK_MONOTONIC, counted from `epoch_ns`."""

    epoch_ns: int


class MonotonicClock:
    """CLOCK_MONOTONIC, shared by all processes of one host."""

    epoch_ns = 0

    def now_ns(self) -> int:
        """Return the time in ns since the host's own zero."""
        return time.monotonic_ns()


@dataclass(slots=True)
class RunClock:
    """CLOCK_MONOTONIC counted from a run's start: the time base of every record.

    `epoch_ns` is set once, when the start is ordered; what is set up before takes no times.
    """

    epoch_ns: int

    def now_ns(self) -> int:
        """Return the time in ns since the run's start (negative before it)."""
        return time.monotonic_ns() - self.epoch_ns


@dataclass(slots=True)
class VirtualClock:
    """A clock that moves only when told: an hour of serving in milliseconds."""

    time_ns: int = 0

    def now_ns(self) -> int:
        """Return the virtual time in ns."""
        return self.time_ns

    def advance_to(self, time_ns: int) -> None:
        """Move forward to `time_ns`; moving back is an error."""
        if time_ns < self.time_ns:
            raise ValueError(f"virtual time cannot go back from {self.time_ns} to {time_ns}")
        self.time_ns = time_ns


@dataclass(frozen=True, slots=True)
class ClockAnchor:
    """One reading of both clocks, so that run times can be placed in wall time (§1 of metrics)."""

    monotonic_ns: int
    wall_ns: int

    @classmethod
    def take(cls) -> ClockAnchor:
        """Read both clocks, the monotonic one on both sides of the wall clock."""
        before = time.monotonic_ns()
        wall = time.time_ns()
        return cls((before + time.monotonic_ns()) // 2, wall)
