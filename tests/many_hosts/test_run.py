"""`slobench run --workers ray`: one report of many hosts; interrupted, a host lost, through Ray Client, in a search."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from slobench.config.workers import OnRay
from slobench.config.workload import Workload
from slobench.experiment.live_stream import open_stream
from slobench.names import Exit
from slobench.plan import build_plan
from slobench.records.store import read_run_json
from tests.experiment.running import report, running, until
from tests.experiment.streaming import ask, probe
from tests.generate.mock_server import MockServer, after
from tests.many_hosts.nodes import Nodes, workers_alive

SHORT = ("--input-tokens", "8", "--output-tokens", "4", "--arrivals", "constant", "--json")


@pytest.fixture(autouse=True)
def _here(ray_cluster: Nodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster.address)
    yield
    until(lambda: not workers_alive(), "the end of all workers")


def test_one_report_of_two_hosts(tmp_path: Path) -> None:
    """The plan of a local run, sent by both; the report names them and how far their clocks are known."""
    words = ("--target", "sim", "--rate", "60", "--requests", "120", "--workers", "ray", *SHORT)
    with running(tmp_path / "r", *words) as run:
        run.end()
        told, rows = run.run_json(), run.rows()
    plan = build_plan(Workload.model_validate(told["spec"]["workload"]), told["seed"])
    assert told["plan"]["digest"] == plan.digest
    assert plan.scheduled_ns is not None
    assert rows["scheduled_ns"] == plan.scheduled_ns.tolist()
    assert Counter(rows["outcome"]) == {"ok": 120}
    assert Counter(rows["worker"]) == {0: 60, 1: 60}
    assert told["workers"] == 2
    assert [seat["worker"] for seat in told["hosts"]] == [0, 1]
    assert len({seat["node"] for seat in told["hosts"]}) == 2
    for seat in told["hosts"]:
        assert seat["error_ns"] >= seat["round_trip_ns"] // 2 > 0
        assert abs(seat["drift_ns"]) <= 2 * seat["error_ns"]
    page = (tmp_path / "r" / "report.md").read_text()
    assert "2 nodes of a Ray cluster, clocks known to ±" in page
    assert re.search(r"## Hosts that offered the load\n\n.*\n.*\n\| \*\*0\*\* \| .* \| 60 \| 0 \| ±\d", page)
    assert "Hosts that offered the load" in (tmp_path / "r" / "report.html").read_text()


def test_a_lost_host_makes_the_run_invalid_and_its_requests_are_listed(tmp_path: Path, ray_cluster: Nodes) -> None:
    """A node is killed: what it had begun or should have sent is `lost`, the others go on, their children with it."""
    node = ray_cluster.add(cpus=2)
    with MockServer(after(0.5)) as server:
        words = ("--target", server.url, "--rate", "60", "--requests", "360", "--workers", "ray/4", *SHORT)
        with running(tmp_path / "r", *words) as run:
            until(lambda: len(server.seen) >= 160, "160 requests")
            workers = ray_cluster.kill(node)
            assert len(workers) == 2
            until(lambda: not any(map(_runs, workers)), "the end of its processes")
            assert run.end() == Exit.INVALID
            told, rows, shown = run.run_json(), run.rows(), run.json()
    gone = {int(worker) for worker in told["run"]["workers_lost"]}
    assert len(gone) == 2
    lost = [index for index, outcome in zip(rows["index"], rows["outcome"], strict=True) if outcome == "lost"]
    assert {rows["worker"][index] for index in lost} == gone
    unsent = [index for index, outcome in zip(rows["index"], rows["outcome"], strict=True) if outcome == "unsent"]
    assert set(rows["outcome"]) - {"unsent"} == {"ok", "lost"}
    assert all(index > 355 and rows["worker"][index] in gone for index in unsent)  # after the last that others sent
    in_flight = [seen.index for seen in server.seen if seen.closed]
    assert set(in_flight) <= set(lost)
    assert in_flight
    kept = [index for index in range(360) if rows["worker"][index] in gone and rows["outcome"][index] == "ok"]
    assert kept  # what it had told before
    assert shown["verdict"].startswith("INVALID: V02 2 of 4 generator processes lost")
    for worker in gone:
        mine = [index for index in lost if rows["worker"][index] == worker]
        note = next(note for note in told["run"]["notes"] if note.startswith(f"generator process {worker} was lost"))
        assert f"requests lost with it: {mine[0]}" in note
    assert all((seat["drift_ns"] is None) == (seat["worker"] in gone) for seat in told["hosts"])
    assert report(tmp_path / "r")[0] == Exit.INVALID


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_ctrl_c_drains_the_workers_of_all_hosts(tmp_path: Path) -> None:
    """Nothing more is offered, replies in flight are waited for, the report is made, exit 130."""
    with (
        MockServer(after(0.5)) as server,
        running(
            *(tmp_path / "r", "--rate", "40", "--duration", "10m", "--target", server.url, "--workers", "ray/2"), *SHORT
        ) as run,
    ):
        until(lambda: len(server.seen) >= 20, "20 requests")
        run.process.send_signal(signal.SIGINT)
        assert run.end() == Exit.INTERRUPTED
        outcomes = Counter(run.rows()["outcome"])
        assert outcomes.keys() == {"ok", "unsent"}
        assert outcomes["ok"] == len(server.seen)
        assert not any(seen.closed for seen in server.seen)
        assert "Traceback" not in run.err.read_text()
        assert "ray" not in run.err.read_text().lower()  # what Ray would say of its own


def test_a_cluster_elsewhere_through_ray_client(tmp_path: Path, ray_cluster: Nodes) -> None:
    """ray://HOST:PORT/2: the parent is no part of the cluster."""
    where = f"ray://127.0.0.1:{ray_cluster.client_port}/2"
    with MockServer(after(0.01)) as server:
        words = ("--target", server.url, "--rate", "60", "--requests", "60", "--workers", where, *SHORT)
        with running(tmp_path / "r", *words) as run:
            run.end()
            told, rows = run.run_json(), run.rows()
    assert Counter(rows["outcome"]) == {"ok": 60}
    assert len({seat["node"] for seat in told["hosts"]}) == 2


def test_a_search_goes_on_from_probe_to_probe(tmp_path: Path) -> None:
    """The plan grows by segments that every node gets, and their counts come back; the second is given up."""
    with MockServer(after(0.01)) as server:
        stream = open_stream(ask(tmp_path / "s", server.url, workers=OnRay(workers=2)))
        with closing(stream):
            for _ in stream.step(probe(0, 60, 60)):
                pass
            given_up = stream.step(probe(1, 60, 600))
            until(lambda: len(server.seen) > 100 or next(given_up) is None, "the second probe")
            given_up.close()  # type: ignore[attr-defined]  # a generator
            for _ in stream.drain():
                pass
            done = stream.finished()
    assert [(each.probe.number, each.curtailed) for each in done] == [(0, False)]
    assert sum(good + bad for good, bad in done[0].tallies["ok"]) >= 60
    stored = [read_run_json(tmp_path / "s" / f"probe-{number:02d}") for number in (0, 1)]
    assert all(len({seat["node"] for seat in run["hosts"]}) == 2 for run in stored)
    sent = sum(outcomes.count("ok") for outcomes in map(_outcomes, (tmp_path / "s" / f"probe-{n:02d}" for n in (0, 1))))
    assert sent == len(server.seen) < 600


def _outcomes(folder: Path) -> list[str]:
    found: list[str] = pq.read_table(folder / "requests.parquet")["outcome"].to_pylist()
    return found
