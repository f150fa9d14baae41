"""Capacity in sessions: what a probe offers, what of it counts, and that it is the capacity of the requests it brings."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from slobench.config.slo import parse_slo
from slobench.config.target import SimTarget
from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.experiment.capacity import SearchEnded, Wanted, ask_for, find_capacity, result_json, unit_of
from slobench.experiment.criteria import asked_of
from slobench.experiment.open_load import open_load
from slobench.experiment.search import decide
from slobench.experiment.search_state import History, Settings
from slobench.experiment.session_load import extent_of, offered_for
from slobench.experiment.setup import Trial
from slobench.experiment.stream import Probe
from slobench.experiment.trial import Interrupts
from slobench.experiment.trial_stream import open_trials
from slobench.experiment.virtual_sessions import VirtualSessions
from slobench.records.store import load, read_run_json
from slobench.report.capacity import CapacityView
from slobench.report.capacity_text import facts, result_line
from tests.experiment.running import report
from tests.experiment.streaming import ask
from tests.generate.mock_server import MockServer, after

S = 10**9
ENGINE = {
    "step": {"base_ms": 10, "token_ms": 0.01, "kv_token_ms": 0, "sequence_ms": 1, "attention_ms": 0, "noise_cv": 0.05},
    "max_num_seqs": 64,
    "max_num_batched_tokens": 2048,
    "prefix_cache": False,
}
SLO = ("ttft<400ms", "tpot<22.5ms", "attainment>=90%")
PLAIN = {
    "arrivals": {"process": "poisson", "rate": 32},
    "input_tokens": {"dist": "lognormal", "mean": 64, "sigma": 0.5, "max": 256},
    "output_tokens": {"dist": "uniform", "low": 4, "high": 12},
}
TALK = PLAIN | {
    "arrivals": {"process": "poisson", "rate": 10},
    "session": {
        "turns": {"dist": "uniform", "low": 2, "high": 4},
        "think_time": {"dist": "exponential", "mean": "2s"},
        "history": "none",
    },
}


def workload(**classes: Any) -> Workload:
    """A workload of these classes."""
    return Workload.model_validate({"name": "x", "duration": "60s", "slo": SLO, "classes": classes})


def probe(rate: float, n: int, settle_s: float, *, requests_each: float = 3.0, **changes: Any) -> Probe:
    """A probe of sessions."""
    return replace(Probe(1, "refine", rate, n, settle_s, 5, vr=False, requests_each=requests_each), **changes)


def test_an_arrival_brings_its_share_of_requests() -> None:
    """Three turns a session on average; with as many plain requests as sessions, two an arrival."""
    assert extent_of(workload(talk=TALK)).requests == pytest.approx(3.0, abs=0.02)
    both = extent_of(workload(talk=TALK, plain=PLAIN | {"arrivals": {"process": "poisson", "rate": 10}}))
    assert both.requests == pytest.approx(2.0, abs=0.02)
    assert extent_of(workload(plain=PLAIN)).requests == 1.0


def test_the_longest_way_through_a_session_is_waited_for() -> None:
    """Waits add up along steps, side by side the longer one counts; replies are counted on the way."""
    steps = [
        {"name": "plan"},
        {"name": "fast", "after": ["plan"], "delay": "1s"},
        {"name": "slow", "after": ["plan"], "delay": "5s"},
        {"name": "join", "after": ["fast", "slow"], "delay": "2s"},
    ]
    found = extent_of(workload(agent=TALK | {"session": {"steps": steps}}))
    assert (found.requests, found.waits_s, found.replies) == (4.0, 7.0, 2)


def test_a_probe_is_long_enough_for_its_requests_after_the_warm_up() -> None:
    """9 sessions/s of 3 requests: 270 requests take 10 s; classes keep their proportions; a lone one has no company."""
    made = offered_for(workload(talk=TALK, plain=PLAIN), probe(8.4, 252, 4.0))
    assert made.duration == 14 * S
    assert made.warmup == 4 * S
    rates = {name: spec.arrivals.rate for name, spec in made.classes.items()}  # type: ignore[union-attr]
    assert rates == {"talk": pytest.approx(2.0), "plain": pytest.approx(6.4)}
    alone = offered_for(workload(talk=TALK), probe(1.0, 1, 0.0))
    assert (alone.requests, alone.duration) == (1, None)


def virtual(store: Path | None = None, **changes: Any) -> VirtualSessions:
    """Sessions on a small engine."""
    made = workload(talk=TALK | changes)
    engine = SimTarget.model_validate({"kind": "sim", "engine": ENGINE}).engine
    slo = parse_slo(SLO, ("talk",))
    asked = asked_of(slo, ("talk",), target=None, per_class=False)
    return VirtualSessions(engine, made, slo, asked.counted, 0, store)


def test_requests_of_the_window_count_and_all_of_them(tmp_path: Path) -> None:
    """By their time, whichever session they belong to; each follower comes after what it waits for."""
    with closing(virtual(tmp_path / "sent.parquet")) as stream:
        for _ in stream.step(probe(10.0, 300, 8.0)):
            pass
        (found,) = stream.finished()
    rows = pq.read_table(tmp_path / "sent.parquet").to_pydict()
    scheduled = np.array(rows["scheduled_ns"])
    inside = (scheduled >= 8 * S) & (scheduled < 18 * S)
    assert found.n() == inside.sum() == pytest.approx(300, rel=0.25)
    assert (np.diff(scheduled) >= 0).all()
    assert found.attainment() > 0.9
    assert not found.curtailed
    assert all(rows["last_token_ns"][i] is not None for i in np.flatnonzero(inside))


def test_a_hopeless_load_is_given_up() -> None:
    """Far above what the engine carries a bracketing probe ends early, and says so."""
    stream = virtual()
    offered = probe(400.0, 3000, 4.0, purpose="bracket", target=0.9)
    for _ in stream.step(offered):
        pass
    (found,) = stream.finished()
    assert found.curtailed
    assert found.n() < 3000


def test_the_search_waits_for_sessions_and_needs_no_warm_up_of_its_own() -> None:
    """Settling has the planned waits on top; probes that refine are as long as what warms them up."""
    settings = Settings(
        criteria=asked_of(parse_slo(SLO), ("talk",), target=None, per_class=False).criteria,
        start_rate=10.0,
        requests_each=3.0,
        waits_s=30.0,
        replies=4,
    )
    move = decide(settings, History())
    assert (move.probe.purpose, move.probe.settle_s, move.probe.requests_each) == ("bracket", 50.0, 3.0)  # type: ignore[union-attr]


def search(folder: Path, made: Workload, *, virtual: bool = True, **settings: Any) -> SearchEnded:
    """Search to the end."""
    target = SimTarget.model_validate({"kind": "sim", "engine": ENGINE})
    rate = made.offered_rate()
    wanted = ask_for(
        Trial(made, target, folder), Wanted(virtual=virtual), Settings(criteria=(), start_rate=rate, **settings)
    )
    *_, ended = find_capacity(wanted, Interrupts(), open_load)
    assert isinstance(ended, SearchEnded)
    return ended


def test_sessions_bear_what_their_requests_would(tmp_path: Path) -> None:
    """Times three requests a session, the capacity in sessions is that of the requests, within the intervals."""
    talk = search(tmp_path / "talk", workload(talk=TALK), precision=0.1)
    plain = search(tmp_path / "plain", workload(plain=PLAIN), precision=0.1)
    each = talk.ask.settings.requests_each
    assert None not in (talk.found.low, talk.found.high, plain.found.low, plain.found.high)
    assert max(talk.found.low * each, plain.found.low) <= min(talk.found.high * each, plain.found.high)  # type: ignore[operator, type-var]
    result = result_json(talk.ask, talk.history, talk.found)["capacity"]
    assert (result["unit"], result["vr"]) == ("sessions/s", False)
    view = CapacityView(talk.ask, talk.history, talk.found)
    assert "sessions/s" in result_line(view)
    assert "of each session on average" in dict(facts(view))["requests"]
    assert unit_of(plain.ask) == "requests/s"


def test_patience_needs_real_time(tmp_path: Path) -> None:
    """The engine in virtual time serves everybody: refused, and said why."""
    impatient = workload(talk=TALK | {"patience": {"wait": "1s"}})
    with pytest.raises(ConfigError, match="class talk: nobody loses patience"):
        search(tmp_path, impatient)


def test_a_real_probe_is_a_stored_run_of_its_window(tmp_path: Path) -> None:
    """Workers offer it to a running server; the search is told of the same requests as the report tells of."""
    slo = ("ttft<400ms", "attainment>=90%")
    with MockServer(after(0.005)) as server:
        asked = ask(tmp_path, server.url, workers=2, slo=slo)
        made = workload(chat=TALK | {"session": {"turns": {"dist": "constant", "value": 3}, "think_time": "100ms"}})
        made = made.model_copy(update={"slo": slo})
        counted = asked_of(parse_slo(slo, ("chat",)), ("chat",), target=None, per_class=False).counted
        asked = replace(
            asked, trial=replace(asked.trial, workload=made), slo=parse_slo(slo, ("chat",)), counted=counted
        )
        with closing(open_trials(asked)) as stream:
            for _ in stream.step(probe(20.0, 60, 1.0)):
                assert stream.finished() == []
            (found,) = stream.finished()
    folder = tmp_path / "probe-01"
    run, requests = read_run_json(folder), load(folder).records.requests
    assert run["probe"] == {"number": 1, "purpose": "refine", "rate": 20.0, "n": 60}
    assert run["plan"]["digest"] == found.digest
    scheduled = requests["scheduled_ns"]
    assert found.n() == ((scheduled >= 1 * S) & (scheduled < 2 * S)).sum()
    assert (requests["follows"] == 1).any()
    _, shown = report(folder)
    assert shown["slo"]["all"]["n"] == found.n()
