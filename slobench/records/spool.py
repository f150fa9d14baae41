"""What a worker writes while it runs: Arrow IPC streams that survive a kill, a torn tail and a full disk."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slobench.errors import RecordsError
from slobench.records.arrow import arrow_array, text_array, text_values
from slobench.records.buffers import Buffer, Chunks, Requests, Rows, Starts, Telemetry
from slobench.records.schema import (
    NULL,
    SPOOL_CHUNKS,
    SPOOL_REQUESTS,
    SPOOL_STARTS,
    SPOOL_TELEMETRY,
    VERSION,
    Columns,
)
from slobench.records.stream_file import StreamFile, whole_batches

FOLDER = "spool"
"""Where a run folder keeps its spool."""

STREAMS = {
    "starts": SPOOL_STARTS,
    "chunks": SPOOL_CHUNKS,
    "requests": SPOOL_REQUESTS,  # after chunks: an end record on disk means that its chunks are there too
    "telemetry": SPOOL_TELEMETRY,
}
BACKLOG_BYTES = 64 * 2**20
"""Rows kept in memory while the disk refuses them; beyond it rows are lost, and counted."""

_CODES = {"q": pa.int64(), "d": pa.float64(), "b": pa.int8(), "str": pa.string()}
_NUMPY: dict[str, tuple[type, object]] = {
    "q": (np.int64, NULL),
    "d": (np.float64, np.nan),
    "b": (np.int8, -1),
    "str": (np.object_, ""),
}
_NEEDED = frozenset({"starts", "requests"})  # small, and worth more than chunks when memory gets short


@cache
def stream_schema(name: str) -> pa.Schema:
    """The Arrow schema of one spool stream."""
    fields = [pa.field(column, _CODES[kind], nullable=False) for column, kind in STREAMS[name].items()]
    return pa.schema(fields, metadata={"slobench.schema": str(VERSION)})


class SpoolWriter:
    """The spool of one worker, in the folder `spool/` of its run.

    Rows go into memory; `flush` hands them to a thread that writes them.
    All methods belong to one thread (the event loop's); none of them waits for the disk but `close`.
    After a failed write the file is cut back to its last whole batch, the rows stay in memory, and each later
    flush tries again in a new file. Files: `w{worker}-{stream}-{n}.arrow`; `w{worker}.open` becomes `w{worker}.closed`
    when `close` has written everything, which tells a worker that ended from a killed one.
    Raises OSError where the folder cannot be written to at the start.
    """

    def __init__(self, folder: Path, worker: int, backlog_bytes: int = BACKLOG_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.error: str | None = None
        """The first failed write."""
        self.lost: dict[str, int] = dict.fromkeys(STREAMS, 0)
        """Rows that will never be on disk, by stream."""
        self.starts = Starts()
        self.chunks = Chunks()
        self.requests = Requests()
        self.telemetry = Telemetry()
        self._backlog_bytes = backlog_bytes
        self._files = {name: StreamFile(folder / f"w{worker}-{name}", stream_schema(name)) for name in STREAMS}
        self._marker = folder / f"w{worker}.open"
        self._marker.touch()
        self._waiting: deque[tuple[str, Rows, int]] = deque()
        self._waiting_bytes = 0
        self._guard = threading.Lock()  # around the two above; never held during I/O
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._write_until_closed, name=f"spool-{worker}", daemon=True)
        self._thread.start()

    @property
    def lost_rows(self) -> int:
        """Rows that will never be on disk, all streams."""
        return sum(self.lost.values())

    def flush(self) -> None:
        """Hand all rows so far to the writer thread; call it at least once a second."""
        buffers: dict[str, Buffer] = {
            "starts": self.starts,
            "chunks": self.chunks,
            "requests": self.requests,
            "telemetry": self.telemetry,
        }
        for name, buffer in buffers.items():
            rows = buffer.take()
            nbytes = rows.nbytes
            if not nbytes:
                continue
            bound = self._backlog_bytes if name in _NEEDED else self._backlog_bytes * 3 // 4
            with self._guard:
                if self._waiting_bytes and self._waiting_bytes + nbytes > bound:
                    self.lost[name] += _count(name, rows)
                    continue
                self._waiting.append((name, rows, nbytes))
                self._waiting_bytes += nbytes
        self._wake.set()

    def close(self, timeout_s: float = 10.0, *, ended_well: bool = True) -> None:
        """Flush, wait for the writer thread, and count what could not be written as lost.

        ended_well False: the worker failed, and what it still had to do is lost, not merely unsent.
        """
        if self._closing:
            return
        self.flush()
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        with self._guard:
            for name, rows, _ in self._waiting:
                self.lost[name] += _count(name, rows)
            self._waiting.clear()
        if ended_well and not self.lost_rows:
            with suppress(OSError):
                self._marker.replace(self._marker.with_suffix(".closed"))  # a rename needs no space

    def _write_until_closed(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            closing = self._closing  # read before writing: what was flushed before it was set is written now
            self._write_waiting()
            if closing:
                for file in self._files.values():
                    file.close()
                return

    def _write_waiting(self) -> None:
        while self._waiting:
            name, rows, nbytes = self._waiting[0]
            try:
                self._files[name].write(_encode(name, rows))
            except OSError as error:
                # Nothing behind it is written either: order is what makes an end record imply its chunks.
                self.error = self.error or f"cannot write {error.filename}: {error.strerror}"
                return
            with self._guard:
                if self._waiting:  # `close` gave up on this thread and emptied it
                    self._waiting.popleft()
                    self._waiting_bytes -= nbytes


@cache
def _row_dtype(name: str) -> np.dtype[np.void]:
    kinds = {"q": "i8", "d": "f8", "b": "i1"}
    return np.dtype([(column, kinds[kind]) for column, kind in STREAMS[name].items() if kind != "str"])


def _count(name: str, rows: Rows) -> int:
    return len(rows.packed) // _row_dtype(name).itemsize


def _encode(name: str, rows: Rows) -> memoryview:
    """One Arrow IPC message from buffers only: `pa.array` would import pandas (0.3 s, holding the GIL)."""
    table = np.frombuffer(rows.packed, dtype=_row_dtype(name))
    words = iter(zip(*rows.texts, strict=True)) if rows.texts else iter(())
    arrays = [
        text_array(next(words))
        if kind == "str"
        else pa.Array.from_buffers(_CODES[kind], len(table), [None, pa.py_buffer(np.ascontiguousarray(table[column]))])
        for column, kind in STREAMS[name].items()
    ]
    return memoryview(pa.RecordBatch.from_arrays(arrays, schema=stream_schema(name)).serialize())


@dataclass(frozen=True, slots=True)
class Spooled:
    """All whole batches of a spool folder. Columns as in SPOOL_*, plus `worker`; NULL and -1 codes as written.

    Rows of one worker and stream are in the order in which they were added.
    """

    starts: Columns
    chunks: Columns
    """Empty where they were not asked for."""
    requests: Columns
    telemetry: Columns
    workers: frozenset[int]
    """Workers that left a spool."""
    unclosed: frozenset[int]
    """Those whose spool was not closed: killed, or unable to write all of it."""
    torn: tuple[str, ...]
    """Names of files whose last batch is cut short."""


def read(folder: Path, only: tuple[int, int] | None = None, *, with_chunks: bool = True) -> Spooled:
    """Read a spool folder, also one that is still being written or was left by a crash.

    only: requests with an index in [low, high), and all telemetry; memory is that of what is kept.
    A batch cut short, and what follows it in its file, is left out. Raises RecordsError where the folder is missing.
    """
    if not folder.is_dir():
        raise RecordsError(f"no spool in {folder}\n  expected  the spool/ folder of a run")
    batches: dict[str, list[tuple[int, pa.RecordBatch]]] = {name: [] for name in STREAMS}
    workers, torn = set(), []
    for path, worker, name in files_of(folder):
        if name == "chunks" and not with_chunks:
            workers.add(worker)
            continue
        whole, is_torn = whole_batches(path)
        if only is not None and "index" in STREAMS[name]:
            whole = [part for batch in whole if (part := part_of(batch, *only)).num_rows]
        batches[name] += [(worker, joined(whole))] if whole else []
        workers.add(worker)
        if is_torn:
            torn.append(path.name)
    unclosed, closed = (
        {int(path.stem[1:]) for path in folder.glob(f"w*.{state}") if path.stem[1:].isdigit()}
        for state in ("open", "closed")
    )
    return Spooled(
        **{name: _columns(name, batches[name]) for name in STREAMS},
        workers=frozenset(workers | unclosed | closed),
        unclosed=frozenset(unclosed),
        torn=tuple(torn),
    )


def files_of(folder: Path) -> list[tuple[Path, int, str]]:
    """Return (file, worker, stream) of a spool folder, by worker, stream and number."""
    found = []
    for path in folder.iterdir():
        match = re.fullmatch(r"w(\d+)-(\w+)-(\d+)\.arrow", path.name)
        if match and match[2] in STREAMS:
            found.append(((int(match[1]), match[2], int(match[3])), path))
    return [(path, worker, name) for (worker, name, _), path in sorted(found)]


def joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """One batch of several of the same file, at least one: what is done batch by batch is dear where they are small."""
    if len(batches) == 1:
        return batches[0]
    whole = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return whole[0] if whole else batches[0]


def part_of(batch: pa.RecordBatch, low: int, high: int) -> pa.RecordBatch:
    """The rows of a batch with an index in [low, high), the batch itself where that is all."""
    column = batch.column(batch.schema.get_field_index("index"))
    index = np.frombuffer(column.buffers()[1], dtype=np.int64, count=batch.num_rows)
    wanted = (index >= low) & (index < high)
    if wanted.all():
        return batch
    return batch.take(arrow_array(np.flatnonzero(wanted), pa.int64()))


def _columns(name: str, batches: Sequence[tuple[int, pa.RecordBatch]]) -> dict[str, NDArray[Any]]:
    columns = {column: _column(column, kind, batches) for column, kind in STREAMS[name].items()}
    sizes = [batch.num_rows for _, batch in batches]
    columns["worker"] = np.repeat(np.array([worker for worker, _ in batches], dtype=np.int32), sizes)
    return columns


def _column(column: str, kind: str, batches: Sequence[tuple[int, pa.RecordBatch]]) -> NDArray[Any]:
    """One column of all batches; what an older file lacks is null."""
    dtype, null = _NUMPY[kind]
    parts: list[NDArray[Any]] = [np.empty(0, dtype=dtype)]
    for _, batch in batches:
        at = batch.schema.get_field_index(column)
        if at < 0:
            parts.append(np.full(batch.num_rows, null, dtype=dtype))
        elif kind == "str":
            parts.append(text_values(batch.column(at)))
        else:
            parts.append(np.frombuffer(batch.column(at).buffers()[1], dtype=dtype, count=batch.num_rows))
    return np.concatenate(parts)
