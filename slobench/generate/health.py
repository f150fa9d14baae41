"""A worker watches itself: heartbeat, CPU, garbage collection, throttling, descriptors (metrics.md V03, V04, V06)."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from slobench.clock import Clock
from slobench.generate.exchange import ReadCounters
from slobench.records.counters import Slot, WorkerCounters
from slobench.records.schema import WORKER_METRICS
from slobench.records.spool import SpoolWriter

BEAT_NS = 50_000_000  # a wake-up costs 0.1 ms of CPU: 5 ms beats cost 4 µs a token at 6,400 tokens/s
_COUNT_NS = 100_000_000
_SAMPLE_NS = 1_000_000_000
_STEP_NS = 1_000_000
_FDS_OF_TIME = 1000  # counting open files is 2 µs each where they must be listed: a thousandth of the time at most
_SLEW = 12  # chrony slews by up to 1/12 (maxslewrate), ntpd by 1/2000: what goes faster is a step
_CODE = {name: code for code, name in enumerate(WORKER_METRICS)}


class Health:
    """Samples the worker on every beat of a 50 ms pacer; flushes the spool once a second."""

    def __init__(
        self,
        clock: Clock,
        spool: SpoolWriter,
        counters: WorkerCounters,
        reads: ReadCounters,
        in_flight: Callable[[], int],
        wall_ns: Callable[[], int] = time.time_ns,
        *,
        freezes: bool = False,
    ) -> None:
        """freezes: what lives for a second is passed by in garbage collections from then on.

        Requests in flight are most of it, and looking through those of 10,000 streams takes 10 ms. They end by their
        reference counts; only for a transport that leaves no cycles, or those that are a second old would never go.
        """
        self._now_ns = clock.now_ns
        self._spool = spool
        self._counters = counters
        self._reads = reads
        self._in_flight = in_flight
        self._wall_ns = wall_ns
        self._freezes = freezes
        self._wall_seen: tuple[int, int] | None = None  # when, and wall time less the run's clock
        self._next_count_ns = self._next_sample_ns = self._next_fds_ns = 0
        self._gc_began_ns: int | None = None
        self._listening = False
        self._steal = _host_cpu()
        self._cpu_stats = [path for path in _cpu_stats() if path.exists()]

    def beat(self, due_ns: int) -> None:
        """One heartbeat that was due at `due_ns` on the run's clock."""
        now_ns = self._now_ns()
        if not self._listening:  # collections before the first beat belong to the preparation, not to the run
            self._listening = True
            gc.callbacks.append(self._on_gc)
        self._add("heartbeat_overshoot_ns", now_ns - due_ns, now_ns)
        self._watch_wall_clock()
        # By the clock: where a busy machine swallows beats, counting them would put the flush off.
        if now_ns >= self._next_count_ns:
            self._next_count_ns = now_ns - now_ns % _COUNT_NS + _COUNT_NS
            self.count(now_ns)
        if now_ns >= self._next_sample_ns:
            self._next_sample_ns = now_ns - now_ns % _SAMPLE_NS + _SAMPLE_NS
            self.sample(now_ns)
            self._spool.flush()
            if self._freezes:
                gc.freeze()

    def count(self, now_ns: int) -> None:
        """Bring the live counters up to date."""
        counters, reads = self._counters, self._reads
        counters.set(Slot.HEARTBEAT_NS, now_ns)
        counters.set(Slot.IN_FLIGHT, self._in_flight())
        counters.set(Slot.READS, reads.reads)
        counters.set(Slot.UNSTAMPED, reads.unstamped)
        counters.set(Slot.CLOCK_STEPS, reads.clock_steps)
        counters.set(Slot.SPOOL_LOST, self._spool.lost_rows)

    def sample(self, now_ns: int) -> None:
        """Store one sample of everything that is not counted per beat."""
        self._add("cpu_s", time.process_time(), now_ns)
        self._add("in_flight", self._in_flight(), now_ns)
        self._add("reads", self._reads.reads, now_ns)
        self._add("unstamped_reads", self._reads.unstamped, now_ns)
        self._add("clock_steps", self._reads.clock_steps, now_ns)
        if now_ns >= self._next_fds_ns:
            self._add("open_fds", _open_fds(), now_ns)
            self._next_fds_ns = now_ns + _FDS_OF_TIME * (self._now_ns() - now_ns)
        self._add("fd_limit", resource.getrlimit(resource.RLIMIT_NOFILE)[0], now_ns)
        throttled_s = _throttled_s(self._cpu_stats)
        if throttled_s is not None:
            self._add("throttled_s", throttled_s, now_ns)
        steal = _host_cpu()
        if steal and self._steal and steal[1] > self._steal[1]:
            share = (steal[0] - self._steal[0]) / (steal[1] - self._steal[1])
            self._add("steal_share", share, now_ns)
        self._steal = steal

    def _watch_wall_clock(self) -> None:
        """Kernel stamps are wall time: a read that waits while that clock is set is misdated by the step."""
        before_ns, wall_ns, now_ns = self._now_ns(), self._wall_ns(), self._now_ns()
        if now_ns - before_ns > _STEP_NS // 4:  # we were stopped in between: the offset is not known to that much
            return
        offset_ns = wall_ns - now_ns
        if self._wall_seen is not None:
            last_ns, last_offset_ns = self._wall_seen
            slewed_ns = (now_ns - last_ns) // _SLEW
            if abs(offset_ns - last_offset_ns) > _STEP_NS + slewed_ns:
                self._add("wall_step_ns", offset_ns - last_offset_ns, now_ns)
        self._wall_seen = (now_ns, offset_ns)

    def close(self) -> None:
        """Last samples; stop listening to the garbage collector."""
        now_ns = self._now_ns()
        self.count(now_ns)
        self.sample(now_ns)
        if self._listening:
            gc.callbacks.remove(self._on_gc)

    def _add(self, name: str, value: float, now_ns: int) -> None:
        self._spool.telemetry.add(now_ns, _CODE[name], value)

    def _on_gc(self, phase: str, info: dict[str, int]) -> None:
        del info
        now_ns = self._now_ns()
        if phase == "start":
            self._gc_began_ns = now_ns
        elif self._gc_began_ns is not None:
            self._add("gc_pause_ns", now_ns - self._gc_began_ns, now_ns)


