"""The parent's side of the generator: spawn workers, hand out jobs, hear them, stop them."""

from __future__ import annotations

import os
import queue
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from slobench.errors import UsageError, WorkerError
from slobench.generate.job import Job
from slobench.names import Exit

_READY_TIMEOUT_S = 60.0
_START_MARGIN_NS = 150_000_000  # from the start order to the first arrival: transports open, bodies are made ahead
_SPARE_FDS = 64


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """One line from a worker, or its end (event "exited", values: {"code": N})."""

    worker: int
    event: str
    values: dict[str, Any]


class Pool:
    """W generator processes (spawned, never forked), each with pipes to and from us.

    A worker dies when its standard input closes, so none outlives this process.
    """

    def __init__(self, workers: int, spool: Path) -> None:
        """Start the processes; they import while the parent does something else."""
        spool.mkdir(parents=True, exist_ok=True)
        self.workers = workers
        self._spool = spool
        self._events: queue.SimpleQueue[WorkerEvent] = queue.SimpleQueue()
        self._processes = [self._spawn(worker) for worker in range(workers)]
        self.ended: dict[int, dict[str, Any]] = {}
        """What each worker said at its end."""
        self.lost: dict[int, str] = {}
        """Workers that ended without having finished, and why."""

    def _spawn(self, worker: int) -> subprocess.Popen[bytes]:
        with (self._spool / f"w{worker}.stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "slobench.generate.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                process_group=0,  # a Ctrl-C in the terminal is for the parent alone
            )
        threading.Thread(target=self._listen, args=(worker, process), daemon=True).start()
        return process

    def _listen(self, worker: int, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                with suppress(orjson.JSONDecodeError, KeyError):  # half a line of a killed worker, a library's chatter
                    values = orjson.loads(line)
                    self._events.put(WorkerEvent(worker, values.pop("event"), values))
        self._events.put(WorkerEvent(worker, "exited", {"code": process.wait()}))

    def start(self, jobs: Sequence[Job]) -> int:
        """Hand out the jobs, wait until all are ready, give the start; return its time on CLOCK_MONOTONIC, in ns.

        Raises WorkerError where a worker cannot do its job, UsageError where what was asked for is why.
        """
        for worker, job in enumerate(jobs):
            self._write(worker, job.to_json())
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
        epoch_ns = time.monotonic_ns() + _START_MARGIN_NS
        self._tell({"do": "start", "epoch_ns": epoch_ns})
        return epoch_ns

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
                self.lost.setdefault(event.worker, self._last_words(event.worker, event.values["code"]))
        return event

    @property
    def running(self) -> bool:
        """Whether any worker has neither ended nor been lost."""
        return len(self.ended.keys() | self.lost.keys()) < self.workers

    def stop(self, at_ns: int) -> None:
        """Offer nothing scheduled at or after `at_ns` on the run's clock."""
        self._tell({"do": "stop", "at_ns": at_ns})

    def extend(self, plan: Path, counts: Path, *, counted_from: int, n: int) -> None:
        """Let all go on with a segment of the plan, of which the last `n` rows, from an index on, are counted."""
        paths = {"plan": str(plan), "counts": str(counts)}
        self._tell({"do": "extend", **paths, "counted_from": counted_from, "n": n})

    def curtail(self) -> None:
        """Give up what has not been sent of a plan that grows; each worker says "curtailed" when it has."""
        self._tell({"do": "curtail"})

    def cut(self) -> None:
        """End what is in flight, as `cut`."""
        self._tell({"do": "cut"})

    def give_up(self, worker: int, why: str) -> None:
        """Kill a worker that does not end, and count it as lost."""
        self.lost[worker] = why
        self._processes[worker].kill()

    def close(self, timeout_s: float = 5.0) -> None:
        """Close the pipes; what does not end by itself is killed."""
        for process in self._processes:
            if process.stdin is not None:
                with suppress(BrokenPipeError):
                    process.stdin.close()
        deadline = time.monotonic() + timeout_s
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def pids(self) -> list[int]:
        """Process ids, by worker."""
        return [process.pid for process in self._processes]

    def _tell(self, command: dict[str, object]) -> None:
        for worker in range(self.workers):
            if worker not in self.ended and worker not in self.lost:
                self._write(worker, orjson.dumps(command) + b"\n")

    def _write(self, worker: int, line: bytes) -> None:
        stdin = self._processes[worker].stdin
        assert stdin is not None
        with suppress(BrokenPipeError):  # its end is heard through its output
            stdin.write(line)
            stdin.flush()

    def _last_words(self, worker: int, code: int) -> str:
        how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
        text = (self._spool / f"w{worker}.stderr").read_text(errors="replace").strip()
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
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # macOS refuses "unlimited"
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    if soft != resource.RLIM_INFINITY and soft < needed + _SPARE_FDS:
        raise UsageError(
            f"{needed} connections need {needed + _SPARE_FDS} open files; this process may open {soft}\n"
            f"  expected  a higher limit: run `ulimit -n {needed + _SPARE_FDS}` (as root: raise the hard limit)"
        )
    return soft
