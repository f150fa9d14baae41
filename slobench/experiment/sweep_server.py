"""The one server of a sweep: started when a cell needs another, shared by those that need the same."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from slobench.config.experiment import Experiment
from slobench.config.secrets import resolve_secrets
from slobench.config.slo import e2e_limit_s, parse_slo
from slobench.config.target import NullTarget, RemoteTarget
from slobench.errors import TargetError
from slobench.experiment.events import Event, Notice, Step
from slobench.experiment.sweep_cells import Cell
from slobench.experiment.telemetry import gpus_of
from slobench.targets.base import RunningTarget, questions
from slobench.targets.launch import start
from slobench.targets.ready import HOST
from slobench.telemetry.gpu import Gpus
from slobench.telemetry.source import SampleError

RESET = "/reset_prefix_cache"
_FREE_S = 60.0
_POLL_S = 0.25
_MEMORY_BYTES = 512 * 2**20
"""More than a driver keeps of a process that is gone, less than any model."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A server that runs. need: of the cells that may use it. number: of its start."""

    running: RunningTarget
    need: tuple[object, ...]
    number: int
    start_s: float
    port: int | None
    gpus: Gpus
    memory_bytes: float
    """In use on its GPUs before it started."""


class Servers:
    """Holds at most one running server. Two never overlap: the next is started when the last one's things are free."""

    def __init__(self, experiment: Experiment, folder: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._experiment, self._folder, self._clock_s = experiment, folder, clock_s
        self._kept: Kept | None = None
        self._starts = 0
        self._told = False

    def need(self, cell: Cell) -> tuple[object, ...]:
        """What must be equal for two cells that follow one another to share a server."""
        match self._experiment.restart:
            case "per-cell":
                return (cell.key,)
            case "per-repeat":
                return cell.config.key, cell.repeat
            case "never":
                return (cell.config.key,)

    def ready(self, cell: Cell) -> Iterator[Event | Kept]:
        """Have the server of a cell running; the last thing yielded is Kept. Raises TargetError, ConfigError."""
        kept = self._kept
        if kept is not None and kept.need == self.need(cell) and kept.running.alive():
            yield from self._forget_cache(cell, kept)
            yield kept
            return
        yield from self.stop()
        self._starts += 1
        target, began_s = cell.config.target, self._clock_s()
        gpus = gpus_of(target)
        memory_bytes = used_bytes(gpus)
        yield Step(f"starting {cell.config.target_name} ({cell.config.label})")
        log = self._folder / "servers" / f"{self._starts:03d}-{cell.config.label}" / "server.log"
        slo = parse_slo(cell.workload.slo, tuple(cell.workload.classes))
        running = start(target, log=log, headers=resolve_secrets(target.talk), e2e_limit_s=e2e_limit_s(slo))
        port = None if isinstance(target, RemoteTarget) else urlsplit(running.endpoint.url).port
        start_s = self._clock_s() - began_s
        self._kept = Kept(running, self.need(cell), self._starts, start_s, port, gpus, memory_bytes)
        yield self._kept

    def lost(self) -> str:
        """Return the end of the log of the server that is there, "" where none is."""
        server = self._kept.running.server if self._kept is not None else None
        return server.tail() if server is not None else ""

    def drop(self) -> None:
        """Stop the server, whatever it left behind."""
        if self._kept is not None:
            self._kept.running.stop()
            self._kept = None

    def stop(self) -> Iterator[Event]:
        """Stop the server, and see that its port and its GPU memory are free. Raises TargetError where they stay."""
        kept = self._kept
        if kept is None:
            return
        yield Step("stopping the target")
        self.drop()
        _await(lambda: kept.port is None or _port_is_free(kept.port), f"port {kept.port}")
        _await(lambda: used_bytes(kept.gpus) <= kept.memory_bytes + _MEMORY_BYTES, "GPU memory")

    def _forget_cache(self, cell: Cell, kept: Kept) -> Iterator[Event]:
        if not self._experiment.reset_prefix_cache or isinstance(cell.config.target, NullTarget):
            return
        endpoint = kept.running.endpoint
        ask = questions(cell.config.target.talk, endpoint.url, endpoint.headers)
        try:
            status = ask.post(RESET, {}, timeout_s=10.0).status
        except (OSError, http.client.HTTPException):
            status = 0
        if status != 200 and not self._told:
            self._told = True
            yield Notice(
                "the server cannot be asked to forget its prefix cache (vLLM can, with VLLM_SERVER_DEV_MODE=1): "
                "unique prompts differ from run to run all the same, shared ones may be found there"
            )


def used_bytes(gpus: Gpus) -> float:
    """Memory in use on all of these GPUs; 0 where they do not tell."""
    total = 0.0
    for gpu in gpus.sources:
        try:
            readings = gpu.sample()
        except SampleError:
            continue
        total += sum(each.value for each in readings if each.name == "gpu_memory_used_bytes")
    return total


def _port_is_free(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, number))
        except OSError:
            return False
        return True


def _await(free: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + _FREE_S
    while not free():
        if time.monotonic() > deadline_s:
            raise TargetError(
                f"the last server has ended, its {what} is still in use\n"
                "  expected  nothing else on this machine that takes it; look with `ss -ltnp` or `nvidia-smi`"
            )
        time.sleep(_POLL_S)
