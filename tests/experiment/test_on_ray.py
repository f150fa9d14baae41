"""A trial, a report and a search whose workers are on a cluster, with a stand-in for Ray."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from slobench.config.target import RemoteTarget
from slobench.config.workers import OnRay
from slobench.experiment.events import Notice
from slobench.experiment.live_stream import open_stream
from slobench.experiment.setup import Trial, notes_on
from slobench.experiment.trial import Interrupts, run_trial
from slobench.generate.pool import Seat
from slobench.plan import build_plan
from slobench.records.store import read_run_json
from slobench.report.build import build_report
from tests.experiment.streaming import ask, probe
from tests.generate.fake_ray import FakeRay
from tests.generate.generating import open_workload
from tests.generate.mock_server import MockServer, after


@pytest.fixture(autouse=True)
def _cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeRay().install(monkeypatch)


def test_a_trial_on_two_hosts_is_one_run(tmp_path: Path) -> None:
    """One plan, one table of requests; run.json says where they were, the report how far their clocks are known."""
    workload = open_workload({"process": "constant", "rate": 100}, 60)
    with MockServer(after(0.01)) as server:
        target = RemoteTarget.model_validate({"kind": "remote", "url": server.url, "talk": {"model": "tiny"}})
        trial = Trial(workload, target, tmp_path / "r", seed=5, workers=OnRay())
        events = list(run_trial(trial, Interrupts()))
    run = read_run_json(tmp_path / "r")
    assert run["plan"]["digest"] == build_plan(workload, 5).digest
    assert run["workers"] == 2
    assert (run["cores"], run["ceiling"]) == (None, None)
    assert [(seat["worker"], seat["node"]) for seat in run["hosts"]] == [(0, "node-0"), (1, "node-1")]
    assert all(seat["drift_ns"] is not None for seat in run["hosts"])
    assert not [event for event in events if isinstance(event, Notice) and "lost" in event.text]
    build_report(tmp_path / "r")
    rows = pq.read_table(tmp_path / "r" / "requests.parquet").to_pydict()
    assert Counter(rows["outcome"]) == {"ok": 60}
    assert Counter(rows["worker"]) == {0: 30, 1: 30}
    page = (tmp_path / "r" / "report.md").read_text()
    assert "2 nodes of a Ray cluster, clocks known to ±" in page
    assert "## Hosts that offered the load" in page


def test_a_search_on_two_hosts_goes_on_from_probe_to_probe(tmp_path: Path) -> None:
    """Segments of the plan go to every host, counts come back; one that is given up is kept as far as it came."""
    with MockServer(after(0.01)) as server:
        with closing(open_stream(ask(tmp_path / "s", server.url, workers=OnRay(workers=2)))) as stream:
            for _ in stream.step(probe(0, 60, 60)):
                pass
            given_up = stream.step(probe(1, 60, 600))
            for _ in given_up:
                if len(server.seen) > 120:
                    break
            given_up.close()  # type: ignore[attr-defined]  # a generator
            for _ in stream.drain():
                pass
            done = stream.finished()
        seen = len(server.seen)
    assert [(each.probe.number, each.curtailed) for each in done] == [(0, False)]
    folders = [tmp_path / "s" / f"probe-{number:02d}" for number in (0, 1)]
    assert all(len(read_run_json(folder)["hosts"]) == 2 for folder in folders)
    outcomes = Counter(
        each for folder in folders for each in pq.read_table(folder / "requests.parquet")["outcome"].to_pylist()
    )
    assert outcomes["ok"] == seen < 600


def test_workers_that_run_behind_everything_else_are_told() -> None:
    """By host and niceness, with what mends it; silent where they could be raised."""
    seats = [Seat(0, "a", "1", 0, 0, 0, 0), Seat(1, "b", "2", 15, 0, 0, 0), Seat(2, "b", "2", 5, 0, 0, 0)]
    assert notes_on(seats[:1]) == []
    (note,) = notes_on(seats)
    assert note.startswith("workers on b run at nice 15")
    assert "RAY_worker_niceness=0" in note
