"""Token events of all spools, sorted, in memory that is little more than what they hold.

A run of 10⁵ replies has some 10⁷ events: they are put where they belong batch by batch, without a copy of everything
beside it and without one sort of everything, and columns are as narrow as their values allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slobench.records.schema import NULL, Columns
from slobench.records.spool import files_of, joined, part_of

Batches = Callable[[], Iterator[pa.RecordBatch]]
"""Reads the batches from the beginning; a second reading gives the same ones."""

_KINDS: dict[str, type[np.generic]] = {
    "index": np.int64, "t_ns": np.int64, "tokens": np.int64, "bytes": np.int64, "lag_ns": np.int64,
    "channel": np.int8, "coalesced": np.int8,
}  # fmt: skip
_CODES = ("channel", "coalesced")
_ROWS = 2**16  # a quiet second leaves a few rows, a day of them 86,400 batches: looked at so many at once
_INT32 = np.iinfo(np.int32)


@dataclass(slots=True)
class _Extent:
    """What a first reading finds: rows by index, and the range of each column."""

    lowest: int
    counts: NDArray[np.int64]
    low: dict[str, int]
    high: dict[str, int]

    def count(self, lowest: int, more: NDArray[np.int64]) -> None:
        """Add counts of the indices from `lowest` on."""
        first, last = min(lowest, self.lowest), max(lowest + len(more), self.lowest + len(self.counts))
        if first < self.lowest or last > self.lowest + len(self.counts):
            room = np.zeros(max(last - first, 5 * len(self.counts) // 4), np.int64)  # grown ahead, not for each batch
            room[self.lowest - first : self.lowest - first + len(self.counts)] = self.counts
            self.lowest, self.counts = first, room
        self.counts[lowest - self.lowest : lowest - self.lowest + len(more)] += more


def batches_of(folder: Path, only: tuple[int, int] | None = None) -> Batches:
    """Return what reads the token events of a spool folder; memory is that of one batch.

    only: those of requests with an index in [low, high). A file that still grows is read as far as the first time.
    """
    files = [path for path, _, name in files_of(folder) if name == "chunks"]
    whole: dict[Path, int] = {}

    def read() -> Iterator[pa.RecordBatch]:
        for path in files:
            seen, held, rows = 0, list[pa.RecordBatch](), 0
            for batch in islice(_whole_batches(path), whole.get(path)):
                seen += 1
                held.append(batch if only is None else part_of(batch, *only))
                rows += held[-1].num_rows
                if rows >= _ROWS:
                    yield joined(held)
                    held, rows = [], 0
            if held:
                yield joined(held)
            whole.setdefault(path, seen)

    return read


def _whole_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches up to one that is cut short; the file is not mapped, so that its pages do not count as memory."""
    with suppress(pa.ArrowException, OSError), pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        yield from stream


def sorted_chunks(batches: Batches) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Return (columns of CHUNKS by index, then time, then order of arrival; the indices that have any, ascending).

    `tokens` is NaN where unknown, `channel` a code, `coalesced` a truth value. A column with one value everywhere
    takes no memory (it cannot be written to). Batches of one index must be in order of arrival.
    """
    extent = _extent(batches())
    if extent is None:
        return _empty(), np.empty(0, np.int64)
    cursor = np.concatenate([[0], np.cumsum(extent.counts)])
    n, cursor = int(cursor[-1]), cursor[:-1]
    columns = {name: _room(name, n, extent) for name in _KINDS if name != "index"}
    for batch in batches():
        to = _places(_values(batch, "index") - extent.lowest, cursor)
        for name, column in columns.items():
            if column.flags.writeable:
                column[to] = _values(batch, name).astype(column.dtype, copy=False)  # cast first: three times as fast
    last = extent.lowest + len(extent.counts)
    indices = np.arange(extent.lowest, last, dtype=np.int32 if last <= _INT32.max else np.int64)
    columns = {"index": np.repeat(indices, extent.counts), **columns}
    if _out_of_order(columns):
        order = np.lexsort((columns["t_ns"], columns["index"]))
        columns = {name: column[order] if column.flags.writeable else column for name, column in columns.items()}
    columns["tokens"] = _nan_for_null(columns["tokens"])
    columns["coalesced"] = columns["coalesced"].astype(np.bool_) if extent.high["coalesced"] else _same(False, n)
    return columns, np.flatnonzero(extent.counts) + extent.lowest


def narrowed(columns: Columns) -> dict[str, NDArray[Any]]:
    """The same values in as little memory as `sorted_chunks` gives them."""
    return {name: _narrowed(name, column) for name, column in columns.items()}


def _narrowed(name: str, column: NDArray[Any]) -> NDArray[Any]:
    if not len(column) or name in {"index", "t_ns"}:
        return column.astype(np.int32) if len(column) and name == "index" and column[-1] < _INT32.max else column
    same = np.isnan(column).all() if column.dtype.kind == "f" and np.isnan(column[0]) else (column == column[0]).all()
    if same:
        return _same(column[0], len(column), column.dtype)
    fits = column.dtype.kind == "i" and _INT32.min < column.min() and column.max() < _INT32.max
    return column.astype(np.int32) if fits and name not in _CODES else column


def _extent(batches: Iterator[pa.RecordBatch]) -> _Extent | None:
    found: _Extent | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        index = _values(batch, "index")
        lowest = int(index.min())
        if found is None:
            found = _Extent(lowest, np.empty(0, np.int64), {}, {})
        for name in _KINDS:
            values = _values(batch, name)
            least, most = int(values.min()), int(values.max())
            found.low[name] = min(least, found.low.get(name, least))
            found.high[name] = max(most, found.high.get(name, most))
        found.count(lowest, np.bincount(index - lowest))
    return found


def _places(keys: NDArray[np.int64], cursor: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each row of a batch goes, by its key; moves the cursors on."""
    local = keys - keys.min() if len(keys) else keys
    # numpy sorts 16-bit integers by radix, three times as fast as others.
    narrow = local.astype(np.uint16) if len(local) and int(local.max()) < 2**16 else local
    order = np.argsort(narrow, kind="stable")
    sorted_keys = keys[order]
    first = np.flatnonzero(np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]])) if len(keys) else order
    sizes = np.diff(np.append(first, len(keys)))
    groups = sorted_keys[first]
    to = np.empty(len(keys), np.int64)
    to[order] = np.arange(len(keys)) + np.repeat(cursor[groups] - first, sizes)
    cursor[groups] += sizes
    return to


def _room(name: str, n: int, extent: _Extent) -> NDArray[Any]:
    """A column to be filled, as narrow as its range; one that needs no room where all its values are the same."""
    low, high = extent.low[name], extent.high[name]
    if low == high:
        return _same(low, n, _KINDS[name])
    fits = _INT32.min < low and high < _INT32.max
    return np.empty(n, np.int32 if fits and name not in {*_CODES, "t_ns"} else _KINDS[name])


def _same(value: Any, n: int, kind: Any = None) -> NDArray[Any]:
    return np.broadcast_to(np.asarray(value, dtype=kind), n)


def _values(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    """One column of a batch; what an older file lacks is null."""
    at = batch.schema.get_field_index(name)
    if at < 0:
        return _same(-1 if name in _CODES else NULL, batch.num_rows, _KINDS[name])
    column = batch.column(at)
    kind = np.dtype(_KINDS[name])
    return np.frombuffer(column.buffers()[1], dtype=kind, count=batch.num_rows, offset=column.offset * kind.itemsize)


def _out_of_order(columns: Columns) -> bool:
    index, t_ns = columns["index"], columns["t_ns"]
    return bool(np.any((t_ns[1:] < t_ns[:-1]) & (index[1:] == index[:-1])))


def _nan_for_null(tokens: NDArray[Any]) -> NDArray[Any]:
    """Counts as float64, NaN for NULL; a narrower column holds no NULL."""
    if not tokens.flags.writeable and len(tokens):
        return _same(np.nan if tokens[0] == NULL else float(tokens[0]), len(tokens), np.float64)
    found = tokens.astype(np.float64)
    found[tokens == NULL] = np.nan
    return found


def _empty() -> dict[str, NDArray[Any]]:
    kinds = {**_KINDS, "tokens": np.float64, "coalesced": np.bool_}
    return {name: np.empty(0, kind) for name, kind in kinds.items()}
