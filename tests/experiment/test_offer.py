"""Following a started generator: when the offer ends, what is cut, who is told; with workers that only listen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from slobench.config.workload import Workload
from slobench.experiment import offer as offer_module
from slobench.experiment.events import Notice, Progress, Step
from slobench.experiment.offer import Offer, OfferEnd, offer
from slobench.experiment.stopping import Stopping
from slobench.plan import build_plan
from slobench.records.counters import Counters, Hist, Slot

S = 10**9


@dataclass
class FakePool:
    """Workers that write down what they are told; they end once cut, or where `ends` says so."""

    ends: Callable[[FakePool], bool] = lambda pool: "cut" in pool.told
    told: list[Any] = field(default_factory=list)
    lost: dict[int, str] = field(default_factory=dict)
    ended: dict[int, Any] = field(default_factory=dict)
    workers: int = 1
    ticks: int = 0
    each_tick: Callable[[int], None] = lambda _: None

    @property
    def running(self) -> bool:
        return not self.ends(self) and len(self.lost) < self.workers

    def give_up(self, worker: int, why: str) -> None:
        self.lost[worker] = why

    def next_event(self, timeout_s: float) -> None:
        self.ticks += 1
        assert self.ticks < 100, f"no end in sight: {self.told}"
        self.each_tick(self.ticks)

    def stop(self, at_ns: int) -> None:
        self.told.append(("stop", at_ns))

    def cut(self) -> None:
        self.told.append("cut")


@dataclass
class Target:
    """A server that lives, or not."""

    lives: bool = True

    def alive(self) -> bool:
        return self.lives


@dataclass
class Asked:
    """The user's interrupts."""

    count: int = 0


def workload(drain: dict[str, Any] | None = None, **changes: Any) -> Workload:
    """Ten requests a second."""
    one = {"dist": "constant", "value": 4}
    chat = {"arrivals": {"process": "constant", "rate": 10}, "input_tokens": one, "output_tokens": one}
    return Workload.model_validate(
        {"name": "test", "duration": "10s", "drain": drain or {}, "classes": {"chat": chat}} | changes
    )


def follow(
    folder: Path,
    spec: Workload,
    pool: FakePool,
    *,
    at_s: float,
    target: Target | None = None,
    asked: Asked | None = None,
    e2e_s: tuple[float, ...] = (),
    stopping: Stopping | None = None,
) -> Iterator[Any]:
    """The events of an offer that began `at_s` ago, so that nobody has to wait."""
    Counters.create(folder / "counters.bin", 1).close()
    mine = Counters.attach(folder / "counters.bin", 0)
    for value in e2e_s:
        mine.observe(Hist.E2E, round(value * S))
    mine.set(Slot.STARTED, 7)
    epoch_ns = time.monotonic_ns() - round(at_s * S)
    what = Offer(pool, folder / "counters.bin", epoch_ns, build_plan(spec, 0), spec, False, stopping)  # type: ignore[arg-type]
    return offer(what, target or Target(), asked or Asked())


@pytest.mark.parametrize(
    ("drain", "e2e_s", "tail_s"),
    [
        ({"mode": "cut"}, (1.0,), 0),
        ({"mode": "wait", "grace": "30s"}, (), 30),  # no reply yet: as long as is allowed
        ({"mode": "wait", "grace": "30s"}, (1.0,) * 100, 2),  # twice the p99 of E2E
        ({"mode": "wait", "grace": "30s"}, (60.0,) * 100, 30),
        ({"mode": "grace", "grace": "5s"}, (1.0,) * 100, 2),
    ],
)
def test_a_run_by_duration_offers_a_tail_for_its_last_replies(
    tmp_path: Path, drain: dict[str, Any], e2e_s: tuple[float, ...], tail_s: float
) -> None:
    """At its duration the workers are told once to offer until duration + min(2 p99, grace), and nothing where it cuts."""
    pool = FakePool(ends=lambda pool: pool.ticks >= 5)
    events = list(follow(tmp_path, workload(drain), pool, at_s=10.1, e2e_s=e2e_s))
    stops = [told for told in pool.told if told != "cut"]
    assert len(stops) == 1
    # The histogram's bins are 2.5 % wide.
    assert stops[0] == ("stop", pytest.approx(10 * S + tail_s * S, abs=0.026 * tail_s * S))
    assert events[-1] == OfferEnd("complete", False, events[-1].end_ns)
    assert ("cut" in pool.told) == (drain["mode"] == "cut")
    assert sum(event == Step("draining") for event in events) == 1


