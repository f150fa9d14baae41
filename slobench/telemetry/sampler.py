"""Samples every source at an interval while the load runs, in threads of the parent process, into the spool."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slobench.records.samples import Sample, SampleWriter
from slobench.records.schema import GAUGES, HOST, SERVER_METRICS
from slobench.telemetry.source import Reading, SampleError, Source

_FLUSH_NS = 10**9
_SETTLE_S = 0.2  # a server counts a reply a moment after it has sent it
_LAST_TRIES = 3
_JOIN_S = 15.0
_TOTALS = frozenset(SERVER_METRICS) - GAUGES


@dataclass(slots=True)
class _Tally:
    """How one source fared."""

    samples: int = 0
    failed: int = 0
    error: str | None = None


class _Memory:
    """What one source has told, to write buckets only when they change, and totals from 0 on that came up later."""

    def __init__(self) -> None:
        self._first_ns: int | None = None
        self._last: dict[tuple[str, str], float] = {}

    def rows(self, source: str, t_ns: int, readings: Sequence[Reading]) -> list[Sample]:
        """The samples to write for what was read at `t_ns`."""
        if self._first_ns is None:
            self._first_ns = t_ns
        rows: list[Sample] = []
        for reading in readings:
            key = (reading.name, reading.labels)
            before = self._last.get(key)
            if before is None and t_ns > self._first_ns and reading.name in _TOTALS:
                # A labelled total is not told before its first event: it was 0 until then.
                rows.append(Sample(self._first_ns, source, *key, 0.0))
                before = 0.0
            self._last[key] = reading.value
            if before == reading.value and reading.name.endswith("_bucket"):
                continue
            rows.append(Sample(t_ns, source, *key, reading.value))
        return rows


class Sampler:
    """Samples lanes of sources: the sources of a lane in turn, the lanes side by side.

    `begin` before the first request, `go` once the run's time 0 is known, `end` after the last reply: the first and
    the last sample then hold all of the load between them. Times are CLOCK_MONOTONIC's middle of each reading.
    """

    def __init__(self, spool: Path, lanes: Sequence[Sequence[Source]], interval_ns: int) -> None:
        self._lanes = [list(lane) for lane in lanes if lane]
        self._interval_ns = interval_ns
        self._writer = SampleWriter(spool)
        self._guard = threading.Lock()  # around everything below, and the writer
        self._epoch_ns: int | None = None
        self._waiting: list[Sample] = []  # times are not yet those of the run
        self._flushed_ns = 0
        self._memory = {source.name: _Memory() for lane in self._lanes for source in lane}
        self._tallies = {source.name: _Tally() for lane in self._lanes for source in lane}
        self._cpu_s: dict[str, float] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def begin(self) -> None:
        """Take the first sample of every source, in the thread that calls."""
        for lane in self._lanes:
            for source in lane:
                self._sample(source)

    def go(self, epoch_ns: int) -> None:
        """Sample on, in threads; times are counted from `epoch_ns`."""
        with self._guard:
            self._epoch_ns = epoch_ns
            self._write()
        for lane in self._lanes:
            run = _Lane(self._sample, lane, self._interval_ns, self._stop)
            thread = threading.Thread(target=run, args=(self._spent,), name=f"telemetry-{lane[0].name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def end(self, *, reachable: bool = True) -> None:
        """Stop the threads, take a last sample of every source and close the file; does nothing the second time.

        reachable: the server still lives, and a last sample that fails is worth another try.
        """
        if self._closed:
            return
        self._closed = True
        self._stop.set()
        for thread in self._threads:
            thread.join(_JOIN_S)
        if self._epoch_ns is not None:
            time.sleep(_SETTLE_S if reachable else 0.0)
            for lane in self._lanes:
                for source in lane:
                    for _ in range(_LAST_TRIES if reachable else 1):
                        if self._sample(source):
                            break
        with self._guard:
            self._write()
            self._writer.close()

    @property
    def cpu_s(self) -> float:
        """CPU time that the threads have taken so far, s."""
        with self._guard:
            return sum(self._cpu_s.values())

    def told(self) -> dict[str, Any]:
        """How it went, for run.json: of each source how many samples there are, and how many could not be taken."""
        with self._guard:
            sources = {
                name: {"samples": tally.samples, "failed": tally.failed}
                | ({} if tally.error is None else {"error": tally.error})
                for name, tally in self._tallies.items()
            }
        lost = {"lost": self._writer.lost, "error": self._writer.error} if self._writer.error else {}
        return {"interval_s": self._interval_ns / 1e9, "cpu_s": self.cpu_s, "sources": sources, **lost}

    def _spent(self, lane: str, cpu_s: float) -> None:
        with self._guard:
            self._cpu_s[lane] = cpu_s
            self._waiting.append(Sample(time.monotonic_ns(), HOST, "telemetry_cpu_s", f'lane="{lane}"', cpu_s))

    def _sample(self, source: Source) -> bool:
        """Read a source once; whether it answered."""
        began_ns = time.monotonic_ns()
        try:
            readings = source.sample()
        except SampleError as error:
            with self._guard:
                tally = self._tallies[source.name]
                tally.failed += 1
                tally.error = str(error)
            return False
        ended_ns = time.monotonic_ns()
        with self._guard:
            self._tallies[source.name].samples += 1
            self._waiting += self._memory[source.name].rows(source.name, (began_ns + ended_ns) // 2, readings)
            if self._epoch_ns is not None and ended_ns - self._flushed_ns >= _FLUSH_NS:
                self._flushed_ns = ended_ns
                self._write()
        return True

    def _write(self) -> None:
        if self._epoch_ns is None:
            return
        epoch_ns, rows, self._waiting = self._epoch_ns, self._waiting, []
        self._writer.add([Sample(r.t_ns - epoch_ns, r.source, r.name, r.labels, r.value) for r in rows])
        self._writer.flush()


@dataclass(frozen=True, slots=True)
class _Lane:
    """The sources of one thread, sampled in turn at multiples of the interval; what is late is left out."""

    sample: Callable[[Source], bool]
    sources: Sequence[Source]
    interval_ns: int
    stop: threading.Event

    def __call__(self, spent: Callable[[str, float], None]) -> None:
        start_ns = time.monotonic_ns()
        due_ns = start_ns + self.interval_ns
        while not self.stop.wait(max(0.0, (due_ns - time.monotonic_ns()) / 1e9)):
            for source in self.sources:
                self.sample(source)
            spent(self.sources[0].name, time.thread_time())
            passed = (time.monotonic_ns() - start_ns) // self.interval_ns
            due_ns = start_ns + (passed + 1) * self.interval_ns
