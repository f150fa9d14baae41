"""A search from the question to its files: several classes, interruption, a target that dies, resuming."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from slobench.config.arrivals import Poisson
from slobench.config.lengths import LognormalLength
from slobench.config.load import load_target
from slobench.config.workload import RequestClass, Workload
from slobench.errors import ConfigError, TargetDiedError
from slobench.experiment import capacity_file
from slobench.experiment.capacity import CapacityAsk, SearchEnded, Wanted, ask_for, asked_json, find_capacity
from slobench.experiment.events import Notice, Progress, Searching
from slobench.experiment.open_load import open_load
from slobench.experiment.search_state import Settings
from slobench.experiment.setup import Trial
from slobench.experiment.trial import Interrupts
from tests.experiment.streams import CurveStream
from tests.experiment.test_search import falling

INPUT = LognormalLength(mean=512, sigma=0.9, min=8, max=8000)


def outputs(mean: float) -> LognormalLength:
    return LognormalLength(mean=mean, sigma=0.8, min=1, max=2000)


ONE = Workload(
    name="one",
    classes={"all": RequestClass(arrivals=Poisson(rate=20), input_tokens=INPUT, output_tokens=outputs(220))},
    requests=1,
    slo=("ttft<500ms", "tpot<30ms", "attainment>=90%"),
)
TWO = ONE.model_copy(
    update={
        "classes": {
            "short": RequestClass(arrivals=Poisson(rate=12), input_tokens=INPUT, output_tokens=outputs(60)),
            "long": RequestClass(arrivals=Poisson(rate=8), input_tokens=INPUT, output_tokens=outputs(220)),
        },
        "slo": ("ttft<500ms", "tpot<30ms", "attainment>=90%", "class=short tpot<24ms"),
    }
)


def asking(folder: Path, workload: Workload = ONE, *, wanted: Wanted | None = None, **settings) -> CapacityAsk:
    trial = Trial(workload, load_target("sim-reference").value, folder, force=True)
    return ask_for(trial, wanted or Wanted(virtual=True), Settings(**{"criteria": (), "start_rate": 20.0, **settings}))


def to_the_end(ask: CapacityAsk, opened: Callable = open_load) -> SearchEnded:
    events = list(find_capacity(ask, Interrupts(), opened))
    assert isinstance(events[-1], SearchEnded)
    return events[-1]


def test_every_class_must_keep_the_target(tmp_path: Path) -> None:
    """With --per-class the class with the tighter limit binds, below the capacity of all together."""
    together = to_the_end(asking(tmp_path / "a", TWO, precision=0.07)).found
    each = to_the_end(asking(tmp_path / "b", TWO, precision=0.07, wanted=Wanted(per_class=True, virtual=True))).found
    assert set(each.roots) == {"class=short", "class=long"}
    assert each.criterion.name == "class=short"
    assert each.binding == "class=short tpot<24ms"
    assert each.rate < together.rate
    assert each.roots["class=short"][0] == pytest.approx(each.rate)
    assert together.binding in {"tpot<24ms", "tpot<30ms", "ttft<500ms"}
    assert set(together.classes) == {"short", "long"}
    assert together.classes["short"] < together.classes["long"]


def test_a_ttft_only_slo(tmp_path: Path) -> None:
    """One limit as a percentile: it is the criterion, and it binds."""
    ask = asking(tmp_path, ONE.model_copy(update={"slo": ("ttft:p90<500ms",)}), precision=0.04)
    found = to_the_end(ask).found
    assert found.criterion.name == "ttft:p90<500ms"
    # 22.8 requests/s by long runs (scripts/validate_capacity.py); 4 standard errors, of which two are the interval
    assert abs(math.log(found.rate / 22.81)) <= math.log(found.high / found.low)
    assert math.log(found.high / found.low) <= 0.12


def test_what_a_watcher_sees(tmp_path: Path) -> None:
    """Events of the search, none of the virtual clock's progress; the last ones have a curve and the time left."""
    seen = list(find_capacity(asking(tmp_path, precision=0.07), Interrupts(), open_load))
    states = [each for each in seen if isinstance(each, Searching)]
    assert not [each for each in seen if isinstance(each, Progress)]
    assert {each.phase for each in states} == {"bracket", "refine", "certify"}
    assert states[-1].curve
    assert states[-1].left_s is not None
    assert states[-1].root is not None
    assert len(states[-1].probes) >= 8


class Curve(CurveStream):
    """Every share of the SLO is counted."""

    names = ("total", "class=all", "ttft<500ms", "tpot<30ms")


class Dying(Curve):
    """A target that dies in its fourth probe."""

    def step(self, probe):
        if probe.number == 3:
            raise TargetDiedError("the server ended")
        yield from super().step(probe)


def test_a_target_that_dies_leaves_its_probes(tmp_path: Path) -> None:
    """The error comes through, the stream is closed, capacity.json holds what had ended."""
    stream = Dying(falling(), seed=1)
    with pytest.raises(TargetDiedError):
        list(find_capacity(asking(tmp_path), Interrupts(), lambda *_: stream))
    assert stream.closed
    stored = capacity_file.load(tmp_path)
    assert stored["state"] == "failed"
    assert len(stored["probes"]) == 3


def test_an_interrupted_search_ends_in_order_and_goes_on(tmp_path: Path) -> None:
    """Ctrl-C gives up the rest of the probe, drains, writes what is known; resumed, the probes are used."""
    interrupts, ask = Interrupts(), asking(tmp_path)
    stream = Curve(falling(), seed=2)
    ended = None
    for event in find_capacity(ask, interrupts, lambda *_: stream):
        if isinstance(event, Searching) and event.phase == "refine" and len(event.probes) >= 7:
            interrupts.count = 1
        ended = event
    assert isinstance(ended, SearchEnded)
    assert ended.found.reason == "interrupted"
    assert stream.closed
    assert stream.given_up
    again = asking(tmp_path, wanted=Wanted(virtual=True, resume=True))
    events = list(find_capacity(again, Interrupts(), lambda *_: Curve(falling(), seed=3)))
    assert any(isinstance(each, Notice) and "resuming after" in each.text for each in events)
    done = events[-1].history.done
    assert done[: len(ended.history.done)] == ended.history.done
    assert events[-1].found.reason == "certified"


def test_probes_are_stored_and_read_back_whole(tmp_path: Path) -> None:
    """What is read equals what was written, so that a resumed search sees the same values."""
    ended = to_the_end(asking(tmp_path, precision=0.07))
    stored = capacity_file.load(tmp_path)
    history = capacity_file.history_of(stored, asked_json(ended.ask))
    assert history.done == ended.history.done
    assert history.requests == ended.history.requests
    changed = ONE.model_copy(update={"slo": ("ttft<400ms", "attainment>=90%")})
    other = asked_json(asking(tmp_path, changed, precision=0.07))
    with pytest.raises(ConfigError, match="cannot resume: slo, workload differ"):
        capacity_file.history_of(stored, other)


def test_a_closed_loop_has_no_capacity(tmp_path: Path) -> None:
    """It is refused, with what can be asked instead."""
    from slobench.config.workload import ClosedLoop

    classes = {"all": ONE.classes["all"].model_copy(update={"arrivals": None})}
    closed = ONE.model_copy(update={"loop": ClosedLoop(users=4), "requests": 100, "classes": classes})
    with pytest.raises(ConfigError, match="has no capacity"):
        asking(tmp_path, closed)