def _open_fds() -> int:
    try:
        counted = os.stat("/proc/self/fd").st_size  # noqa: PTH116 (each second); Linux 6.2 and newer, else 0
        return counted or len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    except OSError:
        return 0


def _throttled_s(stats: Iterable[Path]) -> float | None:
    """Time that a CPU quota has kept this process from running, in s: its cgroup's, or that of one above it."""
    found = [seconds for path in stats if (seconds := _throttled_in(path)) is not None]
    return max(found, default=None)


def _cpu_stats() -> Iterator[Path]:
    """Each `cpu.stat` of this process's group and of those above it, in version 2 and in version 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "cpu" not in controllers.split(",") and controllers:
            continue
        root = Path("/sys/fs/cgroup/cpu" if controllers else "/sys/fs/cgroup")
        group = root / path.lstrip("/")
        yield from (folder / "cpu.stat" for folder in (group, *group.parents) if folder.is_relative_to(root))


def _throttled_in(path: Path) -> float | None:
    try:
        text = path.read_text()
    except OSError:  # a container may see its group under another path
        return None
    values = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    if "throttled_usec" in values:
        return int(values["throttled_usec"]) / 1e6
    return int(values["throttled_time"]) / 1e9 if "throttled_time" in values else None


def _host_cpu() -> tuple[int, int] | None:
    """(stolen, all) CPU ticks of the host so far."""
    try:
        with Path("/proc/stat").open() as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return (ticks[7], sum(ticks)) if len(ticks) == 8 else None
