"""The parent's side of workers on a cluster, with a stand-in for Ray (tests/many_hosts has the real one)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slobench.config.workers import OnRay
from slobench.errors import UsageError, WorkerError
from slobench.generate import ray_pool
from slobench.generate.pool import Pool
from slobench.generate.ray_host import Facts, RemoteWorker
from slobench.generate.ray_pool import RayPool
from slobench.names import Outcome
from slobench.records.counters import Counters, Slot
from slobench.wire.endpoint import Endpoint
from tests.generate.fake_ray import FakeRay, GetTimeoutError, Ref
from tests.generate.generating import generate, open_workload
from tests.generate.mock_server import MockServer, after
from tests.generate.rig import job_of

S = 10**9


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """Two nodes with a CPU each."""
    fake = FakeRay()
    fake.install(monkeypatch)
    return fake


def on_ray(workers: int, spool: Path) -> Pool:
    return RayPool(OnRay(workers=workers), spool, most=256, connections=0)


class Elsewhere:
    """A worker on a host whose clock is ahead by `ahead_ns` and runs away by `drift_ns` a call."""

    def __init__(
        self, held: RemoteWorker, ahead_ns: int, drift_ns: int = 0, facts: Callable[[Facts], Any] | None = None
    ):
        self._held, self._ahead_ns, self._drift_ns = held, ahead_ns, drift_ns
        self._facts = facts or (lambda each: each)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._held, name)

    def begin(self, worker: int, connections: int) -> Any:
        return self._facts(self._held.begin(worker, connections))

    def clock_ns(self) -> int:
        self._ahead_ns += self._drift_ns
        return time.monotonic_ns() + self._ahead_ns

    def write(self, line: bytes) -> int:
        if b'"start"' in line:  # the process itself is on this host's clock
            before, _, epoch = line.rpartition(b":")
            line = b"%s:%d}\n" % (before, int(epoch.strip(b"}\n")) - self._ahead_ns)
        return self._held.write(line) + self._ahead_ns


def test_a_run_on_clocks_hours_apart(tmp_path: Path, ray: FakeRay) -> None:
    """One host is 3 h ahead, the other 2 h behind: all times are on the run's clock, within the error that is stated."""
    ahead = iter((3 * 3600 * S, -2 * 3600 * S))
    ray.made = lambda held: Elsewhere(held, next(ahead))
    with MockServer(after(0.02)) as server:
        workload = open_workload({"process": "poisson", "rate": 100}, 100)
        run = generate(tmp_path, workload, server.url, workers=2, pool_of=on_ray)
    rows = run.requests
    assert set(rows["outcome"].tolist()) == {Outcome.OK}
    assert run.started == 100
    assert [actor.node for actor in ray.started] == ["node-0", "node-1"]
    for seat, wanted in zip(run.seats, (3 * 3600 * S, -2 * 3600 * S), strict=True):
        assert abs(seat.offset_ns - wanted) <= seat.error_ns
        assert seat.drift_ns is not None
    errors = np.array([seat.error_ns for seat in run.seats])[rows["worker"].astype(int)]
    came = np.array([seen.came_ns - run.epoch_ns for seen in sorted(server.seen, key=lambda seen: seen.index)])
    assert (rows["sent_ns"] - errors <= came).all()
    assert (came >= rows["scheduled_ns"] - errors).all()
    assert ray.seen[-1] == {"shutdown": True}


def test_a_clock_that_runs_away_is_seen(tmp_path: Path, ray: FakeRay) -> None:
    """Each look finds it 1 ms further: the drift of the run is in the error of that worker, and not in its times."""
    ray.made = lambda held: Elsewhere(held, 0, drift_ns=1_000_000 if len(ray.started) == 1 else 0)
    with MockServer(after(0.01)) as server:
        workload = open_workload({"process": "constant", "rate": 100}, 20)
        run = generate(tmp_path, workload, server.url, workers=2, pool_of=on_ray)
    steady, fast = run.seats
    assert steady.drift_ns is not None
    assert abs(steady.drift_ns) < 1_000_000
    assert fast.drift_ns is not None
    assert fast.drift_ns >= 1_000_000
    assert fast.error_ns >= fast.drift_ns
    assert set(run.requests["outcome"].tolist()) == {Outcome.OK}


@pytest.mark.parametrize("why", ["The actor died.\nThe node has died: power", "Its process was killed"])
def test_an_actor_that_is_gone_is_a_lost_worker(tmp_path: Path, ray: FakeRay, why: str) -> None:
    """It is named with the reason; what it had told is kept, the rest of its requests is lost, the other goes on."""

    def kill(_pool: RayPool, counters: Counters) -> None:
        if not ray.started[0].dead and counters.snapshot().slots[0, Slot.OK] >= 70:  # told each second
            ray.started[0].die(why)

    with MockServer(after(0.1)) as server:
        workload = open_workload({"process": "constant", "rate": 80}, 240)
        run = generate(tmp_path, workload, server.url, workers=2, pool_of=on_ray, meanwhile=kill)
    assert run.pool.lost == {0: "its node died" if "node" in why else f"its Ray actor ended: {why}"}
    rows = run.requests
    mine = rows["worker"] == 0
    assert set(rows["outcome"][~mine].tolist()) == {Outcome.OK}
    assert set(rows["outcome"][mine].tolist()) == {Outcome.OK, Outcome.LOST}
    assert [seat.drift_ns is None for seat in run.seats] == [True, False]


