"""The one server of a sweep: shared by cells that need the same, lent and never stopped by a run, given back whole."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from slobench.experiment import sweep_server
from slobench.experiment.events import Event
from slobench.experiment.sweep_server import Kept, Servers, used_bytes
from slobench.records.schema import GPU
from slobench.targets.base import lent
from slobench.telemetry.gpu import Gpus
from slobench.telemetry.source import Reading, SampleError
from tests.experiment.sweeps import cells

SEQS = {"grid": {"engine.max_num_seqs": [4, 64]}}


def had(servers: Servers, cell) -> tuple[Kept, list[Event]]:
    """The server of a cell, and what was said on the way."""
    *said, kept = servers.ready(cell)
    assert isinstance(kept, Kept)
    return kept, [event for event in said if not isinstance(event, Kept)]


def test_cells_that_need_the_same_share_a_server_and_the_last_one_is_gone_before_the_next(tmp_path: Path) -> None:
    found = cells(tmp_path, settings=SEQS, rates=[1, 2])
    servers = Servers(found.experiment, tmp_path / "out")
    first, _ = had(servers, found.cells[0])
    again, said = had(servers, found.cells[1])
    assert again is first
    assert said == []  # the engine forgets its cache when it is asked
    talk = found.cells[0].config.target.talk
    borrowed = lent(first.running, talk, 30.0)
    borrowed.stop()
    assert first.running.alive()
    assert (borrowed.endpoint.total_timeout_ns, first.running.endpoint.total_timeout_ns) == (300 * 10**9, 120 * 10**9)
    other, _ = had(servers, found.cells[2])
    assert other.number == 2
    assert not first.running.alive()
    with socket.create_server(("127.0.0.1", first.port)):
        pass
    servers.drop()
    assert not other.running.alive()


@pytest.mark.parametrize(("restart", "needs"), [("per-cell", 8), ("per-repeat", 4), ("never", 2)])
def test_the_restart_policy_says_which_cells_share(tmp_path: Path, restart: str, needs: int) -> None:
    found = cells(tmp_path, settings=SEQS, rates=[1, 2], repeats=2, restart=restart)
    servers = Servers(found.experiment, tmp_path)
    assert len({servers.need(cell) for cell in found.cells}) == needs


def test_what_stays_in_use_after_a_stop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_server, "_FREE_S", 0.0)
    monkeypatch.setattr(sweep_server, "_POLL_S", 0.0)
    with pytest.raises(sweep_server.TargetError, match="port 80 is still in use"):
        sweep_server._await(lambda: False, "port 80")


class Gpu:
    """A GPU that tells its memory, or nothing."""

    name, index, model = f"{GPU}-0", 0, "made up"

    def __init__(self, used: float | None) -> None:
        self._used = used

    def sample(self) -> list[Reading]:
        if self._used is None:
            raise SampleError("lost")
        return [Reading("gpu_memory_used_bytes", "", self._used), Reading("gpu_memory_bytes", "", 1e9)]


def test_memory_is_that_of_all_gpus_that_tell() -> None:
    gpus = Gpus((Gpu(3.0), Gpu(None), Gpu(4.0)))  # type: ignore[arg-type]
    assert used_bytes(gpus) == 7.0
