"""Live counts of one probe of a stream: a small mmapped file, a block of int64 for each worker that sends it."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slobench.errors import RecordsError
from slobench.records.counters import BINS, bin_of

BATCHES = 10
"""Consecutive parts of a probe, equal in requests."""

_MAGIC = int.from_bytes(b"slobprb1", "little")
_HEAD = struct.Struct("=qqq")  # magic, workers, shares
MEANS = ("ttft", "tpot", "e2e")
"""Quantities of successful requests whose sum is kept."""

_STARTED, _ENDED, _FAILED, _DROPPED, _LAST_NS = range(5)
_SUMS = 5  # MEANS × (sum in ns, n)
_FLIGHT = _SUMS + 2 * len(MEANS)  # BATCHES × (sum, n) of what was in flight at each send
_E2E = _FLIGHT + 2 * BATCHES
_LAG = _E2E + BINS
_TALLIES = _LAG + BINS  # shares × BATCHES × (good, judged)


def _block(shares: int) -> int:
    return _TALLIES + shares * BATCHES * 2


@dataclass(frozen=True, slots=True)
class ProbeCount:
    """What all workers have counted of a probe so far; settling requests are not in it.

    tallies: shares × BATCHES × (good, judged). in_flight: mean over each batch's sends, 0 where there was none.
    means_s: of MEANS, None where there was none. last_ns: scheduled time of the last request that was sent, None
    before it. e2e, lag: histograms of records.counters.
    """

    started: int
    ended: int  # dropped ones too
    failed: int  # dropped ones too
    dropped: int
    tallies: NDArray[np.int64]
    in_flight: NDArray[np.float64]
    means_s: Mapping[str, float | None]
    last_ns: int | None
    e2e: NDArray[np.int64]
    lag: NDArray[np.int64]

    @property
    def acted_on(self) -> int:
        """Requests that were sent or dropped."""
        return self.started + self.dropped


class ProbeBlock:
    """The block of one worker, which it alone writes."""

    __slots__ = ("_cells", "_map")

    def __init__(self, mapped: mmap.mmap, worker: int, shares: int) -> None:
        self._map = mapped
        start = _HEAD.size // 8 + worker * _block(shares)
        self._cells = memoryview(mapped).cast("q")[start : start + _block(shares)]

    def sent(self, batch: int, in_flight: int, lag_ns: int, scheduled_ns: int) -> None:
        """Count a request that was sent; `in_flight`: of this worker, without it."""
        cells = self._cells
        cells[_STARTED] += 1
        cells[_FLIGHT + 2 * batch] += in_flight
        cells[_FLIGHT + 2 * batch + 1] += 1
        cells[_LAG + bin_of(lag_ns)] += 1
        cells[_LAST_NS] = scheduled_ns + 1  # 0: none yet

    def judged(self, share: int, batch: int, *, good: bool) -> None:
        """Count a verdict in one share."""
        at = _TALLIES + (share * BATCHES + batch) * 2
        self._cells[at] += good
        self._cells[at + 1] += 1

    def took(self, e2e_ns: int, quantities_ns: Sequence[int | None]) -> None:
        """Count what a successful request took; `quantities_ns` in the order of MEANS."""
        cells = self._cells
        cells[_E2E + bin_of(e2e_ns)] += 1
        for at, ns in enumerate(quantities_ns):
            if ns is not None:
                cells[_SUMS + 2 * at] += ns
                cells[_SUMS + 2 * at + 1] += 1

    def ended(self, *, failed: bool, dropped: bool = False) -> None:
        """Count an end; call it last, so that what is counted as ended has been judged."""
        cells = self._cells
        cells[_FAILED] += failed
        cells[_DROPPED] += dropped
        cells[_ENDED] += 1


def create(path: Path, workers: int, shares: int) -> None:
    """Make the file; its space is reserved, not sparse. Raises RecordsError where it cannot be written."""
    size = 8 * workers * _block(shares)
    try:
        path.write_bytes(_HEAD.pack(_MAGIC, workers, shares) + bytes(size))
    except OSError as error:
        raise RecordsError(
            f"cannot write {path}: {os.strerror(error.errno or 0)}\n  expected  a folder with {size:,} free bytes"
        ) from error


def attach(path: Path, worker: int) -> ProbeBlock:
    """The block of one worker. Raises RecordsError where the file is missing or not one of ours."""
    mapped, _, shares = _map(path)
    return ProbeBlock(mapped, worker, shares)


def span(path: Path, worker: int) -> tuple[int, int]:
    """(start, size) in bytes of a worker's block in the file. Raises RecordsError like `attach`."""
    mapped, _, shares = _map(path)
    mapped.close()
    return _HEAD.size + 8 * worker * _block(shares), 8 * _block(shares)


def read(path: Path) -> ProbeCount:
    """Add up what the workers have counted so far. Raises RecordsError like `attach`."""
    mapped, workers, shares = _map(path)
    cells = np.frombuffer(mapped[_HEAD.size :], dtype=np.int64).reshape(workers, _block(shares))
    mapped.close()
    total = cells.sum(axis=0)
    flight = cells[:, _FLIGHT:_E2E].reshape(workers, BATCHES, 2)
    last = int(cells[:, _LAST_NS].max())
    sums = total[_SUMS:_FLIGHT].reshape(len(MEANS), 2).tolist()
    return ProbeCount(
        started=int(total[_STARTED]),
        ended=int(total[_ENDED]),
        failed=int(total[_FAILED]),
        dropped=int(total[_DROPPED]),
        tallies=total[_TALLIES:].reshape(shares, BATCHES, 2),
        in_flight=(flight[:, :, 0] / np.maximum(flight[:, :, 1], 1)).sum(axis=0),
        means_s={name: ns / n / 1e9 if n else None for name, (ns, n) in zip(MEANS, sums, strict=True)},
        last_ns=last - 1 if last else None,
        e2e=total[_E2E:_LAG],
        lag=total[_LAG:_TALLIES],
    )


def _map(path: Path) -> tuple[mmap.mmap, int, int]:
    try:
        with path.open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise RecordsError(f"cannot read {path}: {error}\n  expected  the counts of a probe") from error
    magic, workers, shares = _HEAD.unpack_from(mapped) if len(mapped) >= _HEAD.size else (0, 0, 0)
    if magic != _MAGIC or len(mapped) != _HEAD.size + 8 * workers * _block(shares):
        mapped.close()
        raise RecordsError(f"{path} holds no counts of a probe\n  expected  a file of the same slobench")
    return mapped, workers, shares
