"""Generator processes on this machine: spawned, heard through pipes, on one clock with us."""

from __future__ import annotations

import resource
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

from slobench.generate.job import Job
from slobench.generate.pool import Pool, WorkerEvent
from slobench.generate.process import end, events_of, spawn, tell

_START_MARGIN_NS = 150_000_000  # from the start order to the first arrival: transports open, bodies are made ahead


class LocalPool(Pool):
    """W processes (spawned, never forked), each with pipes to and from us; one dies when its input closes."""

    def __init__(self, workers: int, spool: Path) -> None:
        """Start the processes; they import while the parent does something else."""
        spool.mkdir(parents=True, exist_ok=True)
        super().__init__(workers, spool)
        self._processes = [self._spawn(worker) for worker in range(workers)]

    def _spawn(self, worker: int) -> subprocess.Popen[bytes]:
        process = spawn(self._spool / f"w{worker}.stderr")
        threading.Thread(target=self._listen, args=(worker, process), daemon=True).start()
        return process

    def _listen(self, worker: int, process: subprocess.Popen[bytes]) -> None:
        for event, values in events_of(process):
            self._events.put(WorkerEvent(worker, event, values))

    @property
    def fd_limit(self) -> int:
        """Files that each worker may have open: what it has from us."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def extend(self, plan: Path, counts: Path, *, counted_from: int, n: int) -> None:
        """See Pool."""
        self._tell({"do": "extend", "plan": str(plan), "counts": str(counts), "counted_from": counted_from, "n": n})

    def close(self, timeout_s: float = 5.0) -> None:
        """See Pool."""
        for process in self._processes:
            if process.stdin is not None:
                with suppress(BrokenPipeError):
                    process.stdin.close()
        deadline = time.monotonic() + timeout_s
        for process in self._processes:
            end(process, deadline - time.monotonic())

    @property
    def pids(self) -> list[int]:
        """Process ids, by worker."""
        return [process.pid for process in self._processes]

    def _hand(self, job: Job) -> None:
        self._write(job.worker, job.to_json())

    def _order_start(self) -> int:
        epoch_ns = time.monotonic_ns() + _START_MARGIN_NS
        self._tell({"do": "start", "epoch_ns": epoch_ns})
        return epoch_ns

    def _write(self, worker: int, line: bytes) -> None:
        tell(self._processes[worker], line)

    def _kill(self, worker: int) -> None:
        self._processes[worker].kill()
