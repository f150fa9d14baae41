"""The parent's side of the generator: what workers say, whether they have ended, what all of them are told."""

from __future__ import annotations

import os
import queue
import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from slobench import open_files
from slobench.errors import UsageError, WorkerError
from slobench.generate.job import Job
from slobench.names import Exit

_READY_TIMEOUT_S = 60.0
_SPARE_FDS = 64


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """One line from a worker, or its end (event "exited", values: {"code": N}, or {"why": "…"} of one out of reach)."""

    worker: int
    event: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a worker of a cluster ran, and how far its clock is known, in ns.

    offset_ns: its host's monotonic clock less ours, as its start was ordered. error_ns: by how much its times may be
    off the run's clock. drift_ns: growth of the offset from the start to the end; None where that was not seen.
    nice: its niceness.
    """

    worker: int
    host: str
    node: str
    nice: int
    offset_ns: int
    round_trip_ns: int
    error_ns: int
    drift_ns: int | None = None


class Pool(ABC):
    """W generator processes that are told what to do, and heard; here or on other hosts.

    A worker ends when the line to it is cut, so none outlives this process.
    """

    def __init__(self, workers: int, spool: Path) -> None:
        self.workers = workers
        self.ended: dict[int, dict[str, Any]] = {}
        """What each worker said at its end."""
        self.lost: dict[int, str] = {}
        """Workers that ended without having finished, and why."""
        self._spool = spool
        self._events: queue.SimpleQueue[WorkerEvent] = queue.SimpleQueue()

    @property
    @abstractmethod
    def fd_limit(self) -> int:
        """Files that each worker may have open."""

    @abstractmethod
    def extend(self, plan: Path, counts: Path, *, counted_from: int, n: int) -> None:
        """Let all go on with a segment of the plan, of which the last `n` rows, from an index on, are counted."""

    @abstractmethod
    def close(self, timeout_s: float = 5.0) -> None:
        """Cut the lines; what does not end by itself is killed."""

    @abstractmethod
    def _hand(self, job: Job) -> None:
        """Give a worker its job."""

    @abstractmethod
    def _order_start(self) -> int:
        """Order the start; return its time on our CLOCK_MONOTONIC, in ns."""

    @abstractmethod
    def _write(self, worker: int, line: bytes) -> None:
        """Write a line to a worker; where it has ended, that is heard in its own time."""

    @abstractmethod
    def _kill(self, worker: int) -> None:
        """Kill a worker."""

    def seats(self, *, ended: bool = False) -> list[Seat]:
        """Where the workers run; empty where they are on this host, and on its clock.

        ended: the run has, so their clocks are measured once more.
        """
        del ended
        return []

    def start(self, jobs: Sequence[Job]) -> int:
        """Hand out the jobs, wait until all are ready, give the start; return its time on CLOCK_MONOTONIC, in ns.

        Raises WorkerError where a worker cannot do its job, UsageError where what was asked for is why.
        """
        for job in jobs:
            self._hand(job)
        waiting = set(range(self.workers))
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while waiting:
            event = self.next_event(max(0.0, deadline - time.monotonic()))
            if event is None:
                raise WorkerError(f"generator process {min(waiting)} was not ready after {_READY_TIMEOUT_S:.0f} s")
            if event.event == "ready":
                waiting.discard(event.worker)
            elif event.worker in self.lost:
                if event.values.get("exit") == Exit.USAGE:
                    raise UsageError(self.lost[event.worker])
                raise WorkerError(f"generator process {event.worker} failed\n  {self.lost[event.worker]}")
        return self._order_start()

    def next_event(self, timeout_s: float) -> WorkerEvent | None:
        """The next thing that a worker says, None after the timeout; keeps `ended` and `lost`."""
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None
        match event.event:
            case "done":
                self.ended[event.worker] = event.values
            case "failed":
                self.lost[event.worker] = event.values["text"]
            case "exited" if event.worker not in self.ended:
                self.lost.setdefault(event.worker, self._last_words(event.worker, event.values))
        return event

    @property
    def running(self) -> bool:
        """Whether any worker has neither ended nor been lost."""
        return len(self.ended.keys() | self.lost.keys()) < self.workers

    def stop(self, at_ns: int) -> None:
        """Offer nothing scheduled at or after `at_ns` on the run's clock."""
        self._tell({"do": "stop", "at_ns": at_ns})

    def curtail(self) -> None:
        """Give up what has not been sent of a plan that grows; each worker says "curtailed" when it has."""
        self._tell({"do": "curtail"})

    def cut(self) -> None:
        """End what is in flight, as `cut`."""
        self._tell({"do": "cut"})

    def give_up(self, worker: int, why: str) -> None:
        """Kill a worker that does not end, and count it as lost."""
        self.lost[worker] = why
        self._kill(worker)

    def _tell(self, command: dict[str, object]) -> None:
        line = orjson.dumps(command) + b"\n"
        for worker in range(self.workers):
            if worker not in self.ended and worker not in self.lost:
                self._write(worker, line)

    def _last_words(self, worker: int, end: dict[str, Any]) -> str:
        if "why" in end:
            return str(end["why"])
        code = end["code"]
        how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
        said = self._spool / f"w{worker}.stderr"
        text = said.read_text(errors="replace").strip() if said.exists() else ""
        return f"{how}: {text.splitlines()[-1]}" if text else how


def usable_cores() -> int:
    """Cores that this process may use: affinity, and the cgroup's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))


def default_workers(*, local_target: bool) -> int:
    """As many workers as the cores allow beside a local target, which gets one core at least."""
    return max(1, usable_cores() - (1 if local_target else 0))


def raise_fd_limit(needed: int) -> int:
    """Raise the soft limit of open files to the hard one; return it.

    Raises UsageError where even that is less than `needed` connections and a few files of our own.
    """
    soft = open_files.raise_limit()
    if soft != resource.RLIM_INFINITY and soft < needed + _SPARE_FDS:
        raise UsageError(
            f"{needed} connections need {needed + _SPARE_FDS} open files; this process may open {soft}\n"
            f"  expected  a higher limit: run `ulimit -n {needed + _SPARE_FDS}` (as root: raise the hard limit)"
        )
    return soft
