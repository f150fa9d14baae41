"""What a running trial says to whoever watches: frozen values, never printed here."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar, cast


@dataclass(frozen=True, slots=True)
class Step:
    """The trial entered a new step, e.g. "starting the target", "draining"."""

    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the trial stands; rates, TTFT and attainment are over the last 10 s, None = no data."""

    elapsed_s: float
    total_s: float | None  # planned length of the offer; None where only a count is known
    offered_rps: float
    achieved_rps: float
    finished_rps: float
    in_flight: int
    planned: int
    sent: int
    ended: int
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    attainment: float | None
    errors: int
    draining: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know now: a note, or a warning."""

    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """A line of progress that is to stay: a pair that was measured, a look that was taken."""

    text: str


@dataclass(frozen=True, slots=True)
class SeenProbe:
    """A probe of a capacity search that has ended."""

    number: int
    purpose: str
    rate: float
    n: int
    attainment: float | None


@dataclass(frozen=True, slots=True)
class Searching:
    """Where a capacity search stands; loads in requests/s, or users where `unit` says so. None = not known yet.

    curve: (load, attainment, low, high) of the fit with its 95 % band. left_s: time until it ends, by estimate.
    """

    phase: str  # bracket | refine | certify
    now: SeenProbe | None  # attainment None: on its way
    probes: tuple[SeenProbe, ...]
    target: float
    unit: str  # requests/s | users
    bracket: tuple[float | None, float | None]
    root: float | None
    low: float | None
    high: float | None
    precision: float
    curve: tuple[tuple[float, float, float, float], ...]
    requests: int
    elapsed_s: float
    left_s: float | None


Event = Step | Progress | Notice | Told | Searching
Last = TypeVar("Last")


def passed_on(events: Iterable[Event | Last], last: type[Last]) -> Generator[Event, None, Last]:
    """Pass events on, and return the one that they end with."""
    found: Last | None = None
    for event in events:
        if isinstance(event, last):
            found = event
        else:
            yield cast("Event", event)
    assert found is not None
    return found
