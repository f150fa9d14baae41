"""Where the arrivals of a plan end: after so many, or before a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slobench.config.workload import MAX_REQUESTS
from slobench.errors import ConfigError
from slobench.workload.variates import FloatArray, IntArray

BLOCK = 8192  # gaps drawn at a time: fixed, so that a longer plan begins with the shorter one
LAST_NS = 2**60


@dataclass(frozen=True, slots=True)
class Bounds:
    """The first `n` arrivals, and only those before `horizon_ns`; None: no such bound."""

    n: int | None
    horizon_ns: int | None

    @property
    def horizon_s(self) -> float:
        """The horizon in s, or 36 years."""
        return (LAST_NS if self.horizon_ns is None else self.horizon_ns) / 1e9

    def want_more(self, drawn: int, last_ns: int) -> bool:
        """Whether arrivals after the `drawn` ones, of which the last comes at `last_ns`, may lie within."""
        if drawn > MAX_REQUESTS + BLOCK:
            raise too_many(f"{drawn:,} requests and more")
        return (self.n is None or drawn < self.n) and (self.horizon_ns is None or last_ns < self.horizon_ns)

    def cut(self, times_ns: IntArray) -> IntArray:
        """Leave out what lies beyond. Raises ConfigError where the first n do not come within 36 years."""
        within = times_ns[: self.n]
        if self.horizon_ns is None and len(within) and within[-1] >= LAST_NS:
            raise too_slow(self.n or 0)
        return within if self.horizon_ns is None else within[: np.searchsorted(within, self.horizon_ns, side="left")]

    def to_ns(self, t_s: FloatArray, after_ns: int = 0) -> IntArray:
        """Round to ns, never descending, never before `after_ns`; what lies beyond the horizon comes to lie at it."""
        latest_ns = LAST_NS if self.horizon_ns is None else self.horizon_ns
        rounded = np.rint(np.minimum(t_s * 1e9, float(latest_ns))).astype(np.int64)
        return np.maximum.accumulate(np.maximum(rounded, after_ns))


def too_many(what: str) -> ConfigError:
    """A plan that no memory is meant to hold."""
    return ConfigError(
        f"a plan of {what}: more than {MAX_REQUESTS:,} requests\n"
        "  expected  a lower rate, a shorter duration, or fewer requests"
    )


def too_slow(n: int) -> ConfigError:
    """A plan that no one would wait for, or one whose load ends before it."""
    return ConfigError(
        f"{n} requests would take longer than 36 years\n  expected  fewer, or a faster process whose rate stays above 0"
    )