def test_a_full_disk_here_is_a_lost_worker_not_a_hanging_run(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more of what it records can be kept."""
    written = RayPool._take

    def full(pool: RayPool, worker: int, new: Any) -> bool:
        if worker == 1 and any("requests" in name for name, _, _ in new.files):
            raise OSError(28, "No space left on device")
        return written(pool, worker, new)

    monkeypatch.setattr(RayPool, "_take", full)
    with MockServer(after(0.01)) as server:
        workload = open_workload({"process": "constant", "rate": 50}, 150)
        run = generate(tmp_path, workload, server.url, workers=2, pool_of=on_ray)
    assert run.pool.lost == {1: "its records cannot be kept here: No space left on device"}
    assert run.pool.ended.keys() == {0}


def started(tmp_path: Path, url: str = "http://127.0.0.1:1") -> None:
    """Start a pool of two and give them their jobs; end it."""
    spool = tmp_path / "spool"
    pool = on_ray(2, spool)
    try:
        Counters.create(spool / "counters.bin", 2).close()
        (spool / "plan.arrow").write_bytes(b"no plan")
        endpoint = Endpoint(url=url, model="tiny")
        pool.start([job_of(tmp_path, worker=each, workers=2, endpoint=endpoint) for each in range(2)])
    finally:
        pool.close()


def test_a_target_on_the_loopback_interface_is_refused_where_a_host_is_elsewhere(tmp_path: Path, ray: FakeRay) -> None:
    """By its name and with what would do; no host is asked to try."""
    ray.made = lambda held: Elsewhere(held, 0, facts=lambda each: replace(each, network="another"))
    with pytest.raises(UsageError, match=r"127.0.0.1:1 is on this host only: .* cannot reach it\n  expected"):
        started(tmp_path)
    assert not any("put" in actor.calls for actor in ray.started)


@pytest.mark.parametrize(
    ("facts", "error", "says"),
    [
        (lambda each: replace(each, version="9.9"), UsageError, "is 9.9, here it is .*one version on all hosts"),
        (lambda _: "5000 connections need 5064 open files", UsageError, "worker 0 on host-0: 5000 connections"),
    ],
)
def test_a_host_that_will_not_do_is_refused(
    tmp_path: Path, ray: FakeRay, facts: Callable[[Facts], Any], error: type[Exception], says: str
) -> None:
    """Another version, too few open files: said before anything is sent, and nothing is left there."""
    ray.made = lambda held: Elsewhere(held, 0, facts=facts)
    with pytest.raises(error, match=f"(?s){says}"):
        on_ray(2, tmp_path / "spool")
    assert all(actor.dead for actor in ray.started)
    assert not any(actor.held._folder.exists() for actor in ray.started)


def test_a_node_without_slobench_says_so(tmp_path: Path, ray: FakeRay) -> None:
    """Ray's page of a traceback becomes one sentence."""

    class Missing:
        def begin(self, *_: Any) -> None:
            raise ModuleNotFoundError("No module named 'slobench'")

        def close(self) -> None:
            return

    ray.made = lambda _: Missing()
    with pytest.raises(WorkerError, match=r"worker 0 on host-0: slobench is not installed on its node: pip install"):
        on_ray(2, tmp_path / "spool")


def test_a_node_that_gives_no_process_is_an_error(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else holds its CPU."""
    monkeypatch.setattr(FakeRay, "get", lambda *_, **__: (_ for _ in ()).throw(GetTimeoutError("late")))
    ray.install(monkeypatch)
    with pytest.raises(WorkerError, match=r"started no worker on host-0 within 60 s\n.*ray status"):
        on_ray(1, tmp_path / "spool")


def test_a_start_order_that_comes_too_late_is_an_error(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Better no run than one whose hosts begin one after another."""
    monkeypatch.setattr(ray_pool, "_MARGIN_NS", 1000)
    workload = open_workload({"process": "constant", "rate": 100}, 20)
    with MockServer(after(0.01)) as server, pytest.raises(WorkerError, match="the order to start took"):
        generate(tmp_path, workload, server.url, workers=2, pool_of=on_ray)


def test_counts_of_what_has_ended_are_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads in between sees verdicts without their end, never an end without its verdict."""
    path = tmp_path / "counts"
    path.write_bytes(bytes(200))
    order: list[int] = []
    monkeypatch.setattr(os, "pwrite", lambda _fd, data, at: order.append(at))
    ray_pool._put_block(path, 24, b"x" * 100)
    assert order == [64, 24]
    ray_pool._put_block(tmp_path / "gone", 0, b"x")  # of a probe that has ended


def test_a_job_goes_in_pieces_that_stay_in_the_call(tmp_path: Path, ray: FakeRay) -> None:
    """Larger arguments would pass through Ray's object store, which may spill to disk: a job holds keys."""
    lines: list[bytes] = []

    class Listening(Elsewhere):
        def write(self, line: bytes) -> int:
            lines.append(line)
            return 0

    ray.made = lambda held: Listening(held, 0)
    pool = RayPool(OnRay(workers=1), tmp_path / "spool", most=1, connections=0)
    try:
        pool._write(0, b"k" * 100_000 + b"\n")
    finally:
        pool.close()
    assert b"".join(lines) == b"k" * 100_000 + b"\n"
    assert max(map(len, lines)) <= 32 * 1024
    assert isinstance(ray.put(1), Ref)
