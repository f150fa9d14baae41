"""What a worker writes while it runs: Arrow IPC streams that survive a kill, a torn tail and a full disk."""

from __future__ import annotations

import os
import struct
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from slobench.records.schema import SPOOL_CHUNKS, SPOOL_REQUESTS, SPOOL_STARTS, SPOOL_TELEMETRY, VERSION

STREAMS = {
    "starts": SPOOL_STARTS,
    "chunks": SPOOL_CHUNKS,
    "requests": SPOOL_REQUESTS,  # after chunks: an end record on disk means that its chunks are there too
    "telemetry": SPOOL_TELEMETRY,
}
BACKLOG_BYTES = 64 * 2**20
"""Rows kept in memory while the disk refuses them; beyond it rows are lost, and counted."""

_CODES = {"q": pa.int64(), "d": pa.float64(), "b": pa.int8(), "str": pa.string()}
_NEEDED = frozenset({"starts", "requests"})  # small, and worth more than chunks when memory gets short


def stream_schema(name: str) -> pa.Schema:
    """The Arrow schema of one spool stream."""
    fields = [pa.field(column, _CODES[kind], nullable=False) for column, kind in STREAMS[name].items()]
    return pa.schema(fields, metadata={"slobench.schema": str(VERSION)})


@dataclass(slots=True)
class _Rows:
    """Rows as they are added: numbers packed back to back, texts beside them.

    Packing takes a third of the time of an append to one array per column; the writer thread separates them.
    """

    packed: bytearray = field(default_factory=bytearray)
    texts: list[Sequence[str]] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        return len(self.packed) + sum(len(text) + 80 for row in self.texts for text in row)


class _Buffer(Protocol):
    def take(self) -> _Rows:
        """Return the rows so far and begin anew."""
        ...


class _Starts:
    """Requests that were begun."""

    __slots__ = ("_pack", "_packed")

    def __init__(self) -> None:
        self._pack = struct.Struct("=qqq").pack
        self._packed = bytearray()

    def add(self, index: int, scheduled_ns: int, started_ns: int) -> None:
        """Note that request `index` was begun."""
        self._packed += self._pack(index, scheduled_ns, started_ns)

    def take(self) -> _Rows:
        taken, self._packed = self._packed, bytearray()
        return _Rows(taken)


class _Chunks:
    """Token-bearing events."""

    __slots__ = ("_pack", "_packed")

    def __init__(self) -> None:
        self._pack = struct.Struct("=qqqqbqb").pack
        self._packed = bytearray()

    def add(self, index: int, t_ns: int, tokens: int, nbytes: int, channel: int, lag_ns: int, coalesced: int) -> None:
        """Note one event; `tokens` is NULL where unknown, `channel` a position in names.CHANNELS."""
        self._packed += self._pack(index, t_ns, tokens, nbytes, channel, lag_ns, coalesced)

    def take(self) -> _Rows:
        taken, self._packed = self._packed, bytearray()
        return _Rows(taken)


class _Requests:
    """Requests that ended."""

    __slots__ = ("_numbers", "_pack", "_packed", "_texts", "_words")

    def __init__(self) -> None:
        kinds = list(SPOOL_REQUESTS.values())
        self._numbers = itemgetter(*(i for i, kind in enumerate(kinds) if kind != "str"))
        self._words = itemgetter(*(i for i, kind in enumerate(kinds) if kind == "str"))
        self._pack = struct.Struct("=" + "".join(kind for kind in kinds if kind != "str")).pack
        self._packed = bytearray()
        self._texts: list[Sequence[str]] = []

    def add(self, row: Sequence[int | str]) -> None:
        """Note the end of a request: a row in the order of SPOOL_REQUESTS, NULL (or -1 in codes) where unknown."""
        self._packed += self._pack(*self._numbers(row))
        self._texts.append(self._words(row))

    def take(self) -> _Rows:
        taken = _Rows(self._packed, self._texts)
        self._packed, self._texts = bytearray(), []
        return taken


class _Telemetry:
    """Samples of the worker's own health."""

    __slots__ = ("_pack", "_packed")

    def __init__(self) -> None:
        self._pack = struct.Struct("=qbd").pack
        self._packed = bytearray()

    def add(self, t_ns: int, name: int, value: float) -> None:
        """Note one sample; `name` is a position in WORKER_METRICS."""
        self._packed += self._pack(t_ns, name, value)

    def take(self) -> _Rows:
        taken, self._packed = self._packed, bytearray()
        return _Rows(taken)


