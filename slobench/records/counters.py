"""Live counts of a run: one mmapped file of int64, a block for each worker, read by the parent while it grows.

A file and not multiprocessing's shared memory: a child with its own resource tracker removes that when it exits.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slobench.errors import RecordsError


class Slot(IntEnum):
    """The counts of one worker, by position in its block."""

    HEARTBEAT_NS = 0  # when it last wrote, ns on the run's clock
    PLANNED = 1
    STARTED = 2
    ENDED = 3
    OK = 4
    FAILED = 5
    IN_FLIGHT = 6
    DROPPED = 7
    JUDGED = 8  # ended requests whose SLO could be judged live
    GOOD = 9
    TOKENS_OUT = 10
    READS = 11
    LAG_MAX_NS = 12  # largest send lag
    LAST_ERROR_CODE = 13  # position in names.OUTCOMES of the last failure
    SPOOL_LOST = 14  # rows that the disk refused
    UNSTAMPED = 15  # reads without a kernel stamp
    CLOCK_STEPS = 16  # reads whose kernel stamp was not believable


class Hist(IntEnum):
    """The histograms of one worker, by position."""

    TTFT = 0
    E2E = 1
    SEND_LAG = 2


LOWEST_NS = 10_000
HIGHEST_NS = 1_000 * 10**9
BINS = 748
"""Bin 0: below 10 µs; the last: 1000 s and above; 746 between them, each 2.5 % wide."""

_MAGIC = int.from_bytes(b"slobcnt1", "little")
_HEAD = struct.Struct("=qqqqq")  # magic, workers, slots, histograms, bins
_BLOCK = len(Slot) + len(Hist) * BINS
_FIRST_BIN = [len(Slot) + which * BINS for which in Hist]
_SCALE = (BINS - 2) / math.log(HIGHEST_NS / LOWEST_NS)
_LOG_LOWEST = math.log(LOWEST_NS)

FILE = "counters.bin"


def bin_of(ns: int) -> int:
    """The histogram bin that a duration falls into."""
    if ns < LOWEST_NS:
        return 0
    if ns >= HIGHEST_NS:
        return BINS - 1
    return 1 + min(int((math.log(ns) - _LOG_LOWEST) * _SCALE), BINS - 3)


def bin_edges_s() -> NDArray[np.float64]:
    """Lower edge of each bin in seconds; the first is 0."""
    inner = np.geomspace(LOWEST_NS, HIGHEST_NS, BINS - 1) / 1e9
    return np.concatenate([[0.0], inner])


def quantile_s(counts: NDArray[np.int64], q: float) -> float | None:
    """The q-quantile of a histogram in seconds, within 1.3 %; None where it is empty, inf in the last bin.

    Inverse ECDF: the bin that holds rank ⌈qn⌉, at its geometric middle.
    """
    total = int(counts.sum())
    if not total:
        return None
    rank = min(max(math.ceil(q * total - 1e-9), 1), total)
    at = int(np.searchsorted(np.cumsum(counts), rank))
    if at == 0:
        return LOWEST_NS / 2 / 1e9
    if at == BINS - 1:
        return math.inf
    return math.exp(_LOG_LOWEST + (at - 0.5) / _SCALE) / 1e9


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All counts at one moment. slots: workers × Slot; histograms: workers × Hist × BINS."""

    slots: NDArray[np.int64]
    histograms: NDArray[np.int64]

    def total(self, slot: Slot) -> int:
        """The sum over workers."""
        return int(self.slots[:, slot].sum())

    def highest(self, slot: Slot) -> int:
        """The largest value of any worker."""
        return int(self.slots[:, slot].max())

    def histogram(self, which: Hist) -> NDArray[np.int64]:
        """The sum over workers; subtract an earlier snapshot's to get the time between."""
        total: NDArray[np.int64] = self.histograms[:, which].sum(axis=0)
        return total


class WorkerCounters:
    """The block of one worker, which it alone writes. Each update is one aligned store: no locks, no torn values."""

    __slots__ = ("_cells", "_map")

    def __init__(self, mapped: mmap.mmap, worker: int) -> None:
        self._map = mapped
        start = _HEAD.size // 8 + worker * _BLOCK
        self._cells = memoryview(mapped).cast("q")[start : start + _BLOCK]

    def set(self, slot: Slot, value: int) -> None:
        """Store a value."""
        self._cells[slot] = value

    def add(self, slot: Slot, amount: int = 1) -> None:
        """Add to a value."""
        self._cells[slot] += amount

    def raise_to(self, slot: Slot, value: int) -> None:
        """Store a value if it is larger than the one there."""
        self._cells[slot] = max(self._cells[slot], value)

    def observe(self, which: Hist, ns: int) -> None:
        """Count one duration."""
        self._cells[_FIRST_BIN[which] + bin_of(ns)] += 1

    def close(self) -> None:
        """Let go of the file; no other method may be called afterwards."""
        self._cells.release()


class Counters:
    """The counter file of a run, as the parent sees it."""

    def __init__(self, mapped: mmap.mmap, workers: int) -> None:
        self._map = mapped
        self.workers = workers

    @classmethod
    def create(cls, path: Path, workers: int) -> Self:
        """Make the file. Raises RecordsError where it cannot be written.

        Its space is reserved, not sparse: storing to a hole on a full disk kills the process (SIGBUS).
        """
        size = _HEAD.size + 8 * workers * _BLOCK
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w+b") as file:
                file.write(_HEAD.pack(_MAGIC, workers, len(Slot), len(Hist), BINS))
                file.write(bytes(size - _HEAD.size))
                file.flush()
                return cls(mmap.mmap(file.fileno(), size), workers)
        except OSError as error:
            raise RecordsError(
                f"cannot write {path}: {os.strerror(error.errno or 0)}\n  expected  a folder with {size:,} free bytes"
            ) from error

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the file of another process. Raises RecordsError where it is missing or not one of ours."""
        mapped, workers = _map(path)
        return cls(mapped, workers)

    @staticmethod
    def attach(path: Path, worker: int) -> WorkerCounters:
        """The block of one worker. Raises RecordsError like `open`."""
        mapped, workers = _map(path)
        if not 0 <= worker < workers:
            raise RecordsError(f"{path} has no worker {worker}\n  expected  0 to {workers - 1}")
        return WorkerCounters(mapped, worker)

    @staticmethod
    def span(worker: int) -> tuple[int, int]:
        """(start, size) in bytes of a worker's block in the file."""
        return _HEAD.size + 8 * worker * _BLOCK, 8 * _BLOCK

    def snapshot(self) -> Snapshot:
        """Copy all counts."""
        cells = np.frombuffer(self._map[_HEAD.size :], dtype=np.int64).reshape(self.workers, _BLOCK)
        histograms = cells[:, len(Slot) :].reshape(self.workers, len(Hist), BINS)
        return Snapshot(cells[:, : len(Slot)], histograms)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _map(path: Path) -> tuple[mmap.mmap, int]:
    """Map the file for reading and writing; return it and its number of workers."""
    try:
        with path.open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise RecordsError(f"cannot read {path}: {error}\n  expected  the counter file of a run") from error
    if len(mapped) >= _HEAD.size:
        magic, workers, *shape = _HEAD.unpack_from(mapped)
        whole = len(mapped) == _HEAD.size + 8 * workers * _BLOCK
        if magic == _MAGIC and shape == [len(Slot), len(Hist), BINS] and whole:
            return mapped, workers
    mapped.close()
    raise RecordsError(f"{path} is no counter file of this version\n  expected  one written by the same slobench")
