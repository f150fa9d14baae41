"""Samples of servers, GPUs and the host in a run's spool: rows of telemetry.parquet, written while the load runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slobench.records.arrow import text_array, text_values
from slobench.records.schema import SPOOL_SAMPLES, VERSION, empty
from slobench.records.stream_file import StreamFile, whole_batches

STEM = "samples"
_MOST_ROWS = 200_000  # kept in memory while the disk refuses them
_TEXTS = ("source", "name", "labels")
_SCHEMA = pa.schema(
    [
        pa.field(name, {"q": pa.int64(), "d": pa.float64(), "str": pa.string()}[kind], nullable=False)
        for name, kind in SPOOL_SAMPLES.items()
    ],
    metadata={"slobench.schema": str(VERSION)},
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One value; t_ns on the run's clock, labels as in an exposition: `engine="0",le="0.5"`."""

    t_ns: int
    source: str
    name: str
    labels: str
    value: float


class SampleWriter:
    """Appends samples to a spool folder; belongs to one thread at a time. What is not flushed is lost in a kill."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.error: str | None = None
        """The first failed write."""
        self.lost = 0
        """Samples that will never be on disk."""
        self._file = StreamFile(folder / STEM, _SCHEMA)
        self._rows: list[Sample] = []

    def add(self, samples: list[Sample]) -> None:
        """Note samples."""
        self._rows += samples

    def flush(self) -> None:
        """Write what was added; where the disk refuses, it is kept for the next time."""
        if not self._rows:
            return
        try:
            self._file.write(_encode(self._rows))
        except OSError as error:
            self.error = self.error or f"cannot write {error.filename}: {error.strerror}"
            if len(self._rows) > _MOST_ROWS:
                self.lost += len(self._rows)
                self._rows = []
            return
        self._rows = []

    def close(self) -> None:
        """Flush and close the file; what the disk still refuses is lost."""
        self.flush()
        self.lost += len(self._rows)
        self._rows = []
        self._file.close()


def _encode(rows: list[Sample]) -> memoryview:
    arrays = [
        _numbers([row.t_ns for row in rows], np.int64, pa.int64()),
        *(text_array([getattr(row, name) for row in rows]) for name in _TEXTS),
        _numbers([row.value for row in rows], np.float64, pa.float64()),
    ]
    return memoryview(pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA).serialize())


def _numbers(values: list[Any], dtype: type[np.generic], kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.array(values, dtype=dtype))])


def read(folder: Path) -> dict[str, NDArray[Any]]:
    """All whole batches of a spool folder's samples; no rows where there are none."""
    batches = [batch for path in _files(folder) for batch in whole_batches(path)[0]]
    if not batches:
        return empty(SPOOL_SAMPLES)
    columns: dict[str, NDArray[Any]] = {}
    for at, (name, kind) in enumerate(SPOOL_SAMPLES.items()):
        if kind == "str":
            columns[name] = np.concatenate([text_values(batch.column(at)) for batch in batches])
        else:
            dtype = np.int64 if kind == "q" else np.float64
            columns[name] = np.concatenate(
                [np.frombuffer(b.column(at).buffers()[1], dtype=dtype, count=b.num_rows) for b in batches]
            )
    return columns


def _files(folder: Path) -> Iterator[Path]:
    numbered = [(int(path.stem.rpartition("-")[2]), path) for path in folder.glob(f"{STEM}-*.arrow")]
    yield from (path for _, path in sorted(numbered))