class SpoolWriter:
    """The spool of one worker: rows go into memory, `flush` hands them to a thread that writes them.

    All methods belong to one thread (the event loop's); none of them waits for the disk but `close`.
    After a failed write the file is cut back to its last whole batch, the rows stay in memory, and each later
    flush tries again in a new file. Files: `w{worker}-{stream}-{n}.arrow`; `w{worker}.open` stands until `close`
    has written everything, so its presence tells a killed worker from one that ended.
    Raises OSError where the folder cannot be written to at the start.
    """

    def __init__(self, folder: Path, worker: int, backlog_bytes: int = BACKLOG_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.error: str | None = None
        """The first failed write."""
        self.lost: dict[str, int] = dict.fromkeys(STREAMS, 0)
        """Rows that will never be on disk, by stream."""
        self.starts = _Starts()
        self.chunks = _Chunks()
        self.requests = _Requests()
        self.telemetry = _Telemetry()
        self._backlog_bytes = backlog_bytes
        self._files = {name: _StreamFile(folder, worker, name) for name in STREAMS}
        self._marker = folder / f"w{worker}.open"
        self._marker.touch()
        self._waiting: deque[tuple[str, _Rows, int]] = deque()
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
        buffers: dict[str, _Buffer] = {
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

    def close(self, timeout_s: float = 10.0) -> None:
        """Flush, wait for the writer thread, and count what could not be written as lost."""
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
        if not self.lost_rows:
            with suppress(OSError):
                self._marker.unlink()

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


class _StreamFile:
    """One stream's files, one open at a time; each holds a schema message, then whole batches."""

    def __init__(self, folder: Path, worker: int, name: str) -> None:
        self._stem = folder / f"w{worker}-{name}"
        self._head = bytes(stream_schema(name).serialize())
        self._number = 0
        self._path = ""
        self._fd = -1
        self._good_bytes = 0

    def write(self, batch: memoryview) -> None:
        """Append one batch, or leave the file as it was and raise OSError with its name."""
        try:
            if self._fd < 0:
                self._open()
                _write_all(self._fd, memoryview(self._head))
            _write_all(self._fd, batch)
        except OSError as error:
            self._cut_back()
            raise OSError(error.errno, error.strerror, self._path) from error
        self._good_bytes += batch.nbytes + (0 if self._good_bytes else len(self._head))

    def close(self) -> None:
        """Close the file; a later write opens a new one."""
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        while True:
            self._path = f"{self._stem}-{self._number}.arrow"
            self._good_bytes = 0
            try:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileExistsError:
                self._number += 1
            else:
                return

    def _cut_back(self) -> None:
        """Remove the half batch at the end: a reader would take what follows it for part of it."""
        if self._fd < 0:
            return
        with suppress(OSError):
            os.ftruncate(self._fd, self._good_bytes)
        self.close()
        if not self._good_bytes:
            with suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108 (a str, kept for messages)
        self._number += 1


def _write_all(fd: int, data: memoryview) -> None:
    while data.nbytes:
        data = data[os.write(fd, data) :]


def _row_dtype(name: str) -> np.dtype[np.void]:
    kinds = {"q": "i8", "d": "f8", "b": "i1"}
    return np.dtype([(column, kinds[kind]) for column, kind in STREAMS[name].items() if kind != "str"])


def _count(name: str, rows: _Rows) -> int:
    return len(rows.packed) // _row_dtype(name).itemsize


def _encode(name: str, rows: _Rows) -> memoryview:
    """One Arrow IPC message from buffers only: `pa.array` would import pandas (0.3 s, holding the GIL)."""
    table = np.frombuffer(rows.packed, dtype=_row_dtype(name))
    words = iter(zip(*rows.texts, strict=True)) if rows.texts else iter(())
    arrays = [
        _text_array(next(words))
        if kind == "str"
        else pa.Array.from_buffers(_CODES[kind], len(table), [None, pa.py_buffer(np.ascontiguousarray(table[column]))])
        for column, kind in STREAMS[name].items()
    ]
    return memoryview(pa.RecordBatch.from_arrays(arrays, schema=stream_schema(name)).serialize())


def _text_array(words: Sequence[str]) -> pa.Array:
    """A string column; lone surrogates, which UTF-8 cannot hold, become escapes."""
    encoded = [word.encode("utf-8", "backslashreplace") for word in words]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
    np.cumsum([len(word) for word in encoded], out=offsets[1:])
    return pa.Array.from_buffers(
        pa.string(), len(encoded), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )
