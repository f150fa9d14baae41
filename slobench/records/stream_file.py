"""One stream of a spool on disk: Arrow IPC files that survive a kill, a torn tail and a full disk."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa


class StreamFile:
    """One stream's files, one open at a time; each holds a schema message, then whole batches."""

    def __init__(self, stem: Path, schema: pa.Schema) -> None:
        """`stem`-0.arrow is the first file; each after a failed write has the next number."""
        self._stem = stem
        self._head = bytes(schema.serialize())
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


def whole_batches(path: Path) -> tuple[list[pa.RecordBatch], bool]:
    """(all whole batches of a file, whether its last one is cut short)."""
    batches: list[pa.RecordBatch] = []
    if not path.stat().st_size:
        return batches, True
    try:
        with pa.ipc.open_stream(pa.memory_map(str(path))) as stream:
            batches.extend(stream)
    except (pa.ArrowException, OSError):
        return batches, True
    return batches, False
