"""Workers on the nodes of a Ray cluster: the plan, the clocks, orders, secrets, what is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from slobench.config.workers import OnRay
from slobench.generate.pool import Pool
from slobench.generate.ray_pool import RayPool
from slobench.names import Outcome
from slobench.plan import build_plan
from slobench.records.assemble import assemble
from slobench.records.counters import Counters, Slot
from slobench.wire.endpoint import Endpoint
from tests.generate.generating import Generated, closed_workload, generate, open_workload
from tests.generate.mock_server import MockServer, after, at_once, never
from tests.many_hosts.nodes import SHIFT_S, WORKER, Nodes, workers_alive

POISSON = open_workload({"process": "poisson", "rate": 150}, 300)


def on_ray(workers: int, spool: Path) -> Pool:
    """A pool on the cluster that RAY_ADDRESS names."""
    return RayPool(OnRay(workers=workers), spool, most=256, connections=0)


@pytest.fixture(autouse=True)
def _here(ray_cluster: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster.address)


@pytest.fixture(scope="module")
def poisson(ray_cluster: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Generated, MockServer]]:
    """An open-loop plan offered by two nodes, the second on another clock."""
    with pytest.MonkeyPatch.context() as patch, MockServer(after(0.02)) as server:
        patch.setenv("RAY_ADDRESS", ray_cluster.address)
        run = generate(tmp_path_factory.mktemp("ray"), POISSON, server.url, workers=2, pool_of=on_ray)
        yield run, server


def test_the_shards_of_all_nodes_are_the_plan(poisson: tuple[Generated, MockServer]) -> None:
    """(index, scheduled time, lengths) as recorded, and lengths as the server saw them, are those of a local run."""
    run, server = poisson
    plan = build_plan(POISSON, seed=11)
    assert plan.scheduled_ns is not None
    wanted = [*zip(*(c.tolist() for c in (plan.scheduled_ns, plan.input_tokens, plan.output_tokens)), strict=True)]
    columns = (run.requests[name] for name in ("scheduled_ns", "input_tokens_planned", "output_tokens_planned"))
    assert [*zip(*(column.astype(np.int64).tolist() for column in columns), strict=True)] == wanted
    assert set(run.requests["outcome"].tolist()) == {Outcome.OK}
    assert sorted((seen.index, seen.prompt_tokens, seen.max_tokens) for seen in server.seen) == [
        (index, prompt, output) for index, (_, prompt, output) in enumerate(wanted)
    ]
    assert (run.requests["worker"] == run.requests["session"] % 2).all()
    assert run.started == len(plan)
    assert len({seat.node for seat in run.seats}) == 2
    assert len(run.records.chunks["t_ns"]) == plan.output_tokens.sum()


def test_the_offset_of_another_clock_is_measured_and_gone(
    poisson: tuple[Generated, MockServer], ray_cluster: Nodes
) -> None:
    """A node 100,000 s ahead: requests of both are on the run's clock within the error that is stated."""
    if not ray_cluster.shifted:
        pytest.skip("this kernel, or its permissions, give no time namespace")
    run, server = poisson
    ahead = [seat for seat in run.seats if seat.offset_ns > SHIFT_S * 10**9 // 2]
    assert len(ahead) == 1
    assert abs(ahead[0].offset_ns - SHIFT_S * 10**9) <= ahead[0].error_ns
    error_ns = {seat.worker: seat.error_ns for seat in run.seats}
    rows = run.requests
    assert (rows["started_ns"] >= rows["scheduled_ns"]).all()
    for seen in server.seen:  # the server is on this host's clock, which is the run's
        allowed_ns = error_ns[int(rows["worker"][seen.index])]
        came_ns = seen.came_ns - run.epoch_ns
        assert rows["sent_ns"][seen.index] - allowed_ns <= came_ns
        assert came_ns >= rows["scheduled_ns"][seen.index] - allowed_ns
        # 1 ms: the kernel's stamp is carried over from wall time by two readings of two clocks.
        assert rows["first_token_ns"][seen.index] >= seen.replied_ns - run.epoch_ns - allowed_ns - 1_000_000
    beats = run.records.telemetry["t_ns"][run.records.telemetry["name"] == "heartbeat_overshoot_ns"]
    assert 0 <= beats.min() <= beats.max() < 3600 * 10**9


def test_the_drift_is_seen_and_within_the_errors(poisson: tuple[Generated, MockServer]) -> None:
    """All nodes are one machine: their clocks do not run away from each other by more than was measured badly."""
    for seat in poisson[0].seats:
        assert seat.drift_ns is not None
        assert abs(seat.drift_ns) <= 2 * seat.error_ns
        assert seat.error_ns >= seat.round_trip_ns // 2


def test_users_of_a_closed_loop_are_dealt_to_nodes(tmp_path: Path) -> None:
    """Every turn of every user, due where the one before ended."""
    with MockServer(at_once) as server:
        rows = generate(tmp_path, closed_workload(5, 50), server.url, workers=2, pool_of=on_ray).requests
    assert set(rows["outcome"].tolist()) == {Outcome.OK}
    for user in range(5):
        mine = np.flatnonzero(rows["session"] == user)
        assert rows["scheduled_ns"][mine[1:]].tolist() == rows["end_ns"][mine[:-1]].tolist()


def test_stop_and_cut_reach_every_node(tmp_path: Path) -> None:
    """As Ctrl-C does it: rows at or after the stop are unsent, what is in flight is cut, all end in good order."""
    told: list[str] = []

    def stop_then_cut(pool: RayPool, counters: Counters) -> None:
        if not told and counters.snapshot().slots[:, Slot.STARTED].min() >= 5:
            pool.stop(at_ns=0)
            told.append("stop")
        elif told == ["stop"]:
            pool.cut()
            told.append("cut")

    with MockServer(never) as server:
        workload = open_workload({"process": "constant", "rate": 50}, 2000)
        run = generate(tmp_path, workload, server.url, workers=2, pool_of=on_ray, meanwhile=stop_then_cut)
    outcomes = run.requests["outcome"]
    assert set(outcomes.tolist()) == {Outcome.CUT, Outcome.UNSENT}
    assert (outcomes == Outcome.CUT).sum() == run.started == len(server.seen)
    assert run.pool.lost == {}


def test_nothing_is_left_where_the_parent_leaves(tmp_path: Path) -> None:
    """No process and no file on any node; what had been recorded is with the parent."""

    class EnoughError(Exception):
        pass

    folders: list[Path] = []

    def leave(pool: RayPool, counters: Counters) -> None:
        folders[:] = [Path(far.facts.folder) for far in pool._far]
        assert all(folder.is_dir() for folder in folders)
        if counters.snapshot().slots[:, Slot.OK].min() >= 5:
            raise EnoughError

    workload = open_workload({"process": "constant", "rate": 50}, 2000)
    with MockServer(at_once) as server, pytest.raises(EnoughError):
        generate(tmp_path, workload, server.url, workers=2, pool_of=on_ray, meanwhile=leave)
    assert len(folders) == 2
    assert not any(folder.exists() for folder in folders)
    assert not workers_alive()
    rows = assemble(tmp_path, build_plan(workload, seed=11).to_arrow(), 2).requests
    assert (rows["outcome"] == Outcome.OK).sum() >= 10


def test_keys_are_in_no_process_title_no_log_and_no_file(tmp_path: Path, ray_cluster: Nodes) -> None:
    """They go to the workers in a call, and from there down a pipe."""
    secret = "sk-very-secret-9876543210"
    seen: list[str] = []

    def look(_pool: RayPool, _counters: Counters) -> None:
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.pid != os.getpid():
                    seen.append(f"{process.name()} {process.cmdline()} {process.environ()}")
        if not any(WORKER in text for text in seen):
            seen.clear()

    with MockServer(at_once) as server:
        endpoint = Endpoint(url=server.url, model="tiny", headers={"authorization": f"Bearer {secret}"})
        workload = open_workload({"process": "constant", "rate": 40}, 20)
        generate(tmp_path, workload, server.url, workers=2, pool_of=on_ray, endpoint=endpoint, meanwhile=look)
    assert seen
    assert not any(secret in text for text in seen)
    logs = Path(ray_cluster.cluster.head_node.get_session_dir_path())
    files = [path for top in (tmp_path, logs) for path in top.rglob("*") if path.is_file()]
    assert len([path for path in files if path.is_relative_to(logs)]) > 5
    assert not any(secret.encode() in path.read_bytes() for path in files)