def test_before_the_duration_nothing_is_told(tmp_path: Path) -> None:
    """A run in its middle goes on."""
    pool = FakePool(ends=lambda pool: pool.ticks >= 3)
    events = list(follow(tmp_path, workload(), pool, at_s=5))
    assert pool.told == []
    assert [event.draining for event in events if isinstance(event, Progress)].count(True) == 0


@pytest.mark.parametrize(("at_s", "cut"), [(14.0, False), (15.1, True)])
def test_t33_grace_ends_at_duration_plus_grace(tmp_path: Path, at_s: float, *, cut: bool) -> None:
    """Not before, and then without being asked again."""
    pool = FakePool(ends=lambda pool: pool.ticks >= 3 or "cut" in pool.told)
    list(follow(tmp_path, workload({"mode": "grace", "grace": "5s"}), pool, at_s=at_s))
    assert ("cut" in pool.told) is cut
    assert pool.told.count("cut") <= 1


def test_a_count_bound_run_is_not_stopped_by_time(tmp_path: Path) -> None:
    """Its plan ends by itself; the workers are never told to stop."""
    pool = FakePool(ends=lambda pool: pool.ticks >= 3)
    list(follow(tmp_path, workload(duration=None, requests=20), pool, at_s=50))
    assert pool.told == []


def test_one_interrupt_stops_two_cut(tmp_path: Path) -> None:
    """The first stops the offer where it stands, the second ends what is in flight; each is passed on once."""
    asked = Asked()

    def ask(tick: int) -> None:
        asked.count = (tick >= 2) + (tick >= 5)

    pool = FakePool(each_tick=ask)
    events = list(follow(tmp_path, workload(), pool, at_s=5, asked=asked))
    assert pool.ticks == 5
    kinds = [told if told == "cut" else told[0] for told in pool.told]
    assert kinds == ["stop", "cut"]
    assert 5 * S <= pool.told[0][1] < 10 * S
    assert (events[-1].stop, events[-1].interrupted) == ("interrupted", True)
    assert sum(isinstance(event, Step) and "interrupted" in event.text for event in events) == 1


def test_a_dead_target_ends_the_offer(tmp_path: Path) -> None:
    """Nothing more is offered to it; the user is told once."""
    pool = FakePool(ends=lambda pool: pool.ticks >= 4)
    events = list(follow(tmp_path, workload(), pool, at_s=5, target=Target(lives=False)))
    assert [told[0] for told in pool.told] == ["stop"]
    assert events[-1].stop == "target died"
    assert sum(isinstance(event, Notice) for event in events) == 1


def test_a_lost_worker_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    """Their rows are still good."""
    pool = FakePool(ends=lambda pool: pool.ticks >= 4, lost={0: "killed by signal 9"})
    events = list(follow(tmp_path, workload(), pool, at_s=5))
    assert pool.told == []
    assert (events[-1].stop, events[-1].interrupted) == ("worker lost", False)


def test_a_worker_that_does_not_end_when_cut_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the patience the offer ends all the same, and says so."""
    monkeypatch.setattr(offer_module, "_CUT_PATIENCE_S", -1.0)
    pool = FakePool(ends=lambda _: False)
    events = list(follow(tmp_path, workload(), pool, at_s=5, asked=Asked(2)))
    assert pool.told.count("cut") == 1
    assert "of the order to" in pool.lost[0]
    assert isinstance(events[-1], OfferEnd)
    assert events[-1].stop == "interrupted"


def test_a_frozen_worker_is_given_up(tmp_path: Path) -> None:
    """A worker whose heartbeat is a minute old would hold up the run for ever: it counts as lost."""
    pool = FakePool(ends=lambda _: False)
    events = list(follow(tmp_path, workload(), pool, at_s=61))
    assert "gave no sign" in pool.lost[0]
    assert isinstance(events[-1], OfferEnd)
    assert events[-1].stop == "worker lost"


def test_progress_counts_what_the_counters_say(tmp_path: Path) -> None:
    """Offered from the plan, achieved from the workers' starts, over the time since the start; no data is None."""
    pool = FakePool(ends=lambda pool: pool.ticks >= 1)
    progress = next(event for event in follow(tmp_path, workload(), pool, at_s=4) if isinstance(event, Progress))
    assert progress.offered_rps == pytest.approx(10, abs=0.5)  # 40 or 41 of the plan in the 4 s and a little
    assert progress.achieved_rps == pytest.approx(7 / 4, rel=0.2)  # a busy machine is late to look
    assert (progress.ttft_p50_s, progress.attainment, progress.sent, progress.total_s) == (None, None, 7, 10.0)
