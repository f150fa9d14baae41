"""A stream of load that is stepped from rate to rate without stopping: what a search offers, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from slobench.config.slo import Deadline, Limit
from slobench.experiment.events import Event

BATCHES = 10  # consecutive parts of a probe, equal in requests: their spread gives the design effect

Purpose = Literal["warmup", "floor", "bracket", "refine", "certify"]
Tally = tuple[tuple[int, int], ...]
"""(good, judged) of each of the BATCHES batches of a probe, in order of arrival."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One share that a stream counts in every probe: of which requests, and when one of them is good.

    what: "all" = it ended ok and meets every limit of its class; "ok" = it ended ok; a limit or deadline = it ended
    ok and meets this one. A limit on a quantity that the reply does not have (TPOT of one token) is met.
    """

    name: str  # "total", "class=chat", "ttft<500ms", "class=chat ttft<500ms"
    classes: frozenset[str]
    what: Limit | Deadline | Literal["all", "ok"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What to offer next."""

    number: int  # 0 is the first warm-up
    purpose: Purpose
    rate: float  # offered load over all classes: requests/s, sessions/s, in a closed loop the number of users
    n: int  # requests that count, all classes
    settle_s: float  # offered at this rate before they count
    seed: int
    vr: bool  # arrivals and lengths drawn more evenly than chance would
    target: float | None = None  # attainment below which it is futile to go on; None = never given up
    requests_each: float = 1.0  # requests that each arrival brings on average: more than 1 where they begin sessions


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of a probe, when all its requests that count have ended (or it was given up).

    tallies: for each Counted of the stream, by its name. in_flight: mean number of requests in flight during each
    batch. start_s, end_s: first and last counted arrival, on the stream's clock.
    """

    probe: Probe
    digest: str  # of the plan segment
    tallies: Mapping[str, Tally]
    in_flight: tuple[float, ...]
    errors: int
    mean_e2e_s: float | None
    p99_e2e_s: float | None
    start_s: float
    end_s: float
    mean_ttft_s: float | None = None
    mean_tpot_s: float | None = None
    curtailed: bool = False  # given up: it could not pass any more
    instrument: tuple[str, ...] = ()  # findings of the client's side (V01, V02): it does not enter the fit

    def good(self, name: str = "total") -> int:
        """Good requests of one share."""
        return sum(good for good, _ in self.tallies[name])

    def n(self, name: str = "total") -> int:
        """Judged requests of one share."""
        return sum(n for _, n in self.tallies[name])

    def attainment(self, name: str = "total") -> float | None:
        """Good over judged, None where none was judged."""
        n = self.n(name)
        return self.good(name) / n if n else None


class Stream(Protocol):
    """Load on one target that goes on from probe to probe: one clock, no pause, no drain between steps."""

    def step(self, probe: Probe) -> Iterator[Event]:
        """Offer a probe right after what was offered before.

        Ends when its last arrival has been sent, or it was given up as futile; in real time a little earlier,
        so that the next probe is there in time. Closing the iterator before its end gives up what has not been sent;
        such a probe is never among the finished. Yields at least once a second of the stream's time.
        """
        ...

    def finished(self) -> list[Probed]:
        """Probes that have ended since the last call, in order; those with purpose "warmup" too."""
        ...

    def drain(self) -> Iterator[Event]:
        """Offer nothing until everything in flight has ended."""
        ...

    def now_s(self) -> float:
        """Time on the stream's clock, from its first arrival on."""
        ...

    def close(self) -> None:
        """Stop offering and let go of the target."""
        ...


def futile(good: int, ended: int, n: int, target: float) -> bool:
    """Whether a probe of n requests, of which `ended` have ended and `good` were good, need not be ended.

    More failures than (1-p)n + 3 sqrt(n p (1-p)) + 1: below the target even if all that is left were good.
    Giving up can only make a probe fail, so it needs no correction for looking often.
    """
    allowed = (1 - target) * n + 3 * math.sqrt(n * target * (1 - target)) + 1
    return ended - good > allowed
