"""What a search is asked, and what it has seen so far: values that can be stored and taken up again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from slobench.experiment.criteria import TOTAL, Criterion
from slobench.experiment.stream import Probe, Probed, Purpose

PROBE_N = 1500  # requests of a refining probe at a precision of 3 %


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a search may offer; None = no such bound."""

    requests: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What is looked for, and how."""

    criteria: tuple[Criterion, ...]
    start_rate: float
    precision: float = 0.03  # 95 % half-width of ln of the root
    max_probes: int = 24  # refining ones
    max_rate: float = 1e5
    seed: int = 0
    vr: bool = True
    conditioned: bool = False  # with vr the arrivals of a probe are drawn given their number (Poisson only)
    whole: bool = False  # the load is a number of users
    requests_each: float = 1.0  # requests that each arrival brings: more than 1 where they begin sessions
    waits_s: float = 0.0  # planned waits between a session's start and its later requests …
    replies: int = 0  # … and replies between them
    warmup_s: float = 0.0  # shortest warm-up asked for
    budget: Budget = Budget()

    @property
    def probe_n(self) -> int:
        """Requests of a refining probe: n grows with the square of the precision."""
        return int(np.clip(round(PROBE_N * (0.03 / self.precision) ** 2), 200, PROBE_N))

    def target(self) -> float | None:
        """Return the attainment of all requests below which a probe is given up."""
        return next((each.target for each in self.criteria if each.name == TOTAL), None)


Reason = Literal[
    "precise",
    "probes",
    "budget",
    "hopeless",
    "not reached",
    "unclear",
    "instrument",
    "certified",
    "uncertified",
    "interrupted",
    "running",
]


@dataclass(frozen=True, slots=True)
class History:
    """What has been done: `issued` in this session, `done` in this and earlier ones, and what it took so far."""

    issued: tuple[Probe, ...] = ()
    done: tuple[Probed, ...] = ()
    given_up: tuple[int, ...] = ()  # numbers of probes that were stopped because the search was over
    refined: Reason | None = None  # why refining ended, once it has
    requests: int = 0
    seconds: float = 0.0
    sent: int | None = None  # as the stream last said
    in_flight: int | None = None  # now, where the stream says so
    found_in_flight: tuple[int | None, ...] = ()  # when each of `issued` began
    drained: int = 0  # how many of `issued` had been offered when the server was last emptied

    def of(self, purpose: Purpose) -> tuple[Probed, ...]:
        """Finished probes of one purpose."""
        return tuple(each for each in self.done if each.probe.purpose == purpose)

    @property
    def waiting(self) -> bool:
        """Whether a probe has been offered whose outcome is not there."""
        known = {each.probe.number for each in self.done} | set(self.given_up)
        return any(probe.number not in known for probe in self.issued)

    @property
    def emptied(self) -> bool:
        """Whether nothing is left of what was offered; a probe that was given up has ended and leaves its queue."""
        return self.drained == len(self.issued) and not self.waiting

    @property
    def next_number(self) -> int:
        """The number of the next probe."""
        return 1 + max([-1, *(p.number for p in self.issued), *(d.probe.number for d in self.done)])


def cost(probe: Probe) -> tuple[int, float]:
    """Requests and seconds that a probe takes to offer."""
    rate = probe.rate * probe.requests_each
    return probe.n + round(rate * probe.settle_s), probe.settle_s + probe.n / rate
